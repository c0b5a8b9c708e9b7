//! One run, one identity: whatever the shell holds, one access key signs all that a run asks of AWS, terraform's requests
//! among them; and `--local` takes nothing of AWS from this machine.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not marked as such")]

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;

use e2e::{BUCKET, INIT, REGION, Relay, Run, World, root, rounds};

const IMAGES: &str = r#"schema_version = 1
[images]
"kedacore/keda" = "ghcr.io/kedacore/keda:2.11.2"
"#;

/// What SSO's portal and a container's own address answer.
const OWN: &[(&str, &str)] = &[
    (
        "GET /federation/credentials",
        r#"{"roleCredentials":{"accessKeyId":"AKIASSO","secretAccessKey":"s","sessionToken":"t","expiration":4000000000000}}"#,
    ),
    (
        "GET /container",
        r#"{"AccessKeyId":"AKIACONTAINER","SecretAccessKey":"s","Token":"t","Expiration":"2096-10-02T07:06:40Z"}"#,
    ),
];

/// A shell: its variables. RELAY stands for the relay's address, HOME for the user's directory.
type Shell = &'static [(&'static str, &'static str)];

const KEYS: Shell = &[("AWS_ACCESS_KEY_ID", "AKIASHELL"), ("AWS_SECRET_ACCESS_KEY", "s")];
/// No files: only then are a container's credentials looked for.
const CONTAINER: Shell = &[
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "RELAY/container"),
    ("AWS_CONFIG_FILE", "/dev/null"),
    ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
];

/// The keys of sessions of the role `ops`, as the emulated AWS makes them: ops/anna, ops/web, ops/mfa.
const ANNA: &str = "ASIAROLE6f70732f616e6e61";
const BY_TOKEN: &str = "ASIAROLE6f70732f776562";
const BY_CODE: &str = "ASIAROLE6f70732f6d6661";
/// As in a pod of EKS, or a job of GitHub's.
const WEB: Shell = &[
    ("AWS_WEB_IDENTITY_TOKEN_FILE", "HOME/token"),
    ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/ops"),
    ("AWS_ROLE_SESSION_NAME", "web"),
    ("AWS_CONFIG_FILE", "/dev/null"),
    ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
];

/// Who is meant, the arguments and variables that say so, and the key that signs.
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

/// The aws CLI of version 2 is in no package registry. This hands credentials over as it does, read by botocore, whose code
/// for that it shares.
const CLI: &str = r#"
import botocore.session, json, sys
if sys.argv[1:] == ["--version"]:
    sys.exit(print("aws-cli/2.32.1 of this test"))
[a, b, c, d, e, profile, f, region] = sys.argv[1:]
assert [a, b, c, d, e, f] == ["configure", "export-credentials", "--format", "process", "--profile", "--region"]
session = botocore.session.Session(profile=profile)
session.set_config_variable("region", region)
try:
    given = session.get_credentials()
    keys = given.get_frozen_credentials()
except Exception as error:
    sys.exit(f"\n{error}")
print(json.dumps({
    "Version": 1, "AccessKeyId": keys.access_key, "SecretAccessKey": keys.secret_key, "SessionToken": keys.token,
    "Expiration": given._expiry_time.isoformat(),
}))
"#;

/// What else may stand in a shell, and leads one SDK or another astray.
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

/// A user's machine whose AWS is the emulated one behind a relay: the bucket stands, terraform has the stand-in provider.
struct Machine {
    world: World,
    relay: Relay,
    /// Where programs are looked for: the aws CLI first.
    path: String,
}

/// Where `aws login` keeps the session of user/anna: named by the SHA-256 of the user.
const LOGIN: &str =
    "home/.aws/login/cache/11bbc882fa0112a0e2aa42512092bdb77bdc2de5bcf739440b5e7e0228647a6c.json";

