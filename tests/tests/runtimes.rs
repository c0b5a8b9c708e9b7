//! The runtimes by the real binary: never built twice, never lost.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not marked as such")]

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::sync::{Arc, Mutex};

use e2e::{
    Builder, Ended, EngineOfItsOwn, Gate, Images, Project, Run, World, docker, engine, get, programs, read,
    request, root, text,
};
use rustix::process::Signal;
use serde_json::{Value, json};

e2e::on_each_builder!(
    a_forced_rebuild_that_is_killed_anywhere_leaves_the_old_runtime,
    forced_rebuilds_a_failed_one_and_the_way_back_move_nothing_later,
    without_docker_nothing_costs_two_heads_and_a_moved_runtime_one_put,
    what_changed_is_built_and_nothing_else,
    a_second_machine_with_an_empty_engine_neither_builds_nor_pushes,
    two_platforms_give_an_index_and_one_that_cannot_run_here_is_refused_before_anything_starts,
    the_contributors_loop_explains_builds_on_save_and_names_what_changed,
    two_failed_builds_are_told_on_one_screen_in_their_programs_own_words,
    older_local_builds_go_unless_a_container_uses_them,
);

/// A gate before the project's registry, and the words of the request that it holds: none at first.
fn gate(project: &Project) -> (Gate, Arc<Mutex<String>>) {
    let held = Arc::new(Mutex::new(String::new()));
    let words = Arc::clone(&held);
    let gate = Gate::before(project.registry.host(), move |line| {
        let words = words.lock().unwrap();
        !words.is_empty() && line.contains(words.as_str())
    });
    (gate, held)
}

fn action(run: &Ended) -> String {
    run.json()["runtimes"][0]["action"].as_str().unwrap().to_owned()
}

/// How the project's runtime moved.
fn moves(project: &Project) -> Vec<Value> {
    let run = rebuild(project, &format!("--builds {} --format json", project.name)).ok();
    run.json()["moves"].as_array().unwrap().clone()
}

/// The tags without the record of their moves, which each move changes.
fn without_record(mut tags: BTreeMap<String, String>) -> BTreeMap<String, String> {
    tags.retain(|tag, _| !tag.ends_with("-history"));
    tags
}

/// `rebuild-runtimes` at the project's registry.
fn rebuild(project: &Project, line: &str) -> Run {
    let run = project.xtask("").arg("--registry").arg(project.registry.host());
    run.args("rebuild-runtimes").args(line)
}

/// What is held at which point of a forced rebuild, and what the ordinary run after the SIGKILL then does.
const POINTS: [(&str, &str, &str); 5] = [
    ("in the push", "PUT /v2/lambda/blobs/uploads/", "up to date"),
    ("between push and build tag", "PUT /v2/lambda/manifests/NAME-sha256-", "up to date"),
    ("between build tag and key tag", "PUT /v2/lambda/manifests/NAME-k2-", "up to date"),
    ("between key tag and the move's record", "PUT /v2/lambda/manifests/NAME-history ", "promote"),
    ("between the record and runtime tag", "PUT /v2/lambda/manifests/NAME ", "promote"),
];

