//! Starts a container, queries it and removes it.

use std::sync::{Arc, Mutex, PoisonError};

use process::KillHandle;

use super::{Docker, DockerError};

/// A background container. It is removed when this value is dropped.
#[derive(Debug)]
pub struct Container<'a> {
    docker: &'a Docker,
    id: String,
}

impl<'a> Container<'a> {
    /// Starts a container of `image` with one port published on loopback.
    ///
    /// # Errors
    /// The engine is down, or the container does not start.
    pub async fn start(
        docker: &'a Docker,
        image: &str,
        port: u16,
        args: &[String],
    ) -> Result<Self, DockerError> {
        let publish = format!("127.0.0.1::{port}");
        let command = docker.command().args(["run", "--detach", "--publish", &publish, image]).args(args);
        Ok(Self { docker, id: docker.read(command).await? })
    }

    /// The address of its published port.
    ///
    /// # Errors
    /// The container has ended, or the engine is down.
    pub async fn published(&self, port: u16) -> Result<String, DockerError> {
        let text =
            self.docker.read(self.docker.command().args(["port", &self.id, &port.to_string()])).await?;
        Ok(text.lines().next().unwrap_or_default().to_owned())
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// There is no such container, or the engine is down.
    pub async fn is_running(&self) -> Result<bool, DockerError> {
        let inspect = self.docker.command().args(["inspect", "--format", "{{.State.Running}}", &self.id]);
        Ok(self.docker.read(inspect).await? == "true")
    }

    /// Its output, stdout and stderr.
    ///
    /// # Errors
    /// There is no such container, or the engine is down.
    pub async fn logs(&self) -> Result<Vec<String>, DockerError> {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&lines);
        let on_line =
            move |line: &str| sink.lock().unwrap_or_else(PoisonError::into_inner).push(line.to_owned());
        let logs =
            self.docker.command().args(["logs", &self.id]).stream(KillHandle::default(), on_line).await;
        logs.map_err(|error| DockerError::from_process(self.docker, error))?;
        Ok(std::mem::take(&mut *lines.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        // The error can no longer be reported.
        let _ = self.docker.command().args(["rm", "--force", &self.id]).read();
    }
}
