//! Credentials for source registries, from docker's own config.json: what `docker login` stored is what is used here.
//!
//! The order is docker's: the registry's own helper (`credHelpers`), else the store of all (`credsStore`), else the file
//! (`auths`), which also stands in where a helper has nothing. No secret reaches an error, a log or `Debug`; a secret goes to a
//! helper only through its standard input, and comes back only through its standard output.
//!
//! Sources: <https://docs.docker.com/reference/cli/docker/login/#credential-stores>,
//! <https://github.com/docker/docker-credential-helpers#development>.

mod file;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;

use registry::{BoxError, BoxFuture, Credential, Credentials};

use crate::process::{Cmd, ProcessError, Secret};
use file::DockerConfig;

/// What docker-credential-helpers say when they have nothing:
/// <https://github.com/docker/docker-credential-helpers/blob/master/credentials/error.go>.
const NOT_FOUND: &str = "credentials not found in native keychain";

/// The user name by which a helper says that its secret is an identity token.
const TOKEN_USER: &str = "<token>";

/// Docker's config.json, read anew for each registry, so that a `docker login` in between counts.
#[derive(Clone, Debug)]
pub(crate) struct DockerCredentials {
    dir: Option<PathBuf>,
    /// The file's name in errors: no path of this machine.
    shown: String,
    /// Where helpers are looked for, where it is not the process's own PATH.
    path: Option<OsString>,
}

/// Why there is no telling what the credentials are.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CredentialError {
    /// The file is there and cannot be read.
    #[error("{shown} cannot be read")]
    Unreadable {
        /// The file.
        shown: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file is not what docker writes. What it says instead is not repeated: it may be a secret.
    #[error("{shown}: {problem}; `docker login` writes it anew")]
    Malformed {
        /// The file.
        shown: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The helper that the file names cannot be started.
    #[error("the credential helper for {registry} that {shown} names does not run")]
    HelperMissing {
        /// The registry.
        registry: String,
        /// The file.
        shown: String,
        /// Why.
        source: Box<ProcessError>,
    },
    /// The helper failed.
    #[error("docker-credential-{helper} has no answer for {registry}: {message}")]
    HelperFailed {
        /// The helper's name, without `docker-credential-`.
        helper: String,
        /// The registry.
        registry: String,
        /// Its own words, one line.
        message: String,
    },
    /// The helper's answer is not the protocol's.
    #[error(
        "docker-credential-{helper} gave an answer for {registry} that is not {{\"Username\", \"Secret\"}}"
    )]
    HelperAnswer {
        /// The helper's name, without `docker-credential-`.
        helper: String,
        /// The registry.
        registry: String,
    },
}

impl DockerCredentials {
    /// The user's: `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`.
    pub(crate) fn from_env() -> Self {
        match std::env::var_os("DOCKER_CONFIG").filter(|dir| !dir.is_empty()) {
            Some(dir) => Self::of(Some(dir.into()), "$DOCKER_CONFIG/config.json"),
            None => Self::of(std::env::home_dir().map(|home| home.join(".docker")), "~/.docker/config.json"),
        }
    }

    fn of(dir: Option<PathBuf>, shown: &str) -> Self {
        Self { dir, shown: shown.to_owned(), path: None }
    }

    /// Whether the file can be read, for commands that want to know before they start.
    ///
    /// # Errors
    /// It cannot be read, or is not what docker writes.
    pub(crate) fn check(&self) -> Result<(), CredentialError> {
        self.config().map(drop)
    }

    /// The credential for a registry; none where nobody logged in.
    ///
    /// # Errors
    /// The file or the helper that it names is broken.
    pub(crate) fn find(&self, registry: &str) -> Result<Option<Credential>, CredentialError> {
        let Some(config) = self.config()? else { return Ok(None) };
        if let Some(helper) = config.helper(registry)
            && let Some(found) = self.ask(helper, registry)?
        {
            return Ok(Some(found));
        }
        Ok(config.stored(registry))
    }

