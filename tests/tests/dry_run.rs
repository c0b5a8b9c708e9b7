//! `--dry-run`, and a question that is answered with no: nothing is written, not even a repair of the state.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not marked as such")]

use std::collections::BTreeSet;

use e2e::{Aws, BUCKET, INIT, STATE, World, docker};
use serde_json::{Value, json};

const IMAGES: &str = r#"schema_version = 1
[images]
"kedacore/keda" = "ghcr.io/kedacore/keda:2.11.2"
"lambda:tool" = "curlimages/curl:7.85.0"
[pull_through]
quay = "quay.io"
"#;
const REFUSED: i32 = 6;
/// Every command with that option, except rebuild-runtimes.
const DRY: [&str; 8] = [
    "transfer-images --dry-run",
    "destroy-images --dry-run",
    "auto-transfer-images --dry-run --refresh",
    "prune --dry-run",
    "auto-destroy-images --dry-run",
    "watch --dry-run",
    "init-images --dry-run",
    "init-images --create-state-bucket --release-lock 0 --dry-run",
];
/// `watch`'s code for changes.
const CHANGED: i32 = 11;
const REBUILD: &str = "rebuild-runtimes";

/// Every request that AWS accepted and that is not a read, including terraform's lock.
fn writes(aws: &Aws) -> Vec<String> {
    let reads =
        ["Get", "Head", "List", "Describe", "BatchGet", "BatchCheck", "GET", "HEAD", "Decrypt", "Assume"];
    let entries = aws.emulator.log().into_iter().map(|entry| {
        let word = |name: &str| entry[name].as_str().unwrap().to_owned();
        (word("action"), word("path"))
    });
    entries
        .filter(|(action, _)| !reads.iter().any(|read| action.starts_with(read)))
        .map(|(action, path)| format!("{action} {path}"))
        .collect()
}

/// The bytes of the state and of the objects next to it.
fn beside(aws: &Aws) -> [Option<Vec<u8>>; 3] {
    ["", ".proof.json", ".transfer.lock"].map(|end| aws.s3.get(BUCKET, &format!("{STATE}{end}")))
}

/// Runs commands that must not write, and returns the output of each.
fn runs(world: &World, dry: &[&str]) -> Vec<String> {
    let aws = world.aws();
    let before = beside(&aws);
    let run = |command: &&str| {
        aws.emulator.forget();
        let run = world.xtask(command).end();
        // `watch` shows by its exit code that something would change.
        let codes = if command.starts_with("watch") { [0, CHANGED] } else { [0, 0] };
        assert!(run.code.is_some_and(|code| codes.contains(&code)), "{command}: {run}");
        assert_eq!(writes(&aws), [""; 0], "{command}: {run}");
        assert!(beside(&aws) == before, "{command}: {run}");
        run.stderr
    };
    dry.iter().map(run).collect()
}

/// The same, also for commands that ask and get a no: compares the state's bytes and all writes, and returns the output of each.
fn nothing_is_written(world: &World, dry: &[&str]) -> Vec<String> {
    let aws = world.aws();
    let mut said = runs(world, dry);
    let before = beside(&aws);
    // Before a question there is a plan, and the plan holds terraform's lock.
    for command in ["transfer-images", "destroy-images"] {
        aws.emulator.forget();
        let run = world.xtask(command).stdin("no\n").end();
        // If there is nothing to do, there is no question.
        assert!(matches!(run.code, Some(REFUSED | 0)), "{run}");
        assert_eq!(aws.emulator.changes(), [""; 0], "{command}: {run}");
        assert!(beside(&aws) == before, "{command}: {run}");
        said.push(run.stderr);
    }
    said
}

fn edit_state(aws: &Aws, edit: impl FnOnce(&mut Value)) {
    let mut state: Value = serde_json::from_slice(&aws.s3.get(BUCKET, STATE).unwrap()).unwrap();
    edit(&mut state);
    state["serial"] = (state["serial"].as_u64().unwrap() + 1).into();
    aws.s3.put(BUCKET, STATE, state.to_string().as_bytes());
}

/// The instances of a resource in the state.
fn instances<'a>(state: &'a mut Value, kind: &str) -> &'a mut Vec<Value> {
    let resources = state["resources"].as_array_mut().unwrap();
    let resource = resources.iter_mut().find(|resource| resource["type"] == kind).unwrap();
    resource["instances"].as_array_mut().unwrap()
}

/// The commands whose help has the option.
fn commands_with_dry_run(world: &World) -> BTreeSet<String> {
    let help = |command: &str| world.bare().args(command).arg("--help").ok().stdout;
    let all = help("");
    let list = all.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let names = list.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names: Vec<&str> = names.map(|line| line.split_whitespace().next().unwrap()).collect();
    assert!(names.len() > 15 && names.contains(&"lock"), "{all}");
    let with = names.into_iter().filter(|name| *name != "help" && help(name).contains("--dry-run"));
    with.map(str::to_owned).collect()
}

