//! The servers that a world's commands leave running.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};

use crate::{built, command};

/// Process ID and port of a background server, from its `server.json`.
pub(crate) fn server(data: &Path) -> Option<(Pid, u16)> {
    let text = std::fs::read(data.join("server.json")).ok()?;
    let value: serde_json::Value = serde_json::from_slice(&text).ok()?;
    let pid = Pid::from_raw(i32::try_from(value["pid"].as_i64()?).ok()?)?;
    Some((pid, u16::try_from(value["port"].as_u64()?).ok()?))
}

/// Stops the background server of a data directory, if it runs, and waits until it has ended.
pub(crate) fn end(data: &Path) {
    let Some((pid, _)) = server(data) else { return };
    let proc = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
    // The process ID may belong to another process now: our server's command line contains its data directory.
    let ours = || {
        let line = std::fs::read(proc.join("cmdline")).unwrap_or_default();
        line.windows(data.as_os_str().len()).any(|window| window == data.as_os_str().as_encoded_bytes())
    };
    let started = std::time::Instant::now();
    while ours() {
        let late = started.elapsed().as_secs() > 10;
        // A test may have paused it.
        let _ = kill_process(pid, Signal::CONT);
        let _ = kill_process(pid, if late { Signal::KILL } else { Signal::TERM });
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// Starts the emulated AWS of a data directory again, with the same port and arguments.
pub(crate) fn start_again(data: &Path) {
    let (_, port) = server(data).unwrap();
    let extra = std::fs::read_to_string(data.join("arguments")).unwrap();
    let log = std::fs::File::create(data.join("server.log")).unwrap();
    let mut start = command(built().join("local-aws"));
    start.args(["serve", "--data"]).arg(data).args(["--port", &port.to_string()]).args(extra.lines());
    let mut child = start.stderr(log).process_group(0).spawn().unwrap();
    let pid = Pid::from_child(&child);
    let started = std::time::Instant::now();
    // It writes the file when it listens.
    while server(data) != Some((pid, port)) {
        let over = child.try_wait().unwrap().is_some() || started.elapsed() > crate::gate::BOUND;
        let said = std::fs::read_to_string(data.join("server.log")).unwrap();
        assert!(!over, "the emulated AWS does not start again: {said}");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    std::thread::spawn(move || child.wait());
}
