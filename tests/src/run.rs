//! Runs the real program as a user does.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::gate::BOUND;
use crate::schema;
use crate::terminal::Terminal;

/// Time limit of a run: the longest is a demo that creates its images from packages.
const LONGEST: Duration = Duration::from_secs(1800);

/// A run that has not been started.
#[derive(Debug)]
pub struct Run {
    command: Command,
    stdin: Option<String>,
    thinking: bool,
}

/// A run that has ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Its output for programs.
    pub stdout: String,
    /// Its output for users.
    pub stderr: String,
    /// Its duration.
    pub took: Duration,
}

impl Run {
    pub(crate) fn new(command: Command) -> Self {
        Self { command, stdin: None, thinking: false }
    }

    /// Adds arguments, split at spaces.
    #[must_use]
    pub fn args(mut self, words: &str) -> Self {
        self.command.args(words.split_whitespace());
        self
    }

    /// Adds an argument as it is.
    #[must_use]
    pub fn arg(mut self, word: impl AsRef<OsStr>) -> Self {
        self.command.arg(word);
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Starts it in another directory.
    #[must_use]
    pub fn within(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// The input; without it there is no input.
    #[must_use]
    pub fn stdin(mut self, text: &str) -> Self {
        self.stdin = Some(text.to_owned());
        self
    }

    /// A user is present but types nothing.
    #[must_use]
    pub fn idle_user(mut self) -> Self {
        self.thinking = true;
        self
    }

    /// Runs in its own terminal: all output is in stdout.
    #[must_use]
    pub fn on_a_terminal(mut self) -> Self {
        let line = shell_line(&self.command);
        let mut script = crate::command("script");
        script.args(["--quiet", "--return", "--command", &line, "/dev/null"]).env_clear();
        for (name, value) in self.command.get_envs() {
            script.env(name, value.unwrap_or_default());
        }
        script.env("TERM", "xterm").current_dir(crate::root());
        self.command = script;
        self
    }

    /// Runs in a terminal whose screen can be read; its last line is `exit code N`. `None` without tmux.
    pub fn in_terminal(self, columns: u16, rows: u16) -> Option<Terminal> {
        let environment = environment(&self.command);
        let line = shell_line(&self.command);
        let root = quoted(&crate::root().display().to_string());
        // Ctrl-C is for the program: the shell continues and prints the exit code.
        Terminal::start(
            &format!(
                "trap : INT; cd {root}; echo '$ cargo xtask'; env -i TERM=screen {environment} {line}; echo \"exit code $?\""
            ),
            columns,
            rows,
        )
    }

    /// Runs to the end.
    pub fn end(self) -> Ended {
        self.start().end()
    }

    /// Runs to the end, which must be successful.
    pub fn ok(self) -> Ended {
        self.end().with_code(0)
    }

    /// Starts it in its own process group, as a shell does.
    pub fn start(mut self) -> Running {
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        self.command.stdin(if self.stdin.is_some() || self.thinking {
            Stdio::piped()
        } else {
            Stdio::null()
        });
        let json = asks_for_json(&self.command);
        let started = Instant::now();
        let mut child = self.command.spawn().unwrap();
        let mut stdin = child.stdin.take();
        if let Some((text, mut pipe)) = self.stdin.zip(stdin.take_if(|_| !self.thinking)) {
            // It may end before it reads.
            let _ = pipe.write_all(text.as_bytes());
        }
        let mut stdout = child.stdout.take().unwrap();
        let (whole, out) = channel();
        std::thread::spawn(move || {
            let mut text = String::new();
            // If the test has failed, there is no receiver.
            let _ = whole.send(stdout.read_to_string(&mut text).map(|_| text).unwrap_or_default());
        });
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Running { child, out, lines, seen: String::new(), started, json, _stdin: stdin }
    }
}

/// Writes a `cargo` whose `cargo xtask WORDS` is this run with these words added.
pub fn write_cargo(run: &Run, file: &Path) {
    let environment = environment(&run.command);
    let line = shell_line(&run.command);
    let script = format!("#!/bin/sh\nshift\nexec env -i TERM=\"$TERM\" {environment} {line} \"$@\"\n");
    std::fs::write(file, script).unwrap();
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// The command's environment as arguments for `env` in a shell.
fn environment(command: &Command) -> String {
    let set = |(name, value): (&OsStr, Option<&OsStr>)| {
        let value = value.unwrap_or_default().to_string_lossy().into_owned();
        quoted(&format!("{}={value}", name.to_string_lossy()))
    };
    command.get_envs().map(set).collect::<Vec<_>>().join(" ")
}

/// The command line for a shell, without the environment.
fn shell_line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| quoted(&word.to_string_lossy())).collect::<Vec<_>>().join(" ")
}

/// A quoted word for a shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Whether the arguments have `--format json`. Help is always text.
fn asks_for_json(command: &Command) -> bool {
    let words: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
    if words.iter().any(|word| word == "--help") {
        return false;
    }
    words.windows(2).any(|two| two[0] == "--format" && two[1] == "json")
        || words.iter().any(|word| word == "--format=json")
}

/// A run in progress; killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    out: Receiver<String>,
    lines: Receiver<String>,
    seen: String,
    started: Instant,
    /// Whether its output is JSON.
    json: bool,
    _stdin: Option<ChildStdin>,
}

