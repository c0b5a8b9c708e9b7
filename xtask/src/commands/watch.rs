//! `watch`.

use clap::Args;

use super::transfer::Options;
use crate::context::Context;
use crate::exit_codes::Ending;
use crate::transfer::{self, LOCK_TIMEOUT, Request};

/// Bring the images once, for a cron job or a scheduled workflow: no question, JSON, an exit code that says whether anything changed
///
/// It is auto-transfer-images with `--format json`, waits up to 15 minutes for somebody else's run (`--lock-timeout` for longer), and ends
/// with 0 where nothing was to be done, with 11 where something was changed (with `--dry-run`: would be), and else as every command.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo xtask watch TAG=prod REGION=eu-west-1\n  cargo xtask watch --dry-run | jq '.images[] | select(.action != \"up to date\")'"
)]
pub struct Watch {
    /// What transfer-images takes.
    #[command(flatten)]
    options: Options,
}

impl Watch {
    /// Runs the command.
    ///
    /// # Errors
    /// As [`transfer::run`].
    pub async fn run(self, context: &Context) -> anyhow::Result<Ending> {
        let mut context = context.clone();
        context.settings.lock_timeout = context.settings.lock_timeout.max(LOCK_TIMEOUT);
        transfer::run(&context, &Request { report_changes: true, ..self.options.request(true)? }).await
    }
}
