//! `import-config`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use failure::{FailWith as _, Kind, failure};
use images_config::import::import_config;

use super::Context;

/// Convert HTC-Grid's images_config.json into an images.toml
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo xtask import-config ../htc-grid/deployment/image_repository/images_config.json\n  cargo xtask import-config images_config.json --output images.toml"
)]
pub struct ImportConfig {
    /// HTC-Grid's file
    file: PathBuf,
    /// Write it here instead of to stdout; an existing file is not overwritten
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl ImportConfig {
    /// Runs the command.
    ///
    /// # Errors
    /// The file cannot be read or has another format, or the output file exists already.
    pub fn run(self, context: &Context) -> anyhow::Result<()> {
        let shown = self.file.display();
        let json = std::fs::read_to_string(&self.file)
            .with_context(|| format!("could not read {shown}"))
            .kind(Kind::Config)?;
        let text = import_config(&json, &self.file, context.paths.root()).kind(Kind::Config)?;
        let Some(output) = self.output else {
            return context
                .printer
                .results()
                .either(|| text.clone(), &serde_json::json!({ "toml": text, "file": null }));
        };
        let shown = output.display();
        if output.exists() {
            return Err(failure(Kind::Config, format!("{shown} is there already"))).hint(
                Kind::Config,
                "choose another file with --output, or move the existing one; nothing was changed",
            );
        }
        std::fs::write(&output, text)
            .with_context(|| format!("could not write {shown}"))
            .kind(Kind::Config)?;
        context
            .printer
            .line(format!("wrote {shown}; use it with --images {shown}, or replace images.toml with it"));
        context.printer.results().report(&serde_json::json!({ "toml": null, "file": output }))
    }
}
