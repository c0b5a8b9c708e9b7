use std::path::Path;

use super::*;

fn explain(text: &str) -> TerraformError {
    explain_with(text, false)
}

fn explain_with(text: &str, interrupted: bool) -> TerraformError {
    let said = Diagnostic::from_text(text);
    let tail: Vec<String> = text.lines().map(str::to_owned).collect();
    TerraformError::from_diagnostics(Path::new("/module"), said, &tail, interrupted)
}

// Recorded from Terraform 1.11.4.
const LOCKED: &str = "\nError: Error acquiring the state lock\n\nError message: operation error S3: PutObject, \
    https response error\nStatusCode: 412, RequestID: , HostID: , api error PreconditionFailed: Object\nalready \
    exists\nLock Info:\n  ID:        44629bb0-98d3-625f-7325-04a07f9df8bc\n  Path:      state/ml-deploy/terraform.tfstate\n  \
    Operation: OperationTypeApply\n  Who:       root@vm\n  Version:   1.11.4\n  Created:   2026-11-22 \
    10:14:19.155872151 +0000 UTC\n  Info:      \n\n\nTerraform acquires a state lock to protect the state from being \
    written\nby multiple users at the same time.\n";

#[test]
fn a_lock_error_names_the_holder_and_the_command_that_releases_it() {
    let error = explain(LOCKED);
    assert_eq!(
        error.to_string(),
        "the terraform state state/ml-deploy/terraform.tfstate is locked by root@vm (apply) since 2026-11-22 10:14:19"
    );
    assert_eq!(
        error.hint().unwrap(),
        "wait until root@vm is done, or give --lock-timeout; if that run is dead: cargo xtask init-images \
         --release-lock 44629bb0-98d3-625f-7325-04a07f9df8bc, with the same TAG, REGION and bucket"
    );
}

#[test]
fn the_same_lock_is_read_from_an_event() {
    let said: Vec<_> = include_str!("../recorded/locked.jsonl")
        .lines()
        .filter_map(|line| match crate::Event::parse(line) {
            crate::Event::Diagnostic(diagnostic) => Some(diagnostic),
            _ => None,
        })
        .collect();
    let error = TerraformError::from_diagnostics(Path::new("/m"), said, &[], false);
    let TerraformError::Locked { holder } = error else { panic!("{error}") };
    assert_eq!((holder.who.as_str(), holder.operation.as_str()), ("anna@ci-7", "apply"));
    assert_eq!(holder.path, "state/.terraform/terraform.tfstate");
    assert_eq!(holder.id, "44629bb0-98d3-625f-7325-04a07f9df8bc");
}

#[test]
fn an_error_with_a_border_is_parsed_like_a_plain_one() {
    let framed = "\u{1b}[31m╷\u{1b}[0m\u{1b}[0m\n\u{1b}[31m│\u{1b}[0m \u{1b}[0m\u{1b}[1m\u{1b}[31mError: \u{1b}[0m\u{1b}[0m\u{1b}[1mSaved plan is stale\u{1b}[0m\n\u{1b}[31m│\u{1b}[0m \n";
    assert!(matches!(explain(framed), TerraformError::StalePlan));
    let framed = "╷\n│ Error: Saved plan is stale\n│ \n│ The given plan file can no longer be applied because \
                  the state was changed\n│ by another operation after the plan was created.\n╵\n";
    assert!(matches!(explain(framed), TerraformError::StalePlan));
}

