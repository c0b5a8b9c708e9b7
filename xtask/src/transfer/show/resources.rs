//! The AWS resources of a plan: one line per kind of change, not per change.

use std::collections::BTreeMap;

use aws::plan_cache;
use grid::ResourceKind;
use images_config::Config;
use terraform::{Action, Change};

use crate::transfer::resources::Resources;
use crate::transfer::{Plan, Run};
use crate::ui::units;

/// The width of a list of names: 80 columns, less the indentation.
const COLUMNS: usize = 78;

/// Prints the changes of the resources.
pub(super) fn print(run: &Run<'_>, plan: &Plan<'_>) {
    let Some(resources) = &plan.resources else { return };
    let printer = run.printer;
    let changes = grouped(&resources.changes());
    for line in changes.iter().chain(&resources.adopted()) {
        printer.line(format!("  {line}"));
    }
    for change in resources.changes() {
        printer.detail(format!("    terraform: {change}"));
    }
    for line in resources.settings() {
        printer.line(format!("  registry: {line}"));
    }
    for line in &resources.of_the_cache {
        printer.line(format!("  {line}"));
    }
    for line in foreign(&run.config, resources) {
        printer.line(format!("  {line}"));
    }
    for line in &resources.differences {
        printer.line(format!("  not managed by this grid, used unchanged: {line}"));
    }
    if resources.up_to_date {
        printer.detail(format!(
            "  terraform: nothing to do since the last plan (not checked again: {}; --refresh does)",
            plan_cache::UNSEEN
        ));
    }
    let forgotten = resources.inventory.unlisted_resources(&run.config);
    // With --only, resources that are not named are still wanted.
    if run.request.only.is_empty() && !forgotten.repositories.is_empty() {
        printer.line(format!("  no longer in images.toml, and kept: {}", forgotten.repositories.join(", ")));
    }
}

/// The name of a kind of resource.
fn noun(kind: &str) -> &str {
    match ResourceKind::of(kind) {
        Some(kind) => kind.noun(),
        None => kind,
    }
}

/// The action as shown. `change` is terraform's update in place.
fn verb(action: Action) -> &'static str {
    match action {
        Action::Create => "create",
        Action::Update => "change",
        Action::Replace => "replace",
        Action::Delete => "delete",
        Action::Move => "move",
        Action::Import => "adopt",
        Action::Remove => "leave out of the state",
        Action::Read => "read",
        Action::Noop | Action::Unknown => "keep",
    }
}

/// One line per action and kind, sorted by action.
fn grouped(changes: &[&Change]) -> Vec<String> {
    let mut groups: Vec<(&str, &str, Vec<&str>)> = Vec::new();
    for change in changes {
        let (verb, noun) = (verb(change.action), noun(&change.kind));
        let name = change.index.as_deref().unwrap_or_default();
        match groups.iter_mut().find(|group| (group.0, group.1) == (verb, noun)) {
            Some(group) => group.2.push(name),
            None => groups.push((verb, noun, vec![name])),
        }
    }
    groups.sort_by_key(|(verb, ..)| *verb);
    let lines = groups.into_iter();
    lines
        .map(|(verb, noun, names)| named(&format!("{verb} {}", units::count(names.len(), noun)), &names))
        .collect()
}

/// Existing resources that others manage: they are used and not changed.
fn foreign(config: &Config, resources: &Resources<'_>) -> Vec<String> {
    // If terraform was not started, nothing has changed since these were last shown.
    if resources.up_to_date {
        return Vec::new();
    }
    let inventory = &resources.inventory;
    let mut used: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let repositories = config.repositories.iter().filter(|name| inventory.repositories.contains_key(*name));
    for name in repositories.filter(|name| !inventory.owns(ResourceKind::Repository, name)) {
        used.entry(ResourceKind::Repository.noun()).or_default().push(name);
    }
    let rules = config.pull_through.iter().filter(|rule| inventory.rules.contains_key(&rule.prefix));
    for rule in rules.filter(|rule| !inventory.owns(ResourceKind::Rule, &rule.prefix)) {
        used.entry(ResourceKind::Rule.noun()).or_default().push(&rule.prefix);
    }
    let line = |(noun, names): (&str, Vec<&str>)| {
        named(
            &format!("not managed by this grid, used unchanged: {}", units::count(names.len(), noun)),
            &names,
        )
    };
    used.into_iter().map(line).collect()
}

/// `head: a, b and 3 more`: as many names as fit in the line.
fn named(head: &str, names: &[&str]) -> String {
    let names: Vec<&str> = names.iter().copied().filter(|name| !name.is_empty()).collect();
    let listed = |shown: usize| match names.len() - shown {
        0 => format!("{head}: {}", names.join(", ")),
        rest => format!("{head}: {} and {rest} more", names[..shown].join(", ")),
    };
    match names.len() {
        0 => head.to_owned(),
        all => (1..=all).rev().map(listed).find(|line| line.len() <= COLUMNS).unwrap_or_else(|| listed(1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(kind: &str, index: Option<&str>, action: Action) -> Change {
        Change {
            address: format!("{kind}.managed"),
            previous_address: None,
            kind: kind.to_owned(),
            index: index.map(str::to_owned),
            action,
            reason: None,
            replace_paths: Vec::new(),
            before: serde_json::Value::Null,
            after: serde_json::Value::Null,
        }
    }

    #[test]
    fn changes_of_a_kind_are_one_line_that_fits_a_terminal() {
        let names: Vec<String> = (0..14).map(|number| format!("team/service-{number}")).collect();
        let mut changes: Vec<Change> =
            names.iter().map(|name| change("aws_ecr_repository", Some(name), Action::Create)).collect();
        changes.push(change("aws_kms_key", None, Action::Create));
        changes.push(change("aws_ecr_pull_through_cache_rule", Some("quay"), Action::Update));
        changes.push(change("aws_iam_role", None, Action::Create));
        changes.push(change("aws_ecr_repository", Some("lambda"), Action::Import));
        let lines = grouped(&changes.iter().collect::<Vec<_>>());
        assert_eq!(
            lines,
            [
                "adopt 1 repository: lambda",
                "change 1 pull-through cache rule: quay",
                "create 14 repositories: team/service-0, team/service-1 and 12 more",
                "create 1 KMS key",
                "create 1 aws_iam_role",
            ]
        );
        assert!(lines.iter().all(|line| line.len() <= COLUMNS));
    }
}
