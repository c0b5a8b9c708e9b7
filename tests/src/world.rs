//! A test's own world.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::process::{Pid, Signal, kill_process};
use sample_upstreams::{Config, Options, Scale, Server, Store, build};
use service_models::Checked;
use tempfile::TempDir;

use crate::{Aws, Engine, Run, built, command, get, read, request, root, skip, target, traffic};

/// Every registry that the sample images are named after.
pub const REGISTRIES: [&str; 5] = ["docker.io", "ghcr.io", "public.ecr.aws", "quay.io", "registry.k8s.io"];

/// Which sample images a test needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Images {
    /// Tiny ones: neither root nor debootstrap is needed.
    Small,
    /// The whole ones, whose bases can be built on.
    Full,
}

/// What a world can be set back to.
const SAVED: [&str; 3] = ["local", "target", "images.toml"];

/// Where the emulated AWS writes down what it is asked and answers.
const TRAFFIC: &str = "traffic.jsonl";

/// A user's machine with an AWS account and the registries of the world.
#[derive(Debug)]
pub struct World {
    dir: TempDir,
    store: Store,
    samples: String,
    upstreams: BTreeMap<String, String>,
    engine: Engine,
    program: PathBuf,
}

impl World {
    /// A world with the machine's own docker, or none where the machine cannot make the images.
    pub fn new(images: Images) -> Option<Self> {
        Self::on(images, &Engine::machine())
    }

