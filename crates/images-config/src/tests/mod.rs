//! The shipped images.toml, and all kinds of errors in it.

mod shipped;

use super::values::upstream_option;
use super::*;

const SHIPPED: &str = include_str!("../../../../deployment/image_repository/images.toml");

/// This project's own files.
fn sources() -> Sources {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().and_then(Path::parent).unwrap();
    Sources::of(&root.join("deployment/image_repository/images.toml"), root)
}

fn parse(text: &str) -> Result<Config, Problems> {
    Config::parse(text, Path::new("images.toml"), Some(&sources()))
}

/// The errors of a file after a first line with the version.
fn errors(text: &str) -> String {
    match parse(&format!("schema_version = 1\n{text}")) {
        Ok(config) => panic!("it was taken: {config:#?}"),
        Err(problems) => problems.to_string(),
    }
}

#[test]
fn the_examples_in_the_comments_work() {
    // An example is a comment that starts with a table, with one word and an equals sign, or with an indented quote.
    let uncommented = |line: &'static str| {
        let rest = line.strip_prefix("# ")?;
        let first = rest.split_whitespace().next()?;
        let example =
            rest.starts_with('[') || rest.starts_with("    \"") || rest[first.len()..].starts_with(" = ");
        example.then(|| rest.trim_start().split("   ").next())?
    };
    let text: Vec<&str> = SHIPPED.lines().map(|line| uncommented(line).unwrap_or(line)).collect();
    let text = text.join("\n");
    let config = parse(&text).unwrap_or_else(|problems| panic!("{problems}\n{text}"));
    assert_eq!(config.account.as_deref(), Some("123456789012"));
    assert_eq!(config.options.keep_builds, Some(20));
    assert!(config.options.protect_build_tags);
    assert_eq!(config.options.pull_accounts, ["210987654321"]);
    assert_eq!(config.registry.replicate_to, ["us-east-1"]);
    assert_eq!(config.registry.blob_mounting, Some(true));
    let profile = config.registry.sign_runtimes.as_ref().unwrap();
    assert_eq!(profile.place(), ("aws", "eu-west-1"));
    assert_eq!(config.upstreams["docker.io"], "https://artifactory.example.com/docker-remote");
    assert!(config.mirrors["docker.io"].counts_pulls);
    assert_eq!(config.mirrors["docker.io"].blob_hosts, ["minio.example.com:9000"]);
    assert_eq!(config.tags["cost-centre"], "risk");
    assert_eq!(config.min_ages[0].text, "3d");
    let signed = |name: &str| config.trusted(&name.parse().unwrap()).is_some();
    assert!(signed("ghcr.io/kedacore/keda-metrics-apiserver:2") && !signed("ghcr.io/kedacore/keda:2"));
    assert_eq!((config.images.len(), config.runtimes.len(), config.pull_through.len()), (6, 16, 5));
}

#[test]
fn the_longest_pattern_is_the_rule_of_a_source() {
    let unsigned = |pattern: &str| format!("\"{pattern}\" = {{ unsigned = true }}\n");
    let signed = |pattern: &str| {
        format!("\"{pattern}\" = {{ signed_by = {{ identity = \"{pattern}\", issuer = \"x\" }} }}\n")
    };
    let rules = [
        signed("*"),
        signed("docker.io/*"),
        signed("busybox"),
        signed("grafana/*"),
        unsigned("grafana/grafana"),
        unsigned("quay.io/*"),
        signed("quay.io/argo*"),
        signed("127.0.0.1:5000/*"),
    ];
    let config = parse(&format!("schema_version = 1\n[trust]\n{}", rules.concat())).unwrap();
    for (image, rule) in [
        ("ghcr.io/a/b:1", Some("*")),
        ("alpine:1", Some("docker.io/*")),
        ("docker.io/library/busybox:1", Some("busybox")),
        ("busybox2:1", Some("docker.io/*")),
        ("grafana/loki:1", Some("grafana/*")),
        ("grafana/grafana:1", None),
        ("grafana/grafana2:1", Some("grafana/*")),
        ("quay.io/x/y:1", None),
        ("quay.io/argoproj/cd:1", Some("quay.io/argo*")),
        ("127.0.0.1:5000/x:1", Some("127.0.0.1:5000/*")),
        ("127.0.0.1:50001/x:1", Some("*")),
    ] {
        let found = config.trusted(&image.parse().unwrap()).map(|rule| rule.pattern.as_str());
        assert_eq!(found, rule, "{image}");
    }
}

