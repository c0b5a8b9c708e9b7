//! Values used in several tables: references, platforms, routes, and keys without the required quotes.

use registry::{Platform, Reference};

use super::reader::{Entry, Node};
use super::{Platforms, names};
use crate::redact_logins::without_logins;

/// An image reference.
pub(super) fn reference(node: &Node<'_>) -> Option<Reference> {
    let text = node.text()?;
    if text.contains("://") {
        let shown = without_logins(text);
        let rest = shown.split_once("://").map_or("", |(_, rest)| rest);
        node.fail_with(
            format!("`{text}` is a URL, not an image reference"),
            format!("leave the scheme out: `{rest}`"),
        );
        return None;
    }
    match text.parse() {
        Ok(reference) => Some(reference),
        Err(why) => {
            node.fail(why.to_string());
            None
        }
    }
}

/// `"all"`, one platform or a list of them.
pub(super) fn wanted_platforms(node: &Node<'_>) -> Option<Platforms> {
    if node.is_string() && node.string() == Some("all") {
        return Some(Platforms::All);
    }
    platforms(node).map(Platforms::Only)
}

/// One platform or a list of them.
pub(super) fn platforms(node: &Node<'_>) -> Option<Vec<Platform>> {
    let nodes = if node.is_string() { vec![node.clone()] } else { node.list()? };
    if nodes.is_empty() {
        node.fail_with("names no platform", "leave the key out for the default");
        return None;
    }
    let mut found: Vec<Platform> = Vec::new();
    for node in &nodes {
        let Some(text) = node.text() else { continue };
        if text == "all" {
            node.fail_with(
                "`all` cannot be combined with a platform",
                "write platforms = \"all\" (images only)",
            );
            continue;
        }
        if let Err((why, help)) = names::platform(text) {
            match help {
                Some(help) => node.fail_with(why, help),
                None => node.fail(why),
            }
            continue;
        }
        match text.parse::<Platform>() {
            Ok(platform) if found.iter().any(|known| known.matches(&platform)) => {
                node.fail(format!("`{text}` is listed twice"));
            }
            Ok(platform) => found.push(platform),
            Err(why) => node.fail(why.to_string()),
        }
    }
    (found.len() == nodes.len()).then_some(found)
}

/// The address of a registry: a URL, possibly with a path, and nothing else.
pub(super) fn route(text: &str) -> Result<(), String> {
    let url = url::Url::parse(text).map_err(|why| format!("`{text}` is not a URL: {why}"))?;
    if !["http", "https"].contains(&url.scheme()) || url.host_str().is_none() {
        return Err(format!("`{text}` has to begin with https:// or http://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        // The text is not repeated, because it contains a password.
        return Err("carries a user name or password: log in with `docker login` instead".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(format!("`{text}` can have a path, but not `?` or `#`"));
    }
    Ok(())
}

/// The command line's `HOST=URL`, with the rules of `[upstream]`.
///
/// # Errors
/// The reason why it is not valid, as a lowercase fragment.
pub fn upstream_option(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once('=').ok_or_else(|| format!("`{text}` is not HOST=URL"));
    let checked = parts.and_then(|(host, url)| {
        names::registry_host(host)?;
        route(url)?;
        Ok((host, url))
    });
    let (host, url) = checked.map_err(|why| without_logins(&why))?;
    Ok((registry::registry_name(host), url.trim_end_matches('/').to_owned()))
}

/// Reports keys with a dot but without quotes: TOML reads `python3.8 = "x"` as the table `python3` with the key `8`. `fields` are
/// the keys that are allowed after a dot.
pub(super) fn dotted(entry: &Entry<'_>, fields: &[&str]) -> bool {
    let lost = lost_quotes(entry, entry.name, fields);
    for (name, place) in &lost {
        place.fail_with(format!("`{name}` has a dot and needs quotes"), format!("write \"{name}\""));
    }
    !lost.is_empty()
}

fn lost_quotes<'a>(
    entry: &Entry<'a>,
    name: &str,
    fields: &[&str],
) -> Vec<(String, super::reader::Place<'a>)> {
    if !entry.is_dotted() || !entry.value.is_table() {
        return Vec::new();
    }
    let Some(table) = entry.value.table() else { return Vec::new() };
    let mut lost = Vec::new();
    for child in table.entries().into_iter().filter(|child| !fields.contains(&child.name)) {
        let name = format!("{name}.{}", child.name);
        let deeper = lost_quotes(&child, &name, fields);
        if deeper.is_empty() {
            lost.push((name, child.key));
        } else {
            lost.extend(deeper);
        }
    }
    lost
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_bare_urls() {
        for good in
            ["https://mirror.example.com", "http://127.0.0.1:5000/docker.io", "https://m.example/a/b/"]
        {
            assert_eq!(route(good), Ok(()), "{good}");
        }
        for bad in
            ["mirror.example.com", "ftp://m.example", "https://m.example/?a=b", "https://m.example/#x", ""]
        {
            assert!(route(bad).is_err(), "{bad}");
        }
        let secret = route("https://me:hunter2@m.example").unwrap_err();
        assert!(!secret.contains("hunter2"), "{secret}");
        let error = upstream_option("https://me:hunter2@m.example").unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