fn a_forced_rebuild_that_is_killed_anywhere_leaves_the_old_runtime(builder: Builder) {
    let Some(project) = Project::with(builder) else { return };
    let (gate, held) = gate(&project);
    let name = &project.name;
    let transfer = |line: &str| project.transfer(gate.host(), line).env("TMPDIR", project.world.path("tmp"));
    std::fs::create_dir(project.world.path("tmp")).unwrap();
    transfer("").ok();
    let left = |name: &str| project.world.path(name).read_dir().unwrap().count();
    let (mut old, first) = (project.tags()[name].clone(), project.run(name));
    assert!(first.starts_with("hello\n"), "{first}");

    for (point, request, next) in [("in the build", "", "up to date")].into_iter().chain(POINTS) {
        let mut run;
        if request.is_empty() {
            // A step that takes as long as it is let.
            let slow = format!("{}RUN echo a-slow-step && sleep 600\n", project.dockerfile());
            project.write("Dockerfile", &slow);
            run = transfer("REBUILD_RUNTIMES=true -v").start();
            run.wait_for("a-slow-step");
            project.write("Dockerfile", project.dockerfile());
        } else {
            *held.lock().unwrap() = request.replace("NAME", name);
            run = transfer("REBUILD_RUNTIMES=true").start();
            gate.wait();
        }
        run.signal(Signal::KILL);
        assert_eq!(run.end().code, None, "{point}");
        held.lock().unwrap().clear();
        // What it left on the disk, credentials among it, is its own alone: that of the one before is gone.
        assert_eq!((left("tmp"), left("target/xtask/scratch")), (1, 1), "{point}");
        assert_eq!(project.tags()[name], old, "{point}");

        // Nothing is built a second time: no docker is there.
        let ordinary = || transfer("--format json").env("PATH", "/nonexistent").ok();
        let run = ordinary();
        assert_eq!(action(&run), next, "{point}: {run}");
        let now = project.tags()[name].clone();
        assert_eq!(now == old, next == "up to date", "{point}");
        old = now;
        assert_eq!(action(&ordinary()), "up to date", "{point}");
    }

    let promoted = project.run(name);
    assert!(promoted.starts_with("hello\n") && promoted != first, "{promoted}");
    // Each move is on record, once and whole, whatever ended the runs: the first build and two promotions.
    let moves = moves(&project);
    assert_eq!(moves.iter().map(|made| &made["to"]).next_back(), Some(&json!(old)), "{moves:?}");
    assert!(moves.windows(2).all(|pair| pair[0]["to"] == pair[1]["from"]), "{moves:?}");
    let causes: Vec<&Value> = moves.iter().map(|made| &made["cause"]).collect();
    assert_eq!(causes, ["built", "promoted", "promoted"], "{moves:?}");
    transfer("REBUILD_RUNTIMES=true").ok();
    assert_eq!((left("tmp"), left("target/xtask/scratch")), (0, 0));
    assert_ne!(project.tags()[name], old);
}

fn forced_rebuilds_a_failed_one_and_the_way_back_move_nothing_later(builder: Builder) {
    let Some(project) = Project::with(builder) else { return };
    let (name, host) = (&project.name, project.registry.host());
    let ordinary = || {
        let before = project.tags();
        let run = project.transfer(host, "--format json").env("PATH", "/nonexistent").ok();
        assert_eq!(
            (action(&run), run.json()["changed"].as_bool()),
            ("up to date".to_owned(), Some(false)),
            "{run}"
        );
        assert_eq!(project.tags(), before);
    };
    let mut builds = BTreeMap::new();
    for (line, terminal) in [("", false), ("REBUILD_RUNTIMES=true", false), ("REBUILD_RUNTIMES=true", true)] {
        let run = project.transfer(host, line);
        let run = if terminal { run.on_a_terminal().ok().stdout } else { run.ok().stderr };
        let digest = project.tags()[name].clone();
        assert!(run.contains(&format!("lambda:{name}: built and pushed, {digest}")), "{run}");
        builds.insert(digest, project.run(name));
        ordinary();
    }
    assert_eq!(builds.len(), 3, "a forced rebuild gives new content");

    // One that fails: the same inputs but for a step that the builder cannot do.
    let newest = project.tags();
    project.write("Dockerfile", &format!("{}RUN echo the-reason; exit 3\n", project.dockerfile()));
    project.transfer(host, "REBUILD_RUNTIMES=true").end().failed(10, &["the-reason", name]);
    assert_eq!(project.tags(), newest);
    project.write("Dockerfile", project.dockerfile());
    ordinary();

    // Back to the build before, and held there until the hold is let go. It is asked for first.
    let run = rebuild(&project, &format!("--rollback {name}")).end();
    run.failed(6, &["nobody there to confirm; nothing was changed", "--yes does not ask"]);
    let run = rebuild(&project, &format!("--rollback {name}")).stdin("no\n").end();
    run.failed(6, &["not confirmed; nothing was changed"]);
    assert_eq!((project.tags(), project.world.path("images.lock").exists()), (newest.clone(), false));
    rebuild(&project, &format!("--rollback {name}")).stdin("yes\n").ok();
    let back = project.tags();
    assert_ne!(back[name], newest[name]);
    let held = format!("lambda:{name} is held on {} since 20", back[name]);
    for run in [
        project.transfer(host, "").ok(),
        project.transfer(host, "--dry-run").ok(),
        rebuild(&project, &format!("--builds {name}")).ok(),
        project.xtask("").arg("--registry").arg(host).args("list-images").ok(),
    ] {
        assert!(
            run.stderr.contains(&held) && run.stderr.contains(&format!("lock --update {name}`")),
            "{run}"
        );
        assert!(run.stdout.contains("held"), "{run}");
    }
    assert_eq!(project.run(name), builds[&back[name]]);
    ordinary();
    for (digest, said) in &builds {
        let tag = format!("{name}-sha256-{}", &digest["sha256:".len()..][..12]);
        assert_eq!((project.tags()[&tag].as_str(), project.run(&tag)), (digest.as_str(), said.clone()));
    }
    project.xtask(&format!("lock --update {name}")).ok();
    let run = project.transfer(host, "--format json").env("PATH", "/nonexistent").ok();
    assert!(run.stderr.contains(&format!("lambda:{name}: promoted, {}", newest[name])), "{run}");
    assert_eq!(
        (action(&run), without_record(project.tags())),
        ("promote".to_owned(), without_record(newest)),
        "{run}"
    );
}

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

