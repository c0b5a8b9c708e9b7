//! AWS for one run: credentials and region, ECR, the state bucket with the state and the objects next to it (lease, plan cache),
//! and explanations of AWS's errors.

mod aws_login;
pub mod bucket;
mod credential_endpoint;
pub mod ecr;
pub mod encryption;
pub mod endpoints;
pub mod errors;
pub mod http;
pub mod kms;
pub mod lease;
mod mfa;
mod new_bucket_retries;
pub mod plan_cache;
mod process_id;
pub mod profile;
pub mod registry_settings;
mod resolved;
pub mod scans;
pub mod shard;
pub mod sidecar;
mod signed;
pub mod signing;
pub mod stack;
pub mod state;
pub mod store;
mod waiting;

pub use waiting::Waiting;

use std::sync::Arc;

use anyhow::Context as _;
use aws_config::default_provider::{use_dual_stack, use_fips};
use aws_config::meta::region::ProvideRegion as _;
use aws_config::profile::{ProfileFileCredentialsProvider, ProfileFileRegionProvider};
use aws_config::provider_config::ProviderConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use failure::{FailWith as _, Kind, failure};

use aws_login::Login;
use credential_endpoint::CredentialEndpoint;
use profile::{Profiles, SelectedProfile, Source};
use resolved::Resolved;

/// Services that the started programs use, by the SDKs' names.
const SERVICES: [&str; 5] = ["S3", "STS", "ECR", "KMS", "IAM"];

/// The region if neither the user nor the AWS profile names another.
pub const DEFAULT_REGION: &str = "eu-west-1";

/// The user's AWS options, besides the environment and the profiles.
#[derive(Clone, Debug, Default)]
pub struct Wanted<'a> {
    /// The region.
    pub region: Option<&'a str>,
    /// The profile.
    pub profile: Option<&'a str>,
    /// The credentials must belong to each of these accounts.
    pub accounts: Vec<&'a str>,
}

/// The address of an emulated AWS.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The emulator's address.
    pub url: String,
}

/// The AWS session of this run: credentials, region, account.
#[derive(Clone, Debug)]
pub struct Aws {
    config: SdkConfig,
    region: String,
    identity: Identity,
    other_regions: Vec<OtherRegion>,
    /// `None` with the emulated AWS.
    endpoint: Option<Arc<CredentialEndpoint>>,
}

/// A region that other tools in this shell would use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherRegion {
    /// Where it is set: a variable, or the profile.
    pub by: String,
    /// The region.
    pub region: String,
}

/// The owner of the credentials.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The account's twelve digits.
    pub account: String,
    /// The caller's ARN.
    pub arn: String,
}

impl Identity {
    /// The caller's partition: `aws`, `aws-cn`, `aws-us-gov`.
    pub fn partition(&self) -> &str {
        self.arn.split(':').nth(1).filter(|name| !name.is_empty()).unwrap_or("aws")
    }
}

impl Aws {
    /// Resolves credentials and region, and requests the account from STS.
    ///
    /// # Errors
    /// Credentials are missing, expired or for another account, or STS cannot be reached.
    pub async fn connect(
        wanted: &Wanted<'_>,
        endpoint: Option<&Endpoint>,
        http: reqwest::Client,
        ask: Ask<'_>,
    ) -> anyhow::Result<Self> {
        let Configured { config, region, other_regions, profile, source } = match endpoint {
            Some(endpoint) => emulated(wanted, endpoint, http),
            None => configure(wanted, http, ask).await?,
        };
        let provider = config.credentials_provider().context("no AWS credentials")?;
        let given = provider.provide_credentials().await;
        given.map_err(|error| errors::no_credentials(error, profile.as_deref(), &source))?;
        let identity = identify(&config).await?;
        for expected in &wanted.accounts {
            if identity.account != *expected {
                return Err(failure(
                    Kind::Credentials,
                    format!("the credentials belong to account {}, not to {expected}", identity.account),
                ))
                .hint(
                    Kind::Credentials,
                    "choose other credentials with --profile or AWS_PROFILE; nothing was changed",
                );
            }
        }
        let endpoint = match endpoint {
            Some(_) => None,
            None => Some(Arc::new(CredentialEndpoint::start(provider).await?)),
        };
        Ok(Self { config, region, identity, other_regions, endpoint })
    }

