//! `bench`.

use anyhow::Context as _;
use clap::Args;
use process::{Cmd, KillHandle};

use super::Context;
use super::test::test_engines;
use crate::cargo;
use crate::prerequisites::TestEngines;

/// Measure this tool side by side with skopeo, docker and other copiers in PATH
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  cargo xtask bench\n  cargo xtask bench -- --rounds 9 --only grid")]
pub struct Bench {
    /// Every set, link and round, without a limit of time
    #[arg(long)]
    full: bool,
    /// Further arguments for the bench program
    #[arg(last = true)]
    arguments: Vec<String>,
}

impl Bench {
    /// Runs the command.
    ///
    /// # Errors
    /// The bench does not compile or fails.
    pub async fn run(self, context: &Context) -> anyhow::Result<()> {
        let programs = cargo::build(context.paths.root(), &["bench", "xtask"], &context.printer).await?;
        let program = |name| programs.get(name).with_context(|| format!("cargo built no program {name}"));
        let mut bench = Cmd::new(program("bench")?).arg("--xtask").arg(program("xtask")?);
        if self.full {
            bench = bench.arg("--full");
        }
        // Runtimes are built with a recent docker if available, otherwise with the machine's own.
        let engines = match self.arguments.iter().any(|argument| argument == "runtimes") {
            true => {
                test_engines(context).await.map_err(|error| context.printer.warn(format!("{error:#}"))).ok()
            }
            false => None,
        };
        let variables = engines.as_ref().map(TestEngines::environment).unwrap_or_default();
        bench = variables.into_iter().fold(bench, |bench, (name, value)| bench.env(name, value));
        let printer = context.printer.clone();
        let kill_handle = KillHandle::default();
        let _kill_on_drop = kill_handle.kill_on_drop();
        bench
            .args(self.arguments)
            .cwd(context.paths.root())
            .stream(kill_handle, move |line| printer.line(line))
            .await?;
        Ok(())
    }
}
