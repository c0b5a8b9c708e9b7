//! Bad input: a clear error, the documented exit code, and nothing changed.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not marked as such")]

use std::os::unix::fs::PermissionsExt as _;

use e2e::{BUCKET, Ended, INTERRUPTED, Images, STATE, TERRAFORM, World, programs};
use serde_json::json;

const USAGE: i32 = 2;
const CONFIG: i32 = 3;
const MISSING_TOOL: i32 = 4;
const CREDENTIALS: i32 = 5;
const REFUSED: i32 = 6;
const DOCKER: i32 = 10;

/// One image, no runtime.
const ONE: &str = r#"schema_version = 1
[images]
curl = "curlimages/curl:7.85.0"
"#;

/// A runtime with a new name, which was never built.
const RUNTIME: &str = r#"schema_version = 1
[runtimes]
"python3.12" = { base = "public.ecr.aws/lambda/python:3.12", epoch = "never built" }
"#;

fn world(images: &str) -> Option<World> {
    let world = World::new(Images::Small)?;
    world.write("images.toml", images);
    Some(world)
}

/// A world with a state bucket and an initialised terraform, and nothing else.
fn initialised(images: &str) -> Option<World> {
    if !programs(&["terraform"]) {
        return None;
    }
    let world = world(images)?;
    world.xtask("init-images --create-state-bucket").ok();
    world.aws().emulator.forget();
    Some(world)
}

/// Checks that nothing was changed in the account.
fn unchanged(world: &World, run: &Ended) {
    assert_eq!(world.aws().emulator.changes(), Vec::<String>::new(), "{run}");
}

/// The emulated AWS was not started at all.
fn untouched(world: &World, run: &Ended) {
    assert_eq!(world.path("local").read_dir().unwrap().count(), 0, "{run}");
}

fn hint(run: &Ended) -> &str {
    let hint = run.stderr.lines().find(|line| line.starts_with("hint: "));
    hint.unwrap_or_else(|| panic!("no hint in\n{run}"))
}

#[test]
fn an_unknown_or_an_empty_variable_is_refused_by_name() {
    let Some(world) = world(ONE) else { return };
    for (arguments, words) in [
        (
            "transfer-images TAGS=x",
            &["unknown variable TAGS", "TAG, REGION, HTCGRID_REGION, REBUILD_RUNTIMES"][..],
        ),
        ("transfer-images TAG=", &["TAG= is empty", "leave it out for the default"]),
        ("transfer-images REGION= TAG=x", &["REGION= is empty"]),
        ("transfer-images REBUILD_RUNTIMES=maybe", &["maybe", "expected true or false"]),
        ("transfer-images TAG=a/b", &["a/b", "letters, digits"]),
        ("transfer-imagess", &["transfer-imagess", "transfer-images"]),
        ("transfer-images --only nothing", &["nothing", "curl"]),
    ] {
        let run = world.xtask(arguments).end();
        run.failed(USAGE, words);
        untouched(&world, &run);
    }
}

#[test]
fn all_mistakes_in_images_toml_are_reported_at_once_with_their_place() {
    let Some(world) = world(
        r#"schema_version = 1
colour = "blue"
[images]
curl = "curlimages/curl:7.85.0"
"curl:7.85.0" = "grafana/grafana:10.1.1"
keda = "ghcr.io//keda:2"
Upper = "busybox:1"
"#,
    ) else {
        return;
    };
    let run = world.xtask("transfer-images --auto-approve").end();
    run.failed(
        CONFIG,
        &[
            "images.toml",
            ":2:",
            "colour",
            ":5:",
            "curl:7.85.0",
            ":6:8: images.keda",
            "is not a repository",
            ":7:",
            "Upper",
        ],
    );
    untouched(&world, &run);
}

#[test]
fn an_images_toml_that_is_missing_is_named() {
    let Some(world) = world(ONE) else { return };
    std::fs::remove_file(world.path("images.toml")).unwrap();
    let run = world.xtask("transfer-images").end();
    run.failed(CONFIG, &["images.toml", "No such file"]);
    untouched(&world, &run);
}

#[test]
fn a_missing_state_bucket_is_named_and_not_created_unasked() {
    let Some(world) = world(ONE) else { return };
    if !programs(&["terraform"]) {
        return;
    }
    for command in ["init-images", "transfer-images --auto-approve", "destroy-images"] {
        let run = world.xtask(command).arg("S3_IMAGE_TFSTATE_HTCGRID_BUCKET_NAME=nobody-made-this").end();
        run.failed(CONFIG, &["nobody-made-this", "does not exist"]);
        assert!(hint(&run).contains("--create-state-bucket"), "{run}");
        unchanged(&world, &run);
    }
}

