//! Files in the formats that HTC-Grid has used.

use super::*;

/// The present format, with variables next to the two keys.
const TODAY: &str = r#"{
    "image_to_copy": {
        "curlimages/curl:7.85.0":"curl",
        "ghcr.io/kedacore/keda:2.11.2": "kedacore/keda"
    },
    "repository" : [
        "awshpc",
        "lambda",
        "curl",
        "kedacore/keda",
        "submitter"
    ],
    "kms_deletion_window": 14,
    "kms_key_admin_roles": ["Admin"],
    "lambda_runtime": "python3.12",
    "region": "eu-west-2"
}
"#;

/// The format of 2021: 19 images from four registries, official ones, one repository for several, a tag in a value.
const OLD: &str = include_str!("../../testdata/images_config_2021.json");

fn import(text: &str) -> Result<String, String> {
    import_config(text, Path::new("images_config.json"), Path::new("/"))
        .map_err(|problems| problems.to_string())
}

fn config(text: &str) -> Config {
    let toml = import(text).unwrap_or_else(|errors| panic!("{errors}"));
    Config::parse(&toml, Path::new("images.toml"), None)
        .unwrap_or_else(|problems| panic!("{problems}\n{toml}"))
}

fn images(config: &Config) -> Vec<String> {
    let mut images: Vec<_> = config.images.iter().collect();
    images.sort_by_key(|image| image.line);
    images.iter().map(|image| format!("{} -> {}:{}", image.source, image.repository, image.tag)).collect()
}

#[test]
fn the_current_format() {
    let config = config(TODAY);
    assert_eq!(
        images(&config),
        [
            "docker.io/curlimages/curl:7.85.0 -> curl:7.85.0",
            "ghcr.io/kedacore/keda:2.11.2 -> kedacore/keda:2.11.2",
        ]
    );
    assert_eq!(config.repositories, ["awshpc", "curl", "kedacore/keda", "lambda", "submitter"]);
    assert_eq!(
        (config.kms.deletion_window, config.kms.admin_roles.as_slice()),
        (14, &["Admin".to_owned()][..])
    );
    assert_eq!(config.prime[0].repository, "ecr-public/sam/build-python3.12");
    assert_eq!((config.pull_through.len(), config.enabled_runtimes().count()), (3, 15));
    let toml = import(TODAY).unwrap();
    assert!(
        toml.contains("# region is not set in this file: set it with REGION=... on the command line.\n"),
        "{toml}"
    );
    assert!(toml.contains("# With platforms = \"all\" the index"), "the comments stay");
    assert!(!toml.contains("grafana"), "{toml}");
}

#[test]
fn the_format_of_2021() {
    let config = config(OLD);
    let images = images(&config);
    assert_eq!(images.len(), 19, "{images:#?}");
    for image in [
        "docker.io/library/busybox:latest -> busybox:latest",
        "docker.io/library/influxdb:1.8.6-alpine -> influxdb:1.8.6-alpine",
        "quay.io/example/metrics:v2.24.0 -> metrics:v2.24.0",
        "k8s.gcr.io/scaler/cluster-scaler:v1.19.1 -> cluster-scaler:v1.19.1",
        "docker.io/emulator/lambda:provided -> lambda:provided",
        "docker.io/emulator/lambda:python3.8 -> lambda:python3.8",
        "docker.io/emulator/lambda:build-python3.7 -> lambda-build:build-python3.7",
        "localhost:5000/team/tool:1 -> team/tool:stable",
    ] {
        assert!(images.iter().any(|found| found == image), "{image} is not in {images:#?}");
    }
    let off: Vec<&str> = config
        .runtimes
        .iter()
        .filter(|runtime| !runtime.enabled)
        .map(|runtime| runtime.name.as_str())
        .collect();
    assert_eq!(off, ["provided", "python3.8"], "their tags belong to images");
    assert_eq!(config.runtimes.len(), 15);
    assert!(config.repositories.contains(&"aws-balancer".to_owned()), "a repository without an image");
    assert!(import(OLD).unwrap().contains("# k8s.gcr.io has had no new images"));
}

#[test]
fn the_shipped_file_is_imported_unchanged() {
    let shipped = Config::parse(SHIPPED, Path::new("images.toml"), None).unwrap();
    let mut by_line: Vec<_> = shipped.images.iter().collect();
    by_line.sort_by_key(|image| image.line);
    let sources: Vec<String> = by_line
        .iter()
        .map(|image| {
            let source = image.source.to_string();
            format!("\"{}\": \"{}\"", source.trim_start_matches("docker.io/"), image.repository)
        })
        .collect();
    let repositories: Vec<String> = shipped.repositories.iter().map(|name| format!("\"{name}\"")).collect();
    let json = format!(
        "{{\"image_to_copy\": {{{}}}, \"repository\": [{}]}}",
        sources.join(", "),
        repositories.join(", ")
    );
    assert_eq!(import(&json).unwrap(), SHIPPED);
}

#[test]
fn all_errors_are_reported_at_once() {
    let text = r#"{
    "image_to_copy": {
        "x/bad name:1": "a1",
        "x/y": "b1",
        "x/y:1": "c1",
        "x/z:1": "c1",
        "x/y:1": "d1",
        "x/v:1": 3,
        "x/w:1": "Up",
        "x/u:1": "e1:-"
    },
    "repositroy": [],
    "kms_deletion_window": 3,
    "kms_key_admin_roles": ["arn:aws:iam::1:role/x", 1],
    "tag": "main"
}"#;
    assert_eq!(
        import(text).unwrap_err(),
        "images_config.json has 12 errors
  images_config.json:1:1: `repository` is missing
  images_config.json:3:9: image_to_copy.\"x/bad name:1\": `x/bad name` is not a repository: it must be lower-case letters and digits, separated by . _ - and /
  images_config.json:4:9: image_to_copy.\"x/y\": has neither tag nor digest
  images_config.json:6:9: image_to_copy.\"x/z:1\": has the destination `c1:1`, as x/y:1 has
  images_config.json:7:9: image_to_copy.\"x/y:1\": is given twice
  images_config.json:8:9: image_to_copy.\"x/v:1\": must be a repository, or a repository and a tag
  images_config.json:9:9: image_to_copy.\"x/w:1\": `Up` is not a repository name: `U`: ECR does not take upper case
  images_config.json:10:9: image_to_copy.\"x/u:1\": `-` is not a tag: 1 to 128 letters, digits, `.`, `_` and `-`, the first a letter, digit or `_`
  images_config.json:12:5: repositroy: unknown key
      help: did you mean `repository`?
  images_config.json:13:5: kms_deletion_window: is 3, but must be a whole number from 7 to 30
  images_config.json:14:29: kms_key_admin_roles: `arn:aws:iam::1:role/x` is an ARN: give the role's name alone
  images_config.json:14:52: kms_key_admin_roles: must contain strings"
    );
}

#[test]
fn invalid_json_is_reported_with_its_position() {
    assert_eq!(
        import("{\n  \"image_to_copy\": {,}\n}").unwrap_err(),
        "images_config.json has an error\n  images_config.json:2:21: not JSON: key must be a string"
    );
    assert!(import("[]").unwrap_err().contains("must be an object"));
    assert!(import("").unwrap_err().contains("not JSON: EOF while parsing a value"));
}

#[test]
fn a_repository_under_a_rule_is_refused() {
    let errors = import(r#"{"image_to_copy": {"x/y:1": "quay/y"}, "repository": ["quay/y"]}"#).unwrap_err();
    assert!(errors.contains("lies under the pull-through prefix `quay`"), "{errors}");
}
