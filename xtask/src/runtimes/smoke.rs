//! `--smoke`: starts a runtime once and has it answer.

use std::time::Duration;

use super::{Context, RuntimeError};
use crate::docker::Docker;

/// Where the runtime interface emulator listens, and what it is asked
/// (<https://github.com/aws/aws-lambda-runtime-interface-emulator#test-an-image-with-rie-included-in-the-image>).
const PORT: u16 = 8080;
const INVOKE: &str = "/2015-03-31/functions/function/invocations";

/// Between two attempts to reach a container that is starting.
const PAUSE: Duration = Duration::from_millis(100);

/// How many of a container's last lines an error keeps.
const TAIL: usize = 20;

/// What a runtime answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Smoke {
    /// The HTTP status.
    pub status: u16,
    /// The answer, which may be the runtime's complaint that no function is there: it ran, and it answered.
    pub body: String,
}

/// A container that goes away with this value.
struct Container<'a> {
    docker: &'a Docker,
    id: String,
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        // Nobody is left to be told if the engine is gone.
        let _ = self.docker.remove(&self.id);
    }
}

/// Starts `image` of the container client's store with `handler` and invokes it once through the emulator.
///
/// # Errors
/// The container ends, or does not answer within `patience`; its last lines are in the error.
pub async fn smoke(
    context: &Context,
    image: &str,
    handler: &str,
    patience: Duration,
) -> Result<Smoke, RuntimeError> {
    let docker = context.docker().await?;
    let id = docker.start(image, PORT, &[handler.to_owned()]).await?;
    let container = Container { docker, id };
    let answer = tokio::time::timeout(patience, invoke(docker, &container.id)).await;
    let reason = match answer {
        Ok(Ok(answer)) => return Ok(answer),
        Ok(Err(reason)) => reason,
        Err(_) => format!("no answer within {} s", patience.as_secs()),
    };
    let mut tail = docker.logs(&container.id).await.unwrap_or_default();
    let tail = tail.split_off(tail.len().saturating_sub(TAIL));
    Err(RuntimeError::Smoke { image: image.to_owned(), reason, tail })
}

/// Asks until it answers: an open port is docker's proxy, and says nothing about what is behind it.
async fn invoke(docker: &Docker, container: &str) -> Result<Smoke, String> {
    let client = reqwest::Client::builder().no_proxy().build().map_err(|error| error.to_string())?;
    loop {
        if !docker.runs(container).await.map_err(|error| error.to_string())? {
            return Err("it ended before it answered".to_owned());
        }
        let address = docker.published(container, PORT).await.map_err(|error| error.to_string())?;
        let request = client.post(format!("http://{address}{INVOKE}")).body("{}");
        if let Ok(response) = request.send().await {
            let status = response.status().as_u16();
            let body = response.text().await.map_err(|error| error.to_string())?;
            return Ok(Smoke { status, body });
        }
        tokio::time::sleep(PAUSE).await;
    }
}
