//! What is built, pushed or only tagged, and what is not.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::sync::{Arc, Mutex};

use e2e::{
    Base, Builder, Gate, Images, Project, SeparateEngine, World, docker, engine, get, programs, read,
    request, root, text,
};
use serde_json::{Value, json};

use super::{action, without_record};

e2e::on_each_builder!(
    without_docker_nothing_to_do_costs_two_heads_and_a_moved_runtime_one_put,
    only_changed_runtimes_are_built,
    a_second_machine_with_an_empty_engine_neither_builds_nor_pushes,
    two_platforms_become_an_index_and_an_unsupported_one_is_refused_before_the_start,
);

/// Every request that comes to the project's registry, by its first line.
fn counted(project: &Project) -> (Gate, Arc<Mutex<Vec<String>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&seen);
    let gate = Gate::before(project.registry.host(), move |line| {
        noted.lock().unwrap().push(line.to_owned());
        false
    });
    (gate, seen)
}

fn without_docker_nothing_to_do_costs_two_heads_and_a_moved_runtime_one_put(builder: Builder) {
    let Some(project) = Project::with(builder) else { return };
    let name = &project.name;
    let second = format!("{name}-second");
    let line = project.line(", build_args = { A = \"2\" }").replace(name, &second);
    project.images(&format!("{}\n{line}", project.line("")));
    let (gate, seen) = counted(&project);
    project.transfer(gate.host(), "").ok();
    let tags = project.tags();
    assert_ne!(tags[name], tags[&second]);

    let without_docker = || {
        seen.lock().unwrap().clear();
        project.transfer(gate.host(), "--format json").env("PATH", "/nonexistent").ok()
    };
    let key = |name: &str| tags.keys().find(|tag| tag.starts_with(&format!("{name}-k2-"))).unwrap().clone();
    let run = without_docker();
    assert_eq!(run.json()["changed"], false, "{run}");
    let mut heads = seen.lock().unwrap().clone();
    heads.sort_unstable();
    let mut wanted = [name.clone(), key(name), second.clone(), key(&second)]
        .map(|tag| format!("HEAD /v2/lambda/manifests/{tag} HTTP/1.1"));
    wanted.sort_unstable();
    assert_eq!(heads, wanted);

    // Another user moved one of the two.
    let media_type = "application/vnd.docker.distribution.manifest.v2+json";
    let manifest = format!("http://{}/v2/lambda/manifests", project.registry.host());
    let other = request("GET", &format!("{manifest}/{second}"), &[("accept", media_type)], b"").body;
    let put = request("PUT", &format!("{manifest}/{name}"), &[("content-type", media_type)], &other);
    assert_eq!((put.status, &project.tags()[name]), (201, &tags[&second]));
    let run = without_docker();
    assert_eq!(action(&run), "promote", "{run}");
    let writes: Vec<String> = seen
        .lock()
        .unwrap()
        .iter()
        .filter(|line| !line.starts_with("HEAD ") && !line.starts_with("GET "))
        .cloned()
        .collect();
    // The tag for the replaced build, the record before the move, the move itself, and the record after it.
    let kept = format!("{name}-sha256-{}", &tags[&second]["sha256:".len()..][..12]);
    let wanted = [format!("{name}-history"), kept.clone(), name.clone(), format!("{name}-history")];
    assert_eq!(writes, wanted.map(|tag| format!("PUT /v2/lambda/manifests/{tag} HTTP/1.1")));
    let mut now = project.tags();
    assert_eq!(now.remove(&kept).as_ref(), tags.get(&second));
    assert_eq!(without_record(now), without_record(tags));
}

/// The result of docker itself for the context: another image if it sees another context. It builds on this test's own base: for
/// its cache docker looks through all images of a parent, and fails if another test removes one at that moment.
fn docker_sees(project: &Project) -> String {
    let context = project.world.path("project/runtimes");
    let probe = project.write("probe", &format!("FROM {}\nCOPY . /context/\n", project.base));
    text(engine().args(["build", "--quiet", "--file"]).arg(probe).arg(context).env("DOCKER_BUILDKIT", "0"))
}

