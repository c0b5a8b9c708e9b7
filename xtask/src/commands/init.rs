//! `init-images`.

use aws::Aws;
use aws::bucket::{Problem, StateBucket};
use clap::Args;
use grid::Infrastructure;

use super::Context;
use crate::infrastructure;

/// Check the bucket of the terraform state, initialise terraform with it, and import the terraform state of the Makefile
#[derive(Debug, Default, Args)]
#[command(
    after_help = "Examples:\n  cargo xtask init-images TAG=prod REGION=eu-west-1\n  cargo xtask init-images --create-state-bucket --state-bucket my-state"
)]
pub struct InitImages {
    /// Create the bucket, or correct its settings: versioned, encrypted with KMS, no public access, TLS only
    #[arg(long)]
    pub create_state_bucket: bool,
    /// Release a lock on the state that a dead run left behind; the error message shows its ID
    #[arg(long, value_name = "ID")]
    pub release_lock: Option<String>,
    /// Show what would be created, corrected and released, and stop
    #[arg(long)]
    pub dry_run: bool,
    /// Do nothing if terraform is connected with the state already.
    #[arg(skip)]
    pub if_needed: bool,
}

/// A run in `--format json`.
#[derive(Default, serde::Serialize)]
struct Report {
    account: String,
    region: String,
    tag: String,
    /// Bucket and key of the terraform state.
    bucket: String,
    key: String,
    /// The bucket's encryption, if it was read.
    encryption: Option<String>,
    /// Problems of the bucket that remain.
    problems: Vec<String>,
    /// What was created, corrected, imported and released, or would be with `--dry-run`.
    steps: Vec<String>,
    dry_run: bool,
    /// Whether any step changed something.
    changed: bool,
}

impl Report {
    fn new(context: &Context, aws: &Aws, infrastructure: &Infrastructure<'_>) -> Self {
        Self {
            account: aws.identity().account.clone(),
            region: aws.region().to_owned(),
            tag: context.settings.tag.clone(),
            bucket: infrastructure.store().bucket().to_owned(),
            key: infrastructure.store().key().to_owned(),
            ..Self::default()
        }
    }

    /// Prints and records a step.
    fn step(&mut self, context: &Context, words: String) -> anyhow::Result<()> {
        context.printer.line(&words);
        self.steps.push(words);
        self.changed = !self.dry_run;
        context.printer.results().report(self)
    }
}

impl InitImages {
    /// Runs the command.
    ///
    /// # Errors
    /// The bucket cannot be used, its state belongs to another grid, or terraform fails.
    pub async fn run(self, context: &Context) -> anyhow::Result<()> {
        let config = context.config()?;
        let aws = context.aws(config.account.as_deref()).await?;
        let infrastructure = infrastructure::open(context, &aws).await?;
        let bucket = StateBucket::new(&aws, infrastructure.store().bucket());
        let mut report = Report::new(context, &aws, &infrastructure);
        if self.dry_run {
            return self.preview(context, &infrastructure, &bucket, report).await;
        }
        if self.create_state_bucket {
            for problem in bucket.create().await? {
                let name = infrastructure.store().bucket();
                let words = match problem {
                    Problem::Missing => format!("created the state bucket {name}"),
                    other => format!("state bucket {name}: corrected: {other}"),
                };
                report.step(context, words)?;
            }
        }
        let found = bucket.check().await?;
        report.problems = found.problems.iter().map(ToString::to_string).collect();
        report.encryption = found.encryption.as_ref().map(ToString::to_string);
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
        grid::makefile_state::leave(&infrastructure, &inventory).await?;
        if inventory.is_makefiles() {
            report.steps.push("imported the Makefile's terraform state".to_owned());
            report.changed = true;
        }
        if let Some(id) = &self.release_lock {
            grid::release_lock(&infrastructure, id).await?;
            report.step(context, format!("released the lock {id}"))?;
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
        context.printer.results().report(&report)
    }

    /// Shows what would be done.
    async fn preview(
        &self,
        context: &Context,
        infrastructure: &Infrastructure<'_>,
        bucket: &StateBucket,
        mut report: Report,
    ) -> anyhow::Result<()> {
        let name = infrastructure.store().bucket();
        report.dry_run = true;
        let found = if self.create_state_bucket { bucket.fixable().await? } else { bucket.check().await? };
        for problem in &found.problems {
            match problem {
                Problem::Missing => report.step(context, format!("create the state bucket {name}"))?,
                other if self.create_state_bucket => {
                    report.step(context, format!("state bucket {name}: correct: {other}"))?;
                }
                other => {
                    report.problems.push(other.to_string());
                    context.printer.line(format!("state bucket {name}: {other}"));
                }
            }
        }
        if !found.problems.contains(&Problem::Missing) && infrastructure.inventory().await?.is_makefiles() {
            report.step(context, "import the Makefile's terraform state".to_owned())?;
        }
        if let Some(id) = &self.release_lock {
            report.step(context, format!("release the lock {id}"))?;
        }
        context.printer.line("dry run: nothing was changed");
        context.printer.results().report(&report)
    }
}
