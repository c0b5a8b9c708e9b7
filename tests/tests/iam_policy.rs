//! `docs/iam-policy.json` allows what the tool does, and nothing that it does not do.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not marked as such")]

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;

use e2e::{ACCOUNT, BUCKET, Images, REGION, World, programs, root};
use serde_json::{Value, json};

const TAG: &str = "prod";

/// Every option that has calls of its own.
const IMAGES: &str = r#"schema_version = 1
prime = ["ecr-public/sam/build-python3.11:1"]
[images]
curl = "curlimages/curl:7.85.0"
"kedacore/keda" = "ghcr.io/kedacore/keda:2.11.2"
[pull_through]
ecr-public = "public.ecr.aws"
[repositories]
extra = ["awshpc"]
protect_build_tags = true
keep_builds = 2
pull_accounts = ["210987654321"]
[registry]
replicate_to = ["us-east-1"]
blob_mounting = true
"#;

/// What nothing recorded here asks for, and who does.
const NOT_RECORDED: [(&str, &str); 8] = [
    ("iam:GetRole", "hashicorp/aws: the roles of kms.admin_roles"),
    ("iam:CreateServiceLinkedRole", "ECR, in the caller's name, at an account's first rule"),
    ("sts:GetServiceBearerToken", "ECR Public, in the caller's name: its tokens are bearer tokens"),
    ("ecr:UpdatePullThroughCacheRule", "hashicorp/aws: another credential_arn for a rule"),
    (
        "ecr:GetDownloadUrlForLayer",
        "layers that are mounted from another repository, and what `--why` and builds read",
    ),
    ("kms:ListKeys", "the key that a run created which was killed before terraform recorded it"),
    ("kms:UpdateAlias", "hashicorp/aws: somebody made the alias another key's"),
    ("kms:UpdateKeyDescription", "hashicorp/aws: somebody changed the description"),
];

/// One thing that was asked of AWS: the IAM action, the resource, and the service that asked for the caller.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Asked {
    action: String,
    resource: String,
    via: Option<String>,
}

/// The whole job, with what the account has changed under it, as the emulated AWS wrote it down.
fn recorded() -> Option<BTreeSet<Asked>> {
    if !programs(&["terraform"]) {
        return None;
    }
    let world = World::new(Images::Small)?;
    let run = |line: &str| world.xtask(line).arg(format!("TAG={TAG}")).ok();
    let bin = world.path("bin");
    std::fs::create_dir(&bin).unwrap();
    // A client that takes the password and keeps nothing.
    let docker = world.write("bin/docker", "#!/bin/sh\ncat >/dev/null\n");
    std::fs::set_permissions(&docker, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    world.write("images.toml", IMAGES);

    run("init-images --create-state-bucket");
    let aws = world.aws();
    // A bucket that has to be mended.
    aws.bucket(ACCOUNT, "DELETE", &format!("{BUCKET}?publicAccessBlock"), "");
    run("init-images --create-state-bucket");
    run("init-images");
    world.xtask("docker-registry-login").env("PATH", &path).ok();
    run("auto-transfer-images");
    // Without --local the bucket is the one that HTC-Grid's stack names.
    let stack = json!({ "name": TAG, "region": REGION, "outputs": { "ImageTFStateBucketID": BUCKET } });
    aws.stack(&stack);
    let doctor = world.sourced().args("doctor").arg(format!("TAG={TAG}")).arg(format!("REGION={REGION}"));
    let url = format!("http://{}", aws.host);
    let doctor = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]
        .iter()
        .fold(doctor, |run, name| run.env(name, "local"));
    let doctor = doctor.env("AWS_ENDPOINT_URL", url).end();
    assert!(doctor.stdout.contains(BUCKET), "{doctor}");
    // Somebody else's repository is marked and then used.
    aws.ecr("CreateRepository", &json!({ "repositoryName": "shared" }));
    let more = IMAGES
        .replace("\"awshpc\"", "\"awshpc\", \"shared\"")
        .replace("keep_builds = 2", "keep_builds = 3\nscan_on_push = false");
    world.write(
        "images.toml",
        &format!("{more}[tags]\ncost-centre = \"risk\"\n[kms]\nadmin_roles = [\"ops\"]\n"),
    );
    run("auto-transfer-images");
    run("auto-transfer-images");
    run("list-images");
    // Options that are switched off again, and an image that is wanted no more.
    let fewer = IMAGES.replace("\"kedacore/keda\" = \"ghcr.io/kedacore/keda:2.11.2\"\n", "");
    let fewer =
        fewer.replace("protect_build_tags = true\nkeep_builds = 2\npull_accounts = [\"210987654321\"]\n", "");
    world.write("images.toml", &fewer);
    run("auto-transfer-images");
    let prune = world.xtask("prune").arg(format!("TAG={TAG}")).stdin(&format!("{TAG}\n"));
    prune.ok();
    run("auto-destroy-images");

    let log = aws.log();
    assert!(log.len() < 20_000, "the log is bounded: its beginning is lost");
    Some(log.iter().flat_map(asked).collect())
}