impl Machine {
    fn new() -> Option<Self> {
        let world = World::grid(IMAGES)?;
        world.xtask(INIT).ok();
        let relay = Relay::to(&world.aws().host, OWN);
        let module = world.path("project/deployment/image_repository/terraform");
        for directory in [&module, &world.path("project/xtask"), &world.path("project/runtimes")] {
            std::fs::create_dir_all(directory).unwrap();
        }
        for file in root().join("deployment/image_repository/terraform").read_dir().unwrap() {
            let file = file.unwrap().path();
            if file.extension().is_some_and(|extension| extension == "tf") {
                std::fs::copy(&file, module.join(file.file_name().unwrap())).unwrap();
            }
        }
        for directory in ["home/.aws/sso/cache", "home/.aws/login/cache", "bin"] {
            std::fs::create_dir_all(world.path(directory)).unwrap();
        }
        world.write(
            "home/.aws/credentials",
            "[default]\naws_access_key_id = AKIADEFAULT\naws_secret_access_key = s\n\
             [bank]\naws_access_key_id = AKIABANK\naws_secret_access_key = s\n",
        );
        let keys = r#"{ "Version": 1, "AccessKeyId": "AKIAPROCESS", "SecretAccessKey": "s" }"#;
        world.write("home/keys.json", keys);
        world.write("home/torn.config", "[profile torn\nregion\n");
        world.write(
            "home/.aws/config",
            &format!(
                "[profile process]\ncredential_process = cat {}\n\
                 [profile role]\nrole_arn = arn:aws:iam::123456789012:role/ops\nsource_profile = bank\nrole_session_name = anna\n\
                 [profile mfa]\nrole_arn = arn:aws:iam::123456789012:role/ops\nsource_profile = bank\nrole_session_name = mfa\n\
                 mfa_serial = arn:aws:iam::123456789012:mfa/anna\n\
                 [profile web]\nrole_arn = arn:aws:iam::123456789012:role/ops\nrole_session_name = web\n\
                 web_identity_token_file = {}\n\
                 [profile login]\nlogin_session = arn:aws:iam::123456789012:user/anna\n\
                 [profile login-role]\nrole_arn = arn:aws:iam::123456789012:role/ops\nsource_profile = login\n\
                 role_session_name = anna\n\
                 [profile login-role-role]\nrole_arn = arn:aws:iam::123456789012:role/ops\nsource_profile = login-role\n\
                 role_session_name = anna\n\
                 [profile login-mfa]\nrole_arn = arn:aws:iam::123456789012:role/ops\nsource_profile = login\n\
                 role_session_name = mfa\nmfa_serial = arn:aws:iam::123456789012:mfa/anna\n\
                 [profile broken]\ncredential_process = sh -c \"echo locked >&2; exit 3\"\n\
                 [profile sso]\nsso_start_url = https://sign.on/start\nsso_region = {REGION}\nsso_account_id = 123456789012\n\
                 sso_role_name = ops\n",
                world.path("home/keys.json").display(),
                world.path("home/token").display(),
            ),
        );
        // The file of the sign-on is named by the SHA-1 of its address.
        world.write(
            "home/.aws/sso/cache/9d15484d856a9eb2c2a8da5474e6284293531a1b.json",
            &format!(
                r#"{{ "startUrl": "https://sign.on/start", "region": "{REGION}", "accessToken": "t", "expiresAt": "2096-10-02T07:06:40Z" }}"#
            ),
        );
        world.write("home/token", "a token");
        world.write(
            LOGIN,
            r#"{ "accessToken": { "accessKeyId": "AKIALOGIN", "secretAccessKey": "s", "sessionToken": "t", "accountId": "123456789012",
                 "expiresAt": "2096-10-02T07:06:40Z" }, "refreshToken": "r", "dpopKey": "k", "clientId": "c" }"#,
        );
        let path = format!("{}:{}", world.path("bin").display(), std::env::var("PATH").unwrap());
        Some(Self { world, relay, path })
    }

    /// Installs this script as the aws CLI.
    fn install(&self, interpreter: &str, script: &str) {
        let program = self.world.write("bin/aws", &format!("#!{interpreter}\n{script}"));
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Installs the CLI that reads sessions of `aws login`, if it can run here.
    fn install_cli(&self) -> bool {
        let python = e2e::target().join("python");
        let place = |found: std::io::Result<std::fs::DirEntry>| {
            found.ok()?.path().join("site-packages/awscrt").is_dir().then_some(())
        };
        if !python.join("lib").read_dir().is_ok_and(|versions| versions.filter_map(place).count() > 0) {
            e2e::skip("botocore and awscrt are not in target/python: `cargo xtask test` installs them");
            return false;
        }
        self.install(&python.join("bin/python").display().to_string(), CLI);
        true
    }

    /// `xtask` as this user runs it.
    fn run(&self, line: &str, shells: &[Shell]) -> Run {
        let run = self
            .world
            .sourced()
            .env("CARGO_MANIFEST_DIR", self.world.path("project/xtask"))
            .env("TF_CLI_CONFIG_FILE", self.world.path("local/terraform/terraform.tfrc"))
            .env("AWS_ENDPOINT_URL", self.relay.url())
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("PATH", &self.path)
            .args(&format!("{line} --state-bucket {BUCKET} --region {REGION}"));
        let home = self.world.path("home").display().to_string();
        shells.iter().flat_map(|shell| shell.iter()).fold(run, |run, (name, value)| {
            run.env(name, value.replace("RELAY", &self.relay.url()).replace("HOME", &home))
        })
    }
}