#[test]
fn min_age_is_set_for_all_sources_or_by_source() {
    let hours = |config: &Config, image: &str| {
        config.min_age(&image.parse().unwrap()).map(|rule| (rule.age.as_hours(), rule.line))
    };
    let all = parse("schema_version = 1\nmin_age = \"3d\"\n[images]\n").unwrap();
    assert_eq!(hours(&all, "a/b:1"), Some((72, 2)));
    let rules =
        "\"*\" = \"1w\"\n\"docker.io/*\" = \"36 hours\"\nbusybox = \"90m\"\n\"quay.io/mine/*\" = \"0d\"\n";
    let config = parse(&format!("schema_version = 1\n[min_age]\n{rules}")).unwrap();
    for (image, rule) in [
        ("ghcr.io/a/b:1", Some((168, 3))),
        ("alpine:1", Some((36, 4))),
        ("busybox:1", Some((1, 5))),
        ("quay.io/mine/a:1", None),
        ("quay.io/theirs/a:1", Some((168, 3))),
    ] {
        assert_eq!(hours(&config, image), rule, "{image}");
    }
    assert_eq!(hours(&parse("schema_version = 1\n").unwrap(), "a/b:1"), None);
    let wrong = errors("min_age = 3\n");
    assert!(wrong.contains("images.toml:2:11: min_age: is a whole number, but must be a string"), "{wrong}");
    let lost = errors("[min_age]\ndocker.io = \"3d\"\n");
    assert!(lost.contains("`docker.io` has a dot and needs quotes"), "{lost}");
}

