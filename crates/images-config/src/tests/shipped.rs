//! The shipped images.toml, and the variables for terraform made from it.

use super::*;
use crate::tfvars::Existing;

#[test]
fn the_shipped_file_has_the_whole_contract_of_htc_grid() {
    let config = parse(SHIPPED).unwrap_or_else(|problems| panic!("{problems}"));
    let images: Vec<String> = config
        .images
        .iter()
        .map(|image| format!("{} -> {}:{}", image.source, image.repository, image.tag))
        .collect();
    assert_eq!(
        images,
        [
            "docker.io/curlimages/curl:7.85.0 -> curl:7.85.0",
            "docker.io/grafana/grafana:10.1.1 -> grafana:10.1.1",
            "ghcr.io/kedacore/keda:2.11.2 -> kedacore/keda:2.11.2",
            "ghcr.io/kedacore/keda-admission-webhooks:2.11.2 -> kedacore/keda-admission-webhooks:2.11.2",
            "ghcr.io/kedacore/keda-metrics-apiserver:2.11.2 -> kedacore/keda-metrics-apiserver:2.11.2",
        ]
    );
    assert!(config.images.iter().all(|image| image.platforms == Platforms::Only(vec![default_platform()])));
    assert_eq!(
        config.repositories,
        [
            "awshpc",
            "awshpc-lambda",
            "awshpc-local",
            "curl",
            "grafana",
            "kedacore/keda",
            "kedacore/keda-admission-webhooks",
            "kedacore/keda-metrics-apiserver",
            "lambda",
            "lambda-init",
            "submitter",
        ]
    );
    let rules: Vec<(&str, &str)> =
        config.pull_through.iter().map(|rule| (rule.prefix.as_str(), rule.upstream.as_str())).collect();
    assert_eq!(
        rules,
        [("ecr-public", "public.ecr.aws"), ("quay", "quay.io"), ("registry-k8s-io", "registry.k8s.io")]
    );
    let runtimes: Vec<String> = config
        .runtimes
        .iter()
        .map(|runtime| {
            format!("{} {} {}", runtime.name, runtime.base, runtime.entry_point.as_ref().unwrap().file)
        })
        .collect();
    let lambda = "public.ecr.aws/lambda";
    assert_eq!(
        runtimes,
        [
            format!("provided {lambda}/provided:al2 lambda_entry_point_provided.sh"),
            format!("python3.8 {lambda}/python:3.8 lambda_entry_point.sh"),
            format!("dotnet5.0 {lambda}/dotnet:5.0 lambda_entry_point.sh"),
            format!("java17 {lambda}/java:17 lambda_entry_point.sh"),
            format!("provided.al2023 {lambda}/provided:al2023 lambda_entry_point_provided.sh"),
            format!("python3.12 {lambda}/python:3.12 lambda_entry_point.sh"),
            format!("python3.13 {lambda}/python:3.13 lambda_entry_point.sh"),
            format!("java21 {lambda}/java:21 lambda_entry_point.sh"),
            format!("dotnet8 {lambda}/dotnet:8 lambda_entry_point.sh"),
            format!("nodejs22 {lambda}/nodejs:22 lambda_entry_point.sh"),
            format!("python3.14 {lambda}/python:3.14 lambda_entry_point.sh"),
            format!("java25 {lambda}/java:25 lambda_entry_point.sh"),
            format!("nodejs24 {lambda}/nodejs:24 lambda_entry_point.sh"),
            format!("dotnet10 {lambda}/dotnet:10 lambda_entry_point.sh"),
            format!("java17.al2023 {lambda}/java:17.al2023 lambda_entry_point.sh"),
        ]
    );
    assert_eq!(config.enabled_runtimes().count(), 15);
    // The image for building functions, and the eleven of the charts.
    assert_eq!(config.prime.len(), 12);
    assert_eq!(config.prime[0].repository, "ecr-public/sam/build-python3.11");
    assert_eq!(config.prime[0].upstream.to_string(), "public.ecr.aws/sam/build-python3.11:1");
    assert_eq!(config.options, Repositories::default());
    assert_eq!((config.kms, config.registry), (Kms::default(), RegistrySettings::default()));
    assert!(config.account.is_none() && config.upstreams.is_empty() && config.tags.is_empty());
}

