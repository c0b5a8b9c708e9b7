//! New things that are not visible everywhere immediately.

use std::sync::Arc;

use super::{Quirk, Shared};

/// Where something new is not visible yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Delay {
    /// The settings of a new bucket.
    Bucket,
    /// The objects of a bucket after versioning was enabled for the first time.
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

    /// Records that something was created: it stays invisible for as many requests as the quirks say.
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

    /// Counts a request for it; returns how many more come too early, if this one does.
    pub(crate) fn left(&self, delay: Delay, key: &str) -> Option<u32> {
        let mut state = self.0.lock();
        let left = state.late.get_mut(&(delay, key.to_owned())).filter(|left| **left > 0)?;
        *left -= 1;
        Some(*left)
    }
}
