//! Records requests to the server: counters and a bounded list, for tests and for the check of the IAM policy.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

/// Most requests that are kept. A whole transfer has some hundreds.
const KEPT: usize = 20_000;

/// One request and its result.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Entry {
    /// Its number since the start of the server, from 1.
    pub(crate) number: u64,
    pub(crate) time: String,
    /// `ecr`, `s3`, `oci`, `layers` ...
    pub(crate) service: String,
    /// `CreateRepository`, `PutObject`, `HEAD manifest` ...
    pub(crate) action: String,
    /// The IAM actions that AWS checks in the caller's policy.
    pub(crate) iam: Vec<String>,
    /// The repository, bucket and key, or key ID: the resource for an IAM statement.
    pub(crate) resource: String,
    pub(crate) region: String,
    pub(crate) principal: String,
    pub(crate) method: String,
    /// Without the query, because a presigned one is a secret.
    pub(crate) path: String,
    pub(crate) status: u16,
    /// The error's code, if there was one.
    pub(crate) error: String,
}

#[derive(Default)]
struct Inner {
    number: u64,
    counters: BTreeMap<String, u64>,
    entries: VecDeque<Entry>,
}

#[derive(Default)]
pub(crate) struct Journal(Mutex<Inner>);

impl Journal {
    pub(crate) fn record(&self, mut entry: Entry) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.number += 1;
        entry.number = inner.number;
        entry.time = crate::time::iso8601(crate::time::now_millis());
        let separator = if matches!(entry.service.as_str(), "oci" | "layers") { ' ' } else { '.' };
        *inner.counters.entry(format!("{}{separator}{}", entry.service, entry.action)).or_default() += 1;
        if inner.entries.len() == KEPT {
            inner.entries.pop_front();
        }
        inner.entries.push_back(entry);
    }

    pub(crate) fn counters(&self) -> BTreeMap<String, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).counters.clone()
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entries.iter().cloned().collect()
    }

    pub(crate) fn reset(&self) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.counters.clear();
        inner.entries.clear();
    }
}
