//! The Lambda runtimes that the project builds itself: key, decision, build, push, tags.
//!
//! A build is named by its inputs ([`key`], specified in `docs/build-key.md`), and what to do is decided by two HEADs
//! ([`plan`]). Three tags in one repository:
//!
//! - `<runtime>-sha256-<digest12>` names one build and never moves;
//! - `<runtime>-k2-<key>` says which build these inputs mean, and moves only by a forced rebuild;
//! - `<runtime>` is what the grid runs.
//!
//! Beside them `<runtime>-history` records how the runtime's tag moved ([`history`]), and `<runtime>-cache-<platform>` keeps a
//! builder's cache where one is asked for. What is installed in a build, and what it was made of, stands beside it without a tag
//! ([`attestations`]).
//!
//! They are put in this order, each by the same manifest bytes, the last one only after what was pushed has been read back
//! and only if it still is what the plan saw. Whatever ends a run in between leaves the old runtime where it was.
//!
//! # Why the image goes to the registry by `docker save` and not by `docker push`
//! The build tag holds the manifest's digest, which docker knows only after a push, and a push needs a tag: it would leave a stray
//! tag behind for each build (ECR removes tags only together with the permission to delete images). So the saved image
//! is pushed by the registry client ([`push`]). That gives more than the name: layers of the base keep upstream's compressed bytes and digests
//! (`docker push` compresses them anew, and scanners and signatures no longer recognise them); every byte is checked against the image's
//! configuration; the same inputs give the same digest, whatever built them ([`normal`]); retries, limits and resumption are those of the mirror; docker, podman, finch and nerdctl behave
//! alike; and the container client never sees a credential that can write.

mod archive;
mod attempt;
mod attestations;
mod base_source;
mod build;
mod builds;
mod compare;
mod context;
mod copy_instructions;
mod decide;
mod empty_blob;
mod emulator;
mod entry_point;
mod error;
mod history;
mod ignore;
mod image_build;
mod key;
mod normal;
mod outcome;
mod packages;
mod planned;
mod progress;
mod publish;
mod push;
mod saved;
mod smoke;
pub mod standing;
#[cfg(test)]
mod tests;
mod tidy;
mod triggers;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use build::{apply, pull};
pub use builds::{Rollback, Why, builds, dated, history, is_build_of, plan_rollback, roll_back, why};
pub use decide::{Failure, Options, explain, plan};
pub use error::RuntimeError;
pub use history::{Cause, history_tag};
use jiff::Timestamp;
pub use outcome::{Done, Outcome};
pub use planned::{Action, Planned};
pub use progress::{How, Progress, State};
use registry::{BoxFuture, Client, Credentials, Digest, Platform, Reference, Server};
use serde::Serialize;
use tokio::sync::OnceCell;
pub use watch::Watch;

use docker::{Docker, Logs};
use dockerfile::{Dockerfile, Given};

/// The local repository's name: what a build is called in the container client's own store.
pub const LOCAL_REPOSITORY: &str = "lambda";

/// One runtime, as the configuration describes it.
#[derive(Clone, Debug)]
pub struct Runtime {
    /// The runtime's name, which is its tag.
    pub name: String,
    /// The base by its upstream name; `None` for one from scratch.
    pub base: Option<Reference>,
    /// The build argument that takes the pinned base; `None` where the Dockerfile names its base itself.
    pub base_argument: Option<String>,
    /// The file of the context that becomes the entry point, where the Dockerfile takes one.
    pub entry_point: Option<String>,
    /// The context's directory.
    pub context: PathBuf,
    /// The Dockerfile, relative to the context.
    pub dockerfile: String,
    /// Files of the context that are other runtimes' alone, so that editing one of them does not rebuild this one; what the
    /// Dockerfile names stays.
    pub leave_out: BTreeSet<String>,
    /// Build arguments by their logical values.
    pub args: BTreeMap<String, String>,
    /// The stage to build.
    pub target: Option<String>,
    /// The platforms; one gives an image, several an index.
    pub platforms: Vec<Platform>,
    /// Set to build anew although nothing else changed.
    pub epoch: Option<String>,
}

