//! Credentials for registries from docker's config.json, podman's auth.json and their helpers.
//!
//! What `docker login` stored is what is used here. Where it has nothing, podman's auth.json is asked, which has the same form; where
//! podman is the engine, podman's comes first. What the variable `DOCKER_AUTH_CONFIG` holds comes before both.
//!
//! A login may be for a namespace or a repository of a registry (podman's): it goes to what is below that, where it wins over the
//! registry's own.
//!
//! A credential belongs to an address. Behind a mirror it is the mirror's, and over plain http it is only one that was stored
//! for exactly that address ([`registry::Server`]).
//!
//! The order is docker's: the registry's own helper (`credHelpers`), else the store of all (`credsStore`), else the file
//! (`auths`), which also stands in where a helper has nothing. No secret reaches an error, a log or `Debug`; a secret goes to a
//! helper only through its standard input, and comes back only through its standard output.
//!
//! Sources: <https://docs.docker.com/reference/cli/docker/login/#credential-stores>,
//! <https://github.com/docker/docker-credential-helpers#development>,
//! <https://github.com/containers/image/blob/main/docs/containers-auth.json.5.md>.

mod file;
mod helper;
mod login;
mod places;
mod same;

use std::ffi::OsString;
use std::time::Duration;

use process::ProcessError;
use registry::{BoxError, BoxFuture, Credential, Credentials, Server};

use file::DockerConfig;
use places::{Holds, Place};

pub use same::{PUBLIC, others as other_names};

/// How long a helper may take: some ask a person.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Docker's config.json and podman's auth.json, read anew for each registry, so that a login in between counts.
#[derive(Clone, Debug)]
pub struct DockerCredentials {
    places: Vec<Place>,
    /// Where helpers are looked for, where it is not the process's own PATH.
    path: Option<OsString>,
    /// How long a helper may take.
    timeout: Duration,
}

/// What the places hold, each with its name.
type Configs = Vec<(String, DockerConfig)>;

/// Why there is no telling what the credentials are.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The file is there and cannot be read.
    #[error("{shown} cannot be read")]
    Unreadable {
        /// The file.
        shown: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file is not what docker writes. What it says instead is not repeated: it may be a secret.
    #[error("{shown}: {problem}; {remedy}")]
    Malformed {
        /// The file.
        shown: String,
        /// What is wrong with it.
        problem: String,
        /// What mends it.
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
    /// The helper did not end, or did not end to print.
    #[error("docker-credential-{helper} gives no answer for {registry}")]
    HelperEndless {
        /// The helper's name, without `docker-credential-`.
        helper: String,
        /// The registry.
        registry: String,
        /// What it did instead.
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
    /// The user's: `$DOCKER_AUTH_CONFIG`, then `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`, and podman's beside it.
    /// `engine` is the container client that the user named.
    pub fn from_env(engine: Option<&str>) -> Self {
        Self { places: places::all(engine), path: None, timeout: TIMEOUT }
    }

    /// Whether the files can be read, for commands that want to know before they start.
    ///
    /// # Errors
    /// One cannot be read, or is not what docker or podman writes.
    pub fn check(&self) -> Result<(), CredentialError> {
        self.places.iter().try_for_each(|place| place.read().map(drop))
    }

    /// The credential for a server, or for its namespace; none without a login.
    ///
    /// # Errors
    /// A file or the helper that it names is broken.
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

    /// The helper that knows a server, by its name without `docker-credential-`.
    ///
    /// # Errors
    /// A file is broken.
    pub async fn helper(&self, server: &Server) -> Result<Option<String>, CredentialError> {
        // The engine's own file, which its login writes.
        let own = self.places.iter().find(|place| matches!(place.holds, Holds::File(..)));
        let Some(place) = own.cloned() else { return Ok(None) };
        let config = process::blocking(move || place.read()).await?;
        Ok(config.and_then(|config| config.helper(server).map(str::to_owned)))
    }

    /// What all places hold, read on a thread of its own: a file may be a pipe, or on a share that does not answer.
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

/// The names of a whole server, its own first.
fn names(server: &Server) -> Vec<Server> {
    let whole = server.whole();
    let others = same::other_names(&whole);
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
mod odd_tests;
#[cfg(test)]
mod tests;
