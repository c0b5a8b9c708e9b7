//! Existing resources of others: used if they are as images.toml requires, otherwise refused before any change.

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
fn a_rule_with_another_upstream_is_refused_before_any_change() {
    let Some(world) = initialised(IMAGES) else { return };
    let aws = world.aws();
    let rule = |upstream: &str| json!({ "ecrRepositoryPrefix": "clash", "upstreamRegistryUrl": upstream });
    aws.ecr("CreatePullThroughCacheRule", &rule("registry.k8s.io"));
    aws.emulator.forget();
    for command in ["transfer-images --dry-run", "auto-transfer-images"] {
        let run = world.xtask(command).end();
        run.failed(
            REFUSED,
            &["clash is registry.k8s.io in this account, and quay.io on line 5", "hint: take another prefix"],
        );
    }
    assert_eq!(aws.emulator.changes(), Vec::<String>::new());
    // A rule as required is used, whoever created it.
    aws.ecr("DeletePullThroughCacheRule", &json!({ "ecrRepositoryPrefix": "clash" }));
    aws.ecr("CreatePullThroughCacheRule", &rule("quay.io"));
    world.xtask("auto-transfer-images").ok();

    // Another prefix of the same ECR is another upstream, too.
    let ecr = "210987654321.dkr.ecr.eu-west-1.amazonaws.com";
    let role = "arn:aws:iam::123456789012:role/cache";
    let other = json!({ "ecrRepositoryPrefix": "team", "upstreamRegistryUrl": ecr, "customRoleArn": role,
        "upstreamRepositoryPrefix": "aa" });
    aws.ecr("CreatePullThroughCacheRule", &other);
    let wanted = |part: &str, role: &str| {
        format!(
            "{IMAGES}team = {{ upstream = \"{ecr}\", custom_role_arn = \"{role}\", upstream_repository_prefix = \"{part}\" }}\n"
        )
    };
    world.write("images.toml", &wanted("bb", role));
    let words = format!("team is {ecr}/aa in this account, and {ecr}/bb on line 6");
    world.xtask("transfer-images --dry-run").end().failed(REFUSED, &[&words]);
    // A different reading role is shown, and does not stop the run.
    world.write("images.toml", &wanted("aa", "arn:aws:iam::123456789012:role/mine"));
    let run = world.xtask("transfer-images --dry-run").ok();
    let words =
        "pull-through rule team: it reads as arn:aws:iam::123456789012:role/cache, and images.toml says";
    assert!(run.stderr.contains(words), "{run}");
    // The grid's own rule gets all settings.
    world.write("images.toml", &wanted("aa", role).replace("team =", "ours ="));
    world.xtask("auto-transfer-images").ok();
    let rule = aws.ecr("DescribePullThroughCacheRules", &json!({ "ecrRepositoryPrefixes": ["ours"] }));
    let rule = &rule["pullThroughCacheRules"][0];
    assert_eq!((&rule["customRoleArn"], &rule["upstreamRepositoryPrefix"]), (&role.into(), &"aa".into()));
    // A resource that is no longer in images.toml stays unchanged.
    world.write("images.toml", IMAGES);
    assert_eq!(world.xtask("auto-transfer-images --format json").ok().json()["terraform"], json!([]));
}

#[test]
fn other_owners_repositories_are_shown_and_a_disabled_key_stops_the_run() {
    let images = format!(
        "{IMAGES}[repositories]\nextra = [\"awshpc\", \"submitter\"]\npull_accounts = [\"210987654321\"]\n"
    );
    let Some(world) = initialised(&images) else { return };
    let aws = world.aws();
    let key = aws.kms("CreateKey", &json!({}))["KeyMetadata"].clone();
    let arn = key["Arn"].as_str().unwrap();
    for (name, more) in [
        ("awshpc", json!({ "imageTagMutability": "IMMUTABLE" })),
        ("submitter", json!({ "encryptionConfiguration": { "encryptionType": "KMS", "kmsKey": arn } })),
    ] {
        let mut input = json!({ "repositoryName": name });
        input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        aws.ecr("CreateRepository", &input);
    }
    let run = world.xtask("transfer-images --dry-run").ok();
    for words in [
        "repositories awshpc: encrypted with AES256, not with this grid's key",
        "repositories awshpc: no tag may move",
        &format!("repositories submitter: encrypted with {arn}, not with this grid's key"),
        "repositories awshpc, submitter: not scanned on push",
        "repositories awshpc, submitter: the policy does not name 210987654321 of pull_accounts",
    ] {
        assert!(
            run.stderr.contains(&format!("not managed by this grid, used unchanged: {words}\n")),
            "{words}: {run}"
        );
    }
    let report = world.xtask("transfer-images --dry-run --format json").ok().json();
    assert_eq!(report["differences"].as_array().unwrap().len(), 5, "{report}");

    aws.kms("ScheduleKeyDeletion", &json!({ "KeyId": arn, "PendingWindowInDays": 7 }));
    aws.emulator.forget();
    let words = format!("submitter: {arn} is PendingDeletion");
    for command in ["transfer-images --dry-run", "auto-transfer-images"] {
        world
            .xtask(command)
            .end()
            .failed(REFUSED, &["with a key that cannot be used", &words, "hint: `aws kms enable-key`"]);
    }
    assert_eq!(aws.emulator.changes(), Vec::<String>::new());
}

