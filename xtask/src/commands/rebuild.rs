//! `rebuild-runtimes`: the contributor's loop.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;

use super::Context;
use crate::config::lock::{Hold, Lock};
use crate::config::{self, Config, RUNTIMES_REPOSITORY};
use crate::error::{Exit, FailWith as _, failure};
use crate::runtimes::{self, Action, Options, Outcome, Planned, Runtime, Watch, Why};
use crate::target::Target;
use crate::transfer::{Neighbourhood, builder_context, explain_runtime, wanted_runtimes};
use crate::ui::{Table, units};

/// How long a runtime may take until it answers its first invocation.
const PATIENCE: Duration = Duration::from_secs(30);
/// The handler that `--smoke` names; bases without a function answer that it is missing, which is an answer.
const SMOKE_HANDLER: &str = "app.handler";

/// Build the Lambda runtimes into the local container engine, no AWS needed
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask rebuild-runtimes
  cargo xtask rebuild-runtimes python3.12 --smoke --watch
  cargo xtask rebuild-runtimes --push TAG=dev REGION=eu-west-1
  cargo xtask rebuild-runtimes --builds python3.12
  cargo xtask rebuild-runtimes --rollback python3.12")]
pub struct RebuildRuntimes {
    /// Runtimes; all that are switched on where none is named
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Push what was built, and move the runtimes' tags to it
    #[arg(long)]
    push: bool,
    /// Build without any cache, on a fresh base
    #[arg(long)]
    no_cache: bool,
    /// Run each runtime once and have it answer an invocation
    #[arg(long)]
    smoke: bool,
    /// Build again whenever a file changes
    #[arg(long, conflicts_with = "push")]
    watch: bool,
    /// A remote or Kubernetes builder (buildx)
    #[arg(long, value_name = "NAME")]
    builder: Option<String>,
    /// Keep the builder's cache in the repository, for machines that have none of their own (buildx)
    #[arg(long, requires = "push")]
    registry_cache: bool,
    /// Say what each runtime's build key is made of, and stop
    #[arg(long)]
    explain: bool,
    /// Say which input differs from what the registry runs (with --push) or the local engine has, and stop
    #[arg(long)]
    why: bool,
    /// List the builds of a runtime that the registry has, and stop
    #[arg(long, value_name = "NAME", conflicts_with_all = ["names", "push", "watch"])]
    builds: Option<String>,
    /// Move a runtime's tag back to an earlier build (the one before, if none is named) and hold it there
    #[arg(long, value_names = ["NAME", "BUILD"], num_args = 1..=2, conflicts_with_all = ["names", "push", "watch", "builds"])]
    rollback: Vec<String>,
}

impl RebuildRuntimes {
    /// Runs the command.
    ///
    /// # Errors
    /// An unknown name, no container engine, a build that fails, or, with a registry, what transfer-images can run into.
    pub async fn run(self, context: &Context) -> anyhow::Result<()> {
        let config = context.config()?;
        self.check_names(&config)?;
        let needs_registry = self.push || self.builds.is_some() || !self.rollback.is_empty();
        let target = if needs_registry { Some(Target::open(context, &config).await?) } else { None };
        let lock = context.lock()?;
        let builder = self.builder(context, &config, lock.clone(), target.as_ref())?;
        let wanted = self.wanted(&config);
        let work = async {
            if let Some(name) = &self.builds {
                return list_builds(context, &builder, name).await;
            }
            if let [name, build @ ..] = self.rollback.as_slice() {
                return roll_back(context, &builder, lock, name, build.first().map(String::as_str)).await;
            }
            if self.explain {
                return explain(context, &builder, &wanted).await;
            }
            if self.why {
                return why(context, &builder, &wanted).await;
            }
            self.rounds(context, &builder, &wanted).await
        };
        context.interrupt.guard(work).await
    }

