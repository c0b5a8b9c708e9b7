//! What moves a tag that the grid runs, and what happens before it moves.

use e2e::Project;

use super::{gate, rebuild};

#[test]
fn a_rollback_with_an_unwritable_hold_reports_what_to_write() {
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
    // While the tag is being moved, the file becomes unwritable.
    let lock = project.world.path("images.lock");
    std::fs::create_dir(&lock).unwrap();
    gate.cut();
    let run = run.end();
    run.failed(3, &[&format!("lambda:{name} is {name}-sha256-"), "images.lock could not be written"]);
    assert_eq!(project.tags()[name], first, "{run}");
    // The lines in the hint solve the problem.
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
fn a_pushed_build_is_confirmed_and_tested_before_the_tag_moves() {
    let Some(project) = Project::new() else { return };
    let name = &project.name;
    let answers =
        "#!/bin/sh\nexec nc -ll -p 8080 -e sh -c 'read line; printf \"HTTP/1.0 200 OK\\r\\n\\r\\n{}\"'\n";
    project.write("start", answers);
    let push = |line: &str| rebuild(&project, &format!("--push {line}"));
    push("").end().failed(
        6,
        &["this needs a confirmation and there is no terminal; nothing was changed", "--yes does not ask"],
    );
    assert!(project.tags().is_empty());
    let run = push("--yes --smoke").ok();
    assert!(run.stderr.contains(&format!("{name} answered HTTP 200: {{}}")), "{run}");
    let before = project.tags();
    project.write("start", "#!/bin/sh\necho the-reason\nexit 3\n");
    let run = push("--yes --smoke").end();
    run.failed(
        10,
        &[name, "it ended before it answered", "the-reason", "the grid keeps its present runtime"],
    );
    assert_eq!(project.tags(), before, "{run}");
    // Nothing to do, and no question: the existing build is tested.
    project.write("start", answers);
    let run = push("--smoke").ok();
    assert!(run.stderr.contains(&format!("{name} answered HTTP 200: {{}}")), "{run}");
    assert_eq!(project.tags(), before, "{run}");
}
