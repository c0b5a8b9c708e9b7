//! How long a client waits for a server.

use std::time::Duration;

/// How long nothing may happen.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// Until a connection stands.
    pub connect: Duration,
    /// Until a reply begins.
    pub reply: Duration,
    /// While a blob is transferred: in this time at least [`Timeouts::MIN_BYTES`] must move.
    pub idle: Duration,
    /// Until a source that can be done without has answered: it is asked for news only.
    pub news: Duration,
}

impl Timeouts {
    /// What must move in the `idle` time, so that a server that sends a byte now and then is not waited for forever.
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
