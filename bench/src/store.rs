//! docker-registry's filesystem storage, written and read directly.
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
    /// A store below `root`, which need not exist.
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

    /// Where the bytes of `digest` lie.
    pub fn blob_path(&self, digest: &str) -> PathBuf {
        let hex = digest.trim_start_matches("sha256:");
        self.v2().join("blobs/sha256").join(hex.get(..2).unwrap_or("xx")).join(hex).join("data")
    }

    /// Makes the layer `name` and keeps it; it belongs to no repository yet.
    ///
    /// # Errors
    /// When the disk does not take it.
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

    /// Keeps `bytes` as a blob of `repository`.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn put_blob(&self, repository: &str, bytes: &[u8]) -> Result<Blob> {
        let blob = self.put_bytes(bytes)?;
        self.link(repository, &blob.digest)?;
        Ok(blob)
    }

    /// Keeps `bytes` as a manifest of `repository`.
    ///
    /// # Errors
    /// When the disk does not take it.
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

    /// Lets `repository` have the blob.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn link(&self, repository: &str, digest: &str) -> Result<()> {
        write_link(&self.repository(repository).join("_layers").join(digest.replace(':', "/")), digest)
    }

    /// Lets `tag` mean the manifest.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn tag(&self, repository: &str, tag: &str, digest: &str) -> Result<()> {
        let tag = self.repository(repository).join("_manifests/tags").join(tag);
        write_link(&tag.join("index").join(digest.replace(':', "/")), digest)?;
        write_link(&tag.join("current"), digest)
    }

    /// What `tag` means.
    pub fn tagged(&self, repository: &str, tag: &str) -> Option<String> {
        let link = self.repository(repository).join("_manifests/tags").join(tag).join("current/link");
        fs::read_to_string(link).ok()
    }

    /// Forgets everything, so that the next copy is a cold one.
    ///
    /// # Errors
    /// When the disk does not let go.
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
