//! The whole life of two grids in an account that others use too, with AWS's clock ten minutes ahead of this machine's and ten
//! minutes behind: nothing of anybody else's changes, nothing of one grid's is lost by the other, and a grid that was destroyed can
//! be built again.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not marked as such")]

use e2e::{Aws, World};
use serde_json::{Value, json};

const IMAGES: &str = r#"schema_version = 1
[images]
curl = "curlimages/curl:7.85.0"
"kedacore/keda" = "ghcr.io/kedacore/keda:2.11.2"
[pull_through]
ecr-public = "public.ecr.aws"
quay = "quay.io"
"#;
const A: &str = "TAG=a";
const B: &str = "TAG=b --state-key .terraform/b.tfstate";
/// What somebody else made: the grids use the first two.
const FOREIGN: [&str; 3] = ["curl", "team/app", "ecr-public/team"];

/// What others put into the account.
fn settle(aws: &Aws) {
    let key = aws.kms("CreateKey", &json!({ "Description": "team" }))["KeyMetadata"].clone();
    aws.kms("CreateAlias", &json!({ "AliasName": "alias/ecr/team-htc", "TargetKeyId": key["KeyId"] }));
    for name in FOREIGN {
        aws.ecr(
            "CreateRepository",
            &json!({
                "repositoryName": name,
                "tags": [{ "Key": "owner", "Value": "team" }],
                "encryptionConfiguration": { "encryptionType": "KMS", "kmsKey": key["Arn"] },
            }),
        );
        let statement =
            json!({ "Sid": "Team", "Effect": "Allow", "Principal": "*", "Action": "ecr:BatchGetImage" });
        let policy = json!({ "Version": "2012-10-17", "Statement": [statement] });
        aws.ecr("SetRepositoryPolicy", &json!({ "repositoryName": name, "policyText": policy.to_string() }));
    }
    let rules = [("quay", "quay.io"), ("team", "registry.k8s.io")];
    for (prefix, upstream) in rules {
        let rule = json!({ "ecrRepositoryPrefix": prefix, "upstreamRegistryUrl": upstream });
        aws.ecr("CreatePullThroughCacheRule", &rule);
    }
    aws.ecr(
        "CreateRepositoryCreationTemplate",
        &json!({ "prefix": "ROOT", "appliedFor": ["PULL_THROUGH_CACHE"], "imageTagMutability": "MUTABLE" }),
    );
}

/// All that others put there, the grids' marks and images aside.
fn foreign(aws: &Aws) -> Value {
    let repositories: Vec<Value> = FOREIGN
        .iter()
        .map(|name| {
            let found =
                aws.ecr("DescribeRepositories", &json!({ "repositoryNames": [name] }))["repositories"][0]
                    .clone();
            let tags = aws.ecr("ListTagsForResource", &json!({ "resourceArn": found["repositoryArn"] }));
            let tags = tags["tags"].as_array().unwrap().iter();
            let tags: Vec<&Value> =
                tags.filter(|tag| !tag["Key"].as_str().unwrap().starts_with("htc-grid/")).collect();
            let policy = aws.ecr("GetRepositoryPolicy", &json!({ "repositoryName": name }));
            json!([found, tags, policy["policyText"]])
        })
        .collect();
    let rules =
        aws.ecr("DescribePullThroughCacheRules", &json!({ "ecrRepositoryPrefixes": ["quay", "team"] }));
    let templates = aws.ecr("DescribeRepositoryCreationTemplates", &json!({}));
    let aliases = aws.kms("ListAliases", &json!({}));
    let aliases = aliases["Aliases"].as_array().unwrap().iter();
    let alias = aliases.clone().find(|alias| alias["AliasName"] == "alias/ecr/team-htc").unwrap();
    let key = aws.kms("DescribeKey", &json!({ "KeyId": alias["TargetKeyId"] }));
    json!([repositories, rules, templates, alias, key])
}

fn two_lives(ahead: &str) {
    let Some(world) = World::grid(IMAGES) else { return };
    // The emulated AWS starts with the first command.
    world.xtask(&format!("init-images --create-state-bucket {A}")).ok();
    let aws = world.aws();
    aws.quirks(&[&format!("clock={ahead}")]);
    settle(&aws);
    let before = foreign(&aws);
    let run = |command: &str, grid: &str| {
        let ended = world.xtask(&format!("{command} {grid}")).ok();
        assert_eq!(foreign(&aws), before, "{command} {grid}: {ended}");
        ended
    };
    run("init-images", A);
    let first = run("auto-transfer-images", A);
    for words in [
        "used as it is, somebody else made it: repositories curl: encrypted with ",
        "repositories that the cache makes (ecr-public/..., quay/...) get what the creation template ROOT says: AES256",
    ] {
        assert!(first.stderr.contains(words), "{words}: {first}");
    }
    run("init-images", B);
    run("auto-transfer-images", B);
    let both = aws.whole_tags();
    assert_eq!(both.len(), 2, "{both:?}");
    // Nothing to do for either, and no run is outdated by the other's.
    for grid in [A, B] {
        assert_eq!(run("transfer-images --format json", grid).json()["changed"], false, "{grid}");
    }

    // One that others still use, then one that nobody else marks.
    world.write("images.toml", &IMAGES.replace("\"kedacore/keda\" = \"ghcr.io/kedacore/keda:2.11.2\"\n", ""));
    run("prune --yes", A);
    assert_eq!(aws.whole_tags(), both, "b marks what a made");
    world.write("images.toml", IMAGES);

    run("auto-destroy-images", A);
    assert_eq!(aws.whole_tags(), both, "b runs on what a made");
    run("transfer-images --refresh", B);

    // Built again, it takes its own key back.
    let again = run("auto-transfer-images", A);
    assert!(
        again.stderr.contains("was left by destroy-images for other grids: it is in the state now"),
        "{again}"
    );
    assert_eq!(run("transfer-images --refresh --format json", A).json()["changed"], false);
    assert_eq!(aws.whole_tags(), both);

    run("auto-destroy-images", B);
    assert_eq!(aws.whole_tags(), both, "a runs on it again");
    run("auto-destroy-images", A);
}

#[test]
fn two_grids_live_among_others_with_aws_s_clock_ahead() {
    two_lives("600");
}

#[test]
fn two_grids_live_among_others_with_aws_s_clock_behind() {
    two_lives("-600");
}