fn only_changed_runtimes_are_built(builder: Builder) {
    let Some(project) = Project::with(builder) else { return };
    let (name, file) = (&project.name, |name: &str| project.world.path(&format!("project/runtimes/{name}")));
    for name in ["a", "b", "c"] {
        project.write(name, &format!("#!/bin/sh\necho {name}\n"));
        std::fs::set_permissions(file(name), std::fs::Permissions::from_mode(0o644)).unwrap();
    }
    project.write(
        "Dockerfile",
        "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nARG ENTRY_POINT\nCOPY ${ENTRY_POINT} /start\nCOPY d /context/\n",
    );
    project.write(".dockerignore", "# not for the image\nnotes\n*.md\n!kept.md\n**/deep\nstart\nprobe\n");
    std::fs::create_dir_all(file("notes/deep")).unwrap();
    std::fs::create_dir(file("d")).unwrap();
    project.write("notes/day", "one");
    project.write("kept.md", "one");
    symlink("first", file("d/link")).unwrap();
    // The third runtime has its own base.
    let other = format!("{}/other:1", project.registry.host());
    project.push_base(&other, "other");
    let images = |a: &str, b: &str| {
        let line = |entry: &str, base: &str, more: &str| {
            format!("\"{name}-{entry}\" = {{ base = \"{base}\", entry_point = \"{entry}\"{more} }}\n")
        };
        project
            .images(&(line("a", &project.base, a) + &line("b", &project.base, b) + &line("c", &other, "")));
    };
    images("", "");
    let host = project.registry.host();
    project.transfer(host, "").ok();
    let changed = || -> String {
        let run = project.transfer(host, "--dry-run --format json").ok();
        let runtimes = run.json()["runtimes"].as_array().unwrap().clone();
        assert_eq!(runtimes.len(), 3, "{run}");
        let builds = runtimes.iter().filter(|runtime| runtime["action"] == "build");
        builds
            .map(|runtime| runtime["name"].as_str().unwrap().rsplit('-').next().unwrap().to_owned())
            .collect()
    };
    let (mut before, mut seen) = (String::new(), docker_sees(&project));
    let mut probes = std::collections::BTreeSet::from([seen.clone()]);
    assert_eq!(changed(), before);

    // (the change, the runtimes that are built because of it, how); one after the other, and reverted if the next row needs it.
    type Step<'a> = &'a dyn Fn();
    let mode =
        |mode: u32| std::fs::set_permissions(file("a"), std::fs::Permissions::from_mode(mode)).unwrap();
    let touch = || {
        let later = std::time::SystemTime::now() + std::time::Duration::from_secs(3600);
        std::fs::File::options().write(true).open(file("a")).unwrap().set_modified(later).unwrap();
    };
    let table: [(&str, &str, Step<'_>); 10] = [
        ("touched", "", &touch),
        ("a file below an ignored path", "", &|| drop(project.write("notes/day", "two"))),
        ("a new file below an ignored path at any depth", "", &|| drop(project.write("notes/deep/x", ""))),
        ("a new file that a pattern ignores", "", &|| drop(project.write("new.md", ""))),
        ("chmod +x", "a", &|| mode(0o755)),
        ("chmod -x", "", &|| mode(0o644)),
        ("one byte", "b", &|| drop(project.write("b", "#!/bin/sh\necho B\n"))),
        ("the byte back", "", &|| drop(project.write("b", "#!/bin/sh\necho b\n"))),
        ("a file that an exception brings back", "abc", &|| drop(project.write("kept.md", "two"))),
        ("that file back", "", &|| drop(project.write("kept.md", "one"))),
    ];
    for (what, wanted, step) in table {
        step();
        assert_eq!(changed(), wanted, "{what}");
        let now = docker_sees(&project);
        assert_eq!(now == seen, wanted == before, "{what}: docker sees it otherwise");
        probes.insert(now.clone());
        (before, seen) = (wanted.to_owned(), now);
    }
    // A symlink's target, which the legacy builder's own cache ignores: the build has the current target.
    std::fs::remove_file(file("d/link")).unwrap();
    symlink("second", file("d/link")).unwrap();
    assert_eq!(changed(), "abc");
    project.transfer(host, "").ok();
    let image = format!("{host}/lambda:{name}-a");
    let shell = [
        "run",
        "--rm",
        "--pull",
        "always",
        "--entrypoint",
        "/bin/sh",
        &image,
        "-c",
        "readlink /context/link",
    ];
    assert_eq!(text(project.docker().args(shell)), "second");
    read(project.docker().args(["image", "rm", &image]));
    // Inputs that are not in a file.
    for (what, wanted, a, b) in [
        ("an argument", "b", "", ", build_args = { A = \"1\" }"),
        ("the platform", "a", ", platforms = [\"linux/arm64\"]", ""),
        ("neither", "", "", ""),
    ] {
        images(a, b);
        assert_eq!(changed(), wanted, "{what}");
    }
    project.push_base(&other, "moved");
    assert_eq!(changed(), "c", "the base's digest");
    read(engine().args(["image", "rm", &project.base]).args(&probes));
}

fn a_second_machine_with_an_empty_engine_neither_builds_nor_pushes(builder: Builder) {
    if !programs(&["terraform"]) {
        return;
    }
    let Some(project) = Project::with(builder) else { return };
    let world = &project.world;
    let Some(second) = SeparateEngine::start() else { return };
    let module = "deployment/image_repository/terraform";
    symlink(root().join(module), world.path("project").join(module)).unwrap();
    // Another machine: only images.toml, the sources and the account are the same.
    let machine = |home: &str, line: &str| {
        let target = world.path(home);
        if !target.exists() {
            std::fs::create_dir(&target).unwrap();
        }
        let run = project.xtask("--local --local-dir").arg(world.path("local")).args(line);
        run.env("CARGO_TARGET_DIR", &target).env("HOME", &target)
    };
    machine("one", "init-images --create-state-bucket").ok();
    let run = machine("one", "transfer-images --auto-approve --format json").ok();
    assert_eq!(action(&run), "build", "{run}");
    let aws = world.aws();
    let tags = aws.whole_tags();
    assert_eq!(tags.len(), 4);

    aws.emulator.forget();
    let run =
        machine("two", "transfer-images --auto-approve --format json").env("DOCKER_HOST", second.host()).ok();
    assert_eq!(
        (action(&run), run.json()["changed"].as_bool()),
        ("up to date".to_owned(), Some(false)),
        "{run}"
    );
    assert_eq!(aws.emulator.changes(), Vec::<String>::new());
    let asked: Vec<String> =
        aws.emulator.log().iter().map(|entry| entry["action"].as_str().unwrap().to_owned()).collect();
    assert!(asked.iter().any(|action| action == "HEAD manifest"), "{asked:?}");
    assert!(!asked.iter().any(|action| action.contains("blob") || action.contains("upload")), "{asked:?}");
    assert_eq!((second.images(), aws.whole_tags()), (Vec::<String>::new(), tags));
}

fn two_platforms_become_an_index_and_an_unsupported_one_is_refused_before_the_start(builder: Builder) {
    if !programs(&["skopeo"]) {
        return;
    }
    let Some(project) = Project::with(builder) else { return };
    let (host, name) = (project.registry.host(), &project.name);
    // A base for both: only files, so that no program of the other platform has to run.
    let accept = "application/vnd.docker.distribution.manifest.v2+json";
    let mut children = Vec::new();
    for architecture in ["amd64", "arm64"] {
        let base = Base::new(0).file("static", format!("{architecture} of {name}").as_bytes());
        let mut child = base.push_for(architecture, &format!("{host}/both:{architecture}"), &json!({}));
        child["platform"] = json!({ "os": "linux", "architecture": architecture });
        children.push(child);
    }
    let list = "application/vnd.docker.distribution.manifest.list.v2+json";
    let index = json!({ "schemaVersion": 2, "mediaType": list, "manifests": children }).to_string();
    let put = request(
        "PUT",
        &format!("http://{host}/v2/both/manifests/1"),
        &[("content-type", list)],
        index.as_bytes(),
    );
    assert_eq!(put.status, 201);

    let curl = "[images]\ncurl = \"curlimages/curl:7.85.0\"\n";
    let line = project.line(", platforms = [\"linux/amd64\", \"linux/arm64\"]").replace("/base:1", "/both:1");
    project.images(&format!("{line}\n{curl}"));
    let copied = "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nARG ENTRY_POINT\nCOPY ${ENTRY_POINT} /start\n";
    project.write("Dockerfile", &format!("{copied}RUN [\"/start\"]\n"));
    if !std::path::Path::new("/proc/sys/fs/binfmt_misc/qemu-aarch64").exists() {
        let refused = project.transfer(host, "").end();
        refused.failed(10, &[name, "linux/arm64", "hint: ", "binfmt"]);
        let catalog = get(&format!("http://{host}/v2/_catalog")).json();
        assert_eq!(catalog["repositories"], json!(["base", "both"]), "{refused}");
        let listed = text(project.docker().args(["image", "ls", "--format", "{{.Tag}}", "lambda"]));
        assert!(!listed.contains(name.as_str()), "{listed}");
    }

    project.write("Dockerfile", copied);
    project.transfer(host, "").ok();
    let mut skopeo = e2e::command("skopeo");
    skopeo
        .args(["inspect", "--raw", "--tls-verify=false", "--no-creds"])
        .arg(format!("docker://{host}/lambda:{name}"));
    let raw = read(&mut skopeo);
    assert_eq!(e2e::digest(&raw), project.tags()[name]);
    let index: Value = serde_json::from_slice(&raw).unwrap();
    let platforms = index["manifests"].as_array().unwrap().iter();
    let platforms: Vec<&str> =
        platforms.map(|child| child["platform"]["architecture"].as_str().unwrap()).collect();
    assert_eq!(platforms, ["amd64", "arm64"]);
    // Each child image has the base of its own platform.
    for architecture in platforms {
        let mut skopeo = e2e::command("skopeo");
        skopeo.args(["--override-arch", architecture, "inspect", "--tls-verify=false", "--no-creds"]);
        let found: Value =
            serde_json::from_slice(&read(skopeo.arg(format!("docker://{host}/lambda:{name}")))).unwrap();
        let url = format!("http://{host}/v2/both/manifests/{architecture}");
        let base: Value = request("GET", &url, &[("accept", accept)], b"").json();
        assert_eq!(
            (&found["Architecture"], &found["Layers"][0]),
            (&json!(architecture), &base["layers"][0]["digest"])
        );
    }
    let run = project.transfer(host, "--format json").env("PATH", "/nonexistent").ok();
    assert_eq!(run.json()["changed"], false, "{run}");
}

#[test]
fn a_missing_primed_image_is_named_and_pulled_with_prime() {
    if !programs(&["terraform"]) || !docker() {
        return;
    }
    let Some(world) = World::new(Images::Small) else { return };
    world.write(
        "images.toml",
        "schema_version = 1\nprime = [\"ecr-public/sam/build-python3.11:1\"]\n[images]\ncurl = \"curlimages/curl:7.85.0\"\n\
         [pull_through]\necr-public = \"public.ecr.aws\"\n",
    );
    world.xtask("init-images --create-state-bucket").ok();
    let transfer = |line: &str| world.xtask("transfer-images --auto-approve").args(line);
    // Without an engine nothing could pull it.
    let run = transfer("").env("DOCKER_HOST", "unix:///nonexistent/docker.sock").ok();
    assert!(!run.stderr.contains("docker pull"), "{run}");
    let image = format!("{}/ecr-public/sam/build-python3.11:1", world.aws().host);
    let is_there = || engine().args(["image", "inspect", &image]).output().unwrap().status.success();
    let lose_curl = || {
        let images = json!({ "repositoryName": "curl", "imageIds": [{ "imageTag": "7.85.0" }] });
        world.aws().ecr("BatchDeleteImage", &images);
    };

    lose_curl();
    let run = transfer("").ok();
    let last = run.stderr.lines().last().unwrap();
    assert!(last.contains(&format!("`docker pull {image}`")) && !is_there(), "{run}");
    // With nothing else to do: `--prime` pulls it all the same.
    let run = transfer("--prime").ok();
    assert!(run.stderr.contains("nothing was changed") && is_there(), "{run}");
    lose_curl();
    let run = transfer("").ok();
    assert!(!run.stderr.contains("docker pull"), "{run}");
    read(engine().args(["image", "rm", &image]));
}
