//! A layer's tar file in one form: PAX as in POSIX, with extended headers only if the header's fields are too small
//! (<https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html#tag_20_94_13_01>).

use std::collections::BTreeMap;
use std::io::{Read as _, Write};

use super::entry::{Entry, Kind, XATTR};
use super::tree::Item;
use crate::archive::Section;

/// Limits of a header's fields.
const NAME: usize = 100;
const ID: u64 = 0o777_7777;
const SIZE: u64 = 0o777_7777_7777;

const BLOCK: u64 = 512;

/// Writes the item `name` with the time `time`; a file's content is read from its layer, `from`.
pub(super) fn append(
    out: &mut impl Write,
    name: &[u8],
    item: &Item,
    time: u64,
    from: &Section,
) -> std::io::Result<()> {
    let mut header = tar::Header::new_ustar();
    let mut records = BTreeMap::new();
    header.set_mtime(time);
    let mut path = name.to_vec();
    let mut content = None;
    match item {
        Item::Whiteout => {
            header.set_entry_type(tar::EntryType::Regular);
            attributes(&mut header, &mut records, 0, 0, 0);
        }
        Item::Link(target) => {
            header.set_entry_type(tar::EntryType::Link);
            attributes(&mut header, &mut records, 0, 0, 0);
            link(&mut header, &mut records, target);
        }
        Item::Entry(entry) => {
            attributes(&mut header, &mut records, entry.mode, entry.uid, entry.gid);
            let xattrs = entry.xattrs.iter();
            records.extend(xattrs.map(|(name, value)| (format!("{XATTR}{name}"), value.clone())));
            content = kind(&mut header, &mut records, entry, &mut path)?;
        }
    }
    let size = content.map_or(0, |(_, size)| size);
    header.set_size(if size > SIZE { 0 } else { size });
    if size > SIZE {
        records.insert("size".to_owned(), size.to_string().into_bytes());
    }
    field(&mut records, "path", &path, &mut header.as_old_mut().name);
    header.set_cksum();
    if !records.is_empty() {
        extensions(out, &records, time)?;
    }
    out.write_all(header.as_bytes())?;
    if let Some((at, size)) = content {
        let written = std::io::copy(&mut from.part(at, size).take(size), out)?;
        if written != size {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        pad(out, size)?;
    }
    Ok(())
}

/// Ends a tar file.
pub(super) fn finish(out: &mut impl Write) -> std::io::Result<()> {
    out.write_all(&[0; 2 * BLOCK as usize])
}

/// Sets an entry's type; returns where its content is in its layer, and its size.
fn kind(
    header: &mut tar::Header,
    records: &mut BTreeMap<String, Vec<u8>>,
    entry: &Entry,
    path: &mut Vec<u8>,
) -> std::io::Result<Option<(u64, u64)>> {
    let mut content = None;
    let kind = match &entry.kind {
        Kind::Directory => {
            if path.is_empty() {
                path.push(b'.');
            }
            path.push(b'/');
            tar::EntryType::Directory
        }
        Kind::File(found) => {
            content = Some((found.inode.1, found.size));
            tar::EntryType::Regular
        }
        Kind::Symlink(target) => {
            link(header, records, target);
            tar::EntryType::Symlink
        }
        Kind::Device { is_block, major, minor } => {
            header.set_device_major(*major)?;
            header.set_device_minor(*minor)?;
            if *is_block { tar::EntryType::Block } else { tar::EntryType::Char }
        }
        Kind::Fifo => tar::EntryType::Fifo,
    };
    header.set_entry_type(kind);
    Ok(content)
}

fn attributes(
    header: &mut tar::Header,
    records: &mut BTreeMap<String, Vec<u8>>,
    mode: u32,
    uid: u64,
    gid: u64,
) {
    header.set_mode(mode);
    for (name, id) in [("uid", uid), ("gid", gid)] {
        let short = if id > ID { 0 } else { id };
        if id > ID {
            records.insert(name.to_owned(), id.to_string().into_bytes());
        }
        match name {
            "uid" => header.set_uid(short),
            _ => header.set_gid(short),
        }
    }
}

fn link(header: &mut tar::Header, records: &mut BTreeMap<String, Vec<u8>>, target: &[u8]) {
    field(records, "linkpath", target, &mut header.as_old_mut().linkname);
}

/// Writes a text into its field of the header, and into a record if the field is too small.
fn field(records: &mut BTreeMap<String, Vec<u8>>, name: &str, text: &[u8], field: &mut [u8; NAME]) {
    let length = text.len().min(NAME);
    field[..length].copy_from_slice(&text[..length]);
    if text.len() > NAME || !text.is_ascii() {
        records.insert(name.to_owned(), text.to_vec());
    }
}

/// A PAX header: `<length> <key>=<value>
/// `; the length includes its own digits.
fn extensions(out: &mut impl Write, records: &BTreeMap<String, Vec<u8>>, time: u64) -> std::io::Result<()> {
    let mut text = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let mut length = rest;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        text.extend_from_slice(format!("{length} {key}=").as_bytes());
        text.extend_from_slice(value);
        text.push(b'\n');
    }
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::XHeader);
    header.set_size(text.len() as u64);
    header.set_mtime(time);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    let name = b"PaxHeader";
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_cksum();
    out.write_all(header.as_bytes())?;
    out.write_all(&text)?;
    pad(out, text.len() as u64)
}

fn pad(out: &mut impl Write, size: u64) -> std::io::Result<()> {
    let missing = size.next_multiple_of(BLOCK) - size;
    std::io::copy(&mut std::io::repeat(0).take(missing), out).map(drop)
}