    /// A world with this docker.
    pub fn on(images: Images, engine: &Engine) -> Option<Self> {
        let shared = shared(images)?;
        let dir = tempfile::Builder::new().prefix("e2e-").tempdir().unwrap();
        for name in ["home", "docker", "target", "local"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let cargo = dir.path().join("cargo");
        std::fs::write(&cargo, built_cargo()).unwrap();
        std::fs::set_permissions(&cargo, std::fs::Permissions::from_mode(0o755)).unwrap();
        let store = shared.copy_to(&dir.path().join("samples")).unwrap();
        let samples = serve(store.clone(), Config::default());
        let route = |host: &str| (host.to_owned(), format!("http://{samples}/{host}"));
        let upstreams = REGISTRIES.iter().map(|host| route(host)).collect();
        engine.configure(&dir.path().join("docker"));
        let program = built().join("xtask");
        Some(Self { dir, store, samples, upstreams, engine: engine.clone(), program })
    }

    /// Runs this program in the place of the real one from here on ([`crate::control`]).
    pub fn run_program(&mut self, program: PathBuf) {
        self.program = program;
    }

    /// Its docker.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// A file or directory of this world.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file and gives its path.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The sample registries' host.
    pub fn samples(&self) -> &str {
        &self.samples
    }

    /// The sample images, which are this world's own.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Reaches a source registry at another address from here on.
    pub fn route(&mut self, registry: &str, url: String) {
        self.upstreams.insert(registry.to_owned(), url);
    }

    /// Docker Hub is from here on as it is to somebody who has so many pulls left.
    pub fn pulls_left(&mut self, pull_limit: u64) {
        let hub = serve(self.store.clone(), Config { pull_limit, ..Config::default() });
        self.route("docker.io", format!("http://{hub}/docker.io"));
    }

    /// `xtask` without a word about AWS or sources.
    pub fn bare(&self) -> Run {
        let mut command = command(&self.program);
        command.current_dir(root()).env_clear();
        if let Some(value) = std::env::var_os("LANG") {
            command.env("LANG", value);
        }
        command
            .envs(self.engine.environment())
            .env("HOME", self.path("home"))
            .env("DOCKER_CONFIG", self.path("docker"))
            .env("CARGO_TARGET_DIR", self.path("target"))
            .env(traffic::VARIABLE, self.path(TRAFFIC))
            // What the tool compiles for itself stands there already.
            .env("CARGO", self.path("cargo"));
        Run::new(command)
    }

    /// `xtask` with the images of `images.toml`, which [`World::write`] wrote, from the sample registries.
    pub fn sourced(&self) -> Run {
        self.with_sources(self.bare().arg("--images").arg(self.path("images.toml")))
    }

    /// This run with the sample registries in the place of the real ones.
    pub(crate) fn with_sources(&self, run: Run) -> Run {
        self.upstreams.iter().fold(run, |run, (host, url)| run.arg("--upstream").arg(format!("{host}={url}")))
    }

    /// `xtask --local` with the images of `images.toml`.
    pub fn xtask(&self, line: &str) -> Run {
        self.sourced().arg("--local").arg("--local-dir").arg(self.path("local")).args(line)
    }

    /// The emulated AWS, which runs.
    pub fn aws(&self) -> Aws {
        let (pid, port) = server(&self.path("local/local-aws")).expect("the emulated AWS is not running");
        Aws::new(pid, port, self.path("home"))
    }

    /// Keeps the account, what the tool remembers and images.toml as they are, under this name.
    pub fn save(&self, name: &str) {
        let saved = self.path("saved").join(name);
        if saved.exists() {
            std::fs::remove_dir_all(&saved).unwrap();
        }
        std::fs::create_dir_all(&saved).unwrap();
        for name in SAVED {
            read(command("cp").arg("-a").arg(self.path(name)).arg(&saved));
        }
    }

    /// Makes all that [`World::save`] kept under this name what it was; the emulated AWS runs, and no caller has a policy.
    pub fn restore(&self, name: &str) {
        let data = self.path("local/local-aws");
        end(&data);
        read(command("rm").arg("-rf").args(SAVED.map(|file| self.path(file))));
        let saved = SAVED.map(|file| self.path("saved").join(name).join(file));
        read(command("cp").arg("-a").args(saved).arg(self.path("")));
        start_again(&data);
    }

    /// Requests to the sample registries since the last [`World::forget`], by kind (`oci GET blob`).
    pub fn requests(&self) -> BTreeMap<String, u64> {
        serde_json::from_value(get(&format!("http://{}/_local/requests", self.samples)).json()).unwrap()
    }

    /// Starts the counting of requests to the sample registries anew.
    pub fn forget(&self) {
        request("POST", &format!("http://{}/_local/reset-requests", self.samples), &[], b"");
    }

    /// What was asked of the emulated AWS, and answered by it, held against AWS's published models. The end of a world does the
    /// same, and fails the test for what departs from them. None where there are no models.
    pub fn traffic(&self) -> Option<Checked> {
        traffic::checked(&self.path(TRAFFIC))
    }

    /// All files below this world's `names` whose content holds `words`.
    pub fn files_with(&self, names: &[&str], words: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut open: Vec<PathBuf> = names.iter().map(|name| self.path(name)).collect();
        while let Some(path) = open.pop() {
            let Ok(kind) = path.symlink_metadata() else { continue };
            if kind.is_dir() {
                open.extend(path.read_dir().unwrap().map(|entry| entry.unwrap().path()));
            } else if kind.is_file() {
                let bytes = std::fs::read(&path).unwrap();
                if bytes.windows(words.len()).any(|window| window == words.as_bytes()) {
                    found.push(path);
                }
            }
        }
        found
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for name in ["local/local-aws", "local/sample-upstreams"] {
            end(&self.path(name));
        }
        // A test that has failed already says why; nothing may panic in addition.
        if std::thread::panicking() {
            return;
        }
        let wrong = self.traffic().map(|checked| checked.text(None)).unwrap_or_default();
        assert!(wrong.is_empty(), "not what AWS's published service models say:\n{wrong}");
    }
}

/// A cargo that has everything built, and says where.
fn built_cargo() -> String {
    let mut script = String::from("#!/bin/sh\n");
    for name in ["xtask", "local-aws", "provider-standin", "sample-upstreams"] {
        let package = root().join("crates").join(name);
        let target =
            serde_json::json!({ "name": name, "kind": ["bin"], "src_path": package.join("src/main.rs") });
        let artifact = serde_json::json!({
            "manifest_path": package.join("Cargo.toml"), "target": target, "profile": { "test": false },
            "executable": built().join(name),
        });
        script += &format!("echo '{artifact}'\n");
    }
    script
}

/// Process and port of a background server, from its `server.json`.
pub(crate) fn server(data: &Path) -> Option<(Pid, u16)> {
    let text = std::fs::read(data.join("server.json")).ok()?;
    let value: serde_json::Value = serde_json::from_slice(&text).ok()?;
    let pid = Pid::from_raw(i32::try_from(value["pid"].as_i64()?).ok()?)?;
    Some((pid, u16::try_from(value["port"].as_u64()?).ok()?))
}

/// Ends the background server of a data directory, if it runs, and waits until it is gone.
fn end(data: &Path) {
    let Some((pid, _)) = server(data) else { return };
    let proc = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
    // The process may be another by now: ours names its data directory.
    let ours = || {
        let line = std::fs::read(proc.join("cmdline")).unwrap_or_default();
        line.windows(data.as_os_str().len()).any(|window| window == data.as_os_str().as_encoded_bytes())
    };
    let started = std::time::Instant::now();
    while ours() {
        let late = started.elapsed().as_secs() > 10;
        // A test may have stopped it.
        let _ = kill_process(pid, Signal::CONT);
        let _ = kill_process(pid, if late { Signal::KILL } else { Signal::TERM });
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// Starts the emulated AWS of a data directory at its port, with the arguments that it had.
fn start_again(data: &Path) {
    let (_, port) = server(data).unwrap();
    let extra = std::fs::read_to_string(data.join("arguments")).unwrap();
    let log = std::fs::File::create(data.join("server.log")).unwrap();
    let mut start = command(built().join("local-aws"));
    start.args(["serve", "--data"]).arg(data).args(["--port", &port.to_string()]).args(extra.lines());
    let mut child = start.stderr(log).process_group(0).spawn().unwrap();
    let pid = Pid::from_child(&child);
    let started = std::time::Instant::now();
    // It writes down who it is when it listens.
    while server(data) != Some((pid, port)) {
        let over = child.try_wait().unwrap().is_some() || started.elapsed() > crate::gate::BOUND;
        let said = std::fs::read_to_string(data.join("server.log")).unwrap();
        assert!(!over, "the emulated AWS does not start again: {said}");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    std::thread::spawn(move || child.wait());
}

/// The sample images, made once for all tests; `cargo xtask demo` makes the same.
fn shared(images: Images) -> Option<&'static Store> {
    static SMALL: OnceLock<Result<Store, String>> = OnceLock::new();
    static FULL: OnceLock<Result<Store, String>> = OnceLock::new();
    let (cell, name, scale) = match images {
        Images::Small => (&SMALL, "local/sample-upstreams-small", Scale::Small),
        Images::Full => (&FULL, "local/sample-upstreams", Scale::Full),
    };
    let data = target().join(name);
    match cell.get_or_init(|| build(&data, &Options { scale }).map_err(|error| error.to_string())) {
        Ok(store) => Some(store),
        Err(missing) => {
            skip(missing);
            None
        }
    }
}

/// Serves `store` until the tests end, and gives the host.
fn serve(store: Store, config: Config) -> String {
    let (sender, receiver) = std::sync::mpsc::channel();
    // A thread of its own keeps the server running.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let server = Server::start(store, config).await.unwrap();
            sender.send(server.address().to_string()).unwrap();
            std::future::pending::<()>().await;
        });
    });
    receiver.recv().unwrap()
}
