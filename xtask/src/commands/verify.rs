//! `verify`.

use clap::Args;
use serde::Serialize;

use crate::context::Context;
use crate::transfer::only;
use crate::ui::{Table, units};
use crate::verify::{Verification, Verified, verdict};

/// Read the target back: every manifest, and every blob's presence and size, against images.lock or the sources
///
/// Without images.lock an image is compared with the result of the last run, or else with its source. A runtime is compared by its
/// labels: its build key with its inputs, its base with images.toml and images.lock. Differences are listed, and the exit code is then 8.
/// Nothing is changed.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo xtask verify TAG=prod REGION=eu-west-1\n  cargo xtask verify curl lambda:python3.12 --deep\n  cargo xtask verify --registry registry.example:5000/htc --format json"
)]
pub struct Verify {
    /// Only these images and runtimes: repository, repository:tag or runtime
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Read every byte and compare it with its digest
    #[arg(long)]
    deep: bool,
}

/// The result in `--format json`.
#[derive(Debug, Serialize)]
struct Report<'a> {
    registry: &'a str,
    deep: bool,
    /// Number of images and runtimes with differences.
    different: usize,
    images: &'a [Verified],
}

impl Verify {
    /// Runs the command.
    ///
    /// # Errors
    /// There are differences, or a registry does not answer.
    pub async fn run(self, context: &Context) -> anyhow::Result<()> {
        let config = only(context.config()?, &self.names)?;
        let lock = context.lock()?;
        let target = context.interrupt.guard(context.target(&config)).await?;
        let verification = Verification::new(context, &config, lock.as_ref(), &target, self.deep)?;
        let verified = context.interrupt.guard(verification.run()).await?;
        let mut table = Table::new(["IMAGE", "STATUS", "AGAINST", "BLOBS", "SIZE", "DIGEST"]);
        for image in &verified {
            let status = match image.differences.len() {
                0 => "ok".to_owned(),
                count => units::count(count, "difference"),
            };
            table.row([
                image.name.clone(),
                status,
                image.against.name().to_owned(),
                image.blobs.to_string(),
                units::bytes(image.bytes),
                image.digest.map_or_else(|| "-".to_owned(), |digest| digest.to_string()),
            ]);
        }
        let different = verified.iter().filter(|image| !image.differences.is_empty()).count();
        let report = Report { registry: target.host(), deep: self.deep, different, images: &verified };
        context.printer.results().data(&table, &report)?;
        verdict(&verified)?;
        let how = if self.deep { "every byte read" } else { "contents not read; --deep does" };
        context.printer.line(format!("{} as expected ({how})", units::count(verified.len(), "image")));
        Ok(())
    }
}
