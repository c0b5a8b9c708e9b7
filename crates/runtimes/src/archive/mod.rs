//! Reads the image's configuration and layers from the output of `docker save`, without extracting it.
//!
//! Engines on containerd's image store and nerdctl save compressed layers.

mod files;
pub(super) mod hashing;
mod layout;
mod section;
#[cfg(test)]
pub(super) mod tests;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write as _};
use std::path::Path;
use std::sync::Arc;

pub use files::LayerFile;
use hashing::hash;
use layout::Found;
use registry::{Digest, Platform};
pub use section::Section;
use serde::Deserialize;

/// Why an archive cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The archive cannot be read.
    #[error("could not read the saved image")]
    Read(#[source] std::io::Error),
    /// A layer cannot be written.
    #[error("could not write a layer to {path}")]
    Write {
        /// The file.
        path: String,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// A part that the format requires is missing.
    #[error("the saved image has no {what}")]
    Missing {
        /// The part.
        what: String,
    },
    /// A part is not valid JSON.
    #[error("the saved image has a {what} that cannot be read")]
    Json {
        /// The part.
        what: &'static str,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// There is more than one image, so it is unclear which one to use.
    #[error("the container client saved {count} images instead of one")]
    Several {
        /// How many.
        count: usize,
    },
    /// A part's content does not match the digest in its name.
    #[error("the saved image has {found} under the name of {expected}")]
    Blob {
        /// The digest in its name.
        expected: Digest,
        /// The digest of its content.
        found: Digest,
    },
    /// A layer's content does not match the configuration.
    #[error(
        "a layer that the container client saved is {found}, and the image's configuration says {expected}"
    )]
    Layer {
        /// The digest in the configuration.
        expected: Digest,
        /// The digest of its content.
        found: Digest,
    },
}

/// How a layer is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compression {
    Gzip,
    Zstd,
}

/// A step of an image's history.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Step {
    /// The instruction, as the builder writes it.
    #[serde(default)]
    pub created_by: String,
    /// Whether the step created no layer.
    #[serde(default)]
    pub empty_layer: bool,
}

/// A saved image.
#[derive(Debug)]
pub struct Archive {
    /// The configuration's bytes, whose digest is the image's ID.
    pub config: Vec<u8>,
    /// The layers' uncompressed digests, lowest first.
    pub diff_ids: Vec<Digest>,
    /// The layers as stored in the archive, lowest first.
    layers: Vec<Section>,
}

#[derive(Deserialize)]
struct Config {
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(default, deserialize_with = "digests")]
    diff_ids: Vec<Digest>,
}

fn digests<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Digest>, D::Error> {
    let texts = Option::<Vec<String>>::deserialize(deserializer)?.unwrap_or_default();
    texts.iter().map(|text| text.parse().map_err(serde::de::Error::custom)).collect()
}

/// The uncompressed digests of an image's layers, lowest first.
///
/// # Errors
/// The configuration cannot be read.
pub fn diff_ids(config: &[u8]) -> Result<Vec<Digest>, serde_json::Error> {
    serde_json::from_slice::<Config>(config).map(|config| config.rootfs.diff_ids)
}

/// The platform in an image's configuration; `None` if it names none.
pub fn platform(config: &[u8]) -> Option<Platform> {
    #[derive(Deserialize)]
    struct Named {
        os: String,
        architecture: String,
    }
    let named: Named = serde_json::from_slice(config).ok()?;
    format!("{}/{}", named.os, named.architecture).parse().ok()
}

impl Archive {
    /// Opens the output of `docker save --output path IMAGE`.
    ///
    /// # Errors
    /// The archive cannot be read, or a part that the format requires is missing.
    pub fn open(path: &Path) -> Result<Self, ArchiveError> {
        let mut file = File::open(path).map_err(ArchiveError::Read)?;
        let size = file.metadata().map_err(ArchiveError::Read)?.len();
        let Found { config, layers } = layout::find(&mut file)?;
        let whole = Section::new(Arc::new(file), 0, size);
        let diff_ids =
            diff_ids(&config).map_err(|source| ArchiveError::Json { what: "configuration", source })?;
        if layers.len() != diff_ids.len() {
            let what = format!("{} layers but {}", diff_ids.len(), layers.len());
            return Err(ArchiveError::Missing { what });
        }
        let layers = layers.into_iter().map(|(start, size)| whole.part(start, size)).collect();
        Ok(Self { config, diff_ids, layers })
    }

