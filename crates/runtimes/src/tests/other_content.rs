//! Builders that build other files than they are given.

use std::os::unix::fs::PermissionsExt as _;

use process::Cmd;

use super::world::{World, run_one};
use crate::{Action, RuntimeError};

/// A client whose builds get a changed copy of the context, except with `--no-cache` if `always` is not set.
fn wrong_client(world: &World, always: bool) -> String {
    let program = world.room.path().join("docker");
    let text = format!(
        r#"#!/bin/bash
[ "$1" = build ] && [ $# -gt 2 ] || exec docker "$@"
echo "$*" >>"$0.builds"
case " $* " in *" --no-cache "*) {always} || exec docker "$@";; esac
copy=$(mktemp -d) && trap 'rm -r "$copy"' EXIT
cp -a "${{@: -1}}/." "$copy" && echo hallo >"$copy/say"
docker "${{@:1:$#-1}}" "$copy"
"#
    );
    std::fs::write(&program, text).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    program.display().to_string()
}

/// For each build: whether it had `--no-cache`.
fn builds(world: &World) -> Vec<bool> {
    let builds = std::fs::read_to_string(world.room.path().join("docker.builds")).unwrap_or_default();
    builds.lines().map(|line| line.contains(" --no-cache ")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_with_wrong_files_is_rebuilt_without_the_cache() {
    let Some(world) = World::new("other").await else { return };
    world.push_base("upstream/lambda/base", "v1").await;
    let runtime = world.runtime();
    let context = world.context(&wrong_client(&world, false));
    let (action, outcome) = run_one(&context, &runtime, false).await;
    assert_eq!(action, Action::Build { forced: false });
    assert!(outcome.result.unwrap().built);
    assert!(world.run(&runtime.name).starts_with("well: hello"));
    assert_eq!(builds(&world), [false, true]);
    let warnings = world.fake.warnings.lock().unwrap().clone();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].starts_with("builds once more, without the builder's cache: lambda:")
            && warnings[0].contains(
                " was not built from its inputs: Dockerfile:4: COPY say /say: say is in the image with"
            ),
        "{warnings:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_modified_local_build_is_built_again() {
    let Some(world) = World::new("changed").await else { return };
    world.push_base("upstream/lambda/base", "v1").await;
    let runtime = world.runtime();
    let mut context = world.context("docker");
    context.repository = None;
    let local = run_one(&context, &runtime, false).await.1.result.unwrap().local.remove(0);
    // Another file is added to it.
    let files = tempfile::tempdir().unwrap();
    std::fs::write(files.path().join("Dockerfile"), format!("FROM {local}\nCOPY say /say\n")).unwrap();
    std::fs::write(files.path().join("say"), "hallo\n").unwrap();
    let directory = files.path().display().to_string();
    Cmd::new("docker").args(["build", "--quiet", "--no-cache", "--tag", &local, &directory]).read().unwrap();

    let context = world.context("docker");
    let (action, outcome) = run_one(&context, &runtime, false).await;
    assert_eq!(action, Action::Push);
    assert!(outcome.result.unwrap().built);
    assert!(world.run(&runtime.name).starts_with("well: hello"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_is_wrong_without_the_cache_moves_no_tag() {
    let Some(world) = World::new("wrong").await else { return };
    world.push_base("upstream/lambda/base", "v1").await;
    let runtime = world.runtime();
    let context = world.context(&wrong_client(&world, true));
    for (forced, wanted) in [(false, vec![false, true]), (true, vec![false, true, true])] {
        let error = run_one(&context, &runtime, forced).await.1.result.unwrap_err();
        assert!(matches!(error, RuntimeError::NotItsInputs { .. }), "{error}");
        assert!(error.hint().unwrap().contains("without its cache too"));
        assert_eq!(builds(&world), wanted);
        assert_eq!((world.tag(&runtime.name).await, world.tag_count().await), (None, 0));
    }
    assert_eq!(std::fs::read_dir(&context.scratch).unwrap().count(), 0, "nothing is left on the disk");
}
