//! `--smoke`: starts a runtime once and has it answer, before its tag moves.

use std::time::Duration;

use docker::Container;
use registry::Reference;
use serde::Serialize;

use super::{Context, RuntimeError, Trial};

/// Where the runtime interface emulator listens, and what it is asked
/// (<https://github.com/aws/aws-lambda-runtime-interface-emulator#test-an-image-with-rie-included-in-the-image>).
const PORT: u16 = 8080;
const INVOKE: &str = "/2015-03-31/functions/function/invocations";

/// Between two attempts to reach a container that is starting.
const PAUSE: Duration = Duration::from_millis(100);

/// How many of a container's last lines an error keeps.
const TAIL: usize = 20;

/// What a runtime answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Smoke {
    /// The HTTP status.
    pub status: u16,
    /// The answer, which may be the runtime's complaint that no function is there: it ran, and it answered.
    pub body: String,
}

/// Tries a build of the container client's store, where the run asks for it. By the image's own ID: a name may mean another
/// image in the next moment.
pub(super) async fn local(context: &Context, name: &str) -> Result<Option<Smoke>, RuntimeError> {
    let Some(trial) = &context.trial else { return Ok(None) };
    let docker = context.docker().await?;
    let gone = || RuntimeError::Unreadable { image: name.to_owned(), reason: "it is gone".to_owned() };
    let image = docker.store().image(name).await?.ok_or_else(gone)?;
    smoke(context, &image.id, name, trial).await.map(Some)
}

/// Tries a build of the registry, where the run asks for it: pulled by its digest, and gone from the container client's store
/// afterwards if it was not there before.
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

/// Starts `image` and invokes it once through the emulator; `name` is what errors call it.
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

/// Asks until it answers: an open port is docker's proxy, and says nothing about what is behind it.
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