    /// Refuses a name that images.toml does not have.
    fn check_names(&self, config: &Config) -> anyhow::Result<()> {
        let mut named = self.names.iter().chain(&self.builds).chain(self.rollback.first());
        let Some(unknown) = named.find(|name| !config.runtimes.iter().any(|r| r.name == **name)) else {
            return Ok(());
        };
        let known = config.runtimes.iter().map(|r| r.name.as_str()).collect::<Vec<_>>().join(", ");
        Err(failure(Exit::Usage, format!("images.toml has no runtime {unknown}")))
            .hint(Exit::Usage, format!("it has {known}"))
    }

    /// The runtimes to work on. Naming one is reason enough to build it, even if it is switched off.
    fn wanted(&self, config: &Config) -> Vec<Runtime> {
        let all = wanted_runtimes(config);
        let chosen = |(listed, _): &(&config::Runtime, Runtime)| match self.names.as_slice() {
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
            Some(target) => target.client(context, config)?,
            None => (context.registry_client(config)?, context.source_credentials()?),
        };
        let neighbourhood = Neighbourhood::new(context, config, lock, target)?;
        let mut builder = builder_context(context, client, Arc::clone(&credentials), neighbourhood, target)?;
        builder.builder.clone_from(&self.builder);
        builder.registry_cache = self.registry_cache;
        Ok(builder)
    }

    /// One round; with `--watch` another one after each change, until Ctrl-C.
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
            context.printer.line(crate::error::render(&error));
        }
        loop {
            context.printer.line("waiting for a change of their files (Ctrl-C ends)");
            let changed = watch.changed().await;
            if let Err(error) = self.round(context, builder, &changed).await {
                context.printer.line(crate::error::render(&error));
            }
        }
    }

    async fn round(
        &self,
        context: &Context,
        builder: &runtimes::Context,
        wanted: &[Runtime],
    ) -> anyhow::Result<()> {
        let planned = plan(builder, wanted, self.no_cache).await?;
        for runtime in &planned {
            let mut reason = runtime.reason.clone();
            // What cannot be compared is built for the reason that the plan gives.
            if runtime.action == (Action::Build { forced: false })
                && let Ok(Why::Changes(changes)) = runtimes::why(builder, runtime).await
                && !changes.is_empty()
            {
                reason = changes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            }
            context.printer.line(format!("{}: {reason}", runtime.name));
        }
        let idle: Vec<String> =
            planned.iter().filter(|p| p.action == Action::Nothing).map(|p| p.name.clone()).collect();
        // What is built already goes along: its local name is moved back to that build.
        let outcomes = runtimes::apply(builder, planned).await;
        report(context, &idle, &outcomes)?;
        if self.smoke {
            for runtime in wanted {
                let image = format!("{}:{}", runtimes::LOCAL_REPOSITORY, runtime.name);
                let answer =
                    runtimes::smoke(builder, &image, SMOKE_HANDLER, PATIENCE).await.exit(Exit::Docker)?;
                context.printer.line(format!(
                    "{image} answered HTTP {}: {}",
                    answer.status,
                    answer.body.trim()
                ));
            }
        }
        Ok(())
    }
}

async fn plan(builder: &runtimes::Context, wanted: &[Runtime], force: bool) -> anyhow::Result<Vec<Planned>> {
    let planned = runtimes::plan(builder, wanted, Options { force }).await.into_iter();
    planned.map(|planned| planned.map_err(|failure| explain_runtime(&failure.name, failure.error))).collect()
}

async fn explain(context: &Context, builder: &runtimes::Context, wanted: &[Runtime]) -> anyhow::Result<()> {
    let (mut text, mut documents) = (Vec::new(), Vec::new());
    for runtime in wanted {
        let inputs = runtimes::explain(builder, runtime)
            .await
            .map_err(|error| explain_runtime(&runtime.name, error))?;
        let base = runtime.base.as_ref().map(|base| format!(" on {base}")).unwrap_or_default();
        text.push(format!("{}{base}\n{}", runtime.name, inputs.explain()));
        documents.push(serde_json::json!({ "name": runtime.name, "key": inputs.key(), "inputs": inputs }));
    }
    context.printer.either(|| text.join("\n"), &documents)
}

