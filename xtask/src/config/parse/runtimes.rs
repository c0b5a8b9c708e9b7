//! `[runtimes]`.

use std::collections::BTreeMap;

use registry::Platform;

use super::checked;
use crate::config::reader::{Entry, Fields, Node, Place};
use crate::config::values::{dotted, platforms, reference};
use crate::config::{DEFAULT_ENTRY_POINT, Runtime, names};

pub(super) fn runtimes<'a>(
    table: &Fields<'a>,
    default_platforms: &[Platform],
    has_file: &dyn Fn(&str) -> bool,
) -> Vec<(Runtime, Place<'a>)> {
    const FIELDS: [&str; 6] = ["base", "entry_point", "platforms", "enabled", "build_args", "epoch"];
    let mut runtimes = Vec::new();
    for entry in table.entries() {
        if dotted(&entry, &FIELDS) {
            continue;
        }
        runtimes
            .extend(runtime(&entry, default_platforms, has_file).map(|runtime| (runtime, entry.key.clone())));
    }
    runtimes.sort_by_key(|(runtime, _)| runtime.line);
    runtimes
}

fn runtime(
    entry: &Entry<'_>,
    default_platforms: &[Platform],
    has_file: &dyn Fn(&str) -> bool,
) -> Option<Runtime> {
    if let Err(why) = names::runtime(entry.name) {
        entry.key.fail(why);
    }
    let mut wanted = default_platforms.to_vec();
    let (mut enabled, mut epoch, mut build_args, mut entry_point) = (true, None, BTreeMap::new(), None);
    let base_node = if entry.value.is_string() {
        entry.value.clone()
    } else if entry.value.is_table() {
        let mut fields = entry.value.table()?;
        let base = fields.require("base");
        entry_point = fields.take("entry_point");
        if let Some(given) = fields.take("platforms") {
            wanted = platforms(&given).unwrap_or_default();
        }
        enabled = fields.take("enabled").and_then(|node| node.boolean()).unwrap_or(true);
        epoch = fields.take("epoch").and_then(|node| node.word());
        if let Some(arguments) = fields.table("build_args") {
            build_args = arguments_of(&arguments);
        }
        fields.finish();
        base?
    } else {
        return entry.value.expected("a base such as \"public.ecr.aws/lambda/java:21\", or a table with one");
    };
    let base = reference(&base_node);
    let place = entry_point.as_ref().map_or_else(|| entry.key.clone(), Node::place);
    let entry_point = match &entry_point {
        Some(node) => checked(node, names::file),
        None => Some(DEFAULT_ENTRY_POINT.to_owned()),
    };
    if let Some(file) = entry_point.as_ref().filter(|file| !has_file(file)) {
        place.fail_with(
            format!("runtimes/ has no entry point `{file}`"),
            "entry_point names a file in runtimes/",
        );
    }
    let base = base?;
    if base.tag().is_none() && base.digest().is_none() {
        base_node.fail(format!(
            "the base `{}` has neither tag nor digest",
            base_node.string().unwrap_or_default()
        ));
    }
    Some(Runtime {
        name: entry.name.to_owned(),
        base,
        entry_point: entry_point?,
        platforms: wanted,
        enabled,
        build_args,
        epoch,
        line: entry.key.line(),
    })
}

fn arguments_of(table: &Fields<'_>) -> BTreeMap<String, String> {
    let mut arguments = BTreeMap::new();
    for entry in table.entries() {
        if let Err(why) = names::build_arg(entry.name) {
            entry.key.fail(why);
        }
        arguments.extend(entry.value.string().map(|value| (entry.name.to_owned(), value.to_owned())));
    }
    arguments
}
