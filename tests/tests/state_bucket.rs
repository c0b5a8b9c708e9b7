//! The bucket of the terraform state: HTC-Grid's own, with its policy, and one that this tool creates while S3 is slow.

use e2e::{ACCOUNT, Aws, BUCKET, REGION, STATE, STATE_ALIAS, World, set_as_cloudformation_does};
use serde_json::json;

const IMAGES: &str = r#"schema_version = 1
[images]
"kedacore/keda" = "ghcr.io/kedacore/keda:2.11.2"
"kedacore/keda-metrics-apiserver" = "ghcr.io/kedacore/keda-metrics-apiserver:2.11.2"
[pull_through]
ecr-public = "public.ecr.aws"
"#;

/// A small grid, and an AWS that runs and is empty.
fn world() -> Option<World> {
    let world = World::grid(IMAGES)?;
    world.xtask("list-images").ok();
    Some(world)
}

fn alias() -> String {
    format!("arn:aws:kms:{REGION}:{ACCOUNT}:{STATE_ALIAS}")
}

/// A bucket as created by HTC-Grid's CloudFormation template.
fn as_cloudformation_makes_it(aws: &Aws) {
    let location = format!(
        "<CreateBucketConfiguration><LocationConstraint>{REGION}</LocationConstraint></CreateBucketConfiguration>"
    );
    aws.s3.bucket(ACCOUNT, "PUT", BUCKET, &location);
    set_as_cloudformation_does(aws);
}

/// Every write in the log that S3 refused.
fn refused_writes(aws: &Aws) -> Vec<String> {
    let log = aws.emulator.log().into_iter();
    let refused = log.filter(|entry| entry["action"] == "PutObject" && entry["status"] == 403);
    refused.map(|entry| entry["path"].to_string()).collect()
}

#[test]
fn the_whole_job_with_htc_grids_own_bucket() {
    let Some(world) = world() else { return };
    let aws = world.aws();
    as_cloudformation_makes_it(&aws);
    let init = world.xtask("init-images").ok();
    assert!(init.stderr.contains(&format!("encrypted with the KMS key {}", alias())), "{init}");
    world.xtask("auto-transfer-images").ok();
    assert_eq!(world.xtask("auto-transfer-images --format json").ok().json()["changed"], false);
    // The state, the plan cache, and objects that exist only for a moment.
    for object in [STATE, &format!("{STATE}.proof.json")] {
        assert_eq!(aws.s3.encryption(BUCKET, object), ("aws:kms".to_owned(), Some(alias())), "{object}");
    }
    // Another option of the registry leaves its own record.
    let fewer = IMAGES.replace("\"kedacore/keda\" = \"ghcr.io/kedacore/keda:2.11.2\"\n", "");
    world.write("images.toml", &format!("{fewer}[registry]\nreplicate_to = [\"us-east-1\"]\n"));
    world.xtask("auto-transfer-images").ok();
    assert_eq!(aws.s3.encryption(BUCKET, &format!("{STATE}.replication.json")).0, "aws:kms");
    world.xtask("prune").stdin("mainline\n").ok();
    assert!(!aws.repositories().contains(&"kedacore/keda".to_owned()));
    world.xtask("auto-destroy-images").ok();
    assert_eq!(aws.repositories(), Vec::<String>::new());
    for lock in ["tflock", "transfer.lock"] {
        assert!(aws.s3.lock(lock).is_none(), "{lock} stays");
    }
    assert_eq!(refused_writes(&aws), Vec::<String>::new());
}

#[test]
fn a_denial_by_the_buckets_policy_is_reported_as_such() {
    let Some(world) = world() else { return };
    let aws = world.aws();
    as_cloudformation_makes_it(&aws);
    world.xtask("init-images").ok();
    let policy = json!({ "Statement": {
        "Effect": "Deny", "Principal": "*", "Action": "s3:PutObject", "Resource": format!("arn:aws:s3:::{BUCKET}/*"),
    } });
    aws.s3.bucket(ACCOUNT, "PUT", &format!("{BUCKET}?policy"), &policy.to_string());
    let run = world.xtask("auto-transfer-images").end();
    run.failed(5, &["explicit deny in a resource-based policy", "hint: the bucket's own policy denies this"]);
    // Terraform's message means the same: its lock is refused before ours if nothing else is written first.
    assert!(!run.stderr.contains("the caller needs the permission"), "{run}");
}

/// A caller with all permissions except one.
fn all_but(action: &str, resource: &str) -> serde_json::Value {
    json!({ "Version": "2012-10-17", "Statement": [
        { "Effect": "Allow", "Action": "*", "Resource": "*" },
        { "Effect": "Deny", "Action": action, "Resource": resource },
    ] })
}

#[test]
fn a_lock_that_terraform_may_not_delete_is_released_or_reported_with_its_key() {
    let Some(world) = world() else { return };
    let aws = world.aws();
    world.xtask("init-images --create-state-bucket").ok();
    // Terraform reads the lock before it deletes it; this tool deletes it unread.
    aws.emulator.caller("anna", &all_but("kms:Decrypt", "*"));
    let run = world.xtask("auto-transfer-images").end();
    let released = "released the lock on the terraform state, which terraform could not";
    run.failed(5, &["Error releasing the state lock", "kms:Decrypt", released]);
    assert!(aws.s3.lock("tflock").is_none(), "{run}");
    // No caller may delete it here.
    let lock = format!("{BUCKET}/{STATE}.tflock");
    aws.emulator.caller("anna", &all_but("s3:DeleteObject", &format!("arn:aws:s3:::{lock}")));
    let run = world.xtask("auto-transfer-images").end();
    let stays = format!("the terraform state stays locked: `aws s3 rm s3://{lock}` removes the lock");
    run.failed(5, &["Error releasing the state lock", "s3:DeleteObject", &stays]);
    assert!(aws.s3.lock("tflock").is_some(), "{run}");
    // Until the hint's advice is followed, the holder is reported.
    world.xtask("auto-transfer-images").end().failed(9, &["is locked"]);
    aws.s3.bucket(ACCOUNT, "DELETE", &lock, "");
    aws.emulator
        .caller("anna", &json!({ "Statement": { "Effect": "Allow", "Action": "*", "Resource": "*" } }));
    world.xtask("auto-transfer-images").ok();
}

