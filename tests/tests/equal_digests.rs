//! The same inputs, built again by any builder, have the same digest at the registry.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not marked as such")]

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use e2e::{
    Builder, DebianRegistry, Engine, Images, LocalBuilds, Project, Run, World, command, docker, engine,
    program, programs, read, request, say, text,
};
use serde_json::Value;

/// A builder, prepared for a run of the tool.
struct Way {
    name: String,
    environment: Vec<(&'static str, OsString)>,
    client: &'static str,
    /// Its builds are removed with it.
    _builds: Option<LocalBuilds>,
}

impl Way {
    fn of(world: &World, name: &str, engine: &Engine, runtime: &str) -> Self {
        let config = world.path(&format!("docker-{name}"));
        if !config.exists() {
            std::fs::create_dir_all(&config).unwrap();
            engine.configure(&config);
        }
        let mut environment = engine.environment();
        environment.push(("DOCKER_CONFIG", config.into()));
        let builds = LocalBuilds { engine: engine.clone(), name: runtime.to_owned() };
        Self { name: name.to_owned(), environment, client: "docker", _builds: Some(builds) }
    }

    /// podman with its images, and its records of its own processes, in this world: two tests run at the same time, and podman
    /// unmounts everything that it knows of.
    fn podman(world: &World) -> Self {
        let root = world.path("podman");
        let text = format!(
            "[storage]\ndriver = \"overlay\"\ngraphroot = \"{0}/data\"\nrunroot = \"{0}/run\"\n",
            root.display()
        );
        std::fs::create_dir_all(&root).unwrap();
        std::fs::write(root.join("storage.conf"), text).unwrap();
        let text = format!("[engine]\ntmp_dir = \"{}/tmp\"\n", root.display());
        std::fs::write(root.join("containers.conf"), text).unwrap();
        let environment = vec![
            ("CONTAINERS_CONF", root.join("containers.conf").into()),
            ("CONTAINERS_STORAGE_CONF", root.join("storage.conf").into()),
            ("PATH", std::env::var_os("PATH").unwrap_or_default()),
        ];
        Self { name: "podman".to_owned(), environment, client: "podman", _builds: None }
    }

