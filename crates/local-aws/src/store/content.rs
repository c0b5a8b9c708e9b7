//! Blobs and manifests by digest, one copy for all repositories.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use super::disk;

/// The contents on disk.
#[derive(Debug)]
pub(crate) struct Contents {
    content: PathBuf,
    incoming: PathBuf,
}

impl Contents {
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        let contents = Self { content: root.join("content"), incoming: root.join("incoming") };
        // Uploads of the last process cannot be resumed: ECR's upload sessions end as well.
        match fs::remove_dir_all(&contents.incoming) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::create_dir_all(&contents.incoming)?;
        fs::create_dir_all(&contents.content)?;
        Ok(contents)
    }

    /// The path of a digest's bytes. The digest must be valid.
    pub(crate) fn path(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").unwrap_or(digest);
        self.content.join(hex.get(..2).unwrap_or("xx")).join(hex)
    }

    pub(crate) fn read(&self, digest: &str) -> io::Result<Vec<u8>> {
        fs::read(self.path(digest))
    }

    /// Size in bytes of this digest's content, if it exists.
    pub(crate) fn size(&self, digest: &str) -> Option<u64> {
        fs::metadata(self.path(digest)).ok().map(|metadata| metadata.len())
    }

    pub(crate) fn begin(&self) -> io::Result<Incoming> {
        Ok(Incoming {
            file: tempfile::Builder::new().prefix("upload-").tempfile_in(&self.incoming)?,
            hash: Sha256::new(),
            size: 0,
        })
    }

    /// Stores `bytes` under their digest.
    pub(crate) fn put(&self, bytes: &[u8]) -> io::Result<String> {
        let mut incoming = self.begin()?;
        incoming.write(bytes)?;
        let digest = incoming.digest();
        self.commit(incoming, &digest)?;
        Ok(digest)
    }

    /// Syncs and renames; from now on the bytes are persistent. The caller has compared `digest` with the incoming one.
    pub(crate) fn commit(&self, incoming: Incoming, digest: &str) -> io::Result<()> {
        let path = self.path(digest);
        let directory = path.parent().unwrap_or(&self.content);
        if !path.exists() {
            if !directory.exists() {
                fs::create_dir_all(directory)?;
                disk::sync_directory(&self.content)?;
            }
            incoming.file.as_file().sync_all()?;
            incoming.file.persist(&path).map_err(|failed| failed.error)?;
        }
        // Also if another upload stored it: its rename may not have been synced yet.
        disk::sync_directory(directory)
    }

    /// Removes contents that no repository refers to. Only at the start, before any request.
    pub(crate) fn sweep(&self, held: &std::collections::HashSet<&str>) -> io::Result<u64> {
        let mut removed = 0;
        for shard in disk::names(&self.content)? {
            let directory = self.content.join(shard);
            for name in disk::names(&directory)? {
                if !held.contains(name.as_str()) {
                    fs::remove_file(directory.join(name))?;
                    removed += 1;
                }
            }
        }
        Ok(removed)
    }
}

/// Bytes being received, hashed while they are written.
#[derive(Debug)]
pub(crate) struct Incoming {
    file: NamedTempFile,
    hash: Sha256,
    size: u64,
}

impl Incoming {
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
        Ok(())
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn digest(&self) -> String {
        format!("sha256:{}", hex::encode(self.hash.clone().finalize()))
    }
}

/// Opens a blob for reading, with its size.
pub(crate) fn open(path: &Path) -> io::Result<(File, u64)> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}
