//! The only place of this crate that starts programs.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

use crate::Error;

/// How much of a program's output an error keeps, in lines.
const TAIL_LINES: usize = 20;

/// Runs a program to its end and gives its stdout.
///
/// # Errors
/// It cannot be started, or fails; the error holds the last lines of its output.
pub(crate) fn read(
    program: &'static str,
    package: &'static str,
    args: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> Result<String, Error> {
    // The xtask's process module is out of reach for a crate below it.
    #[expect(
        clippy::disallowed_methods,
        reason = "this crate's own place for programs: apt's tools and debootstrap"
    )]
    let output = Command::new(program)
        .args(args)
        // What is read must not depend on the user's language.
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::ProgramMissing { program, package });
        }
        Err(source) => return Err(Error::File { action: "start", path: program.into(), source }),
    };
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let all = format!("{stdout}{}", String::from_utf8_lossy(&output.stderr));
        let lines: Vec<&str> = all.lines().collect();
        let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n");
        return Err(Error::Program { program, status: output.status.to_string(), tail });
    }
    Ok(stdout)
}
