//! `export-images` and `import-images`: the whole list through a file, with equal digests, readable by other tools.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not marked as such")]

use std::collections::BTreeSet;
use std::path::Path;

use e2e::{
    DebianRegistry, Ended, Gate, Images, Project, Run, World, command, digest, get, programs, read, request,
    say,
};
use rustix::process::Signal;
use serde_json::Value;

const IMAGES: &str = r#"schema_version = 1
[images]
curl = "curlimages/curl:7.85.0"
"kedacore/keda" = { source = "ghcr.io/kedacore/keda:2.11.2", platforms = "all" }
"kedacore/keda-metrics-apiserver" = { source = "ghcr.io/kedacore/keda-metrics-apiserver:2.11.2", platforms = ["linux/amd64", "linux/arm64"] }
"#;

const NAMES: [&str; 3] = ["curl:7.85.0", "kedacore/keda:2.11.2", "kedacore/keda-metrics-apiserver:2.11.2"];

/// A manifest's digest, as read by skopeo.
fn raw(image: &str) -> String {
    let mut skopeo = command("skopeo");
    skopeo.args(["inspect", "--raw"]);
    if image.starts_with("docker:") {
        skopeo.args(["--no-creds", "--tls-verify=false"]);
    }
    digest(&read(skopeo.arg(image)))
}

/// Whether skopeo finds it in a layout: it ignores images there that have docker's own manifest format.
fn is_oci(image: &str) -> bool {
    let mut skopeo = command("skopeo");
    let manifest = read(skopeo.args(["inspect", "--raw", "--no-creds", "--tls-verify=false"]).arg(image));
    serde_json::from_slice::<Value>(&manifest).unwrap()["mediaType"].as_str().unwrap().contains(".oci.")
}

fn transferred() -> Option<(World, DebianRegistry)> {
    let (world, registry) = (World::new(Images::Small)?, DebianRegistry::start()?);
    world.write("images.toml", IMAGES);
    at(&world, &registry, "transfer-images --auto-approve").ok();
    Some((world, registry))
}

/// Adds the arguments of `line`; `@name` is a file of this world.
fn words(world: &World, run: Run, line: &str) -> Run {
    line.split(' ').fold(run, |run, word| match word.strip_prefix('@') {
        Some(name) => run.arg(world.path(name)),
        None => run.arg(word),
    })
}

fn at(world: &World, registry: &DebianRegistry, line: &str) -> Run {
    words(world, world.sourced().arg("--registry").arg(registry.host()), line)
}

fn sourced(world: &World, line: &str) -> Run {
    words(world, world.sourced(), line)
}

/// A machine without a network: no source can be reached.
fn cut_off(world: &mut World) {
    for registry in e2e::REGISTRIES {
        world.sources.route(registry, "http://127.0.0.1:1".to_owned());
    }
}

fn unchanged(ended: &Ended) -> bool {
    ended.json()["images"].as_array().unwrap().iter().all(|image| image["up_to_date"] == true)
}

#[test]
fn an_export_is_imported_without_a_network_with_equal_digests() {
    if !programs(&["skopeo"]) {
        return;
    }
    let Some((mut world, first)) = transferred() else { return };
    at(&world, &first, "export-images @grid.tar").ok();
    at(&world, &first, "export-images @grid").ok();
    // Without a target, only from the sources.
    sourced(&world, "export-images @sources --from-sources").ok();
    cut_off(&mut world);
    for (file, form) in [("grid.tar", "oci-archive"), ("grid", "oci"), ("sources", "oci")] {
        let second = DebianRegistry::start().unwrap();
        let done = at(&world, &second, &format!("import-images @{file} --auto-approve")).ok();
        assert!(done.stderr.contains("3 images at "), "{done}");
        let (path, mut found) = (world.path(file), 0);
        for name in NAMES {
            let wanted = raw(&format!("docker://{}/{name}", first.host()));
            assert_eq!(raw(&format!("docker://{}/{name}", second.host())), wanted, "{file}: {name}");
            if is_oci(&format!("docker://{}/{name}", first.host())) {
                assert_eq!(raw(&format!("{form}:{}:{name}", path.display())), wanted, "{file}: {name}");
                found += 1;
            }
        }
        assert_eq!(found, 2, "{file}");
        // With the blobs: skopeo copies a whole index out of the file.
        let copy = world.path(&format!("copy-{file}"));
        let source = format!("{form}:{}:kedacore/keda:2.11.2", path.display());
        let mut skopeo = command("skopeo");
        skopeo.args(["copy", "--quiet", "--all", "--insecure-policy"]).arg(source);
        read(skopeo.arg(format!("dir:{}", copy.display())));
        let again = at(&world, &second, &format!("import-images @{file} --format json")).ok();
        assert!(unchanged(&again), "{again}");
        assert_eq!(at(&world, &second, "verify --deep").end().code, Some(0));
    }
    let again = at(&world, &first, "export-images @grid --format json").ok();
    assert!(unchanged(&again), "{again}");
    at(&world, &first, "export-images @grid.tar").end().failed(2, &["grid.tar exists already", "hint: "]);
    at(&world, &first, "export-images @images.toml").end().failed(2, &["is not an OCI image layout"]);
    at(&world, &first, "import-images @nowhere").end().failed(1, &["nowhere", "No such file"]);
    let asked = at(&world, &first, "import-images @grid").end();
    assert_eq!(asked.code, Some(0), "nothing to do is not asked for: {asked}");
    let empty = DebianRegistry::start().unwrap();
    let asked = at(&world, &empty, "import-images @grid").end();
    asked.failed(6, &["copy 3 images from ", "this needs a confirmation"]);
    assert_eq!(
        get(&format!("http://{}/v2/_catalog", empty.host())).json()["repositories"],
        Value::Array(vec![])
    );
}

