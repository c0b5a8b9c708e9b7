//! `import-images`.

use std::path::PathBuf;

use clap::Args;

use crate::air_gap::{Import, import};
use crate::context::Context;

/// Copy the images of an OCI image layout, from export-images or another tool, into the account's ECR
///
/// No source registry is asked. Digests stay the same, signatures are copied too, every byte is compared with its digest, and the copies
/// are read back. The account's repositories are created first, as by transfer-images. Shows what it would do and asks once.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo xtask import-images grid.tar TAG=prod REGION=eu-west-1\n  cargo xtask import-images usb/grid --registry registry.example:5000/htc --auto-approve"
)]
pub struct ImportImages {
    /// The directory or tar file
    file: PathBuf,
    /// Do not ask for approval
    #[arg(long)]
    auto_approve: bool,
    /// Accept this image or base at once, ignoring min_age in images.toml; can be given several times
    #[arg(long, value_name = "NAME")]
    allow_fresh: Vec<String>,
    /// The name for the image of a file that has only one image, without a name
    #[arg(long, value_name = "REPOSITORY:TAG")]
    name: Option<String>,
}

impl ImportImages {
    /// Runs the command.
    ///
    /// # Errors
    /// Errors of [`import`].
    pub async fn run(self, context: &Context) -> anyhow::Result<()> {
        let config = context.config()?;
        let target = context.interrupt.guard(context.target(&config)).await?;
        let request = Import {
            path: &self.file,
            config: &config,
            target: &target,
            auto_approve: self.auto_approve,
            allow_fresh: &self.allow_fresh,
            name: self.name.as_deref(),
        };
        import(context, &request).await
    }
}
