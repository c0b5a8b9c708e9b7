//! Selects a build's builder and follows the build. The differences between the clients (docker, podman, finch, nerdctl) are where
//! their `Kind` is matched: here, in `args.rs` and in `store.rs`.

use std::sync::{Arc, Mutex, PoisonError};

use process::{KillHandle, ProcessError};

use super::build_output::{BuildEvent, Follower, Form, Log};
use super::{Build, Builder, Docker, DockerError, Kind};

impl Docker {
    /// Builds an image; `log` gets the whole output, `tell` the steps and their lines.
    ///
    /// # Errors
    /// The client does not support something that was requested, the engine is down, or the build failed: with the step, its last lines and
    /// the log.
    pub async fn build(
        &self,
        build: &Build,
        log: Option<Log>,
        kill_handle: KillHandle,
        mut tell: impl FnMut(BuildEvent<'_>) + Send + 'static,
    ) -> Result<(), DockerError> {
        let command = build.command(self)?;
        let mut log = log;
        if let Some(log) = &mut log {
            log.write(&format!("$ {command}"));
        }
        let follower = Arc::new(Mutex::new(Follower::new(form(self), log)));
        let listener = Arc::clone(&follower);
        let read_line = move |line: &str| {
            listener.lock().unwrap_or_else(PoisonError::into_inner).read_line(line, &mut tell);
        };
        match command.stream(kill_handle, read_line).await {
            Ok(()) => Ok(()),
            Err(ProcessError::Failed { .. }) => {
                let follower = follower.lock().unwrap_or_else(PoisonError::into_inner);
                Err(DockerError::of_build(self, &follower.engine_lines(), follower.failure()))
            }
            Err(error) => Err(DockerError::Process(error)),
        }
    }

    /// The platforms that the builder lists; `None` if it cannot list them.
    ///
    /// # Errors
    /// The builder does not answer.
    pub async fn builder_platforms(&self, builder: Option<&str>) -> Result<Option<Vec<String>>, DockerError> {
        if self.builder != Builder::Buildx {
            return Ok(None);
        }
        let builder = builder_name(self, builder).await;
        let text = self.read(self.command().args(["buildx", "inspect", &builder])).await?;
        let named = text.lines().filter_map(|line| line.trim().strip_prefix("Platforms:"));
        let platforms: Vec<String> = named
            .flat_map(|list| list.split(','))
            .map(|item| item.trim().trim_end_matches('*').to_owned())
            .collect();
        Ok((!platforms.is_empty()).then_some(platforms))
    }
}

/// The format of `build`'s output.
fn form(docker: &Docker) -> Form {
    match (docker.builder, docker.kind) {
        (Builder::Legacy, _) => Form::Legacy,
        (Builder::Own, Kind::Podman) => Form::Podman,
        _ if docker.raw_json => Form::RawJson,
        _ => Form::Plain,
    }
}

/// The builder that `docker build` uses: the one from `--builder` or BUILDX_BUILDER, else that of the current context. The choice of
/// `docker buildx use` only applies to `docker buildx build` and `docker buildx inspect` (`processBuilder` in
/// <https://github.com/docker/cli/blob/master/cmd/docker/builder.go>).
async fn builder_name(docker: &Docker, named: Option<&str>) -> String {
    if let Some(named) = named {
        return named.to_owned();
    }
    match std::env::var("BUILDX_BUILDER") {
        Ok(named) if !named.is_empty() => named,
        _ => {
            let shown = docker.read(docker.command().args(["context", "show"])).await;
            // Clients before 20.10.10 do not support this.
            shown.unwrap_or_else(|_| "default".to_owned())
        }
    }
}
