//! The runtimes: converts images.toml for the builder, and shows the progress of builds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use aws::errors::{permission, refused_action};
use aws::lease::on_this_machine;
use docker::Logs;
use failure::{FailWith as _, Kind, ending, verdict_of};
use images_config::{Config, PullThrough, RUNTIMES_REPOSITORY, lock::Lock};
use registry::{BoxFuture, Client, Credentials, Digest, ErrorKind, Reference, Server};
use runtimes::{
    Action, CompletedAction, Failure, GridSettings, Hold, Options, Outcome, Planned, Progress, RuntimeError,
    State,
};

use super::Run;
use super::completed::Completed;
use super::registry_hints::{registry_hint, registry_verdict};
use super::spans::Work;
use crate::context::Context;
use crate::min_age::Ages;
use crate::paths::Home;
use crate::sources::Sources;
use crate::target::Target;
use crate::trust::Trust;
use crate::ui::{Lane, Printer, units};

/// `org.opencontainers.image.source`: the repository of the grid that uses the runtimes.
const SOURCE: &str = "https://github.com/finos/htc-grid";

/// Whether a runtime needs no work.
pub(super) fn is_up_to_date(planned: &Planned) -> bool {
    planned.action == Action::Nothing
}

/// Plans every enabled runtime. A failure to plan one is in the result, next to the others.
pub(super) async fn plan(run: &Run<'_>) -> Vec<Result<Planned, Failure>> {
    let config = &run.config;
    let wanted = config.runtimes.iter().zip(wanted(config));
    let wanted: Vec<runtimes::Runtime> =
        wanted.filter(|(listed, _)| listed.enabled).map(|(_, runtime)| runtime).collect();
    let options = Options { force: run.request.rebuild_runtimes, compare: run.request.locked };
    runtimes::plan(&run.builder, &wanted, options).await
}

/// A runtime's error with its name, causes, kind and hint. A refusal by IAM has the same message from the registry and from the
/// container engine that pulls there.
pub fn explain(name: &str, error: &RuntimeError) -> anyhow::Error {
    let words = error.in_full();
    let is_ours = |error: &&registry::Error| {
        matches!(error.kind(), ErrorKind::Untrusted { .. } | ErrorKind::TooFresh { .. })
    };
    let refused = error.registry().filter(is_ours);
    let refused = refused.map(|error| registry_verdict(error, Kind::Upstream));
    let known = refused.or_else(|| error.registry().and_then(|error| verdict_of(error)));
    let (kind, hint) = match (known, refused_action(&words)) {
        (Some(known), _) => known,
        (None, Some(action)) => (Kind::Credentials, Some(permission(action, &words))),
        (None, None) => {
            let own = error.hint().map(str::to_owned);
            (error.kind(), own.or_else(|| error.registry().and_then(registry_hint)))
        }
    };
    ending(kind, hint, anyhow::anyhow!("runtime {name}: {words}"))
}

/// The runtimes of images.toml for the builder, in order and including disabled ones: the files of other runtimes in the same
/// context are left out of each build.
pub fn wanted(config: &Config) -> Vec<runtimes::Runtime> {
    config
        .runtimes
        .iter()
        .map(|runtime| {
            let mut args = runtime.build_args.clone();
            let entry_point = runtime.entry_point.as_ref();
            args.extend(entry_point.map(|taken| (taken.argument.clone(), taken.file.clone())));
            runtimes::Runtime {
                name: runtime.name.clone(),
                base: Some(runtime.base.clone()),
                base_argument: runtime.base_argument.clone(),
                entry_point: entry_point.map(|taken| taken.file.clone()),
                context: runtime.context.clone(),
                dockerfile: below(&runtime.context, &runtime.dockerfile),
                leave_out: of_others(config, runtime),
                args,
                target: runtime.target.clone(),
                platforms: runtime.platforms.clone(),
                epoch: runtime.epoch.clone(),
            }
        })
        .collect()
}

/// A file's path from the context, or its whole path if it is elsewhere.
fn below(context: &Path, file: &Path) -> String {
    file.strip_prefix(context).unwrap_or(file).display().to_string()
}

/// Entry points and Dockerfiles of the other runtimes in the same context.
fn of_others(config: &Config, runtime: &images_config::Runtime) -> BTreeSet<String> {
    let files = |runtime: &images_config::Runtime| {
        let entry_point = runtime.entry_point.as_ref().map(|taken| taken.file.clone());
        let dockerfile = below(&runtime.context, &runtime.dockerfile);
        entry_point.into_iter().chain(Some(dockerfile)).collect::<BTreeSet<String>>()
    };
    let others = config.runtimes.iter().filter(|other| other.context == runtime.context).flat_map(files);
    let own = files(runtime);
    others.filter(|file| !own.contains(file)).collect()
}

