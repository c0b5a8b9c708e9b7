//! `bench measure SPEC`: runs the programs of one measurement and reports their cost.
//!
//! This is a separate process, so that the kernel's statistics of ended children (`RUSAGE_CHILDREN`, getrusage(2)) cover only these
//! programs: CPU time of all, peak memory of the largest, blocks written.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::resource::{UsageWho, getrusage};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::process;

/// Interval for listing a watched program's open files.
const LOOK: Duration = Duration::from_millis(100);

/// The programs to run.
#[derive(Debug, Serialize, Deserialize)]
pub struct Spec {
    /// Chains of programs: sequential within a chain, chains in parallel.
    pub chains: Vec<Vec<Vec<String>>>,
    /// How many chains run in parallel.
    pub jobs: usize,
    /// Additional environment variables.
    pub env: Vec<(String, String)>,
    /// Working directory.
    pub cwd: PathBuf,
    /// File for the programs' output.
    pub log: PathBuf,
    /// File for the result.
    pub answer: PathBuf,
    /// Time limit in seconds, after which everything is killed.
    pub timeout_s: u64,
    /// A daemon that works for them: its CPU time and its children's are added.
    pub daemon: Option<u32>,
    /// Whether to record which regular files they have open for writing.
    pub watch_files: bool,
}

/// The cost.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Cost {
    /// From the first start to the last end, in seconds.
    pub wall_s: f64,
    /// User and system time, in seconds.
    pub cpu_s: f64,
    /// The largest peak memory of one process, in KiB.
    pub peak_kib: u64,
    /// Bytes written to block devices.
    pub written_bytes: u64,
    /// Regular files that were open for writing, if recorded.
    pub files: Option<BTreeSet<String>>,
    /// What went wrong.
    pub error: Option<String>,
}

struct Running {
    pids: Mutex<Vec<Pid>>,
    stopped: AtomicBool,
    done: (Mutex<bool>, Condvar),
}

impl Running {
    fn kill(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        if let Ok(pids) = self.pids.lock() {
            for pid in pids.iter() {
                // It may have ended already.
                let _ = kill_process(*pid, Signal::KILL);
            }
        }
    }

    fn list(&self) -> Vec<Pid> {
        self.pids.lock().map(|pids| pids.clone()).unwrap_or_default()
    }
}

/// Runs the programs in the file and writes the result.
///
/// # Errors
/// The files cannot be read or written; a program's failure is part of the result.
pub fn run(spec: &Path) -> Result<()> {
    process::end_with_parent(Signal::TERM)?;
    let spec: Spec = serde_json::from_slice(&fs::read(spec)?)?;
    let log = File::options().create(true).append(true).open(&spec.log)?;
    let running = Arc::new(Running {
        pids: Mutex::default(),
        stopped: AtomicBool::new(false),
        done: (Mutex::new(false), Condvar::new()),
    });
    end_on_signal(Arc::clone(&running))?;
    let daemon_before = spec.daemon.map(daemon_cpu);
    let queue = Mutex::new(spec.chains.iter());
    let error: Mutex<Option<String>> = Mutex::new(None);
    let started = Instant::now();
    let (wall, files) = std::thread::scope(|scope| {
        let watcher = {
            let running = Arc::clone(&running);
            let (timeout, watch) = (Duration::from_secs(spec.timeout_s), spec.watch_files);
            scope.spawn(move || watch_over(&running, timeout, watch))
        };
        let workers: Vec<_> = (0..spec.jobs.max(1))
            .map(|_| scope.spawn(|| work(&spec, &queue, &running, &log, &error)))
            .collect();
        for worker in workers {
            // A worker returns nothing; a panic would be a bug and is printed by the runtime.
            let _ = worker.join();
        }
        let wall = started.elapsed();
        if let Ok(mut done) = running.done.0.lock() {
            *done = true;
            running.done.1.notify_all();
        }
        (wall, watcher.join().unwrap_or_default())
    });
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    let daemon = match (spec.daemon, daemon_before) {
        (Some(pid), Some(before)) => daemon_cpu(pid) - before,
        _ => 0.0,
    };
    let mut error = error.into_inner().unwrap_or_default();
    if running.stopped.load(Ordering::SeqCst) && wall.as_secs() >= spec.timeout_s {
        error = Some(format!("not done after {} s", spec.timeout_s));
    }
    let cost = Cost {
        wall_s: wall.as_secs_f64(),
        cpu_s: seconds(usage.user_time()) + seconds(usage.system_time()) + daemon,
        peak_kib: u64::try_from(usage.max_rss()).unwrap_or_default(),
        written_bytes: u64::try_from(usage.block_writes()).unwrap_or_default() * 512,
        files: spec.watch_files.then_some(files),
        error,
    };
    fs::write(&spec.answer, serde_json::to_vec(&cost)?).context("could not write the answer")
}