impl Runtime {
    /// What the build gives to its Dockerfile.
    fn given(&self) -> Given<'_> {
        Given {
            base: self.base_argument.is_some(),
            base_argument: self.base_argument.as_deref(),
            entry_point_argument: None,
            args: &self.args,
            target: self.target.as_deref(),
            platforms: &self.platforms,
        }
    }

    /// The files that the build does not see: those of others that its Dockerfile does not name.
    fn left_out(&self, dockerfile: &Dockerfile) -> BTreeSet<String> {
        let others = self.leave_out.iter().filter(|file| !dockerfile.names(file, &self.args));
        others.cloned().collect()
    }
}

/// What the builder asks of those who know the configuration, the lock and the account.
pub trait GridSettings: Send + Sync {
    /// The digest that `images.lock` has for a base.
    fn locked_base(&self, base: &Reference) -> Option<Digest>;

    /// What `images.lock` says of a runtime that is held after a rollback.
    fn hold(&self, runtime: &str) -> Option<Hold>;

    /// Where the pull-through cache has a base, by tag; `None` without a cache for its registry.
    fn cached(&self, base: &Reference) -> Option<Reference>;

    /// An image's name for the container engine, which knows none of our routes: under one, the route's host and path.
    fn engine_name(&self, image: &Reference) -> String;

    /// Who signed a base, where somebody has to.
    ///
    /// # Errors
    /// Nobody did who has to, or its registry cannot be asked: then nothing is built on it.
    fn check_signature<'a>(
        &'a self,
        _base: &'a Reference,
        _digest: Digest,
    ) -> BoxFuture<'a, Result<Option<String>, registry::Error>> {
        Box::pin(async { Ok(None) })
    }

    /// Whether a base has been known for long enough to be built upon.
    ///
    /// # Errors
    /// It has not, or nobody knows since when it is known: then nothing is built on it.
    fn is_old_enough(&self, _base: &Reference, _digest: Digest) -> Result<(), registry::Error> {
        Ok(())
    }

    /// Whether the SBOM and the provenance of what is built go beside it.
    fn attestations(&self) -> bool {
        true
    }

    /// The server that the container engine asks for an image: its credential is the one that the engine needs.
    fn server(&self, image: &Reference) -> Option<Server> {
        let name = self.engine_name(image);
        Server::of(&format!("https://{}", name.parse::<Reference>().ok()?.registry()))
    }
}

/// A runtime that stays on one build until it is let go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hold {
    /// The build.
    pub build: Digest,
    /// Since when.
    pub since: Timestamp,
    /// Who put it there.
    pub by: String,
}

/// How a runtime is tried out (`--smoke`).
#[derive(Clone, Debug)]
pub struct Trial {
    /// The handler that its container is started with.
    pub handler: String,
    /// How long it may take to answer.
    pub timeout: Duration,
}

/// Everything that the functions here work with.
pub struct Context {
    /// The registry client.
    pub client: Client,
    /// Credentials, for the engine's pull of a base.
    pub credentials: Arc<dyn Credentials>,
    /// The repository `lambda` at the target; `None` builds into the container client's store alone.
    pub repository: Option<Reference>,
    /// `--container-cli`.
    pub container_cli: Option<String>,
    /// `--builder`.
    pub builder: Option<String>,
    /// Keep a build cache in the repository (BuildKit with `--cache-to`).
    pub registry_cache: bool,
    /// What the configuration, the lock and the account say.
    pub grid_settings: Arc<dyn GridSettings>,
    /// Who hears how it goes.
    pub progress: Arc<dyn Progress>,
    /// A directory for what an image takes on its way (its size, while it is pushed).
    pub scratch: PathBuf,
    /// Where the builds' whole output is kept.
    pub logs: Logs,
    /// `org.opencontainers.image.source`.
    pub source: Option<String>,
    /// The checkout whose commit is `org.opencontainers.image.revision`.
    pub checkout: Option<PathBuf>,
    /// How many builds run side by side.
    pub parallel: usize,
    /// Try each runtime before its tag moves.
    pub trial: Option<Trial>,
    /// Who moves tags, for the record.
    pub who: String,
    docker: OnceCell<Engine>,
    /// Why there is no engine: it is asked once for all runtimes of a plan.
    engine_failure: tokio::sync::Mutex<Option<Arc<RuntimeError>>>,
    transfers: push::Transfers,
}

