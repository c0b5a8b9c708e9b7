//! Keys that KMS refuses while ECR stores or serves what they encrypt, and the key of the repositories that ECR's cache creates.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not marked as such")]

use e2e::{ACCOUNT, BUCKET, REGION, STATE, World};
use serde_json::{Value, json};

const IMAGES: &str = r#"schema_version = 1
prime = ["ecr-public/sam/build-python3.11:1"]
[images]
"kedacore/keda" = "ghcr.io/kedacore/keda:2.11.2"
[pull_through]
ecr-public = "public.ecr.aws"
"#;
const ROLE: &str = "arn:aws:iam::123456789012:role/ecr-creation-template";
const CACHED: &str = "ecr-public/sam/build-python3.11";
const CREDENTIALS: i32 = 5;

fn initialised(images: &str) -> Option<World> {
    let world = World::grid(images)?;
    world.xtask("init-images --create-state-bucket").ok();
    Some(world)
}

fn with_template(more: &str) -> String {
    format!("{IMAGES}[creation_template]\nrole_arn = \"{ROLE}\"\n{more}")
}

/// The grid's key.
fn key(world: &World) -> String {
    let found = world.aws().kms("DescribeKey", &json!({ "KeyId": "alias/ecr/mainline-htc" }));
    found["KeyMetadata"]["Arn"].as_str().unwrap().to_owned()
}

fn repository(world: &World, name: &str) -> Value {
    world.aws().ecr("DescribeRepositories", &json!({ "repositoryNames": [name] }))["repositories"][0].clone()
}

fn templates(world: &World) -> Vec<Value> {
    let found = world.aws().ecr("DescribeRepositoryCreationTemplates", &json!({}));
    found["repositoryCreationTemplates"].as_array().unwrap().clone()
}

#[test]
fn a_key_that_kms_refuses_is_reported_for_every_use_by_ecr() {
    let Some(world) = initialised(IMAGES) else { return };
    world.xtask("auto-transfer-images").ok();
    let aws = world.aws();
    let key = key(&world);
    aws.kms("DisableKey", &json!({ "KeyId": key }));
    let hint = "hint: the key that this is encrypted with cannot be used: `aws kms describe-key`";
    // Layers and manifests that are read, and others that are written.
    world.xtask("verify").end().failed(CREDENTIALS, &["kedacore/keda", &key, hint]);
    world.write(
        "images.toml",
        &IMAGES.replace("ghcr.io/kedacore/keda:", "ghcr.io/kedacore/keda-metrics-apiserver:"),
    );
    world.xtask("auto-transfer-images").end().failed(CREDENTIALS, &["kedacore/keda", &key, hint]);
    aws.kms("EnableKey", &json!({ "KeyId": key }));
    world.xtask("auto-transfer-images").ok();
}

#[test]
fn repositories_created_by_the_cache_get_the_grids_key_lifecycle_and_tags() {
    let options = "[repositories]\nkeep_builds = 20\n[tags]\ncost-centre = \"risk\"\n";
    let Some(world) = initialised(&with_template(options)) else { return };
    let aws = world.aws();
    let plan = world.xtask("transfer-images --dry-run").ok();
    assert!(
        plan.stderr.contains(
            "(ecr-public/...) get what creation_template of images.toml says: this grid's key, all tags may move, all but the newest \
             20 images without a tag expire"
        ),
        "{plan}"
    );
    world.xtask("auto-transfer-images").ok();
    let made = repository(&world, CACHED);
    let key = key(&world);
    assert_eq!(made["encryptionConfiguration"], json!({ "encryptionType": "KMS", "kmsKey": key }));
    let policy = aws.ecr("GetLifecyclePolicy", &json!({ "repositoryName": CACHED }));
    let policy: Value = serde_json::from_str(policy["lifecyclePolicyText"].as_str().unwrap()).unwrap();
    assert_eq!(policy["rules"][0]["selection"]["countNumber"], 20);
    let tags = aws.ecr("ListTagsForResource", &json!({ "resourceArn": made["repositoryArn"] }));
    assert_eq!(tags["tags"], json!([{ "Key": "cost-centre", "Value": "risk" }]));
    assert_eq!(templates(&world)[0]["customRoleArn"], ROLE);
    assert_eq!(world.xtask("transfer-images --refresh --format json").ok().json()["changed"], false);

    // Another option changes the template, and the next run is as short as any.
    world.write("images.toml", &with_template(&options.replace("20", "30")));
    world.xtask("auto-transfer-images").ok();
    assert!(templates(&world)[0]["lifecyclePolicy"].as_str().unwrap().contains("30"));
    assert_eq!(world.xtask("transfer-images --format json").ok().json()["changed"], false);
    // Another user changes it, and it is changed back.
    aws.ecr(
        "UpdateRepositoryCreationTemplate",
        &json!({ "prefix": "ecr-public", "imageTagMutability": "IMMUTABLE" }),
    );
    world.xtask("auto-transfer-images").ok();
    assert_eq!(templates(&world)[0]["imageTagMutability"], "MUTABLE");

    // The template is deleted with the grid; ECR's repository stays, and so does its key.
    let run = world.xtask("auto-destroy-images").ok();
    assert!(run.stderr.contains("keep: repositories that stay are encrypted with it"), "{run}");
    assert_eq!((templates(&world), aws.repositories()), (Vec::new(), vec![CACHED.to_owned()]));
    assert_eq!(repository(&world, CACHED)["encryptionConfiguration"]["kmsKey"], key);
    // The grid is created again, with its key.
    world.xtask("auto-transfer-images").ok();
    assert_eq!(self::key(&world), key);
    world.write("images.toml", IMAGES);
    world.xtask("auto-transfer-images").ok();
    assert_eq!(templates(&world), Vec::<Value>::new());
}