#[test]
fn each_problem_of_the_backend_has_its_own_message() {
    let changed = "Error: Backend configuration changed\n\nA change in the backend configuration has been detected, \
                   which may require migrating\nexisting state.\n";
    assert!(matches!(explain(changed), TerraformError::BackendChanged { .. }));
    let uninitialised = "Error: Backend initialization required, please run \"terraform init\"\n\nReason: Initial \
                         configuration of the requested backend \"s3\"\n";
    assert!(matches!(explain(uninitialised), TerraformError::NotInitialised { .. }));
    let bucket = "Error: Failed to get existing workspaces: Unable to list objects in S3 bucket \"no-such\": \
                  operation error S3: ListObjectsV2, https response error StatusCode: 404, RequestID: 1, HostID: , \
                  NoSuchBucket: \n";
    assert_eq!(explain(bucket).to_string(), "the state bucket \"no-such\" does not exist");
    let by_init = "Error: Failed to get existing workspaces: S3 bucket \"nope\" does not exist.\n\nThe referenced S3 \
                   bucket must have been previously created.\n";
    assert_eq!(explain(by_init).to_string(), "the state bucket \"nope\" does not exist");
    let plugins =
        "Error: Required plugins are not installed\n\nThe installed provider plugins are not consistent\n";
    assert!(matches!(explain(plugins), TerraformError::NotInitialised { .. }));
    let workspace = "Error: \n\nThe currently selected workspace (prod) does not exist.\n";
    assert_eq!(
        explain(workspace).to_string(),
        "the terraform workspace \"prod\" does not exist in the state bucket"
    );
}

#[test]
fn one_interrupt_is_distinguished_from_two() {
    let graceful = "Interrupt received.\nPlease wait for Terraform to exit or data loss may occur.\nGracefully \
                    shutting down...\n\nStopping operation...\n\nError: execution halted\n";
    assert!(matches!(explain_with(graceful, true), TerraformError::Interrupted));
    let twice = "Two interrupts received. Exiting immediately. Note that data loss may have occurred.\n\nError: \
                 operation canceled\n";
    assert!(matches!(explain_with(twice, true), TerraformError::Killed { .. }));
}

#[test]
fn a_missing_permission_names_the_iam_action() {
    let denied = "Error: creating ECR Repository (curl): operation error ECR: CreateRepository, https response \
                  error StatusCode: 400, RequestID: 1, api error AccessDeniedException: User: \
                  arn:aws:iam::123456789012:user/anna is not authorized to perform: ecr:CreateRepository on resource: x\n";
    let TerraformError::Denied { action, lock_left, .. } = explain(denied) else { panic!("not denied") };
    assert_eq!((action.as_str(), lock_left), ("ecr:CreateRepository", false));
}

#[test]
fn a_provider_that_cannot_be_fetched_is_reported() {
    let offline = "Error: Failed to query available provider packages\n\nCould not retrieve the list of available \
                   versions for provider hashicorp/aws:\ncould not connect to registry.terraform.io: failed to \
                   request discovery\ndocument\n";
    let error = explain(offline);
    assert!(matches!(error, TerraformError::Provider { .. }), "{error}");
    assert!(error.hint().unwrap().contains("TF_CLI_CONFIG_FILE"));
}

// Terraform's message, from its source (internal/providercache/installer.go).
#[test]
fn a_lock_file_of_another_platform_has_a_hint_with_the_command() {
    for (host, program) in [("registry.terraform.io", "terraform"), ("registry.opentofu.org", "tofu")] {
        let other = format!(
            "Error: Failed to install provider\n\nError while installing hashicorp/aws v6.66.0: the local package for\n\
             {host}/hashicorp/aws 6.66.0 doesn't match any of the\nchecksums previously recorded in the dependency lock file \
             (this might be because\nthe available checksums are for packages targeting different platforms); for\nmore information: \
             https://developer.hashicorp.com/terraform/language/provider-checksum-verification\n"
        );
        let error = explain(&other);
        assert!(matches!(error, TerraformError::Checksums { .. }), "{error}");
        let hint = error.hint().unwrap();
        let platform = crate::local::platform();
        assert!(hint.starts_with(&format!("`{program} -chdir=")), "{hint}");
        assert!(hint.contains(&format!("providers lock -platform={platform}`")), "{hint}");
        assert!(!hint.contains("network"), "{hint}");
    }
}

#[test]
fn other_errors_keep_terraforms_message() {
    let error = explain("Error: Unsupported argument\n\n  on main.tf line 3:\n   3:   x = 1\n");
    assert_eq!(error.to_string(), "terraform failed:\n  Unsupported argument: on main.tf line 3: 3: x = 1");
    let crash = explain("signal: killed\n");
    assert_eq!(crash.to_string(), "terraform failed:\n  signal: killed");
}
