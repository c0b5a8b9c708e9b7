//! `export-images`.

use std::path::PathBuf;

use clap::Args;
use failure::{FailWith as _, Kind, failure};
use images_config::lock::Lock;

use crate::air_gap::{Export, export};
use crate::context::Context;
use crate::transfer::only;

/// Write every image of the list, runtimes included, into an OCI image layout for an air gap
///
/// FILE is a directory, or a tar file if its name ends in `.tar`. Digests stay the same, and signatures are included if images.toml says
/// `artifacts = true`. An image is read from the target if it is there, else from its source. An interrupted export continues: what is in
/// FILE is verified first. `import-images`, skopeo and podman can read FILE.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo xtask export-images grid.tar REGION=eu-west-1\n  cargo xtask export-images usb/grid --from-sources\n  cargo xtask export-images news.tar --since last/images.lock"
)]
pub struct ExportImages {
    /// A directory, or a file whose name ends in `.tar`
    file: PathBuf,
    /// Leave out images whose digest is in this images.lock; runtimes are always included
    #[arg(long, value_name = "LOCK")]
    since: Option<PathBuf>,
    /// Only these images and runtimes: repository, repository:tag or runtime
    #[arg(long, value_name = "NAME", num_args = 1..)]
    only: Vec<String>,
    /// Accept this image or base at once, ignoring min_age in images.toml; can be given several times
    #[arg(long, value_name = "NAME")]
    allow_fresh: Vec<String>,
    /// Read all images from their sources, without an AWS account; runtimes are left out
    #[arg(long)]
    from_sources: bool,
}

impl ExportImages {
    /// Runs the command.
    ///
    /// # Errors
    /// Errors of [`export`].
    pub async fn run(self, context: &Context) -> anyhow::Result<()> {
        let config = only(context.config()?, &self.only)?;
        let lock = context.lock()?;
        let since = match &self.since {
            Some(file) => {
                let read = Lock::load(file, file).kind(Kind::Config)?;
                let missing =
                    || failure(Kind::Usage, format!("--since {}: there is no such file", file.display()));
                Some(read.ok_or_else(missing)?)
            }
            None => None,
        };
        let target = match self.from_sources {
            true => None,
            false => {
                let target = context.interrupt.guard(context.target(&config)).await;
                let hint = "--from-sources reads everything at its source, and needs no account";
                Some(target.hint(Kind::Credentials, hint)?)
            }
        };
        let request = Export {
            path: &self.file,
            config: &config,
            lock: lock.as_ref(),
            since: since.as_ref(),
            allow_fresh: &self.allow_fresh,
            target: target.as_ref(),
        };
        export(context, &request).await
    }
}
