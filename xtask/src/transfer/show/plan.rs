//! Shows the plan, before any change.

use std::collections::{BTreeMap, BTreeSet};

use aws::OtherRegion;
use images_config::{Config, RUNTIMES_REPOSITORY, support};
use registry::ErrorKind;
use registry::mirror::Action;
use runtimes::Hold;

use super::document::Report;
use super::end::innermost;
use super::resources;
use crate::transfer::images::short;
use crate::transfer::refusals::pulls_left;
use crate::transfer::{Plan, Run, times};
use crate::ui::{Table, units};

/// Shows what would be done.
pub(in crate::transfer) fn plan(run: &Run<'_>, plan: &Plan<'_>) {
    let printer = run.printer;
    printer.heading(&format!("Plan for {}", headline(run)));
    let report = Report::new(run, plan, None);
    resources::print(run, plan);
    let mut table = Table::new(["IMAGE", "FROM", "ACTION", "SIZE", "WHY"]);
    let all = report.images.iter().chain(&report.runtimes);
    for image in all.filter(|image| image.action != "up to date" || printer.verbose()) {
        let size = if image.bytes == 0 { "-".into() } else { units::bytes(image.bytes) };
        let signed = image.signed_by.iter().map(|signer| format!("signed by {signer}"));
        let why = Some(image.why.clone()).filter(|why| !why.is_empty()).into_iter().chain(signed);
        let why = image.error.clone().unwrap_or_else(|| why.collect::<Vec<_>>().join(", "));
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
    for waiting in report.waiting {
        printer.line(waiting.to_string());
    }
    if let Some(warning) = unsupported(&run.config) {
        printer.warn(warning);
    }
    let time = report.estimate.map(times::words);
    printer.line([sums(plan)].into_iter().chain(time).collect::<Vec<_>>().join("; "));
}

/// One line with the bases whose support has ended.
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

/// The line for a held runtime.
pub fn held(name: &str, hold: &Hold) -> String {
    format!(
        "{RUNTIMES_REPOSITORY}:{name} is held on {} since {} by images.lock ({}); `cargo xtask lock --update {name}` ends it",
        hold.build, hold.since, hold.by
    )
}

/// The registries whose images are read from another server, because a gateway redirects there.
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

/// The registries that do not answer, with their images, which stay unchanged.
fn unanswered(plan: &Plan<'_>) -> Vec<String> {
    let images = plan.images.images.iter().map(|planned| (planned.unanswered.as_ref(), short(&planned.job)));
    let runtimes = plan
        .planned_runtimes()
        .map(|planned| (planned.unanswered.as_ref(), format!("{RUNTIMES_REPOSITORY}:{}", planned.name)));
    not_compared(images.chain(runtimes).filter_map(|(error, name)| Some((error?, name))))
}

/// The registries that do not answer or refuse, one line each with its images.
pub fn not_compared<'a>(images: impl Iterator<Item = (&'a registry::Error, String)>) -> Vec<String> {
    let mut told: BTreeMap<(&str, bool), (&registry::Error, Vec<String>)> = BTreeMap::new();
    for (error, name) in images {
        let key = (error.registry(), error.is_out_of_reach());
        told.entry(key).or_insert_with(|| (error, Vec::new())).1.push(name);
    }
    let line = |((registry, silent), (error, images)): ((&str, bool), (&registry::Error, Vec<String>))| {
        let said = if silent { "does not answer" } else { "gives no usable answer" };
        let (kind, images) = (error.kind(), images.join(", "));
        format!("{registry} {said} ({kind}{}); not compared with upstream: {images}", innermost(error))
    };
    told.into_iter().map(line).collect()
}

/// Account, region and grid come first, so that the user sees the target before the question.
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

/// The user must see them next to the region before answering the question.
fn other_regions(others: &[OtherRegion]) -> String {
    let said: Vec<String> =
        others.iter().map(|other| format!("{} says {}", other.by, other.region)).collect();
    if said.is_empty() { String::new() } else { format!(" (warning: {})", said.join(", ")) }
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
    let completes =
        plan.images.images.iter().filter(|planned| matches!(planned.action, Action::Complete { .. }));
    let completes = completes.count();
    if completes > 0 {
        parts.push(format!("add referrers to {}", units::count(completes, "image")));
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
        parts.push(format!("tag {}", units::count(moves, "runtime")));
    }
    for pulls in &plan.images.pulls {
        if let Some(limit) = pulls.limit {
            parts.push(pulls_left(pulls, limit));
        }
    }
    let failed = plan.images.images.iter().filter_map(|planned| match &planned.action {
        Action::Failed(error) => Some(match error.kind() {
            ErrorKind::Untrusted { .. } => "not signed as images.toml asks",
            ErrorKind::TooFresh { .. } => "too fresh",
            _ => "cannot be looked up",
        }),
        _ => None,
    });
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    failed.for_each(|why| *counts.entry(why).or_default() += 1);
    parts.extend(counts.into_iter().map(|(why, count)| format!("{} {why}", units::count(count, "image"))));
    let failed = plan.runtimes.iter().filter(|planned| planned.is_err()).count();
    if failed > 0 {
        parts.push(format!("{} cannot be planned", units::count(failed, "runtime")));
    }
    if parts.is_empty() { "nothing to do".to_owned() } else { parts.join("; ") }
}
