//! How often and how long a request is retried: exponential backoff with jitter, bounded, reported to the watcher.
//! Which errors are retried at all: `error/transient.rs`.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::bugs::{self, Bug};
use crate::error::{Error, ErrorKind, waited};
use crate::net::wait_span::waiting;

/// How often and how patiently an operation is tried.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// Tries in all, the first included.
    pub attempts: u32,
    /// The pause after the first failure, doubled by each further one. The actual pause is between half of it and all of it, so
    /// that clients that failed together do not retry together.
    pub base: Duration,
    /// The longest pause without a `Retry-After`.
    pub max_pause: Duration,
    /// The longest `Retry-After` that is obeyed; if a registry asks for more, the error is returned with the wait in it.
    pub max_wait: Duration,
    /// No try begins after this much waiting without success: for replies that did not come or were failures, and between
    /// tries. Otherwise a server that accepts connections and never replies would cost a timeout for each try.
    pub give_up_after: Duration,
}

impl Default for RetryPolicy {
    /// Seven tries over about half a minute: a registry that restarts is back by then.
    fn default() -> Self {
        Self {
            attempts: 7,
            base: Duration::from_millis(500),
            max_pause: Duration::from_secs(15),
            max_wait: Duration::from_secs(120),
            give_up_after: Duration::from_secs(180),
        }
    }
}

/// Called before each retry, with the failure and the pause.
pub type RetryWatcher = Arc<dyn Fn(&Error, Duration) + Send + Sync>;

impl RetryPolicy {
    /// The pause after so many tries; `None` after the last one. `jitter` is between 0 and 1.
    pub(crate) fn pause(&self, attempt: u32, error: &Error, jitter: f64) -> Option<Duration> {
        if attempt >= self.attempts {
            return None;
        }
        let factor = 2_u32.saturating_pow(attempt.saturating_sub(1));
        let full = self.base.saturating_mul(factor).min(self.max_pause);
        let jittered = full.mul_f64(jitter.mul_add(0.5, 0.5));
        match error.retry_after().filter(|_| !bugs::is_in(Bug::Impatient)) {
            Some(wait) if wait > self.max_wait => None,
            // A little more than asked for: the registry's clock is not ours.
            Some(wait) => Some(wait.max(jittered) + jittered.mul_f64(0.1)),
            None => Some(jittered),
        }
    }
}

/// Random source for jitter.
#[derive(Debug, Default)]
pub(super) struct Jitter(Mutex<fastrand::Rng>);

impl Jitter {
    pub(super) fn from_seed(seed: u64) -> Self {
        Self(Mutex::new(fastrand::Rng::with_seed(seed)))
    }

    /// A number between 0 and 1.
    pub(super) fn draw(&self) -> f64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).f64()
    }
}

/// So many 429s use up one try: the registry works and is busy.
const THROTTLES: u32 = 3;

/// Counts the tries that failures use up.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tries {
    failures: u32,
    throttles: u32,
}

impl Tries {
    /// Counts `error`, and says how many tries are used up by now.
    pub(crate) fn count(&mut self, error: &Error) -> u32 {
        match error.kind() {
            ErrorKind::TooManyRequests { .. } => self.throttles += 1,
            _ => self.failures += 1,
        }
        self.failures + self.throttles.div_ceil(THROTTLES)
    }
}

/// Content that was wrong more often is wrong at its source, and each try may count as a pull.
const MISMATCHES: u32 = 2;

/// How long to retry a server that has never answered.
const UNREACHABLE_GIVE_UP: Duration = Duration::from_secs(2);

/// The pauses of [`retried_for`] together.
const RARELY_TRANSIENT: Duration = Duration::from_secs(5);

/// How long an error is retried, if that is less than for others. Quay and Artifactory answer 409 or 404 while another client
/// pushes the same, and a blob or manifest that was just accepted is found within a second: by then all of that has passed. Most
/// other conflicts and missing parts stay, and the user should not wait half a minute to read about them.
fn retried_for(error: &Error) -> Option<Duration> {
    let is_rarely_transient = matches!(
        error.kind(),
        ErrorKind::Refused { status: 409, .. } | ErrorKind::NotFound { .. } | ErrorKind::PartUnknown { .. }
    );
    is_rarely_transient.then_some(RARELY_TRANSIENT)
}

/// Tries `operation` until it succeeds, fails for good, has been tried often enough, or `give_up_after` is over.
pub(crate) async fn retry<T, F, Fut>(
    pause: impl Fn(u32, &Error) -> Option<Duration>,
    give_up_after: Duration,
    watcher: Option<&RetryWatcher>,
    is_transient: impl Fn(&Error) -> bool,
    mut operation: F,
) -> Result<T, Error>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, Error>>,
{
    let (mut tries, mut mismatches, mut unheard_since) = (Tries::default(), 0, None);
    let mut paused_in_doubt = Duration::ZERO;
    let mut so_far = Duration::ZERO;
    loop {
        let error = match operation().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        so_far += waited::waited(&error);
        mismatches += u32::from(error.kind().is_mismatch());
        let is_hopeless = mismatches > MISMATCHES || !is_transient(&error);
        let attempt = tries.count(&error);
        let pause = pause(attempt, &error).filter(|pause| !is_hopeless && so_far + *pause <= give_up_after);
        let Some(pause) = pause else {
            // A caller that retries the whole operation counts this time, too.
            return Err(waited::after(error, so_far));
        };
        let mut pause = pause;
        if let Some(most) = retried_for(&error) {
            // The last try is at the end of that time.
            pause = pause.min(most.saturating_sub(paused_in_doubt));
            if pause.is_zero() {
                return Err(waited::after(error, so_far));
            }
            paused_in_doubt += pause;
        }
        so_far += pause;
        if error.is_brief()
            && unheard_since.get_or_insert_with(Instant::now).elapsed() + pause > UNREACHABLE_GIVE_UP
        {
            return Err(error);
        }
        tracing::debug!(%error, ?pause, attempt, "trying again");
        if let Some(watcher) = watcher {
            watcher(&error, pause);
        }
        let _wait = waiting(error.registry(), &format!("to try again ({})", error.kind()), pause);
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(retry_after: Option<u64>) -> Error {
        let retry_after = retry_after.map(Duration::from_secs);
        Error::new("r", "r", ErrorKind::TooManyRequests { retry_after, message: String::new() })
    }

    #[test]
    fn pauses_grow_up_to_a_limit() {
        let policy = RetryPolicy { attempts: 3, ..RetryPolicy::default() };
        let first = policy.pause(1, &error(None), 0.5).unwrap();
        let second = policy.pause(2, &error(None), 0.5).unwrap();
        assert!((250..=500).contains(&first.as_millis()), "{first:?}");
        assert!((500..=1000).contains(&second.as_millis()), "{second:?}");
        assert_eq!(policy.pause(3, &error(None), 0.5), None);
    }

    #[test]
    fn retry_after_is_respected_up_to_a_limit() {
        let policy = RetryPolicy::default();
        assert!(policy.pause(1, &error(Some(9)), 0.0).unwrap() >= Duration::from_secs(9));
        assert_eq!(policy.pause(1, &error(Some(3_600)), 0.0), None);
    }

    #[test]
    fn a_429_counts_less_than_a_failure() {
        let lost = Error::new("r", "r", ErrorKind::UploadLost { message: String::new() });
        let mut tries = Tries::default();
        assert_eq!([0; 7].map(|_| tries.count(&error(None))), [1, 1, 1, 2, 2, 2, 3]);
        assert_eq!([0; 3].map(|_| tries.count(&lost)), [4, 5, 6]);
    }
}
