//! OCI image layouts, as a directory or a tar file, read and written as one more registry.
//!
//! [The specification](https://github.com/opencontainers/image-spec/blob/main/image-layout.md) says what lies in them.
//! A [`Layout`] is a [`Transport`](registry::Transport): to the registry client it is one more registry, [`HOST`]. So the mirror
//! copies to and from it as between registries, with every byte verified, and nothing here knows of manifests more than it must.
//!
//! A blob gets its name only when it is whole and its digest is right. A tar file is written under another name, to which whole
//! blobs are appended, and gets its own at the end; what a killed process left is read, verified and gone on from.

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

/// The layout's name as a registry. No such host can exist
/// ([RFC 6761](https://www.rfc-editor.org/rfc/rfc6761#section-6.4)).
pub const HOST: &str = "oci-layout.invalid";

/// The file that marks a layout.
const MARK: &str = "oci-layout";
const MARK_TEXT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;
const INDEX: &str = "index.json";

/// Indexes in indexes: as deep as the registry client goes.
const DEPTH: usize = 4;

/// Between two writes of the index while images come in one after another: it is written whole each time.
const PAUSE: Duration = Duration::from_secs(1);

/// Why a layout cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// The operating system refuses.
    #[error("{path}")]
    Io {
        /// The file.
        path: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// There is something else in its place.
    #[error("{path} exists and is not an OCI image layout")]
    Foreign {
        /// The file.
        path: String,
    },
    /// A tar file that is complete is not written again.
    #[error("{path} exists already")]
    Exists {
        /// The file.
        path: String,
    },
    /// Another process writes it.
    #[error("another process is writing {path}")]
    Busy {
        /// The file.
        path: String,
    },
    /// It is no layout.
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
    /// Where the index is kept; none where nothing is written.
    kept: Option<PathBuf>,
    written: Mutex<Option<Instant>>,
}

impl Layout {
    /// Opens a layout to read it: a directory, or a tar file of one.
    ///
    /// # Errors
    /// It cannot be read, or is no layout.
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

    /// Opens a layout to write it: a tar file where the name ends in `.tar`, else a directory. What an earlier process left
    /// unfinished, and what a directory has, is verified and kept.
    ///
    /// # Errors
    /// It cannot be read or written, something else is in its place, or another process writes it.
    pub fn create(path: &Path) -> Result<Self, LayoutError> {
        let (blobs, kept) = Blobs::create(path)?;
        forget_incomplete(&blobs);
        let index = match std::fs::read(&kept) {
            // What is not readable was being written: the images are named again, their blobs are there.
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

    /// The images that have a name, sorted by it.
    pub fn images(&self) -> Vec<Image> {
        self.index().images()
    }

    /// Manifests that are listed without a name and are about nothing else, in their order.
    pub fn unnamed(&self) -> Vec<Digest> {
        self.index().unnamed()
    }

    /// Gives the one image that has no name this one: `repository:tag`.
    pub fn name(&self, digest: Digest, name: &str) {
        self.index().name(digest, name);
    }

    /// Bytes of all blobs.
    pub fn bytes(&self) -> u64 {
        self.blobs.bytes()
    }

    /// Completes what was written: index and mark are there, and a tar file has its own name.
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

    /// Notes which of the listed manifests are about others.
    fn find_subjects(&self) {
        let listed = self.index().digests();
        for digest in listed {
            let bytes = self.blobs.read(digest).ok().flatten();
            if let Some(bytes) = bytes {
                self.index().learn(digest, &bytes);
            }
        }
    }

    /// Keeps the index, so that a killed process loses no name; not more often than is worth it.
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

/// Leaves out manifests that something is missing of: where a manifest is, nobody looks for what is below it.
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

/// Whether all that a manifest stands on is there. An attestation may be absent: it is left out where its source does not have it.
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
