//! `rebuild-runtimes`: builds runtimes during development.

mod inspect;
mod tags;

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use failure::{FailWith as _, Kind, failure, kind_of, render};
use images_config::{Config, lock::Lock};
use runtimes::{Action, Options, Outcome, Planned, Runtime, Trial, Watch};

use super::Context;
use crate::min_age::{self, Ages};
use crate::target::Target;
use crate::transfer::{ConfiguredGrid, builder_context, explain_runtime, held, wanted_runtimes};
use crate::trust::Trust;
use crate::ui::{Table, units};
use tags::Consent;

/// The time limit for a runtime's first response.
const SMOKE_TIMEOUT: Duration = Duration::from_secs(30);
/// The handler for `--smoke`. Bases without a function answer that it is missing, which is a valid response.
const SMOKE_HANDLER: &str = "app.handler";

/// Build the Lambda runtimes into the local container engine, no AWS needed
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask rebuild-runtimes
  cargo xtask rebuild-runtimes python3.12 --smoke --watch
  cargo xtask rebuild-runtimes --push TAG=dev REGION=eu-west-1
  cargo xtask rebuild-runtimes --push --dry-run
  cargo xtask rebuild-runtimes --builds python3.12
  cargo xtask rebuild-runtimes --rollback python3.12")]
pub struct RebuildRuntimes {
    /// Runtimes; default: all that are enabled
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Push what was built, and move the runtimes' tags to it
    #[arg(long)]
    push: bool,
    /// Build without any cache, on a fresh base
    #[arg(long)]
    no_cache: bool,
    /// Run each runtime once and test an invocation, before its tag moves
    #[arg(long)]
    smoke: bool,
    /// Show what would be built and which tags would move, and stop
    #[arg(long, conflicts_with_all = ["watch", "builds", "explain", "why"])]
    dry_run: bool,
    /// Do not ask before moving tags that the grid uses (--push, --rollback)
    #[arg(long, visible_alias = "auto-approve")]
    yes: bool,
    /// Build again whenever a file changes
    #[arg(long, conflicts_with = "push")]
    watch: bool,
    /// Accept this runtime's base at once, ignoring min_age in images.toml; can be given several times
    #[arg(long, value_name = "NAME")]
    allow_fresh: Vec<String>,
    /// A remote or Kubernetes builder (buildx)
    #[arg(long, value_name = "NAME")]
    builder: Option<String>,
    /// Keep the builder's cache in the repository, for machines without a cache (buildx)
    #[arg(long, requires = "push")]
    registry_cache: bool,
    /// Show what each runtime's build key is made of, and stop
    #[arg(long)]
    explain: bool,
    /// Show which input differs from the build in the registry (with --push) or in the local engine, and stop
    #[arg(long)]
    why: bool,
    /// List a runtime's builds in the registry and the history of its tag, and stop
    #[arg(long, value_name = "NAME", conflicts_with_all = ["names", "push", "watch"])]
    builds: Option<String>,
    /// Move a runtime's tag back to an earlier build (default: the previous one) and hold it there
    #[arg(long, value_names = ["NAME", "BUILD"], num_args = 1..=2, conflicts_with_all = ["names", "push", "watch", "builds"])]
    rollback: Vec<String>,
}

impl RebuildRuntimes {
    /// Runs the command.
    ///
    /// # Errors
    /// A name is unknown, there is no container engine, a build fails, or, with a registry, an error of transfer-images.
    pub async fn run(self, context: &Context) -> anyhow::Result<()> {
        let config = context.config()?;
        self.check_names(&config)?;
        let needs_registry = self.push || self.builds.is_some() || !self.rollback.is_empty();
        let target =
            if needs_registry { Some(context.interrupt.guard(context.target(&config)).await?) } else { None };
        let builder = self.builder(context, &config, context.lock()?, target.as_ref())?;
        let wanted = self.wanted(&config);
        if let (Some(target), [name, build @ ..]) = (&target, self.rollback.as_slice()) {
            let build = build.first().map(String::as_str);
            return tags::roll_back(context, &builder, target, name, build, self.consent()).await;
        }
        if self.dry_run {
            let planned = plan(context, &builder, &wanted, self.no_cache);
            let planned = context.interrupt.guard(planned).await?;
            return inspect::planned(context, &planned);
        }
        let looks = self.builds.is_some() || self.explain || self.why;
        if let Some(target) = target.as_ref().filter(|_| self.push && !looks) {
            return self.push(context, &builder, target, &wanted).await;
        }
        let work = async {
            if let Some(name) = &self.builds {
                return inspect::builds(context, &builder, target.as_ref(), name).await;
            }
            if self.explain {
                return inspect::explain(context, &builder, &wanted).await;
            }
            if self.why {
                return inspect::why(context, &builder, &wanted).await;
            }
            self.rounds(context, &builder, &wanted).await
        };
        context.interrupt.guard(work).await
    }

