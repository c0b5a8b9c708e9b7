//! rpm's database: SQLite (Amazon Linux 2023, Fedora, Red Hat 9) or Berkeley DB (Amazon Linux 2). Both contain rpm's own header of each
//! package; only the fields that identify the package are read.

mod berkeley;
mod sqlite;

use super::{Manager, Package};

/// The tags of a header (<https://github.com/rpm-software-management/rpm/blob/master/include/rpm/rpmtag.h>).
const NAME: u32 = 1000;
const VERSION: u32 = 1001;
const RELEASE: u32 = 1002;
const EPOCH: u32 = 1003;
const ARCH: u32 = 1022;
const SOURCE: u32 = 1044;
/// The types of their values.
const NUMBER: u32 = 4;
const TEXT: u32 = 6;

/// A key for checking packages, which rpm lists as a package.
const KEY: &str = "gpg-pubkey";

/// Whether a file of rpm's directory belongs to a database.
pub(super) fn is_database(name: &str) -> bool {
    ["Packages", "Packages.db", "rpmdb.sqlite", "rpmdb.sqlite-wal"].contains(&name)
}

/// The packages of a database, or why they cannot be read.
pub(super) fn packages(path: &str, bytes: &[u8]) -> Result<Vec<Package>, String> {
    let headers = match path.rsplit('/').next() {
        Some("rpmdb.sqlite") => sqlite::blobs(bytes, "Packages"),
        Some("Packages") => berkeley::values(bytes),
        // rpm empties it when it closes the database.
        Some("rpmdb.sqlite-wal") if bytes.is_empty() => return Ok(Vec::new()),
        Some("rpmdb.sqlite-wal") => return Err("rpm did not end and left changes in it".to_owned()),
        _ => return Err("databases of rpm's own form (ndb) are not read".to_owned()),
    };
    let damaged = || "it is damaged, or of a form that is not known".to_owned();
    let headers = headers.ok_or_else(damaged)?;
    let packages = headers.iter().map(|header| package(header).ok_or_else(damaged));
    let packages = packages.filter(|package| package.as_ref().map_or(true, |package| package.name != KEY));
    packages.collect()
}

/// The package that a header describes.
fn package(header: &[u8]) -> Option<Package> {
    let count = usize::try_from(number(header, 0)?).ok()?;
    let data = 8 + count.checked_mul(16)?;
    let value = |tag: u32, kind: u32| {
        let mut entries = header.get(8..data)?.chunks_exact(16);
        let entry = entries.find(|entry| number(entry, 0) == Some(tag) && number(entry, 4) == Some(kind))?;
        header.get(data..)?.get(usize::try_from(number(entry, 8)?).ok()?..)
    };
    let text = |tag| {
        let bytes = value(tag, TEXT)?.split(|byte| *byte == 0).next()?;
        String::from_utf8(bytes.to_vec()).ok()
    };
    Some(Package {
        manager: Manager::Rpm,
        name: text(NAME)?,
        version: format!("{}-{}", text(VERSION)?, text(RELEASE)?),
        epoch: value(EPOCH, NUMBER).and_then(|bytes| number(bytes, 0)),
        arch: text(ARCH),
        source: text(SOURCE),
    })
}

/// Four bytes as a number, the most significant first.
fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}
