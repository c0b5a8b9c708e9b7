//! Ways in which AWS surprises its callers, one at a time: the first run completes all the same, or says what to do.

use e2e::{Images, World, programs};

const IMAGES: &str = r#"schema_version = 1
[images]
curl = "curlimages/curl:7.85.0"
grafana = "grafana/grafana:10.1.1"
"kedacore/keda" = { source = "ghcr.io/kedacore/keda:2.11.2", platforms = "all" }
[pull_through]
ecr-public = "public.ecr.aws"
"#;

fn initialised() -> Option<World> {
    if !programs(&["terraform"]) {
        return None;
    }
    let world = World::new(Images::Small)?;
    world.write("images.toml", IMAGES);
    world.xtask("init-images --create-state-bucket").ok();
    Some(world)
}

/// The first run completes, and the second finds all of it.
fn completes_with(quirk: &str) {
    let Some(world) = initialised() else { return };
    world.aws().quirks(&[quirk]);
    let first = world.xtask("transfer-images --auto-approve").ok();
    world.aws().quirks(&[]);
    let names: Vec<String> = world.aws().whole_tags().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["curl:7.85.0", "grafana:10.1.1", "kedacore/keda:2.11.2"], "{quirk}: {first}");
    let second = world.xtask("transfer-images --format json").ok();
    assert_eq!(second.json()["changed"], false, "{quirk}: {second}");
}

#[test]
fn layers_that_manifests_see_late() {
    completes_with("blob-unknown-lag=1500");
}

#[test]
fn a_quota_on_image_puts() {
    completes_with("throttle-put-image=2");
}

#[test]
fn a_tenth_of_all_requests_refused() {
    let seed = std::env::var("E2E_SEED").unwrap_or_else(|_| "7".to_owned());
    // The resources stand already: terraform's provider has retries of its own.
    let Some(world) = initialised() else { return };
    world.xtask("transfer-images --auto-approve --only curl").ok();
    world.aws().quirks(&[&format!("throttle-random={seed}:100")]);
    world.xtask("transfer-images --auto-approve").ok();
    world.aws().quirks(&[]);
    assert_eq!(world.aws().whole_tags().len(), 3);
}

#[test]
fn registry_tokens_that_expire_in_the_middle() {
    completes_with("expire-tokens-after-n-requests=40");
}

#[test]
fn manifest_puts_without_a_location() {
    completes_with("no-location-on-manifest-put");
}

#[test]
fn repositories_that_the_registry_sees_late() {
    completes_with("eventual-consistency=3");
}

#[test]
fn a_permission_that_is_missing_is_named() {
    let Some(world) = initialised() else { return };
    for action in [
        "ecr:CreateRepository",
        "ecr:PutImage",
        "ecr:DescribeRepositories",
        "s3:GetObject",
        "sts:GetCallerIdentity",
    ] {
        world.aws().quirks(&[&format!("deny:{action}")]);
        let run = world.xtask("transfer-images --auto-approve").end();
        run.failed(5, &[action, "hint: "]);
        world.aws().quirks(&[]);
    }
    world.xtask("transfer-images --auto-approve").ok();
}
