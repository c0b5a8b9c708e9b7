//! AWS hosts that no SDK crate here knows: those of services called without an SDK, and the registry's other names. The SDK, which
//! knows every partition, resolves all others.

use aws_config::SdkConfig;
use aws_types::service_config::ServiceConfigKey;

/// The endpoint variants to use (AWS_USE_FIPS_ENDPOINT, AWS_USE_DUALSTACK_ENDPOINT, or the profile's `use_fips_endpoint` and
/// `use_dualstack_endpoint`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Variant {
    /// FIPS: validated cryptography.
    pub fips: bool,
    /// IPv6 in addition to IPv4.
    pub dual_stack: bool,
}

/// A partition of AWS with its own host names
/// (<https://github.com/aws/aws-sdk-rust/blob/main/sdk/aws-config/src/endpoint_lib/partition.rs>).
struct Partition {
    regions: &'static str,
    suffix: &'static str,
    dual_stack: &'static str,
    /// The suffix of its registries' dual-stack names (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/ecr-requests.html>).
    registries: &'static str,
}

/// Matched by the prefix of the region's name. The first match counts.
const PARTITIONS: [Partition; 8] = [
    Partition {
        regions: "cn-",
        suffix: "amazonaws.com.cn",
        dual_stack: "api.amazonwebservices.com.cn",
        registries: "on.amazonwebservices.com.cn",
    },
    Partition { regions: "us-gov-", suffix: "amazonaws.com", dual_stack: "api.aws", registries: "on.aws" },
    Partition {
        regions: "us-iso-",
        suffix: "c2s.ic.gov",
        dual_stack: "api.aws.ic.gov",
        registries: "on.aws.ic.gov",
    },
    Partition {
        regions: "us-isob-",
        suffix: "sc2s.sgov.gov",
        dual_stack: "api.aws.scloud",
        registries: "on.aws.scloud",
    },
    Partition {
        regions: "us-isof-",
        suffix: "csp.hci.ic.gov",
        dual_stack: "api.aws.hci.ic.gov",
        registries: "on.aws.hci.ic.gov",
    },
    Partition {
        regions: "eu-isoe-",
        suffix: "cloud.adc-e.uk",
        dual_stack: "api.cloud-aws.adc-e.uk",
        registries: "on.cloud-aws.adc-e.uk",
    },
    Partition {
        regions: "eusc-",
        suffix: "amazonaws.eu",
        dual_stack: "api.amazonwebservices.eu",
        registries: "on.amazonwebservices.eu",
    },
    Partition { regions: "", suffix: "amazonaws.com", dual_stack: "api.aws", registries: "on.aws" },
];

/// A service's endpoint in the user's settings, read as the SDK's own clients do: AWS_ENDPOINT_URL_<SERVICE>, the profile's
/// `services`, AWS_ENDPOINT_URL, `endpoint_url`; `None` with AWS_IGNORE_CONFIGURED_ENDPOINT_URLS
/// (<https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html>).
pub fn configured(config: &SdkConfig, service: &str) -> Option<String> {
    let key = ServiceConfigKey::builder().service_id(service).env("AWS_ENDPOINT_URL").profile("endpoint_url");
    let key = key.build().ok()?;
    let own = config.service_config().and_then(|of_user| of_user.load_config(key));
    own.or_else(|| config.endpoint_url().map(str::to_owned))
}

fn partition(region: &str) -> &'static Partition {
    let [.., all_others] = &PARTITIONS;
    PARTITIONS.iter().find(|partition| region.starts_with(partition.regions)).unwrap_or(all_others)
}

/// The suffixes of the registries' names in all partitions.
pub(crate) fn registry_ends() -> impl Iterator<Item = &'static str> {
    PARTITIONS.iter().flat_map(|Partition { suffix, registries, .. }| [*suffix, *registries])
}

/// CloudFormation's host.
pub fn cloudformation(region: &str, variant: Variant) -> String {
    let partition = partition(region);
    // In GovCloud the ordinary endpoint is the FIPS one: https://docs.aws.amazon.com/general/latest/gr/cfn.html
    let fips = variant.fips && (variant.dual_stack || partition.regions != "us-gov-");
    host("cloudformation", region, Variant { fips, ..variant })
}

/// KMS's host (<https://docs.aws.amazon.com/general/latest/gr/kms.html>).
pub fn kms(region: &str, variant: Variant) -> String {
    host("kms", region, variant)
}

/// The host of ECR Public's API (<https://docs.aws.amazon.com/general/latest/gr/ecr-public.html>).
pub fn ecr_public(region: &str, variant: Variant) -> String {
    match variant {
        Variant { fips: false, dual_stack: true } => host("ecr-public", region, variant),
        _ => host("api.ecr-public", region, variant),
    }
}

