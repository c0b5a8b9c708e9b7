//! Chooses the registry that the base of a build is pulled from.

use registry::{Platform, Reference};

use super::planned::{Base, Planned};
use super::push::BaseLayers;
use super::{Context, RuntimeError};

/// The base's layers for one platform; empty for a build from scratch.
pub(super) async fn base_layers(
    context: &Context,
    planned: &Planned,
    from: Option<&Reference>,
    platform: &Platform,
) -> Result<BaseLayers, RuntimeError> {
    let (Some(base), Some(from)) = (&planned.base, from) else { return Ok(BaseLayers::default()) };
    let mut read = BaseLayers::read(context, base, from, platform).await;
    // A cache imports an image piece by piece; the upstream has what is still missing.
    if read.is_err() && from.registry() != base.name.registry() {
        read = BaseLayers::read(context, base, &base.name, platform).await;
    }
    read.map_err(|error| match error {
        RuntimeError::Registry(source) => RuntimeError::Base { base: base.name.to_string(), source },
        other => other,
    })
}

/// Where the base is pulled from: the pull-through cache if it has exactly this digest, else the upstream.
///
/// The cache is queried by tag, because a first pull by digest is not supported (<https://github.com/aws/containers-roadmap/issues/2837>).
/// It may be a day old.
pub(super) async fn source(context: &Context, runtime: &str, base: &Base) -> Reference {
    let upstream = base.name.with_digest(base.digest);
    let Some(cached) = context.grid_settings.cached(&base.name) else { return upstream };
    let say = |line: String| context.progress.line(runtime, &line);
    match context.client.manifest(&cached).await {
        Ok(Some(found)) if found.digest() == base.digest => {
            let cached = cached.with_digest(base.digest);
            say(format!("base {cached} (pull-through cache)"));
            cached
        }
        Ok(Some(found)) => {
            say(format!("the pull-through cache still has {} at {cached}", found.digest()));
            say(format!("base {upstream} (upstream)"));
            upstream
        }
        Ok(None) => {
            say(format!("the pull-through cache has no {cached}: base {upstream} (upstream)"));
            upstream
        }
        Err(error) => {
            say(format!("the pull-through cache cannot be used: {error}"));
            say(format!("base {upstream} (upstream)"));
            upstream
        }
    }
}