#[test]
fn one_key_signs_whatever_the_shell_holds() {
    let Some(machine) = Machine::new() else { return };
    machine.run("init-images", &[KEYS]).ok();
    let has_cli = machine.install_cli();
    let mut combinations = 0;
    let meant = MEANT.iter().filter(|(meant, ..)| has_cli || !meant.contains("aws login"));
    for (index, (meant, arguments, shell, key)) in meant.enumerate() {
        // Each with one of them; all of them under `cargo xtask test --soak`.
        let others = ASTRAY.iter().cycle().skip(index).take(rounds(1, ASTRAY.len()));
        for (astray, others) in others {
            machine.relay.signed();
            let line = format!("auto-transfer-images --dry-run --refresh {arguments}");
            let run = machine.run(&line, &[*shell, *others]).ok();
            let signed = machine.relay.signed();
            let about = format!("{meant}, {astray}: {signed:?} {run}");
            // A role is assumed once, with the key that it is assumed by; a role between the two has the same name here.
            let source = if meant.contains("aws login") { "AKIALOGIN" } else { "AKIABANK" };
            let (by_source, by_role): (Vec<_>, Vec<_>) =
                signed.into_iter().partition(|(used, _)| used == source && *key == ANNA);
            assert_eq!(by_source.len(), usize::from(*key == ANNA), "{about}");
            assert!(by_source.iter().all(|(_, service)| service == "sts"), "{about}");
            let keys: BTreeSet<&str> = by_role.iter().map(|(used, _)| used.as_str()).collect();
            assert_eq!(keys, BTreeSet::from([*key]), "{about}");
            // The plan's own requests are among them, and the look for a key that an earlier grid of this name has left.
            let services: BTreeSet<&str> = by_role.iter().map(|(_, service)| service.as_str()).collect();
            assert_eq!(services, BTreeSet::from(["ecr", "kms", "s3", "sts"]), "{about}");
            combinations += 1;
        }
    }
    let (least, most) = if has_cli { (23, 69) } else { (19, 57) };
    assert!(combinations >= rounds(least, most), "{combinations}");
}

#[test]
fn a_whole_transfer_by_a_role_s_session_leaves_no_secret_behind() {
    let Some(machine) = Machine::new() else { return };
    machine.run("init-images --profile role", &[KEYS]).ok();
    machine.relay.signed();
    machine.run("auto-transfer-images --profile role", &[KEYS]).ok();
    let signed = machine.relay.signed();
    let others: Vec<_> = signed.iter().filter(|(key, _)| key != ANNA).collect();
    assert_eq!(others, [&("AKIABANK".to_owned(), "sts".to_owned())]);
    let services: BTreeSet<&str> = signed.iter().map(|(_, service)| service.as_str()).collect();
    assert_eq!(services, BTreeSet::from(["ecr", "kms", "s3", "sts"]));
    // The stand-in's own record of the run, terraform's files, the cache: none has the key.
    assert_eq!(
        machine.world.files_with(&["project", "target/xtask"], ANNA),
        Vec::<std::path::PathBuf>::new()
    );
}