/// The container client and its engine's platform.
#[derive(Clone, Debug)]
struct Engine {
    docker: Docker,
    platform: Platform,
}

impl Context {
    /// A context of what has no default; the rest is public.
    pub fn new(
        client: Client,
        credentials: Arc<dyn Credentials>,
        grid_settings: Arc<dyn GridSettings>,
        progress: Arc<dyn Progress>,
        scratch: PathBuf,
    ) -> Self {
        let logs = scratch.with_file_name("logs");
        let logs = Logs::new(logs.clone(), logs.display().to_string());
        let cpus = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        Self {
            client,
            credentials,
            repository: None,
            container_cli: None,
            builder: None,
            registry_cache: false,
            grid_settings,
            progress,
            logs,
            scratch,
            source: None,
            checkout: None,
            // A build waits for packages about as long as it computes.
            parallel: (2 * cpus).clamp(2, 4),
            trial: None,
            who: "unknown".to_owned(),
            docker: OnceCell::new(),
            engine_failure: tokio::sync::Mutex::default(),
            transfers: push::Transfers::default(),
        }
    }

    /// The container client, found and asked at the first need: a run with nothing to build starts no program.
    async fn engine(&self) -> Result<&Engine, RuntimeError> {
        if let Some(engine) = self.docker.get() {
            return Ok(engine);
        }
        // Kept locked while one asks: who comes meanwhile takes the same answer.
        let mut failed = self.engine_failure.lock().await;
        if let Some(error) = failed.as_ref() {
            return Err(RuntimeError::Engine(Arc::clone(error)));
        }
        let find = || async {
            let docker = Docker::find(self.container_cli.as_deref()).await?;
            let platform = docker.engine_platform().await?;
            let platform = platform.parse().map_err(|_| RuntimeError::EnginePlatform { platform })?;
            Ok(Engine { docker, platform })
        };
        let found = self.docker.get_or_try_init(find).await;
        found.map_err(|error| RuntimeError::Engine(Arc::clone(failed.insert(Arc::new(error)))))
    }

    /// Lets an engine that did not answer be asked again.
    async fn forget_engine_failure(&self) {
        self.engine_failure.lock().await.take();
    }

    /// The container client, for commands of their own (the priming pull): found at the first need.
    ///
    /// # Errors
    /// None is installed, or its engine does not answer.
    pub async fn docker(&self) -> Result<&Docker, RuntimeError> {
        self.engine().await.map(|engine| &engine.docker)
    }

    /// A file's name in errors, which never show where the checkout stands.
    fn shown(&self, path: &Path) -> String {
        let below = self.checkout.as_deref().and_then(|top| path.strip_prefix(top).ok());
        below.unwrap_or(path).display().to_string()
    }

    /// Whether a container client was needed so far.
    pub fn used_docker(&self) -> bool {
        self.docker.initialized()
    }
}

/// The tag that names one build.
fn build_tag(runtime: &str, digest: &Digest) -> String {
    format!("{runtime}-sha256-{}", digest.short())
}

/// The tag that says which build a key means.
pub fn key_tag(runtime: &str, key: &str) -> String {
    format!("{runtime}-k{}-{key}", key::VERSION)
}

/// The tag of a builder's cache; one for each platform, as each is built by itself.
fn cache_tag(runtime: &str, platform: &Platform) -> String {
    format!("{runtime}-cache-{}", platform.to_string().replace('/', "-"))
}

/// What a build is called in the container client's store. A classic store keeps one platform under a name.
fn local_name(runtime: &Runtime, key: &str, platform: &Platform) -> String {
    let name = format!("{LOCAL_REPOSITORY}:{}", key_tag(&runtime.name, key));
    match runtime.platforms.len() {
        0 | 1 => name,
        _ => format!("{name}-{}", platform.to_string().replace('/', "-")),
    }
}
