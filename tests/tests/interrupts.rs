//! Ctrl-C and SIGKILL at observed points: no partial result is visible, and the next run completes.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not marked as such")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use e2e::{
    BUCKET, Builder, DebianRegistry, Ended, Gate, INIT, INTERRUPTED, Images, LocalBuilds, STATE, TERRAFORM,
    World, get,
};
use rustix::process::{Signal, kill_process};
use serde_json::Value;

fn initialised() -> Option<World> {
    let world = World::small_grid()?;
    world.xtask(INIT).ok();
    Some(world)
}

/// In every case: each visible tag has all its bytes.
fn nothing_is_half_visible(world: &World) -> usize {
    world.aws().whole_tags().len()
}

/// A killed run cannot release its lease: the next run sees that its process has ended.
fn lease_is_left(world: &World) -> String {
    let lease: Value = serde_json::from_slice(&world.aws().s3.lock("transfer.lock").unwrap()).unwrap();
    lease["who"].as_str().unwrap().to_owned()
}

/// The next run completes, and the one after it has nothing to do.
fn the_next_run_completes(world: &World) -> Ended {
    let next = world.xtask("transfer-images --auto-approve").ok();
    let after = world.xtask("transfer-images --format json").ok();
    assert_eq!(after.json()["changed"], false, "{after}");
    let tags = world.aws().whole_tags();
    assert_eq!(
        tags.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        ["curl:7.85.0", "kedacore/keda:2.11.2"]
    );
    let aws = world.aws();
    assert!(aws.s3.lock("tflock").is_none() && aws.s3.lock("transfer.lock").is_none());
    next
}

#[test]
fn a_lease_is_only_taken_over_from_an_ended_process() {
    let Some(mut world) = initialised() else { return };
    let gate = Gate::before(&world.sources.host, |line| line.contains("/blobs/"));
    world.sources.route("ghcr.io", format!("http://{}/ghcr.io", gate.host()));
    let run = world.xtask("transfer-images --auto-approve").start();
    gate.wait();
    let who = lease_is_left(&world);
    assert!(who.contains(&format!("(process {})", run.pid())), "{who}");
    let early = world.xtask("transfer-images --auto-approve").end();
    early.failed(TERRAFORM, &[&who, "hint: ", "--lock-timeout"]);
    let aws = world.aws();
    let held = aws.s3.lock("transfer.lock").unwrap();

    run.signal(Signal::KILL);
    assert_eq!(run.end().code, None);
    gate.open();
    // From another machine the process cannot be checked: the run waits for the lease.
    let mut elsewhere: Value = serde_json::from_slice(&held).unwrap();
    elsewhere["process"]["host"] = "elsewhere".into();
    aws.s3.put(BUCKET, &format!("{STATE}.transfer.lock"), elsewhere.to_string().as_bytes());
    let early = world.xtask("transfer-images --auto-approve").end();
    early.failed(TERRAFORM, &[&who, "hint: ", elsewhere["expires"].as_str().unwrap()]);
    // A process that has the same ID since then is a different one.
    let mut reused: Value = serde_json::from_slice(&held).unwrap();
    reused["process"]["pid"] = std::process::id().into();
    aws.s3.put(BUCKET, &format!("{STATE}.transfer.lock"), reused.to_string().as_bytes());
    let next = the_next_run_completes(&world);
    assert!(next.stderr.contains(&format!("took over the lease of {who}, whose process is gone")), "{next}");
}

#[test]
fn ctrl_c_during_terraforms_apply_leaves_a_usable_state() {
    let Some(world) = initialised() else { return };
    let aws = world.aws();
    let mut run = world.xtask("transfer-images --auto-approve").start();
    // The first resource exists; AWS sends no further answer until the signal has arrived, so the apply cannot have ended.
    run.wait_for(": done");
    kill_process(aws.pid, Signal::STOP).unwrap();
    run.signal(Signal::INT);
    kill_process(aws.pid, Signal::CONT).unwrap();
    let run = run.end();
    run.failed(INTERRUPTED, &["error: interrupted"]);
    assert!(aws.s3.lock("tflock").is_none(), "terraform's lock stays: {run}");
    assert!(aws.s3.lock("transfer.lock").is_none(), "the lease stays: {run}");
    assert_eq!(nothing_is_half_visible(&world), 0);
    // What terraform had begun is in its state, and the account has nothing else.
    let state: Value = serde_json::from_slice(&aws.s3.get(BUCKET, STATE).unwrap()).unwrap();
    let resources = state["resources"].as_array().unwrap().iter();
    let owned: usize = resources
        .filter(|resource| resource["type"] == "aws_ecr_repository")
        .map(|resource| resource["instances"].as_array().unwrap().len())
        .sum();
    assert_eq!(owned, aws.repositories().len(), "{state}");
    the_next_run_completes(&world);
}

