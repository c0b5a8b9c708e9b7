//! Errors of programs.

use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use crate::Cmd;

/// How many lines of a program's output an error keeps.
pub(super) const TAIL_LINES: usize = 40;

/// Why a program could not be started or failed.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The program is not installed.
    #[error("{program} is not installed or not in PATH")]
    Missing {
        /// The program's name.
        program: String,
    },
    /// It could not be started.
    #[error("could not start {program}")]
    Start {
        /// The program's name.
        program: String,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The working directory does not exist.
    #[error("the working directory cannot be used")]
    Directory(#[source] xshell::Error),
    /// It was to be ended before it started.
    #[error("{program} was not started")]
    Cancelled {
        /// The program's name.
        program: String,
    },
    /// It exceeded its time limit and was killed.
    #[error("{program} did not end within {after:?} and was killed")]
    Late {
        /// The program's name.
        program: String,
        /// The time limit.
        after: Duration,
    },
    /// It exceeded its output limit and was killed.
    #[error("{program} printed more than {bytes} bytes and was killed")]
    Endless {
        /// The program's name.
        program: String,
        /// The output limit.
        bytes: u64,
    },
    /// It ended with an error.
    #[error("`{command}` ended with {status}{}", tail_text(tail))]
    Failed {
        /// The command line, without the text sent to stdin.
        command: String,
        /// The exit status as text.
        status: String,
        /// The exit code. `None` if a signal ended it.
        code: Option<i32>,
        /// The last lines it printed.
        tail: Vec<String>,
    },
}

impl ProcessError {
    pub(super) fn start(program: &OsStr, source: std::io::Error) -> Self {
        let program = name(program);
        match source.kind() {
            std::io::ErrorKind::NotFound => Self::Missing { program },
            _ => Self::Start { program, source },
        }
    }

    pub(super) fn failed(command: &Cmd, status: ExitStatus, mut tail: Vec<String>) -> Self {
        let tail = tail.split_off(tail.len().saturating_sub(TAIL_LINES));
        Self::Failed { command: command.to_string(), status: status.to_string(), code: status.code(), tail }
    }

    /// The last lines that the program printed; empty if it did not run to its end.
    pub fn tail(&self) -> &[String] {
        match self {
            Self::Failed { tail, .. } => tail,
            _ => &[],
        }
    }
}

/// A program's name, without its directory.
pub(super) fn name(program: &OsStr) -> String {
    Path::new(program).file_name().unwrap_or(program).to_string_lossy().into_owned()
}

fn tail_text(tail: &[String]) -> String {
    tail.iter().map(|line| format!("\n    {line}")).collect()
}
