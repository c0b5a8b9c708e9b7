//! A separate project whose runtimes are built within a second, for tests of the steps around a build.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::base::BUSYBOX;
use crate::{
    Base, Builder, DebianRegistry, Engine, Images, LocalBuilds, MANIFESTS, Run, World, docker, get, read,
    request, skip, text,
};

/// The runtime's entry point, with its first output.
const ENTRY_POINT: &str = "#!/bin/sh\necho hello\ncat /built\n";
/// The project's first Dockerfile: each new build has other content.
pub const DOCKERFILE: &str = "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nRUN cat /proc/sys/kernel/random/uuid >/built\n\
                          ARG ENTRY_POINT\nCOPY ${ENTRY_POINT} /start\nENTRYPOINT [\"/bin/sh\", \"/start\"]\n";

/// A project with runtimes on a base from scratch, and Debian's registry for all its images.
#[derive(Debug)]
pub struct Project {
    /// Its world.
    pub world: World,
    /// The registry of its base, and optionally of its runtimes.
    pub registry: DebianRegistry,
    /// The runtime, which no other test and no earlier run has built.
    pub name: String,
    /// The base's own name.
    pub base: String,
    _built: LocalBuilds,
}

impl Project {
    /// A project for the machine's own client and engine; `None` if the machine lacks something.
    pub fn new() -> Option<Self> {
        docker().then(|| Self::on(&Engine::machine()))?
    }

    /// A project for this builder; `None` if the machine has no such engine, no registry or no static program.
    pub fn with(builder: Builder) -> Option<Self> {
        Self::on(&builder.engine()?)
    }

    fn on(engine: &Engine) -> Option<Self> {
        if !Path::new(BUSYBOX).exists() {
            skip("/bin/busybox, statically linked, is missing (busybox-static)");
            return None;
        }
        let (world, registry) = (World::on(Images::Small, engine)?, DebianRegistry::start()?);
        for directory in ["project/xtask", "project/deployment/image_repository", "project/runtimes"] {
            std::fs::create_dir_all(world.path(directory)).unwrap();
        }
        let name = format!("e2e-{}", world.path("").file_name().unwrap().to_string_lossy().to_lowercase());
        let base = format!("{}/base:1", registry.host());
        let built = LocalBuilds { engine: engine.clone(), name: name.clone() };
        let project = Self { world, registry, name, base, _built: built };
        project.push_base(&project.base, "one");
        project.write("Dockerfile", DOCKERFILE);
        project.write("start", ENTRY_POINT);
        project.images(&project.line(""));
        Some(project)
    }

    /// Writes a file of the build's context.
    pub fn write(&self, name: &str, content: &str) -> PathBuf {
        self.world.write(&format!("project/runtimes/{name}"), content)
    }

    /// The runtime's line for images.toml, with the additional keys `more`.
    pub fn line(&self, more: &str) -> String {
        format!("\"{}\" = {{ base = \"{}\", entry_point = \"start\"{more} }}", self.name, self.base)
    }

    /// Writes images.toml with these `lines` below `[runtimes]`.
    pub fn images(&self, lines: &str) {
        self.world.write("images.toml", &format!("schema_version = 1\n[runtimes]\n{lines}\n"));
    }

    /// Pushes a base image with this content.
    pub fn push_base(&self, image: &str, content: &str) {
        Base::with_shell(&format!("{content} of {}", self.name)).push(image, &json!({}));
    }

    /// A docker client for this project's engine.
    pub fn docker(&self) -> Command {
        self.world.engine.client()
    }

    /// `xtask` in this project.
    pub fn xtask(&self, line: &str) -> Run {
        self.world.sourced().env("CARGO_MANIFEST_DIR", self.world.path("project/xtask")).args(line)
    }

    /// `xtask transfer-images` to the registry at `host`, without confirmation.
    pub fn transfer(&self, host: &str, line: &str) -> Run {
        self.xtask("").arg("--registry").arg(host).args("transfer-images --auto-approve").args(line)
    }

    /// Every tag of the runtimes' repository with its digest, to detect a moved tag.
    pub fn tags(&self) -> BTreeMap<String, String> {
        let host = self.registry.host();
        let listed = get(&format!("http://{host}/v2/lambda/tags/list"));
        let names =
            if listed.status == 200 { listed.json()["tags"].clone() } else { Vec::<String>::new().into() };
        let digest = |tag: &str| {
            let url = format!("http://{host}/v2/lambda/manifests/{tag}");
            let found = request("HEAD", &url, &[MANIFESTS], b"");
            assert_eq!(found.status, 200, "{tag}");
            found.header("docker-content-digest").unwrap().to_owned()
        };
        let names = names.as_array().unwrap().iter().map(|tag| tag.as_str().unwrap());
        names.map(|tag| (tag.to_owned(), digest(tag))).collect()
    }

    /// Pulls an image of the runtimes' repository as the grid does, runs it, and returns its output.
    pub fn run(&self, tag: &str) -> String {
        let image = format!("{}/lambda:{tag}", self.registry.host());
        let said = text(self.docker().args(["run", "--rm", "--pull", "always", &image]));
        read(self.docker().args(["image", "rm", &image]));
        said
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        // The bases, which the engine has pulled by digest.
        let format = "{{.Repository}}@{{.Digest}}";
        let listed = self.docker().args(["image", "ls", "--digests", "--format", format]).output();
        let listed = listed.map(|output| output.stdout).unwrap_or_default();
        let own = format!("{}/", self.registry.host());
        let listed = String::from_utf8_lossy(&listed).into_owned();
        let bases: Vec<&str> = listed.lines().filter(|image| image.starts_with(&own)).collect();
        if !bases.is_empty() {
            let _ = self.docker().args(["image", "rm", "--force"]).args(bases).output();
        }
    }
}
