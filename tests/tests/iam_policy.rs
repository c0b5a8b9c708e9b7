//! `docs/iam-policy.json` is enough for the whole job, and each of its actions is needed: the emulated AWS uses it as the caller's
//! only policy, with the policies of HTC-Grid's bucket and of the grid's key. Each action is removed in turn, and the step that
//! needs it fails with its name.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not marked as such")]

use std::collections::{BTreeSet, HashSet};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Mutex;
use std::time::Instant;

use e2e::{
    ACCOUNT, BUCKET, Ended, Images, LocalBuilds, REGION, Run, STATE, Saved, World, docker, programs, root,
    set_as_cloudformation_does,
};
use serde_json::{Value, json};

const TAG: &str = "prod";
/// The exit code of a missing permission.
const CREDENTIALS: i32 = 5;

/// Every option that has calls of its own.
const IMAGES: &str = r#"schema_version = 1
prime = ["ecr-public/sam/build-python3.11:1"]
[images]
curl = "curlimages/curl:7.85.0"
"kedacore/keda" = "ghcr.io/kedacore/keda:2.11.2"
[pull_through]
ecr-public = "public.ecr.aws"
hub = { upstream = "registry-1.docker.io", credential_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:ecr-pullthroughcache/one" }
[creation_template]
role_arn = "arn:aws:iam::123456789012:role/ecr-creation-template"
[repositories]
extra = ["awshpc"]
protect_build_tags = true
keep_builds = 2
pull_accounts = ["210987654321"]
[registry]
replicate_to = ["us-east-1"]
blob_mounting = true
sign_runtimes = "arn:aws:signer:eu-west-1:123456789012:/signing-profiles/htc_grid"
"#;

/// A runtime that any builder builds in a moment, on a base with any content.
const DOCKERFILE: &str = "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nARG ENTRY_POINT\nCOPY ${ENTRY_POINT} /start\nENTRYPOINT [\"/start\"]\n";

/// Calls that only happen with a build: layers are read when builds are listed, and a build's referrers when it is pushed.
const WITH_A_BUILD: [&str; 4] =
    ["ecr:DescribeImageSigningStatus", "ecr:GetDownloadUrlForLayer", "ecr:ListImageReferrers", SIGN];

/// Permissions that ECR needs in the pusher's name after the push: a run without one succeeds with a warning.
const SIGN: &str = "signer:SignPayload";

/// The number of worlds that share the removals: a run uses little more than one processor.
const WORLDS: usize = 2;

/// The user that creates the key.
const CREATOR: &str = "anna";
/// Another user, who has nothing that only the creator has.
const COLLEAGUE: &str = "bea";

/// One command of the job, and the changes in the account before it.
struct Step {
    name: &'static str,
    before: fn(&World),
    run: fn(&World) -> Run,
    /// Whether it needs a container engine.
    builds: bool,
}

const fn step(name: &'static str, before: fn(&World), run: fn(&World) -> Run) -> Step {
    Step { name, before, run, builds: false }
}

const fn build(name: &'static str, before: fn(&World), run: fn(&World) -> Run) -> Step {
    Step { name, before, run, builds: true }
}

fn xtask(world: &World, line: &str) -> Run {
    world.xtask(line).arg(format!("TAG={TAG}"))
}

fn transfer(world: &World) -> Run {
    xtask(world, "auto-transfer-images")
}

/// The runtime's name, which was never built by another test or an earlier run.
fn runtime(world: &World) -> String {
    format!("e2e-{}", world.path("").file_name().unwrap().to_string_lossy().to_lowercase())
}

/// images.toml with other options.
fn other_options() -> String {
    let more = IMAGES
        .replace("\"awshpc\"", "\"awshpc\", \"shared\"")
        .replace("ecr-pullthroughcache/one", "ecr-pullthroughcache/two")
        .replace("keep_builds = 2", "keep_builds = 3\nscan_on_push = false");
    format!("{more}[tags]\ncost-centre = \"risk\"\n[kms]\nadmin_roles = [\"ops\"]\n")
}

/// The step that creates the key.
const CREATED: usize = 4;

/// The job, with every option of images.toml switched on, changed and switched off again.
const JOB: [Step; 16] = [
    step("create the bucket", |_| {}, |world| xtask(world, "init-images --create-state-bucket")),
    step(
        "mend the bucket",
        |world| world.aws().s3.bucket(ACCOUNT, "DELETE", &format!("{BUCKET}?publicAccessBlock"), ""),
        |world| xtask(world, "init-images --create-state-bucket"),
    ),
    step("init", |world| set_as_cloudformation_does(&world.aws()), |world| xtask(world, "init-images")),
    step(
        "log in",
        |_| {},
        |world| {
            let path = format!("{}:{}", world.path("bin").display(), std::env::var("PATH").unwrap());
            world.xtask("docker-registry-login").env("PATH", path)
        },
    ),
    step(
        "transfer after a run that was killed before terraform could record the key",
        |world| {
            let begun = json!({ "begun": "2026-11-27T00:00:00Z", "creates": { "aws_kms_key.ecr": null } });
            // HTC-Grid's bucket accepts nothing without it.
            let headers = [("x-amz-server-side-encryption", "aws:kms")];
            let key = format!("{STATE}.proof.json");
            world.aws().s3.put_with(BUCKET, &key, &headers, begun.to_string().as_bytes());
        },
        transfer,
    ),
    step("transfer again", |_| {}, transfer),
    step("status", |_| {}, |world| xtask(world, "status")),
    step(
        "doctor",
        |world| {
            let outputs = json!({ "ImageTFStateBucketID": BUCKET });
            world.aws().emulator.stack(&json!({ "name": TAG, "region": REGION, "outputs": outputs }));
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
            // Another user has changed the key, and moved its alias to another key.
            let alias = format!("alias/ecr/{TAG}-htc");
            let id = aws.kms("DescribeKey", &json!({ "KeyId": alias }))["KeyMetadata"]["KeyId"].clone();
            aws.kms("DisableKeyRotation", &json!({ "KeyId": id }));
            aws.kms("UpdateKeyDescription", &json!({ "KeyId": id, "Description": "no" }));
            let other = aws.kms("CreateKey", &json!({}))["KeyMetadata"]["KeyId"].clone();
            aws.kms("UpdateAlias", &json!({ "AliasName": alias, "TargetKeyId": other }));
            world.write("images.toml", &other_options());
        },
        transfer,
    ),
    step("transfer with other options again", |_| {}, transfer),
    build(
        "rebuild the runtimes",
        |world| {
            let base = "public.ecr.aws/lambda/provided:al2";
            let line =
                format!("{} = {{ base = \"{base}\", dockerfile = \"runtime/Dockerfile\" }}", runtime(world));
            world.write("images.toml", &format!("{}[runtimes]\n{line}\n", other_options()));
        },
        |world| transfer(world).arg("REBUILD_RUNTIMES=true"),
    ),
    build(
        "list the builds",
        |_| {},
        |world| xtask(world, &format!("rebuild-runtimes --builds {}", runtime(world))),
    ),
    build("list the images", |_| {}, |world| xtask(world, "list-images")),
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
    step(
        "destroy",
        // Repositories that ECR creates, for primed images and for the base of a build, have the grid's key, which would have to
        // stay with them.
        |world| {
            let aws = world.aws();
            for cached in aws.repositories().iter().filter(|name| name.starts_with("ecr-public/")) {
                aws.ecr("DeleteRepository", &json!({ "repositoryName": cached, "force": true }));
            }
        },
        |world| xtask(world, "auto-destroy-images"),
    ),
];

/// A world whose AWS runs and is empty, and a docker client that accepts the password and stores nothing.
fn world() -> Option<World> {
    let world = World::new(Images::Small)?;
    std::fs::create_dir(world.path("bin")).unwrap();
    let docker = world.write("bin/docker", "#!/bin/sh\ncat >/dev/null\n");
    std::fs::set_permissions(&docker, std::fs::Permissions::from_mode(0o755)).unwrap();
    world.write("images.toml", IMAGES);
    std::fs::create_dir(world.path("runtime")).unwrap();
    world.write("runtime/Dockerfile", DOCKERFILE);
    world.write("runtime/lambda_entry_point.sh", "#!/bin/sh\n");
    world.xtask("local up").ok();
    Some(world)
}

/// The policy with an administrator's values.
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
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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

/// The actions that a step's requests needed.
fn needed(world: &World) -> BTreeSet<String> {
    let log = world.aws().emulator.log();
    assert!(log.len() < 20_000, "the log is bounded: its beginning is lost");
    let own = log.iter().filter(|entry| !entry["principal"].as_str().unwrap().ends_with(":user/admin"));
    let all = own.flat_map(|entry| entry["iam"].as_array().unwrap());
    all.map(|action| action.as_str().unwrap().to_owned()).collect()
}

/// Whether a run reported the missing action, or how its report is wrong.
fn missed(run: &Ended, removed: &str) -> Result<bool, String> {
    match run.code {
        Some(0) => Ok(removed == SIGN && run.stderr.contains(removed)),
        Some(CREDENTIALS) if run.stderr.contains(removed) => Ok(true),
        _ => Err(run.to_string()),
    }
}

/// The removals, of which each world takes the next one that its step can show.
struct Removals {
    /// Removals that no step has shown yet, and no world is trying.
    left: Mutex<Vec<Allowed>>,
    /// Each is tried once per step.
    tried: Mutex<HashSet<(usize, Allowed)>>,
    faults: Mutex<Vec<String>>,
}

impl Removals {
    fn next(&self, step: usize, needed: &BTreeSet<String>) -> Option<Allowed> {
        let (mut left, mut tried) = (self.left.lock().unwrap(), self.tried.lock().unwrap());
        let can =
            |allowed: &Allowed| needed.contains(&allowed.action) && !tried.contains(&(step, allowed.clone()));
        let found = left.iter().position(can)?;
        let removed = left.remove(found);
        tried.insert((step, removed.clone()));
        Some(removed)
    }
}

/// Runs the job in its own world with the whole policy, and each step also without actions that it needs, each time from the
/// account as it was before the step.
fn whole_job(policy: &Value, removals: &Removals, builds: bool) -> Option<()> {
    let world = world()?;
    let _built = builds.then(|| LocalBuilds { engine: world.engine.clone(), name: runtime(&world) });
    for (number, step) in JOB.iter().enumerate().filter(|(_, step)| builds || !step.builds) {
        let caller = if number <= CREATED { CREATOR } else { COLLEAGUE };
        (step.before)(&world);
        let before = Saved::of(&world, "before");
        world.aws().emulator.caller(caller, policy);
        world.aws().emulator.forget();
        let run = (step.run)(&world).end();
        assert_eq!(run.code, Some(0), "{}: {run}", step.name);
        e2e::say(&format!("{}: {:.1} s", step.name, run.took.as_secs_f64()));
        let needed = needed(&world);
        let after = Saved::of(&world, "after");
        let mut is_after = true;
        while let Some(removed) = removals.next(number, &needed) {
            let began = Instant::now();
            before.restore();
            is_after = false;
            world.aws().emulator.caller(caller, &without(policy, &removed));
            let run = (step.run)(&world).end();
            let (took, all) = (run.took.as_secs_f64(), began.elapsed().as_secs_f64());
            let code = run.code;
            e2e::say(&format!("  without {}: exit code {code:?}, {took:.1} of {all:.1} s", removed.action));
            match missed(&run, &removed.action) {
                Ok(true) => {}
                // A later step may need it.
                Ok(false) => removals.left.lock().unwrap().push(removed),
                Err(run) => {
                    let words = format!("{}, without {removed:?}: {run}", step.name);
                    removals.faults.lock().unwrap().push(words);
                }
            }
        }
        if !is_after {
            after.restore();
        }
    }
    Some(())
}

#[test]
fn the_whole_job_needs_the_policy_and_each_action_of_it() {
    if !programs(&["terraform"]) {
        return;
    }
    let (policy, builds) = (policy(), docker());
    let left = Mutex::new(allowed(&policy));
    let removals = Removals { left, tried: Mutex::default(), faults: Mutex::default() };
    let began = Instant::now();
    let ran = std::thread::scope(|scope| {
        let worlds: Vec<_> =
            (0..WORLDS).map(|_| scope.spawn(|| whole_job(&policy, &removals, builds))).collect();
        worlds.into_iter().all(|world| world.join().unwrap().is_some())
    });
    if !ran {
        return;
    }
    let (count, took) = (allowed(&policy).len(), began.elapsed().as_secs());
    e2e::say(&format!("{count} actions removed one at a time, in {took} s"));
    let faults = removals.faults.into_inner().unwrap();
    assert_eq!(faults, Vec::<String>::new(), "runs that do not name what they miss");
    let mut left = removals.left.into_inner().unwrap();
    left.retain(|allowed| builds || !WITH_A_BUILD.contains(&allowed.action.as_str()));
    assert!(left.is_empty(), "docs/iam-policy.json: nothing needs {left:#?}");
}
