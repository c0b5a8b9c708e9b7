//! The only place that starts programs: typed arguments, never a shell string.
//!
//! Children stay in this process's group, so one Ctrl-C on the terminal reaches them directly and is never
//! forwarded a second time: terraform takes two interrupts as "exit at once and lose the state".

mod plain;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use plain::plain;

/// How much of a program's output an error keeps, in lines.
const TAIL_LINES: usize = 40;

/// Text that must never be printed: it reaches a program through its standard input alone.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Wraps `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself; only for handing it on.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// Why a program did not do what it was started for.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The program is not installed.
    #[error("{program} is not installed or not in PATH")]
    Missing {
        /// The program's name.
        program: String,
    },
    /// The operating system refused to start it.
    #[error("could not start {program}")]
    Start {
        /// The program's name.
        program: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// It ran and failed.
    #[error("`{command}` ended with {status}{}", tail_text(tail))]
    Failed {
        /// The command line, without what went through stdin.
        command: String,
        /// The exit status as text.
        status: String,
        /// The exit code, where there was one.
        code: Option<i32>,
        /// The last lines it printed.
        tail: Vec<String>,
    },
}

impl ProcessError {
    /// The last lines that the program printed, where it ran.
    pub fn tail(&self) -> &[String] {
        match self {
            Self::Failed { tail, .. } => tail,
            Self::Missing { .. } | Self::Start { .. } => &[],
        }
    }
}

fn tail_text(tail: &[String]) -> String {
    tail.iter().map(|line| format!("\n    {line}")).collect()
}

/// How a short command ended, for callers to whom failing is an answer. Not printable: its stdout may be a secret.
pub struct Ended {
    /// Whether the status is 0.
    pub success: bool,
    /// What it printed, trimmed.
    pub stdout: String,
    /// What it said beside that, trimmed.
    pub stderr: String,
}

/// Variables that every program started from here gets beside this process's own.
static HANDED_DOWN: std::sync::Mutex<Vec<(String, OsString)>> = std::sync::Mutex::new(Vec::new());

/// Gives a variable to every program that is started from here on: changing this process's own environment is unsafe.
pub fn hand_down(name: &str, value: impl Into<OsString>) {
    if let Ok(mut variables) = HANDED_DOWN.lock() {
        variables.push((name.to_owned(), value.into()));
    }
}

/// What programs that are started from here get in the place of all variables whose names begin so.
static IN_PLACE_OF: std::sync::Mutex<Option<Replacement>> = std::sync::Mutex::new(None);

