//! One call of the builder, and further ones where it failed by no fault of its inputs.

use std::sync::Arc;
use std::time::Duration;

use docker::{Build, Docker, DockerError, News};
use process::Killer;

use super::{Context, RuntimeError, State};

/// Before each further attempt: what lost the part, another build that ended or was killed, may go on for a moment.
const PAUSES: [Duration; 3] = [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(3)];

/// Builds, with the steps and lines told as those of `runtime`, and the whole output in a log of the name `log`.
///
/// # Errors
/// As [`Docker::build`]. A builder that has lost a part of its store is asked again, the last time without its cache, and the user is
/// told so.
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
    let killer = Killer::default();
    let _leash = killer.leash();
    let (progress, runtime) = (Arc::clone(&context.progress), runtime.to_owned());
    let tell = move |news: News<'_>| match news {
        News::Step(step) => progress.state(&runtime, &State::Step(step.clone())),
        News::Line(line) => progress.output(&runtime, line),
    };
    docker.build(build, context.logs.open(log), killer, tell).await
}
