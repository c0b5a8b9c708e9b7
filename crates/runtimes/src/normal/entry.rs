//! The content of a layer, read from its tar file.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use registry::Digest;

use super::compiled::Stamps;
use crate::archive::hashing::hash;
use crate::archive::{ArchiveError, Bytes};

/// A name with this prefix deletes something of the layers below:
/// <https://github.com/opencontainers/image-spec/blob/main/layer.md#whiteouts>.
pub(super) const WHITEOUT: &[u8] = b".wh.";
/// Hides everything that the directory has in the layers below.
pub(super) const OPAQUE: &[u8] = b".wh..wh..opq";
/// The prefix of extended attributes in PAX headers.
pub(super) const XATTR: &str = "SCHILY.xattr.";

/// A path as bytes, without `./` or `/` at its beginning and end; empty for the root.
pub(super) type Path = Vec<u8>;

/// A file, directory or the like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    /// Permission bits, with setuid, setgid and sticky.
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    /// Last change, in seconds since 1970.
    pub(super) time: u64,
    pub(super) xattrs: BTreeMap<String, Vec<u8>>,
}

/// The type of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File(Content),
    Symlink(Vec<u8>),
    Device { is_block: bool, major: u32, minor: u32 },
    Fifo,
}

/// A file's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) size: u64,
    /// `None` if it was not requested.
    pub(super) digest: Option<Digest>,
    /// The layer, and the content's offset in it: names with the same value are the same file.
    pub(super) inode: (usize, u64),
}

/// The entries of a layer by their paths.
#[derive(Debug, Default)]
pub(super) struct Layer {
    pub(super) entries: BTreeMap<Path, Entry>,
    /// Paths that it deletes.
    pub(super) whiteouts: BTreeSet<Path>,
    /// Directories whose content in the layers below is hidden.
    pub(super) opaque: BTreeSet<Path>,
}

/// The entry of a root directory that no layer mentions.
pub(super) fn root() -> Entry {
    Entry { kind: Kind::Directory, mode: 0o755, uid: 0, gid: 0, time: 0, xattrs: BTreeMap::new() }
}

/// Reads layer number `number`. `is_wanted` selects the files (path, size) whose content is hashed; the source times in compiled Python
/// files among these go to `stamps`.
pub(super) fn read(
    bytes: Bytes,
    number: usize,
    is_wanted: &dyn Fn(&[u8], u64) -> bool,
    stamps: &mut Stamps,
) -> Result<Layer, ArchiveError> {
    let mut reader = Reader { number, is_wanted, stamps, layer: Layer::default() };
    match bytes {
        Bytes::Plain(plain) => {
            let mut archive = tar::Archive::new(plain);
            reader.all(archive.entries_with_seek().map_err(ArchiveError::Read)?)?;
        }
        Bytes::Gzip(_) => {
            let mut archive = tar::Archive::new(bytes);
            reader.all(archive.entries().map_err(ArchiveError::Read)?)?;
        }
    }
    Ok(reader.layer)
}

struct Reader<'a> {
    number: usize,
    is_wanted: &'a dyn Fn(&[u8], u64) -> bool,
    stamps: &'a mut Stamps,
    layer: Layer,
}

