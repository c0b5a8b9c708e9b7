//! The state after a killed run, and the next run's recovery.

use std::collections::BTreeSet;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;

use crate::{Aws, BUCKET, Ended, STATE, TERRAFORM, World};

/// Waits until the terraform of a killed run has ended, and ends the provider that it may leave running.
pub fn wait_for_terraform(group: u32, said: &str) {
    let works = |stat: String| {
        let Some((name, rest)) = stat.rsplit_once(") ") else { return false };
        let fields: Vec<&str> = rest.split(' ').collect();
        name.ends_with("(terraform") && fields.get(2) == Some(&group.to_string().as_str()) && fields[0] != "Z"
    };
    let since = std::time::Instant::now();
    let all = || Path::new("/proc").read_dir().unwrap().flatten();
    while all().filter_map(|process| std::fs::read_to_string(process.path().join("stat")).ok()).any(works) {
        assert!(since.elapsed().as_secs() < 60, "terraform does not end: {said}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let group = Pid::from_raw(i32::try_from(group).unwrap()).unwrap();
    let _ = kill_process_group(group, Signal::KILL);
}

/// Type and ID of resources that are in the account but not in the state.
pub fn orphans(aws: &Aws) -> Vec<String> {
    let state: Value =
        aws.s3.get(BUCKET, STATE).map_or(Value::Null, |state| serde_json::from_slice(&state).unwrap());
    let mut recorded = BTreeSet::new();
    for resource in state["resources"].as_array().into_iter().flatten() {
        let kind = resource["type"].as_str().unwrap();
        for instance in resource["instances"].as_array().unwrap() {
            recorded.insert(format!("{kind} {}", instance["attributes"]["id"].as_str().unwrap_or_default()));
        }
    }
    let existing = aws.emulator.resources().into_iter();
    let existing = existing.flat_map(|(kind, ids)| ids.into_iter().map(move |id| format!("{kind} {id}")));
    existing.filter(|named| !recorded.contains(named)).collect()
}

/// The next run completes. After a SIGKILL terraform's lock may remain: then the error has the command that releases it, and this works.
pub fn completes(world: &World, line: &str, killed: bool, said: &str) -> Ended {
    let mut run = world.xtask(line).end();
    if let Some((_, id)) = run.stderr.split_once("--release-lock ").filter(|_| run.code == Some(TERRAFORM)) {
        assert!(killed, "a lock stays\n{said}\n{run}");
        let id: String = id.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
        world.xtask(&format!("init-images --release-lock {id}")).ok();
        run = world.xtask(line).end();
    }
    assert_eq!(run.code, Some(0), "{said}\n{line}: {run}");
    run
}
