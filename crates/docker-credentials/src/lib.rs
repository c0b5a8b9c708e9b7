//! Credentials for registries from docker's config.json, podman's auth.json and their helpers.
//!
//! The logins of `docker login` are used. If there is none, podman's auth.json is read, which has the same format; if podman is the engine,
//! podman's file comes first. The variable `DOCKER_AUTH_CONFIG` has precedence over both.
//!
//! A login may be for a namespace or a repository of a registry (podman's): it is used for everything below, with precedence over the
//! registry's own.
//!
//! A credential belongs to an address. Behind a mirror, the mirror's credential is used, and over plain http only one that was stored for
//! exactly that address ([`registry::Server`]).
//!
//! The order is docker's: the registry's own helper (`credHelpers`), else the default store (`credsStore`), else the file (`auths`), which
//! is also used if a helper has no credential. No secret is in an error, a log or `Debug`; helpers receive secrets only on standard input
//! and return them only on standard output.
//!
//! Sources: <https://docs.docker.com/reference/cli/docker/login/#credential-stores>,
//! <https://github.com/docker/docker-credential-helpers#development>,
//! <https://github.com/containers/image/blob/main/docs/containers-auth.json.5.md>.

mod config_json;
mod helper;
mod login;
mod places;
mod registry_names;

use std::ffi::OsString;
use std::time::Duration;

use process::ProcessError;
use registry::{BoxError, BoxFuture, Credential, Credentials, Server};

use config_json::DockerConfig;
use places::{Holds, Place};

pub use registry_names::{PUBLIC, others as other_names};

/// Time limit for a helper: some ask the user.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Docker's config.json and podman's auth.json. They are read again for each registry, so that a login in the meantime is used.
#[derive(Clone, Debug)]
pub struct DockerCredentials {
    places: Vec<Place>,
    /// Search path for helpers; `None` for the process's own PATH.
    path: Option<OsString>,
    /// Time limit for a helper.
    timeout: Duration,
}

/// The content of the places, each with its name.
type Configs = Vec<(String, DockerConfig)>;

/// Why credentials cannot be determined.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The file exists but cannot be read.
    #[error("{shown} cannot be read")]
    Unreadable {
        /// The file.
        shown: String,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The file does not have docker's format. Its content is not quoted: it may be a secret.
    #[error("{shown}: {problem}; {remedy}")]
    Malformed {
        /// The file.
        shown: String,
        /// What is wrong with it.
        problem: String,
        /// What the user can do.
        remedy: String,
    },
    /// The helper that the file names cannot be started.
    #[error("the credential helper for {registry} that {shown} names cannot be run")]
    HelperMissing {
        /// The registry.
        registry: String,
        /// The file.
        shown: String,
        /// Why.
        source: Box<ProcessError>,
    },
    /// The helper did not end, or its output did not end.
    #[error("docker-credential-{helper} gives no answer for {registry}")]
    HelperEndless {
        /// The helper's name, without `docker-credential-`.
        helper: String,
        /// The registry.
        registry: String,
        /// The cause.
        source: Box<ProcessError>,
    },
    /// The helper failed.
    #[error("docker-credential-{helper} has no answer for {registry}: {message}")]
    HelperFailed {
        /// The helper's name, without `docker-credential-`.
        helper: String,
        /// The registry.
        registry: String,
        /// Its message, one line.
        message: String,
    },
    /// The helper's answer does not follow the protocol.
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
    /// The user's logins: `$DOCKER_AUTH_CONFIG`, then `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`, and podman's file.
    /// `engine` is the container client that the user named.
    pub fn from_env(engine: Option<&str>) -> Self {
        Self { places: places::all(engine), path: None, timeout: TIMEOUT }
    }

    /// Checks that the files can be read, for commands that check this before they start.
    ///
    /// # Errors
    /// A file cannot be read, or does not have docker's or podman's format.
    pub fn check(&self) -> Result<(), CredentialError> {
        self.places.iter().try_for_each(|place| place.read().map(drop))
    }

    /// The credential for a server or its namespace; `None` without a login.
    ///
    /// # Errors
    /// A file or its helper is broken.
    pub async fn find(&self, server: &Server) -> Result<Option<Credential>, CredentialError> {
        let configs = self.configs().await?;
        if !server.namespace().is_empty() {
            let names = names(server).into_iter().map(|name| name.within(server.namespace()));
            let stored = |name| configs.iter().find_map(|(_, config)| config.stored(&name));
            if let Some(found) = names.into_iter().find_map(stored) {
                return Ok(Some(found));
            }
        }
        for name in names(server) {
            for (shown, config) in &configs {
                if let Some(helper) = config.helper(&name)
                    && let Some(found) = self.ask(shown, helper, &name).await?
                {
                    return Ok(Some(found));
                }
                if let Some(found) = config.stored(&name) {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }

    /// The helper for a server, by its name without `docker-credential-`.
    ///
    /// # Errors
    /// A file is broken.
    pub async fn helper(&self, server: &Server) -> Result<Option<String>, CredentialError> {
        // The engine's own file, to which its login writes.
        let own = self.places.iter().find(|place| matches!(place.holds, Holds::File(..)));
        let Some(place) = own.cloned() else { return Ok(None) };
        let config = process::blocking(move || place.read()).await?;
        Ok(config.and_then(|config| config.helper(server).map(str::to_owned)))
    }

    /// The content of all places, read on a separate thread: a file may be a pipe, or on a share that does not answer.
    async fn configs(&self) -> Result<Configs, CredentialError> {
        let places = self.places.clone();
        process::blocking(move || {
            let configs =
                places.into_iter().map(|place| Ok(place.read()?.map(|config| (place.shown, config))));
            configs.filter_map(Result::transpose).collect()
        })
        .await
    }
}

/// All names of a server without its namespace, its own name first.
fn names(server: &Server) -> Vec<Server> {
    let whole = server.whole();
    let others = registry_names::other_names(&whole);
    std::iter::once(whole).chain(others).collect()
}

impl Credentials for DockerCredentials {
    fn get<'a>(
        &'a self,
        server: &'a Server,
        _stale: Option<&'a Credential>,
    ) -> BoxFuture<'a, Result<Option<Credential>, BoxError>> {
        Box::pin(async move { Ok(self.find(server).await?) })
    }

    fn namespaces<'a>(&'a self, server: &'a Server) -> BoxFuture<'a, Result<Vec<String>, BoxError>> {
        Box::pin(async move {
            let (configs, names) = (self.configs().await?, names(server));
            let of = |(_, config): &(String, DockerConfig)| {
                names.iter().flat_map(|name| config.namespaces(name)).collect::<Vec<_>>()
            };
            Ok(configs.iter().flat_map(of).collect())
        })
    }
}

#[cfg(test)]
mod format_tests;
#[cfg(test)]
mod tests;