impl Reader<'_> {
    fn all<R: Read>(&mut self, entries: tar::Entries<'_, R>) -> Result<(), ArchiveError> {
        entries.into_iter().try_for_each(|entry| self.one(entry.map_err(ArchiveError::Read)?))
    }

    fn one<R: Read>(&mut self, mut entry: tar::Entry<'_, R>) -> Result<(), ArchiveError> {
        let path = clean(&entry.path_bytes());
        let (parent, name) = split(&path);
        if name == OPAQUE {
            self.layer.opaque.insert(parent.to_vec());
            return Ok(());
        }
        if let Some(gone) = name.strip_prefix(WHITEOUT) {
            // `.wh..wh.` is the prefix of AUFS's own files.
            if !gone.starts_with(WHITEOUT) {
                self.layer.whiteouts.insert(join(parent, gone));
            }
            return Ok(());
        }
        let (mut xattrs, mut time) = (BTreeMap::new(), None);
        if let Some(records) = entry.pax_extensions().map_err(ArchiveError::Read)? {
            for record in records {
                let record = record.map_err(ArchiveError::Read)?;
                let Ok(key) = record.key() else { continue };
                if let Some(name) = key.strip_prefix(XATTR) {
                    xattrs.insert(name.to_owned(), record.value_bytes().to_vec());
                } else if key == "mtime" {
                    time = record.value().ok().and_then(seconds);
                }
            }
        }
        let header = entry.header();
        let old = header.as_old();
        let kind = header.entry_type();
        let size = entry.size();
        let found = Entry {
            kind: match kind {
                tar::EntryType::Directory => Kind::Directory,
                tar::EntryType::Symlink => Kind::Symlink(link(&entry)),
                tar::EntryType::Fifo => Kind::Fifo,
                tar::EntryType::Block | tar::EntryType::Char => {
                    let number = |number: std::io::Result<Option<u32>>| {
                        number.map(Option::unwrap_or_default).map_err(ArchiveError::Read)
                    };
                    let (major, minor) = (number(header.device_major())?, number(header.device_minor())?);
                    Kind::Device { is_block: kind.is_block_special(), major, minor }
                }
                tar::EntryType::Regular | tar::EntryType::Continuous => Kind::File(Content {
                    size,
                    digest: None,
                    inode: (self.number, entry.raw_file_position()),
                }),
                tar::EntryType::Link => {
                    let target = self.layer.entries.get(&clean(&link(&entry))).cloned();
                    let linked = target.ok_or_else(|| ArchiveError::Missing {
                        what: format!("file that {} is another name of", String::from_utf8_lossy(&path)),
                    })?;
                    self.layer.entries.insert(path, linked);
                    return Ok(());
                }
                tar::EntryType::XGlobalHeader => return Ok(()),
                other => {
                    let (path, other) = (String::from_utf8_lossy(&path), other.as_byte() as char);
                    let what = format!("layer without entries of type {other:?}, as {path} is");
                    return Err(ArchiveError::Missing { what });
                }
            },
            // A symlink's mode has no effect.
            mode: if kind.is_symlink() { 0o777 } else { number(&old.mode, header.mode())? & 0o7777 },
            uid: number(&old.uid, header.uid())?,
            gid: number(&old.gid, header.gid())?,
            time: time.map_or_else(|| number(&old.mtime, header.mtime()), Ok)?,
            xattrs,
        };
        self.layer.entries.insert(path.clone(), found);
        if matches!(kind, tar::EntryType::Regular | tar::EntryType::Continuous)
            && (self.is_wanted)(&path, size)
        {
            let mut begin = Vec::new();
            let digest = hash(&mut entry, |bytes| {
                let missing = Stamps::LENGTH.saturating_sub(begin.len());
                begin.extend_from_slice(&bytes[..missing.min(bytes.len())]);
                Ok(())
            })?;
            self.stamps.see(&path, &begin);
            if let Some(Entry { kind: Kind::File(content), .. }) = self.layer.entries.get_mut(&path) {
                content.digest = Some(digest);
            }
        }
        Ok(())
    }
}

/// A number of a header; an empty field counts as zero, as in Go's reader, which all engines use.
fn number<T: Default>(field: &[u8], read: std::io::Result<T>) -> Result<T, ArchiveError> {
    match field.iter().all(|byte| [0, b' '].contains(byte)) {
        true => Ok(T::default()),
        false => read.map_err(ArchiveError::Read),
    }
}

/// A time of a PAX header, without the fraction, which docker drops too; a time before 1970 counts as 1970.
fn seconds(text: &str) -> Option<u64> {
    if text.starts_with('-') {
        return Some(0);
    }
    text.split('.').next()?.parse().ok()
}

fn link<R: Read>(entry: &tar::Entry<'_, R>) -> Vec<u8> {
    entry.link_name_bytes().map(|target| target.into_owned()).unwrap_or_default()
}

/// A path without `./` and `/` at its start and `/` at its end.
fn clean(path: &[u8]) -> Path {
    let mut path = path;
    while let Some(rest) = path.strip_prefix(b"./").or_else(|| path.strip_prefix(b"/")) {
        path = rest;
    }
    while let Some(rest) = path.strip_suffix(b"/") {
        path = rest;
    }
    if path == b"." { Vec::new() } else { path.to_vec() }
}

/// A path's directory and its last part.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

/// The path of `name` in `parent`.
pub(super) fn join(parent: &[u8], name: &[u8]) -> Path {
    if parent.is_empty() { name.to_vec() } else { [parent, b"/", name].concat() }
}
