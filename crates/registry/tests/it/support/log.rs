//! The requests to a registry, and their results.

use std::sync::{Arc, MutexGuard};
use std::time::Instant;

use hyper::HeaderMap;

use super::fake::{Inner, Shared};

/// A request.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub kind: &'static str,
    pub at: Instant,
    pub headers: HeaderMap,
    /// The reply's status, once it exists.
    pub status: Option<u16>,
}

/// The requests since the last [`Log::forget`], and the faults that have happened.
pub struct Log(pub(super) Arc<Shared>);

impl Log {
    fn state(&self) -> MutexGuard<'_, Inner> {
        self.0.state.lock().unwrap()
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.state().seen.clone()
    }

    /// The number of times that a fault happened.
    pub fn fired(&self) -> usize {
        self.state().rules.iter().map(|rule| rule.fired).sum()
    }

    /// Ends when the first fault has happened.
    pub async fn fires(&self) {
        let mut fired = self.0.fired.subscribe();
        fired.wait_for(|count| *count > 0).await.unwrap();
    }

    /// The number of requests of a kind: `count("PUT manifests")`.
    pub fn count(&self, what: &str) -> usize {
        let (method, kind) = what.split_once(' ').unwrap();
        self.state().seen.iter().filter(|seen| seen.method == method && seen.kind == kind).count()
    }

    /// The number of requests of a kind that were answered with this status.
    pub fn answered(&self, what: &str, status: u16) -> usize {
        let (method, kind) = what.split_once(' ').unwrap();
        let state = self.state();
        let seen = state.seen.iter().filter(|seen| seen.method == method && seen.kind == kind);
        seen.filter(|seen| seen.status == Some(status)).count()
    }

    /// The number of requests by kind.
    pub fn counts(&self) -> String {
        let mut counts = std::collections::BTreeMap::new();
        for seen in &self.state().seen {
            *counts.entry(format!("{} {}", seen.method, seen.kind)).or_insert(0) += 1;
        }
        counts.into_iter().map(|(what, count)| format!("{what} {count}")).collect::<Vec<_>>().join(", ")
    }

    pub fn forget(&self) {
        self.state().seen.clear();
    }
}
