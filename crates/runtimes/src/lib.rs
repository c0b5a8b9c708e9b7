//! The Lambda runtimes that the project builds itself: key, decision, build, push, tags.
//!
//! A build is identified by its inputs ([`key`], specified in `docs/build-key.md`), and two HEAD requests decide what to do ([`plan`]).
//! Three tags in one repository:
//!
//! - `<runtime>-sha256-<digest12>` is one build and never moves;
//! - `<runtime>-k2-<key>` is the build of these inputs, and moves only by a forced rebuild;
//! - `<runtime>` is what the grid runs.
//!
//! In addition, `<runtime>-history` records how the runtime's tag moved ([`history`]), and `<runtime>-cache-<platform>` keeps a builder's
//! cache if requested. The list of a build's packages and of what it was built from are artifacts without a tag ([`attestations`]).
//!
//! The tags are put in this order, with the same manifest bytes, the last one only after what was pushed has been read back and only if it
//! is unchanged since the plan. If a run ends in between, the runtime's tag still refers to the old build.
//!
//! # Why the image goes to the registry by `docker save` and not by `docker push`
//! The build tag contains the manifest's digest, which docker knows only after a push, and a push needs a tag: it would leave an extra tag
//! for each build (ECR removes tags only with the permission to delete images). So the saved image is pushed by the registry client
//! ([`push`]). This has more advantages: layers of the base keep upstream's compressed bytes and digests (`docker push` compresses them
//! again, and scanners and signatures no longer recognise them); every byte is checked against the image's configuration; the same inputs
//! give the same digest with every builder ([`normal`]); retries, limits and resumption are those of the mirror; docker, podman, finch and
//! nerdctl behave alike; and the container client never gets a credential with write access.

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
pub mod tag_check;
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
pub use progress::{CompletedAction, Progress, State};
use registry::{BoxFuture, Client, Credentials, Digest, Platform, Reference, Server};
use serde::Serialize;
use tokio::sync::OnceCell;
pub use watch::Watch;

use docker::{Docker, Logs};
use dockerfile::{Dockerfile, Given};

/// The repository of builds in the container client's own store.
pub const LOCAL_REPOSITORY: &str = "lambda";

/// One runtime, as the configuration describes it.
#[derive(Clone, Debug)]
pub struct Runtime {
    /// The runtime's name, which is also its tag.
    pub name: String,
    /// The base by its upstream name; `None` for a build from scratch.
    pub base: Option<Reference>,
    /// The build argument for the pinned base; `None` if the Dockerfile names its base itself.
    pub base_argument: Option<String>,
    /// The file of the context that becomes the entry point, if the Dockerfile has an argument for it.
    pub entry_point: Option<String>,
    /// The context's directory.
    pub context: PathBuf,
    /// The Dockerfile, relative to the context.
    pub dockerfile: String,
    /// Files of the context that only other runtimes use, so that editing them does not rebuild this one. Files that the Dockerfile names
    /// are kept.
    pub leave_out: BTreeSet<String>,
    /// Build arguments by their logical values.
    pub args: BTreeMap<String, String>,
    /// The stage to build.
    pub target: Option<String>,
    /// The platforms; one gives an image, several give an index.
    pub platforms: Vec<Platform>,
    /// Change it to rebuild with otherwise equal inputs.
    pub epoch: Option<String>,
}

impl Runtime {
    /// The arguments that the build passes to its Dockerfile.
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

    /// The files that are left out of the build: other runtimes' files that its Dockerfile does not name.
    fn left_out(&self, dockerfile: &Dockerfile) -> BTreeSet<String> {
        let others = self.leave_out.iter().filter(|file| !dockerfile.names(file, &self.args));
        others.cloned().collect()
    }
}

/// What the builder needs from the configuration, the lock and the account.
pub trait GridSettings: Send + Sync {
    /// The digest that `images.lock` has for a base.
    fn locked_base(&self, base: &Reference) -> Option<Digest>;

    /// The hold in `images.lock` of a runtime after a rollback.
    fn hold(&self, runtime: &str) -> Option<Hold>;

    /// The base's reference, by tag, in the pull-through cache; `None` without a cache for its registry.
    fn cached(&self, base: &Reference) -> Option<Reference>;

    /// An image's name for the container engine, which does not know our routes: for a routed registry, the route's host and path.
    fn engine_name(&self, image: &Reference) -> String;