/// The beginning of the names, and the variables that are set in their place.
type Replacement = (&'static str, Vec<(String, String)>);

/// Gives these variables, and no other whose name begins with `prefix`, to every program that is started from here on.
pub fn hand_down_in_place_of(prefix: &'static str, variables: Vec<(String, String)>) {
    if let Ok(mut place) = IN_PLACE_OF.lock() {
        *place = Some((prefix, variables));
    }
}

/// The names of this process's own variables that begin so.
fn names_with(prefix: &str) -> impl Iterator<Item = OsString> {
    let prefix = prefix.as_bytes().to_vec();
    std::env::vars_os().map(|(name, _)| name).filter(move |name| name.as_encoded_bytes().starts_with(&prefix))
}

/// A program with its arguments, environment and input.
#[derive(Clone, Debug)]
pub struct Cmd {
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(OsString, Option<OsString>)>,
    cwd: Option<PathBuf>,
    stdin: Option<Stdin>,
    keeps_shell: bool,
}

/// What a program reads on its standard input.
#[derive(Clone, Debug)]
enum Stdin {
    Text(Secret),
    File(PathBuf),
}

/// A handle that ends a running program from another task.
#[derive(Clone, Default)]
pub struct Killer(Arc<std::sync::Mutex<Option<Arc<duct::ReaderHandle>>>>);

impl Killer {
    /// Ends the program, if it runs.
    pub fn kill(&self) {
        if let Ok(guard) = self.0.lock()
            && let Some(handle) = guard.as_ref()
        {
            // The program may have ended in the meantime: that is what was wanted.
            let _ = handle.kill();
        }
    }

    /// Asks the program to end in good order (SIGTERM), if it runs.
    pub fn terminate(&self) {
        if let Ok(guard) = self.0.lock()
            && let Some(handle) = guard.as_ref()
        {
            for pid in handle.pids().iter().filter_map(|pid| i32::try_from(*pid).ok()) {
                if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                    // It may have ended in the meantime: that is what was wanted.
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
                }
            }
        }
    }
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

    /// A program that finds this process's own variables even where others are handed down in their place
    /// ([`hand_down_in_place_of`]): one that those come from.
    pub fn by_shell(program: impl AsRef<OsStr>) -> Self {
        Self { keeps_shell: true, ..Self::new(program) }
    }

    /// cargo, without what the cargo that started this program says about its package: a build script that looks at those
    /// variables (ring's does) would make every nested build compile its dependents anew.
    pub fn cargo() -> Self {
        const ABOUT_THE_PACKAGE: [&str; 4] = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"];
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        let about = names.filter(|name| ABOUT_THE_PACKAGE.iter().any(|prefix| name.starts_with(prefix)));
        about.fold(Self::new(cargo), |command, name| command.env_remove(name))
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

    /// Removes every inherited environment variable whose name begins so.
    pub fn env_remove_all(self, prefix: &str) -> Self {
        names_with(prefix).fold(self, |command, name| command.env_remove(name))
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

    /// The command line for people.
    pub fn display(&self) -> String {
        let words =
            std::iter::once(self.program.as_os_str()).chain(self.args.iter().map(OsString::as_os_str));
        words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
    }

    fn name(&self) -> String {
        let path = Path::new(&self.program);
        path.file_name().unwrap_or(&self.program).to_string_lossy().into_owned()
    }

    /// Runs a short command to its end and gives its stdout, trimmed.
    ///
    /// # Errors
    /// The program is missing, cannot be started, or ends with another status than 0.
    pub fn read(&self) -> Result<String, ProcessError> {
        let output = self.capture()?;
        if !output.status.success() {
            let tail: Vec<String> =
                plain(&String::from_utf8_lossy(&output.stderr)).lines().map(str::to_owned).collect();
            return Err(self.failed(output.status, last(tail)));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }

    /// Runs a short command to its end, whatever the status.
    ///
    /// # Errors
    /// The program is missing or cannot be started.
    pub fn end(&self) -> Result<Ended, ProcessError> {
        let output = self.capture()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        Ok(Ended {
            success: output.status.success(),
            stdout: text(&output.stdout),
            stderr: plain(&text(&output.stderr)).into_owned(),
        })
    }

    /// Runs a long command, hands each line of its stdout and stderr to `on_line` as it comes, without control sequences, and
    /// keeps the last lines for the error.
    ///
    /// # Errors
    /// As [`Cmd::read`].
    pub async fn stream(
        self,
        killer: Killer,
        mut on_line: impl FnMut(&str) + Send + 'static,
    ) -> Result<(), ProcessError> {
        let run = move || {
            let reader =
                self.expression().stderr_to_stdout().unchecked().reader().map_err(|e| self.start_error(e))?;
            let reader = Arc::new(reader);
            if let Ok(mut guard) = killer.0.lock() {
                *guard = Some(Arc::clone(&reader));
            }
            let mut tail = std::collections::VecDeque::with_capacity(TAIL_LINES);
            let mut lines = BufReader::new(&*reader);
            let mut raw = Vec::new();
            // By bytes, not by `lines()`: a build may print what is not UTF-8.
            while lines.read_until(b'\n', &mut raw).map_err(|e| self.start_error(e))? > 0 {
                let text = String::from_utf8_lossy(&raw);
                let line = plain(text.trim_end_matches(['\n', '\r']));
                on_line(&line);
                if tail.len() == TAIL_LINES {
                    tail.pop_front();
                }
                tail.push_back(line.into_owned());
                raw.clear();
            }
            let output = reader.try_wait().map_err(|e| self.start_error(e))?;
            match output {
                Some(output) if !output.status.success() => Err(self.failed(output.status, tail.into())),
                _ => Ok(()),
            }
        };
        match tokio::task::spawn_blocking(run).await {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }

    /// Starts a server that outlives this process, in a process group of its own so that Ctrl-C here does not reach
    /// it, its output going to the file `log`. Gives its process id.
    ///
    /// # Errors
    /// The program is missing or cannot be started, or the log cannot be written.
    pub fn spawn_detached(&self, log: &Path) -> Result<u32, ProcessError> {
        use std::os::unix::process::CommandExt as _;
        let handle = self
            .expression()
            .stderr_to_stdout()
            .stdout_path(log)
            .before_spawn(|command| {
                command.process_group(0);
                Ok(())
            })
            .start()
            .map_err(|source| self.start_error(source))?;
        // Not waited for: the handle's drop leaves the program running.
        Ok(handle.pids().first().copied().unwrap_or_default())
    }

    fn capture(&self) -> Result<std::process::Output, ProcessError> {
        let expression = self.expression().stdout_capture().stderr_capture().unchecked();
        expression.run().map_err(|source| self.start_error(source))
    }

    /// What is changed in the variables that the program inherits: set, or taken away. What every program gets comes first, this
    /// command's own variables win over it, and the run's identity over both.
    fn variables(&self) -> BTreeMap<OsString, Option<OsString>> {
        let mut variables = BTreeMap::new();
        if let Ok(handed_down) = HANDED_DOWN.lock() {
            variables.extend(handed_down.iter().map(|(name, value)| (name.into(), Some(value.clone()))));
        }
        variables.extend(self.env.iter().cloned());
        let in_place = IN_PLACE_OF.lock().ok().and_then(|place| place.clone());
        if let Some((prefix, own)) = in_place.filter(|_| !self.keeps_shell) {
            let taken = |name: &OsString| name.as_encoded_bytes().starts_with(prefix.as_bytes());
            variables.retain(|name, _| !taken(name));
            variables
                .extend(std::env::vars_os().map(|(name, _)| (name, None)).filter(|(name, _)| taken(name)));
            variables.extend(own.into_iter().map(|(name, value)| (name.into(), Some(value.into()))));
        }
        variables
    }

    fn expression(&self) -> duct::Expression {
        let mut expression = duct::cmd(&self.program, &self.args);
        for (name, value) in self.variables() {
            expression = match value {
                Some(value) => expression.env(name, value),
                None => expression.env_remove(name),
            };
        }
        if let Some(dir) = &self.cwd {
            expression = expression.dir(dir);
        }
        match &self.stdin {
            Some(Stdin::Text(secret)) => expression.stdin_bytes(secret.reveal()),
            Some(Stdin::File(file)) => expression.stdin_path(file),
            None => expression.stdin_null(),
        }
    }

    fn start_error(&self, source: std::io::Error) -> ProcessError {
        match source.kind() {
            std::io::ErrorKind::NotFound => ProcessError::Missing { program: self.name() },
            _ => ProcessError::Start { program: self.name(), source },
        }
    }

    fn failed(&self, status: std::process::ExitStatus, tail: Vec<String>) -> ProcessError {
        ProcessError::Failed {
            command: self.display(),
            status: status.to_string(),
            code: status.code(),
            tail,
        }
    }
}

fn last(mut lines: Vec<String>) -> Vec<String> {
    lines.split_off(lines.len().saturating_sub(TAIL_LINES))
}
