//! A registry, an engine and a context for one test.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use docker::Docker;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use process::{Cmd, KillHandle};
use registry::mirror::Mirror;
use registry::{Anonymous, Client, Digest, Manifest, Reference};
use serde_json::{Value, json};
use tar::EntryType;

use crate::{Action, Context, GridSettings, Hold, Options, Outcome, Planned, Progress, Runtime, State};
use crate::{apply, plan};

/// Reports what a test did not find, on the real stderr: the test harness captures `eprintln!`. If `cargo xtask test` has checked that
/// everything is there, it fails instead, except for a missing arm64 emulator.
pub(super) fn skipped(test: &str, what: &str) {
    let complete = std::env::var_os("HTC_GRID_TEST_COMPLETE").is_some();
    assert!(!complete || what.contains("without"), "{test} needs {what}");
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: it needs {what}");
}

/// The facts that a test changes between two runs.
#[derive(Default)]
pub(super) struct Facts {
    pub(super) locked: BTreeMap<String, Digest>,
    pub(super) holds: BTreeMap<String, Digest>,
    /// The pull-through cache's repository.
    pub(super) cached: Option<Reference>,
}

pub(super) struct Fake {
    pub(super) facts: Mutex<Facts>,
    pub(super) lines: Mutex<Vec<String>>,
    pub(super) warnings: Mutex<Vec<String>>,
    pub(super) states: Mutex<Vec<State>>,
    registry: String,
}

impl Fake {
    /// Settings whose engine reaches the upstream at `registry`.
    pub(super) fn new(registry: &str) -> Arc<Self> {
        Arc::new(Self {
            facts: Mutex::default(),
            lines: Mutex::default(),
            warnings: Mutex::default(),
            states: Mutex::default(),
            registry: registry.to_owned(),
        })
    }
}

impl GridSettings for Fake {
    fn locked_base(&self, base: &Reference) -> Option<Digest> {
        self.facts.lock().unwrap().locked.get(&base.to_string()).copied()
    }

    fn hold(&self, runtime: &str) -> Option<Hold> {
        let build = self.facts.lock().unwrap().holds.get(runtime).copied()?;
        Some(Hold { build, since: jiff::Timestamp::UNIX_EPOCH, by: "a test".to_owned() })
    }

    fn cached(&self, base: &Reference) -> Option<Reference> {
        let cached = self.facts.lock().unwrap().cached.clone()?;
        Some(cached.with_tag(base.tag()?).unwrap())
    }

    fn engine_name(&self, image: &Reference) -> String {
        image.to_string().replace("upstream.example/", &format!("{}/upstream/", self.registry))
    }
}

impl Progress for Fake {
    fn line(&self, _runtime: &str, line: &str) {
        self.lines.lock().unwrap().push(line.to_owned());
    }

    fn output(&self, runtime: &str, line: &str) {
        self.line(runtime, line);
    }

    fn warn(&self, _runtime: &str, line: &str) {
        self.warnings.lock().unwrap().push(line.to_owned());
    }

    fn state(&self, _runtime: &str, state: &State) {
        self.states.lock().unwrap().push(state.clone());
    }
}

/// A registry and a unique name in the engine.
pub(super) struct World {
    pub(super) registry: String,
    pub(super) client: Client,
    pub(super) room: tempfile::TempDir,
    pub(super) fake: Arc<Fake>,
    pub(super) docker: Docker,
    name: String,
    kill_handle: KillHandle,
}

