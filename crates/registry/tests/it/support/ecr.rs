//! The profile of Amazon ECR as the tests have it; whose it is, the crate `aws` says.

use registry::{Mounts, Profile, Quotas};

/// The ways of Amazon ECR.
pub const ECR: Profile = Profile {
    quotas: Quotas {
        manifest_reads: None,
        manifest_puts: Some(10),
        blob_looks: None,
        blob_reads: None,
        upload_starts: Some(100),
        upload_ends: Some(100),
    },
    mounts: Mounts::Committed,
    creates_repositories: false,
    answers_probes: false,
    lists_referrers: true,
    takes_empty_blobs: false,
    storage: &[".amazonaws.com"],
};
