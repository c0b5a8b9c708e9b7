//! What stands already and is somebody else's: used where it is what images.toml wants, refused before anything is done where it
//! is not.

use e2e::{ACCOUNT, World};
use serde_json::json;

const IMAGES: &str = r#"schema_version = 1
[images]
"kedacore/keda" = "ghcr.io/kedacore/keda:2.11.2"
[pull_through]
clash = "quay.io"
"#;
const REFUSED: i32 = 6;

fn initialised(images: &str) -> Option<World> {
    let world = World::grid(images)?;
    world.xtask("init-images --create-state-bucket").ok();
    Some(world)
}

#[test]
fn a_rule_that_leads_elsewhere_is_refused_before_anything_is_done() {
    let Some(world) = initialised(IMAGES) else { return };
    let aws = world.aws();
    let rule = |upstream: &str| json!({ "ecrRepositoryPrefix": "clash", "upstreamRegistryUrl": upstream });
    aws.ecr("CreatePullThroughCacheRule", &rule("registry.k8s.io"));
    aws.forget();
    for command in ["transfer-images --dry-run", "auto-transfer-images"] {
        let run = world.xtask(command).end();
        run.failed(
            REFUSED,
            &["clash is registry.k8s.io in this account, and quay.io on line 5", "hint: take another prefix"],
        );
    }
    assert_eq!(aws.changes(), Vec::<String>::new());
    // What it wants, whoever made it.
    aws.ecr("DeletePullThroughCacheRule", &json!({ "ecrRepositoryPrefix": "clash" }));
    aws.ecr("CreatePullThroughCacheRule", &rule("quay.io"));
    world.xtask("auto-transfer-images").ok();
}

#[test]
fn a_secret_or_a_replication_in_the_wrong_place_is_refused_before_anything_is_done() {
    let arn = |region: &str, account: &str| {
        format!("arn:aws:secretsmanager:{region}:{account}:secret:ecr-pullthroughcache/x")
    };
    let rule = |arn: String| {
        IMAGES.replace("\"quay.io\"", &format!("{{ upstream = \"ghcr.io\", credential_arn = \"{arn}\" }}"))
    };
    let Some(world) = initialised(IMAGES) else { return };
    world.aws().forget();
    for (images, words) in [
        (
            rule(arn("us-east-1", ACCOUNT)),
            "images.toml:5: pull_through.clash: the secret is in account 123456789012, us-east-1",
        ),
        (rule(arn("eu-west-1", "210987654321")), "the secret is in account 210987654321, eu-west-1"),
        (
            format!("{IMAGES}[registry]\nreplicate_to = [\"eu-west-1\"]\n"),
            "eu-west-1 is the region of the images themselves",
        ),
    ] {
        world.write("images.toml", &images);
        world.xtask("auto-transfer-images").end().failed(3, &[words]);
    }
    assert_eq!(world.aws().changes(), Vec::<String>::new());
}

#[test]
fn a_tag_that_may_not_move_is_told_with_the_plan() {
    let Some(world) = initialised(IMAGES) else { return };
    let aws = world.aws();
    world.xtask("auto-transfer-images").ok();
    let mutability = |mode: &str| {
        aws.ecr(
            "PutImageTagMutability",
            &json!({ "repositoryName": "kedacore/keda", "imageTagMutability": mode }),
        );
    };
    // The same tag, another image.
    let other =
        IMAGES.replace("ghcr.io/kedacore/keda:2.11.2", "ghcr.io/kedacore/keda-metrics-apiserver:2.11.2");
    world.write("images.toml", &other.replace("\"kedacore/keda\" =", "\"kedacore/keda:2.11.2\" ="));
    mutability("IMMUTABLE");
    aws.forget();
    for command in ["transfer-images --dry-run", "auto-transfer-images --only kedacore/keda"] {
        let run = world.xtask(command).end();
        run.failed(
            REFUSED,
            &["let no tag move:", "kedacore/keda:2.11.2", "hint: give the image another tag"],
        );
    }
    assert_eq!(aws.changes(), Vec::<String>::new());
    mutability("MUTABLE");
    world.xtask("auto-transfer-images").ok();
}

#[test]
fn a_grid_is_built_again_whose_key_others_needed() {
    let Some(world) = World::grid(&IMAGES.replace("clash = \"quay.io\"\n", "")) else { return };
    let b = "TAG=b --state-key .terraform/b.tfstate";
    world.xtask("init-images --create-state-bucket TAG=a").ok();
    world.xtask("auto-transfer-images TAG=a").ok();
    world.xtask(&format!("init-images {b}")).ok();
    world.xtask(&format!("auto-transfer-images {b}")).ok();
    let aws = world.aws();
    let before = aws.keys();
    assert_eq!(before.1, ["alias/ecr/a-htc", "alias/ecr/b-htc"]);
    world.xtask("auto-destroy-images TAG=a").ok();
    assert_eq!(aws.keys(), before, "b's images are encrypted with a's key");
    let run = world.xtask("auto-transfer-images TAG=a").ok();
    assert!(run.stderr.contains("was left by destroy-images for other grids: recorded now"), "{run}");
    assert_eq!(aws.keys(), before);
    assert_eq!(world.xtask("transfer-images --refresh --format json TAG=a").ok().json()["changed"], false);

    // An alias that leads to somebody else's key is not taken.
    let key = aws.kms("CreateKey", &json!({}))["KeyMetadata"]["KeyId"].clone();
    aws.kms("CreateAlias", &json!({ "AliasName": "alias/ecr/c-htc", "TargetKeyId": key }));
    let c = "TAG=c --state-key .terraform/c.tfstate";
    world.xtask(&format!("init-images {c}")).ok();
    world
        .xtask(&format!("auto-transfer-images {c}"))
        .end()
        .failed(REFUSED, &["alias/ecr/c-htc points at the key", "hint: take another TAG"]);
}