#[test]
fn ctrl_c_during_a_copy_ends_it_at_once_and_releases_the_locks() {
    let Some(mut world) = initialised() else { return };
    let blobs = AtomicUsize::new(0);
    let gate = Gate::before(&world.sources.host, move |line| {
        line.contains("/blobs/") && blobs.fetch_add(1, Ordering::Relaxed) >= 2
    });
    world.sources.route("ghcr.io", format!("http://{}/ghcr.io", gate.host()));
    let run = world.xtask("transfer-images --auto-approve").start();
    gate.wait();
    run.signal(Signal::INT);
    let run = run.end();
    run.failed(INTERRUPTED, &["error: interrupted"]);
    let aws = world.aws();
    assert!(aws.s3.lock("tflock").is_none() && aws.s3.lock("transfer.lock").is_none(), "{run}");
    assert!(nothing_is_half_visible(&world) <= 1);
    gate.open();
    the_next_run_completes(&world);
}

#[test]
fn sigkill_during_a_copy_leaves_no_tag_without_its_blobs() {
    let Some(mut world) = initialised() else { return };
    let blobs = AtomicUsize::new(0);
    let gate = Gate::before(&world.sources.host, move |line| {
        line.contains("/blobs/") && blobs.fetch_add(1, Ordering::Relaxed) >= 3
    });
    world.sources.route("ghcr.io", format!("http://{}/ghcr.io", gate.host()));
    let run = world.xtask("transfer-images --auto-approve").start();
    gate.wait();
    run.signal(Signal::KILL);
    assert_eq!(run.end().code, None);
    let tags = world.aws().whole_tags();
    assert!(!tags.iter().any(|(name, _)| name.starts_with("kedacore")), "{tags:?}");
    gate.open();
    let who = lease_is_left(&world);
    world.sources.forget();
    let next = the_next_run_completes(&world);
    assert!(next.stderr.contains(&who), "{next}");
}

#[test]
fn sigkill_between_push_and_tag_loses_no_blob_and_shows_no_tag() {
    let Some(world) = initialised() else { return };
    let aws = world.aws();
    // ECR shows a finished layer to manifests late, here never: every blob exists, and no manifest can be put.
    aws.emulator.quirks(&["blob-unknown-lag=86400000"]);
    aws.emulator.forget();
    let run = world.xtask("transfer-images --auto-approve").start();
    let refused =
        |entry: &Value| entry["action"] == "PUT manifest" && entry["status"].as_u64().unwrap() >= 400;
    let started = std::time::Instant::now();
    while !aws.emulator.log().iter().any(refused) {
        assert!(started.elapsed().as_secs() < 300, "no manifest was put");
        std::thread::yield_now();
    }
    run.signal(Signal::KILL);
    assert_eq!(run.end().code, None);
    assert_eq!(aws.whole_tags(), []);
    aws.emulator.quirks(&[]);
    let who = lease_is_left(&world);
    aws.emulator.forget();
    let next = the_next_run_completes(&world);
    assert!(next.stderr.contains(&who), "{next}");
}

