//! Docker engines for the tests: one for each image store of a recent docker, while the tests run.
//!
//! They use this machine's network, so that a base can be pulled from a registry on loopback, and run next to the machine's own
//! engine: each has its own bridge and does not set firewall rules, so that it does not change those of others. Each is the first
//! process of a process namespace, with its mounts in a mount namespace, so that killing it leaves only its directory.

use std::ffi::OsString;
use std::fs::File;
use std::path::Path;
use std::time::Instant;

use process::Cmd;
use rustix::process::{Pid, Signal};
use sha2::Digest as _;

use super::client::{LOOK, START_TIMEOUT};
use super::engine::Engine;
use super::modern_docker::ModernDocker;
use super::processes::has_ended;
use super::{PrerequisiteError, search_path};

/// The variable with the client's directory, for PATH.
const CLIENT: &str = "HTC_GRID_TEST_DOCKER";
/// The variable with the path of its buildx plugin.
const BUILDX: &str = "HTC_GRID_TEST_BUILDX";

/// The mark on outgoing packets of the tests' containers.
const MARK: &str = "0x487463";

/// An engine's image store. Docker 29 uses containerd's by default.
#[derive(Clone, Copy, Debug)]
enum Store {
    Classic,
    Containerd,
}

impl Store {
    const ALL: [Self; 2] = [Self::Classic, Self::Containerd];

    fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Containerd => "containerd",
        }
    }

    /// The variable with its engine's address.
    fn variable(self) -> &'static str {
        match self {
            Self::Classic => "HTC_GRID_TEST_CLASSIC",
            Self::Containerd => "HTC_GRID_TEST_CONTAINERD",
        }
    }

    fn configuration(self) -> String {
        let containerd = matches!(self, Self::Containerd);
        serde_json::json!({ "features": { "containerd-snapshotter": containerd } }).to_string()
    }
}

/// The engines of a test run. Ended on drop.
pub struct TestEngines {
    docker: ModernDocker,
    running: Vec<TestEngine>,
    /// Held until they are ended, to exclude another test run in this checkout.
    _lock: File,
}

impl TestEngines {
    /// Starts them below `target`, after ending those of an earlier run that was killed.
    ///
    /// # Errors
    /// There is no recent docker for this machine, or an engine does not start.
    pub async fn start(target: &Path, say: &(dyn Fn(&str) + Sync)) -> Result<Self, PrerequisiteError> {
        let dir = target.join("engines");
        std::fs::create_dir_all(&dir).map_err(|source| file(&dir, source))?;
        let lock = lock(&dir.join("lock"), say).await?;
        let docker = ModernDocker::unpack(target, say).await?;
        let mut engines = Self { docker, running: Vec::new(), _lock: lock };
        // One after another, because each chooses addresses that no other uses.
        for store in Store::ALL {
            let engine = TestEngine::at(&dir.join(store.name()), store);
            engine.end();
            engine.start(&engines.docker).await?;
            engines.running.push(engine);
        }
        Ok(engines)
    }

    /// The variables with which the tests find them.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let client = self.docker.client();
        let client = client.parent().unwrap_or(&client);
        let mut variables = vec![
            (CLIENT, client.display().to_string()),
            (BUILDX, self.docker.buildx().display().to_string()),
        ];
        variables.extend(self.running.iter().map(|engine| (engine.store.variable(), engine.engine.host())));
        variables
    }
}

impl Drop for TestEngines {
    fn drop(&mut self) {
        self.running.iter().for_each(TestEngine::end);
    }
}

