//! `docs/iam-policy.json` is enough for the whole job, and each of its actions is needed: the emulated AWS judges by it as the
//! caller's only policy, with the policies of HTC-Grid's bucket and of the grid's key.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not marked as such")]

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;

use e2e::{ACCOUNT, BUCKET, Ended, Images, REGION, Run, World, programs, root};
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

/// One of so many actions is tried where there is no SOAK.
const PART: usize = 10;

/// What nothing asks the emulated AWS for, and who asks AWS.
const NOT_ASKED: [(&str, &str); 5] = [
    ("iam:GetRole", "hashicorp/aws: the roles of kms.admin_roles"),
    (
        "ecr:GetDownloadUrlForLayer",
        "layers that are mounted, what `--why` and builds read, the record of a runtime's tag",
    ),
    ("ecr:UpdatePullThroughCacheRule", "hashicorp/aws: another credential_arn for a rule"),
    ("kms:ListKeys", "the key that a run created which was killed before terraform recorded it"),
    ("kms:UpdateAlias", "hashicorp/aws: somebody made the alias another key's"),
];

/// Who makes the key.
const CREATOR: &str = "anna";
/// Who goes on, and has nothing that is the creator's alone.
const COLLEAGUE: &str = "bea";

/// One command of the job, and what the account has changed before it.
struct Step {
    name: &'static str,
    before: fn(&World),
    run: fn(&World) -> Run,
}

const fn step(name: &'static str, before: fn(&World), run: fn(&World) -> Run) -> Step {
    Step { name, before, run }
}

fn xtask(world: &World, line: &str) -> Run {
    world.xtask(line).arg(format!("TAG={TAG}"))
}

fn transfer(world: &World) -> Run {
    xtask(world, "auto-transfer-images")
}

/// The step that makes the key.
const CREATED: usize = 4;

/// The job, with every option of images.toml switched on, changed and off again.
const JOB: [Step; 12] = [
    step("create the bucket", |_| {}, |world| xtask(world, "init-images --create-state-bucket")),
    step(
        "mend the bucket",
        |world| world.aws().bucket(ACCOUNT, "DELETE", &format!("{BUCKET}?publicAccessBlock"), ""),
        |world| xtask(world, "init-images --create-state-bucket"),
    ),
    step("init", |world| world.aws().as_cloudformation_sets_it(), |world| xtask(world, "init-images")),
    step(
        "log in",
        |_| {},
        |world| {
            let path = format!("{}:{}", world.path("bin").display(), std::env::var("PATH").unwrap());
            world.xtask("docker-registry-login").env("PATH", path)
        },
    ),
    step("transfer", |_| {}, transfer),
    step("transfer again", |_| {}, transfer),
    step(
        "doctor",
        |world| {
            let outputs = json!({ "ImageTFStateBucketID": BUCKET });
            world.aws().stack(&json!({ "name": TAG, "region": REGION, "outputs": outputs }));
        },
        |world| {
            let run = world.sourced().args("transfer-images --dry-run");
            let run = run.arg(format!("TAG={TAG}")).arg(format!("REGION={REGION}"));
            let run = run.env("AWS_ENDPOINT_URL", format!("http://{}", world.aws().host));
            run.env("AWS_ACCESS_KEY_ID", "local").env("AWS_SECRET_ACCESS_KEY", "local")
        },
    ),
    step(
        "transfer with other options and a repository of somebody else's",
        |world| {
            let aws = world.aws();
            aws.ecr("CreateRepository", &json!({ "repositoryName": "shared" }));
            // Somebody has changed the key.
            let id = json!({ "KeyId": format!("alias/ecr/{TAG}-htc") });
            let id = aws.kms("DescribeKey", &id)["KeyMetadata"]["KeyId"].clone();
            aws.kms("DisableKeyRotation", &json!({ "KeyId": id }));
            aws.kms("UpdateKeyDescription", &json!({ "KeyId": id, "Description": "no" }));
            let more = IMAGES
                .replace("\"awshpc\"", "\"awshpc\", \"shared\"")
                .replace("keep_builds = 2", "keep_builds = 3\nscan_on_push = false");
            let more = format!("{more}[tags]\ncost-centre = \"risk\"\n[kms]\nadmin_roles = [\"ops\"]\n");
            world.write("images.toml", &more);
        },
        transfer,
    ),
    step("transfer with other options again", |_| {}, transfer),
    step(
        "transfer with options off",
        |world| {
            let fewer = IMAGES.replace("\"kedacore/keda\" = \"ghcr.io/kedacore/keda:2.11.2\"\n", "");
            let options = "protect_build_tags = true\nkeep_builds = 2\npull_accounts = [\"210987654321\"]\n";
            world.write("images.toml", &fewer.replace(options, ""));
        },
        transfer,
    ),
    step("prune", |_| {}, |world| xtask(world, "prune").stdin(&format!("{TAG}\n"))),
    step("destroy", |_| {}, |world| xtask(world, "auto-destroy-images")),
];

