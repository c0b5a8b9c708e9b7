//! What is known of a registry beyond the protocol. Which registry is whose, the caller says.

use std::sync::Arc;

/// How a registry differs from one of which nothing is known ([`Profile::default`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// How many requests a second it allows from the start.
    pub quotas: Quotas,
    /// Whether it takes blobs from its other repositories.
    pub mounts: Mounts,
    /// Whether a push makes the repository. Then a refused look at one is no more than advice: Quay and GitLab refuse whoever
    /// looks for a repository that is not there yet and may be pushed to.
    pub creates_repositories: bool,
    /// Whether a mount from a blob's own repository is a way to ask for the blob: one request, where a look and the start of an
    /// upload are two.
    pub answers_probes: bool,
    /// Whether a blob may have no bytes.
    pub takes_empty_blobs: bool,
    /// How the names of the hosts end that it keeps blobs at. They may lead into the caller's own network, even where the registry's
    /// name does not.
    pub storage: &'static [&'static str],
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            quotas: Quotas::default(),
            mounts: Mounts::Anytime,
            creates_repositories: true,
            answers_probes: true,
            takes_empty_blobs: true,
            storage: &[],
        }
    }
}

/// Requests a second that a registry allows, each kind counted for itself; none: no quota is known.
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

/// Whether a registry takes a blob from another of its repositories instead of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mounts {
    /// As soon as the blob is there.
    Anytime,
    /// Once a manifest names the blob
    /// ([Amazon ECR](https://docs.aws.amazon.com/AmazonECR/latest/userguide/blob-mounting.html), where the account has it switched on).
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
