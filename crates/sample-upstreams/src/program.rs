//! The only place of this crate that starts programs.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

use crate::Error;

/// How many lines of a program's output an error contains.
const TAIL_LINES: usize = 20;

/// Runs a program to its end and returns its stdout.
///
/// # Errors
/// The program cannot be started or fails; the error has the last lines of its output.
pub(crate) fn read(
    program: &'static str,
    package: &'static str,
    args: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> Result<String, Error> {
    // This crate does not depend on the crate `process`.
    #[expect(
        clippy::disallowed_methods,
        reason = "this crate's own place for programs: apt's tools and debootstrap"
    )]
    let output = Command::new(program)
        .args(args)
        // The output must not depend on the user's language.
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
