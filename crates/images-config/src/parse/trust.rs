//! Reads `[trust]`: the trusted signers, by source.

use std::sync::Arc;

use trust::{Identity, PublicKey, Signer, TrustRoot};

use crate::Sources;
use crate::pattern::Pattern;
use crate::reader::{Entry, Fields, Node};
use crate::trusted::Trusted;
use crate::values::dotted;

/// The rules. Without `sources` their files are not read, and no signature is trusted.
pub(super) fn trust(table: &Fields<'_>, sources: Option<&Sources>) -> Vec<Trusted> {
    let mut rules: Vec<Trusted> = Vec::new();
    for entry in table.entries() {
        if dotted(&entry, &["signed_by", "unsigned"]) {
            continue;
        }
        let Some(rule) = rule(&entry, sources) else { continue };
        match rules.iter().find(|other| other.sources == rule.sources) {
            Some(other) => entry.key.fail(format!("is the same as the pattern on line {}", other.line)),
            None => rules.push(rule),
        }
    }
    rules
}

fn rule(entry: &Entry<'_>, sources: Option<&Sources>) -> Option<Trusted> {
    let of = Pattern::read(entry);
    let mut fields = entry.value.table()?;
    let signed_by = fields.take("signed_by");
    let unsigned = fields.take("unsigned").and_then(|node| node.boolean()).unwrap_or_default();
    fields.finish();
    let mut signers = Vec::new();
    match (&signed_by, unsigned) {
        (Some(node), false) => {
            let nodes = if node.is_table() { vec![node.clone()] } else { node.list()? };
            if nodes.is_empty() {
                node.fail("is empty");
            }
            for node in &nodes {
                signers.extend(signer(node, sources));
            }
        }
        (Some(_), true) => entry.key.fail("is `unsigned` and has a `signed_by`: one of them has to go"),
        (None, true) => {}
        (None, false) => entry.key.fail_with(
            "says nothing of signatures",
            "{ signed_by = { key = \"cosign.pub\" } }, { signed_by = { identity = \"...\", issuer = \"...\" } } or { unsigned = true }",
        ),
    }
    let (pattern, line) = (entry.name.to_owned(), entry.key.line());
    Some(Trusted { pattern, sources: of?, unsigned, signers, line })
}

fn signer(node: &Node<'_>, sources: Option<&Sources>) -> Option<Signer> {
    let mut fields = node.table()?;
    let [key, identity, issuer, root] = ["key", "identity", "issuer", "root"].map(|name| fields.take(name));
    fields.finish();
    match (key, identity, issuer) {
        (Some(key), None, None) => {
            if let Some(root) = root {
                root.fail("is for an identity: a key needs no trust root");
            }
            let (name, text) = file(&key, sources)?;
            match PublicKey::from_pem(text.as_bytes()) {
                Ok(key) => Some(Signer::Key { name, key }),
                Err(why) => {
                    key.fail(format!("`{name}` {why}"));
                    None
                }
            }
        }
        (None, Some(identity), Some(issuer)) => {
            let root = match root {
                Some(root) => of_file(&root, sources)?,
                None => TrustRoot::public().ok()?,
            };
            let (identity, issuer) = (identity.text()?.to_owned(), issuer.text()?.to_owned());
            Some(Signer::Identity(Identity { identity, issuer, root: Arc::new(root) }))
        }
        _ => {
            node.fail_with(
                "is neither a key nor an identity with its issuer",
                "{ key = \"cosign.pub\" }, or { identity = \"...\", issuer = \"...\" }",
            );
            None
        }
    }
}

fn of_file(root: &Node<'_>, sources: Option<&Sources>) -> Option<TrustRoot> {
    let (name, text) = file(root, sources)?;
    match TrustRoot::read(&text, &name) {
        Ok(root) => Some(root),
        Err(why) => {
            root.fail(format!("`{name}` {why}"));
            None
        }
    }
}

/// A file's name and text.
fn file(node: &Node<'_>, sources: Option<&Sources>) -> Option<(String, String)> {
    let text = node.text()?;
    match sources?.resolve(text) {
        Ok(path) => match std::fs::read_to_string(&path) {
            Ok(read) => Some((text.to_owned(), read)),
            Err(why) => {
                node.fail(format!("`{text}` cannot be read: {why}"));
                None
            }
        },
        Err(why) => {
            node.fail_with(why, "the path is from the top of the checkout that contains images.toml");
            None
        }
    }
}
