//! Tests that start real programs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;

#[test]
fn read_returns_stdout_and_keeps_the_tail_of_stderr() {
    assert_eq!(Cmd::new("echo").arg("a b").read().unwrap(), "a b");
    let error = Cmd::new("sh").args(["-c", "echo why >&2; exit 3"]).read().unwrap_err();
    assert_eq!(error.tail(), ["why"]);
    assert!(error.to_string().contains("exit status: 3"), "{error}");
}

#[test]
fn a_commands_own_variables_override_those_of_every_program() {
    hand_down("HTC_GRID_HANDED_DOWN", "every program's");
    let seen = |command: Cmd| command.args(["-c", "echo $HTC_GRID_HANDED_DOWN"]).read().unwrap();
    assert_eq!(seen(Cmd::new("sh")), "every program's");
    assert_eq!(seen(Cmd::new("sh").env("HTC_GRID_HANDED_DOWN", "its own")), "its own");
    assert_eq!(seen(Cmd::new("sh").env_remove("HTC_GRID_HANDED_DOWN")), "");
    // If one command sets a variable twice, the last value counts.
    assert_eq!(seen(Cmd::new("sh").env_remove("HTC_GRID_HANDED_DOWN").env("HTC_GRID_HANDED_DOWN", "x")), "x");
    hand_down("HTC_GRID_HANDED_DOWN", "another");
    assert_eq!(seen(Cmd::new("sh")), "another");
}

#[test]
fn the_runs_identity_overrides_a_commands_own_variables_and_removes_the_rest() {
    const PREFIX: &str = "HTC_GRID_IDENTITY_";
    hand_down_in_place_of(PREFIX, vec![(format!("{PREFIX}A"), "the run's".to_owned())]);
    hand_down("HTC_GRID_IDENTITY_C", "every program's");
    let own = ["A", "B"].map(|end| format!("{PREFIX}{end}"));
    let seen = |command: Cmd| {
        let printed = own.iter().fold(command, |command, name| command.env(name, "its own")).read().unwrap();
        let mut lines: Vec<String> =
            printed.lines().filter(|line| line.starts_with(PREFIX)).map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let (by_run, by_shell) = (seen(Cmd::new("env")), seen(by_shell("env")));
    inherited::IN_PLACE_OF.lock().unwrap().take();
    assert_eq!(by_run, ["HTC_GRID_IDENTITY_A=the run's"]);
    let expected =
        ["HTC_GRID_IDENTITY_A=its own", "HTC_GRID_IDENTITY_B=its own", "HTC_GRID_IDENTITY_C=every program's"];
    assert_eq!(by_shell, expected);
}

#[test]
fn variables_are_selected_by_prefix() {
    let seen = env_remove_all(Cmd::new("env"), "CARGO").read().unwrap();
    assert!(std::env::vars().any(|(name, _)| name.starts_with("CARGO")), "cargo runs this");
    assert!(!seen.lines().any(|line| line.starts_with("CARGO")), "{seen}");
    assert!(seen.contains("PATH="), "{seen}");
}

#[test]
fn a_typed_line_is_split_into_a_command() {
    let (sh, words, file) = (shell().unwrap(), ["a b", "c"], std::path::Path::new("/x"));
    assert_eq!(cmd!(sh, "printf %s, {words...} {file}.toml 'd e'").read().unwrap(), "a b,c,/x.toml,d e,");
    let here = std::env::current_dir().unwrap();
    assert_eq!(cmd!(sh, "pwd -P").read().unwrap(), here.canonicalize().unwrap().display().to_string());
    let missing = cmd!(sh, "no-such-program-here --flag").read().unwrap_err();
    assert_eq!(missing.to_string(), "no-such-program-here is not installed or not in PATH");
    let cargo = cmd!(sh, "cargo --version").read().unwrap();
    assert!(cargo.starts_with("cargo "), "{cargo}");
}

#[test]
fn a_failure_is_a_result_if_requested() {
    let ended = Cmd::new("sh").args(["-c", "echo out; echo err >&2; exit 3"]).end().unwrap();
    assert!(!ended.success);
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("out", "err"));
}

#[test]
fn a_missing_program_is_named() {
    let error = Cmd::new("no-such-program-here").read().unwrap_err();
    assert_eq!(error.to_string(), "no-such-program-here is not installed or not in PATH");
}

#[tokio::test]
async fn stream_passes_lines_and_the_error_has_no_secrets() {
    let lines = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&lines);
    let error = Cmd::new("sh")
        .args(["-c", "wc -c; echo two >&2; exit 9"])
        .stdin(Secret::new("hunter2"))
        .stream(KillHandle::default(), move |line| seen.lock().unwrap().push(line.trim().to_owned()))
        .await
        .unwrap_err();
    assert_eq!(*lines.lock().unwrap(), ["7", "two"]);
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}

#[tokio::test]
async fn control_sequences_reach_neither_lines_nor_errors() {
    let lines = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&lines);
    let script = r"printf '\033[31mred\033[0m\r\n\033]0;title\007\n10%%\r100%%\n'; exit 3";
    let command = Cmd::new("sh").args(["-c", script]);
    let error = command.stream(KillHandle::default(), move |line| seen.lock().unwrap().push(line.to_owned()));
    assert_eq!(error.await.unwrap_err().tail(), ["red", "", "100%"]);
    assert_eq!(*lines.lock().unwrap(), ["red", "", "100%"]);
    let error = Cmd::new("sh").args(["-c", &format!("({script}) >&2")]);
    assert_eq!(error.read().unwrap_err().tail(), ["red", "", "100%"]);
    assert_eq!(error.end().unwrap().stderr, "red\n\n100%");
}

