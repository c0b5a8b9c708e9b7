//! Runs that are interrupted, or that may not start.

use e2e::{BUCKET, DebianRegistry, Gate, Running, STATE};
use rustix::process::Signal;
use serde_json::json;

use super::{IMAGES, TRANSFER, at, initialised, reads, reads_at, reads_whole, take_lease, world};

const TWO: &str = "schema_version = 1\n[images]\ncurl = \"curlimages/curl:7.85.0\"\nkeda = \"ghcr.io/kedacore/keda:2.11.2\"\n";

#[test]
fn a_dry_run_with_keep_going_has_the_real_runs_exit_code() {
    let (Some(mut world), Some(registry)) = (world(), DebianRegistry::start()) else { return };
    world.write("images.toml", TWO);
    world.sources.route("docker.io", "http://127.0.0.1:1".to_owned());
    let masks = [(registry.host(), "REGISTRY")];
    let dry = at(&world, registry.host(), "transfer-images --keep-going --dry-run").end();
    reads_whole(&world, "dry-run-keep-going", &dry, &masks);
    let run = at(&world, registry.host(), "transfer-images --keep-going --auto-approve").end();
    reads_at(&world, "keep-going", &run, registry.host());
}

/// Ctrl-C, and how the run ends.
fn interrupted(run: Running) -> e2e::Ended {
    run.signal(Signal::INT);
    run.end()
}

#[test]
fn ctrl_c_reports_what_is_done_and_what_is_not() {
    let (Some(mut world), Some(registry)) = (world(), DebianRegistry::start()) else { return };
    world.write("images.toml", TWO);
    let gate = Gate::before(&world.sources.host, |line| line.starts_with("HEAD"));
    let ghcr = |world: &mut e2e::World, gate: &Gate| {
        world.sources.route("ghcr.io", format!("http://{}/ghcr.io", gate.host()));
    };
    ghcr(&mut world, &gate);
    let run = at(&world, registry.host(), TRANSFER).start();
    gate.wait();
    reads(&world, "interrupted-planning", &interrupted(run));

    let gate = Gate::before(&world.sources.host, |line| line.starts_with("GET") && line.contains("/blobs/"));
    ghcr(&mut world, &gate);
    let mut run = at(&world, registry.host(), TRANSFER).start();
    run.wait_for("curl:7.85.0: copied");
    gate.wait();
    reads(&world, "interrupted-copying", &interrupted(run));

    let gate = Gate::before(&world.sources.host, |_| false);
    ghcr(&mut world, &gate);
    let mut run = at(&world, registry.host(), "transfer-images").idle_user().start();
    run.wait_for("copy 1 image");
    reads(&world, "interrupted-at-the-question", &interrupted(run));
}

#[test]
fn another_run_holds_the_lease() {
    let Some(world) = initialised() else { return };
    take_lease(&world);
    reads(&world, "lease-held", &world.xtask(TRANSFER).end());
    reads(&world, "lease-waited-for", &world.xtask(TRANSFER).args("--lock-timeout 1").end());
    let lock = json!({
        "ID": "11111111-2222-3333-4444-555555555555", "Operation": "OperationTypeApply", "Info": "", "Who": "ada@laptop",
        "Version": "1.11.4", "Created": "2026-11-22T10:00:00.123456Z", "Path": format!("{BUCKET}/{STATE}"),
    });
    world.aws().s3.put(BUCKET, &format!("{STATE}.tflock"), lock.to_string().as_bytes());
    reads(&world, "state-locked", &world.xtask(TRANSFER).end());
}

#[test]
fn a_state_of_another_grid() {
    let Some(world) = initialised() else { return };
    let state = json!({
        "version": 4, "terraform_version": "1.11.4", "serial": 1, "lineage": "11111111-2222-3333-4444-555555555555",
        "outputs": { "tag": { "value": "prod", "type": "string" } }, "resources": [], "check_results": null,
    });
    world.aws().s3.put(BUCKET, STATE, state.to_string().as_bytes());
    world.write("images.toml", IMAGES);
    reads(&world, "state-of-another-grid", &world.xtask(TRANSFER).args("TAG=dev").end());
}
