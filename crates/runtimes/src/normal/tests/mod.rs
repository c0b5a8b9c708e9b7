mod configuration;

use std::collections::BTreeMap;
use std::io::Read as _;

use serde_json::json;

use super::*;
use crate::archive::tests as saved;

/// The base's time in these tests, and a later one.
const BASE: u64 = 1_600_000_000;
const LATER: u64 = BASE + 1000;

fn base() -> Base {
    Base { time: BASE, history: vec![json!({ "created_by": "base" })] }
}

/// The layers' tar files as pushed, and the configuration.
fn pushed(layers: &[&[u8]], inherited: usize) -> (Vec<Vec<u8>>, Value) {
    let names: Vec<String> = (0..layers.len()).map(|n| format!("{n}/layer.tar")).collect();
    let plain: Vec<Vec<u8>> = layers.iter().map(|layer| unzipped(layer)).collect();
    let config = saved::config(&plain.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let manifest = json!([{ "Config": "c.json", "Layers": names }]).to_string();
    let mut entries: Vec<(&str, &[u8])> =
        names.iter().map(String::as_str).zip(layers.iter().copied()).collect();
    entries.extend([("c.json", config.as_slice()), ("manifest.json", manifest.as_bytes())]);
    let (file, scratch) = (saved::tar(&entries, &[]), tempfile::tempdir().unwrap());
    let archive = Archive::open(file.path()).unwrap();
    let image = normal(&archive, inherited, &base(), &[], scratch.path()).unwrap();
    let tars = image.layers.iter().map(|blob| {
        let bytes = std::fs::read(&blob.path).unwrap();
        assert_eq!((blob.digest, blob.size), (Digest::of(&bytes), bytes.len() as u64));
        unzipped(&bytes)
    });
    (tars.collect(), serde_json::from_slice(&image.config).unwrap())
}

fn unzipped(bytes: &[u8]) -> Vec<u8> {
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return bytes.to_vec();
    }
    let mut plain = Vec::new();
    flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut plain).unwrap();
    plain
}

/// A layer's entries, one per line: name, type, mode, owner, time, link target, content.
fn listed(layer: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(layer);
    let each = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut content = String::new();
        let name = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
        let link = entry.link_name_bytes().map(|link| String::from_utf8(link.into_owned()).unwrap());
        let header = entry.header().clone();
        entry.read_to_string(&mut content).unwrap();
        format!(
            "{name} {:?} {:o} {}:{} {} {}{content}",
            header.entry_type(),
            header.mode().unwrap(),
            header.uid().unwrap(),
            header.gid().unwrap(),
            header.mtime().unwrap(),
            link.unwrap_or_default()
        )
    });
    each.collect()
}

/// The only layer that a build adds to a base.
fn added(base: &[u8], layer: &[u8]) -> Vec<String> {
    let (layers, config) = pushed(&[base, layer], 1);
    assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), 1 + layers.len());
    layers.first().map(|layer| listed(layer)).unwrap_or_default()
}

fn the_base() -> Tar {
    Tar::default()
        .directory("d/")
        .file("d/a", b"a", 1)
        .file("d/b", b"b", 1)
        .directory("d/e/")
        .file("d/e/c", b"c", 1)
}

#[test]
fn one_change_becomes_the_same_layer_for_each_builder() {
    let new = |tar: Tar| tar.file("d/new", b"new", LATER);
    let table: [(&str, Vec<Tar>, &[&str]); 6] = [
        (
            "a new file",
            vec![
                new(Tar::default()),
                new(Tar::default().directory("d/")),
                new(Tar::default().entry(tar::EntryType::Directory, "./d/", 5)),
                new(Tar::default().directory("./").directory("d/").file("d/a", b"a", 1)),
                Tar::default().file("./d/new", b"new", LATER + 7).directory("d/"),
                Tar::default().xattr(b"mtime=1600001000.5").file("d/new", b"new", 0),
            ],
            &["d/new Regular 644 0:0 1600000000 new"],
        ),
        (
            "a file is gone",
            vec![
                Tar::default().file("d/.wh.a", b"", 0),
                Tar::default().directory("d/").file("d/.wh.a", b"", LATER),
            ],
            &["d/.wh.a Regular 0 0:0 1600000000 "],
        ),
        (
            "another directory under the same name",
            vec![
                Tar::default().directory("d/").file("d/.wh..wh..opq", b"", 0).file("d/a", b"a", 1),
                Tar::default().directory("d/").file("d/.wh.b", b"", 0).file("d/.wh.e", b"", 0),
                Tar::default().file(".wh.d", b"", 0).directory("d/").file("d/a", b"a", 1),
            ],
            &["d/.wh.b Regular 0 0:0 1600000000 ", "d/.wh.e Regular 0 0:0 1600000000 "],
        ),
        (
            "a directory becomes a file",
            vec![
                Tar::default().file("d/.wh.e", b"", 0).file("d/e", b"file", LATER),
                Tar::default().file("d/e", b"file", LATER),
            ],
            &["d/e Regular 644 0:0 1600000000 file"],
        ),
        (
            "all is gone",
            vec![
                Tar::default().file(".wh.d", b"", 0),
                Tar::default().file(".wh.d", b"", 0).file("d/.wh.a", b"", 0).file("d/e/.wh..wh..opq", b"", 0),
            ],
            &[".wh.d Regular 0 0:0 1600000000 "],
        ),
        (
            "nothing",
            vec![
                Tar::default(),
                Tar::default().directory("d/").file("d/e/c", b"c", 1),
                Tar::default().file("etc/hosts", b"", LATER),
            ],
            &[],
        ),
    ];
    for (what, forms, wanted) in table {
        for (number, form) in forms.iter().enumerate() {
            for base in [the_base().0, saved::gzip(&the_base().0)] {
                for layer in [form.0.clone(), saved::gzip(&form.0)] {
                    assert_eq!(added(&base, &layer), wanted, "{what}, form {number}");
                }
            }
        }
    }
}

