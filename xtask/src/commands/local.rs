//! `local up|down|status|env`.

use aws::DEFAULT_REGION;
use clap::{Args, Subcommand};
use failure::{FailWith as _, Kind, failure};

use super::Context;
use crate::context::environment_variable;
use crate::local::{self, Background, LocalSetup, Running};
use crate::prerequisites::Engine;
use crate::ui::Table;

/// Start, stop and use the AWS that is emulated on this machine, and what `demo` started with it
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  eval \"$(cargo xtask local env)\" && aws ecr describe-repositories")]
pub struct Local {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Start it if it does not run, with the sample upstreams of `demo`
    Up,
    /// Stop it, the sample upstreams, and the docker engine that `demo` or `test` started; the data is kept
    Down,
    /// Show what runs, where, and with which data
    Status,
    /// Print the shell lines that point the aws CLI, docker and terraform at it
    Env,
}

impl Local {
    /// Runs the command.
    ///
    /// # Errors
    /// A server cannot be started or stopped; for `env`, the emulated AWS does not run.
    pub async fn run(self, context: &Context) -> anyhow::Result<()> {
        match self.action {
            Action::Up => {
                let context = context.clone().with_local_setup().await?;
                let aws = Background::aws(&context.paths, &context.http);
                aws.ensure(&context.settings.upstream_arguments(), &context.printer).await?;
                Servers::look(&context).await?.report(&context)
            }
            Action::Down => down(context).await,
            Action::Status => Servers::look(context).await?.report(context),
            Action::Env => {
                let running = Background::aws(&context.paths, &context.http)
                    .running()
                    .await
                    .ok_or_else(|| failure(Kind::Config, "the emulated AWS is not running"));
                let step = format!("start it with `{}`", context.local_command("local up"));
                let running = running.hint(Kind::Config, step)?;
                let region = context.settings.region.as_deref().unwrap_or(DEFAULT_REGION);
                let variables = local::environment(&running.url(), region);
                let report: serde_json::Map<String, serde_json::Value> =
                    variables.iter().map(|(key, value)| ((*key).to_owned(), value.clone().into())).collect();
                let line = |(key, value): &(_, _)| format!("export {key}={value}\n");
                context.printer.results().either(
                    || variables.iter().map(line).collect(),
                    &serde_json::json!({ "environment": report }),
                )
            }
        }
    }
}

/// Ends all servers, even if one cannot be ended.
async fn down(context: &Context) -> anyhow::Result<()> {
    let printer = &context.printer;
    let mut stopped = Vec::new();
    for (name, server) in [
        ("the emulated AWS", Background::aws(&context.paths, &context.http)),
        ("the sample upstreams", Background::samples(&context.paths, &context.http)),
    ] {
        if let Some(running) = server.stop().await? {
            printer.line(format!("stopped {name} (process {})", running.pid));
            stopped.push(serde_json::json!({ "name": name, "pid": running.pid }));
        } else if name == "the emulated AWS" {
            printer.line(format!("{name} does not run"));
        }
    }
    let engine = engine(context);
    if let Some(pid) = engine.pid() {
        engine.stop().await?;
        printer.line(format!(
            "stopped the docker engine that was started here (process {pid}); its images are kept"
        ));
        stopped.push(serde_json::json!({ "name": "the docker engine", "pid": pid }));
    }
    LocalSetup::forget(context.paths.local())?;
    printer.results().report(&serde_json::json!({ "stopped": stopped }))
}

/// The docker engine that `demo` or `test` starts if none runs.
fn engine(context: &Context) -> Engine {
    Engine::at(&context.paths.local().join("docker"))
}

/// The servers of the local directory.
struct Servers {
    aws: (Background, Option<Running>),
    samples: (Background, Option<Running>),
    engine: Engine,
    /// The engine's address in docker's settings, if it is not the engine started here.
    elsewhere: Option<String>,
}

impl Servers {
    async fn look(context: &Context) -> anyhow::Result<Self> {
        let aws = Background::aws(&context.paths, &context.http);
        let samples = Background::samples(&context.paths, &context.http);
        let setup = LocalSetup::load(context.paths.local())?;
        let engine = engine(context);
        let mut named = setup.engine_variables(environment_variable).into_values();
        let elsewhere = named.find(|address| *address != engine.host());
        let running = (aws.running().await, samples.running().await);
        Ok(Self { aws: (aws, running.0), samples: (samples, running.1), engine, elsewhere })
    }

    fn report(&self, context: &Context) -> anyhow::Result<()> {
        let mut table = Table::new(["SERVER", "", "ADDRESS", "PROCESS", "DATA"]);
        let mut add = |name: &str, pid: Option<u32>, address: Option<String>, data: String| {
            let state = if pid.is_some() { "running" } else { "stopped" };
            let pid = pid.map_or_else(|| "-".into(), |pid| pid.to_string());
            table.row([name.into(), state.into(), address.unwrap_or_else(|| "-".into()), pid, data]);
        };
        let mut document = serde_json::json!({ "account": local::ACCOUNT });
        for (name, key, (server, running)) in
            [("emulated AWS", None, &self.aws), ("sample upstreams", Some("samples"), &self.samples)]
        {
            let data = context.paths.show(server.data()).to_string();
            let (pid, url) = (running.as_ref().map(|r| r.pid), running.as_ref().map(Running::url));
            let told = serde_json::json!({ "running": pid.is_some(), "url": url, "pid": pid, "data": data });
            match (key, &mut document, told) {
                (Some(key), document, told) => document[key] = told,
                (None, serde_json::Value::Object(document), serde_json::Value::Object(told)) => {
                    document.extend(told);
                }
                _ => {}
            }
            add(name, pid, url, data);
        }
        let pid = self.engine.pid();
        let data = context.paths.show(self.engine.state()).to_string();
        let host = pid.map(|_| self.engine.host());
        document["engine"] = serde_json::json!({
            "running": pid.is_some(), "host": host, "pid": pid, "data": data, "elsewhere": self.elsewhere,
        });
        add("docker engine", pid, host, data);
        if let Some(address) = &self.elsewhere {
            table.row(["docker engine".into(), "elsewhere".into(), address.clone(), "-".into(), "-".into()]);
        }
        context.printer.results().data(&table, &document)
    }
}
