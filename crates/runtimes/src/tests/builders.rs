//! The same with other builders than docker's legacy builder.

use docker::Builder;
use process::Cmd;

use super::world::{World, plan_one, run_one, skipped};
use crate::{Action, Why, apply, why};

/// A container client that does not exist: whatever needs one fails.
const NONE: &str = "no-such-container-client";

#[tokio::test(flavor = "multi_thread")]
async fn buildkit_builds_the_same_runtime() {
    let Some(client) = buildkit_client() else {
        skipped("buildkit", "a docker client with BuildKit (Debian's docker.io)");
        return;
    };
    let Some(world) = World::new("buildkit").await else { return };
    world.push_base("upstream/lambda/base", "v1").await;
    let runtime = world.runtime();
    let context = world.context(&client);
    assert_ne!(context.docker().await.unwrap().builder(), Builder::Legacy);
    let legacy = plan_one(&world.context("docker"), &runtime, false).await.key;
    for force in [false, true] {
        let (action, outcome) = run_one(&context, &runtime, force).await;
        assert_eq!(action, Action::Build { forced: force });
        assert!(outcome.result.unwrap().moved);
        assert!(world.run(&runtime.name).starts_with("well: hello\n"));
    }
    let planned = plan_one(&world.context(NONE), &runtime, false).await;
    assert_eq!((planned.action, planned.key), (Action::Nothing, legacy), "the builder is not in the key");
}

fn buildkit_client() -> Option<String> {
    let has_it = |path: &std::path::PathBuf| {
        let help = Cmd::new(path).env("DOCKER_BUILDKIT", "1").args(["build", "--help"]).read();
        help.is_ok_and(|help| help.contains("--progress"))
    };
    which::which_all("docker").ok()?.find(has_it).map(|path| path.display().to_string())
}

/// podman without its own network and crun, which a container inside a container often does not support; with a store of its own.
fn podman_client(room: &std::path::Path) -> Option<String> {
    let podman = which::which("podman").ok()?;
    let at = room.display();
    let conf = format!(
        "[containers]\nnetns = \"host\"\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n\
         [engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\ntmp_dir = \"{at}/tmp\"\n"
    );
    std::fs::write(room.join("containers.conf"), conf).unwrap();
    let storage =
        format!("[storage]\ndriver = \"vfs\"\nrunroot = \"{at}/run\"\ngraphroot = \"{at}/graph\"\n");
    std::fs::write(room.join("storage.conf"), storage).unwrap();
    let program = room.join("podman");
    let script = format!(
        "#!/bin/sh\nexport CONTAINERS_CONF='{at}/containers.conf' CONTAINERS_STORAGE_CONF='{at}/storage.conf'\nexec '{}' \"$@\"\n",
        podman.display()
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    Some(program.display().to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn podman_builds_a_runtime_that_docker_runs() {
    let Some(world) = World::new("podman").await else { return };
    let Some(client) = podman_client(world.room.path()) else {
        skipped("podman", "podman (apt-get install podman)");
        return;
    };
    world.push_base("upstream/lambda/base", "v1").await;
    let runtime = world.runtime();
    let mut context = world.context(&client);
    for force in [false, true] {
        let (action, outcome) = run_one(&context, &runtime, force).await;
        assert_eq!(action, Action::Build { forced: force });
        assert!(outcome.result.unwrap().moved);
        assert!(world.run(&runtime.name).starts_with("well: hello\n"));
    }
    assert_eq!(plan_one(&world.context(NONE), &runtime, false).await.action, Action::Nothing);
    context.repository = None;
    let planned = plan_one(&context, &runtime, false).await;
    assert_eq!(planned.action, Action::Nothing, "its own store has it");
    assert!(apply(&context, vec![planned]).await.remove(0).result.is_ok());
    let planned = plan_one(&context, &runtime, false).await;
    assert_eq!(why(&context, &planned).await.unwrap(), Why::Changes(Vec::new()));
}
