//! `rebuild-runtimes`: the contributor's loop.

use std::sync::Arc;

use clap::Args;

use super::Context;
use crate::error::{Exit, FailWith as _, failure};
use crate::runtimes::{self, Action, Options};
use crate::target::Target;
use crate::transfer::{Neighbourhood, builder_context, wanted_runtimes};
use crate::ui::{Table, units};

/// Build the Lambda runtimes into the local container engine, no AWS needed
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  cargo xtask rebuild-runtimes\n  cargo xtask rebuild-runtimes python3.12 --no-cache\n  cargo xtask rebuild-runtimes --push TAG=dev REGION=eu-west-1")]
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
    /// Say what each runtime's build key is made of, and stop
    #[arg(long)]
    explain: bool,
}

impl RebuildRuntimes {
    /// Runs the command.
    ///
    /// # Errors
    /// An unknown name, no container engine, a build that fails, or, with `--push`, what transfer-images can run into.
    pub async fn run(self, context: &Context) -> anyhow::Result<()> {
        let mut config = context.config()?;
        if let Some(unknown) = self.names.iter().find(|name| !config.runtimes.iter().any(|r| r.name == **name)) {
            let known = config.runtimes.iter().map(|r| r.name.as_str()).collect::<Vec<_>>().join(", ");
            return Err(failure(Exit::Usage, format!("images.toml has no runtime {unknown}")))
                .hint(Exit::Usage, format!("it has {known}"));
        }
        if !self.names.is_empty() {
            config.runtimes.retain(|runtime| self.names.contains(&runtime.name));
            // Naming one is reason enough to build it.
            config.runtimes.iter_mut().for_each(|runtime| runtime.enabled = true);
        }
        let target = if self.push { Some(Target::open(context, &config).await?) } else { None };
        let (client, credentials) = match &target {
            Some(target) => target.client(context, &config)?,
            None => (context.registry_client(&config)?, context.source_credentials()?),
        };
        let neighbourhood = Neighbourhood::new(context, &config, context.lock()?, target.as_ref())?;
        let builder = builder_context(context, client, Arc::clone(&credentials), neighbourhood, target.as_ref())?;
        let wanted = wanted_runtimes(&config, &context.paths);
        let work = async {
            let mut planned = Vec::new();
            for plan in runtimes::plan(&builder, &wanted, Options { force: self.no_cache }).await {
                planned.push(plan.map_err(|f| anyhow::Error::new(f.error).context(format!("runtime {}", f.name)))?);
            }
            if self.explain {
                for runtime in &planned {
                    context.printer.out(&format!("{}  key {}\n{}\n", runtime.name, runtime.key, runtime.inputs.explain()))?;
                }
                return Ok(None);
            }
            for runtime in &planned {
                context.printer.line(format!("{}: {}", runtime.name, runtime.reason));
            }
            let idle: Vec<String> =
                planned.iter().filter(|p| p.action == Action::Nothing).map(|p| p.name.clone()).collect();
            planned.retain(|p| p.action != Action::Nothing);
            Ok(Some((idle, runtimes::apply(&builder, planned).await)))
        };
        let Some((idle, outcomes)) = context.interrupt.guard(work).await? else { return Ok(()) };
        report(context, &idle, &outcomes)
    }
}

fn report(context: &Context, idle: &[String], outcomes: &[runtimes::Outcome]) -> anyhow::Result<()> {
    let mut table = Table::new(["RUNTIME", "RESULT", "TIME", "IMAGE"]);
    let mut documents = Vec::new();
    for name in idle {
        table.row([name.clone(), "up to date".into(), "-".into(), "-".into()]);
        documents.push(serde_json::json!({ "name": name, "result": "up to date" }));
    }
    let mut failed = Vec::new();
    for outcome in outcomes {
        let (result, image) = match &outcome.result {
            Ok(done) => {
                let pushed = done.digest.map(|digest| digest.to_string());
                (if done.built { "built" } else { "put in place" }, pushed.unwrap_or_else(|| done.local.join(" ")))
            }
            Err(error) => {
                let tail: String = error.tail().iter().map(|line| format!("\n    {line}")).collect();
                failed.push(format!("{}: {error}{tail}", outcome.name));
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
