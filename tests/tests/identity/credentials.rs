//! Credentials that are not available, that expire during a run, or that a user has to enter.

use std::collections::BTreeSet;

use super::machine::{BY_CODE, KEYS, LOGIN, Machine, Shell};

#[test]
fn each_kind_of_missing_credentials_has_its_own_hint() {
    let Some(machine) = Machine::new() else { return };
    for (arguments, shell, words) in [
        (
            "",
            &[("AWS_PROFILE", "nobody")][..],
            &[
                "there is no AWS profile nobody (from AWS_PROFILE)",
                "hint: no profile nobody in ~/.aws/config",
                "available: bank, broken",
            ][..],
        ),
        (
            "--profile nobody",
            KEYS,
            &["there is no AWS profile nobody (from --profile)", "available: ", "bank"],
        ),
        (
            "",
            &[("AWS_PROFILE", "broken")],
            &["locked", "hint: the credential_process of the AWS profile broken failed"],
        ),
        (
            "",
            &[("AWS_PROFILE", "mfa")],
            &[
                "a code of the MFA device arn:aws:iam::123456789012:mfa/anna",
                "hint: an MFA code is asked for on a terminal",
            ],
        ),
        (
            "",
            &[("AWS_CONFIG_FILE", "HOME")],
            &["could not read the file that AWS_CONFIG_FILE names", "hint: let this user read it"],
        ),
        (
            "",
            &[("AWS_CONFIG_FILE", "HOME/torn.config")],
            &["could not read the AWS profiles", "hint: check ~/.aws/config"],
        ),
    ] {
        let run = machine.run(&format!("list-images {arguments}"), &[shell]).end();
        run.failed(5, words);
        assert!(!run.stderr.contains("no AWS credentials were found"), "{run}");
    }
    let nothing: Shell = &[("AWS_CONFIG_FILE", "/dev/null"), ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")];
    machine.run("list-images", &[nothing]).end().failed(5, &["hint: no AWS credentials were found"]);
}

#[test]
fn an_unusable_session_of_aws_login_is_reported_with_the_reason() {
    let Some(machine) = Machine::new() else { return };
    let failed = |profile: &str, words: &[&str]| {
        machine.run(&format!("list-images --profile {profile}"), &[KEYS]).end().failed(5, words);
    };
    // An old CLI that does not support it prints nothing, and is then asked for its version.
    let old =
        "[ \"$1\" = --version ] && exec echo aws-cli/2.31.39 Python/3.13.9\necho unknown >&2\nexit 253\n";
    machine.install("/bin/sh", old);
    let newer = "hint: install the aws CLI 2.32 or newer";
    failed("login", &["the AWS profile login is of `aws login`, which aws-cli/2.31.39 does not know", newer]);
    // Its output may be a secret, and is not shown.
    machine.install("/bin/sh", "echo AKIATORN hush\n");
    let run = machine.run("list-images --profile login", &[KEYS]).end();
    run.failed(5, &["what the aws CLI printed for the AWS profile login are no credentials", newer]);
    assert!(!run.stderr.contains("hush"), "{run}");
    std::fs::remove_file(machine.world.path("bin/aws")).unwrap();
    let run =
        machine.run("list-images --profile login", &[KEYS]).env("PATH", machine.world.path("bin")).end();
    run.failed(5, &["whose credentials the aws CLI hands over: aws is not installed or not in PATH", newer]);
    // A session that has expired or was ended by another user; the error names the login if a role is assumed with it.
    std::fs::remove_file(machine.world.path(LOGIN)).unwrap();
    if machine.install_cli() {
        for profile in ["login", "login-role", "login-role-role"] {
            failed(
                profile,
                &[
                    "the aws CLI hands over no credentials of the AWS profile login: Error loading login session token",
                    "hint: run `aws login --profile login`, then run this command again",
                ],
            );
        }
    }
}

#[test]
fn an_expired_session_of_aws_login_is_read_again_during_a_run() {
    let Some(machine) = Machine::new() else { return };
    machine.run("init-images", &[KEYS]).ok();
    // Credentials of `aws login` are valid for at most 15 minutes, and these for one: they are read at each use.
    let asked = machine.world.path("asked");
    let script = format!(
        "echo \"$AWS_CONFIG_FILE$AWS_CONTAINER_CREDENTIALS_FULL_URI\" >> '{}'\nend=$(date -u -d '1 minute' +%Y-%m-%dT%H:%M:%SZ)\n\
         echo '{{\"Version\":1,\"AccessKeyId\":\"AKIALOGIN\",\"SecretAccessKey\":\"s\",\"SessionToken\":\"t\",\"Expiration\":\"'$end'\"}}'\n",
        asked.display()
    );
    machine.install("/bin/sh", &script);
    machine.relay.signed();
    machine.run("auto-transfer-images --dry-run --refresh --profile login", &[KEYS]).ok();
    let keys: BTreeSet<String> = machine.relay.signed().into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, BTreeSet::from(["AKIALOGIN".to_owned()]));
    // Each time with the shell's own files, not with the replacement that the run's child processes get.
    let asked = std::fs::read_to_string(asked).unwrap();
    assert!(asked.lines().count() > 2 && asked.trim().is_empty(), "{asked}");
}

#[test]
fn an_mfa_code_is_read_from_a_terminal() {
    let Some(machine) = Machine::new() else { return };
    if e2e::program("script").is_none() {
        return;
    }
    machine.relay.signed();
    let run = machine.run("list-images --profile mfa", &[KEYS]).on_a_terminal().stdin("123456\n").ok();
    assert!(run.stdout.contains("MFA code of arn:aws:iam::123456789012:mfa/anna"), "{run}");
    let keys = || machine.relay.signed().into_iter().map(|(key, _)| key).collect::<Vec<_>>();
    let assumed_by = |source: &str, keys: &[String]| {
        assert_eq!(keys.iter().filter(|key| *key == source).count(), 1, "{keys:?}");
        assert!(keys.iter().any(|key| key == BY_CODE), "{keys:?}");
    };
    assumed_by("AKIABANK", &keys());
    if machine.install_cli() {
        machine.run("list-images --profile login-mfa", &[KEYS]).on_a_terminal().stdin("123456\n").ok();
        assumed_by("AKIALOGIN", &keys());
    }
}