    /// Whether tags that the grid uses may move.
    fn consent(&self) -> Consent {
        match (self.dry_run, self.yes) {
            (true, _) => Consent::DryRun,
            (false, true) => Consent::Given,
            (false, false) => Consent::Asked,
        }
    }

    /// Refuses a name that is not in images.toml.
    fn check_names(&self, config: &Config) -> anyhow::Result<()> {
        let mut named = self.names.iter().chain(&self.builds).chain(self.rollback.first());
        let Some(unknown) = named.find(|name| !config.runtimes.iter().any(|r| r.name == **name)) else {
            return Ok(());
        };
        let known = config.runtimes.iter().map(|r| r.name.as_str()).collect::<Vec<_>>().join(", ");
        Err(failure(Kind::Usage, format!("images.toml has no runtime {unknown}")))
            .hint(Kind::Usage, format!("it has {known}"))
    }

    /// The runtimes to work on. A named one is built even if it is disabled.
    fn wanted(&self, config: &Config) -> Vec<Runtime> {
        let all = wanted_runtimes(config);
        let chosen = |(listed, _): &(&images_config::Runtime, Runtime)| match self.names.as_slice() {
            [] => listed.enabled,
            names => names.contains(&listed.name),
        };
        config.runtimes.iter().zip(all).filter(chosen).map(|(_, runtime)| runtime).collect()
    }

    fn builder(
        &self,
        context: &Context,
        config: &Config,
        lock: Option<Lock>,
        target: Option<&Target>,
    ) -> anyhow::Result<runtimes::Context> {
        let (client, credentials) = match target {
            Some(target) => target.client(context.sources(), config)?,
            None => (context.sources().client(config)?, context.sources().credentials()?),
        };
        let trust = Trust::new(context, config, &client, &context.mapping())?;
        let ages = self.ages(context, config)?.map(Arc::new);
        let configured = ConfiguredGrid::new(context.sources(), config, lock, target, trust, ages)?;
        let mut builder =
            builder_context(context, client, Arc::clone(&credentials), configured, target, None)?;
        builder.builder.clone_from(&self.builder);
        builder.registry_cache = self.registry_cache;
        builder.trial =
            self.smoke.then(|| Trial { handler: SMOKE_HANDLER.to_owned(), timeout: SMOKE_TIMEOUT });
        Ok(builder)
    }

    /// The minimum ages of the bases to build on. `None` if nothing is built.
    fn ages(&self, context: &Context, config: &Config) -> anyhow::Result<Option<Ages>> {
        if self.builds.is_some() || !self.rollback.is_empty() || self.explain || self.why {
            return Ok(None);
        }
        let mut config = config.clone();
        config.images.clear();
        config.prime.clear();
        for runtime in &mut config.runtimes {
            runtime.enabled |= self.names.contains(&runtime.name);
        }
        let fresh = min_age::fresh(&config, &self.allow_fresh)?;
        config.runtimes.retain(|runtime| self.names.is_empty() || self.names.contains(&runtime.name));
        Ages::new(context, &config, fresh)
    }

    /// One build; with `--watch` another one after each change, until Ctrl-C.
    async fn rounds(
        &self,
        context: &Context,
        builder: &runtimes::Context,
        wanted: &[Runtime],
    ) -> anyhow::Result<()> {
        let mut watch = Watch::new(wanted);
        let result = self.round(context, builder, wanted).await;
        if !self.watch {
            return result;
        }
        if let Err(error) = result {
            context.printer.line(render(&error));
        }
        loop {
            context.printer.line("waiting for a change of their files (Ctrl-C ends)");
            context.printer.progress().set_paused(true);
            let changed = watch.changed().await;
            context.printer.progress().set_paused(false);
            if let Err(error) = self.round(context, builder, &changed).await {
                context.printer.line(render(&error));
            }
        }
    }

    async fn round(
        &self,
        context: &Context,
        builder: &runtimes::Context,
        wanted: &[Runtime],
    ) -> anyhow::Result<()> {
        let planned = plan(context, builder, wanted, self.no_cache).await?;
        apply(context, builder, planned).await
    }