fn without_docker_nothing_costs_two_heads_and_a_moved_runtime_one_put(builder: Builder) {
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

    // Somebody moved one of the two.
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
    // What was moved, what somebody else had put there, and the move itself between its record's two lines.
    let kept = format!("{name}-sha256-{}", &tags[&second]["sha256:".len()..][..12]);
    let wanted = [format!("{name}-history"), kept.clone(), name.clone(), format!("{name}-history")];
    assert_eq!(writes, wanted.map(|tag| format!("PUT /v2/lambda/manifests/{tag} HTTP/1.1")));
    let mut now = project.tags();
    assert_eq!(now.remove(&kept).as_ref(), tags.get(&second));
    assert_eq!(without_record(now), without_record(tags));
}

/// What docker makes of the context by itself: another image where it sees another context.
fn docker_sees(project: &Project) -> String {
    let context = project.world.path("project/runtimes");
    let probe = project.write("probe", "FROM scratch\nCOPY . /\n");
    text(engine().args(["build", "--quiet", "--file"]).arg(probe).arg(context).env("DOCKER_BUILDKIT", "0"))
}

fn what_changed_is_built_and_nothing_else(builder: Builder) {
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
    // The third runtime has a base of its own.
    let other = format!("{}/other:1", project.registry.host());
    project.push_base(&other, "other");
    let images = |a: &str, b: &str| {
        let line = |entry: &str, base: &str, more: &str| {
            format!("\"{name}-{entry}\" = {{ base = \"{base}\", entry_point = \"{entry}\"{more} }}\n")
        };
        project
            .images(&(line("a", &project.base, a) + &line("b", &project.base, b) + &line("c", &other, "")));
    };
    // No other test's probes share a layer with these: the engine loses one that is removed while another build finds it.
    project.write("own", name);
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

    // (what is done, the runtimes that it is a build of, how); one upon the other, and undone where the next row needs it.
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
        let mut now = docker_sees(&project);
        // An image that another test removes in this moment makes docker miss what its cache has: it may look again.
        for _ in 0..3 {
            if now == seen || wanted != before {
                break;
            }
            read(engine().args(["image", "rm", &now]));
            now = docker_sees(&project);
        }
        assert_eq!(now == seen, wanted == before, "{what}: docker sees it otherwise");
        probes.insert(now.clone());
        (before, seen) = (wanted.to_owned(), now);
    }
    // A symlink's target, which the legacy builder's own cache does not look at: what is built is what stands there.
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
    // What no file says.
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
    read(engine().args(["image", "rm"]).args(&probes));
}