/// Builds, pushes and promotes the planned runtimes.
pub(super) async fn build(run: &Run<'_>, planned: &[Result<Planned, Failure>]) -> Vec<Outcome> {
    let can = planned.iter().filter_map(|planned| planned.as_ref().ok());
    let work: Vec<Planned> = can.filter(|planned| !is_up_to_date(planned)).cloned().collect();
    let counted = (!work.is_empty()).then(|| run.printer.progress().count("runtime", work.len()));
    let outcomes = runtimes::apply(&run.builder, work).await;
    drop(counted);
    run.times.built(&outcomes);
    for outcome in &outcomes {
        let (name, ended) = (outcome.name.clone(), outcome.began + outcome.took);
        run.completed.spans.record(Work::Runtime(name), outcome.began, ended);
    }
    outcomes
}

/// The builder's context for this run. Without a target, builds stay in the container client's store.
///
/// # Errors
/// The scratch directory cannot be created.
pub fn builder_context(
    context: &Context,
    client: Client,
    credentials: Arc<dyn Credentials>,
    configured: ConfiguredGrid,
    target: Option<&Target>,
    completed: Option<Arc<Completed>>,
) -> anyhow::Result<runtimes::Context> {
    let scratch = context.paths.cache().join("scratch");
    std::fs::create_dir_all(&scratch)
        .with_context(|| format!("could not create {}", context.paths.show(&scratch)))
        .hint(
            Kind::Config,
            format!("make it writable, or name another place with {}", context.paths.home().variable()),
        )?;
    let lanes = Arc::new(Lanes::new(&context.printer, completed));
    let mut builder = runtimes::Context::new(client, credentials, Arc::new(configured), lanes, scratch);
    builder.repository = target.map(|target| target.repository(RUNTIMES_REPOSITORY)).transpose()?;
    let logs = context.paths.cache().join("logs");
    builder.logs = Logs::new(logs.clone(), context.paths.show(&logs).to_string());
    builder.container_cli.clone_from(&context.settings.container_cli);
    builder.source = Some(SOURCE.to_owned());
    // For the program's own files, a commit of the surrounding checkout is not relevant.
    builder.checkout =
        (!matches!(context.paths.home(), Home::Program(_))).then(|| context.paths.root().to_owned());
    builder.who = who(target);
    Ok(builder)
}

/// The user who moves tags, for the history.
pub fn who(target: Option<&Target>) -> String {
    let account = target.and_then(|target| target.account.as_ref());
    let user = || std::env::var("USER").or_else(|_| std::env::var("LOGNAME"));
    let name = account.map(|account| account.aws.identity().arn.clone());
    on_this_machine(&name.unwrap_or_else(|| user().unwrap_or_else(|_| "somebody".to_owned())))
}

/// The hold of a runtime in images.lock.
pub fn hold(lock: Option<&Lock>, runtime: &str) -> Option<Hold> {
    let hold = lock?.hold(runtime)?;
    Some(Hold { build: hold.build, since: hold.since, by: hold.by.clone() })
}

/// The builder's settings from the configuration, the lock and the account.
pub struct ConfiguredGrid {
    lock: Option<Lock>,
    trust: Option<Arc<Trust>>,
    ages: Option<Arc<Ages>>,
    /// Each pull-through rule with its prefix at this target.
    caches: Vec<(Reference, PullThrough)>,
    routes: BTreeMap<String, String>,
    attestations: bool,
}

impl ConfiguredGrid {
    /// The settings of a run, with the trusted signers and the minimum ages.
    ///
    /// # Errors
    /// A rule's prefix is not valid in a repository name.
    pub fn new(
        sources: Sources<'_>,
        config: &Config,
        lock: Option<Lock>,
        target: Option<&Target>,
        trust: Option<Arc<Trust>>,
        ages: Option<Arc<Ages>>,
    ) -> anyhow::Result<Self> {
        let account = target.filter(|target| target.account.is_some());
        let caches = account.into_iter().flat_map(|target| {
            config.pull_through.iter().map(|rule| Ok((target.repository(&rule.prefix)?, rule.clone())))
        });
        Ok(Self {
            lock,
            trust,
            ages,
            caches: caches.collect::<anyhow::Result<_>>()?,
            routes: sources.routes(config),
            attestations: config.attestations,
        })
    }
}

impl GridSettings for ConfiguredGrid {
    fn locked_base(&self, base: &Reference) -> Option<Digest> {
        self.lock.as_ref()?.source_digest(base)
    }

