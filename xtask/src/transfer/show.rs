//! The plan, the end and the report, as people and programs read them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use aws::{OtherRegion, plan_cache};
use failure::{FailWith as _, Kind, ending, kind_of, render};
use images_config::{Config, RUNTIMES_REPOSITORY, support};
use registry::ErrorKind;
use registry::mirror::{Action, Copied, Job, Outcome, Planned};
use runtimes::Hold;
use serde::Serialize;

use super::hints::registry_verdict;
use super::images::short;
use super::runtimes::explain;
use super::shards::Joined;
use super::{Done, Plan, Run};
use crate::ui::{Printer, Table, units};

/// The run as `--format json` gives it.
#[derive(Debug, Serialize)]
pub struct Report {
    account: Option<String>,
    region: Option<String>,
    tag: String,
    registry: String,
    /// Whether this run changed anything.
    changed: bool,
    /// What terraform does, a line each.
    terraform: Vec<String>,
    /// What the pull-through cache's own repositories get, a line each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cache: Vec<String>,
    /// Where what somebody else made is not what images.toml says, a line each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    differences: Vec<String>,
    images: Vec<ImageReport>,
    runtimes: Vec<ImageReport>,
    /// The share that this run had of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    shard: Option<String>,
    /// What all shards have reported, this one last.
    #[serde(skip_serializing_if = "Option::is_none")]
    shards: Option<Joined>,
}

/// One image or runtime.
#[derive(Debug, Serialize)]
struct ImageReport {
    name: String,
    from: String,
    /// `up to date`, `copy`, `replace`, `promote`, `push`, `build` or `failed`.
    action: String,
    why: String,
    digest: Option<String>,
    /// Bytes that were sent, or would be at most.
    bytes: u64,
    error: Option<String>,
    /// The build on which images.lock holds a runtime.
    #[serde(skip_serializing_if = "Option::is_none")]
    held: Option<Hold>,
}

impl Report {
    /// The report of a run; before it acts, of its plan.
    pub(super) fn new(run: &Run<'_>, plan: &Plan<'_>, done: Option<&Done>) -> Self {
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
        Self {
            account: account.map(|account| account.aws.identity().account.clone()),
            region: account.map(|account| account.aws.region().to_owned()),
            tag: run.tag.to_owned(),
            registry: run.target.host().to_owned(),
            changed: done.is_some_and(|done| has_changed(plan, done)),
            terraform: plan.resources.as_ref().map(super::resources::Resources::lines).unwrap_or_default(),
            cache: plan.resources.as_ref().map(|found| found.of_the_cache.clone()).unwrap_or_default(),
            differences: plan.resources.as_ref().map(|found| found.differences.clone()).unwrap_or_default(),
            images: images.collect(),
            runtimes: runtimes.collect(),
            shard: run.request.shard.map(|shard| shard.to_string()),
            shards: None,
        }
    }

    /// The same with what the other shards have reported.
    pub(super) fn with(self, shards: Option<Joined>) -> Self {
        Self { shards, ..self }
    }

    /// The table, or the JSON document, on stdout.
    pub(super) fn print(&self, printer: &Printer) -> anyhow::Result<()> {
        let mut table = Table::new(["IMAGE", "ACTION", "SIZE", "DIGEST"]);
        for image in self.images.iter().chain(&self.runtimes) {
            let digest = image.digest.clone().unwrap_or_else(|| "-".into());
            let size = if image.bytes == 0 { "-".into() } else { units::bytes(image.bytes) };
            let held = if image.held.is_some() { ", held" } else { "" };
            table.row([image.name.clone(), format!("{}{held}", image.action), size, digest]);
        }
        printer.data(&table, self)
    }
}

/// Whether anything came of what was done: resources, an image or a runtime.
fn has_changed(plan: &Plan<'_>, done: &Done) -> bool {
    let images = done.images.iter().filter_map(|outcome| outcome.result.as_ref().ok());
    let idle: BTreeSet<&str> = plan
        .planned_runtimes()
        .filter(|planned| planned.action == runtimes::Action::Nothing)
        .map(|planned| planned.name.as_str())
        .collect();
    let runtimes = done.runtimes.iter().filter(|outcome| !idle.contains(outcome.name.as_str()));
    let resources = plan.resources.as_ref().is_some_and(|resources| !resources.is_empty());
    // Resources that could not be applied have ended the run.
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
                (false, _) => "changed by somebody else; kept under another tag",
            };
            ("replace", format!("{whose}: was {previous}"), Some(content.digest), content.bytes, None)
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
        held: planned.held.clone(),
    }
}

