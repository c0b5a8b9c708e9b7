//! The end of a run: its last lines and failures.

use std::fmt;
use std::time::Instant;

use failure::{FailWith as _, Kind, ending, kind_of};
use registry::mirror::{Action, Job, Outcome};
use registry::{Digest, ErrorKind};

use crate::transfer::images::short;
use crate::transfer::registry_hints::{image_verdict, registry_failure};
use crate::transfer::runtimes::explain;
use crate::transfer::{Done, Plan, Run, shards, signing};
use crate::ui::units;

/// Reports the results to the user, to the other shards of `list` and to programs. Returns whether the run changed anything.
pub(in crate::transfer) async fn finish(
    run: &Run<'_>,
    plan: &Plan<'_>,
    done: Option<&Done>,
    started: Instant,
    list: &Digest,
) -> anyhow::Result<bool> {
    closing(run, plan, done, started);
    signing::warn_unsigned(run, done).await?;
    let joined = shards::join(run, plan, done, list).await?;
    let changed = run.report(plan, done, joined).await?;
    failures(run, plan, done)?;
    Ok(changed)
}

/// The last lines on the terminal.
fn closing(run: &Run<'_>, plan: &Plan<'_>, done: Option<&Done>, started: Instant) {
    let took = units::duration(started.elapsed());
    let everything = plan.images.images.len() + plan.runtimes.len();
    let failed = errors(run, plan, done).len();
    let in_place = |how: &str| {
        if failed == 0 {
            format!("{} in place{how}", units::count(everything, "image"))
        } else {
            format!("{failed} of {} failed", units::count(everything, "image"))
        }
    };
    let Some(done) = done else {
        run.printer.line(format!("{}, nothing was changed ({took})", in_place("")));
        return;
    };
    let copied = done.images.iter().filter_map(|outcome| outcome.result.as_ref().ok()).map(|done| done.bytes);
    let pushed =
        done.runtimes.iter().filter_map(|outcome| outcome.result.as_ref().ok()).map(|done| done.sent);
    let sent: u64 = copied.chain(pushed).sum();
    let verdict = in_place(" and verified");
    run.printer.line(format!("{verdict}, {} sent to {} ({took})", units::bytes(sent), run.target.host()));
    for command in &done.fetch {
        run.printer.line(format!(
            "HTC-Grid's next step needs an image that the local engine does not have: run `{command}`"
        ));
    }
}

/// Fails before any change if an image or a runtime has already failed in the plan.
pub(in crate::transfer) fn refuse_failed(run: &Run<'_>, plan: &Plan<'_>) -> anyhow::Result<()> {
    // With --keep-going this is the end of a dry run.
    let hint = match run.request.keep_going {
        true => "nothing was changed; a run with --keep-going does everything else",
        false => "nothing was changed; --keep-going does everything else",
    };
    first_of(run, causes(run, plan, None), hint)
}

/// All failures in the plan and in `done`, one error per image and runtime.
pub(in crate::transfer) fn errors(run: &Run<'_>, plan: &Plan<'_>, done: Option<&Done>) -> Vec<anyhow::Error> {
    let images = failed_images(plan, done);
    let images = images.into_iter().map(|(job, error)| ended(run, error, error.clone().into(), &short(job)));
    images.chain(failed_runtimes(plan, done)).chain(failed_primed(plan)).collect()
}

/// The failures, with one error for all images that fail for the same reason at the same registry.
fn causes(run: &Run<'_>, plan: &Plan<'_>, done: Option<&Done>) -> Vec<anyhow::Error> {
    let mut told: Vec<(SharedCause, Vec<&Job>)> = Vec::new();
    for (job, error) in failed_images(plan, done) {
        let cause = SharedCause(error.clone());
        match told.iter_mut().find(|(other, _)| *other == cause) {
            Some((_, jobs)) => jobs.push(job),
            None => told.push((cause, vec![job])),
        }
    }
    let images = told.into_iter().map(|(cause, jobs)| {
        let names = jobs.iter().map(|job| short(job)).collect::<Vec<_>>().join(", ");
        let error = cause.0.clone();
        let words = match (jobs.len(), is_of_network(&error)) {
            (1, false) => error.clone().into(),
            (1, true) => anyhow::anyhow!("{error}{}", innermost(&error)),
            (_, true) => anyhow::anyhow!("{cause}{}", innermost(&error)),
            (_, false) => anyhow::Error::new(cause),
        };
        ended(run, &error, words, &names)
    });
    images.chain(failed_runtimes(plan, done)).chain(failed_primed(plan)).collect()
}

