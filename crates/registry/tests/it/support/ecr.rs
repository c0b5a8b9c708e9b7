//! The profile of Amazon ECR for the tests; the crate `aws` decides which hosts have it.

use registry::{Mounts, Profile, Quotas};

/// The behaviour of Amazon ECR.
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
