//! Two grids, from creation to destruction, in an account with other users, with AWS's clock ten minutes ahead of this machine's
//! and ten minutes behind: no resource of others changes, no grid loses one by the other, and a destroyed grid can be created
//! again.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not marked as such")]

use e2e::{Aws, BUCKET, STATE, World};
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
/// Resources of other users: the grids use the first two.
const FOREIGN: [&str; 3] = ["curl", "team/app", "ecr-public/team"];

/// The resources of other users.
fn add_foreign_resources(aws: &Aws) {
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

/// All resources of other users, without the grids' tags and images.
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
    aws.emulator.quirks(&[&format!("clock={ahead}")]);
    add_foreign_resources(&aws);
    let before = foreign(&aws);
    let run = |command: &str, grid: &str| {
        let ended = world.xtask(&format!("{command} {grid}")).ok();
        assert_eq!(foreign(&aws), before, "{command} {grid}: {ended}");
        ended
    };
    run("init-images", A);
    let first = run("auto-transfer-images", A);
    for words in [
        "not managed by this grid, used unchanged: repositories curl: encrypted with ",
        "repositories that the cache makes (ecr-public/..., quay/...) get what the creation template ROOT says: AES256",
    ] {
        assert!(first.stderr.contains(words), "{words}: {first}");
    }
    run("init-images", B);
    run("auto-transfer-images", B);
    let both = aws.whole_tags();
    assert_eq!(both.len(), 2, "{both:?}");
    // Nothing to do for either, and no run makes the other's result outdated.
    for grid in [A, B] {
        assert_eq!(run("transfer-images --format json", grid).json()["changed"], false, "{grid}");
    }

    // One that others still use, then one without tags of others.
    world.write("images.toml", &IMAGES.replace("\"kedacore/keda\" = \"ghcr.io/kedacore/keda:2.11.2\"\n", ""));
    run("prune --yes", A);
    assert_eq!(aws.whole_tags(), both, "b marks what a made");
    world.write("images.toml", IMAGES);

    run("auto-destroy-images", A);
    assert_eq!(aws.whole_tags(), both, "b runs on what a made");
    run("transfer-images --refresh", B);

    // Created again, it gets its own key back.
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
fn two_grids_share_an_account_with_awss_clock_ahead() {
    two_lives("600");
}

#[test]
fn two_grids_share_an_account_with_awss_clock_behind() {
    two_lives("-600");
}

const ROLE: &str = "arn:aws:iam::123456789012:role/ecr-creation-template";
const REFUSED: i32 = 6;

/// A list with these rules, and a creation template for them.
fn with_template(rules: &str) -> String {
    format!(
        "schema_version = 1\n[images]\ncurl = \"curlimages/curl:7.85.0\"\n[pull_through]\n{rules}[creation_template]\nrole_arn = \"{ROLE}\"\n"
    )
}

/// The key that each template sets, by prefix.
fn given_keys(aws: &Aws) -> Vec<(String, String)> {
    let found = aws.ecr("DescribeRepositoryCreationTemplates", &json!({}));
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let found = found["repositoryCreationTemplates"].as_array().unwrap().iter();
    let mut found: Vec<_> = found
        .map(|template| (text(&template["prefix"]), text(&template["encryptionConfiguration"]["kmsKey"])))
        .collect();
    found.sort();
    found
}

/// A grid's key that is enabled.
fn key(aws: &Aws, tag: &str) -> String {
    let found = aws.kms("DescribeKey", &json!({ "KeyId": format!("alias/ecr/{tag}-htc") }));
    assert_eq!(found["KeyMetadata"]["KeyState"], "Enabled");
    found["KeyMetadata"]["Arn"].as_str().unwrap().to_owned()
}

#[test]
fn two_grids_have_their_own_creation_templates_or_a_clear_error() {
    let first = with_template("quay = \"quay.io\"\n");
    let Some(world) = World::grid(&first) else { return };
    let unchanged = |grid: &str| {
        let run = world.xtask(&format!("transfer-images --refresh --format json {grid}")).ok();
        assert_eq!(run.json()["changed"], false, "{grid}: {run}");
    };
    world.xtask(&format!("init-images --create-state-bucket {A}")).ok();
    world.xtask(&format!("auto-transfer-images {A}")).ok();
    let aws = world.aws();
    let of_a = ("quay".to_owned(), key(&aws, "a"));
    assert_eq!(given_keys(&aws), std::slice::from_ref(&of_a));

    // The same list for another grid: ECR allows no second template for the prefix.
    world.xtask(&format!("init-images {B}")).ok();
    let before = aws.repositories();
    let words = [
        "ECR has one creation template for each prefix",
        "quay is of the grid a",
        "hint: take [creation_template] out",
    ];
    for command in ["transfer-images --dry-run", "auto-transfer-images"] {
        world.xtask(&format!("{command} {B}")).end().failed(REFUSED, &words);
    }
    assert_eq!((aws.repositories(), given_keys(&aws)), (before, vec![of_a.clone()]));
    // With the hint's advice: without a template of its own it uses the existing one, and the run reports which key that means.
    world.write("images.toml", &first[..first.find("[creation_template]").unwrap()]);
    let run = world.xtask(&format!("transfer-images --dry-run {B}")).ok();
    let words = format!("(quay/...) get what the creation template quay says: the key {}", of_a.1);
    assert!(run.stderr.contains(&words), "{run}");

    // Or its own prefix, even below the other's.
    let second = with_template("\"quay/team\" = \"quay.io\"\n");
    world.write("images.toml", &second);
    world.xtask(&format!("auto-transfer-images {B}")).ok();
    let of_b = ("quay/team".to_owned(), key(&aws, "b"));
    let both = [of_a.clone(), of_b.clone()];
    assert_eq!(given_keys(&aws), both);
    unchanged(B);
    world.write("images.toml", &first);
    unchanged(A);

    // A prefix that a list no longer has keeps its template, like its rule: another grid may pull through it.
    world.write("images.toml", &with_template("k8s = \"registry.k8s.io\"\n"));
    world.xtask(&format!("auto-transfer-images {A}")).ok();
    let run = world.xtask(&format!("prune --yes {A}")).ok();
    assert_eq!(given_keys(&aws).len(), 3, "{run}");
    world.write("images.toml", &with_template("quay = \"quay.io\"\nk8s = \"registry.k8s.io\"\n"));
    unchanged(A);

    // The first grid is destroyed: its templates stay with the rules, and the key with them.
    let run = world.xtask(&format!("auto-destroy-images {A}")).ok();
    for words in [
        "creation template quay: keep: other grids are in this account; `aws ecr delete-repository-creation-template --prefix quay`",
        "KMS key ecr/a-htc: keep: creation templates that stay give it to repositories",
    ] {
        assert!(run.stderr.contains(words), "{words}: {run}");
    }
    let all = [("k8s".to_owned(), key(&aws, "a")), of_a, of_b.clone()];
    assert_eq!(given_keys(&aws), all);
    world.write("images.toml", &second);
    unchanged(B);

    // Created again, it gets them back.
    world.write("images.toml", &with_template("quay = \"quay.io\"\nk8s = \"registry.k8s.io\"\n"));
    let run = world.xtask(&format!("auto-transfer-images {A}")).ok();
    let words = "record aws_ecr_repository_creation_template.managed[\"quay\"], which exists: it bears this grid's name";
    assert!(run.stderr.contains(words), "{run}");
    assert_eq!(given_keys(&aws), all);
    unchanged(A);

    // The second is destroyed, then the first: what each created is deleted with the last grid that could use it.
    world.write("images.toml", &second);
    world.xtask(&format!("auto-destroy-images {B}")).ok();
    assert_eq!(given_keys(&aws), all);
    world.write("images.toml", &first);
    world.xtask(&format!("auto-destroy-images {A}")).ok();
    assert_eq!(given_keys(&aws), [of_b]);
}

#[test]
fn a_template_with_the_grids_name_is_adopted_if_the_state_lacks_it() {
    let Some(world) = World::grid(&with_template("quay = \"quay.io\"\n")) else { return };
    world.xtask("init-images --create-state-bucket").ok();
    world.xtask("auto-transfer-images").ok();
    let aws = world.aws();
    let mut state: Value = serde_json::from_slice(&aws.s3.get(BUCKET, STATE).unwrap()).unwrap();
    let resources = state["resources"].as_array_mut().unwrap();
    resources.retain(|resource| resource["type"] != "aws_ecr_repository_creation_template");
    aws.s3.put(BUCKET, STATE, state.to_string().as_bytes());
    let before = given_keys(&aws);
    let words = "record aws_ecr_repository_creation_template.managed[\"quay\"], which exists: it bears this grid's name";
    for command in ["transfer-images --dry-run", "auto-transfer-images"] {
        let run = world.xtask(command).ok();
        assert!(run.stderr.contains(words), "{run}");
    }
    assert_eq!(given_keys(&aws), before);
    assert_eq!(world.xtask("transfer-images --refresh --format json").ok().json()["changed"], false);
}
