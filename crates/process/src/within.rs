//! Programs of others that may hang, or print without end.

use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::command::{Ended, expression, text};
use crate::error::name;
use crate::{Cmd, ProcessError, blocking, plain};

/// How long a program that was killed may take to be gone.
const DEATH: Duration = Duration::from_secs(1);

/// Runs a short command to its end, whatever the status: for at most so long, and printing at most so many bytes. If it takes or
/// prints more, or whoever waits here goes away, it is killed with all that it started: it has a process group of its own.
///
/// # Errors
/// The program is missing, cannot be started, or took or printed more than it may.
pub async fn end_within(command: Cmd, time: Duration, bytes: u64) -> Result<Ended, ProcessError> {
    let group = Arc::new(Group::default());
    let _leash = Leash(Arc::clone(&group));
    blocking(move || run(&command, time, bytes, &group)).await
}

/// A program with all that it started.
#[derive(Default)]
struct Group(Mutex<State>);

#[derive(Default)]
enum State {
    #[default]
    Waiting,
    Runs(Pid),
    Over,
}

impl Group {
    fn set(&self, next: State) -> State {
        std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), next)
    }

    /// Notes that it runs, unless it is over before it began.
    fn runs(&self, pid: Pid) {
        if matches!(self.set(State::Runs(pid)), State::Over) {
            self.kill();
        }
    }

    fn kill(&self) {
        if let State::Runs(pid) = self.set(State::Over) {
            // It may have ended in the meantime: that is what was wanted.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

/// Kills the program, if it runs, with whoever waits for it.
struct Leash(Arc<Group>);

impl Drop for Leash {
    fn drop(&mut self) {
        self.0.kill();
    }
}

fn run(command: &Cmd, time: Duration, bytes: u64, group: &Group) -> Result<Ended, ProcessError> {
    let failed = |source| ProcessError::start(&command.program, source);
    let (stdout, to_stdout) = std::io::pipe().map_err(failed)?;
    let (stderr, to_stderr) = std::io::pipe().map_err(failed)?;
    let started = expression(command).stdout_file(to_stdout).stderr_file(to_stderr).unchecked().before_spawn(
        |command| {
            command.process_group(0);
            Ok(())
        },
    );
    let handle = started.start().map_err(failed)?;
    // It holds the ends that are written to, and there is no end of what is read while somebody does.
    drop(started);
    let pid = handle.pids().first().and_then(|pid| Pid::from_raw(i32::try_from(*pid).ok()?));
    pid.into_iter().for_each(|pid| group.runs(pid));

    let deadline = Instant::now() + time;
    let (sender, printed) = mpsc::channel();
    for (at, stream) in [stdout, stderr].into_iter().enumerate() {
        let sender = sender.clone();
        std::thread::spawn(move || {
            let mut all = Vec::new();
            // What was read until it failed is what there is. Nobody listens any more once the time is over.
            let _ = stream.take(bytes.saturating_add(1)).read_to_end(&mut all);
            let _ = sender.send((at, all));
        });
    }
    let late = || ProcessError::Late { program: name(&command.program), after: time };
    let ended = (|| {
        let mut all = [Vec::new(), Vec::new()];
        for _ in 0..all.len() {
            let left = deadline.saturating_duration_since(Instant::now());
            let (at, read) = printed.recv_timeout(left).map_err(|_| late())?;
            if read.len() as u64 > bytes {
                return Err(ProcessError::Endless { program: name(&command.program), bytes });
            }
            all[at] = read;
        }
        let output = handle.wait_deadline(deadline).map_err(failed)?.ok_or_else(late)?;
        let [stdout, stderr] = all;
        let stderr = plain(&text(&stderr)).into_owned();
        Ok(Ended { success: output.status.success(), stdout: text(&stdout), stderr })
    })();
    match ended {
        Ok(_) => drop(group.set(State::Over)),
        Err(_) => {
            group.kill();
            // So that it does not stay as a zombie.
            let _ = handle.wait_timeout(DEATH);
        }
    }
    ended
}
