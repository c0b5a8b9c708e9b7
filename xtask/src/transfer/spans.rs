//! The start and end of each copy and build in a run.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use report::Span;

/// A part of the run that takes time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Work {
    /// Terraform.
    Resources,
    /// A copy, by the image's position in the plan.
    Image(usize),
    /// A runtime, by its name.
    Runtime(String),
}

/// Start and end of each part, relative to the start of the run.
#[derive(Debug)]
pub struct Spans {
    began: Instant,
    spans: Mutex<BTreeMap<Work, Span>>,
}

impl Default for Spans {
    fn default() -> Self {
        Self { began: Instant::now(), spans: Mutex::default() }
    }
}

impl Spans {
    /// The time since the start of the run.
    pub(super) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Records the start, unless it is recorded already.
    pub(super) fn begin(&self, work: Work) {
        let begin = self.began.elapsed();
        self.change(|spans| {
            spans.entry(work).or_insert(Span { begin, end: None });
        });
    }

    /// Records the end.
    pub(super) fn end(&self, work: Work) {
        let end = self.began.elapsed();
        self.change(|spans| {
            if let Some(span) = spans.get_mut(&work) {
                span.end = Some(end);
            }
        });
    }

    /// Records start and end.
    pub(super) fn record(&self, work: Work, began: Instant, ended: Instant) {
        let since = |moment: Instant| moment.saturating_duration_since(self.began);
        let span = Span { begin: since(began), end: Some(since(ended)) };
        self.change(|spans| {
            spans.insert(work, span);
        });
    }

    /// The start and end, if recorded.
    pub(super) fn of(&self, work: &Work) -> Option<Span> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).get(work).copied()
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<Work, Span>)) {
        change(&mut self.spans.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_start_counts_and_a_span_without_a_start_has_no_end() {
        let spans = Spans::default();
        spans.end(Work::Image(1));
        assert_eq!(spans.of(&Work::Image(1)), None);
        spans.begin(Work::Image(1));
        let first = spans.of(&Work::Image(1)).unwrap();
        assert_eq!(first.end, None);
        spans.begin(Work::Image(1));
        spans.end(Work::Image(1));
        let ended = spans.of(&Work::Image(1)).unwrap();
        assert_eq!(ended.begin, first.begin);
        assert!(ended.end.unwrap() >= ended.begin);
        let long_ago = spans.began.checked_sub(Duration::from_secs(1)).unwrap();
        spans.record(Work::Resources, long_ago, spans.began + Duration::from_secs(3));
        let span = Span { begin: Duration::ZERO, end: Some(Duration::from_secs(3)) };
        assert_eq!(spans.of(&Work::Resources), Some(span));
    }
}