fn a_second_machine_with_an_empty_engine_neither_builds_nor_pushes(builder: Builder) {
    if !programs(&["terraform"]) {
        return;
    }
    let Some(project) = Project::with(builder) else { return };
    let world = &project.world;
    let Some(second) = EngineOfItsOwn::start() else { return };
    let module = "deployment/image_repository/terraform";
    symlink(root().join(module), world.path("project").join(module)).unwrap();
    // Another machine: nothing in common but images.toml, the sources and the account.
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

    aws.forget();
    let run =
        machine("two", "transfer-images --auto-approve --format json").env("DOCKER_HOST", second.host()).ok();
    assert_eq!(
        (action(&run), run.json()["changed"].as_bool()),
        ("up to date".to_owned(), Some(false)),
        "{run}"
    );
    assert_eq!(aws.changes(), Vec::<String>::new());
    let asked: Vec<String> =
        aws.log().iter().map(|entry| entry["action"].as_str().unwrap().to_owned()).collect();
    assert!(asked.iter().any(|action| action == "HEAD manifest"), "{asked:?}");
    assert!(!asked.iter().any(|action| action.contains("blob") || action.contains("upload")), "{asked:?}");
    assert_eq!((second.images(), aws.whole_tags()), (Vec::<String>::new(), tags));
}

