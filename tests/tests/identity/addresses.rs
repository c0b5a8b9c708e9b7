//! The address of each service, and what `--local` ignores.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;

use e2e::{BUCKET, INIT, REGION, Relay, World};

use super::machine::{IMAGES, KEYS, Machine};

#[test]
fn each_service_uses_its_own_endpoint_for_every_call() {
    let Some(machine) = Machine::new() else { return };
    let stack = serde_json::json!({ "name": "mainline", "region": REGION, "outputs": { "ImageTFStateBucketID": BUCKET } });
    machine.world.aws().emulator.stack(&stack);
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

/// Every name that botocore 1.43, the Rust SDK, and terraform 1.11 with its Go SDK read, with a value that does harm if it is read.
/// AWS_CA_BUNDLE is not among them: it is also used for the source registries, which are not part of AWS.
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
fn local_ignores_this_machines_aws_settings() {
    let Some(world) = World::grid(IMAGES) else { return };
    world.xtask(INIT).ok();
    // Everything outside of this machine would be requested here.
    let outside = Relay::to("127.0.0.1:9", &[("", "{}")]);
    // A default profile of `aws login`, whose credentials the aws CLI would return.
    std::fs::create_dir_all(world.path("home/.aws")).unwrap();
    world.write("home/.aws/config", "[default]\nlogin_session = arn:aws:iam::123456789012:user/anna\n");
    std::fs::create_dir(world.path("bin")).unwrap();
    let (asked, cli) = (world.path("asked"), world.path("bin/aws"));
    world.write("bin/aws", &format!("#!/bin/sh\ntouch '{}'\n", asked.display()));
    std::fs::set_permissions(&cli, std::fs::Permissions::from_mode(0o755)).unwrap();
    // A terraform that records its environment.
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
    // All at once, and alone those that hide another one.
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
        // `terraform version` runs before there is an AWS.
        assert_eq!(of_aws, expected, "{shell:?}: {run}");
        assert_eq!(outside.asked(), BTreeSet::new(), "{shell:?}: {run}");
        assert!(!run.stderr.contains("warning"), "{shell:?}: {run}");
        assert!(!asked.exists(), "{shell:?}: {run}");
    }
}
