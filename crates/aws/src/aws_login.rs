//! Credentials of `aws login`, read through the aws CLI.
//!
//! The SDK reads such sessions only with a feature that adds a second crypto library. The CLI created the session, so it is called
//! like a `credential_process` (<https://docs.aws.amazon.com/cli/latest/reference/configure/export-credentials.html>).

use std::time::SystemTime;

use aws_config::Region;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, Result, future};
use process::{Cmd, ProcessError, blocking, by_shell, env_remove_all};
use serde::Deserialize;

/// The first versions that read sessions of `aws login`, by the first number of a version
/// (<https://docs.aws.amazon.com/cli/latest/userguide/cli-configure-sign-in.html>).
const LEAST: (u32, u32) = (2, 32);

/// Why the aws CLI returns no credentials.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoginError {
    /// It is not installed, or cannot be started.
    #[error("the AWS profile {profile} is of `aws login`, whose credentials the aws CLI hands over")]
    NoCli {
        /// The profile of the login.
        profile: String,
        /// Why it did not start.
        source: ProcessError,
    },
    /// Its version is older than `aws login`.
    #[error("the AWS profile {profile} is of `aws login`, which {version} does not know")]
    TooOld {
        /// The profile of the login.
        profile: String,
        /// Its version.
        version: String,
    },
    /// It refuses; usually the session has expired.
    #[error("the aws CLI hands over no credentials of the AWS profile {profile}: {words}")]
    Refused {
        /// The profile of the login.
        profile: String,
        /// The last line of its stderr.
        words: String,
    },
    /// Its output cannot be read as credentials. The output is not shown, because it may contain a secret.
    #[error("what the aws CLI printed for the AWS profile {profile} are no credentials")]
    Unreadable {
        /// The profile of the login.
        profile: String,
    },
}

impl LoginError {
    /// What the user can do.
    pub(super) fn hint(&self) -> String {
        match self {
            Self::NoCli { .. } | Self::TooOld { .. } | Self::Unreadable { .. } => {
                format!(
                    "install the aws CLI {}.{} or newer, or use another profile with --profile",
                    LEAST.0, LEAST.1
                )
            }
            Self::Refused { profile, .. } => {
                format!("run `aws login --profile {}`, then run this command again", quoted(profile))
            }
        }
    }
}

/// A profile's name, quoted for a shell.
pub(super) fn quoted(profile: &str) -> String {
    if profile.contains(char::is_whitespace) { format!("{profile:?}") } else { profile.to_owned() }
}

/// Calls the aws CLI for the credentials of a profile on every request.
#[derive(Clone, Debug)]
pub(super) struct Login {
    /// The profile to get credentials for: the login's own, or one that assumes a role with it.
    profile: String,
    /// The profile of the login.
    login: String,
    region: Region,
}

impl Login {
    /// Credentials of `profile`, which is `login` or assumes a role with it, with requests to `region`.
    pub(super) fn new(profile: &str, login: &str, region: Region) -> Self {
        Self { profile: profile.to_owned(), login: login.to_owned(), region }
    }

    fn ask(&self) -> std::result::Result<Credentials, LoginError> {
        let export = cli().args(["configure", "export-credentials", "--format", "process"]).args([
            "--profile",
            &self.profile,
            "--region",
            self.region.as_ref(),
        ]);
        let profile = || self.login.clone();
        let ended = export.end().map_err(|source| LoginError::NoCli { profile: profile(), source })?;
        if ended.success {
            return parsed(&ended.stdout).ok_or_else(|| LoginError::Unreadable { profile: profile() });
        }
        // A CLI older than `aws login` reports missing credentials or an unknown command.
        match cli().arg("--version").read() {
            Ok(version) if is_too_old(&version) => {
                let version = version.split_whitespace().next().unwrap_or_default().to_owned();
                Err(LoginError::TooOld { profile: profile(), version })
            }
            _ => {
                let words = ended.stderr.lines().rev().find(|line| !line.trim().is_empty());
                let words = words.unwrap_or("it does not say why").trim().to_owned();
                Err(LoginError::Refused { profile: profile(), words })
            }
        }
    }

    async fn credentials(&self) -> Result {
        let login = self.clone();
        blocking(move || login.ask()).await.map_err(CredentialsError::provider_error)
    }
}

impl ProvideCredentials for Login {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.credentials())
    }
}

/// The aws CLI, limited to this shell's files and sessions: a CLI without `aws login` would try the credentials of the machine or
/// the container, which may belong to another identity.
fn cli() -> Cmd {
    env_remove_all(by_shell("aws"), "AWS_CONTAINER_")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_PAGER", "")
        .env_remove("AWS_ACCESS_KEY_ID")
        .env_remove("AWS_SECRET_ACCESS_KEY")
        .env_remove("AWS_SESSION_TOKEN")
}

/// The output of a `credential_process` (<https://docs.aws.amazon.com/sdkref/latest/guide/feature-process-credentials.html>).
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CredentialProcessOutput {
    version: u32,
    access_key_id: String,
    secret_access_key: String,
    session_token: Option<String>,
    expiration: Option<jiff::Timestamp>,
}

fn parsed(text: &str) -> Option<Credentials> {
    let printed: CredentialProcessOutput = serde_json::from_str(text).ok()?;
    let end = printed.expiration.map(SystemTime::from);
    let (id, secret) = (printed.access_key_id, printed.secret_access_key);
    (printed.version == 1).then(|| Credentials::new(id, secret, printed.session_token, end, "aws login"))
}

/// Whether `aws --version` (`aws-cli/2.32.1 Python/3.13.9 ...`) shows a CLI without `aws login`. Version 1 has no
/// `export-credentials`.
fn is_too_old(version: &str) -> bool {
    let numbers = version.strip_prefix("aws-cli/").and_then(|rest| {
        let mut numbers = rest.split('.').map(|number| number.parse::<u32>().ok());
        Some((numbers.next()??, numbers.next()??))
    });
    numbers.is_some_and(|numbers| numbers < LEAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_of_a_credential_process_is_read() {
        let end = r#""Expiration": "2096-10-02T07:06:40+00:00""#;
        let text = |version: u32, end: &str| {
            format!(
                r#"{{"Version": {version}, "AccessKeyId": "a", "SecretAccessKey": "s", "SessionToken": "t", {end}}}"#
            )
        };
        let read = parsed(&text(1, end)).unwrap();
        let seconds = read.expiry().unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        assert_eq!((read.access_key_id(), read.session_token(), seconds), ("a", Some("t"), 4_000_000_000));
        assert!(parsed(&text(2, end)).is_none());
        assert!(parsed(&text(1, r#""Expiration": "soon""#)).is_none());
        assert!(
            parsed(r#"{"Version": 1, "AccessKeyId": "a", "SecretAccessKey": "s"}"#)
                .unwrap()
                .expiry()
                .is_none()
        );
        assert!(parsed("").is_none());
    }

    #[test]
    fn a_cli_without_aws_login_is_detected_by_its_version() {
        for (version, old) in [
            ("aws-cli/2.32.0 Python/3.13.9 Linux/6.1", false),
            ("aws-cli/2.31.39 Python/3.13.9", true),
            ("aws-cli/1.45.11 Python/3.11.7", true),
            ("aws-cli/3.0.0", false),
            ("a wrapper of somebody's", false),
        ] {
            assert_eq!(is_too_old(version), old, "{version}");
        }
    }
}
