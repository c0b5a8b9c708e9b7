//! Applies a plan: what is done for each runtime, its base, its build.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use docker::{PrivateConfig, RegistryAuth};
use futures_util::StreamExt as _;
use process::{KillHandle, Secret, blocking};
use registry::{Credential, Reference, Server};

use super::archive::Archive;
use super::base_source::{base_layers, source};
use super::context::Staging;
use super::image_build::ImageBuild;
use super::outcome::{Done, Outcome};
use super::packages::{self, Installed};
use super::planned::{Action, Planned, same_machine};
use super::publish::{promote, publish};
use super::push::{self, BaseLayers, Packed};
use super::smoke;
use super::{Context, Engine, LOCAL_REPOSITORY, RuntimeError, local_name, tidy};

/// Prefix of the directories for temporary images, followed by the process ID.
const ROOM_PREFIX: &str = "build-";

/// Applies a plan, several runtimes in parallel. If one fails, the others continue, and its tag does not move.
pub async fn apply(context: &Context, planned: Vec<Planned>) -> Vec<Outcome> {
    docker::sweep(&context.scratch, ROOM_PREFIX);
    context.logs.tidy();
    let built = tidy::current(&planned);
    let shared = Shared {
        config: tokio::sync::OnceCell::new(),
        asked: pulled(context, &planned),
        room: tokio::sync::OnceCell::new(),
    };
    let each = planned.into_iter().map(|planned| {
        let shared = &shared;
        async move {
            let began = Instant::now();
            let result = apply_one(context, &planned, shared).await;
            Outcome { name: planned.name, result, began, took: began.elapsed() }
        }
    });
    let outcomes: Vec<Outcome> =
        futures_util::stream::iter(each).buffered(context.parallel.max(1)).collect().await;
    // Not while a build runs: docker's legacy builder would lose images that it uses from its cache.
    tidy::tidy(context, &built, &outcomes).await;
    outcomes
}

/// What all runtimes of a run share, created when first needed.
struct Shared {
    /// One configuration for all: the credentials of every registry that a base comes from.
    config: tokio::sync::OnceCell<Arc<PrivateConfig>>,
    asked: Asked,
    room: tokio::sync::OnceCell<Room>,
}

/// The directory of temporary images and contexts; removed when this value is dropped.
struct Room {
    directory: tempfile::TempDir,
    staging: Arc<Staging>,
}

impl Room {
    fn new(context: &Context) -> Result<Self, RuntimeError> {
        let scratch = |source| RuntimeError::Scratch { path: context.scratch.display().to_string(), source };
        std::fs::create_dir_all(&context.scratch).map_err(scratch)?;
        let prefix = format!("{ROOM_PREFIX}{}-", std::process::id());
        let directory =
            tempfile::Builder::new().prefix(&prefix).tempdir_in(&context.scratch).map_err(scratch)?;
        let staging = Arc::new(Staging::new(directory.path().join("files")));
        Ok(Self { directory, staging })
    }
}

/// What the engine requests: servers (a route can give a registry another host) and their repositories.
type Asked = HashSet<(Server, String)>;

/// What the engine requests for these images.
fn asked_for(context: &Context, images: impl Iterator<Item = Reference>) -> Asked {
    let asked = images.filter_map(|image| {
        let name: Reference = context.grid_settings.engine_name(&image).parse().ok()?;
        Some((context.grid_settings.server(&image)?, name.repository().to_owned()))
    });
    asked.collect()
}

fn pulled(context: &Context, planned: &[Planned]) -> Asked {
    let bases = planned.iter().filter_map(|planned| planned.base.as_ref());
    let images = bases.flat_map(|base| [Some(base.name.clone()), context.grid_settings.cached(&base.name)]);
    let cache = context.repository.clone().filter(|_| context.registry_cache);
    asked_for(context, images.flatten().chain(cache))
}

/// Pulls an image into the container client's store, with the run's own credentials.
///
/// # Errors
/// The engine does not run, or the registry refuses.
pub async fn pull(context: &Context, image: &Reference) -> Result<(), RuntimeError> {
    let name = context.grid_settings.engine_name(image);
    let asked = asked_for(context, std::iter::once(image.clone()));
    let config = private_config(context, &asked).await?;
    let docker = context.engine().await?.docker.clone().with_config(&config);
    let (progress, subject) = (Arc::clone(&context.progress), image.repository().to_owned());
    progress.line(&subject, &format!("pulling {name} into the local engine"));
    let kill_handle = KillHandle::default();
    let _kill_on_drop = kill_handle.kill_on_drop();
    docker.store().pull(&name, kill_handle, move |line| progress.output(&subject, line)).await?;
    Ok(())
}

async fn private_config(context: &Context, asked: &Asked) -> Result<Arc<PrivateConfig>, RuntimeError> {
    let mut auths = Vec::new();
    let mut servers = HashSet::new();
    for (server, repository) in asked {
        let namespaces = context.credentials.namespaces(server).await.unwrap_or_default();
        servers.insert(server.around(repository, &namespaces));
    }
    for server in servers {
        let credential = context.credentials.get(&server, None).await.ok().flatten();
        // Without a credential the engine may still be able to pull a public base. Logins in the user's own file or variable are passed on
        // unchanged.
        let Some((username, password)) = credential.and_then(Credential::into_login) else { continue };
        auths.push(RegistryAuth {
            registry: format!("{}/{}", server.host(), server.namespace()).trim_end_matches('/').to_owned(),
            username,
            password: Secret::new(password),
        });
    }
    Ok(Arc::new(PrivateConfig::create(&auths)?))
}