#[test]
fn real_differences_are_kept() {
    let layer = Tar::default()
        .file("d/a", b"A", 1)
        .with(tar::EntryType::Regular, "d/b", 1, b"b", |header| header.set_mode(0o4755))
        .with(tar::EntryType::Directory, "d/e/", 1, b"", |header| header.set_uid(7))
        .xattr(b"SCHILY.xattr.security.capability=\x01\x00")
        .file("d/e/c", b"c", 1);
    let (layers, _) = pushed(&[&the_base().0, &layer.0], 1);
    assert_eq!(
        listed(&layers[0]),
        [
            "d/a Regular 644 0:0 1 A",
            "d/b Regular 4755 0:0 1 b",
            "d/e/ Directory 755 7:0 1600000000 ",
            "d/e/c Regular 644 0:0 1 c"
        ]
    );
    let record = b"SCHILY.xattr.security.capability=\x01\x00\n";
    assert!(layers[0].windows(record.len()).any(|window| window == record));
    // Normalising a pushed layer again changes nothing.
    assert_eq!(pushed(&[&the_base().0, &layers[0]], 1).0, layers);
}

#[test]
fn names_links_devices_and_owners_of_any_size_are_preserved() {
    let long = format!("{}/é", "long".repeat(40));
    let mut records = Vec::new();
    for (key, value) in [("path", long.as_str()), ("uid", "4000000"), ("linkpath", "")] {
        if !value.is_empty() {
            let rest = key.len() + value.len() + 3;
            let length = (rest..).find(|length| *length == rest + length.to_string().len()).unwrap();
            records.extend_from_slice(format!("{length} {key}={value}\n").as_bytes());
        }
    }
    let device = |header: &mut tar::Header| {
        header.set_device_major(1).unwrap();
        header.set_device_minor(3).unwrap();
    };
    let layer = Tar::default()
        .file("z", b"one file", LATER)
        .link(tar::EntryType::Link, "a", "z")
        .link(tar::EntryType::Symlink, "s", "/elsewhere")
        .with(tar::EntryType::Char, "null", LATER, b"", device)
        .entry(tar::EntryType::Fifo, "fifo", LATER)
        .with(tar::EntryType::XHeader, "x", 0, &records, |_| {})
        .file("short", b"long", LATER);
    let wanted = [
        "a Regular 644 0:0 1600000000 one file".to_owned(),
        "fifo Fifo 644 0:0 1600000000 ".to_owned(),
        format!("{long} Regular 644 4000000:0 1600000000 long"),
        "null Char 644 0:0 1600000000 ".to_owned(),
        "s Symlink 777 0:0 1600000000 /elsewhere".to_owned(),
        "z Link 0 0:0 1600000000 a".to_owned(),
    ];
    let (layers, _) = pushed(&[&layer.0], 0);
    assert_eq!(listed(&layers[0]), wanted);
    assert_eq!(pushed(&[&layers[0]], 0).0, layers);
}

#[test]
fn a_file_with_several_names_keeps_them_all_or_is_not_listed() {
    let two = |tar: Tar| tar.file("a", b"x", 1).link(tar::EntryType::Link, "b", "a");
    let apart = |tar: Tar| tar.file("a", b"x", 1).file("b", b"x", 1);
    let linked = ["a Regular 644 0:0 1 x", "b Link 0 0:0 1600000000 a"];
    let table: [(Tar, Tar, &[&str]); 4] = [
        (two(Tar::default()), two(Tar::default()), &[]),
        (two(Tar::default()), Tar::default().file("a", b"x", 1), &[]),
        (apart(Tar::default()), two(Tar::default()), &linked),
        (Tar::default().file("a", b"x", 1), two(Tar::default()), &linked),
    ];
    for (number, (base, layer, wanted)) in table.into_iter().enumerate() {
        assert_eq!(added(&base.0, &layer.0), wanted, "{number}");
    }
    let broken = Tar::default().link(tar::EntryType::Link, "b", "elsewhere");
    let (file, scratch) = (image(&[&broken.0]), tempfile::tempdir().unwrap());
    let archive = Archive::open(file.path()).unwrap();
    let error = normal(&archive, 0, &base(), &[], scratch.path()).unwrap_err().to_string();
    assert!(error.ends_with("has no file that b is another name of"), "{error}");
}

