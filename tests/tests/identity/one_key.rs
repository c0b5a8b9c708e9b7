//! The identity of a run, by each kind of credentials, whatever else the shell has.

use std::collections::BTreeSet;

use e2e::{files_with, rounds};

use super::machine::{ANNA, BY_TOKEN, KEYS, Machine, Shell};

/// No files: only then are a container's credentials used.
const CONTAINER: Shell = &[
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "RELAY/container"),
    ("AWS_CONFIG_FILE", "/dev/null"),
    ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
];

/// As in a pod of EKS, or a job of GitHub Actions.
const WEB: Shell = &[
    ("AWS_WEB_IDENTITY_TOKEN_FILE", "HOME/token"),
    ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/ops"),
    ("AWS_ROLE_SESSION_NAME", "web"),
    ("AWS_CONFIG_FILE", "/dev/null"),
    ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
];

/// The intended identity, the arguments and variables that select it, and the key that signs.
const MEANT: &[(&str, &str, Shell, &str)] = &[
    ("the default profile", "", &[], "AKIADEFAULT"),
    ("AWS_PROFILE", "", &[("AWS_PROFILE", "bank")], "AKIABANK"),
    ("an empty AWS_PROFILE", "", &[("AWS_PROFILE", "")], "AKIADEFAULT"),
    ("AWS_DEFAULT_PROFILE", "", &[("AWS_DEFAULT_PROFILE", "bank")], "AKIABANK"),
    ("both", "", &[("AWS_DEFAULT_PROFILE", "bank"), ("AWS_PROFILE", "process")], "AKIABANK"),
    ("keys in the shell", "", KEYS, "AKIASHELL"),
    (
        "keys in the shell and AWS_PROFILE",
        "",
        &[("AWS_ACCESS_KEY_ID", "AKIASHELL"), ("AWS_SECRET_ACCESS_KEY", "s"), ("AWS_PROFILE", "bank")],
        "AKIASHELL",
    ),
    ("--profile", "--profile bank", &[], "AKIABANK"),
    ("--profile and keys in the shell", "--profile bank", KEYS, "AKIABANK"),
    ("--profile and AWS_PROFILE", "--profile bank", &[("AWS_PROFILE", "process")], "AKIABANK"),
    ("a process", "", &[("AWS_PROFILE", "process")], "AKIAPROCESS"),
    ("--profile of a process", "--profile process", KEYS, "AKIAPROCESS"),
    ("a role", "", &[("AWS_PROFILE", "role")], ANNA),
    ("--profile of a role", "--profile role", KEYS, ANNA),
    ("single sign-on", "", &[("AWS_PROFILE", "sso")], "AKIASSO"),
    ("--profile of single sign-on", "--profile sso", KEYS, "AKIASSO"),
    ("a container", "", CONTAINER, "AKIACONTAINER"),
    ("a token of a web identity", "", WEB, BY_TOKEN),
    ("--profile of a web identity", "--profile web", KEYS, BY_TOKEN),
    ("aws login", "", &[("AWS_PROFILE", "login")], "AKIALOGIN"),
    ("--profile of aws login", "--profile login", KEYS, "AKIALOGIN"),
    ("a role by aws login", "", &[("AWS_PROFILE", "login-role")], ANNA),
    ("--profile of a role by a role by aws login", "--profile login-role-role", KEYS, ANNA),
];

/// Other settings of a shell that mislead one SDK or another.
const ASTRAY: &[(&str, Shell)] = &[
    ("nothing else", &[]),
    (
        "the names that older tools read",
        &[
            ("AWS_ACCESS_KEY", "AKIAOLD"),
            ("AWS_SECRET_KEY", "s"),
            ("AWS_SECURITY_TOKEN", "old"),
            ("AWS_SDK_LOAD_CONFIG", "0"),
            ("AWS_CREDENTIAL_FILE", "HOME/nowhere"),
        ],
    ),
    (
        "words for terraform alone",
        &[
            ("AWS_S3_ENDPOINT", "http://127.0.0.1:9"),
            ("AWS_STS_ENDPOINT", "http://127.0.0.1:9"),
            ("AWS_SSE_CUSTOMER_KEY", "bm90IGEga2V5"),
            ("TF_CLI_ARGS", "-no-such-flag"),
            ("TF_CLI_ARGS_show", "-no-such-flag"),
            ("TF_CLI_ARGS_init", "-backend-config=profile=process"),
        ],
    ),
];

#[test]
fn one_key_signs_all_requests_whatever_the_shells_settings() {
    let Some(machine) = Machine::new() else { return };
    machine.run("init-images", &[KEYS]).ok();
    let has_cli = machine.install_cli();
    let mut combinations = 0;
    let meant = MEANT.iter().filter(|(meant, ..)| has_cli || !meant.contains("aws login"));
    for (index, (meant, arguments, shell, key)) in meant.enumerate() {
        // Each with one of them; with all of them under `cargo xtask test --soak`.
        let others = ASTRAY.iter().cycle().skip(index).take(rounds(1, ASTRAY.len()));
        for (astray, others) in others {
            machine.relay.signed();
            let line = format!("auto-transfer-images --dry-run --refresh {arguments}");
            let run = machine.run(&line, &[*shell, *others]).ok();
            let signed = machine.relay.signed();
            let about = format!("{meant}, {astray}: {signed:?} {run}");
            // A role is assumed once, with the key that it is assumed by; an intermediate role has the same name here.
            let source = if meant.contains("aws login") { "AKIALOGIN" } else { "AKIABANK" };
            let (by_source, by_role): (Vec<_>, Vec<_>) =
                signed.into_iter().partition(|(used, _)| used == source && *key == ANNA);
            assert_eq!(by_source.len(), usize::from(*key == ANNA), "{about}");
            assert!(by_source.iter().all(|(_, service)| service == "sts"), "{about}");
            let keys: BTreeSet<&str> = by_role.iter().map(|(used, _)| used.as_str()).collect();
            assert_eq!(keys, BTreeSet::from([*key]), "{about}");
            // They include the plan's own requests, and the lookup of a key that an earlier grid with this name has left.
            let services: BTreeSet<&str> = by_role.iter().map(|(_, service)| service.as_str()).collect();
            assert_eq!(services, BTreeSet::from(["ecr", "kms", "s3", "sts"]), "{about}");
            combinations += 1;
        }
    }
    let (least, most) = if has_cli { (23, 69) } else { (19, 57) };
    assert!(combinations >= rounds(least, most), "{combinations}");
}

#[test]
fn a_transfer_with_a_role_session_leaves_no_secret() {
    let Some(machine) = Machine::new() else { return };
    machine.run("init-images --profile role", &[KEYS]).ok();
    machine.relay.signed();
    machine.run("auto-transfer-images --profile role", &[KEYS]).ok();
    let signed = machine.relay.signed();
    let others: Vec<_> = signed.iter().filter(|(key, _)| key != ANNA).collect();
    assert_eq!(others, [&("AKIABANK".to_owned(), "sts".to_owned())]);
    let services: BTreeSet<&str> = signed.iter().map(|(_, service)| service.as_str()).collect();
    assert_eq!(services, BTreeSet::from(["ecr", "kms", "s3", "sts"]));
    // The stand-in's own record of the run, terraform's files, the cache: none contains the key.
    assert_eq!(
        files_with(["project", "target/xtask"].map(|name| machine.world.path(name)), ANNA),
        Vec::<std::path::PathBuf>::new()
    );
}
