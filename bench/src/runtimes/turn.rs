//! One turn: its programs, and how long no `docker build` was running.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use sample_upstreams::Store as Samples;

use super::docker::{Docker, covered, intervals};
use super::{Contender, Turn};
use crate::process::{attempt, read, start_measured};
use crate::registry::Registry;

/// Name, base, tag and entry point: two of each generation, with both entry points.
const RUNTIMES: [(&str, &str, &str, &str); 4] = [
    ("bench-provided", "lambda/provided", "al2", "lambda_entry_point_provided.sh"),
    ("bench-python3.8", "lambda/python", "3.8", "lambda_entry_point.sh"),
    ("bench-java21", "lambda/java", "21", "lambda_entry_point.sh"),
    ("bench-nodejs22", "lambda/nodejs", "22", "lambda_entry_point.sh"),
];
const UPSTREAM: &str = "public.ecr.aws";

/// The shared data of all turns.
pub(super) struct Site {
    pub(super) out: PathBuf,
    pub(super) xtask: PathBuf,
    pub(super) project: PathBuf,
    pub(super) docker: Docker,
    pub(super) samples: Samples,
    pub(super) upstream: String,
    pub(super) registry: Registry,
}

impl Site {
    pub(super) fn images_toml(&self) -> Result<()> {
        let mut text = "schema_version = 1\n[runtimes]\n".to_owned();
        for (name, base, tag, entry_point) in RUNTIMES {
            writeln!(
                text,
                "\"{name}\" = {{ base = \"{UPSTREAM}/{base}:{tag}\", entry_point = \"{entry_point}\" }}"
            )?;
        }
        Ok(fs::write(self.out.join("images.toml"), text)?)
    }

    /// Removes everything that a turn has left in the engine.
    pub(super) fn forget(&self) {
        let client = self.docker.name();
        let remove = |image: &str| attempt(&client, &["image", "rm", "--force", image], &[]);
        let format = "{{.Repository}}:{{.Tag}} {{.Repository}}@{{.Digest}}";
        let listed = read(&client, &["image", "ls", "--digests", "--format", format]).unwrap_or_default();
        let listed = String::from_utf8_lossy(&listed).into_owned();
        for line in listed.lines() {
            let (name, digest) = line.split_once(' ').unwrap_or((line, line));
            if name.starts_with("lambda:bench-") {
                remove(name);
            } else if name.starts_with(&self.upstream) {
                remove(digest);
            }
        }
        if self.docker.has_buildx() {
            // BuildKit has the bases and its builds here.
            attempt(&client, &["buildx", "prune", "--all", "--force"], &[]);
        }
    }

    pub(super) fn turn(&self, contender: Contender) -> Result<Turn> {
        let home = self.out.join("home/runtimes");
        match fs::remove_dir_all(&home) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => fs::create_dir_all(&home)?,
        }
        let builds = self.docker.client.with_file_name("builds");
        fs::write(&builds, "")?;
        let log = File::create(self.out.join("runtimes.log"))?;
        let programs = self.programs(contender)?;
        let mut env = vec![("CARGO_TARGET_DIR".to_owned(), home.display().to_string())];
        let config = self.docker.config.as_ref().map(|config| config.display().to_string());
        env.extend(config.map(|config| ("DOCKER_CONFIG".to_owned(), config)));
        let started = Instant::now();
        for argv in &programs {
            let status = start_measured(argv, &env, &self.project, &log)?.wait()?;
            ensure!(status.success(), "`{}` ended with {status}; see runtimes.log", argv.join(" "));
        }
        let wall_s = started.elapsed().as_secs_f64();
        let intervals = intervals(&fs::read_to_string(&builds)?)?;
        let builds = if contender == Contender::Bake { 1 } else { RUNTIMES.len() };
        ensure!(intervals.len() == builds, "{} builds instead of {builds}", intervals.len());
        Ok(Turn { wall_s, outside_s: wall_s - covered(intervals) })
    }

    /// The pinned reference of a base for the engine.
    fn base(&self, base: &str, tag: &str) -> Result<String> {
        let repository = format!("{UPSTREAM}/{base}");
        let Some(digest) = self.samples.digest(&repository, tag)? else {
            bail!("the samples have no {repository}:{tag}")
        };
        Ok(format!("{}/{repository}@{digest}", self.upstream))
    }

    /// The same builds as a file for bake.
    fn bake(&self) -> Result<PathBuf> {
        let mut targets = serde_json::Map::new();
        for (name, base, tag, entry_point) in RUNTIMES {
            let target = serde_json::json!({
                "context": self.project.join("runtimes"),
                "args": { "BASE_IMAGE": self.base(base, tag)?, "ENTRY_POINT": entry_point },
                "tags": [format!("lambda:{name}")],
                "no-cache": true,
                "pull": true,
            });
            // A target's name cannot contain a dot.
            targets.insert(name.replace('.', "-"), target);
        }
        let names: Vec<&String> = targets.keys().collect();
        let bake = serde_json::json!({ "group": { "default": { "targets": names } }, "target": targets });
        let file = self.out.join("docker-bake.json");
        fs::write(&file, serde_json::to_vec_pretty(&bake)?)?;
        Ok(file)
    }

    /// The command lines of a turn, which are run one after another.
    fn programs(&self, contender: Contender) -> Result<Vec<Vec<String>>> {
        let (client, images) = (self.docker.name(), self.out.join("images.toml"));
        let words = |line: &[&str]| line.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        if contender == Contender::Plain {
            let build = |(name, base, tag, entry_point): (&str, &str, &str, &str)| {
                let base = format!("BASE_IMAGE={}", self.base(base, tag)?);
                let entry_point = format!("ENTRY_POINT={entry_point}");
                let context = self.project.join("runtimes").display().to_string();
                let name = format!("lambda:{name}");
                let line =
                    ["build", "--no-cache", "--pull", "--build-arg", &base, "--build-arg", &entry_point];
                Ok([words(&[&client]), words(&line), words(&["--tag", &name, &context])].concat())
            };
            return RUNTIMES.into_iter().map(build).collect();
        }
        if contender == Contender::Bake {
            let file = self.bake()?.display().to_string();
            return Ok(vec![words(&[&client, "buildx", "bake", "--file", &file])]);
        }
        let upstream = format!("{UPSTREAM}=http://{}/{UPSTREAM}", self.upstream);
        let (xtask, images) = (self.xtask.display().to_string(), images.display().to_string());
        let registry = self.registry.addr().to_string();
        let common = [&xtask, "--images", &images, "--upstream", &upstream, "--container-cli", &client];
        let own: &[&str] = match contender {
            Contender::Pushed => {
                &["--registry", &registry, "transfer-images", "--auto-approve", "--rebuild-runtimes"]
            }
            _ => &["rebuild-runtimes", "--no-cache"],
        };
        Ok(vec![[words(&common), words(own)].concat()])
    }
}
