//! Progress of a blob, over all tries.

use std::sync::atomic::{AtomicU64, Ordering};

/// Reports a blob's bytes over all tries: what is sent again does not count again.
#[derive(Default)]
pub(crate) struct Progress {
    highest: AtomicU64,
    told: Option<Box<dyn Fn(u64) + Send + Sync>>,
}

impl Progress {
    /// Calls `told` with the number of new bytes.
    pub(crate) fn told(told: impl Fn(u64) + Send + Sync + 'static) -> Self {
        Self { told: Some(Box::new(told)), ..Self::default() }
    }

    pub(super) fn advance(&self, to: u64) {
        let new = to.saturating_sub(self.highest.fetch_max(to, Ordering::Relaxed));
        if let Some(told) = self.told.as_ref().filter(|_| new > 0) {
            told(new);
        }
    }
}