#[test]
fn another_owners_policy_is_not_overwritten() {
    let Some(world) = initialised(IMAGES) else { return };
    let aws = world.aws();
    world.xtask("auto-transfer-images").ok();
    let statement = |sid: &str, action: &str| json!({ "Sid": sid, "Effect": "Allow", "Principal": { "AWS": "arn:aws:iam::333333333333:root" }, "Action": action });
    let policy = || {
        aws.ecr("GetRepositoryPolicy", &json!({ "repositoryName": "kedacore/keda" }))["policyText"].clone()
    };
    let set = |text: &str| {
        aws.ecr("SetRepositoryPolicy", &json!({ "repositoryName": "kedacore/keda", "policyText": text }));
    };
    let theirs = json!({ "Version": "2012-10-17", "Statement": [statement("Audit", "ecr:DescribeImages")] });
    set(&theirs.to_string());
    let pulled = format!("{IMAGES}[repositories]\npull_accounts = [\"210987654321\"]\n");
    world.write("images.toml", &pulled);
    let refused = || {
        aws.emulator.forget();
        let before = policy();
        for command in ["transfer-images --dry-run", "auto-transfer-images"] {
            let words = [
                "statements that this grid did not write, and would lose them:\n  kedacore/keda\n",
                "hint: `aws ecr get",
            ];
            world.xtask(command).end().failed(REFUSED, &words);
        }
        assert_eq!((aws.emulator.changes(), policy()), (Vec::<String>::new(), before));
    };
    refused();
    aws.ecr("DeleteRepositoryPolicy", &json!({ "repositoryName": "kedacore/keda" }));
    world.xtask("auto-transfer-images").ok();
    let own = policy();
    assert!(own.as_str().unwrap().contains("210987654321"));
    // With another account it is still the grid's own statement.
    world.write("images.toml", &pulled.replace("210987654321", "444455556666"));
    world.xtask("auto-transfer-images").ok();
    assert!(policy().as_str().unwrap().contains("444455556666"));
    // Another user adds a statement; then the policy may be neither overwritten nor deleted.
    let mut mixed: serde_json::Value = serde_json::from_str(policy().as_str().unwrap()).unwrap();
    mixed["Statement"].as_array_mut().unwrap().push(statement("Audit", "ecr:DescribeImages"));
    set(&mixed.to_string());
    world.write("images.toml", &pulled);
    refused();
    world.write("images.toml", IMAGES);
    refused();
    // It is deleted with its repository.
    world.xtask("auto-destroy-images").ok();
    assert_eq!(aws.repositories(), Vec::<String>::new());
}

#[test]
fn a_misplaced_secret_or_replication_is_refused_before_any_change() {
    let arn = |region: &str, account: &str| {
        format!("arn:aws:secretsmanager:{region}:{account}:secret:ecr-pullthroughcache/x")
    };
    let rule = |arn: String| {
        IMAGES.replace("\"quay.io\"", &format!("{{ upstream = \"ghcr.io\", credential_arn = \"{arn}\" }}"))
    };
    let Some(world) = initialised(IMAGES) else { return };
    world.aws().emulator.forget();
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
    assert_eq!(world.aws().emulator.changes(), Vec::<String>::new());
}

#[test]
fn an_immutable_tag_is_reported_with_the_plan() {
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
    aws.emulator.forget();
    for command in ["transfer-images --dry-run", "auto-transfer-images --only kedacore/keda"] {
        let run = world.xtask(command).end();
        run.failed(
            REFUSED,
            &["repositories are immutable:", "kedacore/keda:2.11.2", "hint: give the image another tag"],
        );
    }
    assert_eq!(aws.emulator.changes(), Vec::<String>::new());
    mutability("MUTABLE");
    world.xtask("auto-transfer-images").ok();
}

#[test]
fn a_grid_whose_key_others_needed_is_created_again() {
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
    assert!(
        run.stderr.contains("was left by destroy-images for other grids: it is in the state now"),
        "{run}"
    );
    assert_eq!(aws.keys(), before);
    assert_eq!(world.xtask("transfer-images --refresh --format json TAG=a").ok().json()["changed"], false);

    // An alias that points to another user's key is not used.
    let key = aws.kms("CreateKey", &json!({}))["KeyMetadata"]["KeyId"].clone();
    aws.kms("CreateAlias", &json!({ "AliasName": "alias/ecr/c-htc", "TargetKeyId": key }));
    let c = "TAG=c --state-key .terraform/c.tfstate";
    world.xtask(&format!("init-images {c}")).ok();
    world
        .xtask(&format!("auto-transfer-images {c}"))
        .end()
        .failed(REFUSED, &["alias/ecr/c-htc points at the key", "hint: take another TAG"]);
}
