//! `cargo xtask`: puts every container image an HTC-Grid needs into the operator's own Amazon ECR.

#[cfg(all(any(feature = "uncompared", feature = "same-staging"), not(debug_assertions)))]
compile_error!("`uncompared` and `same-staging` are for the tests alone");

mod air_gap;
mod cargo;
mod cli;
mod commands;
mod context;
mod error;
mod help;
mod http;
mod infrastructure;
mod local;
mod origins;
mod prerequisites;
mod settings;
mod sources;
mod target;
mod transfer;
mod ui;
mod verify;

use std::process::ExitCode;

use failure::{Kind, failure};

use cli::Cli;
use commands::Command;
use context::Context;

fn main() -> ExitCode {
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(problem) => return error::exit_with(&problem.into()),
    };
    let code = runtime.block_on(run());
    // A name that is still being looked up is nobody's concern any more.
    runtime.shutdown_background();
    code
}

async fn run() -> ExitCode {
    let arguments = match cli::translate(std::env::args()) {
        Ok(arguments) => arguments,
        Err(problem) => return error::exit_with(&failure(Kind::Usage, problem)),
    };
    if let Some(text) = help::shown(&arguments) {
        ui::first_words(&text);
        return ExitCode::SUCCESS;
    }
    match work(cli::parse(arguments, help::command())).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error::exit_with(&error),
    }
}

/// Runs the command that was asked for.
async fn work(Cli { global, command, name }: Cli) -> anyhow::Result<()> {
    let mut context = Context::new(&global)?;
    context.printer.progress().command(&name);
    // `demo` and `local` look at the setup themselves.
    if context.settings.local && !matches!(command, Command::Demo(_) | Command::Local(_)) {
        context = context.with_local_setup().await?;
    }
    let result = command.run(&context).await;
    context.printer.progress().set_idle(true);
    result.map_err(|error| context.interrupt.reason(error))
}