fn image(layers: &[&[u8]]) -> tempfile::NamedTempFile {
    let names: Vec<String> = (0..layers.len()).map(|n| format!("{n}/layer.tar")).collect();
    let manifest = json!([{ "Config": "c.json", "Layers": names }]).to_string();
    let config = saved::config(layers);
    let mut entries: Vec<(&str, &[u8])> =
        names.iter().map(String::as_str).zip(layers.iter().copied()).collect();
    entries.extend([("c.json", config.as_slice()), ("manifest.json", manifest.as_bytes())]);
    saved::tar(&entries, &[])
}

#[test]
fn a_source_keeps_the_time_that_its_compiled_file_names() {
    let stamp = |time: u64| u32::try_from(time).unwrap().to_le_bytes();
    let compiled = |time: u64| [b"\xcb\x0d\x0d\x0a\0\0\0\0".as_slice(), &stamp(time), b"size"].concat();
    let sources = Tar::default().file("x.py", b"", LATER).file("y.py", b"", LATER).file("z.py", b"", LATER);
    let layer = Tar::default().file("__pycache__/x.cpython-312.pyc", &compiled(LATER), LATER).file(
        "__pycache__/y.cpython-312.pyc",
        &compiled(LATER + 1),
        LATER,
    );
    // Also if one step wrote the source and another one compiled it.
    let (layers, _) = pushed(&[&sources.0, &layer.0], 0);
    let times = |layer: &[u8]| -> BTreeMap<String, u64> {
        let mut archive = tar::Archive::new(layer);
        let entries = archive.entries().unwrap().map(|entry| entry.unwrap());
        entries
            .map(|entry| (entry.path().unwrap().display().to_string(), entry.header().mtime().unwrap()))
            .collect()
    };
    let of = |name: &str, time| (name.to_owned(), time);
    assert_eq!(times(&layers[0]), BTreeMap::from([of("x.py", LATER), of("y.py", BASE), of("z.py", BASE)]));
    assert!(times(&layers[1]).values().all(|time| *time == BASE));
}

#[test]
fn without_a_readable_base_every_whiteout_is_kept() {
    let zstd: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd, 0];
    let layer = Tar::default().directory("d/").file("d/.wh..wh..opq", b"", 0).file("e/.wh.f", b"", 0);
    let wanted = [
        "d/ Directory 755 0:0 1600000000 ",
        "d/.wh..wh..opq Regular 0 0:0 1600000000 ",
        "e/.wh.f Regular 0 0:0 1600000000 ",
    ];
    assert_eq!(added(zstd, &layer.0), wanted);
}

#[test]
fn an_empty_number_in_a_header_is_zero() {
    let empty = |header: &mut tar::Header| {
        let old = header.as_old_mut();
        (old.uid, old.gid, old.mtime, old.mode) = ([0; 8], [b' '; 8], [0; 12], [0; 8]);
    };
    let base = Tar::default().with(tar::EntryType::Directory, "d/", 1, b"", empty);
    let layer = Tar::default().with(tar::EntryType::Regular, "d/f", 1, b"", empty);
    assert_eq!(added(&base.0, &layer.0), ["d/f Regular 0 0:0 0 "]);
}

#[test]
fn a_layer_with_unknown_entries_is_refused() {
    let layer = Tar::default().entry(tar::EntryType::new(b'M'), "s", 1);
    let (file, scratch) = (image(&[&layer.0]), tempfile::tempdir().unwrap());
    let archive = Archive::open(file.path()).unwrap();
    let error = normal(&archive, 0, &base(), &[], scratch.path()).unwrap_err().to_string();
    assert!(error.contains("type 'M', as s is"), "{error}");
}

/// A layer as builders may write it.
#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn entry(self, kind: tar::EntryType, name: &str, time: u64) -> Self {
        self.with(kind, name, time, b"", |_| {})
    }

    fn directory(self, name: &str) -> Self {
        self.entry(tar::EntryType::Directory, name, LATER)
    }

    fn file(self, name: &str, content: &[u8], time: u64) -> Self {
        self.with(tar::EntryType::Regular, name, time, content, |_| {})
    }

    fn link(self, kind: tar::EntryType, name: &str, target: &str) -> Self {
        self.with(kind, name, LATER, b"", |header| header.set_link_name(target).unwrap())
    }

    fn xattr(mut self, record: &[u8]) -> Self {
        let text = [format!("{} ", record.len() + 4).as_bytes(), record, b"\n"].concat();
        self = self.with(tar::EntryType::XHeader, "x", 0, &text, |_| {});
        self
    }

    fn with(
        mut self,
        kind: tar::EntryType,
        name: &str,
        time: u64,
        content: &[u8],
        set: impl FnOnce(&mut tar::Header),
    ) -> Self {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(if kind == tar::EntryType::Directory { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(time);
        header.set_size(content.len() as u64);
        set(&mut header);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }
}
