//! The exit code of each kind of failure.

use failure::{Kind, kind_of, render};

/// The exit codes as `--help` shows them.
pub const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 unexpected, 2 usage, 3 bad configuration, 4 missing tool, 5 credentials, 6 refused,
7 upstream, 8 registry, 9 terraform, 10 docker, 130 interrupted.";

/// The documented, stable exit code of a kind of failure.
fn exit_code(kind: Kind) -> u8 {
    match kind {
        Kind::Unexpected => 1,
        Kind::Usage => 2,
        Kind::Config => 3,
        Kind::MissingTool => 4,
        Kind::Credentials => 5,
        Kind::Refused => 6,
        Kind::Upstream => 7,
        Kind::Registry => 8,
        Kind::Terraform => 9,
        Kind::Docker => 10,
        Kind::Interrupted => 130,
    }
}

/// Tells the user, and gives the process's exit code.
pub fn exit_with(error: &anyhow::Error) -> std::process::ExitCode {
    crate::ui::last_words(&render(error));
    std::process::ExitCode::from(exit_code(kind_of(error)))
}
