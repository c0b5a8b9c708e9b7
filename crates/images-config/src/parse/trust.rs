//! `[trust]`: whose signatures count, by source.

use std::sync::Arc;

use registry::Reference;
use trust::{Identity, PublicKey, Signer, TrustRoot};

use crate::reader::{Entry, Fields, Node};
use crate::trusted::Trusted;
use crate::values::dotted;
use crate::{Sources, names};

/// What a repository is called whose name begins with a pattern.
const ANY: char = 'x';

/// The rules; without `sources` their files are not read, and nobody's signature counts.
pub(super) fn trust(table: &Fields<'_>, sources: Option<&Sources>) -> Vec<Trusted> {
    let mut rules: Vec<Trusted> = Vec::new();
    for entry in table.entries() {
        if dotted(&entry, &["signed_by", "unsigned"]) {
            continue;
        }
        let Some(rule) = rule(&entry, sources) else { continue };
        match rules.iter().find(|other| (&other.begin, other.exact) == (&rule.begin, rule.exact)) {
            Some(other) => entry.key.fail(format!("is the same as the pattern on line {}", other.line)),
            None => rules.push(rule),
        }
    }
    rules
}

fn rule(entry: &Entry<'_>, sources: Option<&Sources>) -> Option<Trusted> {
    let pattern = pattern(entry);
    let mut fields = entry.value.table()?;
    let signed_by = fields.take("signed_by");
    let unsigned = fields.take("unsigned").and_then(|node| node.boolean()).unwrap_or_default();
    fields.finish();
    let mut signers = Vec::new();
    match (&signed_by, unsigned) {
        (Some(node), false) => {
            let nodes = if node.is_table() { vec![node.clone()] } else { node.list()? };
            if nodes.is_empty() {
                node.fail("names nobody");
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
    let (begin, exact) = pattern?;
    Some(Trusted { pattern: entry.name.to_owned(), begin, exact, unsigned, signers, line: entry.key.line() })
}

/// What the full names of repositories begin with, or are.
fn pattern(entry: &Entry<'_>) -> Option<(String, bool)> {
    let (begin, exact) = match entry.name.strip_suffix('*') {
        Some(begin) => (begin, false),
        None => (entry.name, true),
    };
    if begin.contains('*') {
        entry.key.fail("`*` can only be the last character");
        return None;
    }
    if begin.is_empty() && !exact {
        return Some((String::new(), false));
    }
    // A whole registry: no image has such a short name.
    if let Some(host) = begin.strip_suffix('/').filter(|host| !exact && names::registry_host(host).is_ok()) {
        return Some((format!("{}/", if host == "index.docker.io" { "docker.io" } else { host }), false));
    }
    let name = if exact { begin.to_owned() } else { format!("{begin}{ANY}") };
    match name.parse::<Reference>() {
        Ok(found) if found.tag().is_some() || found.digest().is_some() => {
            entry.key.fail("is for a repository, whatever the tag: leave tag and digest out");
            None
        }
        Ok(found) => {
            let mut full = format!("{}/{}", found.registry(), found.repository());
            full.truncate(full.len() - if exact { 0 } else { ANY.len_utf8() });
            Some((full, exact))
        }
        Err(why) => {
            entry.key.fail(why.to_string());
            None
        }
    }
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
            node.fail_with(why, "the path is from the top of the checkout that images.toml stands in");
            None
        }
    }
}