#[test]
fn each_way_to_have_no_credentials_has_its_own_hint() {
    let Some(machine) = Machine::new() else { return };
    for (arguments, shell, words) in [
        (
            "",
            &[("AWS_PROFILE", "nobody")][..],
            &["AWS_PROFILE says the AWS profile nobody", "hint: there is no profile nobody"][..],
        ),
        ("--profile nobody", KEYS, &["--profile says the AWS profile nobody", "there are ", "bank"]),
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
fn a_session_of_aws_login_that_cannot_be_had_is_told_with_its_reason() {
    let Some(machine) = Machine::new() else { return };
    let failed = |profile: &str, words: &[&str]| {
        machine.run(&format!("list-images --profile {profile}"), &[KEYS]).end().failed(5, words);
    };
    // A CLI that does not know of it says that there is nothing, and is asked for its version then.
    let old =
        "[ \"$1\" = --version ] && exec echo aws-cli/2.31.39 Python/3.13.9\necho unknown >&2\nexit 253\n";
    machine.install("/bin/sh", old);
    let newer = "hint: install the aws CLI 2.32 or newer";
    failed("login", &["the AWS profile login is of `aws login`, which aws-cli/2.31.39 does not know", newer]);
    // What it printed may be a secret, and is not shown.
    machine.install("/bin/sh", "echo AKIATORN hush\n");
    let run = machine.run("list-images --profile login", &[KEYS]).end();
    run.failed(5, &["what the aws CLI printed for the AWS profile login are no credentials", newer]);
    assert!(!run.stderr.contains("hush"), "{run}");
    std::fs::remove_file(machine.world.path("bin/aws")).unwrap();
    let run =
        machine.run("list-images --profile login", &[KEYS]).env("PATH", machine.world.path("bin")).end();
    run.failed(5, &["whose credentials the aws CLI hands over: aws is not installed or not in PATH", newer]);
    // A session that is over, or that somebody ended; the login is named where a role is assumed with it.
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
fn a_session_of_aws_login_that_ends_during_a_run_is_asked_for_again() {
    let Some(machine) = Machine::new() else { return };
    machine.run("init-images", &[KEYS]).ok();
    // Credentials of `aws login` are good for 15 minutes at most, and these for one: they are asked for at each use.
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
    // Each time by the shell's own files, not by what the children of the run are given in their place.
    let asked = std::fs::read_to_string(asked).unwrap();
    assert!(asked.lines().count() > 2 && asked.trim().is_empty(), "{asked}");
}

#[test]
fn a_code_of_an_mfa_device_is_asked_for_on_a_terminal() {
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

#[test]
fn services_have_addresses_of_their_own_for_every_call() {
    let Some(machine) = Machine::new() else { return };
    let stack = serde_json::json!({ "name": "mainline", "region": REGION, "outputs": { "ImageTFStateBucketID": BUCKET } });
    machine.world.aws().stack(&stack);
    let elsewhere = "http://127.0.0.1:9";
    let own = ["STS", "ECR", "S3", "CLOUDFORMATION"];
    machine.relay.signed();
    let world = &machine.world;
    let images = world.path("images.toml");
    let by = |variables: &[(String, String)]| {
        let run = world.bare().arg("--images").arg(&images).args(&format!("doctor --region {REGION}"));
        let run = KEYS.iter().fold(run, |run, (name, value)| run.env(name, value));
        variables.iter().fold(run, |run, (name, value)| run.env(name, value)).end()
    };
    let each: Vec<(String, String)> = own
        .iter()
        .map(|service| (format!("AWS_ENDPOINT_URL_{service}"), machine.relay.url()))
        .chain([("AWS_ENDPOINT_URL".to_owned(), elsewhere.to_owned())])
        .collect();
    let run = by(&each);
    assert!(run.stdout.contains(BUCKET), "{run}");
    assert!(machine.relay.signed().iter().any(|(_, service)| service == "cloudformation"));
    // The same in a profile's `services`.
    let sections: String = own
        .iter()
        .map(|service| format!("{} =\n  endpoint_url = {}\n", service.to_lowercase(), machine.relay.url()))
        .collect();
    let config = world.write(
        "services.config",
        &format!("[default]\nservices = ours\nendpoint_url = {elsewhere}\n[services ours]\n{sections}"),
    );
    let run = by(&[("AWS_CONFIG_FILE".to_owned(), config.display().to_string())]);
    assert!(run.stdout.contains(BUCKET), "{run}");
    assert!(machine.relay.signed().iter().any(|(_, service)| service == "cloudformation"));
}

/// Every name that botocore 1.43, the Rust SDK, and terraform 1.11 with its Go SDK read, with a value that does harm where it
/// is read. AWS_CA_BUNDLE is not among them: the source registries, which are no part of AWS, are trusted by it, too.
const NAMES: &[(&str, &str)] = &[
    ("AWS_ACCESS_KEY", "AKIAOLD"),
    ("AWS_ACCESS_KEY_ID", "999999999999"),
    ("AWS_ACCOUNT_ID", "999999999999"),
    ("AWS_ACCOUNT_ID_ENDPOINT_MODE", "required"),
    ("AWS_AUTH_SCHEME_PREFERENCE", "sigv4a"),
    ("AWS_BEARER_TOKEN_BEDROCK", "x"),
    ("AWS_CONFIG_FILE", "HOME"),
    ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "x"),
    ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "HOME"),
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:9/"),
    ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/x"),
    ("AWS_CREDENTIAL_EXPIRATION", "2001-01-01T00:00:00Z"),
    ("AWS_CREDENTIAL_FILE", "HOME"),
    ("AWS_CSM_CLIENT_ID", "x"),
    ("AWS_CSM_ENABLED", "true"),
    ("AWS_CSM_HOST", "127.0.0.1"),
    ("AWS_CSM_PORT", "9"),
    ("AWS_DATA_PATH", "HOME"),
    ("AWS_DEFAULTS_MODE", "nonsense"),
    ("AWS_DEFAULT_PROFILE", "nobody"),
    ("AWS_DEFAULT_REGION", "us-gov-west-1"),
    ("AWS_DISABLE_CLOCK_SKEW_CORRECTION", "true"),
    ("AWS_DISABLE_HOST_PREFIX_INJECTION", "true"),
    ("AWS_DISABLE_REQUEST_COMPRESSION", "nonsense"),
    ("AWS_DYNAMODB_ENDPOINT", "http://127.0.0.1:9"),
    ("AWS_EC2_METADATA_DISABLED", "false"),
    ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:9"),
    ("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "nonsense"),
    ("AWS_EC2_METADATA_V1_DISABLED", "true"),
    ("AWS_ENABLE_ENDPOINT_DISCOVERY", "true"),
    ("AWS_ENDPOINT_DISCOVERY_ENABLED", "true"),
    ("AWS_ENDPOINT_URL", "http://127.0.0.1:9"),
    ("AWS_ENDPOINT_URL_CLOUDFORMATION", "http://127.0.0.1:9"),
    ("AWS_ENDPOINT_URL_DYNAMODB", "http://127.0.0.1:9"),
    ("AWS_ENDPOINT_URL_ECR", "http://127.0.0.1:9"),
    ("AWS_ENDPOINT_URL_IAM", "http://127.0.0.1:9"),
    ("AWS_ENDPOINT_URL_KMS", "http://127.0.0.1:9"),
    ("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9"),
    ("AWS_ENDPOINT_URL_SSO", "http://127.0.0.1:9"),
    ("AWS_ENDPOINT_URL_SSO_OIDC", "http://127.0.0.1:9"),
    ("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:9"),
    ("AWS_EXECUTION_ENV", "x"),
    ("AWS_IAM_ENDPOINT", "http://127.0.0.1:9"),
    ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true"),
    ("AWS_IMDS_USE_IPV6", "true"),
    ("AWS_LAMBDA_FUNCTION_NAME", "x"),
    ("AWS_LOGIN_CACHE_DIRECTORY", "HOME"),
    ("AWS_MAX_ATTEMPTS", "nonsense"),
    ("AWS_METADATA_SERVICE_NUM_ATTEMPTS", "nonsense"),
    ("AWS_METADATA_SERVICE_TIMEOUT", "nonsense"),
    ("AWS_METADATA_URL", "http://127.0.0.1:9"),
    ("AWS_NEW_RETRIES_2026", "true"),
    ("AWS_PROFILE", "nobody"),
    ("AWS_REGION", "us-gov-west-1"),
    ("AWS_REQUEST_CHECKSUM_CALCULATION", "nonsense"),
    ("AWS_REQUEST_MIN_COMPRESSION_SIZE_BYTES", "nonsense"),
    ("AWS_RESPONSE_CHECKSUM_VALIDATION", "nonsense"),
    ("AWS_RETRY_MODE", "nonsense"),
    ("AWS_ROLE_ARN", "arn:aws:iam::999999999999:role/x"),
    ("AWS_ROLE_SESSION_NAME", "x"),
    ("AWS_S3CONTROL_USE_ARN_REGION", "nonsense"),
    ("AWS_S3_ACCELERATE", "true"),
    ("AWS_S3_DISABLE_EXPRESS_SESSION_AUTH", "nonsense"),
    ("AWS_S3_DISABLE_MULTIREGION_ACCESS_POINTS", "nonsense"),
    ("AWS_S3_ENDPOINT", "http://127.0.0.1:9"),
    ("AWS_S3_FORCE_PATH_STYLE", "nonsense"),
    ("AWS_S3_USE_ARN_REGION", "nonsense"),
    ("AWS_S3_US_EAST_1_REGIONAL_ENDPOINT", "nonsense"),
    ("AWS_SDK_GO_CLIENT_TLS_CERT", "HOME"),
    ("AWS_SDK_GO_CLIENT_TLS_KEY", "HOME"),
    ("AWS_SDK_LOAD_CONFIG", "1"),
    ("AWS_SDK_UA_APP_ID", "x"),
    ("AWS_SECRET_ACCESS_KEY", "x"),
    ("AWS_SECRET_KEY", "x"),
    ("AWS_SECURITY_TOKEN", "x"),
    ("AWS_SESSION_TOKEN", "x"),
    ("AWS_SHARED_CONFIG_FILE", "HOME"),
    ("AWS_SHARED_CREDENTIALS_FILE", "HOME"),
    ("AWS_SIGV4A_SIGNING_REGION_SET", "*"),
    ("AWS_SSE_CUSTOMER_KEY", "bm90IGEga2V5"),
    ("AWS_STS_ENDPOINT", "http://127.0.0.1:9"),
    ("AWS_STS_REGIONAL_ENDPOINTS", "nonsense"),
    ("AWS_USE_DUALSTACK", "true"),
    ("AWS_USE_DUALSTACK_ENDPOINT", "true"),
    ("AWS_USE_FIPS", "true"),
    ("AWS_USE_FIPS_ENDPOINT", "true"),
    ("AWS_WEB_IDENTITY_TOKEN_FILE", "HOME"),
];

#[test]
fn local_takes_nothing_of_aws_from_this_machine() {
    let Some(world) = World::grid(IMAGES) else { return };
    world.xtask(INIT).ok();
    // Whatever is not on this machine would be asked for here.
    let outside = Relay::to("127.0.0.1:9", &[("", "{}")]);
    // A default profile of `aws login`, whose credentials the aws CLI would hand over.
    std::fs::create_dir_all(world.path("home/.aws")).unwrap();
    world.write("home/.aws/config", "[default]\nlogin_session = arn:aws:iam::123456789012:user/anna\n");
    std::fs::create_dir(world.path("bin")).unwrap();
    let (asked, cli) = (world.path("asked"), world.path("bin/aws"));
    world.write("bin/aws", &format!("#!/bin/sh\ntouch '{}'\n", asked.display()));
    std::fs::set_permissions(&cli, std::fs::Permissions::from_mode(0o755)).unwrap();
    // Terraform with its environment written down.
    let real = e2e::program("terraform").unwrap();
    let written = world.path("environment");
    let script = format!("#!/bin/sh\nenv >> '{}'\nexec '{}' \"$@\"\n", written.display(), real.display());
    let terraform = world.write("bin/terraform", &script);
    std::fs::set_permissions(&terraform, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", world.path("bin").display(), std::env::var("PATH").unwrap());
    let home = world.path("home").display().to_string();
    let url = format!("http://{}", world.aws().host);
    let expected: BTreeSet<String> = [
        ("AWS_ACCESS_KEY_ID", "local"),
        ("AWS_CONFIG_FILE", "/dev/null"),
        ("AWS_DEFAULT_REGION", REGION),
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("AWS_ENDPOINT_URL", &url),
        ("AWS_REGION", REGION),
        ("AWS_SECRET_ACCESS_KEY", "local"),
        ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
    ]
    .iter()
    .map(|(name, value)| format!("{name}={value}"))
    .collect();
    // All at once, and those that hide another one by themselves.
    let alone = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_STS", "AWS_PROFILE", "AWS_USE_FIPS_ENDPOINT"];
    let shells = std::iter::once(NAMES.to_vec())
        .chain(alone.iter().map(|name| NAMES.iter().filter(|(known, _)| known == name).copied().collect()));
    for shell in shells {
        std::fs::write(&written, "").unwrap();
        let run = world.xtask("auto-transfer-images --refresh").env("PATH", &path);
        let run = run.env("HTTPS_PROXY", outside.url()).env("HTTP_PROXY", outside.url());
        let run =
            shell.iter().fold(run, |run, (name, value)| run.env(name, value.replace("HOME", &home))).ok();
        let of_aws: BTreeSet<String> = std::fs::read_to_string(&written)
            .unwrap()
            .lines()
            .filter(|line| line.starts_with("AWS_"))
            .map(str::to_owned)
            .collect();
        // `terraform version` is asked before there is an AWS.
        assert_eq!(of_aws, expected, "{shell:?}: {run}");
        assert_eq!(outside.asked(), BTreeSet::new(), "{shell:?}: {run}");
        assert!(!run.stderr.contains("warning"), "{shell:?}: {run}");
        assert!(!asked.exists(), "{shell:?}: {run}");
    }
}
