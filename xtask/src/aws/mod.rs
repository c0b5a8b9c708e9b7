//! One AWS configuration for the process, and who it speaks for.

pub mod bucket;
pub mod ecr;
pub mod errors;
pub mod kms;
pub mod lease;
mod process_id;
pub mod proof;
pub mod registry_settings;
pub mod stack;
pub mod state;

use anyhow::Context as _;
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
    warnings: Vec<String>,
}

/// Who the credentials belong to.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The account's twelve digits.
    pub account: String,
    /// The caller.
    pub arn: String,
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
        let (config, region, warnings) = configure(settings, endpoint, http).await;
        let identity = identify(&config).await?;
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
        Ok(Self { config, region, identity, warnings })
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

    /// What the user should know before agreeing to anything.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// The chain of aws-config, with our HTTP client, and the region by our precedence.
async fn configure(
    settings: &Settings,
    endpoint: Option<&Endpoint>,
    http: reqwest::Client,
) -> (SdkConfig, String, Vec<String>) {
    let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(crate::http::for_sdk(http));
    if let Some(profile) = &settings.profile {
        loader = loader.profile_name(profile);
    }
    if let Some(region) = &settings.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(endpoint) = endpoint {
        // The emulator takes any key; the user's own must not even be looked for.
        loader = loader
            .endpoint_url(&endpoint.url)
            .credentials_provider(Credentials::new("local", "local", None, None, "--local"));
        if settings.region.is_none() {
            loader = loader.region(Region::new(DEFAULT_REGION));
        }
    }
    let config = loader.load().await;
    let region = config.region().map_or_else(|| DEFAULT_REGION.to_owned(), ToString::to_string);
    let config = config.into_builder().region(Region::new(region.clone())).build();
    (config, region.clone(), region_warnings(&region, |name| std::env::var(name).ok()))
}

/// The region chosen here and the one that other tools of this shell would use may differ.
fn region_warnings(region: &str, env: impl Fn(&str) -> Option<String>) -> Vec<String> {
    ["AWS_REGION", "AWS_DEFAULT_REGION"]
        .into_iter()
        .filter_map(|name| {
            env(name).filter(|value| !value.is_empty() && value != region).map(|value| (name, value))
        })
        .map(|(name, value)| format!("{name} is {value}, this run works in {region}"))
        .collect()
}

async fn identify(config: &SdkConfig) -> anyhow::Result<Identity> {
    let answer = aws_sdk_sts::Client::new(config)
        .get_caller_identity()
        .send()
        .await
        .map_err(|error| errors::explain(error, "sts:GetCallerIdentity"))
        .context("could not find out whose AWS credentials these are")?;
    let account = answer.account.context("sts:GetCallerIdentity named no account")?;
    Ok(Identity { account, arn: answer.arn.unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_region_in_the_environment_is_worth_a_warning() {
        let env = |name: &str| (name == "AWS_DEFAULT_REGION").then(|| "us-east-1".to_owned());
        assert_eq!(
            region_warnings("eu-west-1", env),
            ["AWS_DEFAULT_REGION is us-east-1, this run works in eu-west-1"]
        );
        assert!(region_warnings("us-east-1", env).is_empty());
    }
}
