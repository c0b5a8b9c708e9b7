//! The progress of a run, for the message if it is interrupted.

use std::sync::Mutex;
use std::sync::PoisonError;

use failure::{Kind, cause_of, ending};
use registry::mirror::Event;
use terraform::TerraformError;

use super::Plan;
use super::report_page::Draft;
use super::runtimes::is_up_to_date;
use super::spans::{Spans, Work};
use crate::ui::units;

/// The finished part of the plan, and its details.
#[derive(Debug, Default)]
pub struct Completed {
    counts: Mutex<Option<Counts>>,
    /// When each part started and ended.
    pub(super) spans: Spans,
    /// The content of the report page so far.
    pub(super) draft: Draft,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    images: (usize, usize),
    runtimes: (usize, usize),
}

impl Completed {
    /// The plan is about to be applied.
    pub(super) fn begin(&self, plan: &Plan<'_>) {
        let images = plan.images.images.iter().filter(|planned| planned.has_work()).count();
        let runtimes = plan.planned_runtimes().filter(|planned| !is_up_to_date(planned)).count();
        self.change(|counts| *counts = Some(Counts { images: (0, images), runtimes: (0, runtimes) }));
    }

    /// Whether applying the plan has started.
    pub(super) fn has_begun(&self) -> bool {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Handles an event of an image. Most events are pieces of a blob in transfer; these cost nothing here.
    pub(super) fn on_event(&self, event: &Event) {
        match event {
            Event::ImageStarted { image, .. } => self.spans.begin(Work::Image(*image)),
            Event::ImageDone { image, .. } => {
                self.spans.end(Work::Image(*image));
                self.image_done();
            }
            Event::ImageFailed { image, error } => {
                self.spans.end(Work::Image(*image));
                self.draft.failed(*image, error);
            }
            _ => {}
        }
    }

    fn image_done(&self) {
        self.change(|counts| counts.iter_mut().for_each(|counts| counts.images.0 += 1));
    }

    /// A runtime is in place under its tags.
    pub(super) fn runtime_done(&self, name: &str) {
        self.spans.end(Work::Runtime(name.to_owned()));
        self.change(|counts| counts.iter_mut().for_each(|counts| counts.runtimes.0 += 1));
    }

    fn change(&self, change: impl FnOnce(&mut Option<Counts>)) {
        change(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The error of an interrupted run that stopped with `error`. A killed terraform may have left a lock, and its error says so.
    /// Any other error was caused by the interruption.
    pub(super) fn ending(&self, error: anyhow::Error) -> anyhow::Error {
        let is_killed = matches!(cause_of(&error), Some(TerraformError::Killed { .. }));
        if is_killed { error } else { self.interrupted() }
    }

    fn interrupted(&self) -> anyhow::Error {
        let counts = *self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let done = match counts {
            None => "nothing was changed".to_owned(),
            Some(Counts { images, runtimes }) => {
                let parts = [(images, "image"), (runtimes, "runtime")].into_iter();
                let parts = parts.filter(|((_, all), _)| *all > 0);
                let parts: Vec<String> = parts
                    .map(|((done, all), noun)| format!("{done} of {}", units::count(all, noun)))
                    .collect();
                let done =
                    if parts.is_empty() { String::new() } else { format!("{} done; ", parts.join(" and ")) };
                format!("{done}the same command continues from there")
            }
        };
        ending(Kind::Interrupted, Some(done), anyhow::anyhow!("interrupted"))
    }
}

#[cfg(test)]
mod tests {
    use failure::render;

    use super::*;

    #[test]
    fn an_interrupted_run_reports_what_is_done_and_that_the_next_one_continues() {
        let completed = Completed::default();
        assert_eq!(render(&completed.interrupted()), "error: interrupted\nhint: nothing was changed");
        completed.change(|counts| *counts = Some(Counts { images: (0, 13), runtimes: (0, 1) }));
        completed.image_done();
        completed.image_done();
        assert_eq!(
            render(&completed.interrupted()),
            "error: interrupted\nhint: 2 of 13 images and 0 of 1 runtime done; the same command continues from there"
        );
    }

    #[test]
    fn only_a_killed_terraforms_error_is_shown() {
        // As `grid` returns them: each with its hint.
        let told = |error: TerraformError| {
            let hint = error.hint();
            assert!(hint.is_some());
            ending(Kind::Interrupted, hint, error).context("terraform plan")
        };
        let completed = Completed::default();
        let killed = completed.ending(told(TerraformError::Killed { diagnostics: Vec::new() }));
        assert!(render(&killed).contains("terraform was killed before it finished"), "{killed:?}");
        for error in [told(TerraformError::Interrupted), anyhow::anyhow!("connection reset")] {
            assert_eq!(render(&completed.ending(error)), "error: interrupted\nhint: nothing was changed");
        }
    }
}
