//! Unusual behaviour of AWS, one kind at a time: the first run completes all the same, or reports what to do.

use e2e::{World, rounds};
use serde_json::{Value, json};

const IMAGES: &str = r#"schema_version = 1
[images]
curl = "curlimages/curl:7.85.0"
grafana = "grafana/grafana:10.1.1"
"kedacore/keda" = { source = "ghcr.io/kedacore/keda:2.11.2", platforms = "all" }
[pull_through]
ecr-public = "public.ecr.aws"
"#;

fn initialised() -> Option<World> {
    let world = World::grid(IMAGES)?;
    world.xtask("init-images --create-state-bucket").ok();
    Some(world)
}

/// The first run completes, and the second finds everything in place.
fn completes_with(quirk: &str) {
    let Some(world) = initialised() else { return };
    world.aws().emulator.quirks(&[quirk]);
    let first = world.xtask("transfer-images --auto-approve").ok();
    world.aws().emulator.quirks(&[]);
    let names: Vec<String> = world.aws().whole_tags().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["curl:7.85.0", "grafana:10.1.1", "kedacore/keda:2.11.2"], "{quirk}: {first}");
    let second = world.xtask("transfer-images --format json").ok();
    assert_eq!(second.json()["changed"], false, "{quirk}: {second}");
}

#[test]
fn layers_visible_late_to_manifests() {
    completes_with("blob-unknown-lag=1500");
}

#[test]
fn a_quota_on_image_puts() {
    completes_with("throttle-put-image=2");
}

#[test]
fn a_tenth_of_all_requests_throttled() {
    let seed = std::env::var("E2E_SEED").unwrap_or_else(|_| "7".to_owned());
    // The resources exist already: terraform's provider has its own retries.
    let Some(world) = initialised() else { return };
    world.xtask("transfer-images --auto-approve --only curl").ok();
    world.aws().emulator.quirks(&[&format!("throttle-random={seed}:100")]);
    world.xtask("transfer-images --auto-approve").ok();
    world.aws().emulator.quirks(&[]);
    assert_eq!(world.aws().whole_tags().len(), 3);
}

#[test]
fn registry_tokens_that_expire_during_a_run() {
    completes_with("expire-tokens-after-n-requests=40");
}

#[test]
fn manifest_puts_without_a_location() {
    completes_with("no-location-on-manifest-put");
}

#[test]
fn repositories_visible_late_at_the_registry() {
    completes_with("eventual-consistency=3");
}

#[test]
fn repositories_and_rules_listed_late() {
    completes_with("late-listing=3");
}

/// A minute is the limit: only `cargo xtask test --soak` waits for all of it.
#[test]
fn a_resource_not_listed_in_time_is_named_and_the_next_run_continues() {
    if rounds(0, 1) == 0 {
        return;
    }
    let Some(world) = initialised() else { return };
    world.aws().emulator.quirks(&["late-listing=1000000"]);
    let run = world.xtask("transfer-images --auto-approve").end();
    run.failed(
        8,
        &["ECR does not show curl, grafana, ", "ecr-public after 60 s", "hint: run the command again"],
    );
    assert!((60..90).contains(&run.took.as_secs()), "{run}");
    assert_eq!(world.aws().whole_tags(), []);
    world.aws().emulator.quirks(&[]);
    world.xtask("transfer-images --auto-approve").ok();
    assert_eq!(world.aws().whole_tags().len(), 3);
}

#[test]
fn only_the_grids_own_replication_rule_is_changed() {
    let Some(world) = initialised() else { return };
    let aws = world.aws();
    let foreign = json!({
        "destinations": [{ "region": "us-west-2", "registryId": e2e::ACCOUNT }],
        "repositoryFilters": [{ "filter": "team/", "filterType": "PREFIX_MATCH" }],
    });
    aws.ecr("PutReplicationConfiguration", &json!({ "replicationConfiguration": { "rules": [foreign] } }));
    let rules = || -> Vec<Value> {
        let registry = aws.ecr("DescribeRegistry", &json!({}));
        registry["replicationConfiguration"]["rules"].as_array().unwrap().clone()
    };
    let mounting = || aws.ecr("GetAccountSetting", &json!({ "name": "BLOB_MOUNTING" }))["value"].clone();
    assert_eq!(mounting(), "DISABLED");
    let with = |images: &str| {
        let toml = format!("{images}[registry]\nreplicate_to = [\"us-east-1\"]\nblob_mounting = true\n");
        world.write("images.toml", &toml);
    };
    with(IMAGES);
    let dry = world.xtask("transfer-images --dry-run").ok();
    for line in [
        "replication rules of the whole registry: team/* to us-west-2 (stays); 4 repositories to us-east-1",
        "switch blob mounting on for the whole registry",
    ] {
        assert!(dry.stderr.contains(line), "{line}: {dry}");
    }
    assert_eq!((rules(), mounting()), (vec![foreign.clone()], "DISABLED".into()));

    let names = |rule: &Value| {
        let filters = rule["repositoryFilters"].as_array().unwrap().iter();
        filters.map(|filter| filter["filter"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    world.xtask("transfer-images --auto-approve").ok();
    let first = rules();
    assert_eq!((first.len(), &first[0], mounting()), (2, &foreign, "ENABLED".into()));
    assert_eq!(first[1]["destinations"][0]["region"], "us-east-1");
    assert_eq!(names(&first[1]), ["curl", "grafana", "kedacore/keda", "lambda"]);
    assert_eq!(world.xtask("transfer-images --format json").ok().json()["changed"], false);

    // One image less: the grid's own rule is replaced, and no second one is added.
    with(&IMAGES.replace("grafana = \"grafana/grafana:10.1.1\"\n", ""));
    world.xtask("transfer-images --auto-approve").ok();
    let second = rules();
    assert_eq!((second.len(), &second[0]), (2, &foreign), "{second:?}");
    assert_eq!(names(&second[1]), ["curl", "kedacore/keda", "lambda"]);

    let destroyed = world.xtask("auto-destroy-images").ok();
    let line = "replication rules of the whole registry: team/* to us-west-2 (stays)";
    assert!(destroyed.stderr.contains(line), "{destroyed}");
    assert_eq!((rules(), mounting()), (vec![foreign], "ENABLED".into()), "{destroyed}");
}

#[test]
fn a_missing_permission_is_named() {
    let Some(world) = initialised() else { return };
    for action in ["ecr:CreateRepository", "ecr:PutImage", "ecr:DescribeRepositories", "s3:GetObject"] {
        world.aws().emulator.quirks(&[&format!("deny:{action}")]);
        let run = world.xtask("transfer-images --auto-approve").end();
        run.failed(5, &[action, "hint: "]);
        world.aws().emulator.quirks(&[]);
    }
    // GetCallerIdentity needs no permission, and no policy denies it
    // (https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html).
    world.aws().emulator.quirks(&["deny:sts:GetCallerIdentity"]);
    world.xtask("transfer-images --auto-approve").ok();
}

#[test]
fn a_registry_that_refuses_every_token_is_a_credentials_failure_of_each_command() {
    let Some(world) = initialised() else { return };
    world.xtask("transfer-images --auto-approve --only curl").ok();
    world.aws().emulator.quirks(&["expire-tokens-after-n-requests=0"]);
    for command in ["transfer-images --auto-approve --only grafana", "verify curl"] {
        world.xtask(command).end().failed(5, &["hint: ECR refuses the caller", "docs/iam-policy.json"]);
    }
}
