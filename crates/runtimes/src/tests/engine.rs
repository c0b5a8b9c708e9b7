//! Engines that fail, simulated by clients that print the output of real ones.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use docker::{Build, BuildContext, Docker, DockerError};
use failure::Kind;
use registry::{Anonymous, Client};

use super::world::Fake;
use crate::{Context, GridSettings, Options, Progress, Runtime, RuntimeError, attempt, plan};

/// A client with buildx that logs each call in `calls` and runs `script`.
fn client(room: &Path, script: &str) -> String {
    let program = room.join("docker");
    let text = format!(
        "#!/bin/sh\ncalls='{}'\necho \"$*\" >>\"$calls\"\ncase \"$*\" in *--help) echo ' --progress x'; exit;; esac\n{script}\n",
        room.join("calls").display()
    );
    std::fs::write(&program, text).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    program.display().to_string()
}

fn calls(room: &Path, of: &str) -> usize {
    let calls = std::fs::read_to_string(room.join("calls")).unwrap_or_default();
    calls.lines().filter(|line| line.starts_with(of)).count()
}

fn context(room: &Path, fake: &Arc<Fake>, cli: String) -> Context {
    let (grid_settings, progress) = (Arc::clone(fake), Arc::clone(fake));
    let mut context = Context::new(
        Client::builder().build().unwrap(),
        Arc::new(Anonymous),
        grid_settings as Arc<dyn GridSettings>,
        progress as Arc<dyn Progress>,
        room.join("scratch"),
    );
    context.container_cli = Some(cli);
    context
}

#[tokio::test]
async fn an_engine_that_is_down_is_tried_once_per_plan_for_all_runtimes() {
    let room = tempfile::tempdir().unwrap();
    let down =
        "echo 'Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?' >&2; exit 1";
    let context = context(room.path(), &Fake::new(""), client(room.path(), down));
    std::fs::write(room.path().join("Dockerfile"), "FROM scratch\nCOPY a /\n").unwrap();
    std::fs::write(room.path().join("a"), "a").unwrap();
    let runtimes = ["one", "two", "three"].map(|name| Runtime {
        name: name.to_owned(),
        base: None,
        base_argument: None,
        entry_point: None,
        context: room.path().to_owned(),
        dockerfile: "Dockerfile".to_owned(),
        leave_out: ["calls", "docker"].map(str::to_owned).into(),
        args: [].into(),
        target: None,
        platforms: vec!["linux/amd64".parse().unwrap()],
        epoch: None,
    });
    for plans in 1..=2 {
        let planned = plan(&context, &runtimes, Options::default()).await;
        for planned in planned {
            let error = planned.unwrap_err().error;
            let message = "the engine behind docker does not answer: Cannot connect to the Docker daemon at unix:///x. \
                           Is the docker daemon running?";
            assert_eq!((error.in_full().as_str(), error.kind()), (message, Kind::Docker));
            assert!(error.hint().unwrap().starts_with("start the engine"), "{error}");
        }
        assert_eq!(calls(room.path(), "version"), plans);
    }
}

fn build(room: &Path) -> Build {
    Build {
        context: BuildContext::Directory(room.to_owned()),
        dockerfile: room.join("Dockerfile"),
        ignore: room.join("Dockerfile.dockerignore"),
        tags: vec!["lambda:x".into()],
        platform: None,
        args: [].into(),
        target: None,
        labels: [].into(),
        no_cache: false,
        pull: false,
        base: None,
        builder: None,
        cache: None,
    }
}

/// Runs a build that fails with this output `times` times, and then succeeds. Also returns the calls of the builder and the warnings.
async fn builds(words: &str, times: usize) -> (Result<(), RuntimeError>, Vec<String>, Vec<String>) {
    let room = tempfile::tempdir().unwrap();
    let script = format!(
        "case \"$1\" in build) [ $(grep -c '^build .*--tag' \"$calls\") -gt {times} ] || {{ cat >&2 <<'END'\n{words}\nEND\nexit 1; }};; esac"
    );
    let fake = Fake::new("");
    let cli = client(room.path(), &script);
    let context = context(room.path(), &fake, cli.clone());
    let docker = Docker::find(Some(&cli)).await.unwrap();
    let ended = attempt::build(&context, &docker, &build(room.path()), "x", "x").await;
    let calls = std::fs::read_to_string(room.path().join("calls")).unwrap();
    let builds = calls.lines().filter(|line| line.starts_with("build ") && line.contains("--tag"));
    let builds = builds.map(str::to_owned).collect();
    let warnings = fake.warnings.lock().unwrap().clone();
    (ended, builds, warnings)
}

/// BuildKit's output in the issue, in buildx's plain form.
const LOST: &str = "#6 [2/3] RUN true\n#6 ERROR: failed to apply diffs: failed to stat lower snapshot oqp2tt: snapshot oqp2tt does not exist: not found\nERROR: failed to build: failed to solve: failed to apply diffs: failed to stat lower snapshot oqp2tt: snapshot oqp2tt does not exist: not found";

