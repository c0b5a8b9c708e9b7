//! Forced rebuilds: whatever ends one, the grid has a complete runtime.

use std::collections::BTreeMap;

use e2e::{Builder, DOCKERFILE, Project};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{action, gate, moves, rebuild, without_record};

e2e::on_each_builder!(
    a_forced_rebuild_killed_at_any_point_leaves_the_old_runtime,
    no_later_run_moves_the_tag_after_forced_rebuilds_and_a_rollback,
);

/// The point of a forced rebuild at which it is held, and what the ordinary run after the SIGKILL does.
const POINTS: [(&str, &str, &str); 7] = [
    ("in the push", "PUT /v2/lambda/blobs/uploads/", "up to date"),
    ("between push and build tag", "PUT /v2/lambda/manifests/NAME-sha256-", "up to date"),
    ("before what is said of the build", "PUT /v2/lambda/manifests/sha256:", "up to date"),
    ("before the list of that", "PUT /v2/lambda/manifests/sha256-", "up to date"),
    ("between build tag and key tag", "PUT /v2/lambda/manifests/NAME-k2-", "up to date"),
    ("between key tag and the move's record", "PUT /v2/lambda/manifests/NAME-history ", "promote"),
    ("between the record and runtime tag", "PUT /v2/lambda/manifests/NAME ", "promote"),
];

fn a_forced_rebuild_killed_at_any_point_leaves_the_old_runtime(builder: Builder) {
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
            // A step that lasts until it is released.
            let slow = format!("{DOCKERFILE}RUN echo a-slow-step && sleep 600\n");
            project.write("Dockerfile", &slow);
            run = transfer("REBUILD_RUNTIMES=true -v").start();
            run.wait_for("a-slow-step");
            project.write("Dockerfile", DOCKERFILE);
        } else {
            *held.lock().unwrap() = request.replace("NAME", name);
            run = transfer("REBUILD_RUNTIMES=true").start();
            gate.wait();
        }
        run.signal(Signal::KILL);
        assert_eq!(run.end().code, None, "{point}");
        held.lock().unwrap().clear();
        // What it left on the disk, including credentials, is only its own: the files of the previous one are removed.
        assert_eq!((left("tmp"), left("target/xtask/scratch")), (1, 1), "{point}");
        assert_eq!(project.tags()[name], old, "{point}");

        // Nothing is built a second time: there is no docker.
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
    // Each move is recorded, once and completely, whatever ended the runs: the first build and two promotions.
    let moves = moves(&project);
    assert_eq!(moves.iter().map(|made| &made["to"]).next_back(), Some(&json!(old)), "{moves:?}");
    assert!(moves.windows(2).all(|pair| pair[0]["to"] == pair[1]["from"]), "{moves:?}");
    let causes: Vec<&Value> = moves.iter().map(|made| &made["cause"]).collect();
    assert_eq!(causes, ["built", "promoted", "promoted"], "{moves:?}");
    transfer("REBUILD_RUNTIMES=true").ok();
    assert_eq!((left("tmp"), left("target/xtask/scratch")), (0, 0));
    assert_ne!(project.tags()[name], old);
}

fn no_later_run_moves_the_tag_after_forced_rebuilds_and_a_rollback(builder: Builder) {
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
        assert!(run.contains(&format!("lambda:{name}: built and pushed, {}", &digest[..19])), "{run}");
        builds.insert(digest, project.run(name));
        ordinary();
    }
    assert_eq!(builds.len(), 3, "a forced rebuild gives new content");

    // One that fails: the same inputs with a step that the builder cannot do.
    let newest = project.tags();
    project.write("Dockerfile", &format!("{DOCKERFILE}RUN echo the-reason; exit 3\n"));
    project.transfer(host, "REBUILD_RUNTIMES=true").end().failed(10, &["the-reason", name]);
    assert_eq!(project.tags(), newest);
    project.write("Dockerfile", DOCKERFILE);
    ordinary();

    // Back to the previous build, and held there until the hold is removed. It asks first.
    let run = rebuild(&project, &format!("--rollback {name}")).end();
    run.failed(
        6,
        &["this needs a confirmation and there is no terminal; nothing was changed", "--yes does not ask"],
    );
    let run = rebuild(&project, &format!("--rollback {name}")).stdin("no\n").end();
    run.failed(6, &["not confirmed; nothing was changed"]);
    assert_eq!((project.tags(), project.world.path("images.lock").exists()), (newest.clone(), false));
    rebuild(&project, &format!("--rollback {name}")).stdin("yes\n").ok();
    let back = project.tags();
    assert_ne!(back[name], newest[name]);
    let held = format!("lambda:{name} is held on {} since 20", back[name]);
    for (lists, run) in [
        (false, project.transfer(host, "").ok()),
        (false, project.transfer(host, "--dry-run").ok()),
        (true, rebuild(&project, &format!("--builds {name}")).ok()),
        (true, project.xtask("").arg("--registry").arg(host).args("list-images").ok()),
    ] {
        assert!(
            run.stderr.contains(&held) && run.stderr.contains(&format!("lock --update {name}`")),
            "{run}"
        );
        assert_eq!(run.stdout.contains("held"), lists, "{run}");
    }
    assert_eq!(project.run(name), builds[&back[name]]);
    ordinary();
    for (digest, said) in &builds {
        let tag = format!("{name}-sha256-{}", &digest["sha256:".len()..][..12]);
        assert_eq!((project.tags()[&tag].as_str(), project.run(&tag)), (digest.as_str(), said.clone()));
    }
    project.xtask(&format!("lock --update {name}")).ok();
    let run = project.transfer(host, "--format json").env("PATH", "/nonexistent").ok();
    assert!(run.stderr.contains(&format!("lambda:{name}: promoted, {}", &newest[name][..19])), "{run}");
    assert_eq!(
        (action(&run), without_record(project.tags())),
        ("promote".to_owned(), without_record(newest)),
        "{run}"
    );
}
