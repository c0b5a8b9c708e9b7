//! Clients that are not on every machine, tested by their command lines.

use std::os::unix::fs::PermissionsExt as _;

use process::KillHandle;

use super::*;

const BUILDX_HELP: &str = "Options:\n      --builder string\n      --cache-from stringArray\n      --cache-to stringArray\n  \
    -f, --file string\n      --load  Shorthand\n      --platform stringArray\n      --progress string\n      \
    --provenance string\n      --sbom string\n      --build-arg stringArray\n";
const CLASSIC_HELP: &str = "Options:\n      --build-arg list\n      --cache-from strings\n  -f, --file string\n      \
    --platform string\n";

/// A client with this name that records its arguments and environment and runs `script`.
fn client(name: &str, script: &str) -> (tempfile::TempDir, String) {
    let room = tempfile::tempdir().unwrap();
    let program = room.path().join(name);
    let log = room.path().join("log");
    let text = format!(
        "#!/bin/sh\nprintf '%s\\n' \"bk=$DOCKER_BUILDKIT att=$BUILDX_NO_DEFAULT_ATTESTATIONS $*\" >> '{}'\n{script}\n",
        log.display()
    );
    std::fs::write(&program, text).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let program = program.display().to_string();
    (room, program)
}

fn log(room: &tempfile::TempDir) -> Vec<String> {
    std::fs::read_to_string(room.path().join("log")).unwrap().lines().map(str::to_owned).collect()
}

fn build() -> Build {
    Build {
        context: BuildContext::Directory("/ctx".into()),
        dockerfile: "/Dockerfile".into(),
        ignore: "/Dockerfile.dockerignore".into(),
        tags: vec!["lambda:x".into()],
        platform: Some("linux/amd64".into()),
        args: [("A".to_owned(), "1".to_owned())].into(),
        target: None,
        labels: [("l".to_owned(), "v w".to_owned())].into(),
        no_cache: false,
        pull: false,
        base: Some("127.0.0.1:5000/b@sha256:0".into()),
        builder: None,
        cache: None,
    }
}

const COMMON: &str =
    "--file /Dockerfile --platform linux/amd64 --build-arg A=1 --label l=v w --tag lambda:x /ctx";

#[tokio::test]
async fn buildx_gets_its_flags_and_no_attestations() {
    let script = format!("case \"$*\" in 'build --help') printf '%s' '{BUILDX_HELP}';; esac");
    let (room, program) = client("docker", &script);
    let docker = Docker::find(Some(&program)).await.unwrap();
    assert_eq!(docker.builder(), Builder::Buildx);
    let cache = Cache { reference: "r/lambda:cache".into(), write: true };
    let wanted =
        Build { builder: Some("team".into()), cache: Some(cache), no_cache: true, pull: true, ..build() };
    docker.build(&wanted, None, KillHandle::default(), |_| {}).await.unwrap();
    let expected = format!(
        "bk=1 att=1 build --builder team --provenance=false --sbom=false --progress plain --load \
         --cache-from type=registry,ref=r/lambda:cache --cache-to \
         type=registry,ref=r/lambda:cache,mode=max,image-manifest=true,oci-mediatypes=true --no-cache --pull {COMMON}"
    );
    assert_eq!(log(&room).last().unwrap(), &expected);
}

#[tokio::test]
async fn a_client_that_shows_the_plugins_help_is_not_asked_for_the_plugin() {
    for (usage, asked) in
        [("Usage:  docker buildx build [OPTIONS]\n", 1), ("Usage:  docker build [OPTIONS]\n", 2)]
    {
        let script = format!("case \"$*\" in 'build --help') printf '%s' '{usage}{BUILDX_HELP}';; esac");
        let (room, program) = client("docker", &script);
        assert_eq!(Docker::find(Some(&program)).await.unwrap().builder(), Builder::Buildx);
        assert_eq!(log(&room).len(), asked, "{usage}");
    }
}