/// The parser accepts every key in the file's comments: the examples are read too.
#[test]
fn terraform_gets_the_resources_that_do_not_exist_yet() {
    let config = parse(SHIPPED).unwrap();
    let existing = Existing {
        repositories: BTreeMap::from([
            ("curl".into(), "123456789012.dkr.ecr.eu-west-1.amazonaws.com/curl".into()),
            ("foreign".into(), "123456789012.dkr.ecr.eu-west-1.amazonaws.com/foreign".into()),
        ]),
        pull_through: BTreeMap::from([("quay".into(), "quay.io".into()), ("other".into(), "ghcr.io".into())]),
        templates: std::collections::BTreeSet::from(["registry-k8s-io".into()]),
        own_templates: std::collections::BTreeSet::new(),
        older_aliases: Vec::new(),
    };
    let vars = config.tfvars("mainline", "eu-west-1", "123456789012", &existing);
    assert_eq!(vars["repositories"].as_array().map(Vec::len), Some(10));
    assert_eq!(
        vars["existing_repositories"],
        serde_json::json!({ "curl": "123456789012.dkr.ecr.eu-west-1.amazonaws.com/curl" })
    );
    assert_eq!(
        vars["pull_through_cache_rules"],
        serde_json::json!({
            "ecr-public": {
                "upstream": "public.ecr.aws", "credential_arn": null, "custom_role_arn": null, "upstream_repository_prefix": null
            },
            "registry-k8s-io": {
                "upstream": "registry.k8s.io", "credential_arn": null, "custom_role_arn": null, "upstream_repository_prefix": null
            },
        })
    );
    assert_eq!(vars["existing_pull_through_cache_rules"], serde_json::json!({ "quay": "quay.io" }));
    // A template for repositories that ECR creates under the grid's own rules, if no other template exists there.
    assert_eq!(vars["creation_template"], serde_json::Value::Null);
    let role = "arn:aws:iam::123456789012:role/ecr-creation-template";
    let with_role = format!("{SHIPPED}\n[creation_template]\nrole_arn = \"{role}\"\n");
    let vars_with_role =
        parse(&with_role).unwrap().tfvars("mainline", "eu-west-1", "123456789012", &existing);
    let expected = serde_json::json!({ "role_arn": role, "prefixes": ["ecr-public"] });
    assert_eq!(vars_with_role["creation_template"], expected);
    // This grid's own template stays under a rule that is no longer in its state.
    let existing = Existing { own_templates: std::collections::BTreeSet::from(["quay".into()]), ..existing };
    let left = parse(&with_role).unwrap().tfvars("mainline", "eu-west-1", "123456789012", &existing);
    assert_eq!(left["creation_template"]["prefixes"], serde_json::json!(["ecr-public", "quay"]));
    assert_eq!(vars["runtimes"]["tags"].as_array().map(Vec::len), Some(15));
    assert_eq!((&vars["tag"], &vars["region"]), (&"mainline".into(), &"eu-west-1".into()));
}

/// Terraform only warns about an unknown variable, and would use the default of the variable that was intended.
#[test]
fn terraform_has_exactly_these_variables() {
    let module = include_str!("../../../../deployment/image_repository/terraform/variables.tf");
    let mut declared: Vec<&str> =
        module.lines().filter_map(|line| line.strip_prefix("variable \"")?.strip_suffix("\" {")).collect();
    declared.sort_unstable();
    let vars = parse(SHIPPED).unwrap().tfvars("t", "eu-west-1", "123456789012", &Existing::default());
    let mut given: Vec<&str> = vars.as_object().unwrap().keys().map(String::as_str).collect();
    given.sort_unstable();
    assert_eq!(given, declared);
}
