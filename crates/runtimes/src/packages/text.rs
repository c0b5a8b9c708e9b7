//! The text databases: dpkg, apk and os-release.

use std::collections::BTreeMap;

use super::{Manager, Package, System};

/// dpkg's states of packages whose files are not there (<https://man7.org/linux/man-pages/man1/dpkg.1.html>, package states).
const NOT_INSTALLED: [&str; 3] = ["not-installed", "config-files", "half-installed"];

/// The packages of dpkg's `status`.
pub(super) fn dpkg(bytes: &[u8]) -> Vec<Package> {
    let package = |fields: BTreeMap<&str, &str>| {
        // The files of `status.d` have no state: their packages are installed.
        let state = fields.get("Status").and_then(|status| status.split(' ').next_back());
        if state.is_some_and(|state| NOT_INSTALLED.contains(&state)) {
            return None;
        }
        let version = (*fields.get("Version")?).to_owned();
        Some(Package {
            manager: Manager::Dpkg,
            name: (*fields.get("Package")?).to_owned(),
            // The name, and the version in brackets if it differs.
            source: fields.get("Source").map(|source| source.replace(['(', ')'], "")),
            version,
            epoch: None,
            arch: fields.get("Architecture").map(|arch| (*arch).to_owned()),
        })
    };
    paragraphs(bytes, ": ").filter_map(package).collect()
}

/// The packages of apk's `installed` (<https://wiki.alpinelinux.org/wiki/Apk_spec>).
pub(super) fn apk(bytes: &[u8]) -> Vec<Package> {
    let package = |fields: BTreeMap<&str, &str>| {
        Some(Package {
            manager: Manager::Apk,
            name: (*fields.get("P")?).to_owned(),
            version: (*fields.get("V")?).to_owned(),
            epoch: None,
            arch: fields.get("A").map(|arch| (*arch).to_owned()),
            source: fields.get("o").map(|origin| (*origin).to_owned()),
        })
    };
    paragraphs(bytes, ":").filter_map(package).collect()
}

/// The system in os-release.
pub(super) fn os_release(bytes: &[u8]) -> Option<System> {
    let text = String::from_utf8_lossy(bytes);
    let value = |name: &str| {
        let found = text.lines().filter_map(|line| line.trim().split_once('=')).find(|(key, _)| *key == name);
        let value = found?.1.trim_matches(['"', '\'']);
        (!value.is_empty()).then(|| value.to_owned())
    };
    Some(System { id: value("ID")?, version: value("VERSION_ID") })
}

/// The fields of each paragraph, the first one of each name; continuation lines are skipped.
fn paragraphs<'a>(bytes: &'a [u8], colon: &'a str) -> impl Iterator<Item = BTreeMap<&'a str, &'a str>> {
    let mut lines = bytes.split(|byte| *byte == b'\n').peekable();
    std::iter::from_fn(move || {
        lines.peek()?;
        let mut fields = BTreeMap::new();
        for line in lines.by_ref().take_while(|line| !line.trim_ascii().is_empty()) {
            let field = std::str::from_utf8(line).ok().and_then(|line| line.split_once(colon));
            if let Some((name, value)) = field.filter(|_| !line.starts_with(b" ")) {
                fields.entry(name).or_insert_with(|| value.trim());
            }
        }
        Some(fields)
    })
}
