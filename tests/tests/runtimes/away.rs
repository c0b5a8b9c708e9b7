//! Bases, upstreams and engines that are not available.

use e2e::{Project, request};

/// The result of a run with this environment and these arguments: its exit code, and what exists afterwards.
type Row<'a> = (&'a str, &'a str, i32, bool, [bool; 3]);

#[test]
fn exit_codes_without_a_base_an_upstream_or_the_engine() {
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
    project.world.sources.route("upstream.example", format!("http://{nobody}"));
    // (the problem, the option, the exit code, whether anything was changed, whether curl, the good runtime and the other one
    // exist), each from an empty registry.
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
        // A second run with nothing else to do fails like the first one, without a question.
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
fn an_unreachable_base_is_a_warning_if_the_runtime_is_the_last_runs() {
    let Some(mut project) = Project::new() else { return };
    let (host, name) = (project.registry.host().to_owned(), project.name.clone());
    // A port that was free a moment ago.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    project.images(&project.line("").replace(&project.base, "upstream.example/base:1"));
    project.world.sources.route("upstream.example", format!("http://{host}"));
    project.transfer(&host, "").ok();
    project.world.sources.route("upstream.example", format!("http://{nobody}"));
    let run = |project: &Project| project.transfer(&host, "--format json").env("PATH", "/nonexistent");
    let away = run(&project).ok();
    assert_eq!(away.json()["changed"], false, "{away}");
    let warning = format!("not compared with upstream: lambda:{name}\n");
    assert!(
        away.stderr.contains("upstream.example does not answer") && away.stderr.contains(&warning),
        "{away}"
    );
    assert!(away.took < std::time::Duration::from_secs(20), "{away}");
    // With a lock it is not even read, unless --locked is set.
    project.world.sources.route("upstream.example", format!("http://{host}"));
    project.xtask("lock").ok();
    project.world.sources.route("upstream.example", format!("http://{nobody}"));
    let locked = run(&project).ok();
    assert!(!locked.stderr.contains("does not answer"), "{locked}");
    let locked = run(&project).args("--locked").ok();
    assert!(locked.stderr.contains(&warning), "{locked}");
    project.world.sources.route("upstream.example", format!("http://{host}"));
    run(&project).args("--locked").ok();
    project.push_base(&project.base, "moved");
    let moved = run(&project).args("--locked").end();
    moved.failed(7, &["--locked, and upstream has moved:", "upstream.example/base:1 from sha256:"]);
    assert_eq!(run(&project).ok().json()["changed"], false);
}