    fn hold(&self, runtime: &str) -> Option<Hold> {
        hold(self.lock.as_ref(), runtime)
    }

    fn cached(&self, base: &Reference) -> Option<Reference> {
        let (prefix, below) =
            self.caches.iter().find_map(|(prefix, rule)| Some((prefix, rule.below(base)?)))?;
        let repository = format!("{}/{below}", prefix.repository());
        Reference::new(prefix.registry(), &repository).ok()?.with_tag(base.tag()?).ok()
    }

    fn engine_name(&self, image: &Reference) -> String {
        let Some(route) = self.routes.get(image.registry()) else { return image.to_string() };
        let route = route.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
        image.to_string().replacen(image.registry(), route, 1)
    }

    fn check_signature<'a>(
        &'a self,
        base: &'a Reference,
        digest: Digest,
    ) -> BoxFuture<'a, Result<Option<String>, registry::Error>> {
        Box::pin(async move {
            match &self.trust {
                Some(trust) => trust.check(base, digest).await,
                None => Ok(None),
            }
        })
    }

    fn is_old_enough(&self, base: &Reference, digest: Digest) -> Result<(), registry::Error> {
        self.ages.as_ref().map_or(Ok(()), |ages| ages.check(base, digest))
    }

    fn attestations(&self) -> bool {
        self.attestations
    }

    fn server(&self, image: &Reference) -> Option<Server> {
        match self.routes.get(image.registry()) {
            Some(route) => Server::of(route),
            None => Server::of(&format!("https://{}", image.registry())),
        }
    }
}

/// A display line for each runtime in progress.
pub struct Lanes {
    printer: Printer,
    /// Counts finished runtimes.
    completed: Option<Arc<Completed>>,
    lanes: Mutex<BTreeMap<String, Lane>>,
}

impl Lanes {
    /// Starts without lines.
    fn new(printer: &Printer, completed: Option<Arc<Completed>>) -> Self {
        Self { printer: printer.clone(), completed, lanes: Mutex::default() }
    }

    fn news(&self, runtime: &str, text: &str) {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let lane = lanes.entry(runtime.to_owned()).or_insert_with(|| self.printer.progress().lane(runtime));
        lane.news(text);
    }

    /// Removes the runtime's line and counts it. A log has no such lines.
    fn end(&self, runtime: &str) {
        let lane = self.lanes.lock().unwrap_or_else(PoisonError::into_inner).remove(runtime);
        lane.unwrap_or_else(|| self.printer.progress().lane(runtime)).done();
    }
}

impl Progress for Lanes {
    fn warn(&self, runtime: &str, line: &str) {
        self.printer.warn(format!("{RUNTIMES_REPOSITORY}:{runtime}: {line}"));
    }

    fn line(&self, runtime: &str, line: &str) {
        if self.printer.progress().is_drawn() {
            self.news(runtime, line);
        } else {
            self.printer.line(format!("{runtime}: {line}"));
        }
    }

    fn output(&self, runtime: &str, line: &str) {
        self.printer.detail(format!("{runtime}: {line}"));
    }

    fn state(&self, runtime: &str, state: &State) {
        // Events for sent bytes are frequent, and come after other states.
        if let (Some(completed), false) = (&self.completed, matches!(state, State::Pushing { done: 1.., .. }))
        {
            completed.spans.begin(Work::Runtime(runtime.to_owned()));
        }
        let text = match state {
            State::Step(step) => step.to_string(),
            State::Building { platform, base } => format!("building for {platform} from {base}"),
            State::Packing => "packing".to_owned(),
            State::Pushing { done: 0, bytes } => format!("pushing, at most {}", units::bytes(*bytes)),
            State::Pushing { done, bytes } => {
                // One line is enough in a log.
                if self.printer.progress().is_drawn() {
                    self.news(
                        runtime,
                        &format!("pushing, {} of {}", units::bytes(*done), units::bytes(*bytes)),
                    );
                }
                return;
            }
            State::Verifying => "verifying what was pushed".to_owned(),
            State::Tagging => "moving its tags".to_owned(),
            State::Done { how, digest } => {
                let how = match how {
                    CompletedAction::Built => "built and pushed",
                    CompletedAction::Pushed => "pushed",
                    CompletedAction::Promoted => "promoted",
                };
                self.end(runtime);
                self.completed.iter().for_each(|completed| completed.runtime_done(runtime));
                let digest = digest.short();
                self.printer.line(format!("{RUNTIMES_REPOSITORY}:{runtime}: {how}, sha256:{digest}"));
                return;
            }
        };
        self.line(runtime, &text);
    }
}