#[test]
fn missing_credentials_have_hints() {
    let Some(world) = world(ONE) else { return };
    for command in ["transfer-images", "init-images", "list-images", "ecr-login", "destroy-images"] {
        let run = world
            .sourced()
            .args(command)
            .env("AWS_CONFIG_FILE", "/dev/null")
            .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .end();
        run.failed(CREDENTIALS, &["credentials"]);
        assert!(hint(&run).contains("aws sso login") && hint(&run).contains("--local"), "{run}");
        untouched(&world, &run);
    }
}

#[test]
fn another_account_than_the_expected_one_is_refused() {
    let Some(world) = initialised(ONE) else { return };
    let run = world.xtask("transfer-images --auto-approve --expect-account 210987654321").end();
    run.failed(CREDENTIALS, &["123456789012", "210987654321"]);
    assert!(hint(&run).contains("--profile"), "{run}");
    unchanged(&world, &run);

    world.write("images.toml", &ONE.replace("[images]", "account = \"210987654321\"\n[images]"));
    let run = world.xtask("transfer-images --auto-approve").end();
    run.failed(CREDENTIALS, &["123456789012", "210987654321"]);
    unchanged(&world, &run);
}

#[test]
fn a_terraform_that_is_too_old_or_missing_is_found_before_anything_is_changed() {
    let Some(world) = initialised(ONE) else { return };
    let bin = world.path("bin");
    std::fs::create_dir(&bin).unwrap();
    let run = world.xtask("transfer-images --auto-approve").env("PATH", &bin).end();
    run.failed(MISSING_TOOL, &["neither terraform nor tofu"]);
    assert!(hint(&run).contains("1.11"), "{run}");
    unchanged(&world, &run);

    // OpenTofu before 1.10.2 omits the header for the bucket's encryption when it writes the lock.
    for (name, version, least) in
        [("terraform", "1.9.8", "1.11"), ("tofu", "1.10.0", "1.10.2"), ("tofu", "1.10.1", "1.10.2")]
    {
        let old = bin.join(name);
        std::fs::write(&old, format!("#!/bin/sh\necho '{{\"terraform_version\": \"{version}\"}}'\n"))
            .unwrap();
        std::fs::set_permissions(&old, std::fs::Permissions::from_mode(0o755)).unwrap();
        for command in ["transfer-images --auto-approve", "init-images"] {
            let run = world.xtask(command).env("PATH", &bin).end();
            run.failed(MISSING_TOOL, &[&format!("{name} {version} is too old"), least]);
            assert!(hint(&run).contains("https://"), "{run}");
            unchanged(&world, &run);
        }
        std::fs::remove_file(&old).unwrap();
    }
}

#[test]
fn a_locked_state_is_reported_with_its_holder_and_how_to_release_it() {
    let Some(world) = initialised(ONE) else { return };
    let lock = json!({
        "ID": "11111111-2222-3333-4444-555555555555", "Operation": "OperationTypeApply", "Info": "", "Who": "ada@laptop",
        "Version": "1.11.4", "Created": "2026-11-22T10:00:00.123456Z", "Path": format!("{BUCKET}/{STATE}"),
    });
    world.aws().s3.put(BUCKET, &format!("{STATE}.tflock"), lock.to_string().as_bytes());
    world.aws().emulator.forget();
    let run = world.xtask("transfer-images --auto-approve").end();
    run.failed(TERRAFORM, &["locked by ada@laptop", "2026-11-22"]);
    let hint = hint(&run);
    let release = "init-images --release-lock 11111111-2222-3333-4444-555555555555";
    assert!(hint.contains(&format!("cargo xtask {release}")), "{run}");
    assert!(hint.contains("--lock-timeout"), "{run}");
    unchanged(&world, &run);
    let after = world.aws().s3.get(BUCKET, &format!("{STATE}.tflock")).unwrap();
    assert_eq!(after, lock.to_string().as_bytes(), "the lock is the other run's");

    // The hint's advice works.
    world.xtask(release).ok();
    assert_eq!(world.aws().s3.get(BUCKET, &format!("{STATE}.tflock")), None);
    world.xtask("transfer-images --auto-approve").ok();
}

#[test]
fn a_running_transfer_is_reported_with_the_end_of_its_lease() {
    let Some(world) = initialised(ONE) else { return };
    let lease = json!({
        "who": "ada on laptop (process 7)", "grid": "mainline", "since": "2026-11-22T10:00:00Z", "expires": "2999-01-01T00:00:00Z",
    });
    world.aws().s3.put(BUCKET, &format!("{STATE}.transfer.lock"), lease.to_string().as_bytes());
    world.aws().emulator.forget();
    let run = world.xtask("transfer-images --auto-approve").end();
    run.failed(TERRAFORM, &["ada on laptop (process 7)", "mainline"]);
    assert!(hint(&run).contains("2999-01-01"), "{run}");
    unchanged(&world, &run);
}

