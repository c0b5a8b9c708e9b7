//! `sign_runtimes`: ECR signs what is pushed to the runtimes' repository, by a rule among those of other users of the account.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not marked as such")]

use std::os::unix::fs::symlink;

use e2e::{ACCOUNT, Aws, BUCKET, Ended, INIT, Project, STATE, World, programs, root};
use serde_json::{Value, json};

const IMAGES: &str = r#"schema_version = 1
[images]
"lambda:tool" = "curlimages/curl:7.85.0"
"#;
/// The exit code if images.toml is wrong.
const CONFIG: i32 = 3;

fn profile(name: &str) -> String {
    format!("arn:aws:signer:eu-west-1:{ACCOUNT}:/signing-profiles/{name}")
}

fn rule(name: &str, filter: &str) -> Value {
    let filter = json!({ "filter": filter, "filterType": "WILDCARD_MATCH" });
    json!({ "signingProfileArn": profile(name), "repositoryFilters": [filter] })
}

fn signed_by(images: &str, name: &str) -> String {
    format!("{images}[registry]\nsign_runtimes = \"{}\"\n", profile(name))
}

fn put_rules(aws: &Aws, rules: &[Value]) {
    aws.ecr("PutSigningConfiguration", &json!({ "signingConfiguration": { "rules": rules } }));
}

fn rules(aws: &Aws) -> Vec<Value> {
    let found = aws.ecr("GetSigningConfiguration", &json!({}));
    found["signingConfiguration"]["rules"].as_array().unwrap().clone()
}

/// The profiles of an image's signatures, with their status.
fn statuses(aws: &Aws, tag: &str) -> Vec<(String, String)> {
    let image = json!({ "repositoryName": "lambda", "imageId": { "imageTag": tag } });
    let found = aws.ecr("DescribeImageSigningStatus", &image);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let all = found["signingStatuses"].as_array().unwrap().iter();
    all.map(|one| (text(&one["signingProfileArn"]), text(&one["status"]))).collect()
}

/// How often a run has called an action since the last [`Aws::forget`].
fn asked(aws: &Aws, action: &str) -> usize {
    aws.emulator.log().iter().filter(|entry| entry["action"] == action).count()
}

#[test]
fn only_the_grids_own_signing_rule_is_changed() {
    let Some(world) = World::grid(&signed_by(IMAGES, "first")) else { return };
    world.xtask(INIT).ok();
    let aws = world.aws();
    let team = rule("team", "team/*");
    put_rules(&aws, std::slice::from_ref(&team));
    let line = |rules: &str| format!("registry: signing rules of the whole registry: {rules}\n");
    let dry = world.xtask("transfer-images --dry-run").ok();
    let both = format!("team/* by {} (stays); lambda by {}", profile("team"), profile("first"));
    assert!(dry.stderr.contains(&line(&both)), "{dry}");
    assert_eq!(rules(&aws), std::slice::from_ref(&team));

    // Before anything is pushed.
    world.xtask("auto-transfer-images").ok();
    assert_eq!(rules(&aws), [team.clone(), rule("first", "lambda")]);
    assert_eq!(statuses(&aws, "tool"), [(profile("first"), "COMPLETE".to_owned())]);
    aws.emulator.forget();
    assert_eq!(world.xtask("transfer-images --format json").ok().json()["changed"], false);
    assert_eq!((asked(&aws, "GetSigningConfiguration"), asked(&aws, "PutSigningConfiguration")), (1, 0));

    // Another profile replaces the first one.
    let late = rule("late", "*");
    put_rules(&aws, &[team.clone(), rule("first", "lambda"), late.clone()]);
    world.write("images.toml", &signed_by(IMAGES, "second"));
    world.xtask("auto-transfer-images").ok();
    assert_eq!(rules(&aws), [team.clone(), rule("second", "lambda"), late.clone()]);

    let destroyed = world.xtask("auto-destroy-images").ok();
    assert_eq!(rules(&aws), [team, late], "{destroyed}");
    assert!(destroyed.stderr.contains("signing rules of the whole registry: team/* by "), "{destroyed}");
}