/// Waits until no other test run has engines in this directory.
async fn lock(path: &Path, say: &(dyn Fn(&str) + Sync)) -> Result<File, PrerequisiteError> {
    let lock = File::create(path).map_err(|source| file(path, source))?;
    if lock.try_lock().is_ok() {
        return Ok(lock);
    }
    say("waiting for another `cargo xtask test` of this checkout");
    let waited = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock));
    match waited.await {
        Ok(lock) => lock.map_err(|source| file(path, source)),
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

struct TestEngine {
    store: Store,
    engine: Engine,
    bridge: String,
}

impl TestEngine {
    fn at(dir: &Path, store: Store) -> Self {
        // A bridge's name has at most 15 characters.
        let name = hex::encode(&sha2::Sha256::digest(dir.as_os_str().as_encoded_bytes())[..5]);
        Self { store, engine: Engine::at(dir), bridge: format!("htc{name}") }
    }

    async fn start(&self, docker: &ModernDocker) -> Result<(), PrerequisiteError> {
        let (state, runtime) = (self.engine.state(), self.engine.runtime());
        for dir in [state, runtime] {
            std::fs::create_dir_all(dir).map_err(|source| file(dir, source))?;
        }
        let configuration = state.join("daemon.json");
        std::fs::write(&configuration, self.store.configuration())
            .map_err(|source| file(&configuration, source))?;
        for arguments in [&["add", &self.bridge, "type", "bridge"][..], &["set", &self.bridge, "up"]] {
            ip(arguments).read().map_err(|source| failed("make a bridge for a docker engine", source))?;
        }
        for rule in self.rules() {
            let added = iptables("-I", &rule).read();
            added.map_err(|source| {
                failed("let the containers of a docker engine reach the network", source)
            })?;
        }
        let dockerd = Cmd::new("unshare")
            .args(["--pid", "--fork", "--kill-child", "--mount", "--propagation", "private", "--mount-proc"])
            .arg(docker.engine().join("dockerd"))
            .args(["--bridge", &self.bridge])
            .args(["--iptables=false", "--ip6tables=false", "--ip-masq=false"])
            // systemd would look for the containers' processes by their IDs in this namespace.
            .args(["--exec-opt", "native.cgroupdriver=cgroupfs"])
            // They run for some minutes: memory is cheaper than CPU time.
            .env("GOGC", "400")
            .env("PATH", path(&docker.engine()));
        self.engine.launch(dockerd, &configuration, &Cmd::new(docker.client())).await
    }

    /// The rules that connect its containers to the network, with table and chain. To remove them, only the bridge's name must be
    /// known.
    fn rules(&self) -> [Vec<&str>; 4] {
        let bridge = self.bridge.as_str();
        [
            vec!["mangle", "PREROUTING", "-i", bridge, "-j", "MARK", "--set-mark", MARK],
            vec!["nat", "POSTROUTING", "!", "-o", bridge, "-m", "mark", "--mark", MARK, "-j", "MASQUERADE"],
            vec!["filter", "FORWARD", "-i", bridge, "-j", "ACCEPT"],
            vec!["filter", "FORWARD", "-o", bridge, "-j", "ACCEPT"],
        ]
    }

    /// Ends it, if it runs, and removes its network and files.
    fn end(&self) {
        if let Some(pid) = self.engine.pid() {
            if let Some(process) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                // It may have ended in the meantime, which is fine.
                let _ = rustix::process::kill_process(process, Signal::KILL);
            }
            let deadline = Instant::now() + START_TIMEOUT;
            while !has_ended(pid) && Instant::now() < deadline {
                std::thread::sleep(LOOK);
            }
        }
        for dir in [self.engine.state().join("data"), self.engine.runtime().join("run")] {
            if let Err(error) = std::fs::remove_dir_all(&dir)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::debug!("could not remove {}: {error}", dir.display());
            }
        }
        // The next engine is also process 1 of its namespace, and would think that this ID is a running engine's.
        let _ = std::fs::remove_file(self.engine.pid_file());
        // There are none after an engine that ended in an orderly way.
        for rule in self.rules() {
            while iptables("-D", &rule).read().is_ok() {}
        }
        if let Err(error) = ip(&["del", &self.bridge]).read() {
            tracing::debug!("{error}");
        }
    }
}