    /// Pushes the planned builds: asks before moving a tag that the grid uses, and holds the grid's lease.
    async fn push(
        &self,
        context: &Context,
        builder: &runtimes::Context,
        target: &Target,
        wanted: &[Runtime],
    ) -> anyhow::Result<()> {
        let plan = || plan(context, builder, wanted, self.no_cache);
        let mut planned = context.interrupt.guard(plan()).await?;
        if planned.iter().all(|planned| planned.action == Action::Nothing) {
            return context.interrupt.guard(apply(context, builder, planned)).await;
        }
        tags::confirm(context, self.consent())?;
        tags::leased(context, target, async |waited| {
            if waited {
                let now = plan().await?;
                if summary(&now) != summary(&planned) {
                    tags::confirm(context, self.consent())?;
                }
                planned = now;
            }
            apply(context, builder, planned).await
        })
        .await
    }
}

/// The actions of a plan, by tag.
fn summary(planned: &[Planned]) -> Vec<(&str, Action, Option<registry::Digest>)> {
    planned.iter().map(|planned| (planned.name.as_str(), planned.action, planned.seen)).collect()
}

/// Plans all runtimes and shows what would be done. Fails if one cannot be planned.
async fn plan(
    context: &Context,
    builder: &runtimes::Context,
    wanted: &[Runtime],
    force: bool,
) -> anyhow::Result<Vec<Planned>> {
    let planned = runtimes::plan(builder, wanted, Options { force, compare: false }).await;
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for planned in planned {
        match planned {
            Ok(planned) => good.push(planned),
            Err(failure) => bad.push(explain_runtime(&failure.name, &failure.error)),
        }
    }
    let mut bad = bad.into_iter();
    if let Some(first) = bad.next() {
        bad.for_each(|error| context.printer.error(&error));
        let kind = kind_of(&first);
        return Err(first).hint(kind, "nothing was built");
    }
    for runtime in &good {
        context.printer.line(format!("{}: {}", runtime.name, runtime.reason));
        if let Some(error) = &runtime.unanswered {
            context.printer.warn(format!("{}: not compared with upstream: {error}", runtime.name));
        }
        if let Some(hold) = &runtime.held {
            context.printer.line(held(&runtime.name, hold));
        }
    }
    Ok(good)
}

/// Carries out a plan and reports it.
async fn apply(context: &Context, builder: &runtimes::Context, planned: Vec<Planned>) -> anyhow::Result<()> {
    let idle: Vec<String> =
        planned.iter().filter(|p| p.action == Action::Nothing).map(|p| p.name.clone()).collect();
    // Existing builds are included: their local name is moved back to that build.
    let outcomes = runtimes::apply(builder, planned).await;
    report(context, &idle, &outcomes)
}

fn report(context: &Context, idle: &[String], outcomes: &[Outcome]) -> anyhow::Result<()> {
    let mut table = Table::new(["RUNTIME", "RESULT", "TIME", "IMAGE"]);
    let mut documents = Vec::new();
    let mut failed = Vec::new();
    for outcome in outcomes {
        let (result, image, smoke) = match &outcome.result {
            Ok(done) => {
                let result = match (done.built, idle.contains(&outcome.name)) {
                    (true, _) => "built",
                    (false, true) => "up to date",
                    (false, false) => "put in place",
                };
                let pushed = done.digest.map(|digest| digest.to_string());
                let local = || format!("{}:{}", runtimes::LOCAL_REPOSITORY, outcome.name);
                (result, pushed.unwrap_or_else(local), done.smoke.as_ref())
            }
            Err(error) => {
                failed.push(explain_runtime(&outcome.name, error));
                ("FAILED", "-".into(), None)
            }
        };
        if let Some(answer) = smoke {
            context.printer.line(format!(
                "{} answered HTTP {}: {}",
                outcome.name,
                answer.status,
                answer.body.trim()
            ));
        }
        table.row([outcome.name.clone(), result.into(), units::duration(outcome.took), image.clone()]);
        let image = outcome.result.is_ok().then_some(image);
        documents.push(serde_json::json!({
            "name": outcome.name, "result": result.to_lowercase(), "image": image, "smoke": smoke,
        }));
    }
    context.printer.results().data(&table, &serde_json::json!({ "runtimes": documents }))?;
    let mut failed = failed.into_iter();
    let Some(first) = failed.next() else { return Ok(()) };
    failed.for_each(|error| context.printer.error(&error));
    let kind = kind_of(&first);
    Err(first).hint(kind, "the grid keeps its present runtime")
}
