//! What happens while images are copied. Drawing it is somebody else's.

use std::sync::Arc;
use std::time::Duration;

use crate::digest::Digest;
use crate::error::Error;
use crate::transfer::progress::Progress;

/// Something happened. `image` is the position in the plan.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// An image's copy begins.
    ImageStarted {
        /// Which image.
        image: usize,
        /// Its blobs.
        blobs: usize,
        /// Their bytes.
        bytes: u64,
    },
    /// The target has the blob.
    BlobSkipped {
        /// Which image.
        image: usize,
        /// Which blob.
        digest: Digest,
        /// Its bytes.
        size: u64,
    },
    /// The target took the blob from another of its repositories.
    BlobMounted {
        /// Which image.
        image: usize,
        /// Which blob.
        digest: Digest,
        /// Its bytes.
        size: u64,
        /// The repository that it was taken from.
        from: String,
    },
    /// Bytes of the blob went to the target. What is sent again after a failure is not counted again: the sum never exceeds
    /// the blob's size and never falls.
    BlobProgress {
        /// Which image.
        image: usize,
        /// Which blob.
        digest: Digest,
        /// Bytes since the last event.
        bytes: u64,
    },
    /// The target has taken the blob.
    BlobDone {
        /// Which image.
        image: usize,
        /// Which blob.
        digest: Digest,
        /// Its bytes.
        size: u64,
    },
    /// Something failed and is tried again.
    Retried {
        /// Which image.
        image: usize,
        /// What failed, and why.
        error: Error,
        /// The pause before the next try.
        pause: Duration,
    },
    /// Something that the user should know and that is no failure.
    Warning {
        /// Which image.
        image: usize,
        /// One line.
        message: String,
    },
    /// The target's tag is what it should be.
    ImageDone {
        /// Which image.
        image: usize,
        /// What it is.
        digest: Digest,
    },
    /// The image could not be copied.
    ImageFailed {
        /// Which image.
        image: usize,
        /// Why.
        error: Error,
    },
}

/// Tells whoever listens.
#[derive(Clone, Default)]
pub(super) struct Events(Option<Listener>);

type Listener = Arc<dyn Fn(&Event) + Send + Sync>;

impl Events {
    pub(super) fn new(listener: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(listener)))
    }

    pub(super) fn tell(&self, event: &Event) {
        if let Some(listener) = &self.0 {
            listener(event);
        }
    }

    /// Tells of a blob's bytes as they pass.
    pub(super) fn progress(&self, image: usize, digest: Digest) -> Arc<Progress> {
        let events = self.clone();
        Arc::new(Progress::told(move |bytes| events.tell(&Event::BlobProgress { image, digest, bytes })))
    }
}
