//! Runs the test programs: compiled by cargo, then one per core in parallel.
//!
//! cargo itself runs one program at a time, but many tests wait for a builder, for terraform or for a timeout.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use images_config::atomic;
use process::{Cmd, KillHandle, cmd};

use super::counts::Counts;
use crate::cargo::{self, TestProgram};
use crate::commands::Context;
use crate::ui::{Printer, units};

/// The result of a test run.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The counted tests.
    pub counts: Counts,
    /// The test files that failed, or ended without a result.
    pub failed: Vec<String>,
    /// The duration of each file, the longest first.
    pub took: Vec<(String, Duration)>,
}

/// The result of one program.
struct Ended {
    name: String,
    counts: Counts,
    passed: bool,
    took: Duration,
}

/// Compiles the test programs selected by `selection`, arguments of `cargo test`.
///
/// # Errors
/// They do not compile.
pub async fn compile(selection: &[String], printer: &Printer) -> anyhow::Result<Vec<TestProgram>> {
    let command = cmd!(
        process::shell()?,
        "cargo test --no-run --message-format json-render-diagnostics {selection...}"
    );
    let programs = Arc::new(Mutex::new(Vec::new()));
    let (found, print) = (Arc::clone(&programs), printer.clone());
    let kill_handle = KillHandle::default();
    let _kill_on_drop = kill_handle.kill_on_drop();
    let compiled = command.stream(kill_handle, move |line| {
        if !line.starts_with('{') {
            print.line(line);
        } else if let (Some(program), Ok(mut found)) = (cargo::test_program(line), found.lock()) {
            found.push(program);
        }
    });
    compiled.await?;
    Ok(programs.lock().map(|programs| programs.clone()).unwrap_or_default())
}

/// The programs that take minutes, longest first. Without measurements, in a new clone, one of them could run last and alone.
const LONG: [&str; 8] = [
    "tests/tests/full_run.rs",
    "tests/tests/runtimes/main.rs",
    "tests/tests/fresh_machine.rs",
    "crates/runtimes/src/lib.rs",
    "tests/tests/build_content.rs",
    "tests/tests/no_silent_waits.rs",
    "tests/tests/iam_policy.rs",
    "tests/tests/equal_digests.rs",
];

/// Runs the programs, starting with those that took longest the last time.
///
/// # Errors
/// The durations cannot be saved.
pub async fn run(
    mut programs: Vec<TestProgram>,
    filter: Option<&str>,
    environment: &[(String, String)],
    context: &Context,
) -> anyhow::Result<Outcome> {
    let times = context.paths.target().join("xtask/test-times.json");
    let mut took: BTreeMap<String, u64> =
        std::fs::read(&times).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    let name = |program: &TestProgram| name(context.paths.root(), program);
    programs.sort_by_key(|program| turn(&name(program), &took));
    let at_once = std::thread::available_parallelism().map_or(1, usize::from);
    let mut running = futures_util::stream::iter(&programs)
        .map(|program| one(name(program), program, filter, environment, &context.printer))
        .buffer_unordered(at_once);
    let mut outcome = Outcome::default();
    while let Some(ended) = running.next().await {
        outcome.counts += ended.counts;
        if filter.is_none() {
            took.insert(ended.name.clone(), u64::try_from(ended.took.as_millis()).unwrap_or(u64::MAX));
        }
        if !ended.passed {
            outcome.failed.push(ended.name.clone());
        }
        outcome.took.push((ended.name, ended.took));
    }
    outcome.took.sort_by_key(|(_, took)| std::cmp::Reverse(*took));
    atomic::write(&times, &serde_json::to_vec_pretty(&took)?)?;
    Ok(outcome)
}

/// A program's position in the order. Unmeasured ones come first, because they may be long.
fn turn(name: &str, took: &BTreeMap<String, u64>) -> (std::cmp::Reverse<u64>, usize) {
    let took = took.get(name).copied().unwrap_or(u64::MAX);
    (std::cmp::Reverse(took), LONG.iter().position(|long| *long == name).unwrap_or(LONG.len()))
}

/// Runs the examples in the documentation, which only cargo can run.
///
/// # Errors
/// One fails.
pub async fn examples(filter: Option<&str>, printer: &Printer) -> (Counts, bool) {
    let Ok(command) = process::shell().map(|sh| cmd!(sh, "cargo test --quiet --workspace --doc {filter...}"))
    else {
        return (Counts::default(), false);
    };
    let (counts, kept) = (Arc::new(Mutex::new(Counts::default())), Arc::new(Mutex::new(Vec::new())));
    let (count, keep) = (Arc::clone(&counts), Arc::clone(&kept));
    let kill_handle = KillHandle::default();
    let _kill_on_drop = kill_handle.kill_on_drop();
    let result = command.stream(kill_handle, move |line| {
        if let (Ok(mut counts), Ok(mut kept)) = (count.lock(), keep.lock()) {
            counts.add(line);
            kept.push(line.to_owned());
        }
    });
    let passed = result.await.is_ok();
    if !passed && let Ok(kept) = kept.lock() {
        kept.iter().for_each(|line| printer.line(line));
    }
    (counts.lock().map(|counts| *counts).unwrap_or_default(), passed)
}

