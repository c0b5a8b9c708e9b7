//! What `docker save` writes, read in place: the image's configuration and its layers.
//!
//! An engine on containerd's image store and nerdctl keep layers compressed; those go out as they are.

mod layout;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};

use layout::Found;
use registry::{Digest, Platform};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

/// gzip's default, named because the digest of what is pushed depends on it.
const GZIP_LEVEL: u32 = 6;

/// Why an archive cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It cannot be read.
    #[error("could not read the image that the container client saved")]
    Read(#[source] std::io::Error),
    /// A compressed layer cannot be written.
    #[error("could not write a compressed layer to {path}")]
    Write {
        /// The file.
        path: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A part that the format promises is missing.
    #[error("the image that the container client saved has no {what}")]
    Missing {
        /// The part.
        what: String,
    },
    /// JSON that cannot be read.
    #[error("the image that the container client saved has a {what} that cannot be read")]
    Json {
        /// The part.
        what: &'static str,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// There is more than one image, and nothing says which is meant.
    #[error("the container client saved {count} images in the place of one")]
    Several {
        /// How many.
        count: usize,
    },
    /// A part is not what its name says.
    #[error("the image that the container client saved has {found} under the name of {expected}")]
    Blob {
        /// Its name.
        expected: Digest,
        /// As it was found.
        found: Digest,
    },
    /// A layer is not what the configuration says.
    #[error(
        "a layer that the container client saved is {found}, and the image's configuration says {expected}"
    )]
    Layer {
        /// As the configuration names it.
        expected: Digest,
        /// As it was found.
        found: Digest,
    },
}

/// How a layer is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// gzip.
    Gzip,
    /// zstd, which docker's own manifest cannot name.
    Zstd,
}

/// A layer, compressed, in a file.
#[derive(Debug)]
pub struct Blob {
    /// The file that holds it.
    pub path: PathBuf,
    /// Where in the file it begins.
    pub offset: u64,
    /// Its length in bytes.
    pub size: u64,
    /// Of these bytes.
    pub digest: Digest,
    /// How it is compressed.
    pub compression: Compression,
}

/// A step of an image's history.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Step {
    /// The instruction, as the builder writes it.
    #[serde(default)]
    pub created_by: String,
    /// Whether it made no layer.
    #[serde(default)]
    pub empty_layer: bool,
}

/// A file or symlink of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerFile {
    /// Whether it is a symlink.
    pub is_symlink: bool,
    /// Its permission bits.
    pub bits: u32,
    /// Of the content, or of a symlink's target, in hex.
    pub sha256: String,
}

impl LayerFile {
    /// Its mode as git writes it.
    pub fn mode(&self) -> String {
        let kind = if self.is_symlink { 0o120_000 } else { 0o100_000 | self.bits };
        format!("{kind:o}")
    }
}

/// A saved image.
#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
    file: File,
    /// The configuration's bytes, whose digest is the image's ID.
    pub config: Vec<u8>,
    /// The layers' uncompressed digests, lowest first.
    pub diff_ids: Vec<Digest>,
    /// Where each layer lies (offset, size), lowest first.
    layers: Vec<(u64, u64)>,
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

