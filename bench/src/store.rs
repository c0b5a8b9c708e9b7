//! Reads and writes docker-registry's filesystem storage directly.
//!
//! Layout: <https://github.com/distribution/distribution/blob/v2.8.2/registry/storage/paths.go>.

use std::fs;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::content::{Blob, Layer, write_layer};

/// A registry's root directory.
#[derive(Clone, Debug)]
pub struct Store {
    /// The directory for the registry's configuration.
    pub root: PathBuf,
}

impl Store {
    /// A store below `root`, which may not exist yet.
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    fn v2(&self) -> PathBuf {
        self.root.join("docker/registry/v2")
    }

    /// The directory of a repository.
    pub fn repository(&self, repository: &str) -> PathBuf {
        self.v2().join("repositories").join(repository)
    }

    /// The file with the bytes of `digest`.
    pub fn blob_path(&self, digest: &str) -> PathBuf {
        let hex = digest.trim_start_matches("sha256:");
        self.v2().join("blobs/sha256").join(hex.get(..2).unwrap_or("xx")).join(hex).join("data")
    }

    /// Creates and stores the layer `name`, without a repository.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn put_layer(&self, name: &str, size: u64) -> Result<Layer> {
        fs::create_dir_all(self.v2())?;
        let path = self.v2().join("bench-layer.tmp");
        let file = fs::File::create(&path).with_context(|| format!("could not write {}", path.display()))?;
        let layer = write_layer(BufWriter::with_capacity(1 << 20, file), name, size)
            .with_context(|| format!("could not write {}", path.display()))?;
        let target = self.blob_path(&layer.blob.digest);
        fs::create_dir_all(parent(&target))?;
        fs::rename(&path, &target)?;
        Ok(layer)
    }

    /// Stores `bytes` as a blob of `repository`.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn put_blob(&self, repository: &str, bytes: &[u8]) -> Result<Blob> {
        let blob = self.put_bytes(bytes)?;
        self.link(repository, &blob.digest)?;
        Ok(blob)
    }

    /// Stores `bytes` as a manifest of `repository`.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn put_manifest(&self, repository: &str, bytes: &[u8]) -> Result<Blob> {
        let blob = self.put_bytes(bytes)?;
        let revisions = self.repository(repository).join("_manifests/revisions");
        write_link(&revisions.join(blob.digest.replace(':', "/")), &blob.digest)?;
        Ok(blob)
    }

    fn put_bytes(&self, bytes: &[u8]) -> Result<Blob> {
        let blob = Blob::of(bytes);
        let path = self.blob_path(&blob.digest);
        fs::create_dir_all(parent(&path))?;
        fs::write(&path, bytes).with_context(|| format!("could not write {}", path.display()))?;
        Ok(blob)
    }

    /// Adds the blob to `repository`.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn link(&self, repository: &str, digest: &str) -> Result<()> {
        write_link(&self.repository(repository).join("_layers").join(digest.replace(':', "/")), digest)
    }

    /// Sets `tag` to the manifest.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn tag(&self, repository: &str, tag: &str, digest: &str) -> Result<()> {
        let tag = self.repository(repository).join("_manifests/tags").join(tag);
        write_link(&tag.join("index").join(digest.replace(':', "/")), digest)?;
        write_link(&tag.join("current"), digest)
    }

    /// The digest of `tag`.
    pub fn tagged(&self, repository: &str, tag: &str) -> Option<String> {
        let link = self.repository(repository).join("_manifests/tags").join(tag).join("current/link");
        fs::read_to_string(link).ok()
    }

    /// Removes everything, so that the next copy is a cold one.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub fn wipe(&self) -> Result<()> {
        match fs::remove_dir_all(&self.root) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("could not empty {}", self.root.display()))
            }
            _ => Ok(fs::create_dir_all(&self.root)?),
        }
    }
}

pub(crate) fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

fn write_link(dir: &Path, digest: &str) -> Result<()> {
    fs::create_dir_all(dir)?;
    let path = dir.join("link");
    fs::write(&path, digest).with_context(|| format!("could not write {}", path.display()))
}
