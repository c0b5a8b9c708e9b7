//! This tool's own docker engine, for machines without a running one.
//!
//! It outlives the command that started it, and is found again by its directory, which has its socket, pid file, log and images.
//! Checkouts therefore have separate engines.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use process::Cmd;
use rustix::process::{Pid, Signal};
use sha2::Digest as _;

use super::client::{LOOK, START_TIMEOUT, answers, answers_to, start_service};
use super::processes::{self, Process, has_ended};
use super::{PrerequisiteError, search_path};

/// The longest possible directory: a socket's address has at most 107 bytes, and containerd's socket is
/// `run/containerd/containerd-debug.sock.ttrpc` below it.
const LONGEST_DIRECTORY: usize = 107 - "/run/containerd/containerd-debug.sock.ttrpc".len();

/// A docker engine in a directory, running or not.
#[derive(Clone, Debug)]
pub struct Engine {
    /// The directory of images and log.
    state: PathBuf,
    /// The directory of the socket, the pid file and other files of the running engine.
    runtime: PathBuf,
}

impl Engine {
    /// The engine with its data in `state`.
    pub fn at(state: &Path) -> Self {
        let state = std::path::absolute(state).unwrap_or_else(|_| state.to_owned());
        let bytes = state.as_os_str().as_bytes();
        let runtime = if bytes.len() <= LONGEST_DIRECTORY {
            state.clone()
        } else {
            let name = hex::encode(&sha2::Sha256::digest(bytes)[..6]);
            Path::new("/run/htc-grid-images").join(name)
        };
        Self { state, runtime }
    }

    /// Its `DOCKER_HOST`.
    pub fn host(&self) -> String {
        format!("unix://{}", self.runtime.join("docker.sock").display())
    }

    /// Its log file.
    pub fn log(&self) -> PathBuf {
        self.state.join("dockerd.log")
    }

    /// The directory of its images and log.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// The directory of its socket and other files of the running engine.
    pub(super) fn runtime(&self) -> &Path {
        &self.runtime
    }

    pub(super) fn pid_file(&self) -> PathBuf {
        self.runtime.join("dockerd.pid")
    }

    /// Its process ID, if it runs. The pid file alone is not enough: after a crash another process may have this ID.
    pub fn pid(&self) -> Option<u32> {
        processes::all().into_iter().find(|process| is_of(process, self)).map(|process| process.pid)
    }

    /// Checks that no other engine uses this machine's network: two would overwrite each other's bridge and firewall rules.
    ///
    /// # Errors
    /// There is another one; the error names it.
    pub fn check_alone(&self) -> Result<(), PrerequisiteError> {
        match other(self) {
            Some(engine) => {
                Err(PrerequisiteError::OtherEngine { pid: engine.pid, address: engine.address() })
            }
            None => Ok(()),
        }
    }

    /// The address of another engine on this machine's network.
    pub(super) fn other_address(&self) -> Option<String> {
        other(self)?.address()
    }

    /// Starts it, unless it runs, and waits until it answers. Returns its `DOCKER_HOST`, or `None` if the system's own engine could
    /// be started, which every client finds.
    ///
    /// # Errors
    /// Another engine runs here, or this one ends or does not answer in time.
    pub async fn start(&self) -> Result<Option<String>, PrerequisiteError> {
        self.check_alone()?;
        if Path::new("/run/systemd/system").exists() && start_service().await {
            return Ok(None);
        }
        let host = self.host();
        if self.pid().is_some() {
            if answers(Some(&host)).await.is_ok() {
                return Ok(Some(host));
            }
            // Its directory was removed while it ran, for example by `cargo clean`, so it cannot be reached any more.
            self.stop().await?;
        }
        for dir in [&self.state, &self.runtime] {
            std::fs::create_dir_all(dir)
                .map_err(|source| PrerequisiteError::File { path: dir.display().to_string(), source })?;
        }
        let configuration = empty_configuration(&self.state)?;
        self.launch(Cmd::new("dockerd").env("PATH", search_path()), &configuration, &Cmd::new("docker"))
            .await?;
        Ok(Some(host))
    }

