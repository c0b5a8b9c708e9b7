//! Estimates the duration of a plan from the last runs on this machine, and measures this run for later ones.

use std::path::PathBuf;
use std::time::Instant;

use images_config::timings::{Changes, Copies, Estimate, Measured, Timings, Work};
use registry::mirror;
use runtimes::{Action, Outcome};

use super::Plan;

/// The durations of earlier runs, and the measurements of this one.
pub struct Times {
    timings: Timings,
    target: String,
    at_once: usize,
}

impl Times {
    /// The durations for `target` (a host), with this many builds in parallel.
    pub(super) fn new(file: PathBuf, target: &str, at_once: usize) -> Self {
        Self { timings: Timings::open(file), target: target.to_owned(), at_once }
    }

    /// The estimate for a plan. `None` without suitable earlier runs.
    pub(super) fn of(&self, plan: &Plan<'_>) -> Option<Estimate> {
        let copies = plan.images.images.iter().filter(|planned| planned.has_work());
        let builds = plan.planned_runtimes().filter(|planned| matches!(planned.action, Action::Build { .. }));
        let work = Work {
            images: number(copies.count()),
            bytes: plan.images.repository_bytes(),
            builds: builds.map(|planned| planned.name.as_str()).collect(),
            at_once: number(self.at_once),
            changes: plan.resources.as_ref().map_or(0, |resources| number(resources.changes().len())),
        };
        self.timings.estimate(&self.target, &work)
    }

    /// Records terraform's number of changes since `began`.
    pub(super) fn changed(&self, count: usize, began: Instant) {
        let changes = Changes { count: number(count), seconds: began.elapsed().as_secs_f64() };
        let terraform = Some(changes).filter(|changes| changes.count > 0);
        self.timings.add(Measured { terraform, ..self.empty() });
    }

    /// Records copies since `began`. Skipped after a failure, because the time was then not only for copies.
    pub(super) fn copied(&self, outcomes: &[mirror::Outcome], began: Instant) {
        let seconds = began.elapsed().as_secs_f64();
        let done: Option<Vec<_>> = outcomes.iter().map(|outcome| outcome.result.as_ref().ok()).collect();
        let Some(done) = done else { return };
        let copied: Vec<u64> =
            done.iter().filter(|copied| !copied.was_up_to_date).map(|copied| copied.bytes).collect();
        if copied.is_empty() {
            return;
        }
        let copies = Copies { images: number(copied.len()), bytes: copied.iter().sum(), seconds };
        self.timings.add(Measured { copies: Some(copies), ..self.empty() });
    }

    /// Records the built runtimes.
    pub(super) fn built(&self, outcomes: &[Outcome]) {
        let built = outcomes.iter().filter(|outcome| outcome.result.as_ref().is_ok_and(|done| done.built));
        let builds = built.map(|outcome| (outcome.name.clone(), outcome.took.as_secs_f64())).collect();
        self.timings.add(Measured { builds, ..self.empty() });
    }

    fn empty(&self) -> Measured {
        Measured { target: self.target.clone(), ..Measured::default() }
    }
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// The estimate as text, for the end of the plan's totals.
pub(super) fn words(estimate: Estimate) -> String {
    let time = crate::ui::units::about(std::time::Duration::from_secs(estimate.seconds));
    let without = if estimate.without_terraform { " without terraform" } else { "" };
    format!("about {time}{without}, as the last runs here took")
}
