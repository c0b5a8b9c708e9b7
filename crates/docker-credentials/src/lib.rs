//! Credentials for registries from docker's config.json, podman's auth.json and their helpers.
//!
//! What `docker login` stored is what is used here. Where it has nothing, podman's auth.json is asked, which has the same form; where
//! podman is the engine, podman's comes first.
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
mod same;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use registry::{BoxError, BoxFuture, Credential, Credentials, Server};

use file::DockerConfig;
use process::{Cmd, ProcessError, Secret};

pub use same::{PUBLIC, others as other_names};

/// What docker-credential-helpers say when they have nothing:
/// <https://github.com/docker/docker-credential-helpers/blob/master/credentials/error.go>.
const NOT_FOUND: &str = "credentials not found in native keychain";

/// The user name by which a helper says that its secret is an identity token.
const TOKEN_USER: &str = "<token>";

/// Docker's config.json and podman's auth.json, read anew for each registry, so that a login in between counts.
#[derive(Clone, Debug)]
pub struct DockerCredentials {
    files: Vec<AuthFile>,
    /// Where helpers are looked for, where it is not the process's own PATH.
    path: Option<OsString>,
}

/// A file with logins.
#[derive(Clone, Debug)]
struct AuthFile {
    path: PathBuf,
    /// Its name in errors: no path of this machine.
    shown: String,
    /// What writes it.
    login: &'static str,
}

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
    #[error("{shown}: {problem}; `{login}` writes a new one")]
    Malformed {
        /// The file.
        shown: String,
        /// What is wrong with it.
        problem: String,
        /// The command that writes it.
        login: &'static str,
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
    /// The user's: `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`, and podman's beside it. `engine` is the container
    /// client that the user named.
    pub fn from_env(engine: Option<&str>) -> Self {
        let podman = podman_file(variable, std::env::home_dir());
        let mut files: Vec<AuthFile> = docker_file().into_iter().chain(podman).collect();
        let name = engine.map(Path::new).and_then(Path::file_name).unwrap_or_default();
        if name.to_string_lossy().starts_with("podman") {
            files.reverse();
        }
        Self { files, path: None }
    }

    /// Whether the files can be read, for commands that want to know before they start.
    ///
    /// # Errors
    /// One cannot be read, or is not what docker or podman writes.
    pub fn check(&self) -> Result<(), CredentialError> {
        self.files.iter().try_for_each(|file| file.read().map(drop))
    }

    /// The credential for a server; none where nobody logged in.
    ///
    /// # Errors
    /// A file or the helper that it names is broken.
    pub fn find(&self, server: &Server) -> Result<Option<Credential>, CredentialError> {
        if let Some(found) = self.find_by(server)? {
            return Ok(Some(found));
        }
        for other in same::other_names(server) {
            if let Some(found) = self.find_by(&other)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The credential that was stored under this very address.
    fn find_by(&self, server: &Server) -> Result<Option<Credential>, CredentialError> {
        for file in &self.files {
            let Some(config) = file.read()? else { continue };
            if let Some(helper) = config.helper(server)
                && let Some(found) = self.ask(file, helper, server)?
            {
                return Ok(Some(found));
            }
            if let Some(found) = config.stored(server) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The helper that knows a server, by its name without `docker-credential-`.
    ///
    /// # Errors
    /// A file is broken.
    pub fn helper(&self, server: &Server) -> Result<Option<String>, CredentialError> {
        // The engine's own file, which its login writes.
        let Some(file) = self.files.first() else { return Ok(None) };
        Ok(file.read()?.and_then(|config| config.helper(server).map(str::to_owned)))
    }

    fn ask(
        &self,
        file: &AuthFile,
        helper: &str,
        server: &Server,
    ) -> Result<Option<Credential>, CredentialError> {
        let mut command = Cmd::new(format!("docker-credential-{helper}"))
            .arg("get")
            .stdin(Secret::new(file::server_address(server)));
        if let Some(path) = &self.path {
            command = command.env("PATH", path);
        }
        let ended = match command.end() {
            Ok(ended) => ended,
            // Whatever needs no credentials goes on without it, as a public image does.
            Err(ProcessError::Missing { program }) => {
                warn_once(&program, &file.shown);
                return Ok(None);
            }
            Err(source) => {
                let (registry, shown) = (server.to_string(), file.shown.clone());
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
                registry: server.to_string(),
                message: line.chars().take(200).collect(),
            });
        }
        let answer: Option<Answer> = serde_json::from_str(&ended.stdout).ok();
        let Some(Answer { username, secret }) = answer else {
            return Err(CredentialError::HelperAnswer {
                helper: helper.to_owned(),
                registry: server.to_string(),
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

impl AuthFile {
    fn read(&self) -> Result<Option<DockerConfig>, CredentialError> {
        let text = match std::fs::read(&self.path) {
            // Docker takes an empty file for none.
            Ok(bytes) if bytes.is_empty() => return Ok(None),
            Ok(bytes) => bytes,
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(CredentialError::Unreadable { shown: self.shown.clone(), source }),
        };
        DockerConfig::parse(&text).map(Some).map_err(|problem| CredentialError::Malformed {
            shown: self.shown.clone(),
            problem,
            login: self.login,
        })
    }
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn docker_file() -> Option<AuthFile> {
    let (dir, shown) = match variable("DOCKER_CONFIG") {
        Some(dir) => (dir, "$DOCKER_CONFIG/config.json"),
        None => (std::env::home_dir()?.join(".docker"), "~/.docker/config.json"),
    };
    Some(AuthFile { path: dir.join("config.json"), shown: shown.to_owned(), login: "docker login" })
}

/// Where podman keeps its logins: the named file, else one that ends with the session, else one that stays.
fn podman_file(variable: impl Fn(&str) -> Option<PathBuf>, home: Option<PathBuf>) -> Option<AuthFile> {
    let file = |path, shown: &str| AuthFile { path, shown: shown.to_owned(), login: "podman login" };
    if let Some(named) = variable("REGISTRY_AUTH_FILE") {
        return Some(file(named, "$REGISTRY_AUTH_FILE"));
    }
    let of_session = variable("XDG_RUNTIME_DIR").map(|dir| dir.join("containers/auth.json"));
    if let Some(path) = of_session.filter(|path| path.exists()) {
        return Some(file(path, "$XDG_RUNTIME_DIR/containers/auth.json"));
    }
    let config = variable("XDG_CONFIG_HOME").or_else(|| Some(home?.join(".config")))?;
    Some(file(config.join("containers/auth.json"), "~/.config/containers/auth.json"))
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
        server: &'a Server,
        _stale: Option<&'a Credential>,
    ) -> BoxFuture<'a, Result<Option<Credential>, BoxError>> {
        let (this, server) = (self.clone(), server.clone());
        Box::pin(async move {
            // A helper may take its time, or ask a person.
            let found = tokio::task::spawn_blocking(move || this.find(&server)).await?;
            Ok(found?)
        })
    }
}

#[cfg(test)]
mod tests;