/// What would be done, before anything is.
pub(super) fn plan(run: &Run<'_>, plan: &Plan<'_>) {
    let printer = run.printer;
    printer.line(headline(run));
    let report = Report::new(run, plan, None);
    resources(run, plan, &report);
    let mut table = Table::new(["IMAGE", "FROM", "ACTION", "SIZE", "WHY"]);
    let all = report.images.iter().chain(&report.runtimes);
    for image in all.filter(|image| image.action != "up to date" || printer.verbose()) {
        let size = if image.bytes == 0 { "-".into() } else { units::bytes(image.bytes) };
        let why = image.error.clone().unwrap_or_else(|| image.why.clone());
        table.row([image.name.clone(), image.from.clone(), image.action.clone(), size, why]);
    }
    if !table.is_empty() {
        printer.table(&table);
    }
    for warning in plan.images.images.iter().flat_map(|planned| &planned.warnings) {
        printer.warn(warning);
    }
    for warning in &plan.archived {
        printer.warn(warning);
    }
    for line in redirected(run, plan) {
        printer.line(line);
    }
    for warning in unanswered(plan) {
        printer.warn(warning);
    }
    for planned in plan.planned_runtimes() {
        if let Some(hold) = &planned.held {
            printer.line(held(&planned.name, hold));
        }
    }
    for planned in &plan.images.images {
        if let Some((locked, now)) = planned.moved() {
            printer.line(format!(
                "{} has moved upstream from {locked} to {now}; images.lock decides",
                planned.job.source
            ));
        }
    }
    if let Some(warning) = unsupported(&run.config) {
        printer.warn(warning);
    }
    printer.line(sums(plan));
}

/// The bases whose support has ended, in one line.
fn unsupported(config: &Config) -> Option<String> {
    let today = support::today();
    let ended: Vec<String> = config
        .enabled_runtimes()
        .filter_map(|runtime| {
            let day = support::ended(&runtime.base, today)?;
            Some(format!("{} ({}, {day})", runtime.name, runtime.base))
        })
        .collect();
    (!ended.is_empty()).then(|| format!("the support of these bases has ended: {}", ended.join(", ")))
}

/// What is to be known of a runtime that is held.
pub fn held(name: &str, hold: &Hold) -> String {
    format!(
        "{RUNTIMES_REPOSITORY}:{name} is held on {} since {} by images.lock ({}); `cargo xtask lock --update {name}` ends it",
        hold.build, hold.since, hold.by
    )
}

/// The registries whose images come from another server: a gateway sends its readers there.
fn redirected(run: &Run<'_>, plan: &Plan<'_>) -> Vec<String> {
    let copied = plan.images.images.iter().filter(|planned| planned.content().is_some());
    let registries: BTreeSet<&str> = copied.map(|planned| planned.job.source.registry()).collect();
    let client = run.mirror.client();
    let line = |registry| {
        let there = client.redirected_to(registry)?;
        Some(format!("{registry} redirects to {there}: its images are read there"))
    };
    registries.into_iter().filter_map(line).collect()
}

/// The registries that do not answer, each with its images that are left as they are.
fn unanswered(plan: &Plan<'_>) -> Vec<String> {
    let images = plan.images.images.iter().map(|planned| (planned.unanswered.as_ref(), short(&planned.job)));
    let runtimes = plan
        .planned_runtimes()
        .map(|planned| (planned.unanswered.as_ref(), format!("{RUNTIMES_REPOSITORY}:{}", planned.name)));
    not_compared(images.chain(runtimes).filter_map(|(error, name)| Some((error?, name))))
}

