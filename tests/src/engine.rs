//! An empty engine, like on another machine.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;

use crate::gate::BOUND;
use crate::{command, engine, program, skip, text};

/// A docker engine without network access, with its images in its own directory; it ends when dropped.
#[derive(Debug)]
pub struct SeparateEngine {
    child: Child,
    dir: PathBuf,
    /// Removed with it.
    own: Option<TempDir>,
}

impl SeparateEngine {
    /// Starts an engine in addition to the machine's own, or reports what is missing.
    pub fn start() -> Option<Self> {
        // A socket's path must be short.
        let dir = tempfile::Builder::new().prefix("e2e-").tempdir_in("/tmp").unwrap();
        let mut started = Self::at(dir.path(), None)?;
        started.own = Some(dir);
        Some(started)
    }

    /// Starts an engine in the directory `dir`: in its own empty network, because two engines on one network use the same bridge, or in the
    /// network of the process `network`, which has no other engine.
    pub(crate) fn at(dir: &Path, network: Option<&str>) -> Option<Self> {
        let (unshare, nsenter, program) = (program("unshare")?, program("nsenter")?, program("dockerd")?);
        if !geteuid().is_root() {
            skip("a second docker engine needs root");
            return None;
        }
        std::fs::create_dir_all(dir).unwrap();
        let path = |name: &str| dir.join(name);
        std::fs::write(path("daemon.json"), "{}\n").unwrap();
        let log = std::fs::File::create(path("log")).unwrap();
        let mut dockerd;
        if let Some(process) = network {
            dockerd = command(nsenter);
            dockerd.args(["--target", process, "--net"]).arg(program);
        } else {
            dockerd = command(unshare);
            dockerd.arg("--net").arg(program).arg("--iptables=false");
        }
        for (flag, name) in [
            ("--data-root", "data"),
            ("--exec-root", "run"),
            ("--pidfile", "pid"),
            ("--config-file", "daemon.json"),
        ] {
            dockerd.arg(flag).arg(path(name));
        }
        dockerd.arg("--host").arg(format!("unix://{}", path("docker.sock").display()));
        dockerd.stdout(Stdio::from(log.try_clone().unwrap())).stderr(log);
        let mut started = Self { child: dockerd.spawn().unwrap(), dir: dir.to_owned(), own: None };
        let since = std::time::Instant::now();
        while !started.client().arg("version").output().unwrap().status.success() {
            let ended = started.child.try_wait().unwrap();
            let log = || std::fs::read_to_string(started.dir.join("log")).unwrap_or_default();
            assert!(ended.is_none() && since.elapsed() < BOUND, "{ended:?}\n{}", log());
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        Some(started)
    }

    /// Its `DOCKER_HOST`.
    pub fn host(&self) -> String {
        format!("unix://{}", self.dir.join("docker.sock").display())
    }

    fn client(&self) -> Command {
        let mut client = engine();
        client.env("DOCKER_HOST", self.host()).env_remove("DOCKER_CONTEXT");
        client
    }

    /// The IDs of its images.
    pub fn images(&self) -> Vec<String> {
        let listed = text(self.client().args(["image", "ls", "--quiet", "--no-trunc"]));
        let images: std::collections::BTreeSet<&str> = listed.lines().collect();
        images.into_iter().map(str::to_owned).collect()
    }
}

impl Drop for SeparateEngine {
    fn drop(&mut self) {
        // On SIGTERM it removes its mounts.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}