#[test]
fn only_the_answer_yes_changes_anything() {
    let Some(world) = initialised(ONE) else { return };
    for answer in ["no\n", "y\n", "\n", "YES\n"] {
        let run = world.xtask("transfer-images").stdin(answer).end();
        run.failed(REFUSED, &["not confirmed; nothing was changed"]);
        unchanged(&world, &run);
    }
    let run = world.xtask("transfer-images").end();
    run.failed(REFUSED, &["this needs a confirmation and there is no terminal; nothing was changed"]);
    assert!(hint(&run).contains("--auto-approve"), "{run}");
    unchanged(&world, &run);

    // The plan was shown before the question, with the account first.
    let (plan, _) = run.stderr.split_once("Only `yes`").unwrap();
    let first = plan.lines().next().unwrap();
    assert!(["123456789012", "eu-west-1", "mainline"].iter().all(|word| first.contains(word)), "{run}");
    assert!(plan.contains("curl:7.85.0"), "{run}");

    let run = world.xtask("transfer-images --dry-run").ok();
    assert!(run.stderr.contains("nothing was changed"), "{run}");
    unchanged(&world, &run);
}

#[test]
fn ctrl_c_at_the_question_changes_nothing() {
    let Some(world) = initialised(ONE) else { return };
    let mut run = world.xtask("transfer-images").idle_user().start();
    run.wait_for("copy 1 image");
    run.signal(rustix::process::Signal::INT);
    let run = run.end();
    run.failed(INTERRUPTED, &["error: interrupted"]);
    unchanged(&world, &run);
}

#[test]
fn another_grids_state_is_not_adopted() {
    let Some(world) = initialised(ONE) else { return };
    let state = json!({
        "version": 4, "terraform_version": "1.11.4", "serial": 1, "lineage": "11111111-2222-3333-4444-555555555555",
        "outputs": { "tag": { "value": "prod", "type": "string" } }, "resources": [], "check_results": null,
    });
    world.aws().s3.put(BUCKET, STATE, state.to_string().as_bytes());
    world.aws().emulator.forget();
    for command in
        ["transfer-images TAG=dev --auto-approve", "init-images TAG=dev", "auto-destroy-images TAG=dev"]
    {
        let run = world.xtask(command).end();
        run.failed(CONFIG, &["belongs to the grid prod, not to dev", BUCKET]);
        assert!(hint(&run).contains("TAG=prod") && hint(&run).contains("--state-key .terraform/"), "{run}");
        unchanged(&world, &run);
    }
}

#[test]
fn a_state_encrypted_by_opentofu_is_not_treated_as_empty() {
    let Some(world) = initialised(ONE) else { return };
    let state = json!({
        "serial": 1, "lineage": "11111111-2222-3333-4444-555555555555", "meta": { "key_provider.pbkdf2.k": "eyJ9" },
        "encrypted_data": "b64", "encryption_version": "v0",
    });
    world.aws().s3.put(BUCKET, STATE, state.to_string().as_bytes());
    world.aws().emulator.forget();
    for command in [
        "transfer-images --auto-approve",
        "transfer-images --dry-run",
        "auto-destroy-images",
        "prune --yes",
        "init-images",
    ] {
        let run = world.xtask(command).end();
        run.failed(CONFIG, &["the terraform state is encrypted by OpenTofu"]);
        assert!(hint(&run).contains("take the state's encryption back"), "{run}");
        unchanged(&world, &run);
    }
}

#[test]
fn a_docker_engine_that_is_down_is_found_before_anything_is_changed() {
    if !programs(&["docker"]) {
        return;
    }
    let Some(world) = initialised(RUNTIME) else { return };
    let run = world
        .xtask("transfer-images --auto-approve")
        .env("DOCKER_HOST", "unix:///nonexistent/docker.sock")
        .end();
    run.failed(DOCKER, &["python3.12", "engine", "does not answer"]);
    hint(&run);
    unchanged(&world, &run);
}

#[test]
fn a_missing_docker_is_found_before_anything_is_changed() {
    let Some(world) = initialised(RUNTIME) else { return };
    let bin = world.path("bin");
    std::fs::create_dir(&bin).unwrap();
    std::os::unix::fs::symlink(e2e::program("terraform").unwrap(), bin.join("terraform")).unwrap();
    let run = world.xtask("transfer-images --auto-approve").env("PATH", &bin).end();
    run.failed(MISSING_TOOL, &["docker"]);
    hint(&run);
    unchanged(&world, &run);
}

#[test]
fn an_upstream_that_lacks_an_image_is_named_before_anything_is_changed() {
    let Some(world) = initialised(&ONE.replace("7.85.0", "0.0.0")) else { return };
    let run = world.xtask("transfer-images --auto-approve").end();
    run.failed(7, &["curlimages/curl:0.0.0"]);
    hint(&run);
    unchanged(&world, &run);
}