    /// Layer `index`, uncompressed: inside the archive if the engine saved it uncompressed, else in a new file below `scratch`. Its bytes
    /// are checked against the configuration.
    ///
    /// # Errors
    /// The layer does not match the configuration, or a file cannot be read or written.
    pub fn plain(&self, index: usize, scratch: &Path) -> Result<Section, ArchiveError> {
        let expected = self.diff_ids[index];
        let mut layer = self.layers[index].clone();
        let check = |found: Digest| match found == expected {
            true => Ok(()),
            false => Err(ArchiveError::Layer { expected, found }),
        };
        match compression(&layer)? {
            None => {
                check(hash(&mut layer.clone(), |_| Ok(()))?)?;
                Ok(layer)
            }
            Some(Compression::Gzip) => {
                let failed = |source| ArchiveError::Write { path: scratch.display().to_string(), source };
                let mut out = tempfile::tempfile_in(scratch).map_err(failed)?;
                let mut inner = flate2::read::MultiGzDecoder::new(&mut layer);
                let mut size = 0;
                let found = hash(&mut inner, |bytes| {
                    size += bytes.len() as u64;
                    out.write_all(bytes).map_err(failed)
                })?;
                check(found)?;
                Ok(Section::new(Arc::new(out), 0, size))
            }
            Some(Compression::Zstd) => Err(zstd()),
        }
    }

    /// The uncompressed bytes of layer `index`, as a stream; `None` if the compression is not supported.
    ///
    /// # Errors
    /// The layer cannot be read.
    pub fn bytes(&self, index: usize) -> Result<Option<Bytes>, ArchiveError> {
        let layer = self.layers[index].clone();
        Ok(match compression(&layer)? {
            None => Some(Bytes::Plain(layer)),
            Some(Compression::Gzip) => Some(Bytes::Gzip(Box::new(flate2::read::MultiGzDecoder::new(layer)))),
            Some(Compression::Zstd) => None,
        })
    }

    /// The image's history, lowest layer first.
    ///
    /// # Errors
    /// The configuration cannot be read.
    pub fn history(&self) -> Result<Vec<Step>, ArchiveError> {
        #[derive(Deserialize)]
        struct Kept {
            #[serde(default)]
            history: Vec<Step>,
        }
        let kept: Kept = serde_json::from_slice(&self.config)
            .map_err(|source| ArchiveError::Json { what: "configuration", source })?;
        Ok(kept.history)
    }

    /// The files and symlinks of layer `index`, by path, without the whiteouts.
    ///
    /// # Errors
    /// The layer cannot be read, or its compression is not supported.
    pub fn files(&self, index: usize) -> Result<BTreeMap<String, LayerFile>, ArchiveError> {
        files::files(self.bytes(index)?.ok_or_else(zstd)?)
    }
}

/// A layer's uncompressed bytes.
pub enum Bytes {
    /// Stored uncompressed in the file.
    Plain(Section),
    /// Decompressed while reading.
    Gzip(Box<flate2::read::MultiGzDecoder<Section>>),
}

impl Read for Bytes {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(plain) => plain.read(buffer),
            Self::Gzip(gzip) => gzip.read(buffer),
        }
    }
}

fn zstd() -> ArchiveError {
    ArchiveError::Missing { what: "layer that is not zstd".to_owned() }
}

fn compression(layer: &Section) -> Result<Option<Compression>, ArchiveError> {
    let mut magic = Vec::new();
    layer.clone().take(4).read_to_end(&mut magic).map_err(ArchiveError::Read)?;
    Ok(match magic[..] {
        [0x1f, 0x8b, ..] => Some(Compression::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd] => Some(Compression::Zstd),
        _ => None,
    })
}