fn two_platforms_give_an_index_and_one_that_cannot_run_here_is_refused_before_anything_starts(
    builder: Builder,
) {
    if !programs(&["skopeo"]) {
        return;
    }
    let Some(project) = Project::with(builder) else { return };
    let (host, name) = (project.registry.host(), &project.name);
    // A base for both: files alone, so that no program of the other platform has to run.
    let accept = "application/vnd.docker.distribution.manifest.v2+json";
    let mut children = Vec::new();
    for architecture in ["amd64", "arm64"] {
        let (image, platform) = (format!("{host}/both:{architecture}"), format!("linux/{architecture}"));
        let files = project.world.path(architecture);
        std::fs::create_dir(&files).unwrap();
        std::fs::write(files.join("static"), format!("{architecture} of {name}")).unwrap();
        std::fs::write(files.join("Dockerfile"), "FROM scratch\nCOPY static /static\n").unwrap();
        let mut build = engine();
        build.args(["build", "--quiet", "--no-cache", "--platform", &platform, "--tag", &image]).arg(&files);
        read(build.env("DOCKER_BUILDKIT", "0"));
        read(engine().args(["push", &image]));
        read(engine().args(["image", "rm", &image]));
        let url = format!("http://{host}/v2/both/manifests/{architecture}");
        let manifest = request("GET", &url, &[("accept", accept)], b"").body;
        children.push(json!({ "mediaType": accept, "digest": e2e::digest(&manifest), "size": manifest.len(),
            "platform": { "os": "linux", "architecture": architecture } }));
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
    // Each child stands on the base of its own platform.
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
fn what_is_primed_is_named_where_it_is_missing_and_pulled_when_asked_for() {
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
    // Without an engine nothing could fetch it.
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
    // With nothing else to do: asked for is asked for.
    let run = transfer("--prime").ok();
    assert!(run.stderr.contains("nothing was changed") && is_there(), "{run}");
    lose_curl();
    let run = transfer("").ok();
    assert!(!run.stderr.contains("docker pull"), "{run}");
    read(engine().args(["image", "rm", &image]));
}

/// The rows that a text takes at 80 columns.
fn rows(text: &str) -> usize {
    text.lines().map(|line| line.chars().count().div_ceil(80).max(1)).sum()
}

fn two_failed_builds_are_told_on_one_screen_in_their_programs_own_words(builder: Builder) {
    let Some(project) = Project::with(builder) else { return };
    let (host, second) = (project.registry.host(), format!("{}-second", project.name));
    let line = project.line(", build_args = { A = \"2\" }").replace(&project.name, &second);
    project.images(&format!("{}\n{line}", project.line("")));
    // A step as long as that of the real runtimes, with as much to say.
    let long = "[ ! -e /nothing ] || rm -rf /var/cache/this-and-that; \\\n    ".repeat(30);
    let step = format!(
        "RUN {long}n=0; while [ $n -lt 99 ]; do n=$((n+1)); echo \"Setting up package-$n\"; done; \\\n    \
         printf '\\033[32mgreen\\033[0m\\n\\n'; cat --nosuch-option\n"
    );
    project.write("Dockerfile", &format!("{}{step}", project.dockerfile()));
    let run = project.transfer(host, "").end();
    run.failed(10, &[&project.name, &second]);
    let (before, error) = run.stderr.split_at(run.stderr.find("error: ").unwrap());
    assert!(rows(error) <= 30, "{} rows:\n{error}", rows(error));
    let count = |words: &str| error.matches(words).count();
    assert_eq!(count("cat: unrecognized option '--nosuch-option'"), 2, "{error}");
    assert_eq!((count(" of the build failed with exit code 1"), count("/bin/sh -c")), (2, 0), "{error}");
    assert!(
        !error.contains("scratch") && !error.contains("--build-arg") && !error.contains('\u{1b}'),
        "{error}"
    );
    // While it ran: a line for each step.
    assert!(before.contains(&format!("{second}: step ")) && !before.contains("package-1"), "{before}");
    assert!(before.lines().all(|line| line.chars().count() < 200), "{before}");

    let logs: Vec<&str> =
        error.lines().filter_map(|line| line.trim().strip_prefix("the whole output: ")).collect();
    assert_eq!(logs.len(), 2, "{error}");
    for log in logs {
        let text = std::fs::read_to_string(project.world.path("project").join(log)).unwrap();
        assert!(text.contains("\nSetting up package-1\n") && text.contains("\ngreen\n"), "{text}");
        assert!(text.contains("cat: unrecognized option"), "{text}");
    }
    let run = project.transfer(host, "--verbose").end();
    assert!(run.stderr.contains(&format!("{second}: Setting up package-99\n")), "{run}");
    assert!(!run.stderr.contains(&format!("{second}: \n")) && !run.stderr.contains('\u{1b}'), "{run}");

    // What is pushed is counted.
    project.write("Dockerfile", project.dockerfile());
    let run = project.transfer(host, "--format json").ok();
    let sent = run.json()["runtimes"][0]["bytes"].as_u64().unwrap();
    // The base's layers are mounted.
    assert!(sent > 1000 && !run.stderr.contains(", 0 B sent to"), "{run}");
    assert!(run.stderr.contains("pushing, at most "), "{run}");
}

fn older_local_builds_go_unless_a_container_uses_them(builder: Builder) {
    let Some(project) = Project::with(builder) else { return };
    let name = &project.name;
    let local = || {
        let listed = text(project.docker().args(["image", "ls", "--format", "{{.Tag}}", "lambda"]));
        let tags = listed.lines().filter(|tag| tag.starts_with(&format!("{name}-k"))).map(str::to_owned);
        tags.collect::<std::collections::BTreeSet<String>>()
    };
    let (mut builds, mut container) = (Vec::new(), String::new());
    for round in 1..=5 {
        project.images(&project.line(&format!(", epoch = \"{round}\"")));
        let before = local();
        project.xtask("rebuild-runtimes").ok();
        builds.push(local().difference(&before).next().unwrap().clone());
        if round == 2 {
            container = text(project.docker().args(["create", &format!("lambda:{}", builds[1])]));
        }
    }
    let wanted = [1, 2, 3, 4].map(|kept| builds[kept].clone());
    assert_eq!(local(), wanted.into());
    read(project.docker().args(["rm", &container]));
    project.images(&project.line(", epoch = \"6\""));
    let run = project.xtask("rebuild-runtimes").ok();
    assert!(run.stderr.contains(&format!("{name}: 2 older builds removed from the local engine")), "{run}");
    assert!(local().len() == 3 && local().contains(&builds[4]) && !local().contains(&builds[1]));
}

#[test]
fn a_team_builds_on_its_own_builder_with_a_cache_in_the_registry() {
    let Some(project) = Project::new() else { return };
    let (name, host, calls) = (&project.name, project.registry.host(), project.world.path("calls"));
    // A client with buildx that notes how it is called, and builds nothing.
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *--help) echo ' --builder x\n --cache-from x\n --cache-to x\n --progress x';; \
         version*) echo linux/amd64;; *inspect*) echo 'No such image' >&2; exit 1;; 'build '*) echo \"$*\" >>'{}'; exit 1;; esac\n",
        calls.display()
    );
    std::fs::create_dir(project.world.path("bin")).unwrap();
    let client = project.world.write("bin/docker", &script);
    std::fs::set_permissions(&client, std::fs::Permissions::from_mode(0o755)).unwrap();
    let run = project.xtask("").arg("--registry").arg(host).arg("--container-cli").arg(&client);
    run.args("rebuild-runtimes --push --yes --builder team --registry-cache").end().failed(10, &[name]);
    let call = std::fs::read_to_string(calls).unwrap();
    let cache = format!("type=registry,ref={host}/lambda:{name}-cache-linux-amd64");
    let wanted = format!(
        "build --builder team --progress plain --cache-from {cache} --cache-to {cache},mode=max,image-manifest=true,oci-mediatypes=true "
    );
    assert!(call.starts_with(&wanted), "{call}");
    let alone = project.xtask("rebuild-runtimes --registry-cache").end();
    alone.failed(2, &["--push"]);
}

