//! `--smoke`: starts a runtime once and invokes it, before its tag moves.

use std::time::Duration;

use docker::Container;
use registry::Reference;
use serde::Serialize;

use super::{Context, RuntimeError, Trial};

/// The port of the runtime interface emulator, and its path for an invocation
/// (<https://github.com/aws/aws-lambda-runtime-interface-emulator#test-an-image-with-rie-included-in-the-image>).
const PORT: u16 = 8080;
const INVOKE: &str = "/2015-03-31/functions/function/invocations";

/// Pause between attempts to reach a container that is starting.
const PAUSE: Duration = Duration::from_millis(100);

/// How many of a container's last lines an error contains.
const TAIL: usize = 20;

/// A runtime's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Smoke {
    /// The HTTP status.
    pub status: u16,
    /// The body. It may be the runtime's error that there is no function: the runtime started and answered.
    pub body: String,
}

/// Tests a build in the container client's store, if requested. It uses the image's ID, because its name may be moved to another image at
/// any time.
pub(super) async fn local(context: &Context, name: &str) -> Result<Option<Smoke>, RuntimeError> {
    let Some(trial) = &context.trial else { return Ok(None) };
    let docker = context.docker().await?;
    let gone = || RuntimeError::Unreadable { image: name.to_owned(), reason: "it is gone".to_owned() };
    let image = docker.store().image(name).await?.ok_or_else(gone)?;
    smoke(context, &image.id, name, trial).await.map(Some)
}

/// Tests a build at the registry, if requested: pulled by its digest, and removed from the container client's store if it was not there
/// before.
pub(super) async fn at_registry(context: &Context, build: &Reference) -> Result<Option<Smoke>, RuntimeError> {
    let Some(trial) = &context.trial else { return Ok(None) };
    let (docker, name) = (context.docker().await?, context.grid_settings.engine_name(build));
    let was_there = docker.store().image(&name).await?.is_some();
    super::pull(context, build).await?;
    let answer = smoke(context, &name, &name, trial).await;
    if !was_there && let Err(error) = docker.store().untag(&name) {
        context.progress.line(build.repository(), &format!("{name} was left in the local engine: {error}"));
    }
    answer.map(Some)
}

/// Starts `image` and invokes it once through the emulator; errors call it `name`.
async fn smoke(context: &Context, image: &str, name: &str, trial: &Trial) -> Result<Smoke, RuntimeError> {
    let docker = context.docker().await?;
    let container = Container::start(docker, image, PORT, std::slice::from_ref(&trial.handler)).await?;
    let answer = tokio::time::timeout(trial.timeout, invoke(&container)).await;
    let reason = match answer {
        Ok(Ok(answer)) => return Ok(answer),
        Ok(Err(reason)) => reason,
        Err(_) => format!("no answer within {} s", trial.timeout.as_secs()),
    };
    let mut tail = container.logs().await.unwrap_or_default();
    let tail = tail.split_off(tail.len().saturating_sub(TAIL));
    Err(RuntimeError::Smoke { image: name.to_owned(), reason, tail })
}

/// Repeats until it answers: an open port is only docker's proxy, and does not show that the runtime listens.
async fn invoke(container: &Container<'_>) -> Result<Smoke, String> {
    let client = reqwest::Client::builder().no_proxy().build().map_err(|error| error.to_string())?;
    loop {
        if !container.is_running().await.map_err(|error| error.to_string())? {
            return Err("it ended before it answered".to_owned());
        }
        let address = container.published(PORT).await.map_err(|error| error.to_string())?;
        let request = client.post(format!("http://{address}{INVOKE}")).body("{}");
        if let Ok(response) = request.send().await {
            let status = response.status().as_u16();
            let body = response.text().await.map_err(|error| error.to_string())?;
            return Ok(Smoke { status, body });
        }
        tokio::time::sleep(PAUSE).await;
    }
}