#[tokio::test]
async fn a_client_without_buildx_uses_the_legacy_builder_and_reports_what_it_lacks() {
    let script = format!(
        "case \"$DOCKER_BUILDKIT $*\" in '1 build --help') exit 1;; *'build --help') printf '%s' '{CLASSIC_HELP}';; \
         *'buildx version') exit 1;; esac"
    );
    let (room, program) = client("docker", &script);
    let docker = Docker::find(Some(&program)).await.unwrap();
    assert_eq!(docker.builder(), Builder::Legacy);
    docker.build(&build(), None, KillHandle::default(), |_| {}).await.unwrap();
    assert_eq!(log(&room).last().unwrap(), &format!("bk=0 att= build {COMMON}"));
    let wanted = Build { no_cache: true, ..build() };
    docker.build(&wanted, None, KillHandle::default(), |_| {}).await.unwrap();
    assert_eq!(log(&room).last().unwrap(), &format!("bk=0 att= build --no-cache {COMMON}"));
    let wanted = Build { builder: Some("team".into()), ..build() };
    let error = docker.build(&wanted, None, KillHandle::default(), |_| {}).await.unwrap_err();
    assert_eq!(error.to_string(), "docker cannot use a named builder: its `build` has no --builder");
}

#[tokio::test]
async fn podman_nerdctl_and_finch_get_the_option_for_plain_http_on_loopback() {
    let script = format!("case \"$*\" in 'build --help') printf '%s' '{CLASSIC_HELP}';; esac");
    for (name, before) in [
        ("podman", "build --format docker --tls-verify=false "),
        ("nerdctl", "--insecure-registry build "),
        ("finch", "--insecure-registry build "),
    ] {
        let (room, program) = client(name, &script);
        let docker = Docker::find(Some(&program)).await.unwrap();
        assert_eq!(docker.builder(), Builder::Own);
        docker.build(&build(), None, KillHandle::default(), |_| {}).await.unwrap();
        assert_eq!(log(&room).last().unwrap(), &format!("bk= att= {before}{COMMON}"));
    }
}

#[tokio::test]
async fn the_password_goes_through_stdin_into_the_users_own_configuration() {
    let script = "case \"$1\" in login) echo \"config=$DOCKER_CONFIG stdin=$(cat)\" >> \"${0%/*}/log\";; esac; \
                  echo '--progress'";
    let (room, program) = client("docker", script);
    let config = PrivateConfig::create(&[]).unwrap();
    let docker = Docker::find(Some(&program)).await.unwrap().with_config(&config);
    docker.login("r.example", "AWS", Secret::new("hunter2")).await.unwrap();
    let log = log(&room);
    assert!(log[log.len() - 2].ends_with("login --username AWS --password-stdin r.example"), "{log:?}");
    assert!(log[log.len() - 1].ends_with("stdin=hunter2"));
    assert!(!log[log.len() - 1].contains(&config.path().display().to_string()));
}

#[tokio::test]
async fn logins_in_the_users_variable_do_not_override_the_runs_own() {
    process::hand_down(AUTH_VARIABLE, "{}");
    let (_room, program) = client("docker", "echo \"--progress [$DOCKER_AUTH_CONFIG]\"");
    let docker = Docker::find(Some(&program)).await.unwrap();
    assert_eq!(docker.command().read().unwrap(), "--progress [{}]");
    let config = PrivateConfig::create(&[]).unwrap();
    assert_eq!(docker.with_config(&config).command().read().unwrap(), "--progress []");
}

#[tokio::test]
async fn an_engine_that_is_down_or_denied_is_distinguished_from_a_failure() {
    for (said, wanted) in [
        (
            "Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?",
            "the engine behind docker does not answer: ",
        ),
        (
            "Got permission denied while trying to connect to the Docker daemon socket",
            "this user may not use the engine behind docker: ",
        ),
        ("no space left", "`"),
    ] {
        let (_room, program) = client(
            "docker",
            &format!("case \"$*\" in *--help) echo ' --progress';; *) echo '{said}' >&2; exit 1;; esac"),
        );
        let docker = Docker::find(Some(&program)).await.unwrap();
        let error = docker.engine_platform().await.unwrap_err().to_string();
        assert!(error.starts_with(wanted) && error.contains(said), "{error}");
    }
}

#[tokio::test]
async fn an_unknown_or_missing_client_is_named() {
    let (_room, program) = client("crictl", "");
    let error = Docker::find(Some(&program)).await.unwrap_err().to_string();
    assert!(error.ends_with("/crictl is not docker, podman, finch or nerdctl"), "{error}");
    let error = Docker::find(Some("no-such-client")).await.unwrap_err().to_string();
    assert_eq!(error, "no container client in PATH (looked for no-such-client)");
}

#[tokio::test]
async fn pidgins_finch_is_not_a_container_client() {
    let (_room, program) = client("finch", "echo 'Finch 2.14.12 (2fc862e230a7d64799e614a49ee49ef9d54f89a9)'");
    let error = Docker::find(Some(&program)).await.unwrap_err().to_string();
    assert!(error.ends_with("/finch is not docker, podman, finch or nerdctl"), "{error}");
}