    /// The helper that knows a registry, by its name without `docker-credential-`.
    ///
    /// # Errors
    /// The file is broken.
    pub(crate) fn helper(&self, registry: &str) -> Result<Option<String>, CredentialError> {
        Ok(self.config()?.and_then(|config| config.helper(registry).map(str::to_owned)))
    }

    fn config(&self) -> Result<Option<DockerConfig>, CredentialError> {
        let Some(path) = self.dir.as_ref().map(|dir| dir.join("config.json")) else { return Ok(None) };
        let text = match std::fs::read(path) {
            // Docker takes an empty file for none.
            Ok(bytes) if bytes.is_empty() => return Ok(None),
            Ok(bytes) => bytes,
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(CredentialError::Unreadable { shown: self.shown.clone(), source }),
        };
        match DockerConfig::parse(&text) {
            Ok(config) => Ok(Some(config)),
            Err(problem) => Err(CredentialError::Malformed { shown: self.shown.clone(), problem }),
        }
    }

    fn ask(&self, helper: &str, registry: &str) -> Result<Option<Credential>, CredentialError> {
        let mut command = Cmd::new(format!("docker-credential-{helper}"))
            .arg("get")
            .stdin(Secret::new(file::server_address(registry)));
        if let Some(path) = &self.path {
            command = command.env("PATH", path);
        }
        let ended = match command.end() {
            Ok(ended) => ended,
            // Whatever needs no credentials goes on without it, as a public image does.
            Err(ProcessError::Missing { program }) => {
                warn_once(&program, &self.shown);
                return Ok(None);
            }
            Err(source) => {
                let (registry, shown) = (registry.to_owned(), self.shown.clone());
                return Err(CredentialError::HelperMissing { registry, shown, source: Box::new(source) });
            }
        };
        if !ended.success {
            if ended.stdout.contains(NOT_FOUND) || ended.stderr.contains(NOT_FOUND) {
                return Ok(None);
            }
            // Helpers give their reason on stdout. What looks like an answer is none: it may hold the secret.
            let reason = if ended.stdout.is_empty() || ended.stdout.contains('{') {
                &ended.stderr
            } else {
                &ended.stdout
            };
            let line = reason.lines().next().unwrap_or("it failed without a word");
            return Err(CredentialError::HelperFailed {
                helper: helper.to_owned(),
                registry: registry.to_owned(),
                message: line.chars().take(200).collect(),
            });
        }
        let answer: Option<Answer> = serde_json::from_str(&ended.stdout).ok();
        let Some(Answer { username, secret }) = answer else {
            return Err(CredentialError::HelperAnswer {
                helper: helper.to_owned(),
                registry: registry.to_owned(),
            });
        };
        Ok(match (username.as_str(), secret.is_empty()) {
            (_, true) | ("", _) => None,
            (TOKEN_USER, false) => Some(Credential::IdentityToken(secret)),
            (_, false) => Some(Credential::Basic { username, password: secret }),
        })
    }
}

/// Says that a helper is missing, once for each.
fn warn_once(program: &str, shown: &str) {
    static SAID: std::sync::Mutex<BTreeSet<String>> = std::sync::Mutex::new(BTreeSet::new());
    if SAID.lock().is_ok_and(|mut said| said.insert(program.to_owned())) {
        tracing::warn!(
            "{shown} names {program}, which is not in PATH: registries are asked without its credentials"
        );
    }
}

/// What a helper prints; it may say more.
#[derive(serde::Deserialize)]
struct Answer {
    #[serde(rename = "Username")]
    username: String,
    #[serde(rename = "Secret")]
    secret: String,
}

impl Credentials for DockerCredentials {
    fn get<'a>(
        &'a self,
        registry: &'a str,
        _stale: Option<&'a Credential>,
    ) -> BoxFuture<'a, Result<Option<Credential>, BoxError>> {
        let (this, registry) = (self.clone(), registry.to_owned());
        Box::pin(async move {
            // A helper may take its time, or ask a person.
            let found = tokio::task::spawn_blocking(move || this.find(&registry)).await?;
            Ok(found?)
        })
    }
}

#[cfg(test)]
mod tests;
