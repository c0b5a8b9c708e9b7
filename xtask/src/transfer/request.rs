//! What a transfer is asked for.

use std::path::PathBuf;

use aws::shard::Shard;

/// What was asked for.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Show the plan and stop.
    pub dry_run: bool,
    /// Do not ask.
    pub auto_approve: bool,
    /// Build every runtime anew.
    pub rebuild_runtimes: bool,
    /// Refuse where upstream says something else than images.lock.
    pub locked: bool,
    /// Continue with the other images if one fails.
    pub keep_going: bool,
    /// Only these images and runtimes.
    pub only: Vec<String>,
    /// Images and runtimes that are taken whatever `min_age` says.
    pub allow_fresh: Vec<String>,
    /// Only this share.
    pub shard: Option<Shard>,
    /// Start terraform even if it is known to have nothing to do.
    pub refresh: bool,
    /// Pull what is primed into the local container engine, whether or not it is needed for anything else.
    pub prime: bool,
    /// Where a page about the run is written.
    pub report: Option<PathBuf>,
    /// Whether the exit code says that something was changed, or by a dry run would be.
    pub report_changes: bool,
    /// No report on stdout: the caller has its own.
    pub quiet: bool,
}
