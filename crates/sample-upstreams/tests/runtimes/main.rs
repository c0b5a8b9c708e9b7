//! The runtimes' Dockerfile and entry points, built on the sample bases and run in real containers.
//!
//! These tests need a docker engine, and root and debootstrap for the bases. If something is missing they report it and do nothing;
//! `cargo xtask test` checks it before.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not marked as such")]

mod image;
mod worker;

use std::path::Path;

use duct::cmd;
use serde_json::Value;

use image::{Builder, Image, base_with, runtimes, skipped};
use worker::{Worker, invoke};

/// The contract of every runtime.
fn keeps_the_contract(image: &Image) {
    // One container for all checks: its start costs more than the checks.
    let told = image.shell(
        r#"id -u; id -g; echo '{"a": [7]}' | jq '.a[0]'; echo $(ps -p 1 -o pid=)
        stat -c '%a %u:%g' /lambda_entrypoint_signal.sh
        find /var/lib/apt/lists /var/log/apt /var/log/dpkg.log /var/cache/apt/archives -type f -size +0 2>/dev/null | wc -l"#,
    );
    assert_eq!(told.lines().collect::<Vec<_>>(), ["99", "99", "7", "1", "755 0:0", "0"]);

    let (code, message) = image.run(&[]);
    assert_eq!(code, Some(142));
    assert!(message.contains("argument"), "{message}");

    let worker = Worker::start(image, &[]);
    let answer = invoke(worker.port, r#"{"n": 1}"#).unwrap();
    assert_eq!((&answer["handler"], &answer["event"]["n"]), (&Value::from("app.handler"), &Value::from(1)));
    assert_eq!((&answer["uid"], &answer["gid"]), (&Value::from(99), &Value::from(99)));

    // The exit status of the worker is the container's: here the runtime is killed.
    worker.exec("kill -KILL $(ps -C bootstrap,bootstrap.sh -o pid=)");
    assert_eq!(worker.exit_code(), 128 + 9);
}

/// A task in progress continues after the signal of Kubernetes; then the agent ends the emulator itself.
fn finishes_its_task(image: &Image, signals: &[&str], printed: bool) {
    let mut worker = Worker::start(image, &[]);
    let answer = worker.invoke_until_told();
    for signal in signals {
        worker.signal(signal);
        if printed {
            worker.wait_for(&format!("SIG{signal}"));
        }
    }
    assert!(worker.is_running() && !answer.is_finished(), "{}", worker.seen);
    worker.let_finish();
    assert_eq!(answer.join().unwrap().unwrap()["function"], "handler");
    worker.wait_for("task finished");
    assert!(worker.is_running());
    // A worker whose handler inherits ignored signals could not be interrupted.
    let ignored = worker.exec("ps -C aws-lambda-rie -o ignored=");
    let ignored = u64::from_str_radix(ignored.trim(), 16).unwrap();
    assert_eq!(ignored & ((1 << (2 - 1)) | (1 << (3 - 1))), 0, "SIGINT and SIGQUIT: {ignored:x}");
    // The container may end before the command in it, which is then killed.
    let kill = "kill -TERM $(ps -C aws-lambda-rie -o pid=)";
    cmd!("docker", "exec", &worker.container, "/bin/sh", "-c", kill).unchecked().run().unwrap();
    assert_eq!(worker.exit_code(), 0);
}

const FIVE: [&str; 5] = ["TERM", "INT", "HUP", "QUIT", "ALRM"];

fn managed(builder: Builder, base: &str) {
    let Some(image) = Image::on_sample_base(builder, base, "lambda_entry_point.sh") else { return };
    keeps_the_contract(&image);
    finishes_its_task(&image, &["TERM", "TERM"], false);
}

fn provided(builder: Builder, base: &str) {
    let Some(image) = Image::on_sample_base(builder, base, "lambda_entry_point_provided.sh") else { return };
    keeps_the_contract(&image);
    let (code, message) = image.run(&["a", "b"]);
    assert_eq!(code, Some(142));
    assert!(message.contains("exactly one argument is needed"), "{message}");
    // Two signals, also at the same time: none is lost, and none ends the worker.
    finishes_its_task(&image, &[FIVE, FIVE].concat(), true);
}

#[test]
fn a_managed_runtime_by_the_legacy_builder() {
    managed(Builder::Legacy, "lambda/python:3.12");
}

#[test]
fn a_managed_runtime_by_buildkit() {
    managed(Builder::BuildKit, "lambda/java:21");
}

#[test]
fn a_provided_runtime_by_the_legacy_builder() {
    provided(Builder::Legacy, "lambda/provided:al2");
}

#[test]
fn a_provided_runtime_by_buildkit() {
    provided(Builder::BuildKit, "lambda/provided:al2023");
}

/// The purpose of the entry point: without it the same signal ends the task. It also shows that the tests above can fail.
#[test]
fn without_the_entry_point_sigterm_ends_the_task_and_present_packages_are_not_installed_again() {
    let Some(image) = Image::on_sample_base(Builder::Legacy, "lambda/nodejs:22", "lambda_entry_point.sh")
    else {
        return;
    };
    assert!(
        image.output.contains("Setting up jq") && image.output.contains("Setting up procps"),
        "{}",
        image.output
    );
    let mut worker = Worker::start(&image, &["--entrypoint", "/lambda-entrypoint.sh"]);
    let answer = worker.invoke_until_told();
    worker.signal("TERM");
    assert_eq!(worker.exit_code(), 0);
    assert!(answer.join().unwrap().is_err());
    assert!(!worker.seen.contains("task finished"));

    let again = Image::on(Builder::Legacy, &image.name, "lambda_entry_point.sh").unwrap();
    assert!(
        !again.output.contains("Setting up jq") && !again.output.contains("Setting up procps"),
        "{}",
        again.output
    );
}

/// Amazon Linux is not available here: its package managers are replaced by a script that records its arguments.
#[test]
fn amazon_linux_uses_the_package_manager_that_exists() {
    for (managers, expected) in [
        (
            &["yum"][..],
            "yum --setopt=tsflags=nodocs update|yum --setopt=tsflags=nodocs install jq procps-ng|yum clean all",
        ),
        (
            &["dnf", "yum"],
            "dnf --setopt=install_weak_deps=0 --setopt=tsflags=nodocs upgrade|dnf --setopt=install_weak_deps=0 \
             --setopt=tsflags=nodocs install jq procps-ng|dnf clean all",
        ),
        (
            &["microdnf", "dnf"],
            "microdnf --setopt=install_weak_deps=0 --setopt=tsflags=nodocs upgrade|microdnf \
             --setopt=install_weak_deps=0 --setopt=tsflags=nodocs install jq procps-ng|microdnf clean all",
        ),
    ] {
        let Some(base) = base_with(managers) else { return };
        let image = Image::on(Builder::Legacy, &base.name, "lambda_entry_point.sh").unwrap();
        let calls = image.shell("cat /calls").replace(" -y", "").replace('\n', "|");
        assert_eq!(calls, expected);
        assert_eq!(image.shell("id -u; id -g"), "99\n99");
    }
    // A base without any of them is refused with a message, and the image is not built.
    let Some(base) = base_with(&[]) else { return };
    let build = cmd!(
        "docker",
        "build",
        "--no-cache",
        "--force-rm",
        "--build-arg",
        format!("BASE_IMAGE={}", base.name),
        runtimes()
    );
    let output = Builder::Legacy.ask(build).stderr_to_stdout().stdout_capture().unchecked().run().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("none of apt-get, microdnf, dnf and yum"));
}

#[test]
fn shellcheck_accepts_the_scripts() {
    if which::which("shellcheck").is_err() {
        skipped("shellcheck is not installed; on Debian: apt-get install shellcheck");
        return;
    }
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets");
    for script in [
        runtimes().join("lambda_entry_point.sh"),
        runtimes().join("lambda_entry_point_provided.sh"),
        assets.join("lambda-entrypoint.sh"),
        assets.join("app"),
    ] {
        cmd!("shellcheck", &script).run().unwrap();
    }
}
