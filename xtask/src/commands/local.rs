//! `local up|down|status|env`.

use clap::{Args, Subcommand};

use super::Context;
use crate::error::{Exit, FailWith as _, failure};
use crate::local::{self, Background, Running};
use crate::settings::DEFAULT_REGION;
use crate::ui::Table;

/// Start, stop and use the AWS that is emulated on this machine
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  eval \"$(cargo xtask local env)\" && aws ecr describe-repositories")]
pub struct Local {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Start it, if it does not run
    Up,
    /// End it; its data stays
    Down,
    /// Say whether it runs, where, and with what data
    Status,
    /// Print the shell lines that point the aws CLI, docker and terraform at it
    Env,
}

impl Local {
    /// Runs the command.
    ///
    /// # Errors
    /// The emulator cannot be started or stopped; `env` where it does not run.
    pub async fn run(self, context: &Context) -> anyhow::Result<()> {
        let background = Background::aws(&context.paths, &context.http);
        match self.action {
            Action::Up => {
                let running = background.ensure(&context.upstream_arguments(), &context.printer).await?;
                report(context, &background, Some(&running))
            }
            Action::Down => match background.stop().await? {
                Some(running) => {
                    context.printer.line(format!("ended the emulated AWS (process {})", running.pid));
                    Ok(())
                }
                None => {
                    context.printer.line("the emulated AWS does not run");
                    Ok(())
                }
            },
            Action::Status => report(context, &background, background.running().await.as_ref()),
            Action::Env => {
                let running = background
                    .running()
                    .await
                    .ok_or_else(|| failure(Exit::Config, "the emulated AWS does not run"));
                let running = running.hint(Exit::Config, "start it with `cargo xtask local up`")?;
                let region = context.settings.region.as_deref().unwrap_or(DEFAULT_REGION);
                let lines = local::environment(&running.url(), region).into_iter();
                context
                    .printer
                    .out(&lines.map(|(key, value)| format!("export {key}={value}\n")).collect::<String>())
            }
        }
    }
}

fn report(context: &Context, background: &Background, running: Option<&Running>) -> anyhow::Result<()> {
    let data = context.paths.show(background.data()).to_string();
    let mut table = Table::new(["EMULATED AWS", "URL", "PROCESS", "DATA"]);
    table.row(match running {
        Some(running) => ["running".into(), running.url(), running.pid.to_string(), data.clone()],
        None => ["stopped".into(), "-".into(), "-".into(), data.clone()],
    });
    let document = serde_json::json!({
        "running": running.is_some(),
        "url": running.map(Running::url),
        "pid": running.map(|r| r.pid),
        "account": local::ACCOUNT,
        "data": data,
    });
    context.printer.data(&table, &document)
}