#[test]
fn a_killed_export_is_continued() {
    let (Some(mut world), Some(target)) = (World::new(Images::Small), DebianRegistry::start()) else {
        return;
    };
    world.write("images.toml", IMAGES);
    let mut rest = Vec::new();
    for file in ["grid.tar", "grid"] {
        // The last blob never arrives.
        let real = format!("http://{}/docker.io", world.sources.host);
        let gate =
            Gate::before(&world.sources.host, |line| line.starts_with("GET") && line.contains("/blobs/"));
        world.sources.route("docker.io", format!("http://{}/docker.io", gate.host()));
        let line = format!("export-images @{file} --from-sources");
        let mut run = sourced(&world, &line).start();
        run.wait_for("kedacore/keda:2.11.2: copied");
        gate.wait();
        run.signal(Signal::KILL);
        run.end();
        drop(gate);
        world.sources.route("docker.io", real);
        world.sources.forget();
        let again = sourced(&world, &line).ok();
        let log = get(&format!("http://{}/_local/log", world.sources.host)).json();
        let is_blob = |line: &&Value| {
            let line = line.to_string();
            line.contains("GET") && line.contains("/blobs/") && line.contains("kedacore/keda/")
        };
        let keda = log.as_array().unwrap().iter().filter(is_blob).count();
        rest.push(keda);
        assert!(again.stderr.contains("3 images in "), "{again}");
        at(&world, &target, &format!("import-images @{file} --auto-approve")).ok();
        assert!(!world.path("grid.tar.partial").exists() && !world.path("grid/.incoming").exists());
    }
    say(&format!("blobs of an image that was copied before the kill, read again: {rest:?}"));
    assert_eq!(rest, [0, 0]);
}

#[test]
fn only_changes_since_a_lock_are_exported() {
    let Some((world, registry)) = transferred() else { return };
    at(&world, &registry, "lock").ok();
    let lock = std::fs::read_to_string(world.path("images.lock")).unwrap();
    world.write("before.lock", &lock);
    let none = at(&world, &registry, "export-images @none --since @before.lock --format json").ok();
    assert_eq!(none.json()["images"], Value::Array(vec![]), "{none}");
    // One image now has other platforms.
    world.write(
        "images.toml",
        &IMAGES.replace(
            "curl = \"curlimages/curl:7.85.0\"",
            "curl = { source = \"curlimages/curl:7.85.0\", platforms = \"all\" }",
        ),
    );
    at(&world, &registry, "lock").ok();
    let some = at(&world, &registry, "export-images @some.tar --since @before.lock --format json").ok();
    assert_eq!(some.json()["images"].as_array().unwrap().len(), 1, "{some}");
    assert_eq!(some.json()["images"][0]["name"], "curl:7.85.0");
    at(&world, &registry, "export-images @x --since @nothing.lock").end().failed(2, &["nothing.lock"]);
}