/// The engine's PATH: its own programs come first.
fn path(engine: &Path) -> OsString {
    let system = search_path();
    let dirs = std::iter::once(engine.to_owned()).chain(std::env::split_paths(&system));
    // cargo does not work either in a directory with a colon in its name.
    std::env::join_paths(dirs).unwrap_or(system)
}

fn ip(arguments: &[&str]) -> Cmd {
    Cmd::new("ip").arg("link").args(arguments.iter().copied()).env("PATH", search_path())
}

/// `rule` starts with table and chain.
fn iptables(action: &str, rule: &[&str]) -> Cmd {
    let (table, rest) = rule.split_first().unwrap_or((&"filter", &[]));
    let command = Cmd::new("iptables").args(["--wait", "--table", table, action]);
    command.args(rest.iter().copied()).env("PATH", search_path())
}

fn file(path: &Path, source: std::io::Error) -> PrerequisiteError {
    PrerequisiteError::File { path: path.display().to_string(), source }
}

fn failed(action: &str, source: process::ProcessError) -> PrerequisiteError {
    PrerequisiteError::Program { action: action.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The engines answer, each with its store; those of a killed run are ended, and nothing stays behind.
    #[tokio::test]
    async fn test_engines_of_a_killed_run_are_stopped() {
        let Some(client) = std::env::var_os(CLIENT) else {
            assert!(std::env::var_os(crate::prerequisites::COMPLETE).is_none(), "{CLIENT} is not set");
            let words = format!("SKIPPED: {CLIENT} is not set: run by `cargo xtask test`\n");
            let _ = std::io::Write::write_all(&mut std::io::stderr(), words.as_bytes());
            return;
        };
        let target = tempfile::tempdir().unwrap();
        // Unpacked once for all tests.
        let docker = ModernDocker::in_target(target.path());
        let unpacked = Path::new(&client).parent().unwrap();
        std::os::unix::fs::symlink(unpacked, docker.client().ancestors().nth(2).unwrap()).unwrap();
        let start = || TestEngines::start(target.path(), &|line| panic!("{line}"));
        let pids = |engines: &TestEngines| -> Vec<u32> {
            engines.running.iter().map(|engine| engine.engine.pid().unwrap()).collect()
        };

        let mut engines = start().await.unwrap();
        let left = pids(&engines);
        // A killed run ends none of them and loses its lock.
        std::mem::forget(std::mem::take(&mut engines.running));
        drop(engines);
        assert!(left.iter().all(|pid| !has_ended(*pid)));

        let engines = start().await.unwrap();
        let running = pids(&engines);
        assert!(left.iter().all(|pid| has_ended(*pid)) && running.iter().all(|pid| !left.contains(pid)));
        let mut drivers = Vec::new();
        for engine in &engines.running {
            let info = Cmd::new(docker.client()).args(["info", "--format", "{{.DriverStatus}}"]);
            drivers.push(info.env("DOCKER_HOST", engine.engine.host()).read().unwrap());
            // Other programs do not see it as an engine of this machine.
            assert_ne!(Engine::at(target.path()).other_address(), Some(engine.engine.host()));
        }
        assert!(!drivers[0].contains("containerd") && drivers[1].contains("containerd"), "{drivers:?}");

        let bridges: Vec<String> = engines.running.iter().map(|engine| engine.bridge.clone()).collect();
        drop(engines);
        assert!(running.iter().all(|pid| has_ended(*pid)));
        for bridge in bridges {
            assert!(!Path::new("/sys/class/net").join(&bridge).exists());
            for table in ["mangle", "nat", "filter"] {
                let rules = Cmd::new("iptables").args(["--wait", "--table", table, "-S"]).read().unwrap();
                assert!(!rules.contains(&bridge), "{rules}");
            }
        }
        for store in Store::ALL {
            assert!(!target.path().join("engines").join(store.name()).join("data").exists());
        }
    }
}
