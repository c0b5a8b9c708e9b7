//! The output of failing commands, word by word, with the exit code and the time limit: `messages/NAME.txt`. `UPDATE=1` rewrites
//! them; read them as an operator who was woken up would.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not marked as such")]

mod account;
mod deletions;
mod files;
mod network;
mod runs;
mod signed;
mod usage;

use std::time::Duration;

use e2e::{BUCKET, Ended, INIT, Images, Run, STATE, World, programs, root};
use regex::Regex;
use serde_json::json;

const TRANSFER: &str = "transfer-images --auto-approve";

const IMAGES: &str = r#"schema_version = 1
[images]
curl = "curlimages/curl:7.85.0"
"#;

/// The time limits of the messages, in seconds. Each message has the shortest one that is four times its duration when it was
/// recorded (the machine may be busy), or a minute more if most of the time was waiting.
const TIMES: [u64; 5] = [5, 15, 60, 180, 600];

fn world() -> Option<World> {
    let world = World::new(Images::Small)?;
    world.write("images.toml", IMAGES);
    Some(world)
}

fn initialised() -> Option<World> {
    if !programs(&["terraform"]) {
        return None;
    }
    let world = world()?;
    world.xtask(INIT).ok();
    Some(world)
}

/// `xtask` with another registry instead of the account's.
fn at(world: &World, registry: &str, line: &str) -> Run {
    world.sourced().arg("--registry").arg(registry).args(line)
}

fn with_keys(run: Run, key: &str) -> Run {
    run.env("AWS_ACCESS_KEY_ID", key).env("AWS_SECRET_ACCESS_KEY", "local")
}

/// Another user takes the lease.
fn take_lease(world: &World) {
    let lease = json!({
        "who": "ada on laptop (process 7)", "grid": "mainline", "since": "2026-11-22T10:00:00Z", "expires": "2999-01-01T00:00:00Z",
    });
    world.aws().s3.put(BUCKET, &format!("{STATE}.transfer.lock"), lease.to_string().as_bytes());
}

/// Compares the error of a run, its causes and its hints with the recorded text.
#[track_caller]
fn reads(world: &World, name: &str, run: &Ended) {
    reads_at(world, name, run, "nowhere");
}

/// The same, for a run whose registry is at `host`.
#[track_caller]
fn reads_at(world: &World, name: &str, run: &Ended, host: &str) {
    let lines = run.stderr.lines().skip_while(|line| !line.starts_with("error: ")).collect::<Vec<_>>();
    assert!(!lines.is_empty(), "no error in\n{run}");
    compare(name, run, &masked(world, &lines.join("\n"), &[(host, "REGISTRY")]));
}

/// The same for the whole output of a run, without parts that differ on each machine.
#[track_caller]
fn reads_whole(world: &World, name: &str, run: &Ended, masks: &[(&str, &str)]) {
    let mut text = run.stderr.clone();
    if !run.stdout.is_empty() {
        text += &format!("on stdout:\n{}", run.stdout);
    }
    let text = masked(world, text.trim_end(), masks);
    let digest = Regex::new("[0-9a-f]{12,64}").unwrap();
    let text = digest.replace_all(&text, |found: &regex::Captures<'_>| "0".repeat(found[0].len()));
    let text = Regex::new("[0-9]{4}-[0-9]{2}-[0-9]{2}\\b").unwrap().replace_all(&text, "YYYY-MM-DD");
    compare(name, run, &text);
}

/// A text without parts that differ on each machine.
fn masked(world: &World, text: &str, masks: &[(&str, &str)]) -> String {
    let mut text = text.replace(&world.path("").display().to_string(), "DIR/");
    text = text.replace(&root().display().to_string(), "PROJECT").replace(&world.sources.host, "SAMPLES");
    if world.path("local/local-aws/server.json").exists() {
        text = text.replace(&world.aws().host, "HOST");
    }
    for (from, to) in masks {
        text = text.replace(from, to);
    }
    // The request IDs in AWS's answers.
    Regex::new("RequestID: [^ \n]+").unwrap().replace_all(&text, "RequestID: ID,").into_owned()
}

#[track_caller]
fn compare(name: &str, run: &Ended, text: &str) {
    let path = root().join("tests/tests/messages").join(format!("{name}.txt"));
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    let mut longest = longest(&kept);
    if std::env::var_os("UPDATE").is_some() {
        // A time limit that is still sufficient is kept.
        let spare = (run.took * 3).min(Duration::from_secs(60));
        let fitting = || TIMES.into_iter().find(|time| run.took + spare < Duration::from_secs(*time));
        longest = longest.filter(|time| run.took < Duration::from_secs(*time)).or_else(fitting);
        std::fs::write(&path, message(run, longest.unwrap(), text)).unwrap();
    }
    let Some(longest) = longest else { panic!("{name} is not written down; UPDATE=1 does that: {run}") };
    assert!(run.took < Duration::from_secs(longest), "{name} took {:?}: {run}", run.took);
    let (found, wanted) = (message(run, longest, text), std::fs::read_to_string(&path).unwrap());
    assert_eq!(found, wanted, "{name} reads otherwise than written down; all of it:\n{run}");
}

/// The time limit in a message's first line.
fn longest(message: &str) -> Option<u64> {
    let (_, time) = message.lines().next()?.split_once(", within ")?;
    time.strip_suffix(" s")?.parse().ok()
}

fn message(run: &Ended, longest: u64, text: &str) -> String {
    format!("exit code {}, within {longest} s\n{text}\n", run.code.unwrap())
}
