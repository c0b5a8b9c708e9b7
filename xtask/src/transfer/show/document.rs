//! The run as a document for programs, and the table at its end.

use std::collections::BTreeSet;

use images_config::RUNTIMES_REPOSITORY;
use images_config::lock::waiting::Waiting;
use images_config::timings::Estimate;
use registry::mirror::{Action, Copied, Outcome, Planned};
use runtimes::Hold;
use serde::Serialize;

use crate::transfer::images::short;
use crate::transfer::resources::Resources;
use crate::transfer::shards::CombinedReport;
use crate::transfer::{Done, Plan, Run};
use crate::ui::{Printer, Table, units};

/// The run in `--format json`.
#[derive(Debug, Serialize)]
pub struct Report {
    pub(in crate::transfer) account: Option<String>,
    pub(in crate::transfer) region: Option<String>,
    tag: String,
    pub(in crate::transfer) registry: String,
    /// Whether this run changed anything. `None` if it started to and has not ended.
    changed: Option<bool>,
    /// Terraform's changes, one line each.
    pub(super) terraform: Vec<String>,
    /// The first shard's changes to the resources, one line each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    made: Vec<String>,
    /// The settings of the pull-through cache's own repositories, one line each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cache: Vec<String>,
    /// Differences between images.toml and resources of others, one line each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    differences: Vec<String>,
    pub(in crate::transfer) images: Vec<ImageReport>,
    pub(in crate::transfer) runtimes: Vec<ImageReport>,
    /// Digests that are too new to use.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) waiting: Vec<Waiting>,
    totals: Totals,
    /// The estimate, by the last runs on this machine. `None` without such runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) estimate: Option<Estimate>,
    /// The sources' pull limits, one entry per registry.
    pulls: Vec<Pulls>,
    /// The shard of this run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::transfer) shard: Option<String>,
    /// The reports of all shards, this one last.
    #[serde(skip_serializing_if = "Option::is_none")]
    shards: Option<CombinedReport>,
}

/// The totals of the run.
#[derive(Debug, Default, Serialize)]
struct Totals {
    /// Images that are or would be copied, including those with only new referrers.
    copies: usize,
    /// Runtimes that are or would be built.
    builds: usize,
    /// Runtimes with an existing build that only get their tags.
    moves: usize,
    up_to_date: usize,
    failed: usize,
    /// Maximum number of bytes to copy, counted for each repository.
    bytes: u64,
    /// The same if the registry mounts blobs.
    unique_bytes: u64,
    /// Bytes sent.
    sent: u64,
}

/// A registry's pull limit.
#[derive(Debug, Serialize)]
struct Pulls {
    registry: String,
    /// Pulls that the plan needs.
    needed: u64,
    /// Pulls allowed per window. `None` if the registry reports no limit.
    limit: Option<u64>,
    /// Pulls left before the run.
    remaining: Option<u64>,
    /// Length of the window, in seconds.
    window: Option<u64>,
}

/// One image or runtime.
#[derive(Debug, Serialize)]
pub(in crate::transfer) struct ImageReport {
    pub(in crate::transfer) name: String,
    pub(in crate::transfer) from: String,
    /// `up to date`, `copy`, `replace`, `complete`, `promote`, `push`, `build` or `failed`.
    pub(in crate::transfer) action: String,
    pub(in crate::transfer) why: String,
    pub(in crate::transfer) digest: Option<String>,
    /// Bytes that were sent, or the maximum that would be.
    pub(in crate::transfer) bytes: u64,
    pub(in crate::transfer) error: Option<String>,
    /// The signer of an image with a trust rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::transfer) signed_by: Option<String>,
    /// The build at which images.lock holds a runtime.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::transfer) held: Option<Hold>,
}