    /// The variables that replace every AWS_* variable for programs started here: they find this run's credentials and endpoints,
    /// and no other AWS settings of this machine.
    pub fn environment(&self) -> Vec<(String, String)> {
        let mut variables: Vec<(String, String)> = [
            ("AWS_REGION", self.region.as_str()),
            ("AWS_DEFAULT_REGION", self.region.as_str()),
            ("AWS_CONFIG_FILE", "/dev/null"),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        let mut set = |name: &str, value: String| variables.push((name.to_owned(), value));
        if let Some(url) = self.config.endpoint_url() {
            set("AWS_ENDPOINT_URL", url.to_owned());
        }
        let Some(endpoint) = &self.endpoint else {
            set("AWS_ACCESS_KEY_ID", EMULATED_KEY.to_owned());
            set("AWS_SECRET_ACCESS_KEY", EMULATED_KEY.to_owned());
            return variables;
        };
        for (name, value) in endpoint.environment() {
            set(name, value);
        }
        for service in SERVICES {
            let own = endpoints::configured(&self.config, service);
            if let Some(url) = own.filter(|url| self.config.endpoint_url() != Some(url)) {
                set(&format!("AWS_ENDPOINT_URL_{service}"), url);
            }
        }
        let variant = self.variant();
        for (name, on) in
            [("AWS_USE_FIPS_ENDPOINT", variant.fips), ("AWS_USE_DUALSTACK_ENDPOINT", variant.dual_stack)]
        {
            if on {
                set(name, "true".to_owned());
            }
        }
        if let Some(bundle) = std::env::var("AWS_CA_BUNDLE").ok().filter(|bundle| !bundle.is_empty()) {
            set("AWS_CA_BUNDLE", bundle);
        }
        variables
    }

    /// The SDK's configuration.
    pub fn config(&self) -> &SdkConfig {
        &self.config
    }

    /// The region.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The owner of the credentials.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The endpoint variants to use.
    pub fn variant(&self) -> endpoints::Variant {
        endpoints::Variant {
            fips: self.config.use_fips().unwrap_or_default(),
            dual_stack: self.config.use_dual_stack().unwrap_or_default(),
        }
    }

    /// Settings that name another region than this run's.
    pub fn other_regions(&self) -> &[OtherRegion] {
        &self.other_regions
    }
}

/// Asks the user a question. `None` if there is no terminal to answer on.
pub type Ask<'a> = &'a (dyn Fn(&str) -> Option<String> + Sync);

/// The access key and secret for the emulated AWS.
const EMULATED_KEY: &str = "local";

/// The result of the user's options, the environment and the profiles.
struct Configured {
    config: SdkConfig,
    region: String,
    other_regions: Vec<OtherRegion>,
    /// The profile that the user named.
    profile: Option<String>,
    source: Source,
}

/// The emulated AWS. No AWS settings are read from the shell, files or the machine: their endpoints, credentials and signature
/// settings are for another AWS.
fn emulated(wanted: &Wanted<'_>, endpoint: &Endpoint, http: reqwest::Client) -> Configured {
    let region = wanted.region.unwrap_or(DEFAULT_REGION).to_owned();
    let keys = Credentials::new(EMULATED_KEY, EMULATED_KEY, None, None, "--local");
    let config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http::for_sdk(http))
        .region(Region::new(region.clone()))
        .endpoint_url(&endpoint.url)
        .credentials_provider(SharedCredentialsProvider::new(keys))
        .build();
    Configured { config, region, other_regions: Vec::new(), profile: None, source: Source::Other }
}

