//! Superseded builds are removed from the local store.

use process::Cmd;

use super::world::{World, run_one};
use crate::Action;

#[tokio::test]
async fn older_local_builds_are_removed_unless_a_container_uses_them() {
    let Some(world) = World::new("tidy").await else { return };
    world.push_base("upstream/lambda/base", "one").await;
    let docker = |args: &[&str]| Cmd::new("docker").args(args.to_vec()).read().unwrap();
    let mut context = world.context("docker");
    context.repository = None;
    let mut runtime = world.runtime();
    // A user's own image with a similar name, without our label.
    let foreign = format!("lambda:{}-k1-{}", runtime.name, "a".repeat(64));
    let probe = world.room.path().join("probe");
    std::fs::create_dir(&probe).unwrap();
    std::fs::write(probe.join("Dockerfile"), "FROM scratch\nLABEL a=b\n").unwrap();
    Cmd::new("docker")
        .env("DOCKER_BUILDKIT", "0")
        .args(["build", "--quiet", "--no-cache", "--tag", &foreign])
        .arg(&probe)
        .read()
        .unwrap();

    let (mut names, mut container) = (Vec::new(), String::new());
    for epoch in 1..=6 {
        runtime.epoch = Some(epoch.to_string());
        let (action, outcome) = run_one(&context, &runtime, false).await;
        assert_eq!(action, Action::Build { forced: false });
        names.push(outcome.result.unwrap().local.remove(0));
        if epoch == 2 {
            container = docker(&["create", &names[1]]);
        }
    }
    let format = ["image", "ls", "--format", "{{.Repository}}:{{.Tag}}", "lambda"];
    let listed = docker(&format);
    let mut left: Vec<&str> = listed.lines().filter(|name| name.contains(&runtime.name)).collect();
    left.sort_unstable();
    let own = format!("lambda:{}", runtime.name);
    let mut wanted = vec![&own, &foreign, &names[1], &names[3], &names[4], &names[5]];
    wanted.sort_unstable();
    assert_eq!(left, wanted);
    let lines = world.fake.lines.lock().unwrap().clone();
    assert!(lines.iter().any(|line| line == "1 older build removed from the local engine"), "{lines:?}");

    docker(&["rm", &container]);
    runtime.epoch = Some("7".to_owned());
    run_one(&context, &runtime, false).await.1.result.unwrap();
    let listed = docker(&format);
    assert!(
        !listed.contains(&names[1]) && !listed.contains(&names[3]) && listed.contains(&names[4]),
        "{listed}"
    );
}

#[tokio::test]
async fn a_build_without_the_cache_leaves_no_untagged_image() {
    let Some(world) = World::new("nameless").await else { return };
    world.push_base("upstream/lambda/base", "one").await;
    let mut context = world.context("docker");
    context.repository = None;
    let runtime = world.runtime();
    let mut ids = std::collections::BTreeSet::new();
    for force in [false, true, true] {
        let name = run_one(&context, &runtime, force).await.1.result.unwrap().local.remove(0);
        let key = name.rsplit('-').next().unwrap().to_owned();
        let filter = format!("label=io.htc-grid.build-key={key}");
        let list = ["image", "ls", "--no-trunc", "--quiet", "--filter", &filter];
        let listed = Cmd::new("docker").args(list.to_vec()).read().unwrap();
        let listed: std::collections::BTreeSet<String> = listed.lines().map(str::to_owned).collect();
        assert_eq!(listed.len(), 1, "{listed:?}");
        ids.extend(listed);
    }
    assert_eq!(ids.len(), 3, "each was built anew");
}
