//! How fast requests are sent: without a limit until a 429, then by additive increase and multiplicative decrease, separately
//! for each action at each registry. Published quotas are limits from the start.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use url::Url;

use crate::auth::mirror;
use crate::bugs::{self, Bug};
use crate::error::{Error, ErrorKind, waited};
use crate::net::wait_span::waiting;
use crate::profile::{Profiles, Quotas};
use crate::reference::Reference;

/// What a registry counts separately.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    ManifestRead,
    ManifestPut,
    BlobHead,
    BlobGet,
    UploadStart,
    UploadFinish,
    List,
}

/// The part of a quota that is used: other clients of the account share it, and the registry's seconds do not begin with ours.
const QUOTA_SHARE: f64 = 0.9;

/// The lowest rate after 429s, in requests a second. `Retry-After` and the pauses between retries may slow us down further.
const MIN_RATE: f64 = 2.0;

/// Without a published quota, the limit is removed after so long without a 429.
const FORGET_AFTER: Duration = Duration::from_secs(30);

/// 429s within this time are one event: their requests were sent together.
const SAME_EVENT: Duration = Duration::from_millis(250);

impl Action {
    /// Requests a second.
    fn ceiling(self, quotas: Quotas) -> Option<f64> {
        let quota = match self {
            Self::ManifestRead => quotas.manifest_reads,
            Self::ManifestPut => quotas.manifest_puts,
            Self::BlobHead => quotas.blob_looks,
            Self::BlobGet => quotas.blob_reads,
            Self::UploadStart => quotas.upload_starts,
            Self::UploadFinish => quotas.upload_ends,
            Self::List => None,
        };
        Some(f64::from(quota?) * QUOTA_SHARE)
    }
}

/// The pace of every action at every registry.
pub(crate) struct Pacer {
    profiles: Arc<Profiles>,
    /// How long a request waits because others were refused.
    give_up_after: Duration,
    limiters: Mutex<HashMap<String, HashMap<Action, Limiter>>>,
}

/// A request is not sent: the registry has refused all others for too long.
#[derive(Debug)]
pub(crate) struct GivenUp {
    /// How long it waited because of them.
    pub(crate) in_vain: Duration,
    /// The `Retry-After` of the last refusal.
    pub(crate) retry_after: Option<Duration>,
}

impl GivenUp {
    pub(crate) fn into_error(self, subject: &Reference, origin: &Url) -> Error {
        let kind = ErrorKind::TooManyRequests { retry_after: self.retry_after, message: String::new() };
        let server = mirror(origin, subject.registry());
        waited::after(Error::answered(subject.registry(), subject, server, kind), self.in_vain)
    }
}

#[derive(Debug)]
struct Limiter {
    ceiling: Option<f64>,
    /// Requests a second; `None`: no limit.
    rate: Option<f64>,
    /// When the next request may go.
    next: Instant,
    /// For the rate that led to a 429: requests since `counted_from`.
    count: u32,
    counted_from: Instant,
    last_cut: Option<Instant>,
    /// The end of the last `Retry-After`.
    quiet_until: Option<Instant>,
    /// The last `Retry-After`.
    asked_for: Option<Duration>,
    /// Requests that were answered.
    answered: u64,
}

impl Pacer {
    pub(crate) fn new(profiles: Arc<Profiles>, give_up_after: Duration) -> Self {
        Self { profiles, give_up_after, limiters: Mutex::default() }
    }

