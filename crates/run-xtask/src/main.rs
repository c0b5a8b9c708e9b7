//! `cargo xtask`: compiles the tool, showing cargo's own progress where there is something to compile, then becomes it.
//!
//! As an alias alone, `cargo run --quiet` compiles for minutes without a word, and `cargo run` begins each run with two
//! lines of cargo's. This program compiles in a second and calls `cargo build`, whose output it passes on, except for one
//! line: that everything was compiled already.
//!
//! Help is shown before anything is compiled.

use std::io::{IsTerminal as _, Read, Write};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode, Stdio};

/// Columns of a terminal that does not say how many it has.
const COLUMNS: &str = "80";

/// What the tool prints for these arguments. It is printed from here where the tool is not compiled yet.
///
/// `UPDATE=1 cargo test -p e2e --test help` writes the files from the tool's own words.
const HELP: [(&[&str], &str); 3] = [
    (&[], include_str!("help/short.txt")),
    (&["--help"], include_str!("help/all.txt")),
    (&["help"], include_str!("help/all.txt")),
];

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            // Nothing to be done about a closed stderr.
            let _ = writeln!(std::io::stderr(), "error: cargo xtask: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> std::io::Result<ExitCode> {
    // cargo puts the programs of one profile side by side, and this one is of the profile that it builds.
    let tool = std::env::current_exe()?.with_file_name("xtask");
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if let Some((_, help)) = HELP.iter().find(|(known, _)| arguments == *known && !tool.exists()) {
        std::io::stdout().write_all(help.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut build = cargo_build();
    let mut child = build.stdin(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    if let Some(said) = child.stderr.take() {
        pass_on(said, std::io::stderr())?;
    }
    let status = child.wait()?;
    if !status.success() {
        let code = status.code().and_then(|code| u8::try_from(code).ok());
        return Ok(code.map_or(ExitCode::FAILURE, ExitCode::from));
    }
    Err(command(&tool).args(arguments).exec())
}

fn cargo_build() -> Command {
    let mut build = command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.args(["build", "--package", "xtask"]);
    // What cargo says about this package would make it compile what looks at that (ring's build script) anew.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"]
            .iter()
            .any(|about| name.starts_with(about))
        {
            build.env_remove(&*name);
        }
    }
    if std::io::stderr().is_terminal() {
        // cargo sees a pipe: what it would do on the terminal it has to be told. What the user has set stays.
        let mut set = |name: &str, value: &str| {
            if std::env::var_os(name).is_none() {
                build.env(name, value);
            }
        };
        if std::env::var_os("CI").is_none() {
            set("CARGO_TERM_PROGRESS_WHEN", "always");
            set("CARGO_TERM_PROGRESS_WIDTH", &columns().unwrap_or_else(|| COLUMNS.to_owned()));
        }
        if std::env::var_os("NO_COLOR").is_none() {
            set("CARGO_TERM_COLOR", "always");
        }
    }
    build
}

/// How wide the terminal is.
fn columns() -> Option<String> {
    let terminal = std::fs::File::open("/dev/tty").ok()?;
    let said = command("stty").arg("size").stdin(terminal).stderr(Stdio::null()).output().ok()?;
    let columns = String::from_utf8(said.stdout).ok()?.split_whitespace().nth(1)?.to_owned();
    columns.parse::<u16>().is_ok_and(|columns| columns > 0).then_some(columns)
}

fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    #[expect(
        clippy::disallowed_methods,
        reason = "this program runs before xtask, whose crate `process` starts all others"
    )]
    Command::new(program)
}

/// Copies what cargo says, as it comes. Nothing is passed on where it says in one line that it has finished.
fn pass_on(mut from: impl Read, mut to: impl Write) -> std::io::Result<()> {
    let (mut first, mut decided) = (Vec::new(), false);
    let mut piece = [0; 4096];
    loop {
        let length = from.read(&mut piece)?;
        if length == 0 {
            break;
        }
        if decided {
            to.write_all(&piece[..length])?;
            to.flush()?;
            continue;
        }
        first.extend_from_slice(&piece[..length]);
        // A line of progress ends with a carriage return.
        let Some(end) = first.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else { continue };
        decided = true;
        let is_the_end = String::from_utf8_lossy(&first[..end]).contains("Finished");
        to.write_all(if is_the_end { &first[end + 1..] } else { &first })?;
        to.flush()?;
    }
    if !decided {
        to.write_all(&first)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed_on(said: &str) -> String {
        let mut out = Vec::new();
        pass_on(said.as_bytes(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn only_a_build_with_nothing_to_do_is_silent() {
        let end = "    Finished `dev` profile [unoptimized] target(s) in 0.16s\n";
        assert_eq!(passed_on(end), "");
        assert_eq!(passed_on("\x1b[1m\x1b[92m    Finished\x1b[0m `dev` profile\n"), "");
        for said in [
            format!("   Compiling hex v0.4.3\n{end}"),
            format!("    Building [==> ] 1/2: hex\r\x1b[K   Compiling hex v0.4.3\n{end}"),
            "error: no such package\n".to_owned(),
            "error without an end".to_owned(),
        ] {
            assert_eq!(passed_on(&said), said);
        }
    }
}
