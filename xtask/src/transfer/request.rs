//! The options of a transfer.

use std::path::PathBuf;

use aws::shard::Shard;

/// The options of a transfer.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Show the plan and stop.
    pub dry_run: bool,
    /// Do not ask for confirmation.
    pub auto_approve: bool,
    /// Rebuild every runtime.
    pub rebuild_runtimes: bool,
    /// Refuse if upstream has another digest than images.lock.
    pub locked: bool,
    /// Continue with the other images if one fails.
    pub keep_going: bool,
    /// Only these images and runtimes.
    pub only: Vec<String>,
    /// Images and runtimes to use even if `min_age` says to wait.
    pub allow_fresh: Vec<String>,
    /// Only this shard.
    pub shard: Option<Shard>,
    /// Start terraform even if it is known to have nothing to do.
    pub refresh: bool,
    /// Pull primed images into the local container engine, even if it is not needed otherwise.
    pub prime: bool,
    /// The file for a page about the run.
    pub report: Option<PathBuf>,
    /// Whether the exit code shows that something was changed, or would be by a dry run.
    pub report_changes: bool,
    /// No report on stdout: the caller prints its own.
    pub quiet: bool,
}
