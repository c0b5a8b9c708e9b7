//! What is deleted, and what is kept.

use e2e::{BUCKET, programs, read};
use serde_json::{Value, json};

use super::{IMAGES, transferred};

#[test]
fn destroy_images_removes_what_it_created_and_nothing_else() {
    let Some(world) = transferred() else { return };
    let aws = world.aws();
    aws.ecr("CreateRepository", &json!({ "repositoryName": "quay-of-others" }));
    // Repositories that ECR's cache created are also used by others; the original destroy deleted them.
    let (user, password) = aws.login();
    if programs(&["skopeo"]) {
        let mut pull = e2e::command("skopeo");
        pull.args(["inspect", "--raw", "--tls-verify=false", "--creds", &format!("{user}:{password}")]);
        read(pull.arg(format!("docker://{}/ecr-public/lambda/python:3.12", aws.host)));
    }
    let before = aws.repositories();
    assert!(before.len() >= 5, "{before:?}");

    for answer in ["no\n", "yes\n", "\n"] {
        let run = world.xtask("destroy-images").stdin(answer).end();
        run.failed(6, &["nothing was changed"]);
        assert_eq!(aws.repositories(), before, "{run}");
    }
    world
        .xtask("destroy-images")
        .end()
        .failed(6, &["this needs a confirmation and there is no terminal", "hint: `auto-destroy-images`"]);
    world.xtask("auto-destroy-images --dry-run").ok();
    let dry = world.xtask("destroy-images --dry-run").ok();
    assert_eq!(aws.repositories(), before, "{dry}");

    let run = world.xtask("destroy-images").stdin("mainline\n").ok();
    let after: Vec<_> = aws.repositories();
    let left: Vec<_> = before
        .iter()
        .filter(|name| name.starts_with("quay-of-others") || name.starts_with("ecr-public/"))
        .cloned()
        .collect();
    assert_eq!(after, left, "{run}");
    let rules = aws.ecr("DescribePullThroughCacheRules", &json!({}));
    assert_eq!(rules["pullThroughCacheRules"], json!([]), "{run}");
    let state: Value =
        serde_json::from_slice(&aws.s3.get(BUCKET, ".terraform/terraform.tfstate").unwrap()).unwrap();
    assert_eq!(state["resources"], json!([]), "{run}");
    for left in ["tflock", "transfer.lock"] {
        assert!(
            aws.s3.get(BUCKET, &format!(".terraform/terraform.tfstate.{left}")).is_none(),
            "{left}: {run}"
        );
    }

    let nothing = world.xtask("auto-destroy-images --format json").ok();
    assert!(nothing.stderr.contains("nothing to destroy"), "{nothing}");
    assert_eq!(nothing.json()["repositories"], json!([]), "{nothing}");
    // And everything can be created again.
    world.xtask("transfer-images --auto-approve").ok();
    assert_eq!(aws.whole_tags().iter().filter(|(name, _)| !name.starts_with("ecr-public/")).count(), 2);
}

