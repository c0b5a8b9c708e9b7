//! The logins, and who gets a secret.

use base64::Engine as _;
use e2e::{Ended, Images, World, docker, engine, files_with, get, programs, read};
use serde_json::Value;

use super::IMAGES;

/// The secrets that no output and no file may contain.
fn secrets(world: &World) -> Vec<String> {
    let (user, password) = world.aws().login();
    // Every token starts with the same bytes: account and region come first in it.
    let basic = base64::prelude::BASE64_STANDARD.encode(format!("{user}:{password}"));
    vec![password[..24].to_owned(), basic[..24].to_owned()]
}

fn tells_none(world: &World, run: &Ended) {
    for secret in secrets(world) {
        assert!(!run.stdout.contains(&secret) && !run.stderr.contains(&secret), "{run}");
        assert_eq!(
            files_with(["home", "local", "target/xtask"].map(|name| world.path(name)), &secret),
            Vec::<std::path::PathBuf>::new()
        );
    }
}

#[test]
fn only_a_login_writes_dockers_configuration_and_no_secret_is_printed() {
    if !docker() {
        return;
    }
    let Some(world) = World::grid(IMAGES) else { return };
    let files = || world.path("docker").read_dir().unwrap().count();
    for line in [
        "init-images --create-state-bucket",
        "transfer-images --auto-approve",
        "transfer-images",
        "list-images",
        "destroy-images --dry-run",
    ] {
        let run = world.xtask(line).arg("--verbose").ok();
        tells_none(&world, &run);
        assert_eq!(files(), 0, "{line} wrote docker's configuration");
    }
    let login = world.xtask("ecr-login --verbose").ok();
    tells_none(&world, &login);
    let config: Value =
        serde_json::from_slice(&std::fs::read(world.path("docker/config.json")).unwrap()).unwrap();
    assert!(config["auths"][&world.aws().host].is_object(), "{config}");
    assert_eq!(files(), 1);
    assert!(!world.path("home/.docker").exists());
    // Docker itself can pull with it, and a transfer leaves it unchanged.
    let before = std::fs::read(world.path("docker/config.json")).unwrap();
    let image = format!("{}/curl:7.85.0", world.aws().host);
    read(
        engine()
            .args(["manifest", "inspect", "--insecure", &image])
            .env("DOCKER_CONFIG", world.path("docker")),
    );
    world.sources.store.touch("docker.io/curlimages/curl:7.85.0").unwrap();
    world.xtask("transfer-images --auto-approve").ok();
    assert_eq!(std::fs::read(world.path("docker/config.json")).unwrap(), before);
    assert_eq!(get(&format!("http://{}/_local/requests", world.aws().host)).status, 200);
}

/// A docker client that records its arguments and its input at a login, and passes everything else to the real one.
fn listening_docker(world: &World) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::create_dir(world.path("bin")).unwrap();
    let heard = world.path("heard");
    let script = format!(
        "#!/bin/sh\ncase \" $* \" in *' login '*) echo \"$*\" >>'{0}.args'; cat >>'{0}.stdin'; echo >>'{0}.stdin' ;; \
         *) exec '{1}' \"$@\" ;; esac\n",
        heard.display(),
        e2e::program("docker").unwrap().display()
    );
    let client = world.write("bin/docker", &script);
    std::fs::set_permissions(&client, std::fs::Permissions::from_mode(0o755)).unwrap();
    format!("{}:{}", world.path("bin").display(), std::env::var("PATH").unwrap())
}

#[test]
fn the_logins_pass_the_token_to_docker_only_through_stdin() {
    if !programs(&["docker"]) {
        return;
    }
    let Some(world) = World::new(Images::Small) else { return };
    world.write("images.toml", IMAGES);
    let path = listening_docker(&world);
    let run = world.xtask("docker-registry-login --verbose").env("PATH", &path).ok();
    tells_none(&world, &run);
    let arguments = std::fs::read_to_string(world.path("heard.args")).unwrap();
    let logins: Vec<&str> = arguments.lines().collect();
    assert_eq!(logins.len(), 2, "{arguments}");
    for (login, host) in logins.iter().zip([world.aws().host.as_str(), "public.ecr.aws"]) {
        assert!(
            login.contains("--username AWS") && login.contains("--password-stdin") && login.ends_with(host),
            "{login}"
        );
    }
    let told = std::fs::read_to_string(world.path("heard.stdin")).unwrap();
    assert_eq!(told.lines().filter(|line| !line.is_empty()).count(), 2);
    let ours = &secrets(&world)[0];
    assert!(told.contains(ours) && !arguments.contains(ours));
    for command in ["ecr-login", "public-ecr-login"] {
        world.xtask(command).env("PATH", &path).ok();
    }
    let arguments = std::fs::read_to_string(world.path("heard.args")).unwrap();
    assert_eq!(
        arguments.lines().map(|line| line.ends_with("public.ecr.aws")).collect::<Vec<_>>(),
        [false, true, false, true]
    );
}
