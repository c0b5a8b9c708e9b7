//! A test's separate world.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use service_models::Checked;
use tempfile::TempDir;

use crate::background::{end, server};
use crate::{Aws, Engine, Images, Run, Sources, built, command, root, traffic};

/// The emulated AWS's log of requests and answers.
const TRAFFIC: &str = "traffic.jsonl";

/// A user's machine with an AWS account and the registries of the world.
#[derive(Debug)]
pub struct World {
    dir: TempDir,
    /// The registries of its images.
    pub sources: Sources,
    /// Its docker client and engine.
    pub engine: Engine,
    /// The program that is run as `xtask`; a test may replace it ([`crate::control`]).
    pub program: PathBuf,
}

impl World {
    /// A world with the machine's own docker; `None` if the machine cannot create the images.
    pub fn new(images: Images) -> Option<Self> {
        Self::on(images, &Engine::machine())
    }

    /// A world with this docker.
    pub fn on(images: Images, engine: &Engine) -> Option<Self> {
        let samples = images.made()?;
        let dir = tempfile::Builder::new().prefix("e2e-").tempdir().unwrap();
        for name in ["home", "docker", "target", "local"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let cargo = dir.path().join("cargo");
        std::fs::write(&cargo, built_cargo()).unwrap();
        std::fs::set_permissions(&cargo, std::fs::Permissions::from_mode(0o755)).unwrap();
        let sources = Sources::serve(samples.copy_to(&dir.path().join("samples")).unwrap());
        engine.configure(&dir.path().join("docker"));
        Some(Self { dir, sources, engine: engine.clone(), program: built().join("xtask") })
    }

    /// A file or directory of this world.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file and returns its path.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// `xtask` without options for AWS or sources.
    pub fn bare(&self) -> Run {
        let mut command = command(&self.program);
        command.current_dir(root()).env_clear();
        for name in ["LANG", "GOGC"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
            .envs(self.engine.environment())
            .env("HOME", self.path("home"))
            .env("DOCKER_CONFIG", self.path("docker"))
            .env("CARGO_TARGET_DIR", self.path("target"))
            .env(traffic::VARIABLE, self.path(TRAFFIC))
            // The programs that the tool compiles exist there already.
            .env("CARGO", self.path("cargo"));
        Run::new(command)
    }

    /// `xtask` with the images of `images.toml`, written by [`World::write`], from the sample registries.
    pub fn sourced(&self) -> Run {
        self.sources.for_run(self.bare().arg("--images").arg(self.path("images.toml")))
    }

    /// `xtask --local` with the images of `images.toml`.
    pub fn xtask(&self, line: &str) -> Run {
        self.sourced().arg("--local").arg("--local-dir").arg(self.path("local")).args(line)
    }

    /// The emulated AWS, which must be running.
    pub fn aws(&self) -> Aws {
        let (pid, port) = server(&self.path("local/local-aws")).expect("the emulated AWS is not running");
        Aws::new(pid, port, self.path("home"))
    }

    /// The requests and answers of the emulated AWS, checked with AWS's published models. Dropping a world does the same, and fails the
    /// test for each difference. `None` without models.
    pub fn traffic(&self) -> Option<Checked> {
        traffic::checked(&self.path(TRAFFIC))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for name in ["local/local-aws", "local/sample-upstreams"] {
            end(&self.path(name));
        }
        // A test that has failed already shows why; a second panic would abort.
        if std::thread::panicking() {
            return;
        }
        let wrong = self.traffic().map(|checked| checked.text(None)).unwrap_or_default();
        assert!(wrong.is_empty(), "not what AWS's published service models say:\n{wrong}");
    }
}

/// A cargo that reports all programs as built, with their paths.
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
