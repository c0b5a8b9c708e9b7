//! The container client (docker, podman, finch or nerdctl): its arguments, and what builders print.
//!
//! What a client can do is asked of it (`buildx version`, `build --help`), never guessed from its version. Everything but
//! a login runs with a private, temporary configuration directory ([`PrivateConfig`]).

mod args;
mod builder;
mod config;
mod error;
mod progress;
mod store;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

pub use args::{Build, BuildContext, Cache};
pub use config::{PrivateConfig, RegistryAuth, sweep};
pub use error::DockerError;
pub use progress::{Logs, News, Step};
use serde::Deserialize;
pub use store::LocalName;

use process::{Cmd, Killer, Secret};

/// The clients that are looked for, in this order.
const CLIENTS: [&str; 4] = ["docker", "podman", "finch", "nerdctl"];

/// Whose command line it is.
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

/// What builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Builder {
    /// BuildKit through the buildx plugin.
    Buildx,
    /// BuildKit in the engine, through the client alone (docker 18.09 to 22).
    BuildKit,
    /// Docker's first builder.
    Legacy,
    /// The one that podman, finch and nerdctl bring.
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

/// An image in the client's local store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalImage {
    /// The image's ID.
    pub id: String,
    /// `os/architecture`.
    pub platform: String,
    /// Its labels.
    pub labels: std::collections::BTreeMap<String, String>,
}

