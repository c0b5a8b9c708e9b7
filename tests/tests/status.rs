//! `status`, `outdated`, `watch` and `--exit-code`: which resources exist, what is newer, and the exit codes for programs.
//!
//! AWS is the emulated one: this was not observed in a real account.

use std::net::TcpListener;

use e2e::{BUCKET, DebianRegistry, INIT, Images, STATE, World};
use serde_json::{Value, json};

const CHANGES: i32 = 11;
const FINDINGS: i32 = 12;

const IMAGES: &str = r#"schema_version = 1
[images]
curl = "curlimages/curl:7.85.0"
"kedacore/keda" = { source = "ghcr.io/kedacore/keda:2.11.2", platforms = "all" }
[pull_through]
ecr-public = "public.ecr.aws"
[repositories]
extra = ["awshpc"]
"#;

/// The holder of the lease in these tests.
fn lease(world: &World, who: &str) {
    let lease = json!({
        "who": who, "grid": "mainline", "since": "2026-11-22T10:00:00Z", "expires": "2999-01-01T00:00:00Z",
    });
    world.aws().s3.put(BUCKET, &format!("{STATE}.transfer.lock"), lease.to_string().as_bytes());
}

fn status(world: &World) -> Value {
    world.xtask("status --format json").ok().json()
}

#[test]
fn status_shows_resources_the_active_run_and_the_last_result() {
    let Some(mut world) = World::grid(IMAGES) else { return };
    world.xtask(INIT).ok();
    let before = status(&world);
    assert_eq!(before["images"]["absent"], json!(["curl:7.85.0", "kedacore/keda:2.11.2"]), "{before}");
    assert_eq!(
        before["resources"]["missing"],
        json!([
            "repository awshpc",
            "repository curl",
            "repository kedacore/keda",
            "repository lambda",
            "pull-through rule ecr-public"
        ]),
        "{before}"
    );
    assert_eq!((&before["last_run"], &before["at_work"]), (&Value::Null, &json!([])), "{before}");

    // One image fails: the record next to the state says so.
    let real = format!("http://{}/docker.io", world.sources.host);
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    world.sources.route("docker.io", format!("http://{nobody}"));
    assert_eq!(world.xtask("auto-transfer-images --keep-going").end().code, Some(7));
    let half = status(&world);
    assert_eq!(half["images"]["absent"], json!(["curl:7.85.0"]), "{half}");
    let run = &half["last_run"];
    assert_eq!((&run["complete"], &run["images"], &run["brought"]), (&json!(false), &json!(2), &json!(1)));
    assert!(run["done"][0]["failed"][0].as_str().unwrap().contains("curl:7.85.0"), "{half}");
    let shown = world.xtask("status").ok();
    assert!(
        shown.stdout.contains("1 of 2 in place") && shown.stdout.contains("failed: curl:7.85.0"),
        "{shown}"
    );

    world.sources.route("docker.io", real);
    world.xtask("auto-transfer-images").ok();
    let whole = status(&world);
    assert_eq!((&whole["images"]["present"], &whole["images"]["absent"]), (&json!(2), &json!([])), "{whole}");
    assert_eq!((&whole["resources"]["missing"], &whole["resources"]["key"]), (&json!([]), &json!(true)));
    assert_eq!((&whole["last_run"]["complete"], &whole["last_run"]["brought"]), (&json!(true), &json!(1)));
    // A run with nothing to do leaves the record unchanged.
    world.xtask("auto-transfer-images").ok();
    assert_eq!(status(&world)["last_run"], whole["last_run"]);

    lease(&world, "ada on laptop (process 7)");
    let held = status(&world);
    assert_eq!(held["at_work"][0]["who"], "ada on laptop (process 7)", "{held}");
    let shown = world.xtask("status").ok();
    assert!(shown.stdout.contains("ada on laptop (process 7) since 2026-11-22T10:00:00Z"), "{shown}");
}

#[test]
fn the_shards_of_a_run_are_shown_in_one_status() {
    let Some(world) = World::grid(IMAGES) else { return };
    world.xtask(INIT).ok();
    world.xtask("transfer-images --auto-approve --shard 1/2").ok();
    let run = status(&world)["last_run"].clone();
    assert_eq!((&run["complete"], &run["missing"]), (&json!(false), &json!(["2/2"])), "{run}");
    world.xtask("transfer-images --auto-approve --shard 2/2").ok();
    let run = status(&world)["last_run"].clone();
    assert_eq!(
        (&run["complete"], &run["images"], &run["brought"]),
        (&json!(true), &json!(2), &json!(2)),
        "{run}"
    );
}

#[test]
fn findings_of_scans_are_counted_and_fail_the_run_with_fail_on() {
    let Some(world) = World::grid(IMAGES) else { return };
    world.xtask(INIT).ok();
    world.xtask("auto-transfer-images").ok();
    let clean = status(&world)["findings"].clone();
    assert_eq!(
        (&clean["scanned"], &clean["counts"], &clean["not_scanned"]),
        (&json!(2), &json!({}), &json!([]))
    );
    world.xtask("status --fail-on informational").ok();

    let aws = world.aws();
    aws.emulator.findings("curl", "7.85.0", &json!({ "HIGH": 2, "LOW": 5 }));
    // Of an index, the images are scanned.
    let index = aws.registry("GET", "kedacore/keda/manifests/2.11.2").json();
    let child = index["manifests"][0]["digest"].as_str().unwrap();
    aws.emulator.findings("kedacore/keda", child, &json!({ "MEDIUM": 1 }));
    let found = status(&world)["findings"].clone();
    assert_eq!(found["counts"], json!({ "HIGH": 2, "MEDIUM": 1, "LOW": 5 }), "{found}");
    for (severity, code) in [("critical", 0), ("high", FINDINGS), ("medium", FINDINGS), ("low", FINDINGS)] {
        let run = world.xtask(&format!("status --fail-on {severity} --format json")).end();
        assert_eq!(run.code, Some(code), "{run}");
    }
    let run = world.xtask("status --fail-on high").end();
    run.failed(FINDINGS, &["1 image with findings of severity high or worse", "curl:7.85.0: 2 high, 5 low"]);
    assert!(run.stdout.contains("2 high, 1 medium, 5 low in 2 scanned images"), "{run}");

    // Other registries have no scans.
    let run = world.sourced().args("--registry registry.example:5000 status --fail-on high").end();
    run.failed(2, &["only ECR scans images"]);
}

