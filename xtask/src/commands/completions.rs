//! `completions`.

use clap::{Args, Command};
use clap_complete::Shell;

use crate::context::Context;
use crate::program;

/// Print a script that completes commands and options in a shell
///
/// Shells complete programs, and cargo's alias is two words: give it a name of its own by an alias of the shell, and use that.
#[derive(Debug, Args)]
#[command(
    after_help = "Example, in ~/.bashrc or ~/.zshrc:\n  alias xtask='cargo xtask'\n  eval \"$(cargo xtask completions bash)\""
)]
pub struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
    /// The alias [default: xtask; where the program is not cargo's, its own name]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

impl Completions {
    /// Runs the command. `commands`: the command tree.
    ///
    /// # Errors
    /// stdout is closed.
    pub fn run(self, context: &Context, commands: Command) -> anyhow::Result<()> {
        let own = if program::name() == program::ALIAS { "xtask" } else { program::name() };
        let name = self.name.as_deref().unwrap_or(own);
        let mut script = Vec::new();
        let mut command = commands.bin_name(name);
        clap_complete::generate(self.shell, &mut command, name, &mut script);
        let script = String::from_utf8(script)?;
        let report = serde_json::json!({ "shell": self.shell.to_string(), "script": script });
        context.printer.results().either(|| script.clone(), &report)
    }
}
