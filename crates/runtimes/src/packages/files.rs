//! Reads a few files of an image, as they are after all its layers.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use crate::archive::{Archive, ArchiveError, Bytes};

/// Largest file that is read, in bytes: rpm's database of a whole desktop is smaller.
const LIMIT: u64 = 256 * 1024 * 1024;

/// A name with this prefix deletes something of the layers below:
/// <https://github.com/opencontainers/image-spec/blob/main/layer.md#whiteouts>.
const WHITEOUT: &str = ".wh.";
/// Hides everything that the directory has in the layers below.
const OPAQUE: &str = ".wh..wh..opq";

/// A file's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Bytes(Vec<u8>),
    /// Why it was not read.
    Unread(String),
}

/// Files by their paths, without a leading slash.
#[derive(Debug)]
pub(super) struct Files {
    found: BTreeMap<String, Content>,
    is_whole: bool,
}

impl Files {
    /// Reads the wanted files.
    pub(super) fn read(archive: &Archive, wanted: impl Fn(&str) -> bool) -> Result<Self, ArchiveError> {
        let mut files = Self { found: BTreeMap::new(), is_whole: true };
        for number in 0..archive.diff_ids.len() {
            let layer = match archive.bytes(number)? {
                Some(Bytes::Plain(plain)) => {
                    let mut tar = tar::Archive::new(plain);
                    Layer::read(tar.entries_with_seek().map_err(ArchiveError::Read)?, &wanted)?
                }
                Some(bytes) => {
                    let mut tar = tar::Archive::new(bytes);
                    Layer::read(tar.entries().map_err(ArchiveError::Read)?, &wanted)?
                }
                None => {
                    // The layer's changes to the layers below are unknown.
                    files.is_whole = false;
                    files.found.clear();
                    continue;
                }
            };
            files.found.retain(|path, _| !layer.hides(path));
            files.found.extend(layer.found);
        }
        Ok(files)
    }

    /// Whether every layer could be read.
    pub(super) fn is_whole(&self) -> bool {
        self.is_whole
    }

    pub(super) fn get(&self, path: &str) -> Option<&Content> {
        self.found.get(path)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Content)> {
        self.found.iter().map(|(path, content)| (path.as_str(), content))
    }
}

#[derive(Default)]
struct Layer {
    found: BTreeMap<String, Content>,
    /// Paths that it deletes or that are not a directory in it: nothing below them remains of the layers below.
    gone: BTreeSet<String>,
    /// Directories whose content in the layers below is hidden.
    opaque: BTreeSet<String>,
}

impl Layer {
    fn read<R: Read>(
        entries: tar::Entries<'_, R>,
        wanted: &impl Fn(&str) -> bool,
    ) -> Result<Self, ArchiveError> {
        let mut layer = Self::default();
        for entry in entries {
            let mut entry = entry.map_err(ArchiveError::Read)?;
            let path = clean(&entry.path_bytes());
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", &path));
            if name == OPAQUE {
                layer.opaque.insert(parent.to_owned());
                continue;
            }
            if let Some(name) = name.strip_prefix(WHITEOUT) {
                layer.gone.insert(if parent.is_empty() {
                    name.to_owned()
                } else {
                    format!("{parent}/{name}")
                });
                continue;
            }
            let kind = entry.header().entry_type();
            if kind.is_dir() {
                continue;
            }
            if wanted(&path) {
                let target = entry.link_name_bytes().map(|target| clean(&target));
                let content = match target.filter(|_| kind.is_hard_link()) {
                    Some(target) => layer
                        .found
                        .get(&target)
                        .cloned()
                        .unwrap_or_else(|| Content::Unread(format!("it is another name of /{target}"))),
                    None if kind.is_symlink() => {
                        layer.gone.insert(path);
                        continue;
                    }
                    None if entry.size() > LIMIT => {
                        Content::Unread(format!("it is larger than {} MiB", LIMIT >> 20))
                    }
                    None => {
                        let mut bytes = Vec::new();
                        entry.read_to_end(&mut bytes).map_err(ArchiveError::Read)?;
                        Content::Bytes(bytes)
                    }
                };
                layer.found.insert(path.clone(), content);
            }
            layer.gone.insert(path);
        }
        Ok(layer)
    }

    /// Whether a path of the layers below is hidden.
    fn hides(&self, path: &str) -> bool {
        let above = path.match_indices('/').map(|(at, _)| &path[..at]);
        let is_opaque = std::iter::once("").chain(above.clone()).any(|above| self.opaque.contains(above));
        is_opaque || above.chain([path]).any(|above| self.gone.contains(above))
    }
}

/// A path without `./` and `/` at its start and `/` at its end.
fn clean(path: &[u8]) -> String {
    let path = String::from_utf8_lossy(path);
    path.trim_start_matches("./").trim_matches('/').to_owned()
}
