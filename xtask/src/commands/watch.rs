//! `watch`.

use clap::Args;

use super::transfer::Options;
use crate::context::Context;
use crate::exit_codes::Ending;
use crate::transfer::{self, LOCK_TIMEOUT, Request};

/// Transfer the images once, for a cron job or a scheduled workflow: no question, JSON, and an exit code that says whether anything changed
///
/// Like auto-transfer-images with `--format json`, but waits up to 15 minutes for another run to end (`--lock-timeout` for longer). The
/// exit code is 0 if there was nothing to do, 11 if something was changed (with `--dry-run`: would be), and else as for every command.
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
    /// Errors of [`transfer::run`].
    pub async fn run(self, context: &Context) -> anyhow::Result<Ending> {
        let mut context = context.clone();
        context.settings.lock_timeout = context.settings.lock_timeout.max(LOCK_TIMEOUT);
        transfer::run(&context, &Request { report_changes: true, ..self.options.request(true)? }).await
    }
}