#[test]
fn a_signing_rule_that_another_grid_uses_or_created_stays() {
    let Some(world) = World::grid(&signed_by(IMAGES, "both")) else { return };
    let [a, b] = ["TAG=a", "TAG=b --state-key .terraform/b.tfstate"];
    for grid in [a, b] {
        world.xtask(&format!("{INIT} {grid}")).ok();
        world.xtask(&format!("auto-transfer-images {grid}")).ok();
    }
    let aws = world.aws();
    let own = [rule("both", "lambda")];
    assert_eq!(rules(&aws), own);
    assert!(aws.s3.get(BUCKET, ".terraform/b.tfstate.signing.json").is_none(), "b has added nothing");
    world.xtask(&format!("auto-destroy-images {a}")).ok();
    assert_eq!(rules(&aws), own, "b's runtimes are signed by it");
    // After its resources are created again, grid a recognises its rule.
    world.xtask(&format!("auto-transfer-images {a}")).ok();
    world.xtask(&format!("auto-destroy-images {b}")).ok();
    assert_eq!(rules(&aws), own, "b has not made it");
    world.xtask(&format!("auto-destroy-images {a}")).ok();
    assert_eq!(rules(&aws), Vec::<Value>::new());
    assert_eq!(aws.s3.get(BUCKET, &format!("{STATE}.signing.json")).unwrap(), b"[]");
}

#[test]
fn a_setting_that_ecr_would_refuse_is_refused_before_any_change() {
    let Some(world) = World::grid(IMAGES) else { return };
    world.xtask(INIT).ok();
    let aws = world.aws();
    let refused = |images: &str, words: &[&str]| {
        world.write("images.toml", images);
        aws.emulator.forget();
        world.xtask("auto-transfer-images").end().failed(CONFIG, words);
        assert_eq!(aws.emulator.changes(), Vec::<String>::new());
    };
    let abroad = signed_by(IMAGES, "first").replace("eu-west-1", "us-east-1");
    refused(
        &abroad,
        &["images.toml:5: registry.sign_runtimes: the profile is in us-east-1 (aws); ECR in eu-west-1"],
    );
    let china = signed_by(IMAGES, "first").replace("arn:aws:", "arn:aws-cn:");
    refused(&china, &["the profile is in eu-west-1 (aws-cn)"]);
    refused(&signed_by(IMAGES, "a-b"), &["images.toml:5:17: registry.sign_runtimes: `arn:aws:signer:"]);

    let full: Vec<Value> = (0..10).map(|number| rule(&format!("team_{number}"), "team/*")).collect();
    put_rules(&aws, &full);
    let words = "images.toml:5: registry.sign_runtimes: the registry has 10 signing rules of others, and ECR takes 10";
    refused(&signed_by(IMAGES, "first"), &[words, "hint: `aws ecr get-signing-configuration` shows them"]);
    // A profile of another account may sign here, and a rule of another user with the same content does not use up a place.
    let central = "arn:aws:signer:eu-west-1:210987654321:/signing-profiles/central";
    let mut full = full;
    full[3] = json!({ "signingProfileArn": central, "repositoryFilters": rule("x", "lambda")["repositoryFilters"] });
    put_rules(&aws, &full);
    world.write("images.toml", &signed_by(IMAGES, "first").replace(&profile("first"), central));
    world.xtask("auto-transfer-images").ok();
    assert_eq!(rules(&aws), full);
    assert_eq!(statuses(&aws, "tool"), [(central.to_owned(), "COMPLETE".to_owned())]);
}

