use std::io::Read as _;

use super::*;
use crate::archive::tests::{config, gzip, tar};

type Entries<'a> = &'a [(&'a str, &'a [u8])];
type Links<'a> = &'a [(&'a str, &'a str)];

/// A saved image of these layers, the lowest first; each one's symlinks precede its files.
fn saved(layers: &[(Entries<'_>, Links<'_>)], compress: bool) -> tempfile::NamedTempFile {
    let layers: Vec<Vec<u8>> =
        layers.iter().map(|(files, links)| std::fs::read(tar(files, links).path()).unwrap()).collect();
    let contents: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
    let config = config(&contents);
    let names: Vec<String> = (0..layers.len()).map(|number| number.to_string()).collect();
    let manifest = serde_json::json!([{ "Config": "c", "Layers": names }]).to_string();
    let stored: Vec<Vec<u8>> =
        layers.iter().map(|layer| if compress { gzip(layer) } else { layer.clone() }).collect();
    let mut entries: Vec<(&str, &[u8])> =
        names.iter().map(String::as_str).zip(stored.iter().map(Vec::as_slice)).collect();
    entries.extend([("c", config.as_slice()), ("manifest.json", manifest.as_bytes())]);
    tar(&entries, &[])
}

fn read_layers(layers: &[(Entries<'_>, Links<'_>)]) -> Installed {
    let of = |compress| read(&Archive::open(saved(layers, compress).path()).unwrap()).unwrap();
    assert_eq!(of(false), of(true), "compressed layers say the same");
    of(false)
}

/// `name version` of each package.
fn names(installed: &Installed) -> Vec<String> {
    installed.packages.iter().map(|package| format!("{} {}", package.name, package.version)).collect()
}

const STATUS: &[u8] = b"Package: bash
Status: install ok installed
Architecture: amd64
Source: bash (5.2.15-2)
Version: 5.2.15-2+b7
Description: GNU Bourne Again SHell
 Package: not-a-package
 Version: 1

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1.0

Package: perl-base
Status: install ok triggers-pending
Version: 1:5.36.0-7
";

#[test]
fn dpkgs_packages_are_those_with_installed_files() {
    let os: &[u8] = b"PRETTY_NAME=\"Debian GNU/Linux 12\"\nID=debian\nVERSION_ID=\"12\"\n";
    let found = read_layers(&[(
        &[("var/lib/dpkg/status", STATUS), ("usr/lib/os-release", os)],
        &[("etc/os-release", "../usr/lib/os-release")],
    )]);
    assert_eq!(names(&found), ["bash 5.2.15-2+b7", "perl-base 1:5.36.0-7"]);
    let bash = &found.packages[0];
    assert_eq!(
        (bash.manager, bash.arch.as_deref(), bash.source.as_deref()),
        (Manager::Dpkg, Some("amd64"), Some("bash 5.2.15-2"))
    );
    assert_eq!(found.system, Some(System { id: "debian".to_owned(), version: Some("12".to_owned()) }));
    assert!(found.has_database && found.unread.is_empty());
}

#[test]
fn dpkgs_file_per_package_and_apks_file_are_read_too() {
    let base: &[u8] = b"Package: base-files\nVersion: 12.4\nArchitecture: amd64\n";
    let found = read_layers(&[(
        &[("./var/lib/dpkg/status.d/base", base), ("./var/lib/dpkg/status.d/base.md5sums", b"0  etc/x\n")],
        &[],
    )]);
    assert_eq!(names(&found), ["base-files 12.4"]);
    let apk: &[u8] = b"C:Q1x=\nP:musl\nV:1.2.5-r0\nA:x86_64\no:musl\nF:lib\nR:ld.so\n\nP:busybox\nV:1.36.1-r29\nA:x86_64\n\n";
    for path in APK {
        let found = read_layers(&[(&[(path, apk)], &[])]);
        assert_eq!(names(&found), ["busybox 1.36.1-r29", "musl 1.2.5-r0"]);
        assert_eq!(found.packages[1].source.as_deref(), Some("musl"));
    }
}

#[test]
fn the_files_after_all_layers_count() {
    let (one, two): (&[u8], &[u8]) = (b"Package: one\nVersion: 1\n", b"Package: two\nVersion: 2\n");
    let path = "var/lib/dpkg/status";
    let below: (Entries<'_>, Links<'_>) = (&[(path, one)], &[]);
    // (what a second layer has, the packages afterwards)
    let table: [(Entries<'_>, Links<'_>, &[&str]); 8] = [
        (&[], &[], &["one 1"]),
        (&[(path, two)], &[], &["two 2"]),
        (&[("var/lib/dpkg/.wh.status", b"")], &[], &[]),
        (&[("var/lib/.wh.dpkg", b"")], &[], &[]),
        (&[("var/.wh..wh..opq", b"")], &[], &[]),
        (&[("var/lib/.wh..wh..opq", b""), (path, two)], &[], &["two 2"]),
        // A link replaces the directory.
        (&[], &[("var/lib", "/elsewhere")], &[]),
        (&[("var/lib/dpkg/status-old", two), ("var/.wh.cache", b"")], &[], &["one 1"]),
    ];
    for (files, links, wanted) in table {
        assert_eq!(names(&read_layers(&[below, (files, links)])), wanted, "{files:?} {links:?}");
    }
}