/// The platform that an image's configuration names, if it does.
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
    /// Opens what `docker save --output path IMAGE` wrote.
    ///
    /// # Errors
    /// It cannot be read, or lacks what the format promises.
    pub fn open(path: &Path) -> Result<Self, ArchiveError> {
        let mut file = File::open(path).map_err(ArchiveError::Read)?;
        let Found { config, layers } = layout::find(&mut file)?;
        let diff_ids =
            diff_ids(&config).map_err(|source| ArchiveError::Json { what: "configuration", source })?;
        if layers.len() != diff_ids.len() {
            let what = format!("{} layers but {}", diff_ids.len(), layers.len());
            return Err(ArchiveError::Missing { what });
        }
        Ok(Self { path: path.to_owned(), file, config, diff_ids, layers })
    }

    /// Layer `index`, compressed: as it lies there if the engine kept it so, else compressed now into `scratch`. The bytes are
    /// checked against the configuration on the way.
    ///
    /// # Errors
    /// The layer is not what the configuration says, or a file cannot be read or written.
    pub fn compressed(&mut self, index: usize, scratch: &Path) -> Result<Blob, ArchiveError> {
        let (offset, size) = self.layers[index];
        let expected = self.diff_ids[index];
        let compression = self.compression(index)?;
        let mut layer = self.at(offset)?.take(size);
        let check = |found: Digest| match found == expected {
            true => Ok(()),
            false => Err(ArchiveError::Layer { expected, found }),
        };
        let Some(compression) = compression else {
            let path = scratch.join(format!("{}.gz", expected.hex()));
            let failed = |source| ArchiveError::Write { path: path.display().to_string(), source };
            let out = Hashing::new(File::create(&path).map_err(failed)?);
            // No name and no time in the header: the same layer gives the same bytes.
            let mut gzip = flate2::GzBuilder::new().mtime(0).write(out, flate2::Compression::new(GZIP_LEVEL));
            let found = hash(&mut layer, |bytes| gzip.write_all(bytes).map_err(failed))?;
            let (digest, size) = gzip.finish().and_then(Hashing::finish).map_err(failed)?;
            check(found)?;
            return Ok(Blob { path, offset: 0, size, digest, compression: Compression::Gzip });
        };
        let mut outer = Hashing::new(std::io::sink());
        if compression == Compression::Gzip {
            let tee = Tee { from: &mut layer, to: &mut outer };
            let mut inner = flate2::read::MultiGzDecoder::new(tee);
            check(hash(&mut inner, |_| Ok(()))?)?;
            // What the decoder left, so that the digest is that of the whole blob.
            std::io::copy(&mut layer, &mut outer).map_err(ArchiveError::Read)?;
        } else {
            std::io::copy(&mut layer, &mut outer).map_err(ArchiveError::Read)?;
        }
        let (digest, _) = outer.finish().map_err(ArchiveError::Read)?;
        Ok(Blob { path: self.path.clone(), offset, size, digest, compression })
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

    /// The files and symlinks of layer `index`, by path; not what it takes away from the layers below.
    ///
    /// # Errors
    /// The layer cannot be read, or is compressed with what is not read here.
    pub fn files(&mut self, index: usize) -> Result<BTreeMap<String, LayerFile>, ArchiveError> {
        let (offset, size) = self.layers[index];
        let compression = self.compression(index)?;
        let layer = self.at(offset)?.take(size);
        match compression {
            None => files(layer),
            Some(Compression::Gzip) => files(flate2::read::MultiGzDecoder::new(layer)),
            Some(Compression::Zstd) => {
                Err(ArchiveError::Missing { what: "layer that is not zstd".to_owned() })
            }
        }
    }

    fn compression(&mut self, index: usize) -> Result<Option<Compression>, ArchiveError> {
        let (offset, size) = self.layers[index];
        let mut magic = [0; 4];
        let head = usize::try_from(size.min(4)).unwrap_or(4);
        self.at(offset)?.read_exact(&mut magic[..head]).map_err(ArchiveError::Read)?;
        Ok(match magic {
            [0x1f, 0x8b, ..] => Some(Compression::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd] => Some(Compression::Zstd),
            _ => None,
        })
    }

    fn at(&mut self, offset: u64) -> Result<&mut File, ArchiveError> {
        self.file.seek(SeekFrom::Start(offset)).map_err(ArchiveError::Read)?;
        Ok(&mut self.file)
    }
}

/// The files and symlinks of a layer, by path.
fn files(layer: impl Read) -> Result<BTreeMap<String, LayerFile>, ArchiveError> {
    let mut found: BTreeMap<String, LayerFile> = BTreeMap::new();
    for entry in tar::Archive::new(layer).entries().map_err(ArchiveError::Read)? {
        let mut entry = entry.map_err(ArchiveError::Read)?;
        let name = |bytes: &[u8]| {
            String::from_utf8_lossy(bytes).trim_start_matches("./").trim_start_matches('/').to_owned()
        };
        let path = name(&entry.path_bytes());
        let kind = entry.header().entry_type();
        let bits = entry.header().mode().map_err(ArchiveError::Read)? & 0o7777;
        // What begins so takes a file of the layers below away:
        // https://github.com/opencontainers/image-spec/blob/main/layer.md#whiteouts
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

/// Hashes what is read and hands it on.
fn hash(
    from: &mut impl Read,
    mut on_bytes: impl FnMut(&[u8]) -> Result<(), ArchiveError>,
) -> Result<Digest, ArchiveError> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match from.read(&mut buffer).map_err(ArchiveError::Read)? {
            0 => return to_digest(hasher).map_err(ArchiveError::Read),
            read => {
                hasher.update(&buffer[..read]);
                on_bytes(&buffer[..read])?;
            }
        }
    }
}

fn to_digest(hasher: Sha256) -> std::io::Result<Digest> {
    format!("sha256:{}", hex::encode(hasher.finalize())).parse().map_err(std::io::Error::other)
}

/// A writer that hashes and counts.
struct Hashing<W> {
    to: W,
    hasher: Sha256,
    size: u64,
}

impl<W> Hashing<W> {
    fn new(to: W) -> Self {
        Self { to, hasher: Sha256::new(), size: 0 }
    }

    fn finish(self) -> std::io::Result<(Digest, u64)> {
        Ok((to_digest(self.hasher)?, self.size))
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.to.flush()
    }
}

/// A reader that also writes what it reads.
struct Tee<R, W> {
    from: R,
    to: W,
}

impl<R: Read, W: Write> Read for Tee<R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.from.read(buffer)?;
        self.to.write_all(&buffer[..read])?;
        Ok(read)
    }
}

#[cfg(test)]
mod tests;