#[test]
fn a_remote_builder_builds_with_a_cache_in_the_registry() {
    let Some(project) = Project::with(Builder::BuildxContainerd) else { return };
    let (name, host) = (&project.name, project.registry.host());
    let config = project.world.path("docker");
    let buildx = |line: &[&str]| {
        read(project.docker().arg("buildx").args(line).env("DOCKER_CONFIG", &config));
    };
    buildx(&["create", "--name", "team", "--driver", "remote", &project.world.engine().buildkit()]);
    let push = || {
        let run = project.xtask("").arg("--registry").arg(host).args("rebuild-runtimes --push --yes -v");
        run.args("--builder team --registry-cache").ok()
    };
    push();
    let first = project.run(name);
    assert!(first.starts_with("hello\n"), "{first}");
    let of_cache = format!("{name}-cache-");
    let cache = project.tags().into_keys().find(|tag| tag.starts_with(&of_cache)).expect("a cache's tag");
    let kept = project.tags()[&cache].clone();
    // Only the entry point is another: the first step, which would print another number, is not run again.
    project.write("start", "#!/bin/sh\necho another\ncat /built\n");
    push();
    assert_ne!(project.tags()[&cache], kept);
    assert_eq!(project.run(name), first.replacen("hello", "another", 1));
}

fn the_contributors_loop_explains_builds_on_save_and_names_what_changed(builder: Builder) {
    let Some(project) = Project::with(builder) else { return };
    let name = &project.name;
    let json =
        |line: &str| project.xtask(&format!("rebuild-runtimes {line} --format json")).ok().json()[0].clone();
    let explained = json("--explain");
    assert_eq!(
        (&explained["name"], &explained["inputs"]["args"]["ENTRY_POINT"]),
        (&json!(name), &json!("start"))
    );
    assert_eq!(json("--why"), json!({ "name": name, "why": "absent" }));
    let shown = project.xtask("rebuild-runtimes --explain").ok().stdout;
    assert!(
        shown.starts_with(&format!(
            "{name} on {}\nkey         k2 {}\n",
            project.base,
            explained["key"].as_str().unwrap()
        )),
        "{shown}"
    );

    let mut run = project.xtask("rebuild-runtimes --watch").start();
    run.wait_for("waiting for a change");
    // What a contributor's own build prints.
    let say = || text(project.docker().args(["run", "--rm", &format!("lambda:{name}")]));
    assert!(say().starts_with("hello\n"));
    project.write("start", "#!/bin/sh\necho changed\n");
    run.wait_for("file start changed");
    run.wait_for("waiting for a change");
    assert_eq!(say(), "changed");
    // A build that fails is told, and the next save is waited for.
    project.write(
        "Dockerfile",
        "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nRUN echo the-reason; exit 3\nARG ENTRY_POINT\n",
    );
    run.wait_for("the-reason");
    run.wait_for("waiting for a change");
    assert_eq!(json("--why")["why"]["changes"][0]["what"], "dockerfile");
    run.signal(Signal::INT);
    run.end().failed(130, &["error: interrupted"]);
    let labels = text(project.docker().args([
        "image",
        "inspect",
        "--format",
        "{{json .Config.Labels}}",
        &format!("lambda:{name}"),
    ]));
    let labels: Value = serde_json::from_str(&labels).unwrap();
    assert_eq!(labels["org.opencontainers.image.base.name"], project.base.as_str());
    assert_eq!(labels["org.opencontainers.image.source"], "https://github.com/finos/htc-grid");
    assert!(
        labels["org.opencontainers.image.base.digest"].as_str().unwrap().starts_with("sha256:"),
        "{labels}"
    );
    assert_ne!(labels["io.htc-grid.build-key"], explained["key"]);
}

