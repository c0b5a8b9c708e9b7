//! The only place of this crate that starts programs.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};

/// Set when an interrupt or SIGTERM has arrived.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);
/// The measuring child that is running now.
static CURRENT: Mutex<Option<Pid>> = Mutex::new(None);

/// A program to start.
#[expect(clippy::disallowed_methods, reason = "bench's one place that starts programs")]
fn command(program: impl AsRef<OsStr>) -> Command {
    Command::new(program)
}

/// This program again.
fn this() -> Result<Command> {
    Ok(command(std::env::current_exe().context("could not find this program's own file")?))
}

/// Ends the run cleanly on Ctrl-C, SIGTERM and SIGHUP: the measured program is ended, the run returns an error, and everything that was set
/// up is removed.
///
/// # Errors
/// No thread or signal handler can be created.
pub fn watch_for_interrupts() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            let (Ok(mut int), Ok(mut term), Ok(mut hup)) = (
                signal(SignalKind::interrupt()),
                signal(SignalKind::terminate()),
                signal(SignalKind::hangup()),
            ) else {
                return;
            };
            loop {
                tokio::select! { _ = int.recv() => {}, _ = term.recv() => {}, _ = hup.recv() => {} }
                INTERRUPTED.store(true, Ordering::SeqCst);
                if let Ok(current) = CURRENT.lock()
                    && let Some(pid) = *current
                {
                    // It may have ended already.
                    let _ = kill_process(pid, Signal::TERM);
                }
            }
        });
    })?;
    Ok(())
}

/// Fails if an interrupt has arrived.
///
/// # Errors
/// An interrupt has arrived.
pub fn check_interrupt() -> Result<()> {
    if INTERRUPTED.load(Ordering::SeqCst) { bail!("interrupted") } else { Ok(()) }
}

/// Runs a short program and returns its stdout.
///
/// # Errors
/// The program is missing or fails; the error has the last line of its stderr.
pub fn read(program: &str, args: &[&str]) -> Result<Vec<u8>> {
    check_interrupt()?;
    let output = command(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("could not start {program}"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let last = stderr.trim().lines().last().unwrap_or_default().to_owned();
        bail!("`{program} {}` ended with {}: {last}", args.join(" "), output.status);
    }
    Ok(output.stdout)
}

/// Runs a program during cleanup and ignores its result.
pub fn attempt(program: &str, args: &[&str], env: &[(String, String)]) {
    let envs = env.iter().map(|(key, value)| (key, value));
    let _ = command(program)
        .args(args)
        .envs(envs)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}

/// A server that ends when this value is dropped, and when this process ends in any way.
#[derive(Debug)]
pub struct Server {
    child: Child,
}

impl Server {
    /// Starts `program` with its output in files.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(program: &Path, args: &[&str], stdout: &Path, stderr: &Path) -> Result<Self> {
        check_interrupt()?;
        let child = this()?
            .arg("tether")
            .arg("--")
            .arg(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(File::create(stdout)?)
            .stderr(File::create(stderr)?)
            .spawn()
            .with_context(|| format!("could not start {}", program.display()))?;
        Ok(Self { child })
    }

    /// Starts this program with `args` after `prefix` and waits for the address that it prints.
    ///
    /// # Errors
    /// It cannot be started or prints no address.
    pub fn start_own(prefix: &[String], args: &[&str]) -> Result<(Self, SocketAddr)> {
        check_interrupt()?;
        let own = std::env::current_exe()?;
        let mut child = this()?
            .arg("tether")
            .arg("--")
            .args(prefix)
            .arg(own)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let server = Self { child };
        let addr =
            line.trim().parse().with_context(|| format!("`bench {}` did not start", args.join(" ")))?;
        Ok((server, addr))
    }

    /// Its process ID.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended.
    pub fn ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if it has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Replaces this process by `argv`, which ends when this process's parent ends.
///
/// # Errors
/// The program cannot be started; otherwise this does not return.
pub fn run_with_parent(argv: &[String]) -> Result<()> {
    end_with_parent(Signal::KILL)?;
    let [program, args @ ..] = argv else { bail!("no program was given") };
    Err(command(program).args(args).exec()).with_context(|| format!("could not start {program}"))
}

/// Asks the kernel to send `signal` to this process when its parent ends.
///
/// # Errors
/// The kernel rejects it.
pub fn end_with_parent(signal: Signal) -> Result<()> {
    Ok(set_parent_process_death_signal(Some(signal))?)
}

/// Runs this program as a measuring child (after `prefix`), and waits for it.
///
/// # Errors
/// It cannot be started or fails, or an interrupt has arrived.
pub fn run_measuring(prefix: &[String], spec: &Path) -> Result<()> {
    check_interrupt()?;
    let own = std::env::current_exe()?;
    let mut started = match prefix {
        [] => this()?,
        [program, args @ ..] => {
            let mut started = command(program);
            started.args(args).arg(own);
            started
        }
    };
    let mut child = started.arg("measure").arg(spec).stdin(Stdio::null()).spawn()?;
    let set = |value| {
        if let Ok(mut current) = CURRENT.lock() {
            *current = value;
        }
    };
    set(i32::try_from(child.id()).ok().and_then(Pid::from_raw));
    let status = child.wait();
    set(None);
    check_interrupt()?;
    let status = status?;
    if !status.success() {
        bail!("the measuring process ended with {status}");
    }
    Ok(())
}

/// Starts one measured program.
///
/// # Errors
/// It cannot be started.
pub fn start_measured(argv: &[String], env: &[(String, String)], cwd: &Path, log: &File) -> Result<Child> {
    let [program, args @ ..] = argv else { bail!("no program was given") };
    let mut started = command(program);
    for proxy in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        started.env_remove(proxy);
    }
    started
        .args(args)
        .envs(env.iter().map(|(key, value)| (key, value)))
        .current_dir(cwd)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log.try_clone()?)
        .spawn()
        .with_context(|| format!("could not start {program}"))
}