/// The output of docker 28.
const COMMIT: &str = "#6 [3/3] COPY . /all/\n#6 ERROR: failed to commit sd8fqr9x to ozf3m864 during finalize: failed to stat active key during commit: snapshot sd8fqr9x does not exist: not found\nERROR: failed to build: failed to solve: failed to commit sd8fqr9x to ozf3m864 during finalize: failed to stat active key during commit: snapshot sd8fqr9x does not exist: not found";

#[tokio::test]
async fn a_build_is_repeated_once_with_a_warning_if_the_builder_lost_content() {
    let (ended, builds_made, warnings) = builds(LOST, 1).await;
    ended.unwrap();
    assert_eq!((builds_made.len(), warnings.len()), (2, 1), "{warnings:?}");
    assert!(
        warnings[0].starts_with("the builder lost a part of its store, and builds once more: ")
            && warnings[0].contains("snapshot oqp2tt does not exist"),
        "{warnings:?}"
    );

    // After a build was killed, docker 28 with containerd's store printed this twice within a second.
    let (ended, builds_made, warnings) = builds(COMMIT, 3).await;
    ended.unwrap();
    assert_eq!((builds_made.len(), warnings.len()), (4, 3), "{warnings:?}");
    let without_cache: Vec<bool> = builds_made.iter().map(|call| call.contains("--no-cache")).collect();
    assert_eq!(without_cache, [false, false, false, true]);

    let (ended, builds_made, warnings) = builds(LOST, 4).await;
    let error = ended.unwrap_err();
    assert!(matches!(error, RuntimeError::Docker(DockerError::LostCache(_))), "{error}");
    assert_eq!((builds_made.len(), warnings.len(), error.kind()), (4, 3, Kind::Docker));
    assert!(error.hint().unwrap().contains("docker builder prune"));

    // Messages of the legacy builder, the first one from docker 20.10.
    for lost in [
        "unable to find image \"sha256:ee52ddfce4b08851a95b469aa69e6c2f4bb14d16a2d0dd93c66aaae24bea3082\"",
        "unknown parent image ID sha256:ee52ddfce4b08851a95b469aa69e6c2f4bb14d16a2d0dd93c66aaae24bea3082",
        "failed to export image: failed to create image: failed to get layer sha256:ee52: layer does not exist",
    ] {
        let (ended, builds_made, warnings) = builds(lost, 1).await;
        ended.unwrap();
        assert_eq!((builds_made.len(), warnings.len()), (2, 1), "{lost}");
    }
}

#[tokio::test]
async fn other_failures_with_the_same_text_are_not_repeated() {
    let of_a_program = "#6 [2/3] RUN restore\n#6 0.1 snapshot x does not exist: not found\n#6 ERROR: process \"/bin/sh -c restore\" did not complete successfully: exit code: 1\nERROR: failed to solve: process \"/bin/sh -c restore\" did not complete successfully: exit code: 1";
    for words in [of_a_program, "ERROR: failed to solve: file with no instructions"] {
        let (ended, builds_made, warnings) = builds(words, 1).await;
        let error = ended.unwrap_err();
        assert!(matches!(error, RuntimeError::Docker(DockerError::Build(_))), "{error}");
        assert_eq!((builds_made.len(), warnings.len()), (1, 0));
    }
}

#[tokio::test]
async fn an_engine_that_uses_https_for_loopback_gets_a_hint_for_daemon_json() {
    // docker 29.10 and newer, with other `insecure-registries`: by BuildKit and by the engine's own pull.
    let by_buildkit = "#2 [internal] load metadata for 127.0.0.1:5000/lambda/base@sha256:00\n#2 ERROR: failed to do request: Head \"https://127.0.0.1:5000/v2/lambda/base/manifests/sha256:00\": http: server gave HTTP response to HTTPS client\nERROR: failed to build: failed to solve: 127.0.0.1:5000/lambda/base@sha256:00: failed to resolve source metadata: failed to do request: Head \"https://127.0.0.1:5000/v2/lambda/base/manifests/sha256:00\": http: server gave HTTP response to HTTPS client";
    let by_engine = "Error response from daemon: failed to resolve reference \"127.0.0.1:5000/lambda/base:1\": failed to do request: Head \"https://127.0.0.1:5000/v2/lambda/base/manifests/1\": http: server gave HTTP response to HTTPS client";
    for words in [by_buildkit, by_engine] {
        let error = builds(words, 1).await.0.unwrap_err();
        let message = "the engine behind docker speaks only https to 127.0.0.1:5000, which speaks plain http";
        assert_eq!(error.to_string(), message);
        let hint = error.hint().unwrap();
        assert!(
            hint.contains("daemon.json")
                && hint.contains("insecure-registries")
                && hint.contains("\"127.0.0.0/8\""),
            "{hint}"
        );
    }
    let elsewhere = by_engine.replace("127.0.0.1:5000", "registry.example:5000");
    let error = builds(&elsewhere, 1).await.0.unwrap_err();
    let hint = error.hint().unwrap();
    assert!(
        hint.contains("add the registry to `insecure-registries`") && !hint.contains("127.0.0.0/8"),
        "{hint}"
    );
}