    /// Waits until this request may be sent, and returns how much of that was because others were refused.
    pub(crate) async fn wait(&self, registry: &str, action: Action) -> Result<Duration, GivenUp> {
        let (mut in_vain, mut answered_before) = (Duration::ZERO, None);
        loop {
            let began = Instant::now();
            let (at, quiet, answered) = self.with_limiter(registry, action, |limiter| {
                let quiet = limiter.asked_for.filter(|_| limiter.is_quiet(began));
                (limiter.book(began), quiet, limiter.answered)
            });
            if at <= Instant::now() || bugs::is_in(Bug::NoQuota) {
                return Ok(in_vain);
            }
            // The registry answers others: this one's turn will come.
            if answered_before.replace(answered) != Some(answered) {
                in_vain = Duration::ZERO;
            }
            if quiet.is_some() && in_vain > self.give_up_after {
                return Err(GivenUp { in_vain, retry_after: quiet });
            }
            let _wait = waiting(registry, "its turn", at.saturating_duration_since(Instant::now()));
            tokio::time::sleep_until(at).await;
            in_vain += if quiet.is_some() { began.elapsed() } else { Duration::ZERO };
            // A 429 that came meanwhile has cancelled the slot: wait for another one.
            if !self.with_limiter(registry, action, |limiter| limiter.is_quiet(Instant::now())) {
                return Ok(in_vain);
            }
        }
    }

    /// A 429 came.
    pub(crate) fn slow_down(&self, registry: &str, action: Action, retry_after: Option<Duration>) {
        let retry_after = retry_after.filter(|_| !bugs::is_in(Bug::Impatient));
        self.with_limiter(registry, action, |limiter| limiter.cut(Instant::now(), retry_after));
    }

    /// Another reply came.
    pub(crate) fn went_well(&self, registry: &str, action: Action) {
        self.with_limiter(registry, action, |limiter| limiter.grow(Instant::now()));
    }

    fn with_limiter<T>(&self, registry: &str, action: Action, f: impl FnOnce(&mut Limiter) -> T) -> T {
        let mut limiters = self.limiters.lock().unwrap_or_else(PoisonError::into_inner);
        // `entry` would need an owned name for each request.
        let actions = match limiters.get_mut(registry) {
            Some(actions) => actions,
            None => limiters.entry(registry.to_owned()).or_default(),
        };
        let limiter = actions.entry(action).or_insert_with(|| {
            let ceiling = action.ceiling(self.profiles.of(registry).quotas);
            Limiter::new(ceiling, Instant::now())
        });
        f(limiter)
    }
}

impl Limiter {
    fn new(ceiling: Option<f64>, now: Instant) -> Self {
        Self {
            ceiling,
            rate: ceiling,
            next: now,
            count: 0,
            counted_from: now,
            last_cut: None,
            quiet_until: None,
            answered: 0,
            asked_for: None,
        }
    }

    /// The time of the next free slot. Slots are evenly spaced: a burst at the end of one second and the next one's would fall
    /// into the same second of the registry's clock.
    fn book(&mut self, now: Instant) -> Instant {
        if now.duration_since(self.counted_from) > Duration::from_secs(2) {
            (self.count, self.counted_from) = (0, now);
        }
        self.count += 1;
        let at = self.next.max(now);
        self.next = match self.rate {
            Some(rate) => at + Duration::from_secs_f64(1.0 / rate),
            None => self.next,
        };
        at
    }

    fn is_quiet(&self, now: Instant) -> bool {
        self.quiet_until.is_some_and(|until| now < until)
    }

    fn cut(&mut self, now: Instant, retry_after: Option<Duration>) {
        if let Some(wait) = retry_after.filter(|wait| *wait < Duration::from_secs(120)) {
            self.next = self.next.max(now + wait);
            self.quiet_until = self.quiet_until.max(Some(now + wait));
            self.asked_for = Some(wait);
        }
        if self.last_cut.is_some_and(|last| now.duration_since(last) < SAME_EVENT) {
            return;
        }
        self.last_cut = Some(now);
        let seconds = now.duration_since(self.counted_from).as_secs_f64().max(0.1);
        let observed = f64::from(self.count) / seconds;
        let rate = self.rate.unwrap_or(observed).min(observed.max(MIN_RATE)) / 2.0;
        self.rate = Some(rate.max(MIN_RATE));
    }

