//! The container client (docker, podman, finch or nerdctl): its arguments, and what builders print.
//!
//! A client's features are detected (`buildx version`, `build --help`), never derived from its version. Everything except a login uses a
//! private, temporary configuration directory ([`PrivateConfig`]).

mod args;
mod build_output;
mod builder;
mod config;
mod container;
mod error;
mod store;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

pub use args::{Build, BuildContext, Cache};
pub use build_output::{BuildEvent, Logs, Step};
use config::AUTH_VARIABLE;
pub use config::{PrivateConfig, RegistryAuth, sweep};
pub use container::Container;
pub use error::DockerError;
pub use store::{LocalImage, LocalName, Store};

use process::{Cmd, Secret, blocking};

/// The clients to search for, in this order.
const CLIENTS: [&str; 4] = ["docker", "podman", "finch", "nerdctl"];

/// The kind of client, which determines its command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Docker's own.
    Docker,
    /// podman: no engine, its own build.
    Podman,
    /// finch: nerdctl in a virtual machine.
    Finch,
    /// nerdctl: containerd's client.
    Nerdctl,
}

impl Kind {
    fn of(program: &Path) -> Option<Self> {
        match program.file_stem()?.to_str()? {
            "docker" => Some(Self::Docker),
            "podman" => Some(Self::Podman),
            "finch" => Some(Self::Finch),
            "nerdctl" => Some(Self::Nerdctl),
            _ => None,
        }
    }
}

/// The builder of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Builder {
    /// BuildKit through the buildx plugin.
    Buildx,
    /// BuildKit in the engine, through the client alone (docker 18.09 to 22).
    BuildKit,
    /// Docker's legacy builder.
    Legacy,
    /// The built-in builder of podman, finch and nerdctl.
    Own,
}

impl std::fmt::Display for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Buildx => "BuildKit (buildx)",
            Self::BuildKit => "BuildKit",
            Self::Legacy => "the legacy builder",
            Self::Own => "its own builder",
        })
    }
}

/// A client with its detected features.
#[derive(Clone, Debug)]
pub struct Docker {
    program: PathBuf,
    kind: Kind,
    builder: Builder,
    flags: BTreeSet<String>,
    /// Whether `build` can print BuildKit's own events.
    raw_json: bool,
    config: Option<PathBuf>,
}

impl Docker {
    /// Finds the client: `choice` is a name or a path (`--container-cli`), else the first of docker, podman, finch and
    /// nerdctl that is installed.
    ///
    /// # Errors
    /// None is installed, or `choice` is not one of them.
    pub async fn find(choice: Option<&str>) -> Result<Self, DockerError> {
        let choice = choice.map(str::to_owned);
        blocking(move || find(choice.as_deref())).await
    }

    /// The same client with this configuration directory.
    pub fn with_config(mut self, config: &PrivateConfig) -> Self {
        self.config = Some(config.path().to_owned());
        self
    }

    /// Its builder.
    pub fn builder(&self) -> Builder {
        self.builder
    }

    /// The client's name, for messages.
    pub fn name(&self) -> String {
        self.program.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Whether `build` supports a flag.
    pub fn has_flag(&self, flag: &str) -> bool {
        self.flags.contains(flag)
    }

    fn command(&self) -> Cmd {
        let mut command = Cmd::new(&self.program).env("DOCKER_CLI_HINTS", "false");
        if let Some(config) = &self.config {
            // Its logins are in the configuration, and the variable would override the run's own.
            command = command.env("DOCKER_CONFIG", config).env_remove(AUTH_VARIABLE);
            if self.kind == Kind::Podman {
                command = command.env("REGISTRY_AUTH_FILE", config.join("config.json"));
            }
        }
        command
    }

    /// Runs a short command and returns its stdout.
    async fn read(&self, command: Cmd) -> Result<String, DockerError> {
        let docker = self.clone();
        blocking(move || command.read().map_err(|error| DockerError::from_process(&docker, error))).await
    }

    /// The engine's platform; also shows whether the engine is running.
    ///
    /// # Errors
    /// The engine does not answer.
    pub async fn engine_platform(&self) -> Result<String, DockerError> {
        let (what, format) = match self.kind {
            Kind::Docker => ("version", "{{.Server.Os}}/{{.Server.Arch}}"),
            Kind::Podman => ("info", "{{.Host.OS}}/{{.Host.Arch}}"),
            Kind::Finch | Kind::Nerdctl => ("info", "{{.OSType}}/{{.Architecture}}"),
        };
        let text = self.read(self.command().args([what, "--format", format])).await?;
        Ok(text.replace("x86_64", "amd64").replace("aarch64", "arm64"))
    }

    /// Its local images.
    pub fn store(&self) -> Store<'_> {
        Store(self)
    }

