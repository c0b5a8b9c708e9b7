//! `init-images`.

use aws::bucket::{Problem, StateBucket};
use clap::Args;

use super::Context;
use crate::infrastructure;

/// Check the bucket of the terraform state, initialise terraform with it, and import the terraform state of the Makefile
#[derive(Debug, Default, Args)]
#[command(
    after_help = "Examples:\n  cargo xtask init-images TAG=prod REGION=eu-west-1\n  cargo xtask init-images --create-state-bucket --state-bucket my-state"
)]
pub struct InitImages {
    /// Create the bucket, or mend what is wrong with it: versioned, encrypted with KMS, no public access, TLS only
    #[arg(long)]
    pub create_state_bucket: bool,
    /// Release a lock on the state that a dead run left behind; its error named the ID
    #[arg(long, value_name = "ID")]
    pub release_lock: Option<String>,
    /// Show what would be created, corrected and released, and stop
    #[arg(long)]
    pub dry_run: bool,
    /// Leave a terraform alone that is connected with the state already.
    #[arg(skip)]
    pub if_needed: bool,
}

impl InitImages {
    /// Runs the command.
    ///
    /// # Errors
    /// The bucket will not do, its state belongs to another grid, or terraform fails.
    pub async fn run(self, context: &Context) -> anyhow::Result<()> {
        let config = context.config()?;
        let aws = context.aws(config.account.as_deref()).await?;
        let infrastructure = infrastructure::open(context, &aws).await?;
        let bucket = StateBucket::new(&aws, infrastructure.store().bucket());
        if self.dry_run {
            return self.preview(context, &infrastructure, &bucket).await;
        }
        if self.create_state_bucket {
            for problem in bucket.create().await? {
                context.printer.line(match problem {
                    Problem::Missing => {
                        format!("created the state bucket {}", infrastructure.store().bucket())
                    }
                    other => format!("state bucket {}: corrected: {other}", infrastructure.store().bucket()),
                });
            }
        }
        let found = bucket.check().await?;
        for problem in &found.problems {
            let step = match problem {
                Problem::Plain => "; `cargo xtask init-images --create-state-bucket` adds that",
                _ => "",
            };
            context
                .printer
                .warn(format!("state bucket {}: {problem}{step}", infrastructure.store().bucket()));
        }
        if let Some(encryption) = &found.encryption {
            context.printer.line(format!(
                "state bucket {}: in {}, versioned, closed to the public, encrypted with {encryption}",
                infrastructure.store().bucket(),
                aws.region(),
            ));
        }
        let inventory = infrastructure.inventory().await?;
        infrastructure.leave_makefile(&inventory).await?;
        if let Some(id) = &self.release_lock {
            infrastructure.release_lock(id).await?;
            context.printer.line(format!("released the lock {id}"));
        }
        if self.if_needed {
            infrastructure.terraform().await?;
        } else {
            infrastructure.initialise().await?;
        }
        context.printer.line(format!(
            "initialised: account {}, region {}, grid {}, state s3://{}/{}",
            aws.identity().account,
            aws.region(),
            context.settings.tag,
            infrastructure.store().bucket(),
            infrastructure.store().key(),
        ));
        Ok(())
    }

    /// Says what would be done.
    async fn preview(
        &self,
        context: &Context,
        infrastructure: &grid::Infrastructure<'_>,
        bucket: &StateBucket,
    ) -> anyhow::Result<()> {
        let (printer, name) = (&context.printer, infrastructure.store().bucket());
        let found = if self.create_state_bucket { bucket.mendable().await? } else { bucket.check().await? };
        for problem in &found.problems {
            printer.line(match problem {
                Problem::Missing => format!("create the state bucket {name}"),
                other if self.create_state_bucket => format!("state bucket {name}: correct: {other}"),
                other => format!("state bucket {name}: {other}"),
            });
        }
        if !found.problems.contains(&Problem::Missing) && infrastructure.inventory().await?.is_makefiles() {
            printer.line("import the Makefile's terraform state");
        }
        if let Some(id) = &self.release_lock {
            printer.line(format!("release the lock {id}"));
        }
        printer.line("dry run: nothing was changed");
        Ok(())
    }
}
