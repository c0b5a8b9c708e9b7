//! Every kind of resource that the module creates: if a run is killed after AWS has created one, before terraform could write it to
//! the state, everything can still be destroyed.

use e2e::{BOUND, INIT, World, completes, wait_for_terraform};
use grid::ResourceKind;
use rustix::process::Signal;

/// Every option that creates a resource.
const IMAGES: &str = r#"schema_version = 1
[images]
curl = "curlimages/curl:7.85.0"
[pull_through]
ecr-public = "public.ecr.aws"
[creation_template]
role_arn = "arn:aws:iam::123456789012:role/ecr-creation-template"
[repositories]
keep_builds = 2
pull_accounts = ["210987654321"]
"#;

#[test]
fn a_run_killed_at_any_kind_of_resource_can_be_destroyed() {
    let Some(world) = World::grid(IMAGES) else { return };
    world.xtask(INIT).ok();
    let aws = world.aws();
    let before = aws.emulator.resources();
    for kind in ResourceKind::ALL {
        // With its path: another action's name may start with it.
        let request = kind.creation().replace(':', " ");
        aws.emulator.quirks(&[&format!("hold-answer=1:{request} /")]);
        let mut run = world.xtask("auto-transfer-images").start();
        let (pid, held) = (run.pid(), aws.emulator.held(|| run.is_over()));
        run.signal(Signal::KILL);
        aws.emulator.quirks(&[]);
        let said = format!("{kind:?}: {}", run.end_within(BOUND));
        assert!(held.is_some(), "nothing is made of it: {said}");
        wait_for_terraform(pid, &said);
        assert!(!aws.emulator.resources()[kind.name()].is_empty(), "{said}");
        let destroyed = completes(&world, "auto-destroy-images", true, &said);
        assert_eq!(aws.emulator.resources(), before, "{said}\n{destroyed}");
    }
}