    /// Who signed a base; `None` if no signature is required.
    ///
    /// # Errors
    /// A required signature is missing, or the registry cannot be reached: then nothing is built on the base.
    fn check_signature<'a>(
        &'a self,
        _base: &'a Reference,
        _digest: Digest,
    ) -> BoxFuture<'a, Result<Option<String>, registry::Error>> {
        Box::pin(async { Ok(None) })
    }

    /// Checks that a base has been known for long enough to build on it.
    ///
    /// # Errors
    /// It is too new, or its age is unknown: then nothing is built on it.
    fn is_old_enough(&self, _base: &Reference, _digest: Digest) -> Result<(), registry::Error> {
        Ok(())
    }

    /// Whether SBOM and provenance are pushed for each build.
    fn attestations(&self) -> bool {
        true
    }

    /// The server that the container engine contacts for an image; the engine needs this server's credential.
    fn server(&self, image: &Reference) -> Option<Server> {
        let name = self.engine_name(image);
        Server::of(&format!("https://{}", name.parse::<Reference>().ok()?.registry()))
    }
}

/// A hold: the runtime stays on one build until the hold is removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hold {
    /// The build.
    pub build: Digest,
    /// When the hold was set.
    pub since: Timestamp,
    /// Who set it.
    pub by: String,
}

/// How a runtime is tested (`--smoke`).
#[derive(Clone, Debug)]
pub struct Trial {
    /// The handler with which its container is started.
    pub handler: String,
    /// How long to wait for its answer.
    pub timeout: Duration,
}

/// The settings and clients of this crate's functions.
pub struct Context {
    /// The registry client.
    pub client: Client,
    /// Credentials for the engine's pull of a base.
    pub credentials: Arc<dyn Credentials>,
    /// The repository `lambda` at the target; `None` builds only into the container client's store.
    pub repository: Option<Reference>,
    /// `--container-cli`.
    pub container_cli: Option<String>,
    /// `--builder`.
    pub builder: Option<String>,
    /// Keep a build cache in the repository (BuildKit with `--cache-to`).
    pub registry_cache: bool,
    /// What the configuration, the lock and the account say.
    pub grid_settings: Arc<dyn GridSettings>,
    /// Receives the progress.
    pub progress: Arc<dyn Progress>,
    /// A directory for temporary images (their size, while they are pushed).
    pub scratch: PathBuf,
    /// Where the builds' complete output is kept.
    pub logs: Logs,
    /// `org.opencontainers.image.source`.
    pub source: Option<String>,
    /// The checkout whose commit becomes `org.opencontainers.image.revision`.
    pub checkout: Option<PathBuf>,
    /// How many builds run in parallel.
    pub parallel: usize,
    /// How to test each runtime before its tag moves; `None` without `--smoke`.
    pub trial: Option<Trial>,
    /// The user's name for the record of moves.
    pub who: String,
    docker: OnceCell<Engine>,
    /// Why there is no engine: it is contacted once for all runtimes of a plan.
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
    /// A context with the default settings; all other fields are public.
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
            // A build waits for packages about as long as it uses the CPU.
            parallel: (2 * cpus).clamp(2, 4),
            trial: None,
            who: "unknown".to_owned(),
            docker: OnceCell::new(),
            engine_failure: tokio::sync::Mutex::default(),
            transfers: push::Transfers::default(),
        }
    }

    /// The container client, searched for when first needed: a run with nothing to build starts no program.
    async fn engine(&self) -> Result<&Engine, RuntimeError> {
        if let Some(engine) = self.docker.get() {
            return Ok(engine);
        }
        // Locked during the request, so that other runtimes get the same result.
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

    /// Forgets that the engine did not answer, so that it is contacted again.
    async fn forget_engine_failure(&self) {
        self.engine_failure.lock().await.take();
    }

    /// The container client, for commands that need it directly (the priming pull); searched for when first needed.
    ///
    /// # Errors
    /// None is installed, or its engine does not answer.
    pub async fn docker(&self) -> Result<&Docker, RuntimeError> {
        self.engine().await.map(|engine| &engine.docker)
    }

    /// A file's name in errors, without the checkout's directory.
    fn shown(&self, path: &Path) -> String {
        let below = self.checkout.as_deref().and_then(|top| path.strip_prefix(top).ok());
        below.unwrap_or(path).display().to_string()
    }

    /// Whether a container client has been used.
    pub fn used_docker(&self) -> bool {
        self.docker.initialized()
    }
}

/// The tag of one build.
fn build_tag(runtime: &str, digest: &Digest) -> String {
    format!("{runtime}-sha256-{}", digest.short())
}

/// The tag that refers to the build of a key.
pub fn key_tag(runtime: &str, key: &str) -> String {
    format!("{runtime}-k{}-{key}", key::VERSION)
}

/// The tag of a builder's cache; one per platform, as each platform is built separately.
fn cache_tag(runtime: &str, platform: &Platform) -> String {
    format!("{runtime}-cache-{}", platform.to_string().replace('/', "-"))
}

/// A build's name in the container client's store. A classic store keeps one platform per name.
fn local_name(runtime: &Runtime, key: &str, platform: &Platform) -> String {
    let name = format!("{LOCAL_REPOSITORY}:{}", key_tag(&runtime.name, key));
    match runtime.platforms.len() {
        0 | 1 => name,
        _ => format!("{name}-{}", platform.to_string().replace('/', "-")),
    }
}