#[test]
fn every_form_of_an_image() {
    let digest = registry::Digest::of(b"x");
    let text = format!(
        "schema_version = 1\nplatforms = [\"linux/arm64\"]\n[images]\n\
         busybox = \"busybox:latest\"\n\
         \"tools/a:one\" = \"host:5000/a/b:tag\"\n\
         pinned = \"ghcr.io/x/y:1@{digest}\"\n\
         \"bare:2\" = \"ghcr.io/x/y@{digest}\"\n\
         all = {{ source = \"a/b:1\", platforms = \"all\", artifacts = true }}\n\
         one = {{ source = \"a/b:1\", platforms = \"linux/arm/v7\" }}\n"
    );
    let config = parse(&text).unwrap_or_else(|problems| panic!("{problems}"));
    let shown: Vec<String> = config
        .images
        .iter()
        .map(|image| {
            let platforms = match &image.platforms {
                Platforms::All => "all".to_owned(),
                Platforms::Only(list) => list.iter().map(ToString::to_string).collect(),
            };
            format!(
                "{}:{} {} {platforms} {} {}",
                image.repository, image.tag, image.source, image.artifacts, image.line
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            "all:1 docker.io/a/b:1 all true 8".to_owned(),
            format!("bare:2 ghcr.io/x/y@{digest} linux/arm64 false 7"),
            "busybox:latest docker.io/library/busybox:latest linux/arm64 false 4".to_owned(),
            "one:1 docker.io/a/b:1 linux/arm/v7 false 9".to_owned(),
            format!("pinned:1 ghcr.io/x/y:1@{digest} linux/arm64 false 6"),
            "tools/a:one host:5000/a/b:tag linux/arm64 false 5".to_owned(),
        ]
    );
    assert_eq!(config.repositories, ["all", "bare", "busybox", "lambda", "one", "pinned", "tools/a"]);
}

#[test]
fn every_form_of_a_runtime() {
    let config = parse(
        "schema_version = 1\n[runtimes]\na = { base = \"x/y:1\", platforms = [\"linux/amd64\", \"linux/arm64\"], \
         build_args = { B = \"1\", A = \"\" }, epoch = 7, enabled = false }\nb = \"x/y:2\"\n",
    )
    .unwrap_or_else(|problems| panic!("{problems}"));
    let runtime = &config.runtimes[0];
    assert_eq!(runtime.platforms.len(), 2);
    assert_eq!(runtime.build_args, BTreeMap::from([("A".into(), String::new()), ("B".into(), "1".into())]));
    assert_eq!((runtime.epoch.as_deref(), runtime.enabled, runtime.line), (Some("7"), false, 3));
    assert_eq!(config.enabled_runtimes().map(|runtime| &runtime.name).collect::<Vec<_>>(), ["b"]);
}

#[test]
fn names_that_lost_their_quotes_are_recognised() {
    assert_eq!(
        errors(
            "[runtimes]\nprovided.base = \"x/y:1\"\npython3.12 = \"x/y:1\"\npython3.13 = \"x/y:1\"\n\
             [upstream.docker.io]\nurl = \"https://m.example\"\n[upstream]\n\"ghcr.io\".url = \"https://m.example\"\n"
        ),
        "images.toml has 3 errors
  images.toml:4:9: runtimes.python3.12: `python3.12` has a dot and needs quotes
      help: write \"python3.12\"
  images.toml:5:9: runtimes.python3.13: `python3.13` has a dot and needs quotes
      help: write \"python3.13\"
  images.toml:6:18: upstream.docker.io: `docker.io` has a dot and needs quotes
      help: write \"docker.io\""
    );
}

#[test]
fn an_image_and_a_runtime_cannot_share_a_tag() {
    assert_eq!(
        errors("[images]\n\"lambda:a\" = \"x/y:1\"\n\"lambda:b-k1-0\" = \"x/y:1\"\n[runtimes]\na = \"x/y:1\"\n"),
        "images.toml has 2 errors
  images.toml:4:1: images.\"lambda:b-k1-0\": `lambda:b-k1-0` looks like the build of a runtime
  images.toml:6:1: runtimes.a: `lambda:a` is the destination of a runtime and of an image
      help: the image is images.\"lambda:a\" on line 3: give it another tag, or the runtime `enabled = false`"
    );
    let off = "schema_version = 1\n[images]\n\"lambda:a\" = \"x/y:1\"\n[runtimes]\na = { base = \"x/y:1\", enabled = false }\n";
    assert!(parse(off).is_ok());
}

#[test]
fn no_runtime_has_the_name_of_another_ones_additional_tag() {
    let ours = ["x-cache", "x-cache-linux-amd64", "x-history", "x-k2-0", "x-k1-y", "x-sha256-0123"];
    let lines: String = ours.iter().map(|name| format!("{name} = \"a/b:1\"\n")).collect();
    let said = errors(&format!("[runtimes]\n{lines}"));
    for (at, name) in ours.iter().enumerate() {
        let wanted = format!(
            "images.toml:{}:1: runtimes.{name}: `{name}` looks like a tag that belongs to another",
            at + 3
        );
        assert!(said.contains(&wanted), "{wanted}\n{said}");
    }
    let others =
        "schema_version = 1\n[runtimes]\ncache = \"a/b:1\"\nx-k8s = \"a/b:1\"\nhistory-x = \"a/b:1\"\n";
    assert!(parse(others).is_ok());
}

#[test]
fn a_newer_schema_version_is_not_read_further() {
    let text = "schema_version = 2\nsomething = \"new\"\n";
    assert_eq!(
        parse(text).unwrap_err().to_string(),
        "images.toml has an error
  images.toml:1:18: schema_version: this images.toml is written for schema version 2, this xtask reads up to 1
      help: take the xtask that came with the file: `git pull`, or the branch that it was written on"
    );
    assert!(parse("[images]\n").unwrap_err().to_string().contains("`schema_version` is missing"));
}

#[test]
fn a_primed_image_needs_its_pull_through_rule() {
    let secret =
        "credential_arn = \"arn:aws:secretsmanager:eu-west-1:123456789012:secret:ecr-pullthroughcache/x\"";
    let rules = &format!(
        "[pull_through]\nhub = {{ upstream = \"registry-1.docker.io\", {secret} }}\n\"hub/x\" = {{ upstream = \"ghcr.io\", {secret} }}\n"
    );
    let text = |prime: &str| format!("schema_version = 1\nprime = [{prime}]\n{rules}");
    let config =
        parse(&text("\"hub/curl:1\", \"hub/x/y/z:2\"")).unwrap_or_else(|problems| panic!("{problems}"));
    let upstreams: Vec<String> = config.prime.iter().map(|prime| prime.upstream.to_string()).collect();
    assert_eq!(upstreams, ["docker.io/library/curl:1", "ghcr.io/y/z:2"]);
    let wrong = parse(&text("\"quay/x:1\", \"hub/curl\", \"hub/a:1\", \"hub/a:1\"")).unwrap_err().to_string();
    assert_eq!(
        wrong,
        "images.toml has 3 errors
  images.toml:2:10: prime[0]: `quay/x:1` does not begin with a prefix of [pull_through]
      help: prefixes: hub, hub/x
  images.toml:2:22: prime[1]: `hub/curl` has no tag
  images.toml:2:45: prime[3]: `hub/a:1` is listed twice"
    );
}

#[test]
fn upstreams_never_show_a_password() {
    let text = errors(
        "[upstream]\n\"docker.io\" = \"https://me:hunter2@m.example\"\n\"index.docker.io\".url = \"x\"\n",
    );
    assert!(!text.contains("hunter2"), "{text}");
    assert!(text.contains("docker login") && text.contains("is called `docker.io` here"), "{text}");
}

#[test]
fn a_missing_or_binary_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("images.toml");
    let load = || {
        Config::load(&path, Path::new("images.toml"), &Sources::of(&path, dir.path()))
            .unwrap_err()
            .to_string()
    };
    assert!(load().contains("images.toml:1:1: cannot be read: No such file"), "{}", load());
    std::fs::write(&path, b"a = \"\xff\"").unwrap();
    assert!(load().contains("is not UTF-8 text at byte 5"), "{}", load());
}

