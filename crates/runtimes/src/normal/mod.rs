//! The form in which an image goes to the registry: the same content gives the same bytes, for every builder and at any time.
//!
//! `docs/build-key.md` describes what is kept. In short: the base's layers are not changed. A layer that the build adds is rewritten, in
//! one form, with only what it changes in the layers below. Times later than the base's are set to the base's. The image's configuration
//! loses everything that is not about the image.
//!
//! # Why times are compared with the base's, and not all set to one
//! Files that a build creates have the build's time, which differs between builds, so it has to be replaced. Files from a package have the
//! same time in each build, and programs may rely on it. Of the usual methods (`SOURCE_DATE_EPOCH`,
//! <https://reproducible-builds.org/docs/source-date-epoch/>), this is the one that leaves earlier times unchanged. The limit is the
//! creation time of the base: the base is an input, so neither an engine's clock nor a cached step that is older than the build matters.

mod compiled;
mod config;
mod entry;
#[cfg(test)]
mod tests;
mod tree;
mod write;

use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use compiled::Stamps;
use dockerfile::Layer;
use entry::{Entry, Kind};
use jiff::Timestamp;
use registry::Digest;
use serde::Deserialize;
use serde_json::Value;
use tree::{Item, Tree};

use super::archive::hashing::Hashing;
use super::archive::{Archive, ArchiveError, Bytes, Section};

/// gzip's default, set explicitly because the pushed digest depends on it.
const GZIP_LEVEL: u32 = 6;

/// 2015-01-01, used if a base has no time or an older one: the times of staged files, which end in 2014, are kept, and files made from them
/// are not older.
const EARLIEST: u64 = 1_420_070_400;

/// The data of a base.
#[derive(Clone, Debug)]
pub(super) struct Base {
    /// The time that later times are set to, in seconds since 1970.
    time: u64,
    /// The history in its configuration.
    history: Vec<Value>,
}

impl Default for Base {
    fn default() -> Self {
        Self { time: EARLIEST, history: Vec::new() }
    }
}

impl Base {
    /// Reads a base's configuration.
    pub(super) fn read(config: &[u8]) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Kept {
            created: Option<String>,
            #[serde(default)]
            history: Option<Vec<Value>>,
        }
        let kept: Kept = serde_json::from_slice(config)?;
        let time = kept.created.and_then(|text| text.parse::<Timestamp>().ok());
        let time = time.and_then(|time| u64::try_from(time.as_second()).ok()).unwrap_or_default();
        Ok(Self { time: time.max(EARLIEST), history: kept.history.unwrap_or_default() })
    }
}

/// A compressed layer in a file of its own.
#[derive(Debug)]
pub(super) struct Blob {
    pub(super) path: PathBuf,
    /// Size in bytes.
    pub(super) size: u64,
    /// Digest of the compressed bytes.
    pub(super) digest: Digest,
}

/// An image in the form that is pushed.
#[derive(Debug)]
pub(super) struct Normal {
    /// The configuration.
    pub(super) config: Vec<u8>,
    /// The layers above those of the base.
    pub(super) layers: Vec<Blob>,
}

/// Converts a saved image, whose lowest `inherited` layers are the base's. `instructions` are those of the Dockerfile that make layers; the
/// layers are written to `scratch`.
pub(super) fn normal(
    archive: &Archive,
    inherited: usize,
    base: &Base,
    instructions: &[Layer],
    scratch: &Path,
) -> Result<Normal, ArchiveError> {
    let mut stamps = Stamps::default();
    let mut own = Vec::new();
    for number in inherited..archive.diff_ids.len() {
        let plain = archive.plain(number, scratch)?;
        let layer = entry::read(Bytes::Plain(plain.clone()), number, &|_, _| true, &mut stamps)?;
        own.push((plain, layer));
    }
    let mut tree = Tree::new();
    // Of the base's files, only those that the build also lists are hashed.
    let is_wanted = |path: &[u8], size| {
        let is_it = |found: &Entry| matches!(&found.kind, Kind::File(content) if content.size == size);
        own.iter().any(|(_, layer)| layer.entries.get(path).is_some_and(is_it))
    };
    for number in 0..inherited {
        match archive.bytes(number)? {
            Some(bytes) => drop(tree.put(entry::read(bytes, number, &is_wanted, &mut Stamps::default())?)),
            None => tree.put_unknown(),
        }
    }
    let mut diff_ids = archive.diff_ids[..inherited].to_vec();
    let (mut layers, mut made) = (Vec::new(), Vec::new());
    for (plain, layer) in own {
        let items = tree.change(layer);
        made.push(!items.is_empty());
        if items.is_empty() {
            continue;
        }
        let failed = |source| ArchiveError::Write { path: scratch.display().to_string(), source };
        // A copied directory has the time of the copy with one builder, the original's with another.
        let time = |path: &[u8], entry: &Entry| match entry.kind {
            Kind::Directory => base.time,
            _ if stamps.name(path, entry.time) => entry.time,
            _ => entry.time.min(base.time),
        };
        let (blob, diff_id) = write_layer(&items, &plain, &time, base.time, scratch).map_err(failed)?;
        diff_ids.push(diff_id);
        layers.push(blob);
    }
    // A build that squashes has neither the base's layers nor its steps.
    let base = if inherited == 0 { &Base { time: base.time, ..Base::default() } } else { base };
    let config = config::normal(&archive.config, base, &diff_ids, &made, instructions)?;
    Ok(Normal { config, layers })
}

/// Writes a layer's items, compressed, into a new file below `scratch`; also returns its uncompressed digest.
fn write_layer(
    items: &std::collections::BTreeMap<entry::Path, Item>,
    from: &Section,
    time: &dyn Fn(&[u8], &Entry) -> u64,
    own_time: u64,
    scratch: &Path,
) -> std::io::Result<(Blob, Digest)> {
    let (file, path) = tempfile::NamedTempFile::new_in(scratch)?.keep()?;
    let out = Hashing::new(BufWriter::new(file));
    // No name and no time in the header, so the same layer gives the same bytes.
    let gzip = flate2::GzBuilder::new().mtime(0).write(out, flate2::Compression::new(GZIP_LEVEL));
    let mut plain = BufWriter::with_capacity(256 * 1024, Hashing::new(gzip));
    for (name, item) in items {
        let time = match item {
            Item::Entry(entry) => time(name, entry),
            // A link has the file's own time.
            Item::Link(_) | Item::Whiteout => own_time,
        };
        write::append(&mut plain, name, item, time, from)?;
    }
    write::finish(&mut plain)?;
    let plain = plain.into_inner().map_err(std::io::IntoInnerError::into_error)?;
    let (gzip, diff_id, _) = plain.finish()?;
    let (mut file, digest, size) = gzip.finish()?.finish()?;
    file.flush()?;
    Ok((Blob { path, size, digest }, diff_id))
}
