//! `test`: everything that CI runs, in one command, with a count at the end.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use clap::Args;

use super::Context;
use crate::error::{Exit, FailWith as _, failure};
use crate::prerequisites::{Need, TestEngines};
use crate::process::{Cmd, Killer};
use crate::ui::{Table, units};

/// Set for the tests: a program or an engine that is missing fails the test that needs it instead of skipping it.
pub const COMPLETE: &str = "HTC_GRID_TEST_COMPLETE";
/// Set for the tests by `--soak`: loops run at their full numbers.
pub const SOAK: &str = "SOAK";

/// Run everything that CI runs: format, lints, unit tests, and the real binary end to end
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo xtask test\n  cargo xtask test --soak\n\n`cargo test` alone runs what needs neither root nor a container engine."
)]
pub struct Test {
    /// Run every loop at its full number: hours, not minutes
    #[arg(long)]
    soak: bool,
    /// Install and start what is missing without asking (CI=true means the same)
    #[arg(long, short)]
    yes: bool,
    /// Only the tests whose name contains this, or, where it names a file or directory of tests/tests, those in it
    filter: Option<String>,
}

impl Test {
    /// Runs the command.
    ///
    /// # Errors
    /// Something that the tests need is missing, or a step fails.
    pub async fn run(self, context: &Context) -> anyhow::Result<()> {
        let started = Instant::now();
        context.ready(Need::TEST, self.yes).await?;
        let mut steps = Table::new(["STEP", "RESULT", "TIME"]);
        let mut failed = Vec::new();
        if self.filter.is_none() {
            for (name, arguments) in CHECKS.iter().chain(CONTROLS.iter().filter(|_| self.soak)) {
                let step = Instant::now();
                let result = self.cargo(arguments).stream(Killer::default(), printing(context)).await;
                let passed = result.is_ok();
                steps.row([
                    (*name).into(),
                    if passed { "ok" } else { "FAILED" }.into(),
                    units::duration(step.elapsed()),
                ]);
                if !passed {
                    failed.push(*name);
                }
            }
        }
        let step = Instant::now();
        let counts = Arc::new(Mutex::new(Counts::default()));
        let engines = test_engines(context).await?;
        let tests = engines
            .environment()
            .into_iter()
            .fold(self.tests(context.paths.root()), |tests, (name, value)| tests.env(name, value));
        let result = {
            let (counts, print) = (Arc::clone(&counts), context.printer.clone());
            let count = move |line: &str| {
                print.line(line);
                if let Ok(mut counts) = counts.lock() {
                    counts.add(line);
                }
            };
            tests.stream(Killer::default(), count).await
        };
        drop(engines);
        let counts = counts.lock().map(|counts| *counts).unwrap_or_default();
        steps.row(["tests".into(), counts.to_string(), units::duration(step.elapsed())]);
        if result.is_err() || counts.failed > 0 || counts.passed == 0 {
            failed.push("tests");
        }
        context.printer.line("");
        context.printer.table(&steps);
        context.printer.line(format!("{counts} in {}", units::duration(started.elapsed())));
        if failed.is_empty() {
            return Ok(());
        }
        let none = self.filter.as_ref().filter(|_| result.is_ok() && counts == Counts::default());
        let message = match none {
            Some(filter) => format!("no test's name contains {filter}, and tests/tests has no {filter}.rs"),
            None => format!("failed: {}", failed.join(", ")),
        };
        Err(failure(Exit::Unexpected, message))
            .hint(Exit::Unexpected, "`cargo xtask test NAME` runs the tests whose name contains NAME")
    }

    fn cargo(&self, arguments: &[&str]) -> Cmd {
        Cmd::cargo().args(arguments.iter().copied())
    }

    fn tests(&self, root: &Path) -> Cmd {
        let mut tests = self.cargo(&["test", "--workspace", "--no-fail-fast"]).env(COMPLETE, "1");
        if self.soak {
            tests = tests.env(SOAK, "1");
        }
        match &self.filter {
            Some(file) if has_file(root, file) => tests.args(["--test", file]),
            Some(filter) => tests.arg(filter),
            None => tests,
        }
    }
}

/// Whether there is a file or directory of end-to-end tests of this name.
fn has_file(root: &Path, name: &str) -> bool {
    let tests = root.join("tests/tests");
    tests.join(format!("{name}.rs")).is_file() || tests.join(name).join("main.rs").is_file()
}

/// What is checked before the tests run.
const CHECKS: &[(&str, &[&str])] = &[
    ("format", &["fmt", "--all", "--check"]),
    ("lints", &["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]),
];

/// What must fail, so that what passes means something; a compilation of its own each.
const CONTROLS: &[(&str, &[&str])] = &[
    ("control", &["test", "--package", "registry", "--features", "unverified", "--test", "it", "control_"]),
    ("bugs", &["test", "--package", "registry", "--features", "bugs", "--test", "sim", "control_"]),
];

/// The engines that the tests have beside the machine's own.
///
/// # Errors
/// They cannot be had on this machine, or do not start.
pub async fn test_engines(context: &Context) -> anyhow::Result<TestEngines> {
    // No output shows where the project stands.
    let here = format!("{}/", context.paths.root().display());
    let say = |line: &str| context.printer.line(line.replace(&here, ""));
    TestEngines::start(context.paths.target(), &say).await.exit(Exit::MissingTool)
}

fn printing(context: &Context) -> impl FnMut(&str) + Send + 'static {
    let printer = context.printer.clone();
    move |line| printer.line(line)
}

/// How many tests there were, read from cargo's own closing lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: u32,
    failed: u32,
    ignored: u32,
}

impl Counts {
    /// Adds `test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; ...`.
    fn add(&mut self, line: &str) {
        let Some(result) = line.trim().strip_prefix("test result:") else { return };
        for part in result.split([';', '.']) {
            let mut words = part.split_whitespace();
            if let (Some(number), Some(word)) =
                (words.next().and_then(|n| n.parse::<u32>().ok()), words.next())
            {
                match word {
                    "passed" => self.passed += number,
                    "failed" => self.failed += number,
                    "ignored" => self.ignored += number,
                    _ => {}
                }
            }
        }
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} tests passed, {} failed, {} ignored", self.passed, self.failed, self.ignored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_that_of_a_file_of_tests_or_part_of_a_test_s_name() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        for (name, is_file) in [("fresh_machine", true), ("runtimes", true), ("fresh", false), ("", false)] {
            assert_eq!(has_file(root, name), is_file, "{name}");
        }
    }

    #[test]
    fn cargo_s_closing_lines_are_counted() {
        let mut counts = Counts::default();
        counts.add(
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.08s",
        );
        counts.add("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s");
        counts.add("test tests::x ... ok");
        assert_eq!(counts.to_string(), "15 tests passed, 2 failed, 1 ignored");
    }
}
