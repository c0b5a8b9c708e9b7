//! Carrying a plan out, as far as the image: what is done for each runtime, its base, its build.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use docker::{Builder, Cache, Docker, PrivateConfig, RegistryAuth};
use futures_util::StreamExt as _;
use process::{Cmd, Killer, Secret};
use registry::{Credential, Platform, Reference, Server};

use super::attempt;
use super::blocking::blocking;
use super::context::{Staged, Staging};
use super::copies::layers;
use super::key::{INPUTS_LABEL, KEY_LABEL};
use super::outcome::{Done, Outcome};
use super::planned::{Action, Base, Planned, same_machine};
use super::publish::{promote, publish};
use super::push::{self, BaseLayers, Packed};
use super::saved::{Provisional, save_and_compare};
use super::smoke;
use super::{Context, Engine, LOCAL_REPOSITORY, RuntimeError, State, cache_tag, local_name, tidy, triggers};

/// What the names of the directories for images on their way begin with; the process's number follows.
const ROOM_PREFIX: &str = "build-";

/// Carries a plan out, several runtimes side by side. One that fails does not stop the others, and leaves the runtime as it was.
pub async fn apply(context: &Context, planned: Vec<Planned>) -> Vec<Outcome> {
    docker::sweep(&context.scratch, ROOM_PREFIX);
    context.logs.tidy();
    let built = tidy::current(&planned);
    let shared = Shared {
        config: tokio::sync::OnceCell::new(),
        hosts: pull_hosts(context, &planned),
        room: tokio::sync::OnceCell::new(),
    };
    let each = planned.into_iter().map(|planned| {
        let shared = &shared;
        async move {
            let started = Instant::now();
            let result = apply_one(context, &planned, shared).await;
            Outcome { name: planned.name, result, took: started.elapsed() }
        }
    });
    let outcomes: Vec<Outcome> =
        futures_util::stream::iter(each).buffered(context.parallel.max(1)).collect().await;
    // Not while a build runs: docker's first builder loses what it took from its cache.
    tidy::tidy(context, &built, &outcomes).await;
    outcomes
}

/// What all runtimes of a run have in common, made at the first need.
struct Shared {
    /// One configuration for all: credentials of every registry that a base comes from.
    config: tokio::sync::OnceCell<Arc<PrivateConfig>>,
    hosts: HashSet<Server>,
    room: tokio::sync::OnceCell<Room>,
}

/// Where images and contexts lie on their way; removed with this value.
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

/// The servers that the engine pulls from: a route gives a registry another host.
fn pull_hosts(context: &Context, planned: &[Planned]) -> HashSet<Server> {
    let bases = planned.iter().filter_map(|planned| planned.base.as_ref());
    let images = bases.flat_map(|base| [Some(base.name.clone()), context.grid_settings.cached(&base.name)]);
    let cache = context.repository.clone().filter(|_| context.registry_cache);
    images.flatten().chain(cache).filter_map(|image| context.grid_settings.server(&image)).collect()
}

/// Pulls an image into the container client's store, with the run's own credentials.
///
/// # Errors
/// The engine is down, or the registry refuses.
pub async fn pull(context: &Context, image: &Reference) -> Result<(), RuntimeError> {
    let name = context.grid_settings.engine_name(image);
    let servers = context.grid_settings.server(image).into_iter().collect();
    let config = private_config(context, &servers).await?;
    let docker = context.engine().await?.docker.clone().with_config(&config);
    let (progress, subject) = (Arc::clone(&context.progress), image.repository().to_owned());
    progress.line(&subject, &format!("pulling {name} into the local engine"));
    docker.pull(&name, Killer::default(), move |line| progress.output(&subject, line)).await?;
    Ok(())
}

