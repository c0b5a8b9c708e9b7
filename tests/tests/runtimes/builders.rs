//! Builders that a team shares.

use std::os::unix::fs::PermissionsExt as _;

use e2e::{Builder, Project, read};

#[test]
fn a_team_builds_on_its_own_builder_with_a_cache_in_the_registry() {
    let Some(project) = Project::new() else { return };
    let (name, host, calls) = (&project.name, project.registry.host(), project.world.path("calls"));
    // A client with buildx that records its arguments, and builds nothing.
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *--help) echo ' --builder x\n --cache-from x\n --cache-to x\n --progress x';; \
         version*) echo linux/amd64;; *inspect*) echo 'No such image' >&2; exit 1;; 'build '*) echo \"$*\" >>'{}'; exit 1;; esac\n",
        calls.display()
    );
    std::fs::create_dir(project.world.path("bin")).unwrap();
    let client = project.world.write("bin/docker", &script);
    std::fs::set_permissions(&client, std::fs::Permissions::from_mode(0o755)).unwrap();
    let run = project.xtask("").arg("--registry").arg(host).arg("--container-cli").arg(&client);
    run.args("rebuild-runtimes --push --yes --builder team --registry-cache").end().failed(10, &[name]);
    let call = std::fs::read_to_string(calls).unwrap();
    let cache = format!("type=registry,ref={host}/lambda:{name}-cache-linux-amd64");
    let wanted = format!(
        "build --builder team --progress plain --cache-from {cache} --cache-to {cache},mode=max,image-manifest=true,oci-mediatypes=true "
    );
    assert!(call.starts_with(&wanted), "{call}");
    let alone = project.xtask("rebuild-runtimes --registry-cache").end();
    alone.failed(2, &["--push"]);
}

#[test]
fn a_remote_builder_builds_with_a_cache_in_the_registry() {
    let Some(project) = Project::with(Builder::BuildxContainerd) else { return };
    let (name, host) = (&project.name, project.registry.host());
    let config = project.world.path("docker");
    let buildx = |line: &[&str]| {
        read(project.world.engine.own_client().arg("buildx").args(line).env("DOCKER_CONFIG", &config));
    };
    buildx(&["create", "--name", "team", "--driver", "remote", &project.world.engine.buildkit()]);
    let push = || {
        let run = project.xtask("").arg("--registry").arg(host).args("rebuild-runtimes --push --yes -v");
        run.args("--builder team --registry-cache").ok()
    };
    push();
    let first = project.run(name);
    assert!(first.starts_with("hello\n"), "{first}");
    let of_cache = format!("{name}-cache-");
    let cache = project.tags().into_keys().find(|tag| tag.starts_with(&of_cache)).expect("a cache's tag");
    let kept = project.tags()[&cache].clone();
    // Only the entry point is different: the first step, which would print another number, is not run again.
    project.write("start", "#!/bin/sh\necho another\ncat /built\n");
    push();
    assert_ne!(project.tags()[&cache], kept);
    assert_eq!(project.run(name), first.replacen("hello", "another", 1));
}
