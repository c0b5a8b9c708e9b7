//! Runs the builder, and runs it again after failures that the inputs did not cause.

use std::sync::Arc;
use std::time::Duration;

use docker::{Build, BuildEvent, Docker, DockerError};
use process::KillHandle;

use super::{Context, RuntimeError, State};

/// Pause before each further attempt: another build that ended or was killed has removed a part of the builder's store, and may continue to
/// do so for a moment.
const PAUSES: [Duration; 3] = [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(3)];

/// Builds. Steps and lines are reported as those of `runtime`; the whole output goes to a log with the name `log`.
///
/// # Errors
/// As [`Docker::build`]. If the builder has lost a part of its store, the build is repeated, the last time without its cache, with a
/// warning for each attempt.
pub(super) async fn build(
    context: &Context,
    docker: &Docker,
    build: &Build,
    runtime: &str,
    log: &str,
) -> Result<(), RuntimeError> {
    let mut build = build.clone();
    for (at, pause) in PAUSES.iter().enumerate() {
        let lost = match once(context, docker, &build, runtime, log).await {
            Err(lost @ DockerError::LostCache(_)) => lost,
            ended => return Ok(ended?),
        };
        let warning = format!("the builder lost a part of its store, and builds once more: {lost}");
        context.progress.warn(runtime, &warning);
        tokio::time::sleep(*pause).await;
        build.no_cache |= at + 1 == PAUSES.len();
    }
    Ok(once(context, docker, &build, runtime, log).await?)
}

async fn once(
    context: &Context,
    docker: &Docker,
    build: &Build,
    runtime: &str,
    log: &str,
) -> Result<(), DockerError> {
    let kill_handle = KillHandle::default();
    let _kill_on_drop = kill_handle.kill_on_drop();
    let (progress, runtime) = (Arc::clone(&context.progress), runtime.to_owned());
    let tell = move |news: BuildEvent<'_>| match news {
        BuildEvent::Step(step) => progress.state(&runtime, &State::Step(step.clone())),
        BuildEvent::Line(line) => progress.output(&runtime, line),
    };
    docker.build(build, context.logs.open(log), kill_handle, tell).await
}
