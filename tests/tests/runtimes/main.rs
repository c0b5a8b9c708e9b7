//! The runtimes by the real binary: never built twice, never lost.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not marked as such")]

mod attestations;
mod away;
mod builders;
mod contributor;
mod decisions;
mod lease;
mod rebuilds;
mod tags;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use e2e::{Ended, Gate, Project, Run};
use serde_json::Value;

/// A proxy before the project's registry, and the text of the request that it holds: none at first.
fn gate(project: &Project) -> (Gate, Arc<Mutex<String>>) {
    let held = Arc::new(Mutex::new(String::new()));
    let words = Arc::clone(&held);
    let gate = Gate::before(project.registry.host(), move |line| {
        let words = words.lock().unwrap();
        !words.is_empty() && line.contains(words.as_str())
    });
    (gate, held)
}

fn action(run: &Ended) -> String {
    run.json()["runtimes"][0]["action"].as_str().unwrap().to_owned()
}

/// The moves of the project's runtime.
fn moves(project: &Project) -> Vec<Value> {
    let run = rebuild(project, &format!("--builds {} --format json", project.name)).ok();
    run.json()["moves"].as_array().unwrap().clone()
}

/// The tags without the record of their moves, which changes with each move.
fn without_record(mut tags: BTreeMap<String, String>) -> BTreeMap<String, String> {
    tags.retain(|tag, _| !tag.ends_with("-history"));
    tags
}

/// `rebuild-runtimes` at the project's registry.
fn rebuild(project: &Project, line: &str) -> Run {
    let run = project.xtask("").arg("--registry").arg(project.registry.host());
    run.args("rebuild-runtimes").args(line)
}
