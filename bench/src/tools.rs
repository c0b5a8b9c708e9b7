//! The compared tools, and their commands for copying a set.
//!
//! Each uses its own defaults. A client that copies one image per call is run one by one and four in parallel; one that supports a list
//! gets the list.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::catalog::{Catalog, Variant};

/// The images' host for ours; it is routed to the source.
const SOURCE_HOST: &str = "bench.example";
/// How many one-image clients run in parallel.
const AT_ONCE: usize = 4;
/// Terraform's default parallelism, with which HTC-Grid's Makefile runs docker.
const DOCKER_AT_ONCE: usize = 10;

/// A way to copy images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Tool {
    /// This project.
    Ours,
    /// Uploads alone, written here.
    Floor,
    /// `skopeo copy`, four at once.
    SkopeoX4,
    /// `skopeo copy`, one by one.
    Skopeo,
    /// `crane copy`, four at once.
    CraneX4,
    /// `regctl image copy`, four at once.
    RegctlX4,
    /// `regsync once`.
    Regsync,
    /// `oras cp`, four at once.
    OrasX4,
    /// `ocync sync`.
    Ocync,
    /// `docker pull`, `tag`, `push`.
    Docker,
}

impl Tool {
    /// All tools, in the order of the turns.
    pub const ALL: [Self; 10] = [
        Self::Ours,
        Self::Floor,
        Self::SkopeoX4,
        Self::Skopeo,
        Self::CraneX4,
        Self::RegctlX4,
        Self::Regsync,
        Self::OrasX4,
        Self::Ocync,
        Self::Docker,
    ];

    /// Name for tables.
    pub fn title(self) -> &'static str {
        match self {
            Self::Ours => "ours (cargo xtask transfer-images)",
            Self::Floor => "floor (uploads alone)",
            Self::SkopeoX4 => "skopeo copy --all, 4 at once",
            Self::Skopeo => "skopeo copy --all, one by one",
            Self::CraneX4 => "crane copy, 4 at once",
            Self::RegctlX4 => "regctl image copy, 4 at once",
            Self::Regsync => "regsync once",
            Self::OrasX4 => "oras cp, 4 at once",
            Self::Ocync => "ocync sync",
            Self::Docker => "docker pull, tag, push, 10 at once",
        }
    }

    /// Name for pictures.
    pub fn short(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Floor => "uploads alone",
            Self::SkopeoX4 => "skopeo ×4",
            Self::Skopeo => "skopeo",
            Self::CraneX4 => "crane ×4",
            Self::RegctlX4 => "regctl ×4",
            Self::Regsync => "regsync",
            Self::OrasX4 => "oras ×4",
            Self::Ocync => "ocync",
            Self::Docker => "docker",
        }
    }

    /// The program and its arguments for the version; `None` for programs that are built here.
    fn program(self) -> Option<(&'static str, &'static [&'static str])> {
        match self {
            Self::Ours | Self::Floor => None,
            Self::SkopeoX4 | Self::Skopeo => Some(("skopeo", &["--version"])),
            Self::CraneX4 => Some(("crane", &["version"])),
            Self::RegctlX4 => Some(("regctl", &["version", "--format", "{{.VCSTag}}"])),
            Self::Regsync => Some(("regsync", &["version", "--format", "{{.VCSTag}}"])),
            Self::OrasX4 => Some(("oras", &["version"])),
            Self::Ocync => Some(("ocync", &["--version"])),
            Self::Docker => Some((
                "docker",
                &["version", "--format", "client {{.Client.Version}}, engine {{.Server.Version}}"],
            )),
        }
    }

    /// Its version if it can be run here.
    ///
    /// # Errors
    /// Why it cannot, for its row.
    pub fn available(self, xtask: &Path) -> Result<String, String> {
        match self.program() {
            None if self == Self::Ours => {
                if xtask.is_file() {
                    Ok("this tree".to_owned())
                } else {
                    Err("not built".to_owned())
                }
            }
            None => Ok("this tree".to_owned()),
            Some((program, args)) => {
                which::which(program).map_err(|_| "not in PATH".to_owned())?;
                match crate::process::read(program, args) {
                    Ok(text) => {
                        Ok(String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned())
                    }
                    Err(error) => Err(format!("{error:#}")),
                }
            }
        }
    }

    /// Whether it stores data between runs that makes the next one cheaper.
    pub fn learns(self) -> bool {
        matches!(self, Self::Ours | Self::Ocync)
    }

    /// Whether its copy has the source's manifest byte for byte: docker compresses layers again, ocync copies an index with one platform.
    pub fn exact(self, variant: Variant) -> bool {
        match self {
            Self::Docker => false,
            Self::Ocync => variant == Variant::Single,
            _ => true,
        }
    }
}