#[test]
fn nothing_is_written_by_the_dry_run_of_any_command() {
    let Some(world) = World::grid(IMAGES) else { return };
    let tried = DRY.iter().chain([&REBUILD]).map(|line| line.split(' ').next().unwrap().to_owned());
    assert_eq!(commands_with_dry_run(&world), tried.collect());
    world.xtask("local up").ok();
    let aws = world.aws();

    // No bucket.
    let line = "init-images --create-state-bucket --dry-run";
    let said = world.xtask(line).ok();
    assert!(said.stderr.contains(&format!("create the state bucket {BUCKET}")), "{said}");
    assert_eq!(writes(&aws), [""; 0], "{said}");
    world.xtask(INIT).ok();
    aws.s3.bucket(e2e::ACCOUNT, "DELETE", &format!("{BUCKET}?publicAccessBlock"), "");
    let said = runs(&world, &[line]);
    assert!(said[0].contains("correct: public access is not blocked"), "{}", said[0]);
    world.xtask(INIT).ok();
    world.xtask("auto-transfer-images").ok();

    // A runtime with a build that does not have to be built here.
    let manifest = aws.registry("GET", "lambda/manifests/tool");
    let build = format!("tiny-sha256-{}", &e2e::digest(&manifest.body)["sha256:".len()..][..12]);
    let text = String::from_utf8(manifest.body).unwrap();
    aws.ecr("PutImage", &json!({ "repositoryName": "lambda", "imageManifest": text, "imageTag": build }));
    let runtimes = format!("{IMAGES}[runtimes]\ntiny = \"public.ecr.aws/lambda/provided:al2\"\n");
    world.write("images.toml", &runtimes);
    let back = format!("{REBUILD} --rollback tiny {build} --dry-run");
    let builds = format!("{REBUILD} --builds tiny");
    let said = runs(&world, &[&back, &builds, "list-images"]);
    assert!(said[0].contains(&format!("would go back to {build}")), "{}", said[0]);
    assert!(!world.path("images.lock").exists(), "a hold was written");
    // The engine shows whether it was built here.
    if docker() {
        runs(&world, &[&format!("{REBUILD} --push --dry-run"), &format!("{REBUILD} --dry-run")]);
    }
}

#[test]
fn nothing_is_written_before_the_confirmation() {
    let Some(world) = World::grid(IMAGES) else { return };
    world.xtask(INIT).ok();
    let aws = world.aws();
    // A new account.
    let said = nothing_is_written(&world, &DRY[..1]);
    assert!(said[0].contains("create 1 KMS key\n"), "{}", said[0]);
    world.xtask("auto-transfer-images").ok();
    nothing_is_written(&world, &DRY);

    // A creation that was interrupted, as terraform marks it.
    edit_state(&aws, |state| instances(state, "aws_ecr_repository")[0]["status"] = "tainted".into());
    let said = nothing_is_written(&world, &DRY[..1]);
    let line = r#"aws_ecr_repository.managed["kedacore/keda"]: its creation was interrupted; it exists and is kept unchanged"#;
    assert!(said[0].contains(line) && said[1].contains(line), "{}{}", said[0], said[1]);
    let repository = || aws.ecr("DescribeRepositories", &json!({}))["repositories"][0]["createdAt"].clone();
    let created = repository();
    world.xtask("transfer-images").stdin("yes\n").ok();
    assert_eq!(repository(), created);
    edit_state(&aws, |state| assert_eq!(instances(state, "aws_ecr_repository")[0]["status"], Value::Null));

    // What a killed apply created and could not record: the object next to the state has its name.
    edit_state(&aws, |state| {
        instances(state, "aws_ecr_repository").retain(|instance| instance["index_key"] != "kedacore/keda");
        instances(state, "aws_ecr_pull_through_cache_rule").clear();
    });
    let begun = json!({ "begun": "2026-11-27T00:00:00Z", "creates": {
        "aws_ecr_repository.managed[\"kedacore/keda\"]": "kedacore/keda",
        "aws_ecr_pull_through_cache_rule.managed[\"quay\"]": "quay",
    } });
    aws.s3.put(BUCKET, &format!("{STATE}.proof.json"), begun.to_string().as_bytes());
    let said = nothing_is_written(&world, &DRY[..2]);
    for said in &said {
        for address in [
            "aws_ecr_repository.managed[\"kedacore/keda\"]",
            "aws_ecr_pull_through_cache_rule.managed[\"quay\"]",
        ] {
            assert!(
                said.contains(&format!("record {address}, which exists: it was created by a run")),
                "{said}"
            );
        }
        assert!(
            !said.contains("create 1 repository") && !said.contains("pull-through cache rule:"),
            "{said}"
        );
    }
    world.xtask("transfer-images").stdin("yes\n").ok();
    assert_eq!(world.xtask("transfer-images --refresh --format json").ok().json()["changed"], false);
    world.xtask("auto-destroy-images").ok();
    assert_eq!(aws.repositories(), [""; 0]);
}