#[test]
fn sigkill_between_a_child_and_its_index_shows_no_tag() {
    let Some(world) = initialised() else { return };
    let Some(registry) = DebianRegistry::start() else { return };
    // The tag is the last request of an image: it is held, and the run is killed while it waits for the answer.
    let seen = std::sync::Arc::new(Mutex::new(Vec::new()));
    let noted = std::sync::Arc::clone(&seen);
    let gate = Gate::before(registry.host(), move |line| {
        noted.lock().unwrap().push(line.to_owned());
        line.starts_with("PUT ") && line.contains("/keda/manifests/2.11.2")
    });
    let run = world
        .sourced()
        .arg("--registry")
        .arg(format!("{}/htc", gate.host()))
        .args("transfer-images --auto-approve")
        .start();
    gate.wait();
    run.signal(Signal::KILL);
    assert_eq!(run.end().code, None);
    let children = seen
        .lock()
        .unwrap()
        .iter()
        .filter(|line| line.starts_with("PUT ") && line.contains("/keda/manifests/sha256:"))
        .count();
    assert!(children >= 4, "{:?}", seen.lock().unwrap());
    let tags = get(&format!("http://{}/v2/htc/kedacore/keda/tags/list", registry.host()));
    assert!(tags.status == 404 || tags.json()["tags"].is_null(), "{tags:?}");

    // The next run only sends the tag: everything else exists.
    seen.lock().unwrap().clear();
    world.sources.forget();
    let next = world
        .sourced()
        .arg("--registry")
        .arg(format!("{}/htc", registry.host()))
        .args("transfer-images --auto-approve --only kedacore/keda");
    next.ok();
    assert_eq!(world.sources.requests().get("oci GET blob"), None, "{:?}", world.sources.requests());
    let tags = get(&format!("http://{}/v2/htc/kedacore/keda/tags/list", registry.host()));
    assert_eq!(tags.json()["tags"], serde_json::json!(["2.11.2"]));
}

/// A runtime that was never built, and its name.
fn runtime(world: &World) -> String {
    let name = format!("e2e-{}", world.path("").file_name().unwrap().to_string_lossy().to_lowercase());
    let toml = format!(
        "schema_version = 1\n[runtimes]\n\"{name}\" = {{ base = \"public.ecr.aws/lambda/python:3.12\", epoch = \"{name}\" }}\n"
    );
    world.write("images.toml", &toml);
    name
}

/// What a directory contains, at any depth.
fn left(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = directory.read_dir().unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { [vec![path.clone()], left(&path)].concat() } else { vec![path] })
        .collect()
}

e2e::on_each_builder!(ctrl_c_during_a_build_leaves_no_credential_and_no_tag);

fn ctrl_c_during_a_build_leaves_no_credential_and_no_tag(builder: Builder) {
    let Some(engine) = builder.engine() else { return };
    let (Some(world), Some(registry)) = (World::on(Images::Full, &engine), DebianRegistry::start()) else {
        return;
    };
    let _built = LocalBuilds { engine, name: runtime(&world) };
    let temporary = world.path("tmp");
    std::fs::create_dir(&temporary).unwrap();
    let transfer = || {
        let run =
            world.sourced().arg("--registry").arg(registry.host()).args("transfer-images --auto-approve");
        run.env("TMPDIR", &temporary)
    };
    let mut run = transfer().start();
    run.wait_for("building for linux/amd64");
    run.signal(Signal::INT);
    let run = run.end();
    run.failed(INTERRUPTED, &["error: interrupted"]);
    assert_eq!(left(&temporary), Vec::<std::path::PathBuf>::new(), "{run}");
    let scratch = world.path("target/xtask/scratch");
    assert!(!scratch.exists() || scratch.read_dir().unwrap().count() == 0, "{run}");
    assert_eq!(get(&format!("http://{}/v2/lambda/tags/list", registry.host())).status, 404, "{run}");
    transfer().ok();
    assert_eq!(left(&temporary), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_killed_emulated_aws_keeps_its_data() {
    let Some(world) = initialised() else { return };
    world.xtask("transfer-images --auto-approve").ok();
    let (before, aws) = (world.aws().whole_tags(), world.aws());
    kill_process(aws.pid, Signal::KILL).unwrap();
    let after = world.xtask("transfer-images --format json").ok();
    assert_eq!(after.json()["changed"], false, "{after}");
    assert_ne!(world.aws().pid, aws.pid);
    assert_eq!(world.aws().host, aws.host, "the port is kept: images are named by it");
    assert_eq!(world.aws().whole_tags(), before);
}
