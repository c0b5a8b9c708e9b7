//! The program, with a fake cargo that only prints cargo's lines, and next to it a tool that prints its arguments.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not marked as such")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

fn script(path: &Path, lines: &str) {
    std::fs::write(path, format!("#!/bin/sh\n{lines}\n")).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Runs it next to an `xtask`, with a cargo that runs `lines`.
fn run(lines: &str) -> Output {
    run_with(&["list-images", "a b"], Some("echo \"xtask: $*\"; exit 9"), lines)
}

/// Runs it with these arguments next to a tool that runs `tool`, or without a tool.
fn run_with(arguments: &[&str], tool: Option<&str>, lines: &str) -> Output {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let program = dir.path().join("run-xtask");
    std::fs::hard_link(env!("CARGO_BIN_EXE_run-xtask"), &program).unwrap();
    if let Some(tool) = tool {
        script(&dir.path().join("xtask"), tool);
    }
    script(&dir.path().join("cargo"), lines);
    #[expect(clippy::disallowed_methods, reason = "the test of a program that is no part of xtask")]
    let mut command = Command::new(program);
    command.args(arguments).env("CARGO", dir.path().join("cargo")).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

// One test: a program that is written while another thread starts a process cannot be started ("text file busy").
#[test]
fn compiler_output_is_shown_and_a_failed_build_is_not_run() {
    let ran = run("[ \"$*\" = 'build --package xtask' ] && echo '    Finished `dev` profile in 0.1s' >&2");
    assert_eq!((text(&ran.stdout), text(&ran.stderr)), ("xtask: list-images a b\n", ""));
    assert_eq!(ran.status.code(), Some(9));

    let ran = run("echo '   Compiling hex v0.4.3' >&2; echo '    Finished `dev` profile in 0.1s' >&2");
    assert_eq!(text(&ran.stderr), "   Compiling hex v0.4.3\n    Finished `dev` profile in 0.1s\n");
    assert_eq!(text(&ran.stdout), "xtask: list-images a b\n");

    let ran = run("echo 'error: could not compile' >&2; exit 101");
    assert_eq!((text(&ran.stdout), text(&ran.stderr)), ("", "error: could not compile\n"));
    assert_eq!(ran.status.code(), Some(101));

    // Help does not need the tool; if it exists, it prints the help.
    for (arguments, words) in [
        (&[][..], "The commands that most people need:"),
        (&["--help"], "Commands:\n"),
        (&["help"], "Commands:\n"),
    ] {
        let ran = run_with(arguments, None, "echo 'error: compiled for help' >&2; exit 101");
        assert!(text(&ran.stdout).contains(words) && ran.status.success(), "{arguments:?}: {ran:?}");
        assert_eq!(text(&ran.stderr), "");
        let ran = run_with(arguments, Some("echo \"own help: $*\""), "exit 0");
        assert_eq!(text(&ran.stdout), format!("own help: {}\n", arguments.join(" ")));
    }
    let ran = run_with(&["list-images", "--help"], None, "echo 'error: could not compile' >&2; exit 101");
    assert_eq!((text(&ran.stdout), ran.status.code()), ("", Some(101)));
}
