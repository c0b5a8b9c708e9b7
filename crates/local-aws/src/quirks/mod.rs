//! Surprising behaviour of the real services, enabled by name.

mod answers;
mod delays;
mod names;
mod throttles;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

pub(crate) use delays::Delay;
pub use names::{Quirk, QuirkError};

use answers::Answers;
use delays::Delays;
use throttles::Throttles;

/// The enabled quirks and their counters.
pub(crate) struct Quirks {
    shared: Arc<Shared>,
    pub(crate) answers: Answers,
    pub(crate) delays: Delays,
    pub(crate) throttles: Throttles,
}

/// One lock for the quirks and their counters: a request sees either all old or all new ones.
struct Shared {
    state: Mutex<State>,
    /// Counts how often the quirks were set.
    sets: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    on: Vec<Quirk>,
    generator: fastrand::Rng,
    puts: Vec<Instant>,
    token_uses: HashMap<u64, u64>,
    /// For how many requests each thing is still invisible.
    late: HashMap<(Delay, String), u32>,
    conflicts: u32,
    dropped: u64,
    /// Counts the requests whose answer may be delayed.
    matched: u64,
    /// The requests whose answers are delayed.
    held: Vec<String>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn find<T>(&self, pick: impl Fn(&Quirk) -> Option<T>) -> Option<T> {
        self.on.iter().find_map(pick)
    }
}

impl Quirks {
    pub(crate) fn new(on: Vec<Quirk>) -> Self {
        let shared = Arc::new(Shared { state: Mutex::default(), sets: watch::Sender::new(0) });
        let quirks = Self {
            answers: Answers::new(&shared),
            delays: Delays::new(&shared),
            throttles: Throttles::new(&shared),
            shared,
        };
        quirks.set(on);
        quirks
    }

    /// Replaces the quirks and resets all counters.
    pub(crate) fn set(&self, on: Vec<Quirk>) {
        let mut state = self.shared.lock();
        *state = State { on, ..State::default() };
        let seed = state.find(|quirk| match quirk {
            Quirk::ThrottleRandom { seed, .. } => Some(*seed),
            _ => None,
        });
        state.generator = fastrand::Rng::with_seed(seed.unwrap_or(0));
        let conflicts = state.find(|quirk| match quirk {
            Quirk::Conflict(requests) => Some(*requests),
            _ => None,
        });
        state.conflicts = conflicts.unwrap_or(0);
        let ahead = state.find(|quirk| match quirk {
            Quirk::Clock(seconds) => Some(*seconds),
            _ => None,
        });
        crate::time::set_ahead(ahead.unwrap_or(0));
        drop(state);
        self.shared.sets.send_modify(|sets| *sets += 1);
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.shared.lock().on.iter().map(ToString::to_string).collect()
    }

    /// Whether a quirk without a value is enabled.
    pub(crate) fn is_on(&self, quirk: &Quirk) -> bool {
        self.shared.lock().on.contains(quirk)
    }

    pub(crate) fn denies(&self, action: &str) -> bool {
        let denied =
            |quirk: &Quirk| matches!(quirk, Quirk::Deny(denied) if denied.eq_ignore_ascii_case(action));
        self.shared.lock().on.iter().any(denied)
    }

    /// How long after its upload a manifest may not refer to a layer.
    pub(crate) fn blob_lag(&self) -> Option<Duration> {
        self.shared.lock().find(|quirk| match quirk {
            Quirk::BlobUnknownLag(lag) => Some(*lag),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_decides_what_is_throttled() {
        let draw = || {
            let quirks = Quirks::new(vec![Quirk::ThrottleRandom { seed: 42, permille: 300 }]);
            (0..200).map(|_| quirks.throttles.at_random()).collect::<Vec<_>>()
        };
        let refused = draw().iter().filter(|refused| **refused).count();
        assert!((30..=90).contains(&refused), "{refused} of 200 refused at 300 permille");
        assert_eq!(draw(), draw());
    }

    #[test]
    fn the_eleventh_put_of_a_second_is_throttled() {
        let quirks = Quirks::new(vec![Quirk::ThrottlePutImage(10)]);
        let refused = (0..11).filter(|_| quirks.throttles.put_image()).count();
        assert_eq!(refused, 1);
    }

    #[test]
    fn a_new_repository_is_hidden_as_often_as_configured() {
        let quirks = Quirks::new(vec![Quirk::EventualConsistency(2)]);
        quirks.delays.begin(Delay::Repository, "a");
        let seen: Vec<_> = (0..4).map(|_| quirks.delays.left(Delay::Repository, "a").is_some()).collect();
        assert_eq!(seen, [true, true, false, false]);
        assert!(quirks.delays.left(Delay::Repository, "b").is_none());
    }
}