/// A database made by the original programs. `rpm --justdb -i` of 4.18 added four small packages to the SQLite one; its headers were then
/// loaded into a hash table by `db5.3_load`, with the keys that rpm uses.
fn database(name: &str) -> Vec<u8> {
    let packed: &[u8] = match name {
        "rpmdb.sqlite" => include_bytes!("testdata/rpmdb.sqlite.gz"),
        _ => include_bytes!("testdata/Packages.gz"),
    };
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(packed).read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn rpms_packages_are_read_from_sqlite_and_from_berkeley_db() {
    // As printed by `rpm -qa`.
    let wanted = [
        ("curl-minimal", "8.5.0-1.amzn2023.0.4", None, "x86_64"),
        // Its header is longer than a page.
        ("glibc", "2.34-52.amzn2023.0.11", None, "x86_64"),
        ("openssl-libs", "3.0.8-1.amzn2023.0.14", Some(1), "x86_64"),
        ("tzdata", "2024a-1.amzn2023.0.1", None, "noarch"),
    ];
    for name in ["rpmdb.sqlite", "Packages"] {
        for directory in RPM {
            let bytes = database(name);
            let found = read_layers(&[(
                &[(&format!("{directory}{name}"), &bytes), (&format!("{directory}rpmdb.sqlite-wal"), b"")],
                &[],
            )]);
            assert_eq!(found.unread, Vec::<String>::new(), "{name}");
            let read: Vec<_> = found
                .packages
                .iter()
                .map(|package| {
                    (
                        package.name.as_str(),
                        package.version.as_str(),
                        package.epoch,
                        package.arch.as_deref().unwrap(),
                    )
                })
                .collect();
            assert_eq!(read, wanted, "{name}");
            assert_eq!(found.packages[3].source.as_deref(), Some("tzdata-2024a-1.amzn2023.0.1.src.rpm"));
        }
    }
}

#[test]
fn an_unreadable_database_is_named_and_not_used_in_part() {
    let (sqlite, berkeley) = (database("rpmdb.sqlite"), database("Packages"));
    let damaged = "it is damaged, or of a form that is not known";
    for (path, bytes, why) in [
        ("var/lib/rpm/rpmdb.sqlite", &sqlite[..8192], damaged),
        ("var/lib/rpm/rpmdb.sqlite", b"SQLite format 3\0", damaged),
        ("var/lib/rpm/Packages", &berkeley[..berkeley.len() / 2], damaged),
        ("var/lib/rpm/Packages", b"", damaged),
        ("usr/lib/sysimage/rpm/Packages.db", b"RpmP", "databases of rpm's own form (ndb) are not read"),
        ("var/lib/rpm/rpmdb.sqlite-wal", b"7", "rpm did not end and left changes in it"),
    ] {
        let found = read_layers(&[(&[(path, bytes)], &[])]);
        assert_eq!((found.packages.len(), found.has_database), (0, true));
        assert_eq!(found.unread, [format!("/{path} is not listed: {why}")]);
    }
}

#[test]
fn a_damaged_database_is_only_unreadable() {
    for name in ["rpmdb.sqlite", "Packages"] {
        let whole = database(name);
        let path = format!("var/lib/rpm/{name}");
        // Each byte of the structure, and some of the others.
        for at in (0..600).chain((600..whole.len()).step_by(61)) {
            for byte in [0, 0x7f, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = byte;
                let _ = rpm::packages(&path, &bytes);
            }
        }
    }
}

#[test]
fn unread_layers_are_named_unless_a_database_is_above_them() {
    let zstd: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd, 0];
    let status = std::fs::read(tar(&[("var/lib/dpkg/status", STATUS)], &[]).path()).unwrap();
    let read = |layers: &[&[u8]]| {
        let config = config(layers);
        let names: Vec<String> = (0..layers.len()).map(|number| number.to_string()).collect();
        let manifest = serde_json::json!([{ "Config": "c", "Layers": names }]).to_string();
        let mut entries: Vec<(&str, &[u8])> =
            names.iter().map(String::as_str).zip(layers.iter().copied()).collect();
        entries.extend([("c", config.as_slice()), ("manifest.json", manifest.as_bytes())]);
        read(&Archive::open(tar(&entries, &[]).path()).unwrap()).unwrap()
    };
    let below = read(&[&status, zstd]);
    assert_eq!(names(&below), Vec::<String>::new());
    assert_eq!(
        below.unread,
        [
            "what is installed in it is not listed: some of its layers are compressed by zstd, and are not looked into"
        ]
    );
    let above = read(&[zstd, &status]);
    assert_eq!((names(&above).len(), above.unread.len()), (2, 0));
    assert!(!read(&[]).has_database);
}