fn failed_images<'a>(plan: &'a Plan<'_>, done: Option<&'a Done>) -> Vec<(&'a Job, &'a registry::Error)> {
    let copied = done.map(|done| done.images.as_slice()).unwrap_or_default();
    let failed = plan.images.images.iter().enumerate().filter_map(|(index, planned)| {
        // If anything was copied, failures of the plan are also in the outcomes.
        match (copied.get(index).map(|outcome| &outcome.result), &planned.action) {
            (Some(Err(error)), _) | (None, Action::Failed(error)) => Some((&*planned.job, error)),
            _ => None,
        }
    });
    failed.collect()
}

fn failed_runtimes<'a>(
    plan: &'a Plan<'_>,
    done: Option<&'a Done>,
) -> impl Iterator<Item = anyhow::Error> + 'a {
    let planned = plan.runtimes.iter().filter_map(|planned| planned.as_ref().err());
    let planned = planned.map(|failure| explain(&failure.name, &failure.error));
    let built = done.map(|done| done.runtimes.as_slice()).unwrap_or_default().iter();
    planned.chain(built.filter_map(|outcome| Some(explain(&outcome.name, outcome.result.as_ref().err()?))))
}

/// The images that are not pulled through ECR's cache.
fn failed_primed<'a>(plan: &'a Plan<'_>) -> impl Iterator<Item = anyhow::Error> + 'a {
    let failed = plan.primed.iter();
    failed.map(|(name, error)| {
        let error = registry_failure(error.clone(), Kind::Upstream);
        error.context(format!("{name} is not pulled through the cache"))
    })
}

/// Whether the network failed: in the libraries' chain of causes, the innermost is sufficient.
fn is_of_network(error: &registry::Error) -> bool {
    matches!(error.kind(), ErrorKind::NoConnection { .. } | ErrorKind::Network { .. })
}

/// The innermost cause, after a colon.
pub(super) fn innermost(error: &registry::Error) -> String {
    let below = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    below.last().map(|cause| format!(": {cause}")).unwrap_or_default()
}

/// The reason why several images of a registry fail.
#[derive(Debug)]
struct SharedCause(registry::Error);

impl fmt::Display for SharedCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (registry, server) = (self.0.registry(), self.0.server());
        let at = if server == registry { String::new() } else { format!(" at {server}") };
        write!(f, "{registry}{at}: {}", self.0.kind())
    }
}

impl std::error::Error for SharedCause {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.0)
    }
}

impl PartialEq for SharedCause {
    fn eq(&self, other: &Self) -> bool {
        let words = |cause: &Self| {
            let chain = std::iter::successors(Some(cause as &dyn std::error::Error), |error| error.source());
            chain.map(ToString::to_string).collect::<Vec<_>>()
        };
        words(self) == words(other)
    }
}

/// An image's error with this message, its name, kind and hint.
fn ended(run: &Run<'_>, error: &registry::Error, words: anyhow::Error, name: &str) -> anyhow::Error {
    let (kind, hint) = image_verdict(error, Some(run.target));
    ending(kind, hint, words.context(name.to_owned()))
}

/// Prints all errors except the first, which ends the run.
fn first_of(
    run: &Run<'_>,
    errors: impl IntoIterator<Item = anyhow::Error>,
    hint: &str,
) -> anyhow::Result<()> {
    let mut errors = errors.into_iter();
    let Some(first) = errors.next() else { return Ok(()) };
    for error in errors {
        run.printer.error(&error);
    }
    let kind = kind_of(&first);
    Err(first).hint(kind, hint)
}

/// All failures, with causes and hints. The exit code is that of the first.
fn failures(run: &Run<'_>, plan: &Plan<'_>, done: Option<&Done>) -> anyhow::Result<()> {
    let errors = causes(run, plan, done);
    // A tag that the target does not allow to move will not move in another run either.
    let is_final = |outcome: &Outcome| match &outcome.result {
        Ok(_) => true,
        Err(error) => matches!(error.kind(), ErrorKind::TagImmutable { .. }),
    };
    let is_over = done.is_some_and(|done| {
        done.images.iter().all(is_final) && done.runtimes.iter().all(|done| done.result.is_ok())
    }) && plan.runtimes.iter().all(Result::is_ok);
    let again = if is_over { "" } else { "; run the command again and it continues from there" };
    first_of(run, errors, &format!("what succeeded is kept{again}"))
}