/// The source, the target and the settings of a copy.
#[derive(Debug)]
pub struct Task<'a> {
    /// The images.
    pub catalog: &'a Catalog,
    /// The catalogue's file.
    pub catalog_file: &'a Path,
    /// The directory of the source's data.
    pub source_store: &'a Path,
    /// Single manifest or index.
    pub variant: Variant,
    /// `host:port` of the source.
    pub source: &'a str,
    /// `host:port` of the target.
    pub target: &'a str,
    /// The tool's own directory, empty before a cold run.
    pub home: &'a Path,
    /// Our xtask.
    pub xtask: &'a Path,
    /// The floor's concurrent uploads.
    pub floor_jobs: usize,
}

/// Programs to run: chains, their parallelism, and their environment.
#[derive(Debug)]
pub struct Plan {
    /// Chains of programs: sequential within a chain, chains in parallel.
    pub chains: Vec<Vec<Vec<String>>>,
    /// How many chains run in parallel.
    pub jobs: usize,
    /// Additional environment variables.
    pub env: Vec<(String, String)>,
}

impl Task<'_> {
    fn references(&self) -> impl Iterator<Item = (String, String)> {
        self.catalog.images.iter().map(move |image| {
            let name = format!("{}:{}", image.repository, image.tag(self.variant));
            (format!("{}/{name}", self.source), format!("{}/{name}", self.target))
        })
    }

    fn file(&self, name: &str, text: &str) -> Result<String> {
        let path: PathBuf = self.home.join(name);
        fs::write(&path, text).with_context(|| format!("could not write {}", path.display()))?;
        Ok(path.display().to_string())
    }

    /// One call of a program per image.
    fn each(&self, jobs: usize, call: impl Fn(String, String) -> Vec<String>) -> Plan {
        let chains = self.references().map(|(from, to)| vec![call(from, to)]).collect();
        Plan { chains, jobs, env: self.env() }
    }

    fn one(&self, call: Vec<String>) -> Plan {
        Plan { chains: vec![vec![call]], jobs: 1, env: self.env() }
    }

    fn env(&self) -> Vec<(String, String)> {
        let home = self.home.display().to_string();
        let dir = |name: &str| format!("{home}/{name}");
        [
            ("HOME", home.clone()),
            ("XDG_DATA_HOME", dir("data")),
            ("XDG_CACHE_HOME", dir("cache")),
            ("XDG_CONFIG_HOME", dir("config")),
            ("XDG_RUNTIME_DIR", dir("run")),
            ("DOCKER_CONFIG", dir("docker")),
            ("CARGO_TARGET_DIR", dir("target")),
            ("NO_PROXY", "127.0.0.1".to_owned()),
            // As root, skopeo keeps its cache in /var/lib unless it assumes that it is rootless.
            ("_CONTAINERS_ROOTLESS_UID", "1".to_owned()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .to_vec()
    }

    /// The programs of `tool`.
    ///
    /// # Errors
    /// Its files cannot be written.
    pub fn plan(&self, tool: Tool) -> Result<Plan> {
        let index = self.variant == Variant::Index;
        let platform: &[&str] = if index { &["--platform", "linux/amd64"] } else { &[] };
        let call = |fixed: &[&str], more: &[&str], from: &str, to: &str| -> Vec<String> {
            fixed.iter().chain(more).copied().chain([from, to]).map(ToOwned::to_owned).collect()
        };
        let skopeo = |from: String, to: String| {
            let global =
                ["skopeo", "--insecure-policy", "--override-os", "linux", "--override-arch", "amd64", "copy"];
            let plain = ["--src-tls-verify=false", "--dest-tls-verify=false"];
            let all: &[&str] = if index { &[] } else { &["--all"] };
            call(&[&global[..], all].concat(), &plain, &format!("docker://{from}"), &format!("docker://{to}"))
        };
        Ok(match tool {
            Tool::Ours => self.ours()?,
            Tool::Floor => self.floor()?,
            Tool::SkopeoX4 => self.each(AT_ONCE, skopeo),
            Tool::Skopeo => self.each(1, skopeo),
            Tool::CraneX4 => {
                self.each(AT_ONCE, |from, to| call(&["crane", "copy", "--insecure"], platform, &from, &to))
            }
            Tool::RegctlX4 => {
                let host = |name: &str| json!({ "tls": "disabled", "hostname": name });
                let hosts =
                    json!({ "hosts": { self.source: host(self.source), self.target: host(self.target) } });
                let config = self.file("regctl.json", &hosts.to_string())?;
                let mut plan =
                    self.each(AT_ONCE, |from, to| call(&["regctl", "image", "copy"], platform, &from, &to));
                plan.env.push(("REGCTL_CONFIG".to_owned(), config));
                plan
            }
            Tool::Regsync => self.regsync()?,
            Tool::OrasX4 => self.each(AT_ONCE, |from, to| {
                call(&["oras", "cp", "--from-plain-http", "--to-plain-http"], platform, &from, &to)
            }),
            Tool::Ocync => self.ocync()?,
            Tool::Docker => {
                let docker = |args: &[&str]| -> Vec<String> {
                    std::iter::once("docker").chain(args.iter().copied()).map(ToOwned::to_owned).collect()
                };
                let chain = |(from, to): (String, String)| {
                    vec![docker(&["pull", "-q", &from]), docker(&["tag", &from, &to]), docker(&["push", &to])]
                };
                let chains = self.references().map(chain).collect();
                Plan { chains, jobs: DOCKER_AT_ONCE, env: self.env() }
            }
        })
    }

    /// `transfer-images` with its own images.toml.
    fn ours(&self) -> Result<Plan> {
        let mut text = String::from("schema_version = 1\nplatforms = [\"linux/amd64\"]\n\n[images]\n");
        for image in &self.catalog.images {
            let (repository, tag) = (&image.repository, image.tag(self.variant));
            writeln!(text, "\"{repository}:{tag}\" = \"{SOURCE_HOST}/{repository}:{tag}\"")?;
        }
        let images = self.file("images.toml", &text)?;
        let xtask = self.xtask.display().to_string();
        let upstream = format!("{SOURCE_HOST}=http://{}", self.source);
        let args =
            ["transfer-images", "--registry", self.target, "--images", &images, "--upstream", &upstream];
        let call = std::iter::once(xtask.as_str()).chain(args).chain(["--auto-approve"]);
        Ok(self.one(call.map(ToOwned::to_owned).collect()))
    }

    fn floor(&self) -> Result<Plan> {
        let own = std::env::current_exe()?.display().to_string();
        let (catalog, store) =
            (self.catalog_file.display().to_string(), self.source_store.display().to_string());
        let (target, jobs) = (format!("http://{}", self.target), self.floor_jobs.to_string());
        let args = [
            own.as_str(),
            "floor",
            "--catalog",
            &catalog,
            "--store",
            &store,
            "--target",
            &target,
            "--variant",
            self.variant.name(),
            "--jobs",
            &jobs,
        ];
        Ok(self.one(args.map(ToOwned::to_owned).to_vec()))
    }

    /// <https://regclient.org/usage/regsync/>
    fn regsync(&self) -> Result<Plan> {
        let mut text = format!(
            "version: 1\ncreds:\n  - registry: {}\n    tls: disabled\n  - registry: {}\n    tls: disabled\ndefaults:\n  \
             parallel: {AT_ONCE}\nsync:\n",
            self.source, self.target
        );
        for (from, to) in self.references() {
            writeln!(text, "  - source: {from}\n    target: {to}\n    type: image")?;
            if self.variant == Variant::Index {
                writeln!(text, "    platform: linux/amd64")?;
            }
        }
        let config = self.file("regsync.yml", &text)?;
        Ok(self.one(["regsync", "once", "-c", &config].map(ToOwned::to_owned).to_vec()))
    }

    /// <https://clowdhaus.github.io/ocync/configuration>
    fn ocync(&self) -> Result<Plan> {
        let mut text = format!(
            "registries:\n  source: {{ url: \"http://{}\", auth_type: anonymous }}\n  target: {{ url: \"http://{}\", auth_type: \
             anonymous }}\ndefaults:\n  source: source\n  targets: target\n  tags:\n    glob: [\"{}\"]\n  artifacts:\n    \
             enabled: false\n",
            self.source,
            self.target,
            self.variant.tag()
        );
        if self.variant == Variant::Index {
            text.push_str("  platforms: [\"linux/amd64\"]\n");
        }
        text.push_str("mappings:\n");
        for image in &self.catalog.images {
            writeln!(text, "  - from: {0}\n    to: {0}", image.repository)?;
        }
        let config = self.file("ocync.yaml", &text)?;
        Ok(self.one(["ocync", "sync", "-c", &config].map(ToOwned::to_owned).to_vec()))
    }

    /// Removes the images of the last run from docker's engine; its other images are kept.
    pub fn forget_docker(&self) {
        for (from, to) in self.references() {
            crate::process::attempt("docker", &["rmi", "-f", &from, &to], &self.env());
        }
    }
}

/// The process of the docker engine, if it is on this machine.
pub fn docker_engine() -> Option<u32> {
    let host = std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".to_owned());
    let stream = std::os::unix::net::UnixStream::connect(host.strip_prefix("unix://")?).ok()?;
    let peer = rustix::net::sockopt::socket_peercred(&stream).ok()?;
    u32::try_from(peer.pid.as_raw_nonzero().get()).ok()
}
