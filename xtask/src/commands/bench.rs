//! `bench`.

use clap::Args;

use super::Context;
use crate::local;
use crate::process::{Cmd, Killer};

/// Measure this tool side by side with skopeo, docker and whatever other copier is in PATH
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
        local::build(&context.paths, &["bench", "xtask"], &context.printer).await?;
        let programs = context.paths.target().join("debug");
        let mut bench = Cmd::new(programs.join("bench")).arg("--xtask").arg(programs.join("xtask"));
        if self.full {
            bench = bench.arg("--full");
        }
        let printer = context.printer.clone();
        bench
            .args(self.arguments)
            .cwd(context.paths.root())
            .stream(Killer::default(), move |line| printer.line(line))
            .await?;
        Ok(())
    }
}
