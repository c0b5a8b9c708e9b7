//! How long a client waits for a server.

use std::time::Duration;

/// How long servers are waited for.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// Until a connection is made.
    pub connect: Duration,
    /// Until a reply begins.
    pub reply: Duration,
    /// While a blob is transferred: in this time at least [`Timeouts::MIN_BYTES`] must move.
    pub idle: Duration,
    /// Until a source answers, if the run can do without it.
    pub news: Duration,
}

impl Timeouts {
    /// What must move in the `idle` time, so that a server that sends a byte now and then does not hold a transfer forever.
    pub const MIN_BYTES: u64 = 1024;
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            // ECR takes its time to commit a layer of gigabytes.
            reply: Duration::from_secs(120),
            idle: Duration::from_secs(30),
            news: Duration::from_secs(5),
        }
    }
}