/// The registries that gave no answer, or a refusal, a line each with its images.
pub fn not_compared<'a>(images: impl Iterator<Item = (&'a registry::Error, String)>) -> Vec<String> {
    let mut told: BTreeMap<(&str, bool), (&registry::Error, Vec<String>)> = BTreeMap::new();
    for (error, name) in images {
        let key = (error.registry(), error.is_out_of_reach());
        told.entry(key).or_insert_with(|| (error, Vec::new())).1.push(name);
    }
    let line = |((registry, silent), (error, images)): ((&str, bool), (&registry::Error, Vec<String>))| {
        let said = if silent { "does not answer" } else { "does not say" };
        format!("{registry} {said} ({}); not compared with upstream: {}", cause(error), images.join(", "))
    };
    told.into_iter().map(line).collect()
}

/// Why it failed, with the innermost cause.
fn cause(error: &registry::Error) -> String {
    let mut innermost: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(below) = innermost.and_then(std::error::Error::source) {
        innermost = Some(below);
    }
    let kind = error.kind().to_string();
    innermost.map_or_else(|| kind.clone(), |innermost| format!("{kind}: {innermost}"))
}

/// Account, region and grid first: before anything is asked, it is clear where it would happen.
fn headline(run: &Run<'_>) -> String {
    let tag = run.tag;
    let shard = run.request.shard.map_or_else(String::new, |shard| format!(", shard {shard}"));
    match &run.target.account {
        Some(account) => format!(
            "account {}, region {}{}, grid {tag}{shard}{}",
            account.aws.identity().account,
            account.aws.region(),
            other_regions(account.aws.other_regions()),
            if run.local { " (emulated on this machine)" } else { "" }
        ),
        None => format!("registry {}, grid {tag}{shard}; terraform and AWS are left out", run.target.host()),
    }
}

/// Whoever answers the question has to see it beside the region.
fn other_regions(others: &[OtherRegion]) -> String {
    let said: Vec<String> =
        others.iter().map(|other| format!("{} says {}", other.by, other.region)).collect();
    if said.is_empty() { String::new() } else { format!(" (warning: {})", said.join(", ")) }
}

fn resources(run: &Run<'_>, plan: &Plan<'_>, report: &Report) {
    let Some(resources) = &plan.resources else { return };
    for line in &report.terraform {
        run.printer.line(format!("terraform: {line}"));
    }
    for line in resources.settings() {
        run.printer.line(format!("registry: {line}"));
    }
    for line in &resources.of_the_cache {
        run.printer.line(line);
    }
    for line in &resources.differences {
        run.printer.line(format!("used as it is, somebody else made it: {line}"));
    }
    if resources.up_to_date {
        run.printer.detail(format!(
            "terraform: nothing to do since the last plan (not checked again: {}; --refresh does)",
            plan_cache::UNSEEN
        ));
    }
    let forgotten = resources.inventory.no_longer_wanted(&run.config);
    // With --only, what is not named is still wanted.
    if run.request.only.is_empty() && !forgotten.repositories.is_empty() {
        let names = forgotten.repositories.join(", ");
        run.printer.line(format!("no longer in images.toml, and kept: {names}"));
    }
}

fn sums(plan: &Plan<'_>) -> String {
    let mut parts = Vec::new();
    let terraform = plan.resources.as_ref().map_or(0, |resources| resources.lines().len());
    if terraform > 0 {
        parts.push(format!("terraform: {}", units::count(terraform, "change")));
    }
    let copies = plan.images.images.iter().filter(|planned| planned.content().is_some()).count();
    if copies > 0 {
        let bytes = plan.images.repository_bytes();
        let unique = plan.images.unique_bytes();
        let saved = if unique < bytes {
            format!(" ({} with blob mounting)", units::bytes(unique))
        } else {
            String::new()
        };
        parts.push(format!("copy {}, at most {}{saved}", units::count(copies, "image"), units::bytes(bytes)));
    }
    let builds =
        plan.planned_runtimes().filter(|p| matches!(p.action, runtimes::Action::Build { .. })).count();
    if builds > 0 {
        parts.push(format!("build {}", units::count(builds, "runtime")));
    }
    let moves = plan
        .planned_runtimes()
        .filter(|p| matches!(p.action, runtimes::Action::Promote { .. } | runtimes::Action::Push))
        .count();
    if moves > 0 {
        parts.push(format!("put {} in place", units::count(moves, "runtime")));
    }
    for pulls in &plan.images.pulls {
        if let Some(limit) = pulls.limit {
            parts.push(format!(
                "{}: {} needed, {} of {} left",
                pulls.registry,
                units::count(usize::try_from(pulls.needed).unwrap_or(usize::MAX), "pull"),
                limit.remaining,
                limit.limit
            ));
        }
    }
    let failed =
        plan.images.images.iter().filter(|planned| matches!(planned.action, Action::Failed(_))).count();
    if failed > 0 {
        parts.push(format!("{} cannot be looked up", units::count(failed, "image")));
    }
    let failed = plan.runtimes.iter().filter(|planned| planned.is_err()).count();
    if failed > 0 {
        parts.push(format!("{} cannot be planned", units::count(failed, "runtime")));
    }
    if parts.is_empty() { "nothing to do".to_owned() } else { parts.join("; ") }
}