#[test]
fn destroying_one_of_two_grids_in_an_account_leaves_the_other_complete() {
    let Some(world) = transferred() else { return };
    let aws = world.aws();
    // Repositories of others, without the tag of any grid.
    aws.ecr("CreateRepository", &json!({ "repositoryName": "team/quay-proxy" }));
    let rule = json!({ "ecrRepositoryPrefix": "team-quay", "upstreamRegistryUrl": "quay.io" });
    aws.ecr("CreatePullThroughCacheRule", &rule);
    let foreign = || {
        let names = json!({ "repositoryNames": ["team/quay-proxy"] });
        let prefixes = json!({ "ecrRepositoryPrefixes": ["team-quay"] });
        (aws.ecr("DescribeRepositories", &names), aws.ecr("DescribePullThroughCacheRules", &prefixes))
    };
    let before = foreign();
    let second = "TAG=prod --state-key .terraform/prod.tfstate";
    let joined = world.xtask(&format!("transfer-images --auto-approve --format json {second}")).ok();
    assert_eq!(joined.json()["tag"], "prod");
    let tags = aws.whole_tags();

    let destroyed = world.xtask("auto-destroy-images").ok();
    // What was kept is listed, each with the reason.
    for name in ["curl", "kedacore/keda", "awshpc", "lambda"] {
        let mut lines = destroyed.stderr.lines();
        let kept = |line: &str| line.starts_with(&format!("{name} ")) && line.contains("keep: used by prod");
        assert!(lines.any(kept), "{name}: {destroyed}");
    }
    for words in ["pull-through rule ecr-public: keep: ", "KMS key ecr/mainline-htc: keep: "] {
        assert!(destroyed.stderr.contains(words), "{words}: {destroyed}");
    }
    assert_eq!(foreign(), before, "{destroyed}");
    assert_eq!(aws.whole_tags(), tags, "{destroyed}");
    if programs(&["skopeo"]) {
        let (user, password) = aws.login();
        for (name, _) in &tags {
            let to = world.path("pulled").join(name.replace(['/', ':'], "-"));
            std::fs::create_dir_all(&to).unwrap();
            let mut pull = e2e::command("skopeo");
            pull.args(["copy", "--src-tls-verify=false", "--src-creds", &format!("{user}:{password}")]);
            let image = format!("docker://{}/{name}", aws.host);
            read(pull.arg(image).arg(format!("dir:{}", to.display())));
        }
    }
    assert!(aws.repositories().contains(&"awshpc".to_owned()));
    let rules = aws.ecr("DescribePullThroughCacheRules", &json!({}));
    assert_eq!(rules["pullThroughCacheRules"].as_array().unwrap().len(), 2, "{rules}");
    // The key that encrypts the repositories still works.
    let keys: Value = serde_json::from_slice(&read(&mut aws.cli("kms list-keys"))).unwrap();
    for key in keys["Keys"].as_array().unwrap() {
        let line = format!("kms describe-key --key-id {}", key["KeyId"].as_str().unwrap());
        let key: Value = serde_json::from_slice(&read(&mut aws.cli(&line))).unwrap();
        assert_eq!(key["KeyMetadata"]["KeyState"], "Enabled", "{destroyed}");
    }
    let marks = |name: &str| {
        let arn = format!("arn:aws:ecr:{}:{}:repository/{name}", e2e::REGION, e2e::ACCOUNT);
        let answer = aws.ecr("ListTagsForResource", &json!({ "resourceArn": arn }));
        answer["tags"]
            .as_array()
            .unwrap()
            .iter()
            .map(|tag| tag["Key"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let curl = marks("curl");
    assert!(
        curl.iter().any(|key| key == "htc-grid/prod") && !curl.iter().any(|key| key == "htc-grid/mainline"),
        "{curl:?}"
    );
    let still = world.xtask(&format!("transfer-images --format json --auto-approve {second}")).ok();
    assert_eq!(still.json()["images"][0]["action"], "up to date", "{still}");
}

#[test]
fn prune_deletes_what_is_no_longer_listed_and_not_used_by_others() {
    let Some(world) = transferred() else { return };
    let aws = world.aws();
    let keda = "\"kedacore/keda\" = \"ghcr.io/kedacore/keda:2.11.2\"\n";
    world.write(
        "images.toml",
        &IMAGES
            .replace(keda, "")
            .replace("\"awshpc\"", "")
            .replace("[pull_through]\necr-public = \"public.ecr.aws\"\n", ""),
    );
    aws.ecr("CreateRepository", &json!({ "repositoryName": "foreign" }));
    let arn = |name: &str| format!("arn:aws:ecr:{}:{}:repository/{name}", e2e::REGION, e2e::ACCOUNT);
    aws.ecr(
        "TagResource",
        &json!({ "resourceArn": arn("awshpc"), "tags": [{ "Key": "htc-grid/prod", "Value": "" }] }),
    );
    let before = aws.repositories();

    // A transfer only mentions it.
    let told = world.xtask("transfer-images --auto-approve").ok();
    assert!(told.stderr.contains("no longer in images.toml, and kept"), "{told}");
    assert_eq!(aws.repositories(), before);
    world.xtask("prune --dry-run").ok();
    world.xtask("prune").stdin("yes\n").end().failed(6, &["nothing was changed"]);
    let silent = world.xtask("prune").end();
    silent.failed(6, &["nothing was changed", "hint: `prune --yes`"]);
    assert!(!silent.stderr.contains("auto-destroy-images"), "{silent}");
    assert_eq!(aws.repositories(), before);

    let run = world.xtask("prune --yes").ok();
    assert_eq!(aws.repositories(), ["awshpc", "curl", "foreign", "lambda"], "{run}");
    assert_eq!(aws.whole_tags().len(), 1, "{run}");
    // Another grid is in the account, and a rule does not show who pulls through it.
    let rules = aws.ecr("DescribePullThroughCacheRules", &json!({}));
    assert_eq!(rules["pullThroughCacheRules"].as_array().unwrap().len(), 1, "{run}");
    let nothing = world.xtask("prune --format json").ok();
    let said = nothing.json();
    assert_eq!((&said["repositories"], &said["changed"]), (&json!([]), &json!(false)), "{nothing}");
    let nothing = world.xtask("transfer-images --format json").ok();
    assert_eq!(nothing.json()["images"][0]["action"], "up to date", "{nothing}");
}