#[test]
fn a_layout_written_by_skopeo_is_imported() {
    if !programs(&["skopeo"]) {
        return;
    }
    let Some((world, first)) = transferred() else { return };
    let skopeo = |to: &str| {
        let mut skopeo = command("skopeo");
        skopeo.args(["copy", "--quiet", "--all", "--preserve-digests", "--insecure-policy"]);
        skopeo.args(["--src-no-creds", "--src-tls-verify=false"]);
        skopeo.arg(format!("docker://{}/kedacore/keda:2.11.2", first.host()));
        read(skopeo.arg(to));
    };
    let path = |name: &str| world.path(name).display().to_string();
    skopeo(&format!("oci:{}:mine/keda:1", path("named")));
    skopeo(&format!("oci-archive:{}", path("unnamed.tar")));
    let second = DebianRegistry::start().unwrap();
    at(&world, &second, "import-images @named --auto-approve").ok();
    let wanted = raw(&format!("docker://{}/kedacore/keda:2.11.2", first.host()));
    assert_eq!(raw(&format!("docker://{}/mine/keda:1", second.host())), wanted);
    let unnamed = at(&world, &second, "import-images @unnamed.tar --auto-approve").end();
    unnamed.failed(2, &["has 1 image without a repository and tag", "--name repository:tag"]);
    at(&world, &second, "import-images @unnamed.tar --auto-approve --name other/keda:2").ok();
    assert_eq!(raw(&format!("docker://{}/other/keda:2", second.host())), wanted);

    // A byte that changed on the way.
    let blobs = world.path("named/blobs/sha256");
    let large = std::fs::read_dir(blobs).unwrap().map(|file| file.unwrap().path());
    let large = large.max_by_key(|file| std::fs::metadata(file).unwrap().len()).unwrap();
    flip(&large);
    let third = DebianRegistry::start().unwrap();
    at(&world, &third, "import-images @named --auto-approve")
        .end()
        .failed(2, &["mine/keda:1", "digest", "hint: the file is damaged"]);
    assert_eq!(get(&format!("http://{}/v2/mine/keda/manifests/1", third.host())).status, 404);
}

fn flip(file: &Path) {
    let mut bytes = std::fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(file, bytes).unwrap();
}

#[test]
fn the_emulated_account_imports_its_own_export() {
    let Some(world) = World::small_grid() else { return };
    world.xtask("init-images --create-state-bucket").ok();
    world.xtask("transfer-images --auto-approve").ok();
    words(&world, world.xtask(""), "export-images @grid.tar").ok();
    let before = world.aws().whole_tags();
    let Some(mut other) = World::small_grid() else { return };
    cut_off(&mut other);
    std::fs::copy(world.path("grid.tar"), other.path("grid.tar")).unwrap();
    other.xtask("init-images --create-state-bucket").ok();
    // The account has no repositories yet: they are created first.
    let done = words(&other, other.xtask(""), "import-images @grid.tar --auto-approve").ok();
    assert!(done.stderr.contains("2 images at "), "{done}");
    assert_eq!(other.aws().whole_tags(), before);
    let again = words(&other, other.xtask(""), "import-images @grid.tar").ok();
    assert!(again.stderr.contains("has all 2 images of "), "{again}");
}

#[test]
fn a_runtime_is_exported_too_and_not_built_again() {
    let Some(project) = Project::new() else { return };
    let host = project.registry.host().to_owned();
    project.transfer(&host, "").ok();
    let run =
        |host: &str, line: &str| words(&project.world, project.xtask("").arg("--registry").arg(host), line);
    run(&host, "export-images @grid.tar").ok();
    let other = DebianRegistry::start().unwrap();
    run(other.host(), "import-images @grid.tar --auto-approve").ok();
    let accept = (
        "accept",
        "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json",
    );
    let tags = project.tags();
    // Each registry has its own list of the build's referrers.
    let is_list = |tag: &str| tag.starts_with("sha256-");
    for (tag, wanted) in tags.iter().filter(|(tag, _)| !tag.ends_with("-history") && !is_list(tag)) {
        let url = format!("http://{}/v2/lambda/manifests/{tag}", other.host());
        assert_eq!(digest(&request("GET", &url, &[accept], b"").body), *wanted, "{tag}");
    }
    let list = tags.keys().find(|tag| is_list(tag)).unwrap();
    let about = |host: &str| {
        let accept = ("accept", "application/vnd.oci.image.index.v1+json");
        let list =
            request("GET", &format!("http://{host}/v2/lambda/manifests/{list}"), &[accept], b"").json();
        let listed = list["manifests"].as_array().unwrap().iter();
        listed.map(|one| one["digest"].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>()
    };
    assert_eq!((about(other.host()), about(&host).len()), (about(&host), 2));
    let plan = run(other.host(), "transfer-images --dry-run --format json").ok();
    assert_eq!(plan.json()["runtimes"][0]["action"], "up to date", "{plan}");
    assert_eq!(run(other.host(), "verify").end().code, Some(0));
}