#[test]
fn the_exit_code_shows_whether_there_is_something_to_do() {
    let Some(registry) = DebianRegistry::start() else { return };
    let Some(world) = World::new(Images::Small) else { return };
    world.write("images.toml", "schema_version = 1\n[images]\ncurl = \"curlimages/curl:7.85.0\"\n");
    let at = |line: &str| world.sourced().arg("--registry").arg(registry.host()).args(line).end();
    let code = |line: &str| at(line).code.unwrap();
    assert_eq!(code("transfer-images --dry-run"), 0);
    assert_eq!(code("transfer-images --dry-run --exit-code"), CHANGES);
    at("transfer-images --exit-code").failed(2, &["--dry-run"]);
    assert_eq!(code("watch --dry-run"), CHANGES);

    let first = at("watch");
    assert_eq!((first.code, &first.json()["changed"]), (Some(CHANGES), &json!(true)), "{first}");
    assert_eq!((&first.json()["command"], &first.json()["exit_code"]), (&json!("watch"), &json!(CHANGES)));
    let second = at("watch");
    assert_eq!((second.code, &second.json()["changed"]), (Some(0), &json!(false)), "{second}");
    assert_eq!(code("transfer-images --dry-run --exit-code"), 0);
    world.sources.store.touch("docker.io/curlimages/curl:7.85.0").unwrap();
    assert_eq!(code("transfer-images --dry-run --exit-code"), CHANGES);
    assert_eq!(code("watch"), CHANGES);
}

#[test]
fn outdated_shows_a_sources_newer_tags() {
    let Some(registry) = DebianRegistry::start() else { return };
    let Some(mut world) = World::new(Images::Small) else { return };
    // A separate source, with a few versions of an image.
    world.write("images.toml", "schema_version = 1\n[images]\n\"app:1.2.3\" = \"curlimages/curl:7.85.0\"\n");
    let at = |world: &World, line: &str| world.sourced().arg("--registry").arg(registry.host()).args(line);
    for tag in ["1.2.3", "1.10.0", "2.0.0", "2.1.0-rc1", "1.9.9-alpine", "latest"] {
        let list = format!("schema_version = 1\n[images]\n\"app:{tag}\" = \"curlimages/curl:7.85.0\"\n");
        world.write("images.toml", &list);
        at(&world, "transfer-images --auto-approve").ok();
    }
    world.sources.route("versions.example", format!("http://{}", registry.host()));
    let list = "schema_version = 1\n[images]\nmirrored = \"versions.example/app:1.2.3\"\nlatest = \"versions.example/app:latest\"\n\
                [runtimes]\n\"nodejs22\" = \"public.ecr.aws/lambda/nodejs:22\"\n\"python3.8\" = \"public.ecr.aws/lambda/python:3.8\"\n";
    world.write("images.toml", list);
    world.sources.forget();
    let run = at(&world, "outdated --format json").ok();
    assert!(
        !world.sources.requests().keys().any(|request| request.contains("manifest")),
        "{:?}",
        world.sources.requests()
    );
    let images = run.json()["images"].clone();
    let of =
        |name: &str| images.as_array().unwrap().iter().find(|image| image["name"] == name).unwrap().clone();
    let mirrored = of("mirrored:1.2.3");
    assert_eq!(
        (&mirrored["newest"], &mirrored["compatible"], &mirrored["tags"]),
        (&json!("2.0.0"), &json!("1.10.0"), &json!(["1.10.0", "2.0.0"])),
        "{run}"
    );
    assert_eq!(of("latest:latest")["versioned"], false, "{run}");
    let (node, python) = (of("lambda:nodejs22"), of("lambda:python3.8"));
    assert_eq!((&node["support_ends"], &node["unsupported"]), (&json!("2027-04-30"), &json!(false)), "{run}");
    assert_eq!(
        (&python["support_ends"], &python["unsupported"]),
        (&json!("2024-10-14"), &json!(true)),
        "{run}"
    );
    let table = at(&world, "outdated mirrored").ok();
    assert!(table.stdout.contains("1.10.0") && table.stderr.contains("1 image with a newer tag"), "{table}");
    assert_eq!(at(&world, "outdated mirrored --exit-code").end().code, Some(CHANGES));
    assert_eq!(at(&world, "outdated latest --exit-code").end().code, Some(0));

    // The age is that of the existing image.
    world.write("images.toml", &list.replace("mirrored =", "\"app:1.2.3\" ="));
    let run = at(&world, "outdated app --format json").ok();
    assert!(run.json()["images"][0]["age"].as_u64().is_some_and(|seconds| seconds > 0), "{run}");

    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    world.sources.route("versions.example", format!("http://{nobody}"));
    let silent = at(&world, "outdated --format json").end();
    silent.failed(7, &["versions.example does not answer"]);
    assert_eq!(silent.json()["images"].as_array().unwrap().len(), 4, "{silent}");
}
