//! The state of the progress display: the current tasks, their totals, and the waits.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// The period over which a rate is measured.
const WINDOW: Duration = Duration::from_secs(15);
/// The shortest period for a useful rate.
const SHORTEST: Duration = Duration::from_millis(900);

/// The state of the display.
#[derive(Debug, Default)]
pub(super) struct State {
    next: u64,
    pub(super) tasks: BTreeMap<u64, Task>,
    pub(super) total: Option<Total>,
    /// A second count, of items without a known size.
    pub(super) count: Option<Count>,
    pub(super) waits: BTreeMap<u64, Wait>,
    /// The running command, and when it started.
    pub(super) command: Option<(String, Instant)>,
}

/// A current task.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) name: String,
    /// Its latest news.
    pub(super) news: String,
    /// Finished bytes and all bytes.
    pub(super) bytes: Option<(u64, u64)>,
    pub(super) since: Instant,
}

/// A count of finished items.
#[derive(Debug)]
pub(super) struct Count {
    /// The noun for the items, such as `runtime`.
    pub(super) noun: &'static str,
    pub(super) done: usize,
    pub(super) all: usize,
}

/// A total with bytes.
#[derive(Debug)]
pub(super) struct Total {
    /// The noun for the items, such as `image`.
    pub(super) noun: &'static str,
    pub(super) done: usize,
    pub(super) all: usize,
    pub(super) bytes: u64,
    pub(super) all_bytes: u64,
    moved: u64,
    /// Sent bytes at several times in this run, oldest first.
    samples: VecDeque<(Instant, u64)>,
}

/// A wait for a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// The server or other party to wait for.
    pub on: String,
    /// The expected response.
    pub what: String,
    /// When it started.
    pub since: Instant,
    /// When it will be given up. `None` if never.
    pub until: Option<Instant>,
}

impl State {
    /// Whether there is nothing to show.
    pub(super) fn is_idle(&self) -> bool {
        self.tasks.is_empty()
            && self.total.is_none()
            && self.count.is_none()
            && self.waits.is_empty()
            && self.command.is_none()
    }

    /// Adds a task and returns its number.
    pub(super) fn begin(&mut self, name: String, bytes: Option<u64>, now: Instant) -> u64 {
        self.next += 1;
        let bytes = bytes.map(|all| (0, all));
        self.tasks.insert(self.next, Task { name, news: String::new(), bytes, since: now });
        self.next
    }

    /// Counts bytes of a task. With `moved` they were sent in this run, otherwise they existed already.
    pub(super) fn advance(&mut self, task: u64, count: u64, moved: bool, now: Instant) {
        if let Some(Task { bytes: Some((done, all)), .. }) = self.tasks.get_mut(&task) {
            *done = done.saturating_add(count).min(*all);
        }
        if let Some(total) = &mut self.total {
            total.advance(count, moved, now);
        }
    }
}

impl Total {
    pub(super) fn new(noun: &'static str, all: usize, all_bytes: u64, now: Instant) -> Self {
        let samples = VecDeque::from([(now, 0)]);
        Self { noun, done: 0, all, bytes: 0, all_bytes, moved: 0, samples }
    }

    fn advance(&mut self, count: u64, moved: bool, now: Instant) {
        self.bytes = self.bytes.saturating_add(count).min(self.all_bytes);
        if !moved {
            return;
        }
        self.moved = self.moved.saturating_add(count);
        // Ten samples per second are enough. The first one is the start of the measurement.
        let newest = self.samples.len() > 1
            && self.samples.back().is_some_and(|(at, _)| now.duration_since(*at) < WINDOW / 150);
        if let Some(last) = self.samples.back_mut().filter(|_| newest) {
            last.1 = self.moved;
        } else {
            self.samples.push_back((now, self.moved));
        }
    }

    /// Bytes per second sent recently. `None` if it is too early to tell.
    pub(super) fn rate(&mut self, now: Instant) -> Option<u64> {
        while self.samples.get(1).is_some_and(|(at, _)| now.duration_since(*at) > WINDOW) {
            self.samples.pop_front();
        }
        let (since, before) = *self.samples.front()?;
        let span = now.duration_since(since);
        if span < SHORTEST {
            return None;
        }
        let moved = u128::from(self.moved - before) * 1_000 / span.as_millis().max(1);
        u64::try_from(moved).ok()
    }

    /// The estimated time for the rest at this rate.
    pub(super) fn left(&self, rate: Option<u64>) -> Option<Duration> {
        let rate = rate.filter(|rate| *rate > 0)?;
        Some(Duration::from_secs((self.all_bytes - self.bytes).div_ceil(rate)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_only_counts_this_runs_bytes() {
        let start = Instant::now();
        let mut state = State { total: Some(Total::new("image", 2, 1_000_000, start)), ..State::default() };
        let task = state.begin("a".into(), Some(600_000), start);
        // An earlier run had sent half of it.
        state.advance(task, 500_000, false, start);
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(state.total.as_mut().unwrap().rate(start), None);
        state.advance(task, 10_000, true, after(1));
        state.advance(task, 10_000, true, after(2));
        let total = state.total.as_mut().unwrap();
        assert_eq!(total.rate(after(2)), Some(10_000));
        assert_eq!(total.left(Some(10_000)), Some(Duration::from_secs(48)));
        assert_eq!(total.rate(after(60)), Some(0), "nothing moves any more");
        assert_eq!(total.left(Some(0)), None);
        assert_eq!(state.tasks[&task].bytes, Some((520_000, 600_000)));
    }

    #[test]
    fn progress_never_exceeds_the_total() {
        let now = Instant::now();
        let mut state = State { total: Some(Total::new("image", 1, 10, now)), ..State::default() };
        let task = state.begin("a".into(), Some(10), now);
        state.advance(task, 25, true, now);
        assert_eq!(state.tasks[&task].bytes, Some((10, 10)));
        assert_eq!(state.total.as_ref().unwrap().bytes, 10);
    }
}