impl World {
    /// A world, or `None` if this machine has no engine or no docker-registry, which is reported.
    pub(super) async fn new(name: &str) -> Option<Self> {
        let missing = |what: &str| {
            skipped(name, what);
            None
        };
        let docker = match Docker::find(Some("docker")).await {
            Ok(docker) => docker,
            Err(error) => return missing(&format!("docker ({error})")),
        };
        if let Err(error) = docker.engine_platform().await {
            return missing(&format!("a docker engine ({error})"));
        }
        if which::which("docker-registry").is_err() {
            return missing("docker-registry (apt-get install docker-registry)");
        }
        if !Path::new("/bin/busybox").exists() {
            return missing("/bin/busybox, statically linked (apt-get install busybox-static)");
        }
        let room = tempfile::tempdir().unwrap();
        let config = room.path().join("registry.yml");
        let text = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: 127.0.0.1:0}}\n",
            room.path().join("registry").display()
        );
        std::fs::write(&config, text).unwrap();
        let kill_handle = KillHandle::default();
        let (tell, told) = std::sync::mpsc::channel();
        let server =
            Cmd::new("docker-registry").arg("serve").arg(&config).stream(kill_handle.clone(), move |line| {
                if let Some((_, rest)) = line.split_once("listening on ") {
                    let _ = tell.send(rest.split(['"', ' ']).next().unwrap_or_default().to_owned());
                }
            });
        tokio::spawn(server);
        let registry = tokio::task::spawn_blocking(move || told.recv().unwrap()).await.unwrap();
        let client = Client::builder()
            .route("upstream.example", &format!("http://{registry}/upstream"))
            .build()
            .unwrap();
        let fake = Fake::new(&registry);
        let name = format!("t{}-{name}", std::process::id());
        Some(Self { registry, client, room, fake, docker, name, kill_handle })
    }

    /// A context with the container client `cli`.
    pub(super) fn context(&self, cli: &str) -> Context {
        let mut context = Context::new(
            self.client.clone(),
            Arc::new(Anonymous),
            Arc::clone(&self.fake) as Arc<dyn GridSettings>,
            Arc::clone(&self.fake) as Arc<dyn Progress>,
            self.room.path().join("scratch"),
        );
        context.repository = Some(self.repository());
        context.container_cli = Some(cli.to_owned());
        context.checkout = Some(env!("CARGO_MANIFEST_DIR").into());
        context.who = "a test".to_owned();
        context
    }

    pub(super) fn repository(&self) -> Reference {
        Reference::new(&self.registry, "lambda").unwrap()
    }

    /// The files of a runtime: a base with busybox from the upstream, and one file of its own.
    pub(super) fn files(&self) -> PathBuf {
        let files = self.room.path().join("files");
        if !files.exists() {
            std::fs::create_dir(&files).unwrap();
            let dockerfile = "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nARG SAY\nCOPY say /say\n\
                              RUN echo \"$SAY $(cat /say)\" > /said && date +%N%s >> /said\nCMD [\"cat\", \"/said\"]\n";
            std::fs::write(files.join("Dockerfile"), dockerfile).unwrap();
            std::fs::write(files.join("say"), "hello\n").unwrap();
        }
        files
    }

    /// The runtime of this test.
    pub(super) fn runtime(&self) -> Runtime {
        Runtime {
            name: self.name.clone(),
            base: Some("upstream.example/lambda/base:1".parse().unwrap()),
            base_argument: Some("BASE_IMAGE".to_owned()),
            entry_point: None,
            context: self.files(),
            dockerfile: "Dockerfile".to_owned(),
            leave_out: [].into(),
            args: [("SAY".to_owned(), "well:".to_owned())].into(),
            target: None,
            platforms: vec!["linux/amd64".parse().unwrap()],
            epoch: None,
        }
    }

    /// Pushes a base with `content` to a repository, and returns its digest. A builder would take a second of the engine for each.
    pub(super) async fn push_base(&self, repository: &str, content: &str) -> Digest {
        // No two images share a layer, because their files' time is unique: the engine loses a layer that a build uses while another test
        // removes it.
        let content = format!("{content} of {}", self.name);
        let time = u64::from_str_radix(&Digest::of(content.as_bytes()).hex()[..7], 16).unwrap();
        let busybox = std::fs::read("/bin/busybox").unwrap();
        let shell: [Entry<'_>; 2] =
            [("bin/", EntryType::Directory, &[]), ("bin/sh", EntryType::Regular, &busybox)];
        let layers = [
            layer(time, &[("content", EntryType::Regular, content.as_bytes())]),
            layer(time, &shell),
            layer(time, &[("bin/cat", EntryType::Symlink, b"sh")]),
            layer(time, &[("bin/date", EntryType::Symlink, b"sh")]),
        ];
        let created = "2026-01-01T00:00:00Z";
        let config = json!({
            "architecture": "amd64", "os": "linux", "created": created,
            "config": { "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"] },
            "rootfs": { "type": "layers", "diff_ids": layers.iter().map(|(_, content)| content).collect::<Vec<_>>() },
            "history": vec![json!({ "created": created, "created_by": "COPY / /" }); layers.len()],
        });
        let config = self.push_blob(repository, "container.image.v1+json", config.to_string().into()).await;
        let mut pushed = Vec::new();
        for (layer, _) in layers {
            pushed.push(self.push_blob(repository, "image.rootfs.diff.tar.gzip", layer).await);
        }
        let media_type = "application/vnd.docker.distribution.manifest.v2+json";
        let manifest =
            json!({ "schemaVersion": 2, "mediaType": media_type, "config": config, "layers": pushed });
        let manifest = Manifest::new(media_type, manifest.to_string().into_bytes());
        let image: Reference = format!("{}/{repository}:1", self.registry).parse().unwrap();
        self.client.put_manifest(&image, &manifest).await.unwrap();
        manifest.digest()
    }

    /// Pushes a blob with one of docker's own media types, and returns its descriptor.
    async fn push_blob(&self, repository: &str, kind: &str, bytes: Vec<u8>) -> Value {
        let (digest, size) = (Digest::of(&bytes), bytes.len());
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("http://{}/v2/{repository}/blobs/uploads/", self.registry);
        let begun = http.post(url).send().await.unwrap();
        let session = begun.headers()["location"].to_str().unwrap().to_owned();
        let done = http.put(format!("{session}&digest={digest}")).body(bytes).send().await.unwrap();
        assert_eq!(done.status(), 201);
        json!({ "mediaType": format!("application/vnd.docker.{kind}"), "digest": digest.to_string(), "size": size })
    }

    /// The digest that a tag of the repository refers to.
    pub(super) async fn tag(&self, tag: &str) -> Option<Digest> {
        let image = self.repository().with_tag(tag).unwrap();
        self.client.head(&image).await.unwrap().map(|found| found.digest)
    }

    /// The number of tags in the repository.
    pub(super) async fn tag_count(&self) -> usize {
        registry::lists::tags(&self.client, &self.repository()).await.unwrap().len()
    }

    /// Copies the base of another world to this one's upstream.
    pub(super) async fn copy_base(&self, other: &Self, digest: Digest) {
        let from: Reference = format!("{}/upstream/lambda/base@{digest}", other.registry).parse().unwrap();
        let to: Reference = format!("{}/upstream/lambda/base:1", self.registry).parse().unwrap();
        let manifest = other.client.manifest(&from).await.unwrap().unwrap();
        let mirror = Mirror::new(self.client.clone());
        for blob in manifest.image().unwrap().blobs() {
            registry::mirror::copy_blob(&mirror, &from, &to, blob).await.unwrap();
        }
        self.client.put_manifest(&to, &manifest).await.unwrap();
    }

    /// Runs the runtime from the registry, as a grid would, and returns its output.
    pub(super) fn run(&self, tag: &str) -> String {
        let image = format!("{}/lambda:{tag}", self.registry);
        let said = Cmd::new("docker").args(["run", "--rm", "--pull", "always", &image]).read().unwrap();
        Cmd::new("docker").args(["rmi", &image]).read().unwrap();
        said
    }
}

