//! `completions`.

use clap::{Args, Command};
use clap_complete::Shell;

use crate::context::Context;

/// Print a script that completes commands and options in a shell
///
/// Shells complete programs, and `cargo xtask` is two words: give it a name of its own by an alias, and use that.
#[derive(Debug, Args)]
#[command(
    after_help = "Example, in ~/.bashrc or ~/.zshrc:\n  alias xtask='cargo xtask'\n  eval \"$(cargo xtask completions bash)\""
)]
pub struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
    /// The alias
    #[arg(long, value_name = "NAME", default_value = "xtask")]
    name: String,
}

impl Completions {
    /// Runs the command. `commands`: the command tree.
    ///
    /// # Errors
    /// stdout is gone.
    pub fn run(self, context: &Context, commands: Command) -> anyhow::Result<()> {
        let mut script = Vec::new();
        let mut command = commands.bin_name(&self.name);
        clap_complete::generate(self.shell, &mut command, &self.name, &mut script);
        let script = String::from_utf8(script)?;
        let report = serde_json::json!({ "shell": self.shell.to_string(), "script": script });
        context.printer.results().either(|| script.clone(), &report)
    }
}