#[test]
fn a_bucket_is_created_while_s3_is_slow() {
    let Some(world) = world() else { return };
    let aws = world.aws();
    aws.emulator.quirks(&["young-bucket=5"]);
    let init = world.xtask("init-images --create-state-bucket").ok();
    assert!(init.stderr.contains("created the state bucket"), "{init}");
    // Terraform itself does not retry.
    aws.emulator.quirks(&[]);
    world.xtask("auto-transfer-images").ok();
    assert_eq!(world.xtask("auto-transfer-images --format json").ok().json()["changed"], false);
    // The message of init-images about the key is also true for terraform's objects.
    assert_eq!(aws.s3.encryption(BUCKET, STATE), ("aws:kms".to_owned(), Some("alias/aws/s3".to_owned())));
}

#[test]
fn an_interrupted_bucket_creation_is_completed() {
    let Some(world) = world() else { return };
    let aws = world.aws();
    let location = format!(
        "<CreateBucketConfiguration><LocationConstraint>{REGION}</LocationConstraint></CreateBucketConfiguration>"
    );
    aws.s3.bucket(ACCOUNT, "PUT", BUCKET, &location);
    let init = world.xtask("init-images --create-state-bucket").ok();
    assert!(init.stderr.contains("encrypted with the KMS key aws/s3"), "{init}");
    // With versioning it is the owner's decision.
    let s3 = "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>AES256</SSEAlgorithm>\
              </ApplyServerSideEncryptionByDefault></Rule></ServerSideEncryptionConfiguration>";
    aws.s3.bucket(ACCOUNT, "PUT", &format!("{BUCKET}?encryption"), s3);
    let init = world.xtask("init-images --create-state-bucket").ok();
    assert!(init.stderr.contains("encrypted with S3's own key"), "{init}");
    world.xtask("auto-transfer-images").ok();
    assert_eq!(aws.s3.encryption(BUCKET, STATE), ("AES256".to_owned(), None));
}

#[test]
fn the_shells_terraform_settings_are_neither_used_nor_written_to() {
    let Some(world) = world() else { return };
    // A working directory of a manual run, with its own backend from which nothing can be read.
    std::fs::create_dir(world.path("by-hand")).unwrap();
    let backend = world.write("by-hand/terraform.tfstate", "by hand");
    let typed = |line: &str| {
        let run = world.xtask(line).env("TF_DATA_DIR", world.path("by-hand")).env("TF_WORKSPACE", "by-hand");
        run.env("TF_CLI_ARGS", "-no-such-flag").ok()
    };
    typed("init-images --create-state-bucket");
    typed("auto-transfer-images");
    let again = typed("transfer-images --refresh --format json");
    assert_eq!(again.json()["changed"], false, "{again}");
    assert!(world.aws().s3.get(BUCKET, STATE).is_some(), "{again}");
    typed("auto-destroy-images");
    assert_eq!(world.path("by-hand").read_dir().unwrap().count(), 1);
    assert_eq!(std::fs::read_to_string(backend).unwrap(), "by hand");
}

#[test]
fn a_lease_is_released_despite_a_conflict_and_lost_answers_are_not_another_run() {
    let Some(world) = world() else { return };
    let aws = world.aws();
    world.xtask("init-images --create-state-bucket").ok();
    aws.emulator
        .quirks(&["conflict=2", &format!("drop-answer=1:s3 PutObject /{BUCKET}/{STATE}.transfer.lock")]);
    let run = world.xtask("auto-transfer-images").ok();
    assert!(!run.stderr.contains("could not be released") && !run.stderr.contains("took over"), "{run}");
    assert!(aws.s3.lock("transfer.lock").is_none(), "{run}");
}

#[test]
fn a_lease_expires_by_awss_clock_only() {
    let Some(world) = world() else { return };
    let aws = world.aws();
    world.xtask("init-images --create-state-bucket").ok();
    let lease = json!({
        "who": "ada on laptop (process 7)", "grid": "mainline", "since": "2026-11-22T10:00:00Z", "expires": "2026-11-22T10:05:00Z",
    });
    let key = format!("{STATE}.transfer.lock");
    // The clock of its holder is years behind.
    for clock in ["clock=-600", "clock=600"] {
        aws.emulator.quirks(&[clock]);
        aws.s3.put(BUCKET, &key, lease.to_string().as_bytes());
        world.xtask("auto-transfer-images").end().failed(9, &["ada on laptop"]);
    }
    // Left by a run that was killed five minutes ago.
    aws.emulator.quirks(&["clock=300"]);
    let run = world.xtask("auto-transfer-images").end();
    assert!(run.stderr.contains("ada on laptop") && run.code == Some(9), "{run}");
    aws.emulator.quirks(&["clock=1000"]);
    let run = world.xtask("auto-transfer-images").ok();
    assert!(run.stderr.contains("took over the lease of ada on laptop"), "{run}");
}