    /// Logs the user in, in the user's own configuration, which nothing else writes. The password is passed on stdin.
    ///
    /// # Errors
    /// The registry refuses, or the client cannot store the credential.
    pub async fn login(&self, registry: &str, username: &str, password: Secret) -> Result<(), DockerError> {
        let user = Self { config: None, ..self.clone() };
        let command = user.command().args(["login", "--username", username, "--password-stdin", registry]);
        user.read(command.stdin(password)).await.map(drop)
    }
}

fn find(choice: Option<&str>) -> Result<Docker, DockerError> {
    let (program, kind) = match choice {
        Some(choice) => {
            let program = which::which(choice)
                .map_err(|_| DockerError::NotInstalled { looked_for: choice.to_owned() })?;
            let kind = Kind::of(&program)
                .filter(|kind| !is_pidgins(&program, *kind))
                .ok_or_else(|| DockerError::UnknownClient { program: choice.to_owned() })?;
            (program, kind)
        }
        None => CLIENTS
            .iter()
            .filter_map(|name| which::which(name).ok())
            .filter_map(|program| Kind::of(&program).map(|kind| (program, kind)))
            .find(|(program, kind)| !is_pidgins(program, *kind))
            .ok_or_else(|| DockerError::NotInstalled { looked_for: CLIENTS.join(", ") })?,
    };
    let mut found = Docker {
        program,
        kind,
        builder: Builder::Own,
        flags: BTreeSet::new(),
        raw_json: false,
        config: None,
    };
    if kind == Kind::Docker {
        // A client with buildx, or an older one with BuildKit built in, lists BuildKit's flags when it is enabled; without the plugin,
        // newer ones fail.
        let with_buildkit =
            Cmd::new(&found.program).args(["build", "--help"]).env("DOCKER_BUILDKIT", "1").read();
        let help = with_buildkit.unwrap_or_default();
        let flags = flags_of(&help);
        if flags.contains("--progress") {
            found.raw_json = help.contains("\"rawjson\"");
            // Since docker 23, `build` belongs to the plugin, and its help says so; for an older client, the plugin is searched for.
            let buildx = help.contains("docker buildx build")
                || Cmd::new(&found.program).args(["buildx", "version"]).read().is_ok();
            found.builder = if buildx { Builder::Buildx } else { Builder::BuildKit };
            found.flags = flags;
            return Ok(found);
        }
        found.builder = Builder::Legacy;
    }
    let help = found.command().env("DOCKER_BUILDKIT", "0").args(["build", "--help"]).read();
    found.flags = flags_of(&help.map_err(|error| DockerError::from_process(&found, error))?);
    Ok(found)
}

/// Whether this is another program named finch: Debian's is Pidgin's messenger for terminals (`Finch 2.14.12 (...)`).
fn is_pidgins(program: &Path, kind: Kind) -> bool {
    let said = || Cmd::new(program).arg("--version").read().unwrap_or_default();
    kind == Kind::Finch && said().starts_with("Finch ")
}

/// Whether an image's registry is on this machine.
pub fn is_loopback(image: &str) -> bool {
    ["127.", "localhost:", "[::1]:"].iter().any(|prefix| image.starts_with(prefix))
}

/// The long flags that a help text lists.
fn flags_of(help: &str) -> BTreeSet<String> {
    let words = help.lines().filter_map(|line| {
        let line = line.trim_start();
        line.starts_with('-').then(|| line.split([' ', ',', '=']).find(|word| word.starts_with("--")))?
    });
    words.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests;
