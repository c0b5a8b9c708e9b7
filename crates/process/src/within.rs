//! External programs that may hang, or print without end.

use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::command::{Ended, expression, text};
use crate::error::name;
use crate::{Cmd, ProcessError, blocking, plain};

/// How long to wait for a killed program to end.
const KILL_TIMEOUT: Duration = Duration::from_secs(1);

/// Runs a short command to its end, with any status, with a time limit and an output limit in bytes. If it exceeds one, or the
/// caller stops waiting, it and every process it started are killed: it has its own process group.
///
/// # Errors
/// The program is missing, cannot be started, or exceeded a limit.
pub async fn end_within(command: Cmd, time: Duration, bytes: u64) -> Result<Ended, ProcessError> {
    let group = Arc::new(Group::default());
    let _kill_on_drop = KillOnDrop(Arc::clone(&group));
    blocking(move || run(&command, time, bytes, &group)).await
}

/// A program with every process that it started.
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

    /// Records that it runs. Kills it if the wait is already over.
    fn runs(&self, pid: Pid) {
        if matches!(self.set(State::Runs(pid)), State::Over) {
            self.kill();
        }
    }

    fn kill(&self) {
        if let State::Runs(pid) = self.set(State::Over) {
            // It may have ended in the meantime, which is fine.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

/// Kills the program on drop, if it runs: when the task that waits for it is dropped, the program ends too.
struct KillOnDrop(Arc<Group>);

impl Drop for KillOnDrop {
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
    // `started` holds the write ends of the pipes. The readers see no end of file while one is open.
    drop(started);
    let pid = handle.pids().first().and_then(|pid| Pid::from_raw(i32::try_from(*pid).ok()?));
    pid.into_iter().for_each(|pid| group.runs(pid));

    let deadline = Instant::now() + time;
    let (sender, printed) = mpsc::channel();
    for (at, stream) in [stdout, stderr].into_iter().enumerate() {
        let sender = sender.clone();
        std::thread::spawn(move || {
            let mut all = Vec::new();
            // If reading fails, what was read until then is kept. After the time limit nothing receives it.
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
            // Collect its status, otherwise it stays as a zombie.
            let _ = handle.wait_timeout(KILL_TIMEOUT);
        }
    }
    ended
}
