//! Refusals of AWS: permissions, sessions, buckets, accounts.

use e2e::{ACCOUNT, BUCKET, Gate, Run, World, programs};
use serde_json::json;

use super::{IMAGES, TRANSFER, initialised, reads, with_keys, world};

/// `xtask` as with AWS itself: the emulated one is only set by its address, with keys, and with no other profile than those of
/// `config`.
fn outside(world: &World, line: &str, config: &str) -> Run {
    let config = world.write("aws-config", config);
    world
        .sourced()
        .args(line)
        .env("AWS_ENDPOINT_URL", format!("http://{}", world.aws().host))
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_CONFIG_FILE", config)
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
}

#[test]
fn a_missing_permission() {
    let Some(world) = initialised() else { return };
    for (name, denied, command) in [
        ("denied-token", "ecr:GetAuthorizationToken", TRANSFER),
        ("denied-state", "s3:GetObject", TRANSFER),
        ("denied-bucket", "s3:GetBucketVersioning", "init-images"),
        ("denied-repository", "ecr:CreateRepository", TRANSFER),
        ("denied-push", "ecr:PutImage", TRANSFER),
    ] {
        world.aws().emulator.quirks(&[&format!("deny:{denied}")]);
        let run = world.xtask(command).end();
        reads(&world, name, &run);
        assert!(run.stderr.contains(denied), "the IAM action is named: {run}");
    }
    world.aws().emulator.quirks(&[]);
    world.xtask(TRANSFER).ok();
}

#[test]
fn a_session_that_ends_in_the_middle_of_a_transfer() {
    if !programs(&["terraform"]) {
        return;
    }
    let Some(mut world) = world() else { return };
    world.xtask("init-images --create-state-bucket").ok();
    let gate = Gate::before(&world.sources.host, |line| line.starts_with("GET") && line.contains("/blobs/"));
    world.sources.route("docker.io", format!("http://{}/docker.io", gate.host()));
    let mut run = world.xtask(TRANSFER).start();
    run.wait_for("terraform");
    gate.wait();
    // Terraform has finished, and bytes are being copied.
    world.aws().emulator.quirks(&["session-expired"]);
    gate.cut();
    reads(&world, "session-ended-in-transfer", &run.end());

    world.aws().emulator.quirks(&[]);
    let after = world.xtask(TRANSFER).end();
    assert!(after.code == Some(0) || after.stderr.contains("lease"), "{after}");
}

#[test]
fn an_expired_session_and_a_wrong_clock() {
    let Some(world) = initialised() else { return };
    world.aws().emulator.quirks(&["session-expired"]);
    reads(&world, "session-over", &world.xtask(TRANSFER).end());
    world.aws().emulator.quirks(&["clock-skew"]);
    reads(&world, "clock-skew", &world.xtask(TRANSFER).end());
}