async fn apply_one(context: &Context, planned: &Planned, shared: &Shared) -> Result<Done, RuntimeError> {
    let forced = match planned.action {
        Action::Nothing => match &context.repository {
            Some(repository) => {
                let smoke = match planned.seen {
                    Some(seen) => smoke::at_registry(context, &repository.with_digest(seen)).await?,
                    None => None,
                };
                return Ok(Done { digest: planned.seen, smoke, ..Done::default() });
            }
            None => {
                let (engine, local) = (context.engine().await?, local_names(planned));
                name_locally(engine, planned, &local).await?;
                let smoke = smoke::local(context, for_here(engine, planned, &local)).await?;
                return Ok(Done { local, smoke, ..Done::default() });
            }
        },
        Action::Promote { digest } => return promote(context, planned, digest).await,
        Action::Push => None,
        Action::Build { forced } => Some(forced),
    };
    let engine = context.engine().await?;
    let config = shared.config.get_or_try_init(|| private_config(context, &shared.asked)).await?;
    let engine =
        Engine { docker: engine.docker.clone().with_config(config), platform: engine.platform.clone() };
    let whole = shared.room.get_or_try_init(|| async { Room::new(context) }).await?;
    let room = tempfile::tempdir_in(whole.directory.path()).map_err(|source| RuntimeError::Scratch {
        path: whole.directory.path().display().to_string(),
        source,
    })?;

    let from = match &planned.base {
        Some(base) => Some(source(context, &planned.name, base).await),
        None => None,
    };
    let base_from = from.as_ref().map(|from| context.grid_settings.engine_name(from));
    let bases = planned
        .runtime
        .platforms
        .iter()
        .map(|platform| base_layers(context, planned, from.as_ref(), platform));
    let bases = futures_util::future::try_join_all(bases).await?;
    let mut done = Done { base_from, local: local_names(planned), ..Done::default() };
    let build = ImageBuild {
        context,
        planned,
        docker: &engine.docker,
        platform: &engine.platform,
        bases: &bases,
        staging: &whole.staging,
        directory: room.path(),
    };
    let before = match forced {
        Some(true) => tidy::named(&engine.docker, &done.local).await?,
        _ => Vec::new(),
    };
    let saved = build.saved(forced, &mut done).await?;
    if context.repository.is_none() {
        name_locally(&engine, planned, &done.local).await?;
    }
    tidy::remove_nameless(&engine.docker, before).await;
    // Nothing is at the registry yet, so no other run can find a tag of this build.
    done.smoke = smoke::local(context, for_here(&engine, planned, &done.local)).await?;
    if let Some(repository) = &context.repository {
        let images = pack(context, planned, saved, &bases, room.path()).await?;
        publish(context, planned, repository, &images, &bases, &mut done).await?;
    }
    Ok(done)
}

/// The build's names in the container client's store, one per platform.
fn local_names(planned: &Planned) -> Vec<String> {
    let platforms = planned.runtime.platforms.iter();
    platforms.map(|platform| local_name(&planned.runtime, &planned.key, platform)).collect()
}

/// The build for this machine's engine, or the only one.
fn for_here<'a>(engine: &Engine, planned: &Planned, local: &'a [String]) -> &'a str {
    let platforms = &planned.runtime.platforms;
    let here = platforms.iter().position(|platform| same_machine(platform, &engine.platform));
    local.get(here.unwrap_or_default()).map_or("", String::as_str)
}

/// Adds the short name that contributors type to the build for this machine.
async fn name_locally(engine: &Engine, planned: &Planned, local: &[String]) -> Result<(), RuntimeError> {
    let image = for_here(engine, planned, local);
    engine.docker.store().tag(image, &format!("{LOCAL_REPOSITORY}:{}", planned.name)).await?;
    Ok(())
}

/// Converts each platform's saved image to the form that goes to the registry.
async fn pack(
    context: &Context,
    planned: &Planned,
    saved: Vec<PathBuf>,
    bases: &[BaseLayers],
    room: &Path,
) -> Result<Vec<Packed>, RuntimeError> {
    let mut images = Vec::new();
    for ((platform, saved), base) in planned.runtime.platforms.iter().zip(saved).zip(bases) {
        let instructions = planned.layers(platform);
        let (platform, room, base) = (platform.clone(), room.to_owned(), base.clone());
        let installed = installed(context, saved.clone());
        let packed = blocking(move || push::pack(&saved, &base, &platform, &instructions, &room));
        let (mut packed, installed) = tokio::try_join!(packed, installed)?;
        packed.installed = installed;
        images.push(packed);
    }
    Ok(images)
}

/// The packages of a saved image; `None` if attestations are switched off.
async fn installed(context: &Context, saved: PathBuf) -> Result<Option<Installed>, RuntimeError> {
    if !context.grid_settings.attestations() {
        return Ok(None);
    }
    blocking(move || Ok(Some(packages::read(&Archive::open(&saved)?)?))).await
}
