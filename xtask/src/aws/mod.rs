//! One AWS configuration for the process, and who it speaks for.

pub mod bucket;
pub mod ecr;
pub mod encryption;
pub mod endpoints;
pub mod errors;
pub mod kms;
pub mod lease;
mod patience;
mod process_id;
pub mod proof;
pub mod registry_settings;
pub mod stack;
pub mod state;
pub mod store;

use anyhow::Context as _;
use aws_config::meta::region::ProvideRegion as _;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_ecr::config::Credentials;

use crate::error::{Exit, FailWith as _, failure};
use crate::settings::{DEFAULT_REGION, Settings};

/// Where AWS is, where that is not AWS itself.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The emulator's address.
    pub url: String,
}

/// AWS as this run sees it: credentials, region, account.
#[derive(Clone, Debug)]
pub struct Aws {
    config: SdkConfig,
    region: String,
    identity: Identity,
    other_regions: Vec<OtherRegion>,
}

/// A region that other tools of this shell would work in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherRegion {
    /// Who says so: a variable, or the profile.
    pub by: String,
    /// The region.
    pub region: String,
}

/// Who the credentials belong to.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The account's twelve digits.
    pub account: String,
    /// The caller.
    pub arn: String,
}

impl Identity {
    /// `aws`, `aws-cn`, `aws-us-gov`: the part of AWS that knows the caller.
    pub fn partition(&self) -> &str {
        self.arn.split(':').nth(1).filter(|name| !name.is_empty()).unwrap_or("aws")
    }
}

impl Aws {
    /// Resolves credentials and region, and asks STS whose they are.
    ///
    /// # Errors
    /// No credentials, expired ones, STS out of reach, or another account than `--expect-account` says.
    pub async fn connect(
        settings: &Settings,
        expected_account: Option<&str>,
        endpoint: Option<&Endpoint>,
        http: reqwest::Client,
    ) -> anyhow::Result<Self> {
        let (config, region, other_regions) = configure(settings, endpoint, http).await;
        let identity = identify(&config, profile_name(settings).as_deref()).await?;
        for expected in [settings.expect_account.as_deref(), expected_account].into_iter().flatten() {
            if identity.account != expected {
                return Err(failure(
                    Exit::Credentials,
                    format!("the credentials belong to account {}, not to {expected}", identity.account),
                ))
                .hint(
                    Exit::Credentials,
                    "choose other credentials with --profile or AWS_PROFILE; nothing was changed",
                );
            }
        }
        Ok(Self { config, region, identity, other_regions })
    }

    /// The SDK's configuration.
    pub fn config(&self) -> &SdkConfig {
        &self.config
    }

    /// The region.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// Who the credentials belong to.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Which of a service's endpoints are wanted.
    pub fn variant(&self) -> endpoints::Variant {
        endpoints::Variant {
            fips: self.config.use_fips().unwrap_or_default(),
            dual_stack: self.config.use_dual_stack().unwrap_or_default(),
        }
    }

    /// Who says another region than the one that this run works in.
    pub fn other_regions(&self) -> &[OtherRegion] {
        &self.other_regions
    }
}

/// The chain of aws-config, with our HTTP client, and the region by our precedence.
async fn configure(
    settings: &Settings,
    endpoint: Option<&Endpoint>,
    http: reqwest::Client,
) -> (SdkConfig, String, Vec<OtherRegion>) {
    let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(crate::http::for_sdk(http));
    if let Some(profile) = &settings.profile {
        loader = loader.profile_name(profile);
    }
    if let Some(region) = &settings.region {
        loader = loader.region(Region::new(region.clone()));
    }
    let mut profile = None;
    if let Some(endpoint) = endpoint {
        // The emulator takes any key; the user's own must not even be looked for.
        loader = loader
            .endpoint_url(&endpoint.url)
            .credentials_provider(Credentials::new("local", "local", None, None, "--local"));
        if settings.region.is_none() {
            loader = loader.region(Region::new(DEFAULT_REGION));
        }
    } else {
        profile = profile_region(settings).await;
    }
    let config = loader.load().await;
    let region = config.region().map_or_else(|| DEFAULT_REGION.to_owned(), ToString::to_string);
    let config = config.into_builder().region(Region::new(region.clone())).build();
    let others = other_regions(&region, profile, |name| std::env::var(name).ok());
    (config, region, others)
}

/// The profile that the user chose; the default one otherwise.
fn profile_name(settings: &Settings) -> Option<String> {
    settings.profile.clone().or_else(|| std::env::var("AWS_PROFILE").ok())
}

/// The region of the profile that is in use.
async fn profile_region(settings: &Settings) -> Option<OtherRegion> {
    let mut provider = ProfileFileRegionProvider::builder();
    if let Some(name) = &settings.profile {
        provider = provider.profile_name(name);
    }
    let region = provider.build().region().await?.to_string();
    let by = format!("the AWS profile {}", profile_name(settings).as_deref().unwrap_or("default"));
    Some(OtherRegion { by, region })
}

/// The region chosen here and the one that other tools of this shell would use may differ.
fn other_regions(
    region: &str,
    profile: Option<OtherRegion>,
    env: impl Fn(&str) -> Option<String>,
) -> Vec<OtherRegion> {
    let variable = |name: &str| Some(OtherRegion { by: name.to_owned(), region: env(name)? });
    ["AWS_REGION", "AWS_DEFAULT_REGION"]
        .into_iter()
        .filter_map(variable)
        .chain(profile)
        .filter(|other| !other.region.is_empty() && other.region != region)
        .collect()
}

async fn identify(config: &SdkConfig, profile: Option<&str>) -> anyhow::Result<Identity> {
    let answer = aws_sdk_sts::Client::new(config)
        .get_caller_identity()
        .send()
        .await
        .map_err(|error| errors::explain_with(error, "sts:GetCallerIdentity", profile))
        .context("could not find out whose AWS credentials these are")?;
    let account = answer.account.context("sts:GetCallerIdentity named no account")?;
    Ok(Identity { account, arn: answer.arn.unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_region_in_the_environment_or_the_profile_is_worth_a_warning() {
        let env = |name: &str| (name == "AWS_DEFAULT_REGION").then(|| "us-east-1".to_owned());
        let profile =
            |region: &str| Some(OtherRegion { by: "the AWS profile dev".into(), region: region.into() });
        let by = |others: Vec<OtherRegion>| others.into_iter().map(|other| other.by).collect::<Vec<_>>();
        assert_eq!(by(other_regions("eu-west-1", None, env)), ["AWS_DEFAULT_REGION"]);
        assert_eq!(
            by(other_regions("eu-west-1", profile("eu-west-2"), env)),
            ["AWS_DEFAULT_REGION", "the AWS profile dev"]
        );
        assert!(other_regions("us-east-1", profile("us-east-1"), env).is_empty());
    }
}