    fn grow(&mut self, now: Instant) {
        self.answered += 1;
        let (Some(cut), Some(rate)) = (self.last_cut, self.rate) else { return };
        if now.duration_since(cut) > FORGET_AFTER {
            (self.rate, self.last_cut) = (self.ceiling, None);
            return;
        }
        let grown = rate + (rate * 0.05).max(0.2);
        self.rate = Some(self.ceiling.map_or(grown, |ceiling| grown.min(ceiling)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Profile;

    const TEN_PUTS: Quotas = Quotas {
        manifest_reads: None,
        manifest_puts: Some(10),
        blob_looks: None,
        blob_reads: None,
        upload_starts: None,
        upload_ends: None,
    };

    #[test]
    fn quotas_are_kept_in_every_second() {
        let start = Instant::now();
        let mut limiter = Limiter::new(Action::ManifestPut.ceiling(TEN_PUTS), start);
        let times: Vec<Instant> = (0..60).map(|_| limiter.book(start)).collect();
        for first in &times {
            let within = times.iter().filter(|at| **at >= *first && **at < *first + Duration::from_secs(1));
            assert!(within.count() <= 10);
        }
    }

    #[test]
    fn a_429_halves_the_rate_once_and_success_restores_it() {
        let start = Instant::now();
        let mut limiter = Limiter::new(Some(9.0), start);
        for _ in 0..20 {
            limiter.book(start);
        }
        let later = start + Duration::from_secs(1);
        limiter.cut(later, None);
        limiter.cut(later + Duration::from_millis(10), None);
        assert_eq!(limiter.rate, Some(4.5));
        for _ in 0..100 {
            limiter.grow(later);
        }
        assert_eq!(limiter.rate, Some(9.0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_registry_that_answers_other_requests_is_still_tried() {
        for answers in [true, false] {
            let pacer = Pacer::new(Arc::default(), Duration::from_secs(5));
            let refuse = async {
                for _ in 0..20 {
                    pacer.slow_down("r", Action::ManifestRead, Some(Duration::from_secs(1)));
                    if answers {
                        pacer.went_well("r", Action::ManifestRead);
                    }
                    tokio::time::sleep(Duration::from_millis(900)).await;
                }
            };
            let ((), waited) = tokio::join!(refuse, pacer.wait("r", Action::ManifestRead));
            assert_eq!(waited.is_ok(), answers, "{waited:?}");
        }
    }

    #[tokio::test]
    async fn a_request_waiting_for_a_slot_respects_a_429_that_came_meanwhile() {
        let profiles = Profiles::new(|_| Some(Profile { quotas: TEN_PUTS, ..Profile::default() }));
        let pacer = Pacer::new(Arc::new(profiles), Duration::MAX);
        let began = Instant::now();
        pacer.wait("r", Action::ManifestPut).await.unwrap();
        let waiting = futures_util::future::join_all((0..3).map(|_| async {
            pacer.wait("r", Action::ManifestPut).await.unwrap();
            began.elapsed()
        }));
        let refusal = async { pacer.slow_down("r", Action::ManifestPut, Some(Duration::from_millis(700))) };
        let (times, ()) = tokio::join!(waiting, refusal);
        assert!(times.iter().all(|time| *time >= Duration::from_millis(700)), "{times:?}");
    }

    #[test]
    fn without_a_quota_only_a_429_makes_requests_wait() {
        let start = Instant::now();
        let mut limiter = Limiter::new(None, start);
        assert!((0..1_000).all(|_| limiter.book(start) == start));
        limiter.cut(start, Some(Duration::from_secs(3)));
        assert_eq!(limiter.book(start), start + Duration::from_secs(3));
        assert!(limiter.rate.is_some());
        limiter.grow(start + FORGET_AFTER + SAME_EVENT);
        assert_eq!(limiter.rate, None, "an old 429 is forgotten");
    }
}
