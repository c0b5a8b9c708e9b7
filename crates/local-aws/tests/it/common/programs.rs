//! Independent programs, and the server as a separate program.

#![allow(
    dead_code,
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "every test file compiles this for itself; xtask's way of starting programs is not the server's"
)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A program of the Python environment that `cargo xtask test` installs below cargo's target directory.
pub(crate) fn installed(name: &str) -> Option<PathBuf> {
    Some(super::target().join("python/bin").join(name)).filter(|path| path.is_file())
}

/// Reports what is not tested, and why.
pub(crate) fn missing(what: &str) {
    assert!(std::env::var_os("HTC_GRID_TEST_COMPLETE").is_none(), "{what}");
    say(&format!("SKIPPED: {what}"));
}

/// Finds a program in PATH, or reports what is not tested.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(name)).find(|path| path.is_file());
    if found.is_none() {
        missing(&format!("this test needs {name}, which is not in PATH"));
    }
    found
}

/// A program with only PATH, HOME and the given variables of the test's environment.
pub(crate) fn command(program: &Path, environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(program);
    command.env_clear().stdin(Stdio::null());
    for name in ["PATH", "HOME"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.envs(environment.iter().copied());
    command
}

/// Both outputs in one text, for the message of an assertion.
pub(crate) fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The environment that points AWS's own clients at a server.
pub(crate) fn aws_environment(url: &str) -> Vec<(&str, &str)> {
    vec![
        ("AWS_ENDPOINT_URL", url),
        ("AWS_ACCESS_KEY_ID", "local"),
        ("AWS_SECRET_ACCESS_KEY", "local"),
        ("AWS_REGION", super::REGION),
        ("AWS_DEFAULT_REGION", super::REGION),
        ("AWS_MAX_ATTEMPTS", "1"),
        ("AWS_PAGER", ""),
        ("AWS_CONFIG_FILE", "/dev/null"),
        ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ]
}

/// `local-aws serve` as a process that the test can kill.
pub(crate) struct Process {
    child: Child,
    pub(crate) url: String,
    /// The time from the start of the process to its `server.json`.
    pub(crate) ready_after: Duration,
}

impl Process {
    pub(crate) fn start(data: &Path) -> Self {
        let announced = data.join("server.json");
        // A killed server leaves its file behind.
        drop(std::fs::remove_file(&announced));
        let started = Instant::now();
        let child = Command::new(env!("CARGO_BIN_EXE_local-aws"))
            .arg("serve")
            .arg("--data")
            .arg(data)
            .spawn()
            .unwrap();
        let deadline = started + Duration::from_secs(20);
        let description: Value = loop {
            if let Some(value) =
                std::fs::read(&announced).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok())
            {
                break value;
            }
            assert!(Instant::now() < deadline, "the server did not come up");
            std::thread::sleep(Duration::from_millis(1));
        };
        let ready_after = started.elapsed();
        assert_eq!(description["pid"], child.id());
        let url = format!("http://127.0.0.1:{}", description["port"]);
        Self { child, url, ready_after }
    }

    /// Sends SIGKILL and waits for the end.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn wait(mut self) -> std::process::ExitStatus {
        self.child.wait().unwrap()
    }
}

/// Prints a line to the test's output.
pub(crate) fn say(text: &str) {
    eprintln!("{text}");
}