/// A file of a layer: path, type, and content or target.
type Entry<'a> = (&'a str, EntryType, &'a [u8]);

/// A compressed layer of files with this time, and its uncompressed digest.
fn layer(time: u64, files: &[Entry<'_>]) -> (Vec<u8>, String) {
    let mut layer = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (path, entry, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*entry);
        header.set_mode(0o755);
        header.set_mtime(time);
        if *entry == EntryType::Symlink {
            header.set_size(0);
            layer.append_link(&mut header, path, std::str::from_utf8(content).unwrap()).unwrap();
        } else {
            header.set_size(content.len().try_into().unwrap());
            layer.append_data(&mut header, path, *content).unwrap();
        }
    }
    let layer = layer.into_inner().unwrap().finish().unwrap();
    let mut unzipped = Vec::new();
    GzDecoder::new(&layer[..]).read_to_end(&mut unzipped).unwrap();
    (layer, Digest::of(&unzipped).to_string())
}

impl Drop for World {
    fn drop(&mut self) {
        self.kill_handle.kill();
        let names = Cmd::new("docker")
            .args(["images", "--format", "{{.Repository}}:{{.Tag}}"])
            .read()
            .unwrap_or_default();
        let own = names.lines().filter(|name| name.contains(&self.name) || name.starts_with(&self.registry));
        let own: Vec<&str> = own.collect();
        if !own.is_empty() {
            let _ = Cmd::new("docker").args(["rmi", "--force"]).args(own).read();
        }
    }
}

/// Plans one runtime.
pub(super) async fn plan_one(context: &Context, runtime: &Runtime, force: bool) -> Planned {
    let mut planned = plan(context, std::slice::from_ref(runtime), Options { force, compare: false }).await;
    planned.remove(0).map_err(|failure| failure.error).unwrap()
}

/// Plans and applies one runtime; returns the action and the outcome.
pub(super) async fn run_one(context: &Context, runtime: &Runtime, force: bool) -> (Action, Outcome) {
    let planned = plan_one(context, runtime, force).await;
    let action = planned.action;
    (action, apply(context, vec![planned]).await.remove(0))
}
