//! A program with its arguments, environment and input, and the ways to start it.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{TAIL_LINES, name};
use crate::inherited::variables;
use crate::{ProcessError, Secret, blocking, plain};

/// A program with its arguments, environment and input.
#[derive(Clone, Debug)]
pub struct Cmd {
    pub(super) program: OsString,
    args: Vec<OsString>,
    pub(super) env: Vec<(OsString, Option<OsString>)>,
    cwd: Option<PathBuf>,
    stdin: Option<Stdin>,
    pub(super) keeps_shell: bool,
}

/// What a program reads on its standard input.
#[derive(Clone, Debug)]
enum Stdin {
    Text(Secret),
    File(PathBuf),
}

/// How a short command ended, for callers that accept a failure. Not printable: its stdout may be a secret.
pub struct Ended {
    /// Whether the status is 0.
    pub success: bool,
    /// Its stdout, trimmed.
    pub stdout: String,
    /// Its stderr, trimmed.
    pub stderr: String,
}

/// A handle to end a program from another task. A program that has not started yet does not start after that.
#[derive(Clone, Default)]
pub struct KillHandle(Arc<Mutex<State>>);

#[derive(Default)]
enum State {
    #[default]
    Waiting,
    Runs(Arc<duct::ReaderHandle>),
    Ended,
}

/// Ends the program on drop: when the task that waits for the program is dropped, the program ends too.
///
/// It is asked to end first, and gets a moment: docker's client ends its plugin (buildx) then, which would otherwise still write to
/// directories that are removed next.
pub struct KillOnDrop(KillHandle);

/// The time that a program has to end in an orderly way.
const ORDERLY: Duration = Duration::from_secs(2);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        let Some(handle) = self.0.end() else { return };
        let runs = || matches!(handle.try_wait(), Ok(None));
        if !runs() {
            return;
        }
        self.0.terminate();
        let deadline = Instant::now() + ORDERLY;
        while runs() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.0.kill();
    }
}

impl KillHandle {
    /// Ends the program when the returned value is dropped, in an orderly way if it does so within two seconds.
    pub fn kill_on_drop(&self) -> KillOnDrop {
        KillOnDrop(self.clone())
    }

    /// Ends the program.
    pub fn kill(&self) {
        if let Some(handle) = self.end() {
            // The program may have ended in the meantime, which is fine.
            let _ = handle.kill();
        }
    }

    /// Asks the program to end in an orderly way (SIGTERM).
    pub fn terminate(&self) {
        if let Some(handle) = self.end() {
            for pid in handle.pids().iter().filter_map(|pid| i32::try_from(*pid).ok()) {
                if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                    // It may have ended in the meantime, which is fine.
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
                }
            }
        }
    }

    /// The program, if it was started. If not, it does not start any more.
    fn end(&self) -> Option<Arc<duct::ReaderHandle>> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let State::Runs(handle) = &*state {
            return Some(Arc::clone(handle));
        }
        *state = State::Ended;
        None
    }

    /// Starts the program, unless it was ended before. Nobody can end it between the two.
    fn start(&self, command: &Cmd) -> Result<Arc<duct::ReaderHandle>, ProcessError> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*state, State::Ended) {
            return Err(ProcessError::Cancelled { program: name(&command.program) });
        }
        let reader = expression(command)
            .stderr_to_stdout()
            .unchecked()
            .reader()
            .map_err(|e| ProcessError::start(&command.program, e))?;
        let reader = Arc::new(reader);
        *state = State::Runs(Arc::clone(&reader));
        Ok(reader)
    }
}

/// A program that gets this process's own variables even if other programs get replacements
/// ([`hand_down_in_place_of`](crate::hand_down_in_place_of)): the replacements are made by this program.
pub fn by_shell(program: impl AsRef<OsStr>) -> Cmd {
    Cmd { keeps_shell: true, ..Cmd::new(program) }
}

