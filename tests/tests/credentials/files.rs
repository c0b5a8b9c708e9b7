//! Docker's configuration as found on real machines: empty, or with a helper that is not installed.

use e2e::{Images, World};

use super::Network;

const IMAGES: &str = r#"schema_version = 1
[images]
curl = "curlimages/curl:7.85.0"
"kedacore/keda" = "ghcr.io/kedacore/keda:2.11.2"
"#;

#[test]
fn an_empty_configuration_is_like_a_missing_one() {
    let Some(world) = World::new(Images::Small) else { return };
    world.write("images.toml", IMAGES);
    world.write("docker/config.json", "");
    let run = world.sourced().args("lock").ok();
    assert!(!run.stderr.contains("warning"), "{run}");
}

#[test]
fn a_missing_helper_only_stops_registries_that_need_a_login() {
    let Some(world) = World::new(Images::Small) else { return };
    world.write("images.toml", IMAGES);
    // As written by Docker Desktop in a WSL whose PATH lacks the directories of Windows.
    world.write("docker/config.json", r#"{ "credsStore": "desktop.exe" }"#);
    let warning = "names docker-credential-desktop.exe, which is not in PATH: registries are asked without its credentials";
    let run = world.sourced().args("lock").ok();
    assert_eq!(run.stderr.matches(warning).count(), 1, "{run}");

    // A registry that requires a login: its refusal is reported together with the helper.
    let network = Network::start();
    let ca = world.write("ca.pem", &network.authority.pem);
    world.write("images.toml", "schema_version = 1\n[images]\nimg = \"registry.corp/a/b:1\"\n");
    std::fs::remove_file(world.path("images.lock")).unwrap();
    let images = world.path("images.toml");
    let run = world.bare().arg("--images").arg(&images).args("lock").env("SSL_CERT_FILE", &ca);
    let run = run.env("HTTPS_PROXY", network.url()).env("HTTP_PROXY", network.url()).end();
    run.failed(7, &[warning, "registry.corp/a/b:1", "docker login registry.corp"]);
}