impl Running {
    /// Waits until a line of stderr contains `words`.
    pub fn wait_for(&mut self, words: &str) -> String {
        let until = Instant::now() + BOUND;
        loop {
            let Some(line) = self.line(until, words) else {
                panic!("stderr ended without {words:?}:\n{}", self.seen);
            };
            if line.contains(words) {
                return line;
            }
        }
    }

    /// The next line of stderr; `None` at its end.
    pub fn next_line(&mut self) -> Option<String> {
        self.line(Instant::now() + BOUND, "line")
    }

    /// The next line of stderr while waiting for `what`; `None` at its end.
    fn line(&mut self, until: Instant, what: &str) -> Option<String> {
        match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                self.seen += &format!("{line}\n");
                Some(line)
            }
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("no {what:?} in time:\n{}", self.seen),
        }
    }

    /// Waits until stderr contains all of `words`, in any order.
    pub fn wait_for_all(&mut self, words: &[&str]) {
        while let Some(missing) = words.iter().find(|words| !self.seen.contains(**words)) {
            self.wait_for(missing);
        }
    }

    /// Signals the whole process group, as a terminal does.
    pub fn signal(&self, signal: Signal) {
        kill_process_group(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Its process ID.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Signals only the process, as `kill` does.
    pub fn signal_alone(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Whether it has ended.
    pub fn is_over(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for the end.
    pub fn end(self) -> Ended {
        self.end_within(LONGEST)
    }

    /// Waits for the end, which must come within `bound`.
    pub fn end_within(mut self, bound: Duration) -> Ended {
        let until = Instant::now() + bound;
        while self.line(until, "end").is_some() {}
        // It has closed its stderr and is about to end.
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < until, "it does not end:\n{}", self.seen);
            std::thread::yield_now();
        };
        let took = self.started.elapsed();
        let stdout = self.out.recv_timeout(until.saturating_duration_since(Instant::now()));
        let stdout = stdout.unwrap_or_else(|error| panic!("stdout does not end: {error}\n{}", self.seen));
        let stderr = std::mem::take(&mut self.seen);
        let ended = Ended { code: status.code(), stdout, stderr, took };
        // A signal may have ended it while it was writing.
        if let Some(code) = ended.code.filter(|_| self.json) {
            schema::check(&ended.json(), code, &ended);
        }
        ended
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

impl Ended {
    /// Checks that the exit code is `code`.
    pub fn with_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    /// Stdout's JSON document.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}\n{self}"))
    }

    /// Checks the exit code and texts that the user must see.
    pub fn failed(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self}");
        for word in words {
            assert!(self.stderr.contains(word), "no {word:?} in\n{self}");
        }
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit code {:?}\nstdout:\n{}\nstderr:\n{}", self.code, self.stdout, self.stderr)
    }
}
