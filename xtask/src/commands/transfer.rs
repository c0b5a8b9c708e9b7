//! `transfer-images` and `auto-transfer-images`.

use std::path::PathBuf;

use aws::shard::Shard;
use clap::Args;
use failure::{Kind, failure};

use super::Context;
use crate::boxed::boxed;
use crate::exit_codes::Ending;
use crate::transfer::{self, Request};

/// Copy or build every image that the grid needs into the account's ECR: shows the plan, asks once, applies and verifies it
#[derive(Debug, Default, Args)]
#[command(
    after_help = "Examples:\n  cargo xtask transfer-images TAG=prod REGION=eu-west-1\n  cargo xtask transfer-images TAG=prod REBUILD_RUNTIMES=true\n  cargo xtask transfer-images --local --dry-run\n  cargo xtask transfer-images --registry registry.example:5000/htc --only curl"
)]
pub struct TransferImages {
    /// Do not ask for approval
    #[arg(long)]
    pub auto_approve: bool,
    /// What both commands take.
    #[command(flatten)]
    pub options: Options,
}

/// transfer-images without the question
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  cargo xtask auto-transfer-images TAG=prod REGION=eu-west-1")]
pub struct AutoTransferImages {
    #[command(flatten)]
    options: Options,
}

/// What both commands take.
#[derive(Clone, Debug, Default, Args)]
pub struct Options {
    /// Show the plan and stop
    #[arg(long)]
    pub dry_run: bool,
    /// With --dry-run: exit with 11 if there is something to do
    #[arg(long, requires = "dry_run")]
    exit_code: bool,
    /// Rebuild every runtime without any cache, on a fresh base [REBUILD_RUNTIMES=true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", value_parser = parse_bool)]
    rebuild_runtimes: Option<bool>,
    /// Stop if an upstream tag no longer matches images.lock
    #[arg(long)]
    locked: bool,
    /// Continue with the other images if one fails
    #[arg(long)]
    keep_going: bool,
    /// Only these images and runtimes: repository, repository:tag or runtime
    #[arg(long, value_name = "NAME", num_args = 1..)]
    only: Vec<String>,
    /// Accept this image or base at once, ignoring min_age in images.toml; can be given several times
    #[arg(long, value_name = "NAME")]
    allow_fresh: Vec<String>,
    /// Only this share of images and runtimes, 1 of N: `2/4`, or `auto[/N]` on AWS Batch, Kubernetes or GitLab
    #[arg(long, value_name = "I/N")]
    shard: Option<String>,
    /// Run terraform even if it is known to have nothing to do
    #[arg(long)]
    refresh: bool,
    /// Also pull the images that images.toml primes into the local container engine
    #[arg(long)]
    prime: bool,
    /// Write one HTML page about this run: what was done and why, sizes, times, signatures, findings of ECR's scans
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

impl Options {
    /// The request for these options.
    ///
    /// # Errors
    /// REBUILD_RUNTIMES or `--shard` has a wrong value.
    pub fn request(self, auto_approve: bool) -> anyhow::Result<Request> {
        let from_environment = || match std::env::var("REBUILD_RUNTIMES") {
            Ok(text) if !text.is_empty() => parse_bool(&text)
                .map_err(|why| failure(Kind::Usage, format!("REBUILD_RUNTIMES={text}: {why}"))),
            _ => Ok(false),
        };
        let shard = self.shard.map(|text| Shard::parse(&text, |name| std::env::var(name).ok()));
        let shard = shard.transpose().map_err(|why| failure(Kind::Usage, format!("--shard: {why}")))?;
        Ok(Request {
            shard,
            dry_run: self.dry_run,
            auto_approve,
            rebuild_runtimes: self.rebuild_runtimes.map_or_else(from_environment, Ok)?,
            locked: self.locked,
            keep_going: self.keep_going,
            only: self.only,
            allow_fresh: self.allow_fresh,
            refresh: self.refresh,
            prime: self.prime,
            report: self.report,
            report_changes: self.exit_code,
            quiet: false,
        })
    }
}

impl TransferImages {
    /// Runs the command.
    ///
    /// # Errors
    /// Errors of [`transfer::run`].
    pub async fn run(self, context: &Context) -> anyhow::Result<Ending> {
        let request = self.options.request(self.auto_approve)?;
        boxed(|| transfer::run(context, &request)).await
    }
}

impl AutoTransferImages {
    /// Runs the command.
    ///
    /// # Errors
    /// Errors of [`transfer::run`].
    pub async fn run(self, context: &Context) -> anyhow::Result<Ending> {
        let request = self.options.request(true)?;
        boxed(|| transfer::run(context, &request)).await
    }
}

/// `true`, `false` and other common spellings in a Makefile's variable.
fn parse_bool(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "1" => Ok(true),
        "false" | "no" | "0" => Ok(false),
        _ => Err("expected true or false".into()),
    }
}