#[test]
fn a_missing_or_expired_single_sign_on() {
    let Some(world) = world() else { return };
    world.xtask("local up").ok();
    let account =
        "sso_session = bank\nsso_account_id = 123456789012\nsso_role_name = ops\nregion = eu-west-1\n";
    let config = format!(
        "[profile bank]\n{account}[default]\n{account}[sso-session bank]\nsso_region = eu-west-1\n\
         sso_start_url = https://bank.awsapps.com/start\n"
    );
    let listed = |line: &str| outside(&world, line, &config).end();
    reads(&world, "sso-missing", &listed("list-images --profile bank"));

    // The file is named by the SHA-1 of the session's name.
    let cache = world.path("home/.aws/sso/cache");
    std::fs::create_dir_all(&cache).unwrap();
    let token = cache.join("bdd240c8fe7174e6ac1cfdd5282de76eb7ad6815.json");
    std::fs::write(token, r#"{"accessToken":"hush-hush","expiresAt":"2026-01-01T00:00:00Z"}"#).unwrap();
    reads(&world, "sso-expired", &listed("list-images --profile bank"));
    let run = outside(&world, "list-images", &config).env("AWS_PROFILE", "bank").end();
    reads(&world, "sso-expired", &run);
    reads(&world, "sso-expired-default", &listed("list-images"));

    // The older configuration without a session.
    let older = "[profile old]\nsso_account_id = 123456789012\nsso_role_name = ops\nregion = eu-west-1\n\
                 sso_region = eu-west-1\nsso_start_url = https://bank.awsapps.com/start\n";
    reads(&world, "sso-missing-older", &outside(&world, "list-images --profile old", older).end());
}

#[test]
fn an_unusable_bucket() {
    let Some(world) = initialised() else { return };
    let aws = world.aws();
    let named = |line: &str, bucket: &str| {
        world.xtask(line).arg(format!("S3_IMAGE_TFSTATE_HTCGRID_BUCKET_NAME={bucket}")).end()
    };
    let place = "<CreateBucketConfiguration><LocationConstraint>eu-west-1</LocationConstraint></CreateBucketConfiguration>";
    aws.s3.bucket("210987654321", "PUT", "somebody-elses", place);
    aws.s3.bucket(ACCOUNT, "PUT", "plain", place);
    aws.s3.bucket(ACCOUNT, "PUT", "open", place);
    aws.s3.bucket(ACCOUNT, "DELETE", "open?publicAccessBlock", "");
    reads(&world, "bucket-missing", &named("init-images", "nobody-made-this"));
    reads(&world, "bucket-of-somebody-else", &named("init-images", "somebody-elses"));
    reads(&world, "bucket-in-another-region", &named("init-images REGION=eu-central-1", BUCKET));
    reads(&world, "bucket-without-versioning", &named("init-images", "plain"));
    reads(&world, "bucket-with-many-faults", &named("init-images", "open"));

    // The hint's advice works, and a missing policy does not stop the run.
    named("init-images --create-state-bucket", "plain");
    aws.s3.bucket(ACCOUNT, "DELETE", "plain?policy", "");
    let run = named("init-images", "plain");
    assert_eq!(run.code, Some(0), "{run}");
    let warning = "warning: state bucket plain: its policy does not refuse requests without TLS (aws:SecureTransport); \
                   `cargo xtask init-images --create-state-bucket` adds that";
    assert!(run.stderr.lines().any(|line| line == warning), "{run}");
    let run = named("init-images --create-state-bucket", "plain");
    assert!(run.stderr.contains("corrected: its policy does not refuse"), "{run}");
    let run = named("init-images", "plain");
    assert!(
        !run.stderr.contains("warning") && run.stderr.contains("encrypted with the KMS key aws/s3"),
        "{run}"
    );
    // A policy that may not be read is only a warning.
    aws.emulator.quirks(&["deny:s3:GetBucketPolicy"]);
    let run = named("init-images", "plain");
    assert!(run.code == Some(0) && run.stderr.contains("s3:GetBucketPolicy is not allowed"), "{run}");
}

#[test]
fn another_account_and_another_region_than_expected() {
    let Some(world) = initialised() else { return };
    let aws = world.aws();
    aws.emulator.forget();
    reads(
        &world,
        "another-account",
        &world.xtask(TRANSFER).arg("--expect-account").arg("210987654321").end(),
    );
    world.write("images.toml", &IMAGES.replace("[images]", "account = \"210987654321\"\n[images]"));
    for command in [TRANSFER, "init-images --create-state-bucket", "auto-destroy-images", "prune"] {
        reads(&world, "another-account", &world.xtask(command).end());
    }
    let actions: Vec<_> = aws.emulator.log().into_iter().map(|entry| entry["action"].clone()).collect();
    assert_eq!(actions, vec![json!("GetCallerIdentity"); 5], "nothing else was asked");

    world.write("images.toml", IMAGES);
    // The shell's AWS settings are not for the emulated AWS.
    let run =
        world.xtask("transfer-images --dry-run REGION=eu-west-1").env("AWS_DEFAULT_REGION", "us-east-1").ok();
    assert!(!run.stderr.contains("us-east-1"), "{run}");
    let run = with_keys(outside(&world, "list-images REGION=eu-west-1", ""), "local");
    let run = run.env("AWS_DEFAULT_REGION", "us-east-1").ok();
    let first = run.stderr.lines().next().unwrap();
    assert_eq!(first, "warning: AWS_DEFAULT_REGION says us-east-1; this run works in eu-west-1");
    let config = "[profile far]\nregion = ap-south-1\n";
    let run = with_keys(outside(&world, "list-images REGION=eu-west-1", config), "local");
    let run = run.env("AWS_PROFILE", "far").ok();
    let first = run.stderr.lines().next().unwrap();
    assert_eq!(first, "warning: the AWS profile far says ap-south-1; this run works in eu-west-1");
}
