//! terraform's S3 backend with its lock file: init, apply, and two at the same time.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use crate::common::programs::{aws_environment, command, find, text};
use crate::common::{Local, create_bucket};
use reqwest::Method;

const MODULE: &str = r#"
terraform {
  required_version = ">= 1.10"
  backend "s3" {
    bucket       = "state"
    key          = ".terraform/terraform.tfstate"
    region       = "eu-west-1"
    use_lockfile = true
    encrypt      = true
  }
}

variable "gate" {
  default = ""
}

# Waits, while the state is locked, until the test removes the file.
resource "terraform_data" "waits" {
  input = var.gate
  provisioner "local-exec" {
    command = "while [ -n '${var.gate}' ] && [ -e '${var.gate}' ]; do sleep 0.05; done"
  }
}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn the_backend_initialises_locks_and_keeps_the_state() {
    let Some(terraform) = find("terraform").or_else(|| find("tofu")) else { return };
    let local = Local::start();
    let caller = local.caller();
    create_bucket(&caller, "state").await;
    let enabled = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    caller.s3(Method::PUT, "state?versioning").body(enabled).send().await.unwrap();
    let work = tempfile::tempdir().unwrap();
    let configuration = work.path().join("cli.tfrc");
    std::fs::write(&configuration, "disable_checkpoint = true\n").unwrap();
    let start = |directory: &Path, arguments: &[&str]| {
        let mut environment = aws_environment(&local.url);
        environment.push(("TF_CLI_CONFIG_FILE", configuration.to_str().unwrap()));
        environment.push(("TF_IN_AUTOMATION", "1"));
        command(&terraform, &environment)
            .args(arguments)
            .current_dir(directory)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let run = |directory: &Path, arguments: &[&str]| -> Output {
        start(directory, arguments).wait_with_output().unwrap()
    };
    let [one, two] = ["one", "two"].map(|name| {
        let directory = work.path().join(name);
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(directory.join("main.tf"), MODULE).unwrap();
        let init = run(&directory, &["init", "-no-color", "-input=false"]);
        assert!(init.status.success(), "{}", text(&init));
        directory
    });
    let gate = work.path().join("gate");
    std::fs::write(&gate, "").unwrap();
    let variable = format!("-var=gate={}", gate.display());
    let apply = ["apply", "-no-color", "-input=false", "-auto-approve", &variable];
    let first = start(&one, &apply);
    // Waits until the lock exists.
    let deadline = Instant::now() + Duration::from_secs(60);
    while caller.s3(Method::HEAD, "state/.terraform/terraform.tfstate.tflock").send().await.unwrap().status()
        != 200
    {
        assert!(Instant::now() < deadline, "no lock came");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let second = run(&two, &apply);
    assert!(!second.status.success());
    let words = text(&second);
    assert!(
        words.contains("Error acquiring the state lock") && words.contains("PreconditionFailed"),
        "{words}"
    );
    std::fs::remove_file(&gate).unwrap();
    let first = first.wait_with_output().unwrap();
    assert!(first.status.success(), "{}", text(&first));
    assert_eq!(
        caller.s3(Method::HEAD, "state/.terraform/terraform.tfstate.tflock").send().await.unwrap().status(),
        404
    );
    let plan = run(&two, &["plan", "-no-color", "-input=false", "-detailed-exitcode", &variable]);
    assert_eq!(plan.status.code(), Some(0), "nothing to do for the other: {}", text(&plan));
    let destroyed = run(&two, &["destroy", "-no-color", "-input=false", "-auto-approve"]);
    assert!(destroyed.status.success(), "{}", text(&destroyed));
}
