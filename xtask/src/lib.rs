//! `cargo xtask`: puts every container image an HTC-Grid needs into the operator's own Amazon ECR.

#[cfg(all(any(feature = "uncompared", feature = "same-staging"), not(debug_assertions)))]
compile_error!("`uncompared` and `same-staging` are for the tests alone");

mod air_gap;
mod boxed;
mod cargo;
mod cli;
mod commands;
mod context;
mod exit_codes;
mod help;
mod http;
mod infrastructure;
mod local;
mod min_age;
mod origins;
mod paths;
mod prerequisites;
mod program;
mod settings;
mod shipped;
mod sources;
mod target;
mod transfer;
mod trust;
mod ui;
mod verify;

use std::process::ExitCode;

use clap::CommandFactory as _;
use failure::{Kind, failure, render};

use boxed::boxed;
use cli::Cli;
use commands::Command;
use context::Context;
use exit_codes::Ending;
pub use shipped::ShippedFile;
use ui::{Document, Format};

/// Runs this process's command line. `shipped`: the files included in the program, used if there are no others.
pub fn main(shipped: &'static [ShippedFile]) -> ExitCode {
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(problem) => {
            let error = problem.into();
            ui::last_words(&render(&error));
            return exit_codes::exit_code(&error).into();
        }
    };
    let code = runtime.block_on(boxed(|| run(shipped)));
    // Does not wait for a name lookup that is still running.
    runtime.shutdown_background();
    code.into()
}

/// Runs the command line, and returns the exit code.
async fn run(shipped: &'static [ShippedFile]) -> u8 {
    let typed: Vec<String> = std::env::args().collect();
    let named = cli::named(&typed);
    let json = cli::format(&typed) == Format::Json || named.as_deref() == Some(commands::WATCH);
    let document = Document::default();
    let end = |ended: anyhow::Result<Ending>| {
        let code = ended.as_ref().map_or_else(exit_codes::exit_code, |ending| ending.code());
        if json {
            document.print(named.as_deref(), code, ended.as_ref().err().map(exit_codes::as_json));
        }
        code
    };
    let arguments = match cli::translate(typed.iter().cloned()) {
        Ok(arguments) => arguments,
        Err(problem) => {
            let error = failure(Kind::Usage, problem);
            ui::last_words(&render(&error));
            return end(Err(error));
        }
    };
    if let Some(text) = help::shown(&arguments) {
        ui::first_words(&text);
        return 0;
    }
    let cli = match cli::parse(arguments, help::command()) {
        Ok(cli) => cli,
        Err(answer) => {
            // A closed stream is not an error.
            let _ = answer.print();
            return if answer.use_stderr() { end(Err(cli::usage_error(&answer))) } else { 0 };
        }
    };
    let ended = boxed(|| work(cli, document.clone(), shipped)).await;
    if let Err(error) = &ended {
        ui::last_words(&render(error));
    }
    end(ended)
}

/// The command tree with all options, for manual pages of `program`. Each command has only its own options.
pub fn manual(program: &'static str) -> clap::Command {
    program::named(Cli::command(), program)
}

/// Runs the command.
async fn work(
    Cli { mut global, command, name }: Cli,
    document: Document,
    shipped: &'static [ShippedFile],
) -> anyhow::Result<Ending> {
    if command.is_for_programs() {
        global.format = Format::Json;
    }
    let mut context = Context::new(&global, document, shipped)?;
    if program::OF_THE_WORKSPACE.contains(&name.as_str()) {
        context.paths.home().compiles(&format!("`{name}`"))?;
    } else if context.settings.local {
        context.paths.home().compiles("--local")?;
    }
    // The programs that these two start show their own progress.
    if !matches!(command, Command::Test(_) | Command::Bench(_)) {
        context.printer.progress().command(&name);
    }
    // `demo` and `local` read the setup themselves.
    if context.settings.local && !matches!(command, Command::Demo(_) | Command::Local(_)) {
        context = boxed(|| context.with_local_setup()).await?;
    }
    let result = command.run(&context).await;
    context.printer.progress().set_paused(true);
    result.map_err(|error| context.interrupt.reason(error))
}