impl Report {
    /// The report of a run, or of its plan before it is applied.
    pub(in crate::transfer) fn new(run: &Run<'_>, plan: &Plan<'_>, done: Option<&Done>) -> Self {
        let account = run.target.account.as_ref();
        let images = plan
            .images
            .images
            .iter()
            .enumerate()
            .map(|(index, planned)| image_report(planned, done.and_then(|done| done.images.get(index))));
        let runtimes = plan.runtimes.iter().map(|planned| match planned {
            Ok(planned) => {
                let outcomes = done.map(|done| done.runtimes.as_slice()).unwrap_or_default();
                runtime_report(planned, outcomes.iter().find(|outcome| outcome.name == planned.name))
            }
            Err(failure) => failed_runtime(failure),
        });
        let (images, runtimes): (Vec<_>, Vec<_>) = (images.collect(), runtimes.collect());
        Self {
            totals: totals(plan, done, images.iter().chain(&runtimes)),
            estimate: run.times.of(plan),
            pulls: pulls(plan),
            account: account.map(|account| account.aws.identity().account.clone()),
            region: account.map(|account| account.aws.region().to_owned()),
            tag: run.tag.to_owned(),
            registry: run.target.host().to_owned(),
            changed: Some(!run.made.is_empty() || done.is_some_and(|done| has_changed(plan, done))),
            made: run.made.clone(),
            terraform: plan.resources.as_ref().map(Resources::lines).unwrap_or_default(),
            cache: plan.resources.as_ref().map(|found| found.of_the_cache.clone()).unwrap_or_default(),
            differences: plan.resources.as_ref().map(|found| found.differences.clone()).unwrap_or_default(),
            images,
            runtimes,
            waiting: run.ages.as_ref().map(|ages| ages.waiting()).unwrap_or_default(),
            shard: run.request.shard.map(|shard| shard.to_string()),
            shards: None,
        }
    }

    /// The same report after applying the plan has started.
    pub(in crate::transfer) fn begun(self) -> Self {
        Self { changed: None, ..self }
    }

    /// Whether anything was changed, as far as is known.
    pub(in crate::transfer) fn has_changed(&self) -> bool {
        self.changed == Some(true)
    }

    /// The changes to the account's resources, one line each.
    pub(in crate::transfer) fn resources(&self) -> Vec<String> {
        self.made.iter().chain(&self.terraform).chain(&self.cache).cloned().collect()
    }

    /// Other notes, one line each.
    pub(in crate::transfer) fn notes(&self) -> Vec<String> {
        let waiting = self.waiting.iter().map(ToString::to_string);
        let pulls = self.pulls.iter().filter_map(|pulls| {
            let (limit, remaining) = (pulls.limit?, pulls.remaining?);
            Some(format!("{}: {} pulls needed, {remaining} of {limit} left", pulls.registry, pulls.needed))
        });
        let shards =
            self.shards.iter().flat_map(CombinedReport::lines).map(|line| format!("all shards: {line}"));
        self.differences.iter().cloned().chain(waiting).chain(pulls).chain(shards).collect()
    }

    /// The same report with those of the other shards.
    pub(in crate::transfer) fn with(self, shards: Option<CombinedReport>) -> Self {
        Self { shards, ..self }
    }

    /// Prints the JSON document to stdout, or the table of what was `done`. The plan of a dry run has been shown already.
    pub(in crate::transfer) fn print(&self, printer: &Printer, done: bool) -> anyhow::Result<()> {
        let mut table = Table::new(["IMAGE", "DONE", "SIZE", "DIGEST"]);
        let all = self.images.iter().chain(&self.runtimes);
        for image in all.filter(|image| printer.verbose() || (done && image.action != "up to date")) {
            let digest = image.digest.clone().unwrap_or_else(|| "-".into());
            let size = if image.bytes == 0 { "-".into() } else { units::bytes(image.bytes) };
            let held = if image.held.is_some() { ", held" } else { "" };
            let action = if done { done_word(&image.action) } else { &image.action };
            table.row([image.name.clone(), format!("{action}{held}"), size, digest]);
        }
        let table = if table.is_empty() { Table::default() } else { table };
        printer.results().data(&table, self)
    }
}

/// The action in the past tense.
pub(in crate::transfer) fn done_word(action: &str) -> &str {
    match action {
        "copy" => "copied",
        "replace" => "replaced",
        "complete" => "completed",
        "promote" => "promoted",
        "push" => "pushed",
        "build" => "built",
        other => other,
    }
}

fn totals<'a>(
    plan: &Plan<'_>,
    done: Option<&Done>,
    reports: impl Iterator<Item = &'a ImageReport> + Clone,
) -> Totals {
    let count = |actions: &[&str]| reports.clone().filter(|image| actions.contains(&&*image.action)).count();
    Totals {
        copies: count(&["copy", "replace", "complete"]),
        builds: count(&["build"]),
        moves: count(&["promote", "push"]),
        up_to_date: count(&["up to date"]),
        failed: count(&["failed"]),
        bytes: plan.images.repository_bytes(),
        unique_bytes: plan.images.unique_bytes(),
        sent: if done.is_some() { reports.map(|image| image.bytes).sum() } else { 0 },
    }
}