/// A service's host, as most services name it.
fn host(service: &str, region: &str, variant: Variant) -> String {
    let partition = partition(region);
    let fips = if variant.fips { "-fips" } else { "" };
    let suffix = if variant.dual_stack { partition.dual_stack } else { partition.suffix };
    format!("{service}{fips}.{region}.{suffix}")
}

/// The address of the account's registry `host` (`123456789012.dkr.ecr.eu-west-1.amazonaws.com`) for `variant`. `None` if it is the
/// host itself. Images keep the host in their names, as all readers expect.
pub fn registry(host: &str, region: &str, variant: Variant) -> Option<String> {
    let account = host.strip_suffix(&format!(".dkr.ecr.{region}.{}", partition(region).suffix))?;
    let Partition { suffix, registries, .. } = partition(region);
    match (variant.dual_stack, variant.fips) {
        (false, false) => None,
        (false, true) => Some(format!("{account}.dkr.ecr-fips.{region}.{suffix}")),
        (true, false) => Some(format!("{account}.dkr-ecr.{region}.{registries}")),
        (true, true) => Some(format!("{account}.dkr-ecr-fips.{region}.{registries}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Variant = Variant { fips: false, dual_stack: false };
    const FIPS: Variant = Variant { fips: true, dual_stack: false };
    const DUAL: Variant = Variant { fips: false, dual_stack: true };
    const BOTH: Variant = Variant { fips: true, dual_stack: true };

    #[test]
    fn cloudformation_in_every_partition() {
        for (region, variant, host) in [
            ("eu-west-1", PLAIN, "cloudformation.eu-west-1.amazonaws.com"),
            ("us-east-1", FIPS, "cloudformation-fips.us-east-1.amazonaws.com"),
            ("eu-west-1", DUAL, "cloudformation.eu-west-1.api.aws"),
            ("us-east-1", BOTH, "cloudformation-fips.us-east-1.api.aws"),
            ("cn-north-1", PLAIN, "cloudformation.cn-north-1.amazonaws.com.cn"),
            ("cn-north-1", DUAL, "cloudformation.cn-north-1.api.amazonwebservices.com.cn"),
            ("us-gov-west-1", PLAIN, "cloudformation.us-gov-west-1.amazonaws.com"),
            ("us-gov-west-1", FIPS, "cloudformation.us-gov-west-1.amazonaws.com"),
            ("us-gov-west-1", DUAL, "cloudformation.us-gov-west-1.api.aws"),
            ("us-iso-east-1", PLAIN, "cloudformation.us-iso-east-1.c2s.ic.gov"),
            ("us-isob-east-1", PLAIN, "cloudformation.us-isob-east-1.sc2s.sgov.gov"),
            ("eusc-de-east-1", PLAIN, "cloudformation.eusc-de-east-1.amazonaws.eu"),
        ] {
            assert_eq!(cloudformation(region, variant), host);
        }
    }

    #[test]
    fn ecr_publics_api_by_each_of_its_names() {
        for (variant, host) in [
            (PLAIN, "api.ecr-public.us-east-1.amazonaws.com"),
            (DUAL, "ecr-public.us-east-1.api.aws"),
            (FIPS, "api.ecr-public-fips.us-east-1.amazonaws.com"),
            (BOTH, "api.ecr-public-fips.us-east-1.api.aws"),
        ] {
            assert_eq!(ecr_public("us-east-1", variant), host);
        }
    }

    #[test]
    fn the_registry_in_every_partition() {
        let host = |region: &str, suffix: &str| format!("123456789012.dkr.ecr.{region}.{suffix}");
        for (region, suffix, variant, reached) in [
            ("eu-west-1", "amazonaws.com", PLAIN, None),
            ("us-east-1", "amazonaws.com", FIPS, Some("123456789012.dkr.ecr-fips.us-east-1.amazonaws.com")),
            ("eu-west-1", "amazonaws.com", DUAL, Some("123456789012.dkr-ecr.eu-west-1.on.aws")),
            (
                "us-gov-west-1",
                "amazonaws.com",
                FIPS,
                Some("123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com"),
            ),
            ("us-gov-west-1", "amazonaws.com", BOTH, Some("123456789012.dkr-ecr-fips.us-gov-west-1.on.aws")),
            ("cn-north-1", "amazonaws.com.cn", PLAIN, None),
            (
                "cn-north-1",
                "amazonaws.com.cn",
                DUAL,
                Some("123456789012.dkr-ecr.cn-north-1.on.amazonwebservices.com.cn"),
            ),
        ] {
            assert_eq!(registry(&host(region, suffix), region, variant).as_deref(), reached);
        }
        // The emulated registry, and one of another region, stay unchanged.
        assert_eq!(registry("127.0.0.1:4566", "eu-west-1", BOTH), None);
        assert_eq!(registry(&host("eu-west-1", "amazonaws.com"), "eu-west-2", FIPS), None);
    }
}
