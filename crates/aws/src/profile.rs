//! Selects the AWS profile as the aws CLI does, and reads it.

use std::collections::BTreeSet;

use anyhow::Context as _;
use aws_config::profile::ProfileSet;
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_types::os_shim_internal::{Env, Fs};

use failure::{FailWith as _, Kind, failure};

/// The variables that name a profile, in botocore's order
/// (<https://github.com/boto/botocore/blob/develop/botocore/configprovider.py>, `profile`).
const VARIABLES: [&str; 2] = ["AWS_DEFAULT_PROFILE", "AWS_PROFILE"];

/// The files with profiles below ~/.aws, and the variables that name other files.
const FILES: [(&str, &str); 2] =
    [("AWS_CONFIG_FILE", "config"), ("AWS_SHARED_CREDENTIALS_FILE", "credentials")];

/// A profile that the user named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectedProfile {
    /// Its name.
    pub name: String,
    /// Where it is named: the flag, or a variable.
    pub by: &'static str,
}

impl SelectedProfile {
    /// Whether the flag names it. Keys in the environment do not override the flag.
    pub fn by_flag(&self) -> bool {
        self.by == FLAG
    }
}

const FLAG: &str = "--profile";

/// The profile named by the flag, otherwise by a variable. An empty variable names none.
pub fn chosen(flag: Option<&str>, env: impl Fn(&str) -> Option<String>) -> Option<SelectedProfile> {
    let by_flag = flag.map(|name| SelectedProfile { name: name.to_owned(), by: FLAG });
    by_flag.or_else(|| {
        VARIABLES
            .into_iter()
            .find_map(|by| env(by).filter(|name| !name.is_empty()).map(|name| SelectedProfile { name, by }))
    })
}

/// How a profile gets its credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// From a program.
    Process,
    /// By single sign-on.
    Sso,
    /// By `aws login` of this profile: the requested one, or the one at the end of its chain of roles.
    Login {
        /// The profile of the login.
        profile: String,
    },
    /// By an assumed role; with the serial number of the MFA device, if required.
    Role { mfa: Option<String> },
    /// By keys in the file, or not at all.
    Other,
}

/// The profiles on this machine.
#[derive(Clone, Debug)]
pub(super) struct Profiles(ProfileSet);

impl Profiles {
    /// Reads the files.
    ///
    /// # Errors
    /// A file cannot be read, or is not a profile file.
    pub(super) async fn read() -> anyhow::Result<Self> {
        for (variable, file) in FILES {
            let named =
                std::env::var_os(variable).filter(|path| !path.is_empty()).map(std::path::PathBuf::from);
            let default = || std::env::home_dir().map(|home| home.join(".aws").join(file));
            let Some(path) = named.clone().or_else(default) else { continue };
            // The SDK would treat an unreadable file as empty and use other credentials.
            match std::fs::read(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    let shown = named.map_or_else(
                        || format!("~/.aws/{file}"),
                        |_| format!("the file that {variable} names"),
                    );
                    return Err(error).with_context(|| format!("could not read {shown}")).hint(
                        Kind::Credentials,
                        "let this user read it, or name another file with AWS_CONFIG_FILE and AWS_SHARED_CREDENTIALS_FILE",
                    );
                }
                _ => {}
            }
        }
        let read =
            aws_config::profile::load(&Fs::real(), &Env::real(), &EnvConfigFiles::default(), None).await;
        let set = read.context("could not read the AWS profiles").hint(
            Kind::Credentials,
            "check ~/.aws/config and ~/.aws/credentials, or the files of AWS_CONFIG_FILE and AWS_SHARED_CREDENTIALS_FILE",
        )?;
        Ok(Self(set))
    }

    /// Refuses a profile that does not exist, by name. Otherwise other credentials would be used.
    ///
    /// # Errors
    /// There is no such profile.
    pub(super) fn check(&self, chosen: &SelectedProfile) -> anyhow::Result<()> {
        if self.0.get_profile(&chosen.name).is_some() {
            return Ok(());
        }
        let known: BTreeSet<&str> = self.0.profiles().collect();
        let known = match known.len() {
            0 => "none is configured".to_owned(),
            _ => format!("available: {}", known.into_iter().collect::<Vec<_>>().join(", ")),
        };
        let (name, by) = (&chosen.name, chosen.by);
        Err(failure(Kind::Credentials, format!("there is no AWS profile {name} (from {by})"))).hint(
            Kind::Credentials,
            format!("no profile {name} in ~/.aws/config and ~/.aws/credentials; {known}"),
        )
    }

    /// A value of a profile.
    pub(super) fn get(&self, profile: &str, key: &str) -> Option<&str> {
        self.0.get_profile(profile)?.get(key)
    }

    /// How a profile gets its credentials, in the SDK's order.
    pub(super) fn source(&self, profile: &str) -> Source {
        let has = |key: &str| self.get(profile, key).is_some();
        if has("role_arn") && !has("web_identity_token_file") {
            let mfa = self.get(profile, "mfa_serial").map(str::to_owned);
            return match self.login_of(profile) {
                Some(login) if mfa.is_none() => Source::Login { profile: login.to_owned() },
                _ => Source::Role { mfa },
            };
        }
        match () {
            () if has("sso_session") || has("sso_start_url") => Source::Sso,
            () if has("login_session") => Source::Login { profile: profile.to_owned() },
            () if has("credential_process") => Source::Process,
            () => Source::Other,
        }
    }

    /// The profile of `aws login` that a profile's roles are assumed with, if any.
    fn login_of<'a>(&'a self, profile: &'a str) -> Option<&'a str> {
        let mut seen = BTreeSet::new();
        let mut name = profile;
        while seen.insert(name) {
            let has = |key: &str| self.get(name, key).is_some();
            // A source profile's own keys come before anything else, as in the SDK.
            if seen.len() > 1 && has("aws_access_key_id") {
                return None;
            }
            if !has("role_arn") {
                let other = ["sso_session", "sso_start_url", "web_identity_token_file"];
                return (has("login_session") && !other.into_iter().any(has)).then_some(name);
            }
            name = self.get(name, "source_profile")?;
        }
        None
    }
}

/// Profile files for a shell with AWS_PROFILE="": the default profile, empty if it does not exist. Without this the SDK would look
/// for a profile with an empty name.
pub(super) fn with_a_default() -> EnvConfigFiles {
    EnvConfigFiles::builder()
        .with_contents(EnvConfigFileKind::Config, "[default]\n")
        .include_default_config_file(true)
        .include_default_credentials_file(true)
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_is_chosen_as_the_aws_cli_chooses_it() {
        let by = |flag: Option<&str>, env: &[(&str, &str)]| {
            let get =
                |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
            chosen(flag, get).map(|chosen| (chosen.name, chosen.by))
        };
        let is = |name: &str, by| Some((name.to_owned(), by));
        assert_eq!(by(None, &[]), None);
        assert_eq!(by(None, &[("AWS_PROFILE", "")]), None);
        assert_eq!(by(None, &[("AWS_PROFILE", "a")]), is("a", "AWS_PROFILE"));
        assert_eq!(
            by(None, &[("AWS_PROFILE", "a"), ("AWS_DEFAULT_PROFILE", "b")]),
            is("b", "AWS_DEFAULT_PROFILE")
        );
        assert_eq!(by(None, &[("AWS_PROFILE", "a"), ("AWS_DEFAULT_PROFILE", "")]), is("a", "AWS_PROFILE"));
        assert_eq!(by(Some("c"), &[("AWS_PROFILE", "a")]), is("c", "--profile"));
    }
}