fn pulls(plan: &Plan<'_>) -> Vec<Pulls> {
    let of = |pulls: &registry::mirror::Pulls| Pulls {
        registry: pulls.registry.clone(),
        needed: pulls.needed,
        limit: pulls.limit.map(|limit| limit.limit),
        remaining: pulls.limit.map(|limit| limit.remaining),
        window: pulls.limit.and_then(|limit| limit.window).map(|window| window.as_secs()),
    };
    plan.images.pulls.iter().map(of).collect()
}

/// Whether anything was changed: resources, an image or a runtime.
fn has_changed(plan: &Plan<'_>, done: &Done) -> bool {
    let images = done.images.iter().filter_map(|outcome| outcome.result.as_ref().ok());
    let idle: BTreeSet<&str> = plan
        .planned_runtimes()
        .filter(|planned| planned.action == runtimes::Action::Nothing)
        .map(|planned| planned.name.as_str())
        .collect();
    let runtimes = done.runtimes.iter().filter(|outcome| !idle.contains(outcome.name.as_str()));
    let resources = plan.resources.as_ref().is_some_and(|resources| !resources.is_empty());
    // If applying the resources had failed, the run would have ended.
    resources
        || images.into_iter().any(|copied| !copied.was_up_to_date)
        || runtimes.into_iter().any(|outcome| outcome.result.is_ok())
}

fn image_report(planned: &Planned, outcome: Option<&Outcome>) -> ImageReport {
    let (action, why, digest, bytes, error) = match &planned.action {
        Action::UpToDate { digest } => {
            let why = planned.unanswered.as_ref().map(|error| format!("not compared with upstream: {error}"));
            ("up to date", why.unwrap_or_default(), Some(*digest), 0, None)
        }
        Action::Copy(content) => {
            ("copy", "not there yet".to_owned(), Some(content.digest), content.bytes, None)
        }
        Action::Replace { previous, ours, same_source, content } => {
            let whose = match (ours, same_source) {
                (true, false) => "upstream has moved",
                (true, true) => "other platforms are wanted",
                (false, _) => "changed by another tool; kept under another tag",
            };
            ("replace", format!("{whose}: was {previous}"), Some(content.digest), content.bytes, None)
        }
        Action::Complete { digest, missing } => {
            let missing = units::count(*missing, "referrer");
            ("complete", format!("{missing} missing (signatures, attestations)"), Some(*digest), 0, None)
        }
        Action::Failed(error) => ("failed", String::new(), None, 0, Some(error.clone())),
    };
    let (digest, bytes, error) = match outcome.map(|outcome| &outcome.result) {
        Some(Ok(Copied { digest, bytes, .. })) if !matches!(planned.action, Action::UpToDate { .. }) => {
            (Some(*digest), *bytes, None)
        }
        Some(Err(error)) => (None, 0, Some(error.clone())),
        _ => (digest, bytes, error),
    };
    ImageReport {
        name: short(&planned.job),
        from: planned.job.source.to_string(),
        action: if error.is_some() { "failed".into() } else { action.into() },
        why,
        digest: digest.map(|digest| digest.to_string()),
        bytes,
        error: error.map(|error| error.to_string()),
        signed_by: planned.signed.clone(),
        held: None,
    }
}

fn failed_runtime(failure: &runtimes::Failure) -> ImageReport {
    ImageReport {
        name: format!("{RUNTIMES_REPOSITORY}:{}", failure.name),
        from: failure.base.as_ref().map(ToString::to_string).unwrap_or_default(),
        action: "failed".into(),
        why: String::new(),
        digest: None,
        bytes: 0,
        error: Some(failure.error.in_full()),
        signed_by: None,
        held: None,
    }
}

fn runtime_report(planned: &runtimes::Planned, outcome: Option<&runtimes::Outcome>) -> ImageReport {
    let action = planned.action.words();
    let result = outcome.map(|outcome| &outcome.result);
    let error = result.and_then(|result| result.as_ref().err());
    let done = result.and_then(|result| result.as_ref().ok());
    let built = done.and_then(|done| done.digest);
    ImageReport {
        name: format!("{RUNTIMES_REPOSITORY}:{}", planned.name),
        from: planned.base_name().map(ToString::to_string).unwrap_or_default(),
        action: if error.is_some() { "failed" } else { action }.into(),
        why: match &planned.unanswered {
            Some(error) => format!("{}; not compared with upstream: {error}", planned.reason),
            None => planned.reason.clone(),
        },
        digest: built.or(planned.seen.filter(|_| outcome.is_none())).map(|digest| digest.to_string()),
        bytes: done.map_or(0, |done| done.sent),
        error: error.map(ToString::to_string),
        signed_by: None,
        held: planned.held.clone(),
    }
}
