//! A user's machine whose AWS is the emulated one behind a relay, with a profile of each kind.

use std::os::unix::fs::PermissionsExt as _;

use e2e::{BUCKET, INIT, REGION, Relay, Run, World, checkout};

pub(crate) const IMAGES: &str = r#"schema_version = 1
[images]
"kedacore/keda" = "ghcr.io/kedacore/keda:2.11.2"
"#;

/// The answers of the SSO portal and of a container's credential endpoint.
pub(crate) const OWN: &[(&str, &str)] = &[
    (
        "GET /federation/credentials",
        r#"{"roleCredentials":{"accessKeyId":"AKIASSO","secretAccessKey":"s","sessionToken":"t","expiration":4000000000000}}"#,
    ),
    (
        "GET /container",
        r#"{"AccessKeyId":"AKIACONTAINER","SecretAccessKey":"s","Token":"t","Expiration":"2096-10-02T07:06:40Z"}"#,
    ),
];

/// A shell: its variables. RELAY is replaced by the relay's address, HOME by the user's directory.
pub(crate) type Shell = &'static [(&'static str, &'static str)];

pub(crate) const KEYS: Shell = &[("AWS_ACCESS_KEY_ID", "AKIASHELL"), ("AWS_SECRET_ACCESS_KEY", "s")];

/// The keys of sessions of the role `ops`, as created by the emulated AWS: ops/anna, ops/web, ops/mfa.
pub(crate) const ANNA: &str = "ASIAROLE6f70732f616e6e61";
pub(crate) const BY_TOKEN: &str = "ASIAROLE6f70732f776562";
pub(crate) const BY_CODE: &str = "ASIAROLE6f70732f6d6661";

/// The aws CLI of version 2 is in no package registry. This returns credentials like it, read by botocore, which has the same code
/// for that.
pub(crate) const CLI: &str = r#"
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

/// A user's machine whose AWS is the emulated one behind a relay: the bucket exists, terraform has the stand-in provider.
pub(crate) struct Machine {
    pub(crate) world: World,
    pub(crate) relay: Relay,
    /// The directories with programs: the aws CLI first.
    pub(crate) path: String,
}

/// Where `aws login` stores the session of user/anna: named by the SHA-256 of the user.
pub(crate) const LOGIN: &str =
    "home/.aws/login/cache/11bbc882fa0112a0e2aa42512092bdb77bdc2de5bcf739440b5e7e0228647a6c.json";

impl Machine {
    pub(crate) fn new() -> Option<Self> {
        let world = World::grid(IMAGES)?;
        world.xtask(INIT).ok();
        let relay = Relay::to(&world.aws().host, OWN);
        checkout(&world);
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
        // The file of the sign-on is named by the SHA-1 of its URL.
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
    pub(crate) fn install(&self, interpreter: &str, script: &str) {
        let program = self.world.write("bin/aws", &format!("#!{interpreter}\n{script}"));
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Installs the CLI that reads sessions of `aws login`, if it can run here.
    pub(crate) fn install_cli(&self) -> bool {
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

    /// `xtask` as run by this user.
    pub(crate) fn run(&self, line: &str, shells: &[Shell]) -> Run {
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
