//! Short commands in shell-like form: xshell's `cmd!`, started by [`Cmd`] like every other program.

use std::process::Command;

use crate::{Cmd, ProcessError, cargo};

pub use xshell;

/// The working directory, for [`cmd!`](crate::cmd).
///
/// # Errors
/// It no longer exists.
pub fn shell() -> Result<xshell::Shell, ProcessError> {
    xshell::Shell::new().map_err(ProcessError::Directory)
}

/// A [`Cmd`] from a line such as `cmd!(sh, "apt-get install {packages...}")`; `sh` is the result of [`shell`](crate::shell).
/// `cargo` is the cargo that started this program.
#[macro_export]
macro_rules! cmd {
    ($shell:expr, $line:literal) => {{
        let shell = &$shell;
        $crate::Cmd::from($crate::xshell::cmd!(shell, $line))
    }};
}

impl From<xshell::Cmd<'_>> for Cmd {
    fn from(typed: xshell::Cmd<'_>) -> Self {
        let typed = Command::from(typed);
        let command = if typed.get_program() == "cargo" { cargo() } else { Self::new(typed.get_program()) };
        let mut command = command.args(typed.get_args());
        if let Some(directory) = typed.get_current_dir() {
            command = command.cwd(directory);
        }
        typed.get_envs().fold(command, |command, (name, value)| match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        })
    }
}
