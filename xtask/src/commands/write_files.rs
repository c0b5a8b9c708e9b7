//! `write-files`.

use std::path::PathBuf;

use clap::Args;
use failure::{FailWith as _, Kind, ending, failure};

use super::Context;
use crate::context::shell_word;
use crate::shipped::{self, WriteError};

/// Write images.toml, the terraform module and the runtimes' sources into a folder, to be edited there
///
/// Commands that are run in that folder, or below it, use its files. Existing files that differ are never overwritten: nothing is
/// written then.
#[derive(Debug, Args)]
#[command(
    alias = "init",
    after_help = "Examples:\n  cargo xtask write-files\n  cargo xtask write-files my-grid"
)]
pub struct WriteFiles {
    /// The folder; it is created if it does not exist
    #[arg(default_value = ".")]
    dir: PathBuf,
}

impl WriteFiles {
    /// Runs the command.
    ///
    /// # Errors
    /// The folder has files that differ, or cannot be written to, or the program includes no files.
    pub fn run(self, context: &Context) -> anyhow::Result<()> {
        if context.shipped.is_empty() {
            return Err(failure(Kind::Usage, "the files are in this workspace, to be edited here"))
                .hint(Kind::Usage, "the program of a release has them in it and writes them anywhere");
        }
        let shown = self.dir.display();
        let written = shipped::write(context.shipped, &self.dir).map_err(explain)?;
        context.printer.line(match written.written.len() {
            0 => format!("{shown} has all files already, as this program has them"),
            count => {
                let there = match self.dir.as_os_str() == "." {
                    true => String::new(),
                    false => format!("`cd {}`, then ", shell_word(&self.dir.to_string_lossy())),
                };
                format!(
                    "wrote {count} files to {shown}; edit deployment/image_repository/images.toml there, then {there}\
                     `cargo xtask init-images`"
                )
            }
        });
        context.printer.results().report(&serde_json::json!({
            "folder": self.dir, "written": written.written, "unchanged": written.unchanged,
        }))
    }
}

fn explain(error: WriteError) -> anyhow::Error {
    let hint = match &error {
        WriteError::Differ { .. } => {
            "nothing was written, and commands use the files that are there; to compare, name another folder"
        }
        WriteError::Io { .. } => "nothing was written; name a folder that you may write to",
    };
    ending(Kind::Config, Some(hint.to_owned()), error)
}