/// Takes chains from the queue until it is empty or one has failed.
fn work<'a>(
    spec: &Spec,
    queue: &Mutex<impl Iterator<Item = &'a Vec<Vec<String>>>>,
    running: &Running,
    log: &File,
    error: &Mutex<Option<String>>,
) {
    let fail = |text: String| {
        if let Ok(mut error) = error.lock() {
            error.get_or_insert(text);
        }
    };
    while let Some(chain) = queue.lock().ok().and_then(|mut queue| queue.next()) {
        for argv in chain {
            if running.stopped.load(Ordering::SeqCst) {
                return;
            }
            let program = argv.first().map_or("", String::as_str);
            let mut child = match process::start_measured(argv, &spec.env, &spec.cwd, log) {
                Ok(child) => child,
                Err(error) => return fail(format!("{error:#}")),
            };
            let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
            if let (Some(pid), Ok(mut pids)) = (pid, running.pids.lock()) {
                pids.push(pid);
            }
            let status = child.wait();
            if let Ok(mut pids) = running.pids.lock() {
                pids.retain(|other| Some(*other) != pid);
            }
            match status {
                Ok(status) if status.success() => {}
                Ok(status) => {
                    let tail = tail(&spec.log);
                    return fail(format!("{program} ended with {status}: {tail}"));
                }
                Err(error) => return fail(error.to_string()),
            }
        }
    }
}

/// The last line of the log that is not empty.
fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    last.chars().take(300).collect()
}

fn end_on_signal(running: Arc<Running>) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Registered before anything is started, so that no signal is missed.
    let mut term = runtime.block_on(async { signal(SignalKind::terminate()) })?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            term.recv().await;
            running.kill();
        });
    })?;
    Ok(())
}

/// Until everything is done: kills everything at the time limit, and records files if requested.
fn watch_over(running: &Running, timeout: Duration, watch: bool) -> BTreeSet<String> {
    let started = Instant::now();
    let mut files = BTreeSet::new();
    let Ok(mut done) = running.done.0.lock() else { return files };
    while !*done {
        let left = timeout.saturating_sub(started.elapsed());
        if left.is_zero() {
            running.kill();
        }
        // After the kill, wait in intervals instead of a busy loop.
        let wait = if watch || left.is_zero() { LOOK } else { left };
        let Ok((guard, _)) = running.done.1.wait_timeout(done, wait) else { return files };
        done = guard;
        if watch {
            for pid in running.list() {
                files.extend(open_for_writing(pid));
            }
        }
    }
    files
}

/// Regular files that `pid` has open for writing, except the log of its output (descriptors 1 and 2).
fn open_for_writing(pid: Pid) -> Vec<String> {
    let process = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
    let Ok(entries) = fs::read_dir(process.join("fd")) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let (Some(number), Ok(target)) = (name.to_str(), fs::read_link(entry.path())) else { continue };
        let device = ["/dev", "/proc", "/sys"].iter().any(|dir| target.starts_with(dir));
        if matches!(number, "0" | "1" | "2") || !target.is_absolute() || device {
            continue;
        }
        let info = fs::read_to_string(process.join("fdinfo").join(number)).unwrap_or_default();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        // open(2): the lowest two bits are the access mode; 0 is read-only.
        if flags
            .and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok())
            .is_some_and(|flags| flags & 3 != 0)
        {
            found.push(target.display().to_string());
        }
    }
    found
}

/// CPU seconds of `root`, its descendants, and their ended children.
fn daemon_cpu(root: u32) -> f64 {
    let mut parents: HashMap<u32, (u32, u64)> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        if let Some(found) = fs::read_to_string(entry.path().join("stat")).ok().as_deref().and_then(stat) {
            parents.insert(pid, found);
        }
    }
    let belongs = |mut pid: u32| {
        for _ in 0..64 {
            if pid == root {
                return true;
            }
            match parents.get(&pid) {
                Some((parent, _)) => pid = *parent,
                None => return false,
            }
        }
        false
    };
    let ticks: u64 = parents.iter().filter(|(pid, _)| belongs(**pid)).map(|(_, (_, ticks))| ticks).sum();
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

/// Parent, and ticks of the process and its ended children, from `/proc/PID/stat` (proc_pid_stat(5)).
fn stat(text: &str) -> Option<(u32, u64)> {
    // The name in parentheses may contain anything: the fields follow the last parenthesis.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let parent = fields.get(1)?.parse().ok()?;
    let ticks = fields.get(11..15)?.iter().map(|field| field.parse::<u64>().unwrap_or_default()).sum();
    Some((parent, ticks))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_past_a_name_with_parentheses() {
        let text = "42 (a) b (c)) S 7 42 42 0 -1 4194560 1 2 3 4 10 20 30 40 20 0 1 0 5 6 7";
        assert_eq!(stat(text), Some((7, 100)));
        assert_eq!(stat("nonsense"), None);
    }
}
