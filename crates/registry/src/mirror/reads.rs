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
pub(super) struct Reads(Mutex<HashMap<(String, String, Digest), Cell>>);

impl Reads {
    /// The manifest `digest` of `source`'s repository: by `read`, or what that gave to whoever asked first. A failure is theirs, too:
    /// hundreds of names of one image do not ask for it hundreds of times.
    pub(super) async fn read(
        &self,
        source: &Reference,
        digest: Digest,
        read: impl Future<Output = Result<Manifest, Error>>,
    ) -> Result<Manifest, Error> {
        let key = (source.registry().to_owned(), source.repository().to_owned(), digest);
        let cell = {
            let mut cells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(cells.entry(key).or_default())
        };
        cell.get_or_init(|| read).await.clone()
    }
}
