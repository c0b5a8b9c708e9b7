//! A transfer with nothing to do: its requests, its duration, and what makes the next run a full one.
//!
//! In addition to one HEAD per image there are six calls to AWS: `sts:GetCallerIdentity`, `ecr:GetAuthorizationToken`,
//! `ecr:DescribeRepositories`, `ecr:DescribePullThroughCacheRules`, and `s3:GetObject` for the terraform state and for the plan
//! cache next to it.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not marked as such")]

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use e2e::{BUCKET, REGION, Run, World, programs, root, rounds, say};
use serde_json::json;

const CALLS: [&str; 6] = [
    "ecr DescribePullThroughCacheRules",
    "ecr DescribeRepositories",
    "ecr GetAuthorizationToken",
    "s3 GetObject",
    "s3 GetObject",
    "sts GetCallerIdentity",
];

/// The default images.toml without its runtimes, which docker would have to build first.
fn images() -> String {
    let whole = std::fs::read_to_string(root().join("deployment/image_repository/images.toml")).unwrap();
    let mut keep = true;
    let kept = whole.lines().filter(|line| {
        if line.starts_with('[') {
            keep = !line.starts_with("[runtimes");
        }
        keep
    });
    kept.map(|line| format!("{line}\n")).collect()
}

/// A directory with a terraform that only records that it was started.
fn terraform_that_tells(world: &World) -> String {
    let bin = world.path("bin");
    std::fs::create_dir(&bin).unwrap();
    let script = format!("#!/bin/sh\necho \"$@\" >>'{}'\nexit 1\n", world.path("terraform-calls").display());
    let program = world.write("bin/terraform", &script);
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    bin.display().to_string()
}

/// Six calls, nothing changed, and terraform was not started.
fn has_nothing_to_do(world: &World, run: Run, who: &str) {
    let aws = world.aws();
    aws.emulator.forget();
    let run = run.ok();
    assert_eq!(run.json()["changed"], false, "{who}: {run}");
    let word = |entry: &serde_json::Value, name: &str| entry[name].as_str().unwrap().to_owned();
    let calls =
        aws.emulator.log().into_iter().filter(|entry| !entry["action"].as_str().unwrap().starts_with("HEAD"));
    let mut calls: Vec<_> =
        calls.map(|entry| format!("{} {}", word(&entry, "service"), word(&entry, "action"))).collect();
    calls.sort();
    assert_eq!(calls, CALLS, "{who}");
    let started = std::fs::read_to_string(world.path("terraform-calls")).unwrap_or_default();
    assert_eq!(started, "", "{who}: terraform was started");
}

fn median(count: usize, run: impl Fn() -> Run) -> Duration {
    let mut all: Vec<Duration> = (0..count).map(|_| run().ok().took).collect();
    all.sort();
    all[count / 2]
}

#[test]
fn nothing_to_do_costs_six_calls_and_no_terraform_until_something_changes() {
    if !programs(&["script"]) {
        return;
    }
    let Some(world) = World::grid(&images()) else { return };
    world.xtask("init-images --create-state-bucket").ok();
    let first = world.xtask("transfer-images --auto-approve --format json").ok();
    assert_eq!(first.json()["changed"], true);
    let path = terraform_that_tells(&world);
    let again = || world.xtask("transfer-images --format json").env("PATH", &path);
    has_nothing_to_do(&world, again(), "the same checkout");

    // A fresh checkout has no cache, and terraform was never initialised in it.
    let fresh = |name: &str| {
        let target = world.path(name);
        std::fs::create_dir(&target).unwrap();
        target
    };
    let terraforms = world.path("local/terraform");
    let aside = world.path("local/terraform-aside");
    std::fs::rename(&terraforms, &aside).unwrap();
    has_nothing_to_do(&world, again().env("CARGO_TARGET_DIR", fresh("fresh")), "a fresh checkout");
    assert!(!terraforms.exists());
    std::fs::rename(&aside, &terraforms).unwrap();

    // Another user's session, which reaches AWS without --local.
    let other = world.sourced().args(&format!(
        "transfer-images --format json REGION={REGION} S3_IMAGE_TFSTATE_HTCGRID_BUCKET_NAME={BUCKET}"
    ));
    let other = other
        .env("PATH", &path)
        .env("CARGO_TARGET_DIR", fresh("second-operator"))
        .env("AWS_ENDPOINT_URL", format!("http://{}", world.aws().host))
        .env("AWS_ACCESS_KEY_ID", "ASIASECONDOPERATOR00")
        .env("AWS_SECRET_ACCESS_KEY", "another")
        .env("AWS_SESSION_TOKEN", "another-session")
        .env("AWS_EC2_METADATA_DISABLED", "true");
    has_nothing_to_do(&world, other, "a second operator");

    let count = rounds(3, 9);
    let run = || world.xtask("transfer-images").env("PATH", &path);
    let (pipe, terminal) = (median(count, run), {
        let path = format!("{path}:{}", std::env::var("PATH").unwrap());
        median(count, || world.xtask("transfer-images").env("PATH", &path).on_a_terminal())
    });
    say(&format!(
        "nothing to do, median of {count}: {} ms in a pipe, {} ms on a terminal",
        pipe.as_millis(),
        terminal.as_millis()
    ));
    // A busy machine does not make the tool slow: the limit itself only applies to the full number of rounds.
    let bound = Duration::from_millis(if count == 9 { 1500 } else { 5000 });
    assert!(pipe < bound && terminal < bound, "{pipe:?} in a pipe, {terminal:?} on a terminal");
    assert!(!world.path("terraform-calls").exists());

    // A resource is deleted outside of terraform.
    let aws = world.aws();
    let tags = aws.whole_tags();
    let changes = [
        ("DeleteRepository", json!({ "repositoryName": "curl", "force": true })),
        ("DeletePullThroughCacheRule", json!({ "ecrRepositoryPrefix": "quay" })),
    ];
    for (action, input) in changes {
        let (repositories, rules) =
            (aws.repositories(), aws.ecr("DescribePullThroughCacheRules", &json!({})));
        aws.ecr(action, &input);
        let run = world.xtask("transfer-images --auto-approve --format json").ok();
        assert_eq!(run.json()["changed"], true, "{action}: {run}");
        assert_eq!(aws.repositories(), repositories, "{action}: {run}");
        let after = aws.ecr("DescribePullThroughCacheRules", &json!({}));
        let prefixes = |rules: &serde_json::Value| {
            let all = rules["pullThroughCacheRules"].as_array().unwrap().iter();
            let mut all: Vec<_> = all.map(|rule| rule["ecrRepositoryPrefix"].to_string()).collect();
            all.sort();
            all
        };
        assert_eq!(prefixes(&after), prefixes(&rules), "{action}: {run}");
        assert_eq!(aws.whole_tags(), tags, "{action}: {run}");
        has_nothing_to_do(&world, again(), action);
    }
}
