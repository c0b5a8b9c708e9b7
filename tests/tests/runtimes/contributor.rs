//! Builds on a contributor's machine: their progress, their failures, and what they leave.

use e2e::{Builder, DOCKERFILE, Project, read, text};
use rustix::process::Signal;
use serde_json::{Value, json};

e2e::on_each_builder!(
    the_contributors_loop_builds_on_save_and_names_the_change,
    two_failed_builds_are_shown_on_one_screen_with_their_programs_output,
    older_local_builds_are_removed_unless_a_container_uses_them,
);

/// The rows that a text takes at 80 columns.
fn rows(text: &str) -> usize {
    text.lines().map(|line| line.chars().count().div_ceil(80).max(1)).sum()
}

fn two_failed_builds_are_shown_on_one_screen_with_their_programs_output(builder: Builder) {
    let Some(project) = Project::with(builder) else { return };
    let (host, second) = (project.registry.host(), format!("{}-second", project.name));
    let line = project.line(", build_args = { A = \"2\" }").replace(&project.name, &second);
    project.images(&format!("{}\n{line}", project.line("")));
    // A step as long as that of the real runtimes, with as much output.
    let long = "[ ! -e /nothing ] || rm -rf /var/cache/this-and-that; \\\n    ".repeat(30);
    let step = format!(
        "RUN {long}n=0; while [ $n -lt 99 ]; do n=$((n+1)); echo \"Setting up package-$n\"; done; \\\n    \
         printf '\\033[32mgreen\\033[0m\\n\\n'; cat --nosuch-option\n"
    );
    project.write("Dockerfile", &format!("{DOCKERFILE}{step}"));
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

    // Pushed bytes are counted.
    project.write("Dockerfile", DOCKERFILE);
    let run = project.transfer(host, "--format json").ok();
    let sent = run.json()["runtimes"][0]["bytes"].as_u64().unwrap();
    // The base's layers are mounted.
    assert!(sent > 1000 && !run.stderr.contains(", 0 B sent to"), "{run}");
    assert!(run.stderr.contains("pushing, at most "), "{run}");
}

fn older_local_builds_are_removed_unless_a_container_uses_them(builder: Builder) {
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

fn the_contributors_loop_builds_on_save_and_names_the_change(builder: Builder) {
    let Some(project) = Project::with(builder) else { return };
    let name = &project.name;
    let json = |line: &str| {
        project.xtask(&format!("rebuild-runtimes {line} --format json")).ok().json()["runtimes"][0].clone()
    };
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
    // The output of a contributor's own build.
    let say = || text(project.docker().args(["run", "--rm", &format!("lambda:{name}")]));
    assert!(say().starts_with("hello\n"));
    project.write("start", "#!/bin/sh\necho changed\n");
    run.wait_for("file start changed");
    run.wait_for("waiting for a change");
    assert_eq!(say(), "changed");
    // A failed build is reported, and the command waits for the next change.
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
