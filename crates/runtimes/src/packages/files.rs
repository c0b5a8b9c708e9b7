//! A few files of an image, as all its layers leave them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use crate::archive::{Archive, ArchiveError, Bytes};

/// The most that is read of a file: rpm's database of a whole desktop is smaller.
const LIMIT: u64 = 256 * 1024 * 1024;

/// What begins so takes something of the layers below away:
/// <https://github.com/opencontainers/image-spec/blob/main/layer.md#whiteouts>.
const WHITEOUT: &str = ".wh.";
/// Everything that a directory has in the layers below.
const OPAQUE: &str = ".wh..wh..opq";

/// A file's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Bytes(Vec<u8>),
    /// Why it was not read.
    Unread(String),
}

/// Files by their paths, without a slash at their beginning.
#[derive(Debug)]
pub(super) struct Files {
    found: BTreeMap<String, Content>,
    is_whole: bool,
}

impl Files {
    /// Reads the files that are wanted.
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
                    // What it changes of the layers below is not known.
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
    /// What it takes away, and what it has that is no directory: nothing below such a path is left of the layers below.
    gone: BTreeSet<String>,
    /// Directories of which nothing in the layers below counts.
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

    /// Whether nothing is left of a path of the layers below.
    fn hides(&self, path: &str) -> bool {
        let above = path.match_indices('/').map(|(at, _)| &path[..at]);
        let is_opaque = std::iter::once("").chain(above.clone()).any(|above| self.opaque.contains(above));
        is_opaque || above.chain([path]).any(|above| self.gone.contains(above))
    }
}

/// A path without what means nothing at its ends.
fn clean(path: &[u8]) -> String {
    let path = String::from_utf8_lossy(path);
    path.trim_start_matches("./").trim_matches('/').to_owned()
}
