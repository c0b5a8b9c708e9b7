//! What happens while images are copied.

use std::sync::Arc;
use std::time::Duration;

use crate::digest::Digest;
use crate::error::Error;
use crate::transfer::progress::Progress;

/// Something happened. `image` is the position in the plan; `digest` and `size` (in bytes) are those of the blob.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[expect(missing_docs, reason = "`image`, `digest` and `size` are the same in each")]
pub enum Event {
    /// An image's copy begins.
    ImageStarted {
        image: usize,
        /// Its blobs.
        blobs: usize,
        /// Their bytes.
        bytes: u64,
    },
    /// The target has the blob.
    BlobSkipped { image: usize, digest: Digest, size: u64 },
    /// The target mounted the blob from another of its repositories.
    BlobMounted {
        image: usize,
        digest: Digest,
        size: u64,
        /// The repository that it was mounted from.
        from: String,
    },
    /// Bytes of the blob went to the target. What is sent again after a failure is not counted again: the sum never exceeds
    /// the blob's size and never falls.
    BlobProgress {
        image: usize,
        digest: Digest,
        /// Bytes since the last event.
        bytes: u64,
    },
    /// The blob was sent.
    BlobDone { image: usize, digest: Digest, size: u64 },
    /// Something failed and is tried again.
    Retried {
        image: usize,
        /// What failed, and why.
        error: Error,
        /// The pause before the next try.
        pause: Duration,
    },
    /// Something that the user should know and that is not a failure.
    Warning {
        image: usize,
        /// One line.
        message: String,
    },
    /// The target's tag is what it should be.
    ImageDone {
        image: usize,
        /// The digest that the tag names.
        digest: Digest,
    },
    /// The image could not be copied.
    ImageFailed {
        image: usize,
        /// Why.
        error: Error,
    },
}

/// Tells the listener.
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

    /// Reports a blob's bytes as they pass.
    pub(super) fn progress(&self, image: usize, digest: Digest) -> Arc<Progress> {
        let events = self.clone();
        Arc::new(Progress::told(move |bytes| events.tell(&Event::BlobProgress { image, digest, bytes })))
    }
}