#[tokio::test]
async fn the_platforms_are_those_of_the_builder_that_builds() {
    // `docker buildx use other` has been run: `inspect` alone would ask that one.
    let script = format!(
        "case \"$*\" in 'build --help') printf '%s' '{BUILDX_HELP}';; 'context show') echo rootless;; \
         'buildx inspect rootless') echo 'Platforms: linux/amd64*, linux/386';; \
         'buildx inspect team') echo 'Platforms: linux/arm64';; *inspect*) echo 'no such builder' >&2; exit 1;; esac"
    );
    let (_room, program) = client("docker", &script);
    let docker = Docker::find(Some(&program)).await.unwrap();
    let platforms = async |builder| docker.builder_platforms(builder).await.unwrap().unwrap();
    assert_eq!(platforms(None).await, ["linux/amd64", "linux/386"]);
    assert_eq!(platforms(Some("team")).await, ["linux/arm64"]);
}

/// A client whose build prints recorded output, and fails.
async fn failing(help: &str, recorded: &str) -> DockerError {
    let room = tempfile::tempdir().unwrap();
    std::fs::write(room.path().join("help"), help).unwrap();
    std::fs::write(room.path().join("recorded"), recorded).unwrap();
    let at = room.path().display();
    let script = format!(
        "case \"$*\" in 'build --help') cat '{at}/help';; build*) cat '{at}/recorded'; exit 1;; esac"
    );
    let (_room, program) = client("docker", &script);
    let docker = Docker::find(Some(&program)).await.unwrap();
    docker.build(&build(), None, KillHandle::default(), |_| {}).await.unwrap_err()
}

#[tokio::test]
async fn a_failed_build_is_reported_with_its_step_and_not_with_its_command_line() {
    let recorded = include_str!("build_output/recorded/buildx-rawjson-fail.txt");
    let help = BUILDX_HELP
        .replace("--progress string", "--progress string (\"auto\", \"plain\",\n  \"rawjson\", \"tty\")");
    let error = failing(&help, recorded).await;
    assert!(matches!(error, DockerError::Build(_)), "{error}");
    let text = error.to_string();
    assert!(text.starts_with("step 2 of 3 of the build failed with exit code 1\n"), "{text}");
    assert!(text.contains("seq: unrecognized option") && !text.contains("--build-arg"), "{text}");

    // A program's output is not the engine's.
    let recorded = "#1 [1/1] RUN x\n#1 0.1 Is the docker daemon running?\n#1 ERROR: process \"x\" did not complete successfully: exit code: 1\n";
    let error = failing(BUILDX_HELP, recorded).await;
    assert!(matches!(error, DockerError::Build(_)), "{error}");
    let error =
        failing(BUILDX_HELP, "ERROR: Cannot connect to the Docker daemon at unix:///x. Is it running?\n")
            .await;
    assert!(matches!(error, DockerError::EngineDown { .. }), "{error}");
}

#[tokio::test]
async fn an_engine_that_uses_https_for_a_plain_registry_and_an_engine_of_another_version_are_reported() {
    let recorded = include_str!("build_output/recorded/buildx-rawjson-http.txt");
    let help = BUILDX_HELP.replace("--progress string", "--progress string \"rawjson\"");
    let error = failing(&help, recorded).await;
    let legacy = "Step 1/2 : ARG BASE_IMAGE\nStep 2/2 : FROM ${BASE_IMAGE}\n\
                  Get \"https://172.31.105.2:5000/v2/\": http: server gave HTTP response to HTTPS client\n";
    for error in
        [error, failing(BUILDX_HELP, &recorded_plain(recorded)).await, failing(CLASSIC_HELP, legacy).await]
    {
        let DockerError::PlainHttp { registry, .. } = &error else { panic!("{error}") };
        assert_eq!(registry, "172.31.105.2:5000");
    }
    for (said, old) in [
        (
            "client version 1.43 is too old. Minimum supported API version is 1.44, please upgrade your client to a newer version",
            true,
        ),
        ("client version 1.60 is too new. Maximum supported API version is 1.51", false),
    ] {
        let error = failing(BUILDX_HELP, &format!("Error response from daemon: {said}\n")).await;
        assert!(
            matches!(&error, DockerError::ApiVersion { old_client, .. } if *old_client == old),
            "{error}"
        );
    }
}

/// Only the client's last lines.
fn recorded_plain(recorded: &str) -> String {
    recorded.lines().filter(|line| !line.starts_with('{')).map(|line| format!("{line}\n")).collect()
}
