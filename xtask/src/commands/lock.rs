//! `lock`.

use anyhow::Context as _;
use clap::Args;
use failure::{FailWith as _, Kind, ending, failure, render};
use images_config::{
    lock::resolve::{ResolveError, resolve_all},
    lock::update::Select,
};

use super::Context;
use crate::transfer::registry_verdict;

/// Write images.lock: which digests the names in images.toml mean
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo xtask lock\n  cargo xtask lock --update\n  cargo xtask lock --update grafana python3.12"
)]
pub struct Lock {
    /// Ask upstream anew: for everything, or for the images and runtimes that are named
    #[arg(long)]
    update: bool,
    /// Ask upstream, say what would change and stop; exits with 3 if something would, with 7 if upstream does not answer
    #[arg(long)]
    check: bool,
    /// Images and runtimes
    #[arg(value_name = "NAME", requires = "update")]
    names: Vec<String>,
}

impl Lock {
    /// Runs the command.
    ///
    /// # Errors
    /// An unknown name, an upstream that does not answer or lacks an image, or the file cannot be written.
    pub async fn run(self, context: &Context) -> anyhow::Result<()> {
        let config = context.config()?;
        let before = context.lock()?.unwrap_or_default();
        let select = match (self.update || self.check, self.names.is_empty()) {
            (false, _) => Select::Missing,
            (true, true) => Select::All,
            (true, false) => Select::Named(self.names),
        };
        let wants = before.to_resolve(&config, &select).kind(Kind::Usage)?;
        let client = context.sources().client(&config)?;
        let asked = async { Ok(resolve_all(&client, &wants, &before, jiff::Timestamp::now()).await) };
        let (resolved, failed) = context.interrupt.guard(asked).await?;
        // All or nothing: a lock that knows half of the images is no lock.
        let mut failed = failed.into_iter();
        if let Some(first) = failed.next() {
            failed.for_each(|error| context.printer.line(render(&error.into())));
            let (exit, hint) = match &first {
                ResolveError::Registry { source, .. } => registry_verdict(source, Kind::Upstream),
                _ => (Kind::Upstream, None),
            };
            return Err(ending(exit, hint, first)).hint(exit, "images.lock was not touched");
        }
        let after = before.merged(&config, &select, resolved);
        let diff = before.diff(&after);
        for line in diff.lines() {
            context.printer.out(&format!("{line}\n"))?;
        }
        let shown = context.paths.lock();
        let shown = context.paths.show(&shown);
        if diff.is_empty() {
            context.printer.line(format!("{shown} is up to date"));
            return Ok(());
        }
        if self.check {
            let writes = match before.sources.is_empty() {
                true => "`cargo xtask lock` writes it",
                false => "`cargo xtask lock --update` writes it",
            };
            // Not the code of an upstream that does not answer.
            return Err(failure(Kind::Config, format!("{shown} is not what upstream has")))
                .hint(Kind::Config, writes);
        }
        after.save(&context.paths.lock()).with_context(|| format!("could not write {shown}"))?;
        context.printer.line(format!("wrote {shown}; commit it, so that every run copies the same digests"));
        Ok(())
    }
}