/// A world whose AWS runs and has nothing, and a docker client that takes the password and keeps nothing.
fn world() -> Option<World> {
    if !programs(&["terraform"]) {
        return None;
    }
    let world = World::new(Images::Small)?;
    std::fs::create_dir(world.path("bin")).unwrap();
    let docker = world.write("bin/docker", "#!/bin/sh\ncat >/dev/null\n");
    std::fs::set_permissions(&docker, std::fs::Permissions::from_mode(0o755)).unwrap();
    world.write("images.toml", IMAGES);
    world.xtask("local up").ok();
    Some(world)
}

/// The policy as an administrator fills it in.
fn policy() -> Value {
    let text = std::fs::read_to_string(root().join("docs/iam-policy.json")).unwrap();
    let names = ["STATE_BUCKET", "ACCOUNT", "REGION", "TAG"].into_iter().zip([BUCKET, ACCOUNT, REGION, TAG]);
    serde_json::from_str(&names.fold(text, |text, (name, value)| text.replace(name, value))).unwrap()
}

fn actions(statement: &Value) -> Vec<&str> {
    match &statement["Action"] {
        Value::Array(all) => all.iter().map(|one| one.as_str().unwrap()).collect(),
        one => vec![one.as_str().unwrap()],
    }
}

/// An action of one statement.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Allowed {
    sid: String,
    action: String,
}

fn allowed(policy: &Value) -> Vec<Allowed> {
    let statements = policy["Statement"].as_array().unwrap().iter();
    let all = statements.flat_map(|statement| {
        let sid = statement["Sid"].as_str().unwrap();
        actions(statement)
            .into_iter()
            .map(|action| Allowed { sid: sid.to_owned(), action: action.to_owned() })
    });
    all.collect()
}

/// The policy without one action of one statement.
fn without(policy: &Value, removed: &Allowed) -> Value {
    let mut policy = policy.clone();
    let statements = policy["Statement"].as_array_mut().unwrap();
    for statement in statements.iter_mut().filter(|statement| statement["Sid"] == removed.sid.as_str()) {
        let left: Vec<&str> =
            actions(statement).into_iter().filter(|action| *action != removed.action).collect();
        statement["Action"] = json!(left);
    }
    statements.retain(|statement| statement["Action"] != json!([]));
    policy
}

/// The actions that a step's requests needed, in the order of the first need of each.
fn needed(world: &World) -> Vec<String> {
    let log = world.aws().log();
    assert!(log.len() < 20_000, "the log is bounded: its beginning is lost");
    let own = log.iter().filter(|entry| !entry["principal"].as_str().unwrap().ends_with(":user/admin"));
    let mut seen = BTreeSet::new();
    let all = own.flat_map(|entry| entry["iam"].as_array().unwrap());
    let all = all.map(|action| action.as_str().unwrap().to_owned());
    all.filter(|action| seen.insert(action.clone())).collect()
}

/// Whether a run missed an action, or what is wrong with how it missed it.
fn missed(run: &Ended, removed: &str) -> Result<bool, String> {
    match run.code {
        Some(0) => Ok(false),
        // A panic's code is 101.
        Some(1..100) if run.stderr.contains(removed) => Ok(true),
        _ => Err(run.to_string()),
    }
}

/// Runs the job once under the whole policy. Before that each step is tried without the actions that it is the first to need,
/// each time from the same account: all of them under SOAK, else a part.
#[test]
fn the_whole_job_needs_the_policy_and_each_action_of_it() {
    let Some(world) = world() else { return };
    let policy = policy();
    let mut left = allowed(&policy);
    let (mut faults, mut seed) = (Vec::new(), e2e::seed());
    for (number, step) in JOB.iter().enumerate() {
        let caller = if number <= CREATED { CREATOR } else { COLLEAGUE };
        (step.before)(&world);
        world.save("before");
        world.aws().caller(caller, &policy);
        world.aws().forget();
        let run = (step.run)(&world).end();
        assert_eq!(run.code, Some(0), "{}: {run}", step.name);
        let needed = needed(&world);
        let mut tried = left.clone();
        tried.retain(|allowed| needed.contains(&allowed.action));
        if std::env::var_os("SOAK").is_none() {
            left.retain(|allowed| !tried.contains(allowed));
            tried.retain(|_| e2e::random(&mut seed, PART) == 0);
        }
        if tried.is_empty() {
            continue;
        }
        world.save("after");
        for removed in &tried {
            world.restore("before");
            world.aws().caller(caller, &without(&policy, removed));
            let run = (step.run)(&world).end();
            e2e::say(&format!("{}, without {}: exit code {:?}", step.name, removed.action, run.code));
            match missed(&run, &removed.action) {
                Ok(true) => left.retain(|allowed| allowed != removed),
                // A later step may need it.
                Ok(false) => {}
                Err(run) => faults.push(format!("{}, without {removed:?}: {run}", step.name)),
            }
        }
        world.restore("after");
    }
    for (action, _) in NOT_ASKED {
        let known = left.iter().any(|allowed| allowed.action == action);
        assert!(known, "{action} is asked for, or the policy does not have it");
    }
    left.retain(|allowed| NOT_ASKED.iter().all(|(action, _)| *action != allowed.action));
    assert_eq!(faults, Vec::<String>::new(), "runs that do not name what they miss");
    assert!(left.is_empty(), "docs/iam-policy.json: nothing needs {left:#?}");
}
