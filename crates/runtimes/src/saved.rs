//! Saves a build from the container client's store, compares it with its inputs, and only then gives it its name.

use std::path::{Path, PathBuf};

use docker::Docker;
use process::{KillHandle, blocking};
use registry::Platform;

use super::archive::Archive;
use super::compare::{CompareError, compare};
use super::copy_instructions::copies;
use super::planned::Planned;
use super::push;
use super::{Context, LOCAL_REPOSITORY, RuntimeError, State};

/// The name of an image that has not been checked yet; removed when this value is dropped.
#[derive(Debug)]
pub(super) struct Provisional {
    docker: Docker,
    name: String,
}

impl Provisional {
    /// A name that is unique to this process.
    pub(super) fn new(docker: &Docker, runtime: &str, platform: &Platform) -> Self {
        let (process, platform) = (std::process::id(), platform.to_string().replace('/', "-"));
        let name = format!("{LOCAL_REPOSITORY}:{runtime}-unchecked-{process}-{platform}");
        Self { docker: docker.clone(), name }
    }

    /// The name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Provisional {
    fn drop(&mut self) {
        // A build that failed or was cancelled has no name.
        let _ = self.docker.store().untag(&self.name);
    }
}

/// Saves each platform's image and compares it with its inputs. `built` are images of this run, which get their names in the store,
/// `local`, if they match; without them, the store's images of these names are used. An image that does not match loses its name, so that
/// no later run uses it.
pub(super) async fn save_and_compare(
    context: &Context,
    planned: &Planned,
    docker: &Docker,
    local: &[String],
    built: Vec<Provisional>,
    room: &Path,
) -> Result<Vec<PathBuf>, RuntimeError> {
    context.progress.state(&planned.name, &State::Packing);
    let mut all = Vec::new();
    for (at, (platform, local)) in planned.runtime.platforms.iter().zip(local).enumerate() {
        let provisional = built.get(at);
        let name = provisional.map_or(local.as_str(), Provisional::name);
        let saved = push::saved_file(room, platform);
        let kill_handle = KillHandle::default();
        let kill_on_drop = kill_handle.kill_on_drop();
        docker.store().save(name, &saved, kill_handle).await?;
        drop(kill_on_drop);
        if let Err(source) = compare_with_inputs(planned, platform, &saved).await {
            if provisional.is_none() {
                // It may be in use by a container: only the other error matters.
                let _ = docker.store().untag(local);
            }
            return Err(RuntimeError::NotItsInputs { image: local.clone(), source });
        }
        all.push(saved);
    }
    for (name, local) in built.iter().zip(local) {
        docker.store().tag(name.name(), local).await?;
    }
    Ok(all)
}

async fn compare_with_inputs(
    planned: &Planned,
    platform: &Platform,
    saved: &Path,
) -> Result<(), CompareError> {
    if cfg!(feature = "uncompared") {
        return Ok(());
    }
    let copies = copies(&planned.context, &planned.layers(platform));
    let saved = saved.to_owned();
    blocking(move || compare(&Archive::open(&saved)?, &copies)).await
}