#[test]
fn a_rollback_whose_hold_cannot_be_written_says_what_is_in_place_and_what_to_write() {
    let Some(project) = Project::new() else { return };
    let (name, host) = (&project.name, project.registry.host());
    project.transfer(host, "").ok();
    let first = project.tags()[name].clone();
    project.transfer(host, "REBUILD_RUNTIMES=true").ok();
    let (gate, held) = gate(&project);
    *held.lock().unwrap() = format!("PUT /v2/lambda/manifests/{name} ");
    let run = project.xtask("").arg("--registry").arg(gate.host());
    let run = run.args("rebuild-runtimes --yes --rollback").arg(name).start();
    gate.wait();
    // While the tag is on its way, the file becomes one that nobody can write.
    let lock = project.world.path("images.lock");
    std::fs::create_dir(&lock).unwrap();
    gate.cut();
    let run = run.end();
    run.failed(3, &[&format!("lambda:{name} is {name}-sha256-"), "images.lock could not be written"]);
    assert_eq!(project.tags()[name], first, "{run}");
    // The lines that the hint gives are what helps.
    let lines: Vec<&str> =
        run.stderr.lines().skip_while(|line| !line.contains("put these lines into")).collect();
    let lines: String = lines[1..].iter().map(|line| format!("{}\n", line.trim_start())).collect();
    std::fs::remove_dir(&lock).unwrap();
    std::fs::write(&lock, format!("schema_version = 1\n{lines}")).unwrap();
    let run = project.transfer(host, "").ok();
    assert!(run.stderr.contains(&format!("lambda:{name} is held on {first}")), "{run}");
    assert_eq!(project.tags()[name], first, "{run}");
}

#[test]
fn a_pushed_build_is_asked_for_and_tried_before_the_tag_moves() {
    let Some(project) = Project::new() else { return };
    let name = &project.name;
    let answers =
        "#!/bin/sh\nexec nc -ll -p 8080 -e sh -c 'read line; printf \"HTTP/1.0 200 OK\\r\\n\\r\\n{}\"'\n";
    project.write("start", answers);
    let push = |line: &str| rebuild(&project, &format!("--push {line}"));
    push("").end().failed(6, &["nobody there to confirm; nothing was changed", "--yes does not ask"]);
    assert!(project.tags().is_empty());
    let run = push("--yes --smoke").ok();
    assert!(run.stderr.contains(&format!("{name} answered HTTP 200: {{}}")), "{run}");
    let before = project.tags();
    project.write("start", "#!/bin/sh\necho the-reason\nexit 3\n");
    let run = push("--yes --smoke").end();
    run.failed(
        10,
        &[name, "it ended before it answered", "the-reason", "the grid has the runtime that it had"],
    );
    assert_eq!(project.tags(), before, "{run}");
    // Nothing to do, and nobody is asked: what is in place is tried.
    project.write("start", answers);
    let run = push("--smoke").ok();
    assert!(run.stderr.contains(&format!("{name} answered HTTP 200: {{}}")), "{run}");
    assert_eq!(project.tags(), before, "{run}");
}

/// What a run with this environment and these arguments comes to: its exit code, and what is in place afterwards.
type Row<'a> = (&'a str, &'a str, i32, bool, [bool; 3]);