#[tokio::test]
async fn a_killer_ends_a_running_program() {
    let kill_handle = KillHandle::default();
    let from_inside = kill_handle.clone();
    let result = Cmd::new("sh")
        .args(["-c", "echo up; exec sleep 600"])
        .stream(kill_handle, move |_| from_inside.kill())
        .await;
    assert!(result.unwrap_err().to_string().contains("signal: 9"));
}

#[tokio::test]
async fn a_program_that_was_ended_before_it_started_does_not_start() {
    let room = tempfile::tempdir().unwrap();
    let file = room.path().join("started");
    for end in
        [KillHandle::kill, KillHandle::terminate, |kill_handle: &KillHandle| drop(kill_handle.kill_on_drop())]
    {
        let kill_handle = KillHandle::default();
        end(&kill_handle);
        let error = Cmd::new("touch").arg(&file).stream(kill_handle, |_| {}).await.unwrap_err();
        assert_eq!(error.to_string(), "touch was not started");
        assert!(!file.exists());
    }
}

/// Starts a script, stops to wait for it when it prints its first line, and returns how long the end took.
async fn drop_at_first_line(script: &str, argument: &std::path::Path) -> Duration {
    let (up, mut is_up) = tokio::sync::mpsc::unbounded_channel();
    let command = Cmd::new("sh").args(["-c", script, "sh"]).arg(argument);
    let kill_handle = KillHandle::default();
    let kill_on_drop = kill_handle.kill_on_drop();
    let run = command.stream(kill_handle, move |_| up.send(()).unwrap());
    tokio::select! {
        ended = run => panic!("{ended:?}"),
        _ = is_up.recv() => {}
    }
    let begun = Instant::now();
    drop(kill_on_drop);
    begun.elapsed()
}

#[tokio::test]
async fn a_program_that_nobody_waits_for_ends_in_an_orderly_way_first() {
    let room = tempfile::tempdir().unwrap();
    let file = room.path().join("tidied");
    let script = "trap 'sleep 0.2; touch \"$1\"; exit 1' TERM; echo up; while :; do sleep 0.01; done";
    drop_at_first_line(script, &file).await;
    assert!(file.exists());
}

#[tokio::test]
async fn a_program_that_does_not_end_in_an_orderly_way_is_killed() {
    let room = tempfile::tempdir().unwrap();
    let file = room.path().join("pid");
    let script = "trap '' TERM; echo $$ > \"$1\"; echo up; while :; do sleep 0.01; done";
    let took = drop_at_first_line(script, &file).await;
    gone(&file).await;
    assert!(took < Duration::from_secs(30), "{took:?}");
}

/// A script that writes the ID of a process that it started to the file `$1`; the tests append what runs without end.
const FAMILY: &str = "sleep 600 & echo $! > \"$1.new\"; mv \"$1.new\" \"$1\"; ";

/// Waits until the process whose ID is in the file has ended.
async fn gone(note: &std::path::Path) {
    let pid = std::fs::read_to_string(note).unwrap().trim().parse().unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    until(|| match std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid())) {
        // Its parent may not have collected its status yet.
        Ok(stat) => stat.contains(") Z "),
        Err(_) => rustix::process::test_kill_process(pid).is_err(),
    })
    .await;
}

async fn until(is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_program_that_hangs_or_prints_without_end_is_killed_with_its_children() {
    let dir = tempfile::tempdir().unwrap();
    let soon = Duration::from_secs(2);
    for (at, (rest, time, wanted)) in [
        ("wait", soon, "sh did not end within 2s and was killed"),
        ("exec >&- 2>&-; wait", soon, "sh did not end within 2s and was killed"),
        ("exit", soon, "sh did not end within 2s and was killed"),
        ("yes", Duration::from_secs(60), "sh printed more than 100000 bytes and was killed"),
        ("yes >&2", Duration::from_secs(60), "sh printed more than 100000 bytes and was killed"),
    ]
    .into_iter()
    .enumerate()
    {
        let note = dir.path().join(at.to_string());
        let script = format!("{FAMILY} {rest}");
        let command = Cmd::new("sh").args(["-c", &script, "sh"]).arg(&note).stdin(Secret::new("x"));
        let began = Instant::now();
        let ended = end_within(command, time, 100_000).await.map(|_| ()).unwrap_err();
        assert_eq!(ended.to_string(), wanted, "{rest}");
        assert!(began.elapsed() < Duration::from_secs(20), "{rest}");
        gone(&note).await;
    }
}

#[tokio::test]
async fn a_dropped_program_is_killed_too() {
    let dir = tempfile::tempdir().unwrap();
    let note = dir.path().join("note");
    let script = format!("{FAMILY} wait");
    let command = Cmd::new("sh").args(["-c", &script, "sh"]).arg(&note);
    tokio::select! {
        _ = end_within(command, Duration::from_secs(60), 1) => panic!("it does not end"),
        () = until(|| note.exists()) => {}
    }
    gone(&note).await;
}

#[tokio::test]
async fn a_program_that_ends_in_time_has_its_own_result() {
    let within = |command| end_within(command, Duration::from_secs(60), 6);
    let script = Cmd::new("sh").args(["-c", "cat; echo err >&2; exit 3"]).stdin(Secret::new("out"));
    let ended = within(script).await.unwrap();
    assert_eq!((ended.success, ended.stdout.as_str(), ended.stderr.as_str()), (false, "out", "err"));
    assert!(within(Cmd::new("true").stdin(Secret::new("unread"))).await.unwrap().success);
    let missing = within(Cmd::new("no-such-program-here")).await.map(|_| ()).unwrap_err();
    assert_eq!(missing.to_string(), "no-such-program-here is not installed or not in PATH");
}