    /// Starts `dockerd` with this engine's directories and waits until it answers `client`.
    pub(super) async fn launch(
        &self,
        dockerd: Cmd,
        configuration: &Path,
        client: &Cmd,
    ) -> Result<(), PrerequisiteError> {
        let host = self.host();
        let process = dockerd
            .arg("--data-root")
            .arg(self.state.join("data"))
            .arg("--exec-root")
            .arg(self.runtime.join("run"))
            .arg("--pidfile")
            .arg(self.pid_file())
            .arg("--host")
            .arg(&host)
            // Without the system's configuration, which may contain the same options: dockerd refuses duplicates.
            .arg("--config-file")
            .arg(configuration)
            .spawn_detached(&self.log());
        let pid = process.map_err(|source| PrerequisiteError::Program {
            action: "start a docker engine".into(),
            source,
        })?;
        let deadline = Instant::now() + START_TIMEOUT;
        while answers_to(client.clone(), Some(&host)).await.is_err() {
            if has_ended(pid) {
                return Err(PrerequisiteError::EngineFailed {
                    log: self.log().display().to_string(),
                    tail: tail(&self.log()),
                });
            }
            if Instant::now() > deadline {
                return Err(slow(self, "answer"));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Ends it and waits until its process has ended. Its images stay. Does nothing if it does not run.
    ///
    /// # Errors
    /// It does not end in time.
    pub async fn stop(&self) -> Result<(), PrerequisiteError> {
        let Some(pid) = self.pid() else { return Ok(()) };
        let process = i32::try_from(pid).ok().and_then(Pid::from_raw);
        if let Some(process) = process {
            // It may have ended in the meantime, which is fine.
            let _ = rustix::process::kill_process(process, Signal::TERM);
        }
        let deadline = Instant::now() + START_TIMEOUT;
        while !has_ended(pid) {
            if Instant::now() > deadline {
                return Err(slow(self, "end"));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }
}

/// Whether a process belongs to this engine.
fn is_of(process: &Process, engine: &Engine) -> bool {
    let pid_file = engine.pid_file();
    process.arguments.windows(2).any(|pair| pair[0] == "--pidfile" && Path::new(&pair[1]) == pid_file)
}

/// Finds another engine on this machine's network.
fn other(than: &Engine) -> Option<Process> {
    let network = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    let here = network("self");
    processes::all().into_iter().find(|process| {
        !is_of(process, than) && !process.keeps_to_itself() && network(&process.pid.to_string()) == here
    })
}

fn empty_configuration(state: &Path) -> Result<PathBuf, PrerequisiteError> {
    let path = state.join("daemon.json");
    match std::fs::write(&path, "{}\n") {
        Ok(()) => Ok(path),
        Err(source) => Err(PrerequisiteError::File { path: path.display().to_string(), source }),
    }
}

fn slow(engine: &Engine, what: &'static str) -> PrerequisiteError {
    let log = engine.log().display().to_string();
    PrerequisiteError::EngineSlow { what, seconds: START_TIMEOUT.as_secs(), log }
}

/// The last lines of a log.
fn tail(log: &Path) -> Vec<String> {
    let log = std::fs::read(log).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(5)..].iter().map(|line| (*line).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Environment, Need, Setup, ensure};
    use super::*;

    #[test]
    fn an_engines_socket_paths_are_short_enough() {
        let short = Engine::at(Path::new("/tmp/x"));
        assert_eq!(short.host(), "unix:///tmp/x/docker.sock");
        let long = Engine::at(&Path::new("/tmp").join("x".repeat(120)));
        assert!(long.host().starts_with("unix:///run/htc-grid-images/"), "{}", long.host());
        assert!(long.log().starts_with("/tmp"));
        assert_ne!(long.host(), Engine::at(&Path::new("/tmp").join("y".repeat(120))).host());
    }

    /// Prints what was not tested. Written past the harness, which hides the output of passing tests.
    fn skipped(missing: &str) {
        let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("SKIPPED: {missing}\n").as_bytes());
    }

    /// Starts a real engine with its own network and /run, so that it does not conflict with another one: this test starts itself
    /// again there, as [`in_a_separate_machine`].
    #[test]
    fn a_missing_engine_is_started_found_again_and_stopped() {
        for program in ["dockerd", "docker", "unshare"] {
            if which::which(program).is_err() {
                skipped(&format!("{program} is not installed; on Debian: apt-get install docker.io"));
                return;
            }
        }
        if !rustix::process::geteuid().is_root() {
            skipped("only root can start a docker engine");
            return;
        }
        let module = module_path!().split_once("::").unwrap().1;
        let output = Cmd::new("unshare")
            // With its own processes too, so that no engine stays after a failure.
            .args([
                "--net",
                "--mount",
                "--propagation",
                "private",
                "--pid",
                "--fork",
                "--kill-child",
                "--mount-proc",
            ])
            .args(["sh", "-c"])
            .arg("mount -t tmpfs tmpfs /run && exec \"$@\"")
            .arg("sh")
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "--ignored", "--nocapture", &format!("{module}::in_a_separate_machine")])
            .env_remove("DOCKER_HOST")
            .env_remove("CI")
            .env_remove("DOCKER_CONTEXT")
            .env("DOCKER_CONFIG", "/nonexistent")
            .env("RUST_BACKTRACE", "0")
            .read()
            .unwrap();
        assert!(output.contains("1 passed"), "{output}");
    }

    #[tokio::test]
    #[ignore = "run by a_missing_engine_is_started_found_again_and_stopped"]
    async fn in_a_separate_machine() {
        let dir = tempfile::tempdir().unwrap();
        let asked = std::sync::Mutex::new(Vec::new());
        let answer = std::sync::atomic::AtomicBool::new(false);
        let ask = |question: &str| {
            asked.lock().unwrap().push(question.to_owned());
            answer.load(std::sync::atomic::Ordering::Relaxed)
        };
        let setup =
            Setup { python: dir.path(), state: dir.path(), assume_yes: false, ask: &ask, say: &|_| {} };
        let needs = [Need::Docker];

        let refused = ensure(&needs, &setup).await.unwrap_err();
        assert!(refused.to_string().starts_with("nothing was installed or started"), "{refused}");
        assert!(!dir.path().join("dockerd.log").exists());

        answer.store(true, std::sync::atomic::Ordering::Relaxed);
        let engine = Engine::at(dir.path());
        let expected = Environment { docker_host: Some(engine.host()) };
        assert_eq!(ensure(&needs, &setup).await.unwrap(), expected);
        let first = engine.pid().unwrap();
        let docker = Cmd::new("docker").env("DOCKER_HOST", engine.host());
        docker.clone().args(["info", "--format", "{{.DockerRootDir}}"]).read().unwrap();

        // It is found again without a question. Another checkout uses it too, and does not start a second one.
        assert_eq!(ensure(&needs, &setup).await.unwrap(), expected);
        assert_eq!(engine.pid(), Some(first));
        assert_eq!(asked.lock().unwrap().len(), 2);
        let elsewhere = tempfile::tempdir().unwrap();
        let other = Setup { state: elsewhere.path(), ..setup };
        assert_eq!(ensure(&needs, &other).await.unwrap(), expected);
        assert!(asked.lock().unwrap()[2].contains(&engine.host()));
        let refused = Engine::at(elsewhere.path()).start().await.unwrap_err().to_string();
        assert!(refused.ends_with(&format!("export DOCKER_HOST={}", engine.host())), "{refused}");

        // Without its socket it cannot be reached: it is ended, and another one is started.
        std::fs::remove_file(dir.path().join("docker.sock")).unwrap();
        assert_eq!(ensure(&needs, &setup).await.unwrap(), expected);
        assert_ne!(engine.pid(), Some(first));

        engine.stop().await.unwrap();
        assert!(engine.pid().is_none() && answers(Some(&engine.host())).await.is_err());
        engine.stop().await.unwrap();

        // An engine that cannot start reports why.
        std::fs::remove_dir_all(dir.path().join("data")).unwrap();
        std::fs::write(dir.path().join("data"), "in the way").unwrap();
        let failed = engine.start().await.unwrap_err().to_string();
        assert!(failed.contains("dockerd.log") && failed.contains("/data"), "{failed}");
    }
}
