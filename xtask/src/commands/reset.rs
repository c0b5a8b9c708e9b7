//! `reset-images-deployment`.

use anyhow::Context as _;
use clap::Args;

use super::Context;
use crate::infrastructure::terraform_directory;

/// Forget the local terraform directory (the Makefile's `rm -rf .terraform`); nothing in AWS changes
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  cargo xtask reset-images-deployment")]
pub struct ResetImagesDeployment {}

impl ResetImagesDeployment {
    /// Runs the command.
    ///
    /// # Errors
    /// The directory cannot be removed.
    pub fn run(self, context: &Context) -> anyhow::Result<()> {
        let dir = grid::terraform_data(&terraform_directory(context));
        let shown = context.paths.show(&dir).to_string();
        let changed = match std::fs::remove_dir_all(&dir) {
            Ok(()) => {
                context.printer.line(format!("removed {shown}; `cargo xtask init-images` creates it again"));
                true
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                context.printer.line(format!("{shown} does not exist: nothing to reset"));
                false
            }
            Err(error) => return Err(error).with_context(|| format!("could not remove {shown}")),
        };
        context.printer.results().report(&serde_json::json!({ "directory": shown, "changed": changed }))
    }
}