/// Runs one program like `cargo test`; it ends when the caller stops waiting. Each test's result is printed when it ends, other
/// output at once, and the output of failed tests when all have ended.
async fn one(
    name: String,
    program: &TestProgram,
    filter: Option<&str>,
    environment: &[(String, String)],
    printer: &Printer,
) -> Ended {
    let begun = Instant::now();
    let command = Cmd::new(&program.path).args(filter.map(str::to_owned)).cwd(&program.package);
    let command = environment.iter().fold(command, |command, (name, value)| command.env(name, value));
    let command = command.env("CARGO_MANIFEST_DIR", &program.package);
    let lane = printer.progress().lane(&name);
    let seen = Arc::new(Mutex::new((Counts::default(), Vec::new())));
    let (keep, print, file) = (Arc::clone(&seen), printer.clone(), name.clone());
    let kill_handle = KillHandle::default();
    let _kill_on_drop = kill_handle.kill_on_drop();
    let result = command.stream(kill_handle, move |line| {
        let Ok(mut seen) = keep.lock() else { return };
        seen.0.add(line);
        lane.news(line);
        if line.starts_with("test result:") {
            return;
        }
        match line.strip_prefix("test ") {
            _ if line == "failures:" || !seen.1.is_empty() => seen.1.push(line.to_owned()),
            Some(test) => print.line(format!("{file}: {test}")),
            None if is_of_the_harness(line) => {}
            None => print.line(format!("{file}: {line}")),
        }
    });
    let result = result.await;
    let took = begun.elapsed();
    let (counts, kept) = seen.lock().map(|seen| seen.clone()).unwrap_or_default();
    kept.iter().for_each(|line| printer.line(line));
    if !counts.is_empty() || result.is_err() {
        printer.line(format!("{name}: {counts} in {}", units::duration(took)));
    }
    if let Err(error) = &result
        && counts.failed == 0
    {
        printer.line(format!("{name}: {error}"));
    }
    Ended { name, counts, passed: result.is_ok(), took }
}

/// Whether the line is only the harness's count, or empty.
fn is_of_the_harness(line: &str) -> bool {
    let is_count = line.starts_with("running ") && (line.ends_with(" tests") || line.ends_with(" test"));
    line.is_empty() || is_count
}

/// A program's name: the root file of its source, relative to the workspace.
fn name(root: &Path, program: &TestProgram) -> String {
    let path: PathBuf = program.source.strip_prefix(root).unwrap_or(&program.source).into();
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_harnesss_result_line_is_distinguished_from_tests_output() {
        assert!(
            is_of_the_harness("running 3 tests")
                && is_of_the_harness("")
                && is_of_the_harness("running 1 test")
        );
        assert!(!is_of_the_harness("SKIPPED: no docker") && !is_of_the_harness("running out of ideas"));
    }

    #[test]
    fn the_longest_programs_start_first() {
        let took = [("b".to_owned(), 2), ("c".to_owned(), 9)].into();
        let mut names = ["a", "b", LONG[1], "c", LONG[0]];
        names.sort_by_key(|name| turn(name, &took));
        assert_eq!(names, [LONG[0], LONG[1], "a", "c", "b"]);
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        for name in LONG {
            assert!(root.join(name).is_file(), "{name}");
        }
    }

    #[tokio::test]
    async fn a_program_ends_when_its_waiter_is_dropped() {
        let room = tempfile::tempdir().unwrap();
        let (program, pid) = (room.path().join("program"), room.path().join("pid"));
        std::fs::write(&program, format!("#!/bin/sh\necho $$ >'{}'\nexec sleep 600\n", pid.display()))
            .unwrap();
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let program = TestProgram { source: "x.rs".into(), package: room.path().into(), path: program };
        let printer = Printer::new(crate::ui::OutputOptions::default(), crate::ui::Document::default());
        let begun = async {
            while !std::fs::read_to_string(&pid).is_ok_and(|pid| pid.ends_with('\n')) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            _ = one("x".to_owned(), &program, None, &[], &printer) => panic!("it ended by itself"),
            () = begun => {}
        }
        let process = format!("/proc/{}", std::fs::read_to_string(&pid).unwrap().trim());
        let ended = async {
            // A process that has ended, but whose status was not collected, has no command line.
            while std::fs::read(format!("{process}/cmdline")).is_ok_and(|line| !line.is_empty()) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), ended).await.unwrap();
    }

    #[test]
    fn a_program_is_named_after_its_source_file() {
        let program =
            |source: &str| TestProgram { source: source.into(), package: "/w/x".into(), path: "/t/x".into() };
        assert_eq!(name(Path::new("/w"), &program("/w/tests/tests/full_run.rs")), "tests/tests/full_run.rs");
        assert_eq!(name(Path::new("/w"), &program("/v/x.rs")), "/v/x.rs");
    }
}