/// The output of `list-images` for a runtime: its JSON object, and its line.
fn listed(project: &Project, list: impl Fn(&str) -> Ended) -> (Value, String, String) {
    let document = list("list-images --format json").json();
    let images = document["images"].as_array().unwrap();
    let image = images.iter().find(|image| image["tag"] == project.name.as_str()).unwrap().clone();
    let shown = list("list-images");
    let line = shown.stdout.lines().find(|line| line.contains(&format!(" {} ", project.name))).unwrap();
    (image, line.to_owned(), shown.stderr)
}

#[test]
fn a_runtime_is_signed_or_the_reason_is_reported() {
    if !programs(&["terraform"]) {
        return;
    }
    let Some(project) = Project::new() else { return };
    let (world, name) = (&project.world, &project.name);
    let module = "deployment/image_repository/terraform";
    symlink(root().join(module), world.path("project").join(module)).unwrap();
    let run = |line: &str| project.xtask("--local --local-dir").arg(world.path("local")).args(line);
    let images = |more: &str, registry: bool| {
        let text = format!("schema_version = 1\n[runtimes]\n{}\n", project.line(more));
        world.write("images.toml", &if registry { signed_by(&text, "htc_grid") } else { text });
    };
    images("", false);
    run(INIT).ok();
    run("auto-transfer-images").ok();
    let (image, _, _) = listed(&project, |line| run(line).ok());
    assert_eq!(image["signing"], Value::Null, "{image}");

    // Images older than the rule are not signed.
    images("", true);
    run("auto-transfer-images").ok();
    let (image, line, _) = listed(&project, |line| run(line).ok());
    assert_eq!(image["signing"], json!({ "status": "not signed" }));
    assert!(line.contains("built here, not signed"), "{line}");

    let aws = world.aws();
    aws.emulator.quirks(&["slow-signing=2"]);
    images(", epoch = \"2\"", true);
    let transferred = run("auto-transfer-images").ok();
    assert!(!transferred.stderr.contains("sign"), "{transferred}");
    let (image, line, _) = listed(&project, |line| run(line).ok());
    assert_eq!(image["signing"], json!({ "status": "signed" }));
    assert!(line.contains("built here, signed"), "{line}");

    // A caller without the permission to sign may push, and gets a warning.
    aws.emulator.quirks(&["deny:signer:SignPayload", "slow-signing=1"]);
    images(", epoch = \"3\"", true);
    let why = [
        &format!(
            "warning: lambda:{name} is not signed: ECR could not sign it: AccessDeniedException: User: "
        ),
        &format!(
            "is not authorized to perform: signer:SignPayload on resource: {} because",
            profile("htc_grid")
        ),
        "; change its `epoch` in images.toml to build, push and sign it again",
    ];
    let transferred = run("auto-transfer-images").ok();
    assert!(why.iter().all(|words| transferred.stderr.contains(*words)), "{transferred}");
    let (image, line, said) = listed(&project, |line| run(line).ok());
    assert_eq!(
        (&image["signing"]["status"], &image["signing"]["code"]),
        (&json!("failed"), &json!("AccessDeniedException"))
    );
    assert!(line.contains("built here, signing failed"), "{line}");
    assert!(why.iter().all(|words| said.contains(*words)), "{said}");
    aws.emulator.quirks(&["deny:ecr:DescribeImageSigningStatus"]);
    run("list-images").end().failed(5, &["ecr:DescribeImageSigningStatus"]);
    images(", epoch = \"4\"", true);
    let transferred = run("auto-transfer-images").ok();
    let words =
        format!("warning: lambda:{name}: not known whether it is signed: ecr:DescribeImageSigningStatus: ");
    assert!(transferred.stderr.contains(&words), "{transferred}");

    // Registries other than ECR have no such rules: the key is only for the account.
    let host = project.registry.host();
    project.transfer(host, "").ok();
    let other = |line: &str| project.xtask("").arg("--registry").arg(host).args(line).ok();
    let (image, line, _) = listed(&project, other);
    assert_eq!((&image["signing"], line.contains("sign")), (&Value::Null, false), "{line}");
}
