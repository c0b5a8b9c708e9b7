//! One call of the builder, and a second one where the first failed by no fault of its inputs.

use std::sync::Arc;

use docker::{Build, Docker, DockerError, News};
use process::Killer;

use super::{Context, RuntimeError, State};

/// Builds, with the steps and lines told as those of `runtime`, and the whole output in a log of the name `log`.
///
/// # Errors
/// As [`Docker::build`]. A builder that has lost a part of its store is asked once more, and the user is told so.
pub(super) async fn build(
    context: &Context,
    docker: &Docker,
    build: &Build,
    runtime: &str,
    log: &str,
) -> Result<(), RuntimeError> {
    match once(context, docker, build, runtime, log).await {
        Err(lost @ DockerError::LostCache(_)) => {
            let warning = format!("the builder lost a part of its store, and builds once more: {lost}");
            context.progress.warn(runtime, &warning);
            Ok(once(context, docker, build, runtime, log).await?)
        }
        ended => Ok(ended?),
    }
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
