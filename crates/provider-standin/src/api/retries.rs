//! Which calls are retried, and when.

use std::time::Duration;

/// How calls with transient errors are retried: like the real provider's SDK, which makes 25 attempts
/// (<https://registry.terraform.io/providers/hashicorp/aws/latest/docs#max_retries-1>), but with pauses for a server on this machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retries {
    pub(crate) attempts: u32,
    first_pause: Duration,
    longest_pause: Duration,
}

impl Retries {
    pub(crate) const REAL: Self =
        Self { attempts: 25, first_pause: Duration::from_millis(50), longest_pause: Duration::from_secs(1) };

    /// The pause after `failed` attempts: a random part of a doubling time.
    pub(crate) fn pause(self, failed: u32) -> Duration {
        let doubled = self.first_pause.saturating_mul(1 << failed.saturating_sub(1).min(16));
        doubled.min(self.longest_pause).mul_f64(fastrand::f64())
    }
}

/// Whether the same call may succeed later (<https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html>).
pub(crate) fn is_transient(status: u16, code: &str) -> bool {
    let throttled = matches!(
        code,
        "Throttling"
            | "ThrottlingException"
            | "ThrottledException"
            | "RequestThrottled"
            | "RequestThrottledException"
            | "RequestLimitExceeded"
            | "TooManyRequestsException"
            | "PriorRequestNotComplete"
            | "SlowDown"
    );
    throttled || matches!(status, 429 | 500 | 502 | 503 | 504)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_limit() {
        let longest = |failed| (0..200).map(|_| Retries::REAL.pause(failed)).max().unwrap();
        assert!(longest(1) <= Duration::from_millis(50) && longest(3) > Duration::from_millis(100));
        assert!(longest(25) <= Duration::from_secs(1));
    }
}