async fn why(context: &Context, builder: &runtimes::Context, wanted: &[Runtime]) -> anyhow::Result<()> {
    let (mut text, mut documents) = (String::new(), Vec::new());
    for planned in plan(builder, wanted, false).await? {
        let why =
            runtimes::why(builder, &planned).await.map_err(|error| explain_runtime(&planned.name, error))?;
        let said = match &why {
            Why::Absent => "there is nothing to compare with: not built yet".to_owned(),
            Why::Foreign => "what is there was not built by this tool".to_owned(),
            Why::Changes(changes) if changes.is_empty() => "same inputs".to_owned(),
            Why::Changes(changes) => changes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n  "),
        };
        text += &format!("{}\n  {said}\n", planned.name);
        documents.push(serde_json::json!({ "name": planned.name, "why": why }));
    }
    context.printer.either(|| text, &documents)
}

async fn list_builds(context: &Context, builder: &runtimes::Context, name: &str) -> anyhow::Result<()> {
    let builds = runtimes::builds(builder, name).await.exit(Exit::Registry)?;
    let mut table = Table::new(["BUILD", "BUILT", "RUNS", "KEY", "BASE", "DIGEST"]);
    let dash = || "-".to_owned();
    for build in &builds {
        let base = match (&build.base_name, &build.base_digest) {
            (Some(name), Some(digest)) => format!("{name}@{digest}"),
            (name, _) => name.clone().unwrap_or_else(dash),
        };
        table.row([
            build.tag.clone(),
            build.created.map_or_else(dash, |time| time.to_string()),
            if build.is_current { "yes".into() } else { dash() },
            build.key.clone().unwrap_or_else(dash),
            base,
            build.digest.to_string(),
        ]);
    }
    context.printer.data(&table, &builds)
}

/// Moves the tag first, then writes the hold: without it the next run would move the tag forward again.
async fn roll_back(
    context: &Context,
    builder: &runtimes::Context,
    lock: Option<Lock>,
    name: &str,
    build: Option<&str>,
) -> anyhow::Result<()> {
    let moved = runtimes::rollback(builder, name, build).await.exit(Exit::Registry)?;
    let mut lock = lock.unwrap_or_default();
    let by = std::env::var("USER").unwrap_or_else(|_| "unknown".to_owned());
    lock.set_hold(name, Hold { build: moved.to, since: jiff::Timestamp::now(), by });
    let path = context.paths.lock();
    lock.save(&path).with_context(|| format!("could not write {}", context.paths.show(&path)))?;
    context.printer.line(format!(
        "{RUNTIMES_REPOSITORY}:{name} is {} now ({}) and stays there: commit images.lock; `cargo xtask lock --update {name}` lets it go",
        moved.build_tag, moved.to
    ));
    Ok(())
}

fn report(context: &Context, idle: &[String], outcomes: &[Outcome]) -> anyhow::Result<()> {
    let mut table = Table::new(["RUNTIME", "RESULT", "TIME", "IMAGE"]);
    let mut documents = Vec::new();
    let mut failed = Vec::new();
    for outcome in outcomes {
        let (result, image) = match &outcome.result {
            Ok(done) => {
                let result = match (done.built, idle.contains(&outcome.name)) {
                    (true, _) => "built",
                    (false, true) => "up to date",
                    (false, false) => "put in place",
                };
                let pushed = done.digest.map(|digest| digest.to_string());
                (result, pushed.unwrap_or_else(|| format!("{}:{}", runtimes::LOCAL_REPOSITORY, outcome.name)))
            }
            Err(error) => {
                failed.push(format!("runtime {}: {}", outcome.name, error.in_full()));
                ("FAILED", "-".into())
            }
        };
        table.row([outcome.name.clone(), result.into(), units::duration(outcome.took), image.clone()]);
        documents.push(serde_json::json!({ "name": outcome.name, "result": result, "image": image }));
    }
    context.printer.data(&table, &documents)?;
    if failed.is_empty() {
        return Ok(());
    }
    Err(failure(Exit::Docker, failed.join("\n"))).hint(Exit::Docker, "what is at the registry is as it was")
}
