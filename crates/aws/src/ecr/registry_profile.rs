//! Known properties of the registries of Amazon ECR and ECR Public, beyond the protocol.

use registry::{Mounts, Profile, Quotas};

use crate::endpoints::registry_ends;

/// [Amazon ECR's quotas](https://docs.aws.amazon.com/AmazonECR/latest/userguide/service-quotas.html) and differences: repositories
/// must exist before a push, empty blobs are refused, and a mount from the blob's own repository is not documented. The
/// referrers API needs a permission of its own. Layers are stored in S3.
pub const ECR: Profile = Profile {
    quotas: Quotas {
        manifest_reads: Some(2_000),
        manifest_puts: Some(10),
        blob_looks: Some(1_000),
        blob_reads: Some(3_000),
        upload_starts: Some(100),
        upload_ends: Some(100),
    },
    mounts: Mounts::Committed,
    creates_repositories: false,
    answers_probes: false,
    lists_referrers: true,
    takes_empty_blobs: false,
    storage: &[
        ".amazonaws.com",
        ".amazonaws.com.cn",
        ".amazonaws.eu",
        ".c2s.ic.gov",
        ".sc2s.sgov.gov",
        ".csp.hci.ic.gov",
        ".cloud.adc-e.uk",
    ],
};

/// [Amazon ECR Public's quotas](https://docs.aws.amazon.com/AmazonECR/latest/public/public-service-quotas.html).
const ECR_PUBLIC: Profile = Profile {
    quotas: Quotas {
        manifest_reads: None,
        manifest_puts: Some(10),
        blob_looks: None,
        blob_reads: None,
        upload_starts: Some(10),
        upload_ends: Some(10),
    },
    lists_referrers: false,
    storage: &[],
    ..ECR
};

/// The properties of the registry at `host`, if it is one of Amazon's.
pub fn profile(host: &str) -> Option<Profile> {
    // The name for IPv4 only, and the one that also supports IPv6.
    if ["public.ecr.aws", "ecr-public.aws.com"].contains(&host) {
        return Some(ECR_PUBLIC);
    }
    is_ecr(host).then_some(ECR)
}

/// `123456789012.dkr.ecr.eu-west-1.amazonaws.com`, with the variants for FIPS, China and dual stack.
fn is_ecr(host: &str) -> bool {
    let Some((account, rest)) = host.split_once('.') else { return false };
    let named =
        ["dkr.ecr.", "dkr.ecr-fips.", "dkr-ecr.", "dkr-ecr-fips."].iter().any(|name| rest.starts_with(name));
    account.len() == 12
        && account.bytes().all(|byte| byte.is_ascii_digit())
        && named
        && registry_ends().any(|end| rest.strip_suffix(end).is_some_and(|rest| rest.ends_with('.')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ecr_is_detected_by_its_host() {
        assert!(is_ecr("123456789012.dkr.ecr.eu-west-1.amazonaws.com"));
        assert!(is_ecr("123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com"));
        assert!(is_ecr("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn"));
        assert!(is_ecr("123456789012.dkr-ecr.eu-west-1.on.aws"));
        assert!(is_ecr("123456789012.dkr.ecr.eusc-de-east-1.amazonaws.eu"));
        assert!(is_ecr("123456789012.dkr-ecr.eusc-de-east-1.on.amazonwebservices.eu"));
        assert!(is_ecr("123456789012.dkr.ecr.us-iso-east-1.c2s.ic.gov"));
        assert!(!is_ecr("123456789012.dkr.ecr.eu-west-1.evilamazonaws.com"));
        assert!(!is_ecr("public.ecr.aws"));
        assert_eq!(profile("ecr-public.aws.com"), profile("public.ecr.aws"));
        assert!(!is_ecr("123456789012.dkr.ecr.eu-west-1.amazonaws.com.evil.example"));
        assert!(!is_ecr("evil.dkr.ecr.eu-west-1.amazonaws.com"));
        assert_eq!(profile("registry.example"), None);
    }
}
