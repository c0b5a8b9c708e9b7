//! A role that requires an MFA code, which the SDK does not ask for.

use anyhow::Context as _;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use failure::{FailWith as _, Kind, failure};

use super::aws_login::Login;
use super::errors::explain;
use super::profile::{Profiles, Source};
use super::{Ask, errors};

/// A profile's role and the settings to assume it
/// (<https://docs.aws.amazon.com/cli/latest/userguide/cli-configure-role.html#cli-configure-role-mfa>).
pub(super) struct Role {
    profile: String,
    arn: String,
    serial: String,
    base: Base,
    session: Option<String>,
    external_id: Option<String>,
    seconds: Option<i32>,
}

/// The credentials that assume the role.
enum Base {
    Profile(String),
    Login { profile: String, login: String },
    Keys(Credentials),
    Environment,
}

impl Role {
    /// The role of `profile`, which requires a code of the device `serial`.
    ///
    /// # Errors
    /// The credentials that assume the role cannot be used here.
    pub(super) fn new(profiles: &Profiles, profile: &str, serial: &str) -> anyhow::Result<Self> {
        let get = |key: &str| profiles.get(profile, key).map(str::to_owned);
        let unusable = |why: String| {
            Err(failure(Kind::Credentials, format!("the AWS profile {profile} wants an MFA code, and {why}")))
                .hint(Kind::Credentials, handing_over(profile))
        };
        let base = match (get("source_profile"), get("credential_source").as_deref()) {
            (Some(source), _) if source == profile => {
                let key = get("aws_access_key_id").zip(get("aws_secret_access_key"));
                let (id, secret) =
                    key.with_context(|| format!("the AWS profile {profile} has no keys of its own"))?;
                Base::Keys(Credentials::new(id, secret, get("aws_session_token"), None, "profile"))
            }
            (Some(source), _) => match profiles.source(&source) {
                Source::Role { mfa: Some(_) } => {
                    return unusable(format!("so does its source_profile {source}"));
                }
                Source::Login { profile: login } => Base::Login { profile: source, login },
                _ => Base::Profile(source),
            },
            (None, Some("Environment")) => Base::Environment,
            (None, other) => {
                return unusable(format!("its credential_source is {}", other.unwrap_or("not set")));
            }
        };
        Ok(Self {
            profile: profile.to_owned(),
            arn: get("role_arn").unwrap_or_default(),
            serial: serial.to_owned(),
            base,
            session: get("role_session_name"),
            external_id: get("external_id"),
            seconds: get("duration_seconds").and_then(|seconds| seconds.parse().ok()),
        })
    }

    /// Asks for the code and assumes the role.
    ///
    /// # Errors
    /// There is no user to enter the code, or AWS refuses it.
    pub(super) async fn assume(
        &self,
        provider: &ProviderConfig,
        region: Region,
        client: SharedHttpClient,
        ask: Ask<'_>,
    ) -> anyhow::Result<Credentials> {
        let question = format!("MFA code of {} for the AWS profile {}:", self.serial, self.profile);
        let Some(code) = ask(&question).filter(|code| !code.is_empty()) else {
            return Err(failure(
                Kind::Credentials,
                format!(
                    "the AWS profile {} wants a code of the MFA device {}, and there is no terminal to type it on",
                    self.profile, self.serial
                ),
            ))
            .hint(Kind::Credentials, handing_over(&self.profile));
        };
        let base = match &self.base {
            Base::Keys(keys) => SharedCredentialsProvider::new(keys.clone()),
            Base::Environment => {
                SharedCredentialsProvider::new(EnvironmentVariableCredentialsProvider::new())
            }
            Base::Login { profile, login } => {
                SharedCredentialsProvider::new(Login::new(profile, login, region.clone()))
            }
            Base::Profile(name) => SharedCredentialsProvider::new(
                ProfileFileCredentialsProvider::builder().configure(provider).profile_name(name).build(),
            ),
        };
        let given = base.provide_credentials().await;
        let keys =
            given.map_err(|error| errors::no_credentials(error, Some(&self.profile), &Source::Other))?;
        let config = self.config(keys, region, client).await;
        let session =
            self.session.clone().unwrap_or_else(|| format!("htc-grid-images-{}", std::process::id()));
        let request = aws_sdk_sts::Client::new(&config)
            .assume_role()
            .role_arn(&self.arn)
            .role_session_name(session)
            .serial_number(&self.serial)
            .token_code(code)
            .set_external_id(self.external_id.clone())
            .set_duration_seconds(self.seconds);
        let answer = request
            .send()
            .await
            .map_err(|error| explain(error, "sts:AssumeRole"))
            .context("could not assume the role")?;
        let given = answer.credentials.context("sts:AssumeRole gave no credentials")?;
        let end = std::time::SystemTime::try_from(given.expiration).ok();
        Ok(Credentials::new(
            given.access_key_id,
            given.secret_access_key,
            Some(given.session_token),
            end,
            "a role with MFA",
        ))
    }

    /// The profile's settings with the keys that assume the role.
    async fn config(&self, keys: Credentials, region: Region, client: SharedHttpClient) -> SdkConfig {
        aws_config::defaults(BehaviorVersion::latest())
            .http_client(client)
            .region(region)
            .profile_name(&self.profile)
            .credentials_provider(keys)
            .load()
            .await
    }
}

fn handing_over(profile: &str) -> String {
    format!(
        "an MFA code is asked for on a terminal alone; elsewhere hand a session over: \
         `eval \"$(aws configure export-credentials --format env --profile {profile})\"`"
    )
}