#[test]
fn another_owners_template_is_used_unchanged() {
    let Some(world) = initialised(&with_template("")) else { return };
    let aws = world.aws();
    let theirs =
        json!({ "prefix": "ecr-public", "appliedFor": ["PULL_THROUGH_CACHE"], "description": "theirs" });
    aws.ecr("CreateRepositoryCreationTemplate", &theirs);
    let before = templates(&world);
    let run = world.xtask("auto-transfer-images").ok();
    for words in [
        "not managed by this grid, used unchanged: creation template ecr-public",
        "(ecr-public/...) get what the creation template ecr-public says: AES256",
    ] {
        assert!(run.stderr.contains(words), "{words}: {run}");
    }
    assert_eq!(repository(&world, CACHED)["encryptionConfiguration"]["encryptionType"], "AES256");
    world.xtask("auto-destroy-images").ok();
    assert_eq!(templates(&world), before);

    // Repositories that ECR creates under another grid's rule are not encrypted by this grid.
    aws.ecr("DeleteRepositoryCreationTemplate", &json!({ "prefix": "ecr-public" }));
    let rule = json!({ "ecrRepositoryPrefix": "ecr-public", "upstreamRegistryUrl": "public.ecr.aws" });
    aws.ecr("CreatePullThroughCacheRule", &rule);
    let run = world.xtask("auto-transfer-images").ok();
    assert!(run.stderr.contains("(ecr-public/...) get ECR's defaults"), "{run}");
    assert_eq!(templates(&world), Vec::<Value>::new());
    assert!(!run.stderr.contains(&format!("arn:aws:kms:{REGION}:{ACCOUNT}")), "{run}");
}

#[test]
fn a_template_created_by_a_killed_run_is_added_to_the_state() {
    let Some(world) = initialised(&with_template("")) else { return };
    let aws = world.aws();
    world.xtask("auto-transfer-images").ok();
    // As if terraform had been killed before it wrote the resource to the state.
    let address = "aws_ecr_repository_creation_template.managed[\"ecr-public\"]";
    let mut state: Value = serde_json::from_slice(&aws.s3.get(BUCKET, STATE).unwrap()).unwrap();
    let resources = state["resources"].as_array_mut().unwrap();
    resources.retain(|resource| resource["type"] != "aws_ecr_repository_creation_template");
    aws.s3.put(BUCKET, STATE, state.to_string().as_bytes());
    let begun = json!({ "begun": "2026-11-27T00:00:00Z", "creates": { address: "ecr-public" } });
    aws.s3.put(BUCKET, &format!("{STATE}.proof.json"), begun.to_string().as_bytes());
    let run = world.xtask("auto-transfer-images").ok();
    assert!(run.stderr.contains(&format!("record {address}, which exists")), "{run}");
    assert_eq!(world.xtask("transfer-images --refresh --format json").ok().json()["changed"], false);
}