#[test]
fn the_shipped_file_finds_its_entry_points() {
    let file = sources().top.join("deployment/image_repository/images.toml");
    Config::load(&file, Path::new("images.toml"), &sources()).unwrap_or_else(|problems| panic!("{problems}"));
}

/// The parser never panics: on a file cut or changed at any position, or with other line ends.
#[test]
fn the_parser_never_panics() {
    let answered = |text: &str| {
        if let Err(problems) = parse(text) {
            assert!(!problems.all().is_empty() && problems.to_string().starts_with("images.toml"));
            assert!(problems.all().iter().all(|problem| problem.line >= 1 && problem.column >= 1));
        }
    };
    let places = SHIPPED.char_indices().map(|(at, _)| at).step_by(29);
    for at in places {
        answered(&SHIPPED[..at]);
        for strange in ["\"", "]", "é", "\0", "=", "."] {
            answered(&format!("{}{strange}{}", &SHIPPED[..at], &SHIPPED[at..]));
        }
    }
    let windows = parse(&SHIPPED.replace('\n', "\r\n")).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(windows.images, parse(SHIPPED).unwrap().images);
}

#[test]
fn an_upstream_on_the_command_line_replaces_the_files() {
    let mut config =
        parse("schema_version = 1\n[upstream]\n\"docker.io\" = \"https://m.example/hub/\"\n").unwrap();
    assert_eq!(config.upstreams["docker.io"], "https://m.example/hub");
    config.upstreams.extend(upstream_option("docker.io=http://127.0.0.1:5000/docker.io/"));
    assert_eq!(config.upstreams["docker.io"], "http://127.0.0.1:5000/docker.io");
    for wrong in ["docker.io", "=http://x", "docker.io=", "quay=http://127.0.0.1", "quay.io=m.example"] {
        assert!(upstream_option(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn hosts_have_no_upper_and_lower_case() {
    let text = r#"schema_version = 1
prime = ["kube/pause:3"]
[pull_through]
kube = "Registry.K8s.IO"
[upstream]
"Docker.IO" = { url = "https://Mirror.Example/hub", counts_pulls = true, blob_hosts = ["Minio.Corp:9000"] }
"Localhost:5000" = "http://127.0.0.1:5000"
[min_age]
"Quay.IO/*" = "3d"
"GHCR.io/a/b" = "4d"
"#;
    let config = parse(text).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(config.upstreams.keys().collect::<Vec<_>>(), ["docker.io", "localhost:5000"]);
    assert!(config.mirrors["docker.io"].counts_pulls);
    assert_eq!(config.pull_through[0].upstream, "registry.k8s.io");
    assert_eq!(config.prime[0].upstream.to_string(), "registry.k8s.io/pause:3");
    for (image, age) in [("quay.io/x/y", "3d"), ("QUAY.io/x/y", "3d"), ("ghcr.io/a/b", "4d")] {
        assert_eq!(config.min_age(&image.parse().unwrap()).unwrap().text, age, "{image}");
    }
    assert_eq!(upstream_option("Docker.IO=https://m.example").unwrap().0, "docker.io");
    for (twice, why) in [
        (
            "\"Quay.IO\" = \"https://a.example\"\n\"quay.io\" = \"https://b.example\"",
            "`quay.io` is there twice",
        ),
        ("\"Index.Docker.IO\" = \"https://a.example\"", "Docker Hub is called `docker.io` here"),
    ] {
        let problems = parse(&format!("schema_version = 1\n[upstream]\n{twice}\n")).unwrap_err().to_string();
        assert!(problems.contains(why), "{problems}");
    }
}

#[test]
fn rules_that_ecr_would_refuse_are_refused_with_their_lines() {
    let text = r#"schema_version = 1
account = "123456789012"
[pull_through]
public = "public.ecr.aws"
own = "123456789012.dkr.ecr.eu-west-2.amazonaws.com"
mcr = "mcr.microsoft.com"
dockerhub = "docker.io"
hub = "registry-1.docker.io"
gitlab = "registry.gitlab.com"
azure = { upstream = "team.azurecr.io" }
chain = { upstream = "cgr.dev", credential_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:team/cgr" }
other = { upstream = "ghcr.io", credential_arn = "arn:aws:secretsmanager:eu-west-1:210987654321:secret:ecr-pullthroughcache/x" }
param = { upstream = "ghcr.io", credential_arn = "arn:aws:ssm:eu-west-1:123456789012:parameter/x" }
good = { upstream = "ghcr.io", credential_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:ecr-pullthroughcache/x" }
role = { upstream = "quay.io", custom_role_arn = "arn:aws:iam::123456789012:role/cache" }
part = { upstream = "quay.io", upstream_repository_prefix = "team" }
user = { upstream = "210987654321.dkr.ecr.eu-west-1.amazonaws.com", custom_role_arn = "arn:aws:iam::123456789012:user/cache" }
away = { upstream = "210987654321.dkr.ecr.eu-west-1.amazonaws.com", custom_role_arn = "arn:aws:iam::210987654321:role/cache" }
fine = { upstream = "210987654321.dkr.ecr.eu-west-1.amazonaws.com", custom_role_arn = "arn:aws:iam::123456789012:role/cache", upstream_repository_prefix = "team" }
"#;
    let problems = parse(text).unwrap_err().to_string();
    for line in [
        "images.toml has 12 errors",
        "pull_through.role.custom_role_arn: this is for another ECR as upstream alone",
        "pull_through.part.upstream_repository_prefix: this is for another ECR as upstream alone",
        "pull_through.user.custom_role_arn: `arn:aws:iam::123456789012:user/cache` is not the ARN of an IAM role",
        "pull_through.away.custom_role_arn: the role is of account 210987654321",
        "images.toml:6:7: pull_through.mcr: ECR's pull-through cache does not support `mcr.microsoft.com`",
        "images.toml:7:13: pull_through.dockerhub: ECR does not know `docker.io`",
        "images.toml:8:7: pull_through.hub: ECR needs credentials for `registry-1.docker.io`",
        "images.toml:9:10: pull_through.gitlab: ECR needs credentials for `registry.gitlab.com`",
        "pull_through.azure.upstream: ECR needs credentials for `team.azurecr.io`",
        "pull_through.chain.credential_arn: the secret `team/cgr` must be named `ecr-pullthroughcache/...`",
        "pull_through.other.credential_arn: the secret belongs to account 210987654321",
        "pull_through.param.credential_arn: `arn:aws:ssm:eu-west-1:123456789012:parameter/x` is not the ARN",
        "it knows public.ecr.aws, quay.io, ",
    ] {
        assert!(problems.contains(line), "{line}:\n{problems}");
    }
}
