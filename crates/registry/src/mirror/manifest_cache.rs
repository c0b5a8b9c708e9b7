//! The manifests that a plan reads: one that several images have in common is read, and counted as a pull, once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

use crate::digest::Digest;
use crate::error::Error;
use crate::manifest::Manifest;
use crate::reference::Reference;

type Cell = Arc<OnceCell<Result<Manifest, Error>>>;

/// What was read, by registry, repository and digest.
#[derive(Default)]
pub(super) struct ManifestCache(Mutex<HashMap<(String, String, Digest), Cell>>);

impl ManifestCache {
    /// The manifest `digest` of `source`'s repository: by `read`, or by that of the first caller. A failure is shared, too:
    /// hundreds of names of one image do not ask for it hundreds of times.
    pub(super) async fn read(
        &self,
        source: &Reference,
        digest: Digest,
        read: impl Future<Output = Result<Manifest, Error>>,
    ) -> Result<Manifest, Error> {
        self.cell(source, digest).get_or_init(|| read).await.clone()
    }

    /// Keeps one that was read elsewhere, unless it was read already.
    pub(super) fn keep(&self, source: &Reference, manifest: Manifest) {
        // What is there is the same.
        let _ = self.cell(source, manifest.digest()).set(Ok(manifest));
    }

    fn cell(&self, source: &Reference, digest: Digest) -> Cell {
        let key = (source.registry().to_owned(), source.repository().to_owned(), digest);
        let mut cells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(cells.entry(key).or_default())
    }
}
