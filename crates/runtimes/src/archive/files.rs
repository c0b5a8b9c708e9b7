//! The files of a layer, for the comparison with a build's inputs.

use std::collections::BTreeMap;
use std::io::Read;

use sha2::{Digest as _, Sha256};

use super::ArchiveError;
use super::hashing::hash;

/// A file or symlink of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerFile {
    /// Whether this is a symlink.
    pub is_symlink: bool,
    /// Permission bits.
    pub bits: u32,
    /// SHA-256 of the content, or of a symlink's target, in hex.
    pub sha256: String,
}

impl LayerFile {
    /// The mode as git writes it.
    pub fn mode(&self) -> String {
        let kind = if self.is_symlink { 0o120_000 } else { 0o100_000 | self.bits };
        format!("{kind:o}")
    }
}

/// The files and symlinks of a layer, by path.
pub(super) fn files(layer: impl Read) -> Result<BTreeMap<String, LayerFile>, ArchiveError> {
    let mut found: BTreeMap<String, LayerFile> = BTreeMap::new();
    for entry in tar::Archive::new(layer).entries().map_err(ArchiveError::Read)? {
        let mut entry = entry.map_err(ArchiveError::Read)?;
        let name = |bytes: &[u8]| {
            String::from_utf8_lossy(bytes).trim_start_matches("./").trim_start_matches('/').to_owned()
        };
        let path = name(&entry.path_bytes());
        let kind = entry.header().entry_type();
        let bits = entry.header().mode().map_err(ArchiveError::Read)? & 0o7777;
        // A name with this prefix deletes a file of the layers below:
        // <https://github.com/opencontainers/image-spec/blob/main/layer.md#whiteouts>
        if path.rsplit('/').next().is_some_and(|name| name.starts_with(".wh.")) {
            continue;
        }
        let target = entry.link_name_bytes().map(|target| target.into_owned()).unwrap_or_default();
        if kind.is_symlink() {
            let sha256 = hex::encode(Sha256::digest(&target));
            found.insert(path, LayerFile { is_symlink: true, bits, sha256 });
        } else if kind.is_hard_link() {
            if let Some(file) = found.get(&name(&target)).cloned() {
                found.insert(path, file);
            }
        } else if kind.is_file() || kind.is_contiguous() || kind.is_gnu_sparse() {
            let digest = hash(&mut entry, |_| Ok(()))?;
            found.insert(path, LayerFile { is_symlink: false, bits, sha256: digest.hex() });
        }
    }
    Ok(found)
}
