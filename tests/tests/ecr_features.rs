//! Features of ECR other than pushes and pulls: storage classes, replication of existing images, and the import of a pull through
//! the cache.

use e2e::{INIT, KeyHolder, World};
use serde_json::json;

const IMAGES: &str = r#"schema_version = 1
[images]
"kedacore/keda" = "ghcr.io/kedacore/keda:2.11.2"
"#;

fn transferred(images: &str) -> Option<World> {
    let world = World::grid(images)?;
    world.xtask(INIT).ok();
    world.xtask("auto-transfer-images").ok();
    Some(world)
}

#[test]
fn an_archived_image_is_reported_and_a_copy_restores_it() {
    let Some(world) = transferred(IMAGES) else { return };
    let aws = world.aws();
    let id = json!({ "imageTag": "2.11.2" });
    aws.ecr(
        "UpdateImageStorageClass",
        &json!({ "repositoryName": "kedacore/keda", "imageId": id, "targetStorageClass": "ARCHIVE" }),
    );
    let keda = || {
        let listed = world.xtask("list-images --format json").ok().json();
        let all = listed["images"].as_array().unwrap().clone();
        all.into_iter().find(|image| image["repository"] == "kedacore/keda").unwrap()
    };
    assert_eq!((&keda()["archived"], &keda()["upstream"]), (&true.into(), &"".into()));
    let words = "kedacore/keda:2.11.2 is archived, and pulls do not find it: copying it restores it";
    let run = world.xtask("transfer-images --dry-run").ok();
    assert!(run.stderr.contains(words), "{run}");
    // Archived images are deleted with their repository, and are counted.
    let run = world.xtask("destroy-images --dry-run").ok();
    let line = run.stderr.lines().find(|line| line.starts_with("kedacore/keda ")).unwrap();
    assert_eq!(line.split_whitespace().nth(1), Some("1"), "{run}");

    world.xtask("auto-transfer-images").ok();
    assert_eq!((&keda()["archived"], &keda()["upstream"]), (&json!(null), &"same".into()));
    let run = world.xtask("transfer-images --dry-run").ok();
    assert!(!run.stderr.contains("archived"), "{run}");
}

#[test]
fn replication_to_a_new_region_includes_existing_images() {
    let Some(world) = transferred(IMAGES) else { return };
    let aws = world.aws();
    let started = || {
        let mut log = aws.emulator.log();
        log.retain(|entry| entry["action"] == "StartReplicationBackfill" && entry["status"] == 200);
        log.len()
    };
    world.write("images.toml", &format!("{IMAGES}[registry]\nreplicate_to = [\"us-east-1\"]\n"));
    let words = "copy what the rules name and is there already to us-east-1 (replication backfill)";
    let run = world.xtask("transfer-images --dry-run").ok();
    assert!(run.stderr.contains(words), "{run}");
    // The next run repeats a start that was refused.
    aws.emulator.quirks(&["deny:ecr:StartReplicationBackfill"]);
    world.xtask("auto-transfer-images").end().failed(5, &["ecr:StartReplicationBackfill"]);
    aws.emulator.quirks(&[]);
    assert_eq!(started(), 0);
    let run = world.xtask("transfer-images --dry-run").ok();
    assert!(run.stderr.contains(words) && !run.stderr.contains("replication rules"), "{run}");
    world.xtask("auto-transfer-images").ok();
    assert_eq!(started(), 1);
    assert_eq!(world.xtask("transfer-images --format json").ok().json()["changed"], false);
    assert_eq!(started(), 1);
}

