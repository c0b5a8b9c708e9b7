//! What is known of a registry beyond the protocol. The caller says which registry has which profile.

use std::sync::Arc;

/// How a registry differs from one of which nothing is known ([`Profile::default`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// How many requests a second it allows.
    pub quotas: Quotas,
    /// Whether it mounts blobs from its other repositories.
    pub mounts: Mounts,
    /// Whether a push creates the repository. Then a refused read is not final: Quay and GitLab refuse to read a repository
    /// that does not exist yet and may be pushed to.
    pub creates_repositories: bool,
    /// Whether a mount from a blob's own repository says whether it has the blob: one request instead of a HEAD and the start
    /// of an upload.
    pub answers_probes: bool,
    /// Whether it has the referrers API. Then a refused query is final. From other registries it may mean that they do not know the
    /// API.
    pub lists_referrers: bool,
    /// Whether it accepts blobs of zero bytes.
    pub takes_empty_blobs: bool,
    /// The endings of the names of the hosts that it keeps blobs at. They may lead into the caller's own network, even if the
    /// registry's name does not.
    pub storage: &'static [&'static str],
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            quotas: Quotas::default(),
            mounts: Mounts::Anytime,
            creates_repositories: true,
            answers_probes: true,
            lists_referrers: false,
            takes_empty_blobs: true,
            storage: &[],
        }
    }
}

/// Requests a second that a registry allows, each kind counted separately; `None`: no quota is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quotas {
    /// Manifests that are looked for or read.
    pub manifest_reads: Option<u32>,
    /// Manifests that are put.
    pub manifest_puts: Option<u32>,
    /// Blobs that are looked for.
    pub blob_looks: Option<u32>,
    /// Blobs that are read.
    pub blob_reads: Option<u32>,
    /// Uploads that begin.
    pub upload_starts: Option<u32>,
    /// Uploads that end.
    pub upload_ends: Option<u32>,
}

/// When a registry mounts a blob from another of its repositories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mounts {
    /// As soon as the repository has the blob.
    Anytime,
    /// Once a manifest names the blob ([Amazon ECR](https://docs.aws.amazon.com/AmazonECR/latest/userguide/blob-mounting.html),
    /// if the account has it switched on).
    Committed,
    /// Never: each repository gets the bytes.
    Never,
}

/// Tells registries by their hosts.
type Known = Arc<dyn Fn(&str) -> Option<Profile> + Send + Sync>;

/// The profiles of all registries.
#[derive(Clone, Default)]
pub(crate) struct Profiles(Option<Known>);

impl Profiles {
    pub(crate) fn new(known: impl Fn(&str) -> Option<Profile> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(known)))
    }

    /// The profile of the registry at `host`.
    pub(crate) fn of(&self, host: &str) -> Profile {
        self.0.as_ref().and_then(|known| known(host)).unwrap_or_default()
    }
}