    fn set(&self, run: Run) -> Run {
        let run = run.args(&format!("--container-cli {}", self.client));
        self.environment.iter().fold(run, |run, (name, value)| run.env(name, value))
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        if self.client == "podman" {
            // It unmounts what it has mounted.
            let mut podman = command("podman");
            podman.envs(self.environment.iter().map(|(name, value)| (name, value)));
            let _ = podman.args(["system", "reset", "--force"]).output();
        }
    }
}

/// All builders that this machine has.
fn ways(world: &World, runtime: &str) -> Vec<Way> {
    let builders = Builder::ALL.into_iter().filter_map(|builder| {
        Some(Way::of(world, &format!("{builder:?}").to_lowercase(), &builder.engine()?, runtime))
    });
    builders.chain(program("podman").map(|_| Way::podman(world))).collect()
}

/// A build at a registry, as copied by skopeo.
fn copied(world: &World, image: &str, name: &str) -> PathBuf {
    let copy = world.path(name);
    let mut skopeo = command("skopeo");
    skopeo.args(["copy", "--quiet", "--src-tls-verify=false"]).arg(format!("docker://{image}"));
    read(skopeo.arg(format!("dir:{}", copy.display())));
    copy
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The position at which two values begin to differ.
fn differing(at: &str, one: &Value, other: &Value) -> Option<String> {
    if one == other {
        return None;
    }
    let child = |name: &str, one: Option<&Value>, other: Option<&Value>| match (one, other) {
        (Some(one), Some(other)) => differing(&format!("{at}.{name}"), one, other),
        (one, other) => Some(format!("{at}.{name}: {one:?} and {other:?}")),
    };
    match (one, other) {
        (Value::Object(ones), Value::Object(others)) => ones
            .keys()
            .chain(others.keys())
            .filter(|name| ones.get(*name) != others.get(*name))
            .find_map(|name| child(name, ones.get(name), others.get(name))),
        (Value::Array(ones), Value::Array(others)) => (0..ones.len().max(others.len())).find_map(|n| {
            if ones.get(n) == others.get(n) {
                None
            } else {
                child(&n.to_string(), ones.get(n), others.get(n))
            }
        }),
        _ => Some(format!("{at}: {one} and {other}")),
    }
}

/// The first path of a layer in which two of them differ, with tar's listing of both.
fn path_in(room: &Path, one: &Path, other: &Path) -> String {
    let list = |layer: &Path| {
        let mut tar = command("tar");
        tar.args(["--list", "--verbose", "--full-time", "--numeric-owner", "--gzip", "--file"]).arg(layer);
        text(tar.env("LC_ALL", "C"))
    };
    let (ones, others) = (list(one), list(other));
    let mut pairs = ones
        .lines()
        .map(Some)
        .chain(std::iter::repeat(None))
        .zip(others.lines().map(Some).chain(std::iter::repeat(None)));
    if ones != others {
        let (one, other) = pairs.find(|(one, other)| one != other).unwrap();
        return format!("{} and {}", one.unwrap_or("nothing"), other.unwrap_or("nothing"));
    }
    let unpack = |layer: &Path, name: &str| {
        let root = room.join(name);
        std::fs::create_dir_all(&root).unwrap();
        let mut tar = command("tar");
        tar.args(["--extract", "--gzip", "--no-same-owner", "--exclude=*.wh.*", "--file"]).arg(layer);
        read(tar.arg("--directory").arg(&root));
        root
    };
    let (one, other) = (unpack(one, "one"), unpack(other, "other"));
    let said =
        command("diff").args(["--recursive", "--brief", "--no-dereference"]).arg(one).arg(other).output();
    let said = String::from_utf8_lossy(&said.unwrap().stdout).into_owned();
    said.lines().next().unwrap_or("extended attributes").to_owned()
}

/// The first difference of two builds: a path of a layer, otherwise a field.
fn difference(world: &World, one: &str, other: &str) -> String {
    let (one, other) = (copied(world, one, "copy-one"), copied(world, other, "copy-other"));
    let manifests = (json(&one.join("manifest.json")), json(&other.join("manifest.json")));
    let layers = |manifest: &Value| manifest["layers"].as_array().unwrap().clone();
    let file = |copy: &Path, value: &Value| {
        copy.join(value["digest"].as_str().unwrap().trim_start_matches("sha256:"))
    };
    let pairs = layers(&manifests.0).into_iter().zip(layers(&manifests.1)).enumerate();
    let said = pairs.into_iter().find(|(_, (one, other))| one != other).map(|(n, (a, b))| {
        format!("layer {n}: {}", path_in(&world.path("unpacked"), &file(&one, &a), &file(&other, &b)))
    });
    let configs = (json(&file(&one, &manifests.0["config"])), json(&file(&other, &manifests.1["config"])));
    let said = said.or_else(|| differing("configuration", &configs.0, &configs.1));
    let said = said.or_else(|| differing("manifest", &manifests.0, &manifests.1));
    for copy in [one, other, world.path("unpacked")] {
        let _ = std::fs::remove_dir_all(copy);
    }
    said.unwrap_or_else(|| "nothing".to_owned())
}

/// The digest of a tag at the registry.
fn digest_of(host: &str, tag: &str) -> String {
    let accept =
        "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";
    let found =
        request("HEAD", &format!("http://{host}/v2/lambda/manifests/{tag}"), &[("accept", accept)], b"");
    assert_eq!(found.status, 200, "{tag}");
    found.header("docker-content-digest").unwrap().to_owned()
}

/// Forced builds by each builder, twice; returns the differences from the first build, by builder.
fn built(world: &World, host: &str, runtime: &str, run: &dyn Fn() -> Run) -> (usize, Vec<String>) {
    let image = |digest: &str| format!("{host}/lambda@{digest}");
    let (mut first, mut builds, mut wrong) = (None, 0, Vec::new());
    for way in ways(world, runtime) {
        for round in 1..=2 {
            way.set(run())
                .args("transfer-images --auto-approve REBUILD_RUNTIMES=true --only")
                .arg(runtime)
                .ok();
            builds += 1;
            let found = digest_of(host, runtime);
            let first = first.get_or_insert_with(|| found.clone());
            if found != *first {
                let how = difference(world, &image(first), &image(&found));
                wrong.push(format!("{}, build {round}: {how}", way.name));
            }
        }
    }
    say(&format!(
        "{builds} builds of {runtime}, {} of them another digest than the first: {wrong:#?}",
        wrong.len()
    ));
    (builds, wrong)
}

/// Everything that builders write in different forms.
const DOCKERFILE: &str = r#"ARG BASE_IMAGE
FROM ${BASE_IMAGE} AS tools
RUN mkdir -p /out/d && echo tool >/out/d/tool && ln -s d/tool /out/link

FROM ${BASE_IMAGE}
LABEL a.label=1
ENV FIRST=1 SECOND="two words"
ARG ENTRY_POINT
RUN echo content >/new && ln /new /other-name && ln -s new /link && mkdir -p /made/empty /work/dir && mkfifo /fifo \
    && chmod 2750 /made && chown 7:8 /new && echo "longer than any header has room for" \
    >/a-name-of-more-than-one-hundred-characters-0123456789012345678901234567890123456789012345678901234567890
RUN rm -r /kept/whole && rm /kept/one && chmod 0644 /kept/two && touch -d '1999-12-31 00:00:00' /kept/old \
    && rm -r /kept/again && mkdir /kept/again && echo three >/kept/again/three
# What changes nothing makes no layer, or an empty one.
RUN true
WORKDIR /work/dir
RUN chmod 0755 /bin/busybox && rm /kept/file && mkdir /kept/file && rm -r /kept/directory && echo >/kept/directory
COPY ${ENTRY_POINT} /start
COPY files /files/
ADD files/a files/b ./
COPY --from=tools /out /tools/
VOLUME /data
EXPOSE 8080/tcp
USER 99:99
ENTRYPOINT ["/bin/busybox", "sh", "/start"]
CMD ["handler"]
"#;

/// A base like real ones: with the directories that a container needs. If one is missing, BuildKit and podman leave it in the
/// image.
const BASE: &str =
    "FROM scratch\nCOPY root /\nRUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\nENV PATH=/bin\n";

fn push_base(project: &Project) {
    let files = project.world.path("own-base");
    for directory in [
        "bin",
        "dev",
        "etc",
        "proc",
        "run",
        "sys",
        "tmp",
        "kept/whole/below",
        "kept/again/below",
        "kept/directory",
    ] {
        std::fs::create_dir_all(files.join("root").join(directory)).unwrap();
    }
    for name in [
        "whole/x",
        "whole/below/x",
        "again/one",
        "again/below/two",
        "one",
        "two",
        "old",
        "file",
        "directory/x",
    ] {
        std::fs::write(files.join("root/kept").join(name), format!("{name} of {}", project.name)).unwrap();
    }
    std::fs::copy("/bin/busybox", files.join("root/bin/busybox")).unwrap();
    std::fs::write(files.join("Dockerfile"), BASE).unwrap();
    let mut build = engine();
    build.args(["build", "--quiet", "--no-cache", "--tag", &project.base]).arg(files);
    read(build.env("DOCKER_BUILDKIT", "0"));
    read(engine().args(["push", &project.base]));
    read(engine().args(["image", "rm", "--no-prune", &project.base]));
}

#[test]
fn equal_digests_for_every_builder_and_repetition() {
    if !programs(&["skopeo", "tar", "diff"]) {
        return;
    }
    let Some(project) = Project::new() else { return };
    push_base(&project);
    project.write("Dockerfile", DOCKERFILE);
    std::fs::create_dir_all(project.world.path("project/runtimes/files/below")).unwrap();
    for name in ["files/a", "files/b", "files/below/c"] {
        project.write(name, name);
    }
    let host = project.registry.host();
    let run = || project.xtask("").arg("--registry").arg(host);
    let (builds, wrong) = built(&project.world, host, &project.name, &run);
    assert!(wrong.is_empty() && builds >= 2, "{builds} builds: {wrong:#?}");

    // Content that differs each time is reported with its path.
    project.write("Dockerfile", e2e::DOCKERFILE);
    let (builds, wrong) = built(&project.world, host, &project.name, &run);
    assert_eq!(wrong.len(), builds - 1);
    assert!(wrong.iter().all(|how| how.contains("built")), "{wrong:#?}");
}

/// The runtimes' own Dockerfile, whose package manager writes the time of the build to many places.
#[test]
fn equal_digests_with_a_package_manager() {
    if !programs(&["skopeo", "tar", "diff"]) || !docker() {
        return;
    }
    let (Some(world), Some(registry)) = (World::new(Images::Full), DebianRegistry::start()) else { return };
    let runtime = format!("e2e-{}", world.path("").file_name().unwrap().to_string_lossy().to_lowercase());
    let line = format!("\"{runtime}\" = {{ base = \"public.ecr.aws/lambda/python:3.12\" }}");
    world.write("images.toml", &format!("schema_version = 1\n[runtimes]\n{line}\n"));
    let run = || world.sourced().arg("--registry").arg(registry.host());
    let (builds, wrong) = built(&world, registry.host(), &runtime, &run);
    assert!(wrong.is_empty() && builds >= 2, "{builds} builds: {wrong:#?}");
}
