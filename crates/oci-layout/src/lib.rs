//! OCI image layouts, as a directory or a tar file, read and written like a registry.
//!
//! [The specification](https://github.com/opencontainers/image-spec/blob/main/image-layout.md) defines their content. A [`Layout`] is a
//! [`Transport`](registry::Transport): the registry client uses it like another registry, [`HOST`]. So the mirror copies to and from it as
//! between registries, with every byte verified, and this crate seldom has to parse manifests.
//!
//! A blob gets its name only when it is complete and its digest is correct. A tar file is written under a temporary name, to which complete
//! blobs are appended, and gets its own name at the end. What a killed process left is verified and continued.

mod archive;
mod blobs;
mod index;
mod place;
mod serve;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use registry::{Digest, Manifest};

use blobs::Blobs;
pub use index::Image;
use index::Index;

/// The layout's host as a registry. No such host can exist ([RFC 6761](https://www.rfc-editor.org/rfc/rfc6761#section-6.4)).
pub const HOST: &str = "oci-layout.invalid";

/// The file that marks a layout.
const MARK: &str = "oci-layout";
const MARK_TEXT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;
const INDEX: &str = "index.json";

/// Deepest nesting of indexes, the same as in the registry client.
const DEPTH: usize = 4;

/// Time between two writes of the index while images arrive one after another: each time the whole index is written.
const PAUSE: Duration = Duration::from_secs(1);

/// Why a layout cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// An error of the operating system.
    #[error("{path}")]
    Io {
        /// The file.
        path: String,
        /// The error.
        source: io::Error,
    },
    /// The path has something other than a layout.
    #[error("{path} exists and is not an OCI image layout")]
    Foreign {
        /// The file.
        path: String,
    },
    /// The tar file is complete and is not written again.
    #[error("{path} exists already")]
    Exists {
        /// The file.
        path: String,
    },
    /// Another process is writing it.
    #[error("another process is writing {path}")]
    Busy {
        /// The file.
        path: String,
    },
    /// It is not a layout.
    #[error("{path} is not an OCI image layout: {reason}")]
    Malformed {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// An image layout.
pub struct Layout {
    blobs: Arc<Blobs>,
    index: Mutex<Index>,
    /// Where the index is stored; `None` if the layout is read-only.
    kept: Option<PathBuf>,
    written: Mutex<Option<Instant>>,
}

impl Layout {
    /// Opens a layout to read it: a directory, or a tar file of one.
    ///
    /// # Errors
    /// It cannot be read, or is not a layout.
    pub fn open(path: &Path) -> Result<Self, LayoutError> {
        let blobs = Blobs::open(path)?;
        let malformed =
            |reason: &str| LayoutError::Malformed { path: shown(path), reason: reason.to_owned() };
        let text = blobs.file(INDEX).map_err(|source| failed(path, source))?;
        let text = text.ok_or_else(|| malformed("it has no index.json"))?;
        let index =
            index::document::parse(&text).map_err(|error| malformed(&format!("index.json: {error}")))?;
        let (blobs, index) = (Arc::new(blobs), Mutex::new(index));
        let layout = Self { blobs, index, kept: None, written: Mutex::default() };
        layout.find_subjects();
        Ok(layout)
    }

    /// Opens a layout to write it: a tar file if the name ends in `.tar`, else a directory. Blobs of an earlier, unfinished process and of
    /// an existing directory are verified and kept.
    ///
    /// # Errors
    /// It cannot be read or written, the path has something other than a layout, or another process is writing it.
    pub fn create(path: &Path) -> Result<Self, LayoutError> {
        let (blobs, kept) = Blobs::create(path)?;
        forget_incomplete(&blobs);
        let index = match std::fs::read(&kept) {
            // An unreadable index was being written: the images are added again, their blobs exist.
            Ok(text) => index::document::parse(&text).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Index::default(),
            Err(error) => return Err(failed(&kept, error)),
        };
        let index = index.keeping(|digest| is_complete(&blobs, digest, 0));
        let (blobs, index) = (Arc::new(blobs), Mutex::new(index));
        let layout = Self { blobs, index, kept: Some(kept), written: Mutex::default() };
        layout.find_subjects();
        Ok(layout)
    }

    /// The images with a name, sorted by it.
    pub fn images(&self) -> Vec<Image> {
        self.index().images()
    }

    /// Manifests without a name and without a subject, in their order.
    pub fn unnamed(&self) -> Vec<Digest> {
        self.index().unnamed()
    }

    /// Names the only image without a name: `repository:tag`.
    pub fn name(&self, digest: Digest, name: &str) {
        self.index().name(digest, name);
    }

    /// Size of all blobs, in bytes.
    pub fn bytes(&self) -> u64 {
        self.blobs.bytes()
    }

    /// Completes the layout: writes index and mark, and renames a tar file to its final name.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn finish(&self) -> Result<(), LayoutError> {
        let index = index::document::text(&self.index());
        self.blobs.finish(&[(MARK, MARK_TEXT.as_bytes()), (INDEX, index.as_bytes())])
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores the subjects of the listed manifests.
    fn find_subjects(&self) {
        let listed = self.index().digests();
        for digest in listed {
            let bytes = self.blobs.read(digest).ok().flatten();
            if let Some(bytes) = bytes {
                self.index().learn(digest, &bytes);
            }
        }
    }

    /// Writes the index, so that a killed process loses no name, at most once per pause.
    fn keep_index(&self) -> io::Result<()> {
        let Some(kept) = &self.kept else { return Ok(()) };
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if written.is_some_and(|written| written.elapsed() < PAUSE) {
            return Ok(());
        }
        blobs::replace(kept, index::document::text(&self.index()).as_bytes())?;
        *written = Some(Instant::now());
        Ok(())
    }
}

/// Removes manifests with missing parts: if a manifest exists, what it refers to is not checked again.
fn forget_incomplete(blobs: &Blobs) {
    loop {
        let incomplete = blobs.digests().into_iter().filter(|digest| !is_complete(blobs, *digest, 0));
        let incomplete: Vec<Digest> = incomplete.filter(|digest| is_manifest(blobs, *digest)).collect();
        if incomplete.is_empty() {
            return;
        }
        incomplete.into_iter().for_each(|digest| blobs.forget(digest));
    }
}

fn is_manifest(blobs: &Blobs, digest: Digest) -> bool {
    let bytes = blobs.read(digest).ok().flatten().filter(|bytes| bytes.starts_with(b"{"));
    bytes.is_some_and(|bytes| {
        let manifest = Manifest::new(index::media_type(&bytes), bytes);
        manifest.index().is_ok() || manifest.image().is_ok_and(|image| image.config.is_some())
    })
}

/// Whether everything that a manifest refers to exists. An attestation may be missing: it is left out if its source does not have it.
fn is_complete(blobs: &Blobs, digest: Digest, depth: usize) -> bool {
    let Ok(Some(bytes)) = blobs.read(digest) else { return false };
    let manifest = Manifest::new(index::media_type(&bytes), bytes);
    if let Ok(index) = manifest.index() {
        let needed = index.manifests.iter().filter(|child| child.attests().is_none());
        return depth < DEPTH && needed.into_iter().all(|child| is_complete(blobs, child.digest, depth + 1));
    }
    let image = manifest.image();
    image.is_ok_and(|image| image.blobs().iter().all(|blob| blobs.size(blob.digest) == Some(blob.size)))
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn failed(path: &Path, source: io::Error) -> LayoutError {
    LayoutError::Io { path: shown(path), source }
}

#[cfg(test)]
mod tests;