/// The last lines for people.
pub(super) fn closing(run: &Run<'_>, plan: &Plan<'_>, done: Option<&Done>, started: Instant) {
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
            "the next step of HTC-Grid builds in an image that is not here yet: `{command}` pulls it"
        ));
    }
}

/// Stops before anything is changed where an image or a runtime can already be seen to fail.
pub(super) fn refuse_failed(run: &Run<'_>, plan: &Plan<'_>) -> anyhow::Result<()> {
    // With --keep-going this is the end of a dry run.
    let hint = match run.request.keep_going {
        true => "nothing was changed; a run with --keep-going does everything else",
        false => "nothing was changed; --keep-going does everything else",
    };
    first_of(run, errors(run, plan, None), hint)
}

/// What failed: in the plan, and of what was `done`.
pub(super) fn errors(run: &Run<'_>, plan: &Plan<'_>, done: Option<&Done>) -> Vec<anyhow::Error> {
    let copied = done.map(|done| done.images.as_slice()).unwrap_or_default();
    let images = plan.images.images.iter().enumerate().filter_map(|(index, planned)| {
        // What failed in the plan comes back as an outcome, where anything was copied.
        match (copied.get(index).map(|outcome| &outcome.result), &planned.action) {
            (Some(Err(error)), _) | (None, Action::Failed(error)) => {
                Some(image_error(run, &planned.job, error))
            }
            _ => None,
        }
    });
    let planned = plan.runtimes.iter().filter_map(|planned| planned.as_ref().err());
    let planned = planned.map(|failure| explain(&failure.name, &failure.error));
    let built = done.map(|done| done.runtimes.as_slice()).unwrap_or_default().iter();
    let built = built.filter_map(|outcome| Some(explain(&outcome.name, outcome.result.as_ref().err()?)));
    images.chain(planned).chain(built).collect()
}

/// An image's error with its name, its exit code and its hint.
fn image_error(run: &Run<'_>, job: &Job, error: &registry::Error) -> anyhow::Error {
    let ours = error.registry() == run.target.host();
    let denied = matches!(error.kind(), ErrorKind::Denied { .. } | ErrorKind::Unauthorized { .. });
    let (kind, hint) = match registry_verdict(error, if ours { Kind::Registry } else { Kind::Upstream }) {
        (Kind::Registry, _) if denied && run.target.account.is_some() => {
            let words =
                "ECR refuses the caller and does not say why; docs/iam-policy.json lists every permission";
            (Kind::Credentials, Some(words.to_owned()))
        }
        verdict => verdict,
    };
    ending(kind, hint, anyhow::Error::new(error.clone()).context(short(job)))
}

/// Prints all errors but the first, which ends the run.
fn first_of(
    run: &Run<'_>,
    errors: impl IntoIterator<Item = anyhow::Error>,
    hint: &str,
) -> anyhow::Result<()> {
    let mut errors = errors.into_iter();
    let Some(first) = errors.next() else { return Ok(()) };
    for error in errors {
        run.printer.line(render(&error));
    }
    let kind = kind_of(&first);
    Err(first).hint(kind, hint)
}

/// All that failed, each with its causes and what to do; the exit code is that of the first.
pub(super) fn failures(run: &Run<'_>, plan: &Plan<'_>, done: Option<&Done>) -> anyhow::Result<()> {
    let errors = errors(run, plan, done);
    // A tag that the target does not let us move will not move in another run.
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
