//! What the caller knows: what earlier runs learned, and which blobs and tags exist.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use super::Platforms;
use crate::BoxFuture;
use crate::digest::Digest;
use crate::error::BoxError;
use crate::manifest::Manifest;
use crate::reference::Reference;

/// What earlier runs learned: above all which manifest a target must have for a source's digest, so that an index need not be
/// read to know that there is nothing to do. Losing it costs one GET per image.
pub trait Mapping: Send + Sync {
    /// The digest that the target must have for `platforms` of `source`.
    fn get(&self, source: Digest, platforms: &Platforms) -> Option<Digest>;

    /// Remembers it.
    fn put(&self, source: Digest, platforms: &Platforms, wanted: Digest);

    /// Whether `digest` was made from `source`, for any platforms.
    fn is_made_of(&self, digest: Digest, source: Digest) -> bool;

    /// What the source's name last pointed to.
    fn source_digest(&self, source: &Reference) -> Option<Digest>;

    /// Remembers it.
    fn record_source_digest(&self, source: &Reference, digest: Digest);

    /// The blobs of the manifest `digest`, if it was ever copied: a repository that has it has them.
    fn blobs(&self, digest: Digest) -> Vec<Digest>;

    /// Remembers them.
    fn record_blobs(&self, digest: Digest, blobs: Vec<Digest>);

    /// What the last run left at `target`.
    fn target_digest(&self, target: &Reference) -> Option<Digest>;

    /// Remembers it.
    fn record_target_digest(&self, target: &Reference, digest: Digest);

    /// A manifest that an earlier run read.
    fn manifest(&self, digest: Digest) -> Option<Manifest>;

    /// Remembers it, because its registry counts how often manifests are read.
    fn record_manifest(&self, manifest: &Manifest);

    /// Whether the artifacts of the manifest `target`, named by its digest, were looked for in `source`'s repository and
    /// copied.
    fn has_artifacts(&self, source: &Reference, target: &Reference) -> bool;

    /// Remembers it.
    fn record_artifacts(&self, source: &Reference, target: &Reference);

    /// Nothing more comes for now: what is remembered has to outlive the process.
    fn flush(&self) {}
}

/// A [`Mapping`] that ends with the process.
#[derive(Debug, Default)]
pub struct MemoryMapping {
    wanted: Mutex<HashMap<(Digest, Platforms), Digest>>,
    meant: Mutex<HashMap<Reference, Digest>>,
    blobs: Mutex<HashMap<Digest, Vec<Digest>>>,
    placed: Mutex<HashMap<Reference, Digest>>,
    manifests: Mutex<HashMap<Digest, Manifest>>,
    artifacts: Mutex<HashSet<(String, String, Reference)>>,
}

/// The key of artifacts: their source and their subject.
fn about(source: &Reference, target: &Reference) -> (String, String, Reference) {
    (source.registry().to_owned(), source.repository().to_owned(), target.clone())
}

impl Mapping for MemoryMapping {
    fn get(&self, source: Digest, platforms: &Platforms) -> Option<Digest> {
        let wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.get(&(source, platforms.clone())).copied()
    }

    fn put(&self, source: Digest, platforms: &Platforms, digest: Digest) {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.insert((source, platforms.clone()), digest);
    }

    fn is_made_of(&self, digest: Digest, source: Digest) -> bool {
        let wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.iter().any(|((of, _), wanted)| (*of, *wanted) == (source, digest))
    }

    fn source_digest(&self, source: &Reference) -> Option<Digest> {
        self.meant.lock().unwrap_or_else(PoisonError::into_inner).get(source).copied()
    }

    fn record_source_digest(&self, source: &Reference, digest: Digest) {
        self.meant.lock().unwrap_or_else(PoisonError::into_inner).insert(source.clone(), digest);
    }

    fn blobs(&self, digest: Digest) -> Vec<Digest> {
        self.blobs.lock().unwrap_or_else(PoisonError::into_inner).get(&digest).cloned().unwrap_or_default()
    }

    fn record_blobs(&self, digest: Digest, blobs: Vec<Digest>) {
        self.blobs.lock().unwrap_or_else(PoisonError::into_inner).insert(digest, blobs);
    }

    fn target_digest(&self, target: &Reference) -> Option<Digest> {
        self.placed.lock().unwrap_or_else(PoisonError::into_inner).get(target).copied()
    }

    fn record_target_digest(&self, target: &Reference, digest: Digest) {
        self.placed.lock().unwrap_or_else(PoisonError::into_inner).insert(target.clone(), digest);
    }

    fn manifest(&self, digest: Digest) -> Option<Manifest> {
        self.manifests.lock().unwrap_or_else(PoisonError::into_inner).get(&digest).cloned()
    }

    fn record_manifest(&self, manifest: &Manifest) {
        let mut manifests = self.manifests.lock().unwrap_or_else(PoisonError::into_inner);
        manifests.insert(manifest.digest(), manifest.clone());
    }

    fn has_artifacts(&self, source: &Reference, target: &Reference) -> bool {
        let artifacts = self.artifacts.lock().unwrap_or_else(PoisonError::into_inner);
        artifacts.contains(&about(source, target))
    }

    fn record_artifacts(&self, source: &Reference, target: &Reference) {
        self.artifacts.lock().unwrap_or_else(PoisonError::into_inner).insert(about(source, target));
    }
}

/// A registry's bulk form of asking for blobs; ECR's is
/// [BatchCheckLayerAvailability](https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_BatchCheckLayerAvailability.html).
pub trait BlobIndex: Send + Sync {
    /// Those of `digests` (at most `BATCH`) that the repository has, each with its length in bytes if the
    /// registry says it; `None` if this registry has no such form, and the mirror asks by the protocol.
    fn sizes<'a>(&'a self, repository: &'a Reference, digests: &'a [Digest]) -> Sizes<'a>;
}

/// What [`BlobIndex::sizes`] returns.
pub type Sizes<'a> = BoxFuture<'a, Result<Option<HashMap<Digest, Option<u64>>>, BoxError>>;

/// A registry's bulk form of asking what tags mean; ECR's are
/// [ListImages](https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_ListImages.html) and
/// [BatchGetImage](https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_BatchGetImage.html).
pub trait TagIndex: Send + Sync {
    /// What `tags` of the repository point to; `None` for one that does not exist. A tag that is left out is not known, and the
    /// mirror asks by the protocol; `None` instead of a map if this registry has no such form.
    fn tags<'a>(
        &'a self,
        repository: &'a Reference,
        tags: &'a [String],
    ) -> BoxFuture<'a, Option<HashMap<String, Option<Digest>>>>;
}

impl dyn BlobIndex {
    /// Digests in one question: ECR's limit.
    pub const BATCH: usize = 100;
}