#[test]
fn a_primed_image_is_imported_with_its_layers() {
    let primed = "prime = [\"ecr-public/sam/build-python3.11:1\"]\n";
    let images = IMAGES.replacen('\n', &format!("\n{primed}"), 1);
    let Some(world) = transferred(&format!("{images}[pull_through]\necr-public = \"public.ecr.aws\"\n"))
    else {
        return;
    };
    let log = world.aws().emulator.log();
    let asked = |part: &str, method: &str| {
        let path = format!("/v2/ecr-public/sam/build-python3.11/{part}/");
        let by = |entry: &&serde_json::Value| {
            entry["method"] == method && entry["path"].as_str().unwrap().starts_with(&path)
        };
        log.iter().filter(by).count()
    };
    assert!(asked("manifests", "GET") > 0 && asked("blobs", "HEAD") > 0, "{log:?}");
    assert_eq!(asked("blobs", "GET"), 0, "the layers stay at ECR");
}

#[test]
fn priming_waits_like_copies() {
    let prime = "prime = [\"ecr-public/sam/build-python3.11:1\"]\n";
    let images = IMAGES.replacen('\n', &format!("\n{prime}"), 1);
    let rules = "[pull_through]\necr-public = \"public.ecr.aws\"\n[min_age]\n\"public.ecr.aws/*\" = \"3d\"\n";
    let Some(world) = World::grid(&format!("{images}{rules}")) else { return };
    let pulls = || {
        let log = world.aws().emulator.log();
        let path = "/v2/ecr-public/sam/build-python3.11/manifests/";
        log.iter().filter(|entry| entry["path"].as_str().unwrap().starts_with(path)).count()
    };
    world.xtask("lock").ok();
    world.xtask(INIT).ok();
    let run = world.xtask("auto-transfer-images").ok();
    assert!(run.stderr.contains("build-python3.11:1 is not pulled through the cache: "), "{run}");
    assert!(run.stderr.contains("it waits until "), "{run}");
    assert_eq!(pulls(), 0, "{run}");
    // The next run that has something to do.
    world.write("images.toml", &format!("{images}curl = \"curlimages/curl:7.85.0\"\n{rules}"));
    let run = world.xtask("auto-transfer-images --allow-fresh ecr-public/sam/build-python3.11").ok();
    assert!(!run.stderr.contains("is not pulled through the cache"), "{run}");
    assert!(pulls() > 0, "{run}");
}

#[test]
fn an_unsigned_primed_image_is_refused_before_anything_is_written() {
    let prime = "prime = [\"ecr-public/sam/build-python3.11:1\"]\n";
    let images = IMAGES.replacen('\n', &format!("\n{prime}"), 1);
    let rules = "[pull_through]\necr-public = \"public.ecr.aws\"\n\
                 [trust]\n\"public.ecr.aws/*\" = { signed_by = { key = \"cosign.pub\" } }\n";
    let Some(world) = World::grid(&format!("{images}{rules}")) else { return };
    world.write("cosign.pub", &KeyHolder::new().public());
    world.xtask(INIT).ok();
    let aws = world.aws();
    let asked = |entry: &serde_json::Value| entry["path"].as_str().unwrap().starts_with("/v2/ecr-public/");
    let words = "public.ecr.aws/sam/build-python3.11:1 is not pulled through the cache";
    for line in ["transfer-images --dry-run", "auto-transfer-images", "lock"] {
        aws.emulator.forget();
        let run = world.xtask(line).end().with_code(6);
        assert!(run.stderr.contains(words) || line == "lock", "{line}: {run}");
        assert!(run.stderr.contains(" is rejected: it has no signature"), "{line}: {run}");
        assert_eq!(aws.emulator.changes(), [""; 0], "{line}: {run}");
        assert!(!aws.emulator.log().iter().any(asked), "{line}: {run}");
    }
    // Everything else is done.
    let run = world.xtask("auto-transfer-images --keep-going").end().with_code(6);
    assert!(run.stderr.contains(words), "{run}");
    assert!(aws.repositories().contains(&"kedacore/keda".to_owned()), "{run}");
    assert!(!aws.emulator.log().iter().any(asked), "{run}");
    // If there is nothing to do, nothing is pulled through.
    world.xtask("auto-transfer-images").ok();
}
