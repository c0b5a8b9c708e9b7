//! `test`: runs everything that CI runs, with a count at the end.

mod counts;
mod programs;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;
use clap::Args;
use failure::{FailWith as _, Kind, failure};
use process::{Cmd, KillHandle, cmd};

use self::programs::Outcome;
use super::Context;
use crate::prerequisites::{COMPLETE, Need, TestEngines};
use crate::ui::{Table, units};
use crate::{cargo, local};

/// Set for the tests by `--soak`: loops run their full number of times.
pub const SOAK: &str = "SOAK";

/// The location of the compiled programs that the tests run.
const BUILT: &str = "HTC_GRID_TEST_BUILT";

/// docker, buildx, terraform and skopeo are started thousands of times and run for a tenth of a second, of which garbage collection
/// would take a tenth.
const IN_GO: [(&str, &str); 1] = [("GOGC", "400")];

/// Number of longest-running programs listed at the end.
const LONGEST: usize = 10;

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
    /// Only the tests whose name contains this, or those in this file or directory of tests/tests
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
            for (name, command) in checks(self.soak)? {
                let step = Instant::now();
                let kill_handle = KillHandle::default();
                let _kill_on_drop = kill_handle.kill_on_drop();
                let run = async { Ok(command.stream(kill_handle, printing(context)).await) };
                let passed = context.interrupt.guard(run).await?.is_ok();
                steps.row([
                    name.into(),
                    if passed { "ok" } else { "FAILED" }.into(),
                    units::duration(step.elapsed()),
                ]);
                if !passed {
                    failed.push(name.to_owned());
                }
            }
        }
        let step = Instant::now();
        let outcome = context.interrupt.guard(self.tests(context)).await;
        context.interrupt.check()?;
        let counts = outcome.as_ref().map(|outcome| outcome.counts).unwrap_or_default();
        steps.row(["tests".into(), counts.to_string(), units::duration(step.elapsed())]);
        match outcome {
            Ok(outcome) if counts.passed == 0 && outcome.failed.is_empty() => failed.push("tests".to_owned()),
            Ok(outcome) => {
                for (name, took) in outcome.took.iter().take(LONGEST) {
                    steps.row([format!("  {name}"), String::new(), units::duration(*took)]);
                }
                failed.extend(outcome.failed);
            }
            Err(error) => {
                context.printer.line(format!("{error:#}"));
                failed.push("tests".to_owned());
            }
        }
        context.printer.line("");
        context.printer.table(&steps);
        context.printer.line(format!("{counts} in {}", units::duration(started.elapsed())));
        let report = serde_json::json!({
            "passed": counts.passed, "failed": counts.failed, "ignored": counts.ignored, "failures": failed,
        });
        context.printer.results().report(&report)?;
        if failed.is_empty() {
            return Ok(());
        }
        let none = self.filter.as_ref().filter(|_| failed == ["tests"] && counts.is_empty());
        let message = match none {
            Some(filter) => format!("no test's name contains {filter}, and tests/tests has no {filter}.rs"),
            None => format!("failed: {}", failed.join(", ")),
        };
        Err(failure(Kind::Unexpected, message))
            .hint(Kind::Unexpected, "`cargo xtask test NAME` runs the tests whose name contains NAME")
    }

    /// Starts the tests' own engines, then compiles and runs the tests.
    async fn tests(&self, context: &Context) -> anyhow::Result<Outcome> {
        let file = self.filter.as_deref().filter(|name| has_file(context.paths.root(), name));
        let selection: Vec<String> = match file {
            Some(file) => ["--workspace", "--test", file].map(str::to_owned).into(),
            None => ["--workspace".to_owned()].into(),
        };
        let compiled = programs::compile(&selection, &context.printer).await?;
        let engines = test_engines(context).await?;
        let mut environment: Vec<(String, String)> =
            engines.environment().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        environment.push((COMPLETE.to_owned(), "1".to_owned()));
        environment.push((BUILT.to_owned(), built(context).await?));
        environment.extend(IN_GO.map(|(name, value)| (name.to_owned(), value.to_owned())));
        if self.soak {
            environment.push((SOAK.to_owned(), "1".to_owned()));
        }
        let filter = self.filter.as_deref().filter(|_| file.is_none());
        let mut outcome = programs::run(compiled, filter, &environment, context).await?;
        if file.is_none() {
            let (counts, passed) = programs::examples(filter, &context.printer).await;
            outcome.counts += counts;
            outcome.failed.extend((!passed).then(|| "the documentation's examples".to_owned()));
        }
        Ok(outcome)
    }
}

/// Whether a file or directory of end-to-end tests has this name.
fn has_file(root: &Path, name: &str) -> bool {
    let tests = root.join("tests/tests");
    tests.join(format!("{name}.rs")).is_file() || tests.join(name).join("main.rs").is_file()
}

/// The checks before the tests. With `soak` also builds that must fail, which shows that the tests detect errors; each of these is
/// a separate compilation.
fn checks(soak: bool) -> anyhow::Result<Vec<(&'static str, Cmd)>> {
    let sh = process::shell()?;
    let mut checks = vec![
        ("format", cmd!(sh, "cargo fmt --all --check")),
        ("lints", cmd!(sh, "cargo clippy --quiet --workspace --all-targets -- -D warnings")),
    ];
    if soak {
        checks.extend([
            ("control", cmd!(sh, "cargo test --package registry --features bugs --test it control_")),
            ("bugs", cmd!(sh, "cargo test --package registry --features bugs --test sim control_")),
        ]);
    }
    Ok(checks)
}

/// The tests' own engines, in addition to the machine's.
///
/// # Errors
/// They are not available for this machine, or do not start.
pub async fn test_engines(context: &Context) -> anyhow::Result<TestEngines> {
    // The output does not show the project's own path.
    let here = format!("{}/", context.paths.root().display());
    let say = |line: &str| context.printer.line(line.replace(&here, ""));
    TestEngines::start(context.paths.target(), &say).await.kind(Kind::MissingTool)
}

/// Compiles the programs that the tests run, and returns their location. Otherwise each test program would call cargo twice.
async fn built(context: &Context) -> anyhow::Result<String> {
    let mut programs = BTreeMap::new();
    // The same package selections as the tool itself uses: another one would recompile all dependencies.
    for packages in [&["xtask"][..], local::PROGRAMS] {
        programs.append(&mut cargo::build(context.paths.root(), packages, &context.printer).await?);
    }
    let place = programs.get("xtask").and_then(|program| program.parent());
    let place = place.context("cargo built no program xtask")?;
    Ok(place.display().to_string())
}

fn printing(context: &Context) -> impl FnMut(&str) + Send + 'static {
    let printer = context.printer.clone();
    move |line| printer.line(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_a_test_file_or_part_of_a_test_name() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        for (name, is_file) in [("fresh_machine", true), ("runtimes", true), ("fresh", false), ("", false)] {
            assert_eq!(has_file(root, name), is_file, "{name}");
        }
    }
}
