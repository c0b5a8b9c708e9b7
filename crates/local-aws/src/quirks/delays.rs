//! What was just made and is not seen everywhere at once.

use std::sync::Arc;

use super::{Quirk, Shared};

/// Where something new is not seen yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Delay {
    /// The settings of a new bucket.
    Bucket,
    /// The objects of a bucket whose versioning was switched on for the first time.
    Versions,
    /// A new repository in the registry.
    Repository,
    /// A new repository or rule in listings.
    Listing,
    /// The signatures of a new image.
    Signing,
}

pub(crate) struct Delays(Arc<Shared>);

impl Delays {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self(Arc::clone(shared))
    }

    /// Something was made: it is late for as many requests as the quirks say.
    pub(crate) fn begin(&self, delay: Delay, key: &str) {
        let mut state = self.0.lock();
        let requests = state.find(|quirk| match (quirk, delay) {
            (Quirk::YoungBucket(requests), Delay::Bucket | Delay::Versions)
            | (Quirk::EventualConsistency(requests), Delay::Repository)
            | (Quirk::LateListing(requests), Delay::Listing)
            | (Quirk::SlowSigning(requests), Delay::Signing) => Some(*requests),
            _ => None,
        });
        if let Some(requests) = requests {
            state.late.insert((delay, key.to_owned()), requests);
        }
    }

    /// Counts a request for it; where it comes too early, how many more do.
    pub(crate) fn left(&self, delay: Delay, key: &str) -> Option<u32> {
        let mut state = self.0.lock();
        let left = state.late.get_mut(&(delay, key.to_owned())).filter(|left| **left > 0)?;
        *left -= 1;
        Some(*left)
    }
}