/// aws-config's chain with our HTTP client, the profile that the aws CLI would use, and the region by our precedence.
async fn configure(wanted: &Wanted<'_>, http: reqwest::Client, ask: Ask<'_>) -> anyhow::Result<Configured> {
    let env = |name: &str| std::env::var(name).ok();
    let chosen = profile::chosen(wanted.profile, env);
    let profiles = Profiles::read().await?;
    if let Some(chosen) = &chosen {
        profiles.check(chosen)?;
    }
    let client = http::for_sdk(http);
    let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(client.clone());
    let name = chosen.as_ref().map_or("default", |chosen| chosen.name.as_str());
    match &chosen {
        Some(chosen) => loader = loader.profile_name(&chosen.name),
        None if env("AWS_PROFILE").is_some() => {
            loader = loader.profile_name("default").profile_files(profile::with_a_default());
        }
        None => {}
    }
    if let Some(region) = wanted.region {
        loader = loader.region(Region::new(region.to_owned()));
    }
    let profile_region = profile_region(chosen.as_ref()).await;
    let region =
        wanted.region.map(str::to_owned).or_else(|| env("AWS_REGION")).filter(|region| !region.is_empty());
    let region = region.or_else(|| profile_region.as_ref().map(|by| by.region.clone()));
    let region = Region::new(region.unwrap_or_else(|| DEFAULT_REGION.to_owned()));

    let by_flag = chosen.as_ref().is_some_and(SelectedProfile::by_flag);
    let keys_in_shell = env("AWS_ACCESS_KEY_ID").is_some_and(|key| !key.is_empty());
    let source = if keys_in_shell && !by_flag { Source::Other } else { profiles.source(name) };
    let provider =
        ProviderConfig::without_region().with_region(Some(region.clone())).with_http_client(client.clone());
    let (fips, dual_stack) = (
        use_fips::use_fips_provider(&provider).await,
        use_dual_stack::use_dual_stack_provider(&provider).await,
    );
    let provider = provider.with_use_fips(fips).with_use_dual_stack(dual_stack);
    if let Source::Login { profile } = &source {
        loader = loader.credentials_provider(Login::new(name, profile, region));
    } else if let Source::Role { mfa: Some(serial) } = &source {
        let role = mfa::Role::new(&profiles, name, serial)?;
        loader = loader.credentials_provider(role.assume(&provider, region, client, ask).await?);
    } else if by_flag {
        // The flag has precedence over everything in the shell and in files, including keys in the shell.
        let named = ProfileFileCredentialsProvider::builder().configure(&provider).profile_name(name).build();
        loader = loader.credentials_provider(named);
    }
    let config = loader.load().await;
    let region = config.region().map_or_else(|| DEFAULT_REGION.to_owned(), ToString::to_string);
    let provider = config.credentials_provider();
    let mut config = config.into_builder().region(Region::new(region.clone()));
    if let Some(source) = provider {
        config = config.credentials_provider(SharedCredentialsProvider::new(Resolved::new(source)));
    }
    let other_regions = other_regions(&region, profile_region, env);
    let profile = chosen.map(|chosen| chosen.name);
    Ok(Configured { config: config.build(), region, other_regions, profile, source })
}

/// The region of the shell or the AWS profile, and where it is set, if the user's own options set none.
pub async fn region_of_shell(profile: Option<&str>) -> Option<OtherRegion> {
    let env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    if let Some(region) = env("AWS_REGION") {
        return Some(OtherRegion { by: "AWS_REGION".to_owned(), region });
    }
    profile_region(profile::chosen(profile, env).as_ref()).await
}

/// The region of the profile in use.
async fn profile_region(chosen: Option<&SelectedProfile>) -> Option<OtherRegion> {
    let mut provider = ProfileFileRegionProvider::builder();
    let name = chosen.map_or("default", |chosen| &chosen.name);
    provider = provider.profile_name(name);
    let region = provider.build().region().await?.to_string();
    Some(OtherRegion { by: format!("the AWS profile {name}"), region })
}

/// Regions that other tools in this shell would use, if they differ from the chosen one.
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

async fn identify(config: &SdkConfig) -> anyhow::Result<Identity> {
    let answer = aws_sdk_sts::Client::new(config)
        .get_caller_identity()
        .send()
        .await
        .map_err(|error| errors::explain(error, "sts:GetCallerIdentity"))
        .context("could not look up the account of these AWS credentials")?;
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
