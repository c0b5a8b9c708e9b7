//! Why a build failed, in a few lines for a terminal.

use super::{Step, clipped, exit_code};

/// Width of an error's lines: 80 columns minus the indentation.
const WIDTH: usize = 72;
/// How many rows of a step's own output an error shows.
const ROWS: usize = 8;
/// A line is cut to two rows.
const WIDEST: usize = 2 * WIDTH;

/// Words in lines that contain the reason. Many programs print such a line and then a page about their options.
const SIGNS: [&str; 13] = [
    "error",
    "fatal",
    "failed",
    "cannot",
    "could not",
    "unable",
    "unknown",
    "unrecognized",
    "invalid",
    "not found",
    "no such",
    "denied",
    "refused",
];

/// BuildKit's reason for a step that was stopped because another one failed.
pub(super) const CANCELED: &str = "context canceled";

/// Prefixes that the clients print before the reason, one or several times.
const BEFORE: [&str; 8] = [
    "ERROR: ",
    "Error: ",
    "failed to build: ",
    "failed to solve: ",
    "failed to solve with frontend dockerfile.v0: ",
    "failed to create LLB definition: ",
    "rpc error: code = Unknown desc = ",
    "Error response from daemon: ",
];

/// A build that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildFailure {
    /// The failed step; `None` if the Dockerfile cannot be read or no step was started.
    pub step: Option<Step>,
    /// The exit code of the step's program.
    pub code: Option<i32>,
    /// The step's last lines.
    pub lines: Vec<String>,
    /// The builder's reason; `None` if there is the exit code of a program.
    pub reason: Option<String>,
    /// The log with the whole output.
    pub log: Option<String>,
}

impl BuildFailure {
    /// A step's failure: its lines and the builder's reason.
    pub(super) fn of_step(step: Step, lines: Vec<String>, reason: Option<String>) -> Self {
        let code = reason.as_deref().and_then(exit_code);
        // With an exit code, the rest of the reason only repeats the command line.
        let reason = reason.filter(|_| code.is_none()).map(|reason| bare(&reason).to_owned());
        Self { step: Some(step), code, lines, reason, log: None }
    }

    /// A failure outside of any step: the client's last line.
    pub(super) fn of_client(said: &[String]) -> Self {
        let last = said.iter().rev().find(|line| !line.trim().is_empty());
        let reason = last.map(|line| bare(line.trim()).to_owned());
        Self { step: None, code: None, lines: Vec::new(), reason, log: None }
    }

    /// The step's last lines that fit into [`ROWS`]. If none of them contains a reason and an earlier one does, that one comes first.
    fn shown(&self) -> Vec<String> {
        let lines: Vec<String> =
            self.lines.iter().filter(|line| !line.trim().is_empty()).map(|line| one(line)).collect();
        let mut from = fitting(&lines, ROWS);
        let tells = |line: &String| SIGNS.iter().any(|sign| line.to_lowercase().contains(sign));
        let earlier = if lines[from..].iter().any(tells) {
            None
        } else {
            lines[..from].iter().rfind(|line| tells(line))
        };
        let Some(earlier) = earlier else { return lines[from..].to_vec() };
        from = fitting(&lines, ROWS.saturating_sub(rows(earlier) + 1));
        [earlier.clone(), "…".to_owned()].into_iter().chain(lines[from..].iter().cloned()).collect()
    }
}

/// A line as shown.
fn one(line: &str) -> String {
    clipped(&line.replace('\t', "    "), WIDEST)
}

fn rows(line: &str) -> usize {
    line.chars().count().div_ceil(WIDTH)
}

/// The index of the first of the last lines that together fit into `most` rows.
fn fitting(lines: &[String], most: usize) -> usize {
    let mut taken = 0;
    let fit = lines.iter().rev().take_while(|line| {
        taken += rows(line);
        taken <= most
    });
    lines.len() - fit.count()
}

impl std::error::Error for BuildFailure {}

impl std::fmt::Display for BuildFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.step.as_ref().map(|step| (step, step.counted())) {
            Some((_, Some(counted))) => write!(f, "{counted} of the build failed")?,
            Some((_, None)) | None => f.write_str("the build failed")?,
        }
        if let Some(code) = self.code {
            write!(f, " with exit code {code}")?;
        }
        match (&self.step, &self.reason) {
            (None, Some(reason)) => write!(f, ": {reason}")?,
            (Some(step), _) => write!(f, "\n    {}", clipped(&step.instruction, WIDTH))?,
            (None, None) => {}
        }
        for line in self.shown() {
            write!(f, "\n      {line}")?;
        }
        if let (Some(_), Some(reason)) = (&self.step, &self.reason) {
            write!(f, "\n      {}", clipped(reason, WIDEST))?;
        }
        if let Some(log) = &self.log {
            write!(f, "\n    the whole output: {log}")?;
        }
        Ok(())
    }
}

/// The reason without prefixes.
fn bare(reason: &str) -> &str {
    BEFORE.iter().find_map(|words| reason.strip_prefix(words)).map_or(reason, bare)
}