/// A client that was found and asked.
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
    /// None is installed, or `choice` is none of them.
    pub async fn find(choice: Option<&str>) -> Result<Self, DockerError> {
        let choice = choice.map(str::to_owned);
        blocking(move || Self::find_now(choice.as_deref())).await
    }

    fn find_now(choice: Option<&str>) -> Result<Self, DockerError> {
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
        let mut found = Self {
            program,
            kind,
            builder: Builder::Own,
            flags: BTreeSet::new(),
            raw_json: false,
            config: None,
        };
        if kind == Kind::Docker {
            // A client with buildx, or an older one that speaks BuildKit itself, lists BuildKit's flags when it is switched
            // on; one that has lost the plugin refuses to.
            let with_buildkit =
                Cmd::new(&found.program).args(["build", "--help"]).env("DOCKER_BUILDKIT", "1").read();
            let help = with_buildkit.unwrap_or_default();
            let flags = flags_of(&help);
            if flags.contains("--progress") {
                found.raw_json = help.contains("\"rawjson\"");
                let buildx = Cmd::new(&found.program).args(["buildx", "version"]).read().is_ok();
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

    /// The same client with this configuration directory.
    pub fn with_config(mut self, config: &PrivateConfig) -> Self {
        self.config = Some(config.path().to_owned());
        self
    }

    /// What builds.
    pub fn builder(&self) -> Builder {
        self.builder
    }

    /// The client's name, for people.
    pub fn name(&self) -> String {
        self.program.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Whether `build` knows a flag.
    pub fn has_flag(&self, flag: &str) -> bool {
        self.flags.contains(flag)
    }

    fn command(&self) -> Cmd {
        let mut command = Cmd::new(&self.program).env("DOCKER_CLI_HINTS", "false");
        if let Some(config) = &self.config {
            command = command.env("DOCKER_CONFIG", config);
            if self.kind == Kind::Podman {
                command = command.env("REGISTRY_AUTH_FILE", config.join("config.json"));
            }
        }
        command
    }

    /// Runs a short command and gives its stdout.
    async fn read(&self, command: Cmd) -> Result<String, DockerError> {
        let docker = self.clone();
        blocking(move || command.read().map_err(|error| DockerError::from_process(&docker, error))).await
    }

    /// Asks for the engine's platform, which is also how an engine that is down shows.
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

    /// Writes an image of the local store to a file, as `docker save` does.
    ///
    /// # Errors
    /// There is no such image, the engine is down, or the file cannot be written.
    pub async fn save(&self, image: &str, file: &Path, killer: Killer) -> Result<(), DockerError> {
        let mut command = self.command().arg("save");
        if self.kind == Kind::Podman {
            command = command.args(["--format", "docker-archive"]);
        }
        let command = command.arg("--output").arg(file).arg(image);
        command.stream(killer, |_| {}).await.map_err(|error| DockerError::from_process(self, error))
    }

    /// Looks an image up in the local store.
    ///
    /// # Errors
    /// The engine is down.
    pub async fn image(&self, image: &str) -> Result<Option<LocalImage>, DockerError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Raw {
            id: String,
            os: String,
            architecture: String,
            config: Option<Config>,
        }
        #[derive(Deserialize, Default)]
        #[serde(rename_all = "PascalCase")]
        struct Config {
            labels: Option<std::collections::BTreeMap<String, String>>,
        }
        // Without a template: all four print a list then, and podman's `json` gives one with it too.
        match self.read(self.command().args(["image", "inspect", image])).await {
            Ok(text) => {
                let found: Vec<Raw> = serde_json::from_str(&text)
                    .map_err(|source| DockerError::Answer { program: self.name(), source })?;
                Ok(found.into_iter().next().map(|raw| LocalImage {
                    id: raw.id,
                    platform: format!("{}/{}", raw.os, raw.architecture),
                    labels: raw.config.and_then(|config| config.labels).unwrap_or_default(),
                }))
            }
            Err(error) if error.is_no_such_image() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Gives an image of the local store one more name.
    ///
    /// # Errors
    /// There is no such image, or the engine is down.
    pub async fn tag(&self, image: &str, name: &str) -> Result<(), DockerError> {
        self.read(self.command().args(["tag", image, name])).await.map(drop)
    }

    /// Takes a name away from an image of the local store; without any name the image goes. Intermediate images of docker's first
    /// builder stay: another build may be using them as its cache. Not a future, so that it can be done where nobody waits any
    /// more.
    ///
    /// # Errors
    /// There is no such image, a container uses it, or the engine is down.
    pub fn untag(&self, image: &str) -> Result<(), DockerError> {
        let mut command = self.command().args(["image", "rm"]);
        if matches!(self.kind, Kind::Docker | Kind::Podman) {
            command = command.arg("--no-prune");
        }
        let removed = command.arg(image).read();
        removed.map(drop).map_err(|error| DockerError::from_process(self, error))
    }

    /// Pulls an image into the local store, line by line.
    ///
    /// # Errors
    /// The engine is down, or the registry refuses.
    pub async fn pull(
        &self,
        image: &str,
        killer: Killer,
        on_line: impl FnMut(&str) + Send + 'static,
    ) -> Result<(), DockerError> {
        let command = self.insecure(self.command().arg("pull"), image).arg(image);
        command.stream(killer, on_line).await.map_err(|error| DockerError::from_process(self, error))
    }

    /// Logs the user in, in the user's own configuration: the only thing that writes there. The password goes through stdin.
    ///
    /// # Errors
    /// The registry refuses, or the client cannot store the credential.
    pub async fn login(&self, registry: &str, username: &str, password: Secret) -> Result<(), DockerError> {
        let user = Self { config: None, ..self.clone() };
        let command = user.command().args(["login", "--username", username, "--password-stdin", registry]);
        user.read(command.stdin(password)).await.map(drop)
    }

    /// Starts a container in the background with one port published on loopback, and gives its ID.
    ///
    /// # Errors
    /// The engine is down, or the container does not start.
    pub async fn start(&self, image: &str, port: u16, args: &[String]) -> Result<String, DockerError> {
        let publish = format!("127.0.0.1::{port}");
        let command = self.command().args(["run", "--detach", "--publish", &publish, image]).args(args);
        self.read(command).await
    }

    /// The address on which a container's port is published.
    ///
    /// # Errors
    /// The container has ended, or the engine is down.
    pub async fn published(&self, container: &str, port: u16) -> Result<String, DockerError> {
        let text = self.read(self.command().args(["port", container, &port.to_string()])).await?;
        Ok(text.lines().next().unwrap_or_default().to_owned())
    }

    /// Whether a container still runs.
    ///
    /// # Errors
    /// There is no such container, or the engine is down.
    pub async fn runs(&self, container: &str) -> Result<bool, DockerError> {
        let text =
            self.read(self.command().args(["inspect", "--format", "{{.State.Running}}", container])).await?;
        Ok(text == "true")
    }

    /// What a container printed, stdout and stderr.
    ///
    /// # Errors
    /// There is no such container, or the engine is down.
    pub async fn logs(&self, container: &str) -> Result<Vec<String>, DockerError> {
        let lines = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let sink = std::sync::Arc::clone(&lines);
        let on_line = move |line: &str| {
            if let Ok(mut lines) = sink.lock() {
                lines.push(line.to_owned());
            }
        };
        let command = self.command().args(["logs", container]);
        command
            .stream(Killer::default(), on_line)
            .await
            .map_err(|error| DockerError::from_process(self, error))?;
        Ok(lines.lock().map(|lines| lines.clone()).unwrap_or_default())
    }

    /// Ends and removes a container. Not a future, so that it can be done where nobody waits any more.
    ///
    /// # Errors
    /// The engine is down.
    pub fn remove(&self, container: &str) -> Result<(), DockerError> {
        let removed = self.command().args(["rm", "--force", container]).read();
        removed.map(drop).map_err(|error| DockerError::from_process(self, error))
    }

    /// podman and nerdctl want to be told that a loopback registry speaks plain http; docker knows.
    fn insecure(&self, command: Cmd, image: &str) -> Cmd {
        match self.kind {
            Kind::Podman if is_loopback(image) => command.arg("--tls-verify=false"),
            _ => command,
        }
    }
}

/// Whether this is the other program of that name: Debian's finch is Pidgin's messenger for terminals (`Finch 2.14.12 (...)`).
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

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DockerError> + Send + 'static,
) -> Result<T, DockerError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

#[cfg(test)]
mod tests;