impl Cmd {
    /// A program by name (looked up in PATH) or by path.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().into(),
            args: Vec::new(),
            env: Vec::new(),
            cwd: None,
            stdin: None,
            keeps_shell: false,
        }
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((key.into(), Some(value.into())));
        self
    }

    /// Removes an inherited environment variable.
    pub fn env_remove(mut self, key: impl Into<OsString>) -> Self {
        self.env.push((key.into(), None));
        self
    }

    /// Sets the working directory.
    pub fn cwd(mut self, dir: impl AsRef<Path>) -> Self {
        self.cwd = Some(dir.as_ref().into());
        self
    }

    /// Sends `text` to the program's standard input, which is otherwise empty.
    pub fn stdin(mut self, text: Secret) -> Self {
        self.stdin = Some(Stdin::Text(text));
        self
    }

    /// Lets the program read a file on its standard input.
    pub fn stdin_file(mut self, file: impl AsRef<Path>) -> Self {
        self.stdin = Some(Stdin::File(file.as_ref().into()));
        self
    }

    /// Runs a short command to its end and returns its stdout, trimmed.
    ///
    /// # Errors
    /// The program is missing, cannot be started, or has an exit status other than 0.
    pub fn read(&self) -> Result<String, ProcessError> {
        let output = capture(self)?;
        if !output.status.success() {
            let tail: Vec<String> =
                plain(&String::from_utf8_lossy(&output.stderr)).lines().map(str::to_owned).collect();
            return Err(ProcessError::failed(self, output.status, tail));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }

    /// Runs a short command to its end, with any status.
    ///
    /// # Errors
    /// The program is missing or cannot be started.
    pub fn end(&self) -> Result<Ended, ProcessError> {
        let output = capture(self)?;
        Ok(Ended {
            success: output.status.success(),
            stdout: text(&output.stdout),
            stderr: plain(&text(&output.stderr)).into_owned(),
        })
    }

    /// Runs a long command. Passes each line of its stdout and stderr to `on_line`, without control sequences, and keeps the last
    /// lines for the error.
    ///
    /// # Errors
    /// As [`Cmd::read`].
    pub async fn stream(
        self,
        kill_handle: KillHandle,
        mut on_line: impl FnMut(&str) + Send + 'static,
    ) -> Result<(), ProcessError> {
        let run = move || {
            let reader = kill_handle.start(&self)?;
            let mut tail = std::collections::VecDeque::with_capacity(TAIL_LINES);
            let mut lines = BufReader::new(&*reader);
            let mut raw = Vec::new();
            // By bytes, not by `lines()`: the output of a build may not be UTF-8.
            while lines.read_until(b'\n', &mut raw).map_err(|e| ProcessError::start(&self.program, e))? > 0 {
                let text = String::from_utf8_lossy(&raw);
                let line = plain(text.trim_end_matches(['\n', '\r']));
                on_line(&line);
                if tail.len() == TAIL_LINES {
                    tail.pop_front();
                }
                tail.push_back(line.into_owned());
                raw.clear();
            }
            let output = reader.try_wait().map_err(|e| ProcessError::start(&self.program, e))?;
            match output {
                Some(output) if !output.status.success() => {
                    Err(ProcessError::failed(&self, output.status, tail.into()))
                }
                _ => Ok(()),
            }
        };
        blocking(run).await
    }

    /// Starts a server that outlives this process and writes its output to the file `log`. It has its own process group, so that
    /// Ctrl-C here does not reach it. Returns its process ID.
    ///
    /// # Errors
    /// The program is missing or cannot be started, or the log cannot be written.
    pub fn spawn_detached(&self, log: &Path) -> Result<u32, ProcessError> {
        use std::os::unix::process::CommandExt as _;
        let handle = expression(self)
            .stderr_to_stdout()
            .stdout_path(log)
            .before_spawn(|command| {
                command.process_group(0);
                Ok(())
            })
            .start()
            .map_err(|source| ProcessError::start(&self.program, source))?;
        // Not waited for: dropping the handle leaves the program running.
        Ok(handle.pids().first().copied().unwrap_or_default())
    }
}

/// The command line, to show to users.
impl std::fmt::Display for Cmd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words = std::iter::once(&self.program).chain(&self.args).map(|word| word.to_string_lossy());
        f.write_str(&words.collect::<Vec<_>>().join(" "))
    }
}

fn capture(command: &Cmd) -> Result<std::process::Output, ProcessError> {
    let expression = expression(command).stdout_capture().stderr_capture().unchecked();
    expression.run().map_err(|source| ProcessError::start(&command.program, source))
}

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

pub(super) fn expression(command: &Cmd) -> duct::Expression {
    let mut expression = duct::cmd(&command.program, &command.args);
    for (name, value) in variables(command) {
        expression = match value {
            Some(value) => expression.env(name, value),
            None => expression.env_remove(name),
        };
    }
    if let Some(dir) = &command.cwd {
        expression = expression.dir(dir);
    }
    match &command.stdin {
        Some(Stdin::Text(secret)) => expression.stdin_bytes(secret.reveal()),
        Some(Stdin::File(file)) => expression.stdin_path(file),
        None => expression.stdin_null(),
    }
}