#[test]
fn what_is_done_and_which_exit_code_comes_where_a_base_an_upstream_or_the_engine_is_away() {
    let Some(mut project) = Project::new() else { return };
    let host = project.registry.host().to_owned();
    // A port that was free a moment ago.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let names = ["good", "other"].map(|end| format!("{}-{end}", project.name));
    let [good, other] = &names;
    let images = |project: &Project, base: &str| {
        let line = |name: &str, base: &str| {
            format!("\"{name}\" = {{ base = \"{base}\", entry_point = \"start\" }}\n")
        };
        let runtimes = line(good, &project.base) + &line(other, base);
        let curl = "[images]\ncurl = \"curlimages/curl:7.85.0\"\n";
        project.world.write("images.toml", &format!("schema_version = 1\n{curl}[runtimes]\n{runtimes}"));
    };
    let absent = format!("{host}/base:none");
    let dead = "upstream.example/base:1".to_owned();
    project.world.route("upstream.example", format!("http://{nobody}"));
    // (what is wrong, the option, the exit code, whether anything was changed, whether curl, the good runtime and the other one
    // are in place), each from nothing.
    let table: [(Row<'_>, &str, bool); 7] = [
        (("nothing", "", 0, true, [true, true, true]), &project.base, false),
        (("one bad base", "", 7, false, [false, false, false]), &absent, false),
        (("one bad base", "--keep-going", 7, true, [true, true, false]), &absent, false),
        (("a dead upstream", "", 7, false, [false, false, false]), &dead, false),
        (("a dead upstream", "--keep-going", 7, true, [true, true, false]), &dead, false),
        (("a dead engine", "", 10, false, [false, false, false]), &project.base, true),
        (("a dead engine", "--keep-going", 10, true, [true, false, false]), &project.base, true),
    ];
    for (number, ((what, option, code, changed, in_place), base, dead_engine)) in
        table.into_iter().enumerate()
    {
        images(&project, base);
        let target = format!("{host}/t{number}");
        let transfer = |line: &str| {
            let run = project.transfer(&target, &format!("{line} --format json"));
            if dead_engine { run.env("DOCKER_HOST", "unix:///nonexistent/docker.sock") } else { run }
        };
        let run = transfer(option).end();
        assert_eq!(run.code, Some(code), "{what} {option}: {run}");
        let there = |image: &str| {
            let (repository, tag) = image.split_once(':').unwrap();
            let url = format!("http://{host}/v2/t{number}/{repository}/manifests/{tag}");
            let accept = "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json";
            request("HEAD", &url, &[("accept", accept)], b"").status == 200
        };
        let found =
            [there("curl:7.85.0"), there(&format!("lambda:{good}")), there(&format!("lambda:{other}"))];
        assert_eq!(found, in_place, "{what} {option}: {run}");
        if changed {
            let runtimes = run.json()["runtimes"].as_array().unwrap().clone();
            let failed: Vec<bool> = runtimes.iter().map(|runtime| runtime["action"] == "failed").collect();
            assert_eq!(failed, [!in_place[1], !in_place[2]], "{what} {option}: {run}");
        } else {
            assert!(run.stderr.contains("--keep-going does everything else"), "{what} {option}: {run}");
        }
        // A second run with nothing more to do fails as the first one did, and asks nobody.
        if option == "--keep-going" {
            let again = project.xtask("").arg("--registry").arg(&target).args("transfer-images --keep-going");
            let again =
                if dead_engine { again.env("DOCKER_HOST", "unix:///nonexistent/docker.sock") } else { again };
            let again = again.end();
            assert_eq!(again.code, Some(code), "{what}: {again}");
            assert!(again.stderr.contains("nothing was changed"), "{what}: {again}");
        }
    }
}

#[test]
fn a_base_that_cannot_be_looked_up_is_a_warning_where_the_runtime_is_what_the_last_run_made_of_it() {
    let Some(mut project) = Project::new() else { return };
    let (host, name) = (project.registry.host().to_owned(), project.name.clone());
    // A port that was free a moment ago.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    project.images(&project.line("").replace(&project.base, "upstream.example/base:1"));
    project.world.route("upstream.example", format!("http://{host}"));
    project.transfer(&host, "").ok();
    project.world.route("upstream.example", format!("http://{nobody}"));
    let run = |project: &Project| project.transfer(&host, "--format json").env("PATH", "/nonexistent");
    let away = run(&project).ok();
    assert_eq!(away.json()["changed"], false, "{away}");
    let warning = format!("not compared with upstream: lambda:{name}\n");
    assert!(
        away.stderr.contains("upstream.example does not answer") && away.stderr.contains(&warning),
        "{away}"
    );
    assert!(away.took < std::time::Duration::from_secs(20), "{away}");
    // With a lock it is not even asked, unless --locked wants to know.
    project.world.route("upstream.example", format!("http://{host}"));
    project.xtask("lock").ok();
    project.world.route("upstream.example", format!("http://{nobody}"));
    let locked = run(&project).ok();
    assert!(!locked.stderr.contains("does not answer"), "{locked}");
    let locked = run(&project).args("--locked").ok();
    assert!(locked.stderr.contains(&warning), "{locked}");
    project.world.route("upstream.example", format!("http://{host}"));
    run(&project).args("--locked").ok();
    project.push_base(&project.base, "moved");
    let moved = run(&project).args("--locked").end();
    moved.failed(7, &["--locked, and upstream has moved:", "upstream.example/base:1 from sha256:"]);
    assert_eq!(run(&project).ok().json()["changed"], false);
}