/// What one entry of the log asked for.
fn asked(entry: &Value) -> Vec<Asked> {
    // A registry is asked without a token first, to hear where tokens are.
    if entry["error"] == "Unauthorized" {
        return Vec::new();
    }
    let service = entry["service"].as_str().unwrap();
    let resource = entry["resource"].as_str().unwrap();
    let actions = entry["iam"].as_array().unwrap().iter().map(|action| action.as_str().unwrap().to_owned());
    let kms = |name: &str| format!("arn:aws:kms:{REGION}:{ACCOUNT}:{name}");
    let one = |action: String| {
        let of = action.split(':').next().unwrap().to_owned();
        match (service, of.as_str()) {
            // What is tagged at its creation has no name yet.
            ("kms", _) if action == "kms:TagResource" && resource == "*" => {
                Asked { action, resource: kms("key/new"), via: None }
            }
            ("kms", _) if resource == "*" || resource.starts_with("arn:") => {
                Asked { action, resource: resource.to_owned(), via: None }
            }
            ("kms", _) if resource.starts_with("alias/") => {
                Asked { action, resource: kms(resource), via: None }
            }
            ("kms", _) => Asked { action, resource: kms(&format!("key/{resource}")), via: None },
            // S3 and ECR use the key in the caller's name.
            (service, "kms") => {
                let via = if service == "oci" { "ecr" } else { service };
                Asked { action, resource: kms("key/any"), via: Some(via.to_owned()) }
            }
            _ => Asked { action, resource: resource.to_owned(), via: None },
        }
    };
    // An alias is made for a key: AWS asks for both.
    let alias = (service == "kms" && entry["action"].as_str().unwrap().ends_with("Alias"))
        .then(|| kms(&format!("alias/ecr/{TAG}-htc")));
    let mut all: Vec<Asked> = actions.map(one).collect();
    all.extend(alias.map(|resource| Asked { resource, ..all[0].clone() }));
    all
}

/// A statement of the policy, for one grid.
struct Statement {
    sid: String,
    actions: Vec<String>,
    resources: Vec<String>,
    conditions: BTreeMap<String, String>,
}

impl Statement {
    fn allows(&self, asked: &Asked) -> bool {
        let suffix = "amazonaws.com";
        let met = |(key, value): (&String, &String)| match key.as_str() {
            "kms:ViaService" => {
                asked.via.as_ref().is_some_and(|via| *value == format!("{via}.{REGION}.{suffix}"))
            }
            _ => false,
        };
        self.actions.contains(&asked.action)
            && self.resources.iter().any(|pattern| matches(pattern, &asked.resource))
            && self.conditions.iter().all(met)
    }
}

/// IAM's `*`.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(after) = text.strip_prefix(head) else { return false };
    (0..=after.len()).any(|at| after.is_char_boundary(at) && matches(rest, &after[at..]))
}

/// The policy as an administrator fills it in.
fn policy() -> Vec<Statement> {
    let text = std::fs::read_to_string(root().join("docs/iam-policy.json")).unwrap();
    let text = ["STATE_BUCKET", "ACCOUNT", "REGION", "TAG"]
        .iter()
        .zip([BUCKET, ACCOUNT, REGION, TAG])
        .fold(text, |text, (name, value)| text.replace(name, value));
    let policy: Value = serde_json::from_str(&text).unwrap();
    let strings = |value: &Value| -> Vec<String> {
        match value {
            Value::Array(all) => all.iter().map(|one| one.as_str().unwrap().to_owned()).collect(),
            one => vec![one.as_str().unwrap().to_owned()],
        }
    };
    let statement = |value: &Value| {
        assert_eq!(value["Effect"], "Allow");
        let conditions = value["Condition"]["StringEquals"].as_object().cloned().unwrap_or_default();
        assert_eq!(
            value["Condition"].as_object().map_or(0, |all| all.len()),
            usize::from(!conditions.is_empty())
        );
        Statement {
            sid: value["Sid"].as_str().unwrap().to_owned(),
            actions: strings(&value["Action"]),
            resources: strings(&value["Resource"]),
            conditions: conditions.iter().map(|(k, v)| (k.clone(), v.as_str().unwrap().to_owned())).collect(),
        }
    };
    policy["Statement"].as_array().unwrap().iter().map(statement).collect()
}

#[test]
fn the_policy_allows_what_was_recorded_and_no_more() {
    let Some(recorded) = recorded() else { return };
    let policy = policy();
    let refused: Vec<&Asked> =
        recorded.iter().filter(|asked| !policy.iter().any(|statement| statement.allows(asked))).collect();
    assert!(refused.is_empty(), "docs/iam-policy.json does not allow {refused:#?}");

    let mut wrong = Vec::new();
    for statement in &policy {
        for action in &statement.actions {
            let used = recorded.iter().any(|asked| asked.action == *action && statement.allows(asked));
            let explained = NOT_RECORDED.iter().any(|(known, _)| known == action);
            match (used, explained) {
                (false, false) => wrong.push(format!("{}: nothing asked for {action}", statement.sid)),
                (true, true) => wrong.push(format!("{action} is recorded: it needs no explanation")),
                _ => {}
            }
        }
    }
    let allowed = |action: &str| policy.iter().any(|statement| statement.actions.iter().any(|a| a == action));
    wrong.extend(
        NOT_RECORDED
            .iter()
            .filter(|(action, _)| !allowed(action))
            .map(|(action, reason)| format!("the policy has no {action}, which is needed: {reason}")),
    );
    assert!(wrong.is_empty(), "docs/iam-policy.json: {wrong:#?}");
}
