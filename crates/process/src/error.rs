//! Why a program did not do what it was started for.

use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use crate::Cmd;

/// How much of a program's output an error keeps, in lines.
pub(super) const TAIL_LINES: usize = 40;

/// Why a program did not do what it was started for.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The program is not installed.
    #[error("{program} is not installed or not in PATH")]
    Missing {
        /// The program's name.
        program: String,
    },
    /// The operating system refused to start it.
    #[error("could not start {program}")]
    Start {
        /// The program's name.
        program: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// There is no directory to start it in.
    #[error("the working directory cannot be used")]
    Directory(#[source] xshell::Error),
    /// It took longer than it may, and was killed.
    #[error("{program} did not end within {after:?} and was killed")]
    Late {
        /// The program's name.
        program: String,
        /// How long it could take.
        after: Duration,
    },
    /// It printed more than it may, and was killed.
    #[error("{program} printed more than {bytes} bytes and was killed")]
    Endless {
        /// The program's name.
        program: String,
        /// How much it could print.
        bytes: u64,
    },
    /// It ran and failed.
    #[error("`{command}` ended with {status}{}", tail_text(tail))]
    Failed {
        /// The command line, without what went through stdin.
        command: String,
        /// The exit status as text.
        status: String,
        /// The exit code, where there was one.
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

    /// The last lines that the program printed, where it ran.
    pub fn tail(&self) -> &[String] {
        match self {
            Self::Failed { tail, .. } => tail,
            _ => &[],
        }
    }
}

/// A program's name, without where it is.
pub(super) fn name(program: &OsStr) -> String {
    Path::new(program).file_name().unwrap_or(program).to_string_lossy().into_owned()
}

fn tail_text(tail: &[String]) -> String {
    tail.iter().map(|line| format!("\n    {line}")).collect()
}