async fn private_config(
    context: &Context,
    servers: &HashSet<Server>,
) -> Result<Arc<PrivateConfig>, RuntimeError> {
    let mut auths = Vec::new();
    for server in servers {
        let credential = context.credentials.get(server, None).await;
        // Without a credential a public base can still be pulled; whether it can, the engine says.
        let (username, password) = match credential {
            Ok(Some(Credential::Basic { username, password })) => (username, password),
            Ok(Some(Credential::IdentityToken(token))) => (String::new(), token),
            Ok(None) | Err(_) => continue,
        };
        auths.push(RegistryAuth {
            registry: server.host().to_owned(),
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
    let config = shared.config.get_or_try_init(|| private_config(context, &shared.hosts)).await?;
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
    let bases =
        planned.runtime.platforms.iter().map(|platform| base_for(context, planned, from.as_ref(), platform));
    let bases = futures_util::future::try_join_all(bases).await?;
    let mut done = Done { base_from, built: forced.is_some(), ..Done::default() };
    done.local = local_names(planned);
    let built = match forced {
        Some(fresh) => {
            check_builder(planned, &engine.docker)?;
            for pinned in bases.iter().filter_map(BaseLayers::pinned).chain(&planned.needs.stages) {
                triggers::check(context, pinned).await?;
            }
            let (staging, files) = (Arc::clone(&whole.staging), planned.context.clone());
            let directory = room.path().to_owned();
            let staged = blocking(move || staging.stage(&files, &directory)).await?;
            build_all(context, planned, &engine, &bases, &staged, fresh).await?
        }
        None => Vec::new(),
    };
    let saved = save_and_compare(context, planned, &engine.docker, &done.local, built, room.path()).await?;
    if context.repository.is_none() {
        name_locally(&engine, planned, &done.local).await?;
    }
    // Nothing is at the registry yet, not even a tag that another run would take up.
    done.smoke = smoke::local(context, for_here(&engine, planned, &done.local)).await?;
    if let Some(repository) = &context.repository {
        let images = pack(planned, saved, &bases, room.path()).await?;
        publish(context, planned, repository, &images, &bases, &mut done).await?;
    }
    Ok(done)
}

/// Builds for each platform. The images have provisional names: what they are called in the end, they are called once they have
/// been compared with their inputs.
async fn build_all(
    context: &Context,
    planned: &Planned,
    engine: &Engine,
    bases: &[BaseLayers],
    staged: &Staged,
    fresh: bool,
) -> Result<Vec<Provisional>, RuntimeError> {
    let mut built = Vec::new();
    for (platform, base) in planned.runtime.platforms.iter().zip(bases) {
        let pinned = base.pinned().map(|base| context.grid_settings.engine_name(base));
        let name = Provisional::new(&engine.docker, &planned.name, platform);
        build_one(context, planned, engine, platform, staged, pinned.as_deref(), fresh, &name).await?;
        built.push(name);
    }
    Ok(built)
}

/// Refuses a Dockerfile with here-documents where the builder takes their lines for instructions.
fn check_builder(planned: &Planned, docker: &Docker) -> Result<(), RuntimeError> {
    let Some(line) = planned.dockerfile.heredoc() else { return Ok(()) };
    let knows = match docker.builder() {
        Builder::Buildx | Builder::Own => true,
        // Only clients before docker 23 build with BuildKit without buildx, and bring a BuildKit of that time.
        Builder::BuildKit => planned.dockerfile.has_syntax(),
        Builder::Legacy => false,
    };
    if knows {
        return Ok(());
    }
    let builder = docker.builder().to_string();
    Err(RuntimeError::Heredoc { dockerfile: planned.runtime.dockerfile.clone(), line, builder })
}

/// The build's names in the container client's store, one a platform.
fn local_names(planned: &Planned) -> Vec<String> {
    let platforms = planned.runtime.platforms.iter();
    platforms.map(|platform| local_name(&planned.runtime, &planned.key, platform)).collect()
}

/// The build for this machine's engine, or the only one there is.
fn for_here<'a>(engine: &Engine, planned: &Planned, local: &'a [String]) -> &'a str {
    let platforms = &planned.runtime.platforms;
    let here = platforms.iter().position(|platform| same_machine(platform, &engine.platform));
    local.get(here.unwrap_or_default()).map_or("", String::as_str)
}

/// Gives the name that a contributor types to the build for this machine.
async fn name_locally(engine: &Engine, planned: &Planned, local: &[String]) -> Result<(), RuntimeError> {
    let image = for_here(engine, planned, local);
    engine.docker.tag(image, &format!("{LOCAL_REPOSITORY}:{}", planned.name)).await?;
    Ok(())
}

/// What the base is for one platform; nothing where the build begins from scratch.
async fn base_for(
    context: &Context,
    planned: &Planned,
    from: Option<&Reference>,
    platform: &Platform,
) -> Result<BaseLayers, RuntimeError> {
    let (Some(base), Some(from)) = (&planned.base, from) else { return Ok(BaseLayers::default()) };
    let mut read = BaseLayers::read(context, base, from, platform).await;
    // A cache imports an image piece by piece; what it lacks, the upstream has.
    if read.is_err() && from.registry() != base.name.registry() {
        read = BaseLayers::read(context, base, &base.name, platform).await;
    }
    read.map_err(|error| match error {
        RuntimeError::Registry(source) => RuntimeError::Base { base: base.name.to_string(), source },
        other => other,
    })
}

/// Where the base is taken from: the pull-through cache if it has this very digest, else the upstream.
///
/// The cache is asked by tag, because a first pull by digest is not supported
/// (<https://github.com/aws/containers-roadmap/issues/2837>), and may be a day behind.
async fn source(context: &Context, runtime: &str, base: &Base) -> Reference {
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

#[expect(clippy::too_many_arguments, reason = "what one build of one platform is")]
async fn build_one(
    context: &Context,
    planned: &Planned,
    engine: &Engine,
    platform: &Platform,
    staged: &Staged,
    pinned: Option<&str>,
    fresh: bool,
    name: &Provisional,
) -> Result<(), RuntimeError> {
    let runtime = &planned.runtime;
    let state =
        State::Building { platform: platform.to_string(), base: pinned.unwrap_or("scratch").to_owned() };
    context.progress.state(&planned.name, &state);
    let mut args = runtime.args.clone();
    let mut staged = staged.clone();
    match (pinned, &runtime.base_argument) {
        (Some(pinned), Some(argument)) => {
            args.insert(argument.clone(), pinned.to_owned());
        }
        // The user's file stays as it is: the builder gets a copy whose FROM names what the base's name was resolved to.
        (Some(pinned), None) => {
            let text = planned.dockerfile.pin(&planned.needs, pinned);
            staged = staged.with_dockerfile(&platform.to_string().replace('/', "-"), text.as_bytes())?;
        }
        (None, _) => {}
    }
    // docker's legacy builder alone needs a tar file, and only of some contexts.
    let legacy = engine.docker.builder() == Builder::Legacy;
    let (tar, dockerfile) = match legacy && staged.has_ignore_file() {
        true => {
            let pins = pinned.is_some() && runtime.base_argument.is_none();
            let is_copied = planned.context.entries.contains_key(&runtime.dockerfile)
                && planned.dockerfile.may_copy(&runtime.dockerfile, &runtime.args);
            if pins && is_copied {
                return Err(RuntimeError::CopiesItself { dockerfile: runtime.dockerfile.clone() });
            }
            let (staged, name) = (staged.clone(), runtime.dockerfile.clone());
            blocking(move || staged.tar(&name)).await.map(|(tar, name)| (Some(tar), PathBuf::from(name)))?
        }
        false => (None, staged.dockerfile.clone()),
    };
    // A client without `--platform` builds for its engine, which is what was wanted if the two are equal.
    let here = same_machine(platform, &engine.platform);
    let named = !here || engine.docker.has_flag("--platform");
    let cache = context.repository.as_ref().filter(|_| context.registry_cache).map(|repository| Cache {
        reference: format!(
            "{}:{}",
            context.grid_settings.engine_name(repository),
            cache_tag(&planned.name, platform)
        ),
        write: true,
    });
    let build = docker::Build {
        context: match tar {
            Some(tar) => docker::BuildContext::Tar(tar),
            None => docker::BuildContext::Directory(staged.root.clone()),
        },
        dockerfile,
        ignore: staged.ignore.clone(),
        tags: vec![name.name().to_owned()],
        platform: named.then(|| platform.to_string()),
        args,
        target: runtime.target.clone(),
        labels: labels(context, planned),
        fresh,
        distrust_cache: planned.context.has_symlinks() || pinned.is_none(),
        base: pinned.map(str::to_owned),
        builder: context.builder.clone(),
        cache,
    };
    let log = match planned.runtime.platforms.len() {
        0 | 1 => planned.name.clone(),
        _ => format!("{}-{platform}", planned.name),
    };
    attempt::build(context, &engine.docker, &build, &planned.name, &log).await
}

/// What is kept with the image. None of it is in the key.
fn labels(context: &Context, planned: &Planned) -> BTreeMap<String, String> {
    let base = planned.base.as_ref();
    // Without git, or outside a checkout, the image carries no revision.
    let commit = |checkout| Cmd::new("git").args(["rev-parse", "HEAD"]).cwd(checkout).read().ok();
    let labels = [
        (KEY_LABEL, Some(planned.key.clone())),
        (INPUTS_LABEL, Some(planned.inputs.to_label())),
        ("org.opencontainers.image.base.name", base.map(|base| base.name.to_string())),
        ("org.opencontainers.image.base.digest", base.map(|base| base.digest.to_string())),
        ("org.opencontainers.image.source", context.source.clone()),
        ("org.opencontainers.image.revision", context.checkout.as_deref().and_then(commit)),
    ];
    labels.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

/// Makes of each platform's saved image what goes to the registry.
async fn pack(
    planned: &Planned,
    saved: Vec<PathBuf>,
    bases: &[BaseLayers],
    room: &Path,
) -> Result<Vec<Packed>, RuntimeError> {
    let mut images = Vec::new();
    for ((platform, saved), base) in planned.runtime.platforms.iter().zip(saved).zip(bases) {
        let (runtime, name) = (&planned.runtime, platform.to_string());
        let instructions = layers(&planned.context, runtime.target.as_deref(), &runtime.args, &name);
        let (platform, room, base) = (platform.clone(), room.to_owned(), base.clone());
        images.push(blocking(move || push::pack(&saved, &base, &platform, &instructions, &room)).await?);
    }
    Ok(images)
}
