//! Creating, describing and deleting repositories.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::app::App;
use crate::fault::Fault;
use crate::input::Input;
use crate::kms;
use crate::policy::Need;
use crate::quirks::Delay;
use crate::resource::{Asked, Call, Needs, Resource, ask};
use crate::scope::Scope;
use crate::store::model::{Encryption, Repository};
use crate::time::epoch_seconds;

pub(super) const RESOURCE: Resource = Resource {
    actions: &[
        ("CreateRepository", ON_NEW, create),
        ("DeleteRepository", ON_OLD, delete),
        ("DescribeRepositories", ON_EACH, describe),
    ],
    existing: Some(("aws_ecr_repository", |app, scope| names(app, scope, |_| true))),
    scenarios: &[("repositories", REPOSITORIES)],
};

/// Each repository of `repositoryNames`, or all.
const ON_EACH: Needs = |call, permission, input| {
    let names = input.texts("repositoryNames");
    let names = if names.is_empty() { vec!["*"] } else { names };
    Ok(names.into_iter().map(|name| Need::new(permission, arn(&call.scope, name))).collect())
};

/// A repository with its tags, and the grant with which ECR uses its key
/// (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/encryption-at-rest.html>).
const ON_NEW: Needs = |call, permission, input| {
    let repository = arn(&call.scope, input.opt("repositoryName").unwrap_or("*"));
    let tags = !input.list("tags").is_empty();
    let tags = tags.then(|| Need::new("ecr:TagResource", repository.clone()));
    let encryption = input.value("encryptionConfiguration");
    let encrypted = encryption
        .filter(|wanted| wanted["encryptionType"].as_str().is_some_and(|kind| kind.starts_with("KMS")));
    let key = encrypted.map(|wanted| kms::key_arn(call.app, &call.scope, wanted["kmsKey"].as_str(), "ecr"));
    let grant = key.transpose()?.into_iter().flat_map(|arn| {
        ["kms:DescribeKey", "kms:CreateGrant"]
            .map(|action| Need::new(action, arn.clone()).via("ecr", &call.scope))
    });
    Ok([Need::new(permission, repository)].into_iter().chain(tags).chain(grant).collect())
};

/// A repository, and retiring that grant.
const ON_OLD: Needs = |call, permission, input| {
    let name = input.opt("repositoryName").unwrap_or("*");
    let stands = call.app.store.region(&call.scope).repository(name);
    let key = stands.and_then(|repository| repository.encryption.key.clone());
    let grant = key.map(|arn| Need::new("kms:RetireGrant", arn).via("ecr", &call.scope));
    Ok([Need::new(permission, arn(&call.scope, name))].into_iter().chain(grant).collect())
};

/// The names of the repositories that `wanted` selects.
pub(super) fn names(app: &App, scope: &Scope, wanted: fn(&Repository) -> bool) -> Vec<String> {
    let all = app.store.region(scope).repositories().into_iter();
    all.filter(|repository| wanted(repository)).map(|repository| repository.name.clone()).collect()
}

/// ECR's well-known error for a missing repository.
pub(crate) fn not_found(scope: &Scope, name: &str) -> Fault {
    Fault::client(
        "RepositoryNotFoundException",
        format!(
            "The repository with name '{name}' does not exist in the registry with id '{}'",
            scope.account
        ),
    )
}

pub(crate) fn arn(scope: &Scope, name: &str) -> String {
    scope.arn("ecr", &format!("repository/{name}"))
}

/// The repository, or ECR's error.
pub(crate) fn find(app: &App, scope: &Scope, name: &str) -> Result<Arc<Repository>, Fault> {
    app.store.region(scope).repository(name).ok_or_else(|| not_found(scope, name))
}

/// Changes the repository, or returns ECR's error.
pub(crate) fn change<T>(
    app: &App,
    scope: &Scope,
    name: &str,
    change: impl FnOnce(&mut Repository) -> Result<T, Fault>,
) -> Result<T, Fault> {
    app.store.region(scope).change_repository(name, change).unwrap_or_else(|| Err(not_found(scope, name)))
}

/// Repository names by the API's own pattern.
pub(crate) fn is_valid_name(name: &str) -> bool {
    (2..=256).contains(&name.len())
        && name.split('/').all(|component| {
            let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
            let bytes = component.as_bytes();
            edge(bytes.first().copied())
                && edge(bytes.last().copied())
                && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(b))
                && !["..", "._", "_.", "-.", ".-", "-_", "_-", "___"]
                    .iter()
                    .any(|pair| component.contains(pair))
        })
}

fn create(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let name = input.text("repositoryName")?;
    if !is_valid_name(name) {
        return Err(Fault::invalid_parameter(
            "Invalid parameter at 'repositoryName' failed to satisfy constraint: 'must satisfy regular expression \
             '(?:[a-z0-9]+(?:[._-][a-z0-9]+)*/)*[a-z0-9]+(?:[._-][a-z0-9]+)*''",
        ));
    }
    let (mutability, filters) = super::settings::mutability(input)?;
    let repository = Repository {
        encryption: encryption(call, input)?,
        mutability,
        filters,
        scan_on_push: scan_on_push(input),
        resource_tags: super::settings::tags(input)?,
        ..Repository::new(name)
    };
    let shown = view(call.app, &call.scope, &repository);
    if !call.app.store.region(&call.scope).add_repository(repository)? {
        return Err(Fault::client(
            "RepositoryAlreadyExistsException",
            format!(
                "The repository with name '{name}' already exists in the registry with id '{}'",
                call.scope.account
            ),
        ));
    }
    call.app.quirks.delays.begin(Delay::Repository, &arn(&call.scope, name));
    call.app.quirks.delays.begin(Delay::Listing, &arn(&call.scope, name));
    Ok(json!({ "repository": shown }))
}

fn scan_on_push(input: &Input) -> bool {
    input.value("imageScanningConfiguration").and_then(|value| value["scanOnPush"].as_bool()).unwrap_or(false)
}

fn encryption(call: &Call<'_>, input: &Input) -> Result<Encryption, Fault> {
    let wanted = input.value("encryptionConfiguration");
    let kind = wanted.and_then(|value| value["encryptionType"].as_str()).unwrap_or("AES256");
    let key = wanted.and_then(|value| value["kmsKey"].as_str());
    match (kind, key) {
        ("AES256", None) => Ok(Encryption { kind: kind.to_owned(), key: None }),
        ("AES256", Some(_)) => Err(Fault::invalid_parameter(
            "Invalid parameter at 'encryptionConfiguration' failed to satisfy constraint: 'KMS key cannot be specified with \
             AES256 encryption type'",
        )),
        ("KMS" | "KMS_DSSE", key) => {
            let arn = match key {
                Some(key) => kms::usable_key(call.app, &call.scope, key)?,
                None => kms::aws_managed_key(call.app, &call.scope, "ecr")?,
            };
            Ok(Encryption { kind: kind.to_owned(), key: Some(arn) })
        }
        (other, _) => Err(Fault::invalid_parameter(format!(
            "Invalid parameter at 'encryptionType' failed to satisfy constraint: 'Member must satisfy enum value set: [KMS, \
             AES256, KMS_DSSE]', got '{other}'"
        ))),
    }
}

/// The repository in the API's format.
pub(crate) fn view(app: &App, scope: &Scope, repository: &Repository) -> Value {
    let mut encryption = json!({ "encryptionType": repository.encryption.kind });
    if let Some(key) = &repository.encryption.key {
        encryption["kmsKey"] = json!(key);
    }
    let mut view = json!({
        "repositoryArn": arn(scope, &repository.name),
        "registryId": scope.account,
        "repositoryName": repository.name,
        "repositoryUri": format!("{}/{}", app.host(), repository.name),
        "createdAt": epoch_seconds(repository.created),
        "imageTagMutability": repository.mutability,
        "imageScanningConfiguration": { "scanOnPush": repository.scan_on_push },
        "encryptionConfiguration": encryption,
    });
    if !repository.filters.is_empty() {
        view["imageTagMutabilityExclusionFilters"] = super::settings::filters_view(&repository.filters);
    }
    view
}

fn describe(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let names = input.texts("repositoryNames");
    if !names.is_empty() {
        let views: Vec<Value> = names
            .iter()
            .map(|name| find(call.app, &call.scope, name).map(|found| view(call.app, &call.scope, &found)))
            .collect::<Result<_, _>>()?;
        return Ok(json!({ "repositories": views }));
    }
    let mut all = call.app.store.region(&call.scope).repositories();
    all.retain(|repository| {
        call.app.quirks.delays.left(Delay::Listing, &arn(&call.scope, &repository.name)).is_none()
    });
    let (page, next) = input.page(&all, 1000)?;
    let views: Vec<Value> = page.iter().map(|repository| view(call.app, &call.scope, repository)).collect();
    Ok(json!({ "repositories": views, "nextToken": next }))
}

fn delete(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let name = input.text("repositoryName")?;
    let force = input.value("force").and_then(Value::as_bool).unwrap_or(false);
    let removed = call
        .app
        .store
        .region(&call.scope).remove_repository(name, |repository| {
            if repository.images.is_empty() || force {
                return Ok(());
            }
            Err(Fault::client(
                "RepositoryNotEmptyException",
                format!(
                    "The repository with name '{name}' in registry with id '{}' cannot be deleted because it still contains images",
                    call.scope.account
                ),
            ))
        })
        .unwrap_or_else(|| Err(not_found(&call.scope, name)))?;
    Ok(json!({ "repository": view(call.app, &call.scope, &removed) }))
}

const LIFECYCLE: &str = r#"{"repositoryName":"curl","lifecyclePolicyText":"{\"rules\":[{\"rulePriority\":1,\"selection\":{\"tagStatus\":\"untagged\",\"countType\":\"imageCountMoreThan\",\"countNumber\":3},\"action\":{\"type\":\"expire\"}}]}"}"#;
/// Padded to the minimum length of a policy.
const NO_RULES: &str = r#"{"repositoryName":"curl","lifecyclePolicyText":"{                                                                                                    }"}"#;
const PULL: &str = r#"{"repositoryName":"curl","policyText":"{\"Version\":\"2012-10-17\",\"Statement\":[{\"Sid\":\"Pull\",\"Effect\":\"Allow\",\"Principal\":{\"AWS\":[\"arn:aws:iam::210987654321:root\"]},\"Action\":[\"ecr:BatchGetImage\"]}]}"}"#;

/// A repository with its settings and policies.
const REPOSITORIES: &[Asked] = &[
    ask(
        "create",
        "CreateRepository",
        r#"{"repositoryName":"curl","imageScanningConfiguration":{"scanOnPush":true},"tags":[{"Key":"htc-grid/prod","Value":"used"}]}"#,
        &[
            "/repository/repositoryArn",
            "/repository/imageTagMutability",
            "/repository/imageScanningConfiguration/scanOnPush",
            "/repository/encryptionConfiguration/encryptionType",
        ],
    ),
    ask("create again", "CreateRepository", r#"{"repositoryName":"curl"}"#, &[]),
    ask("create with a bad name", "CreateRepository", r#"{"repositoryName":"Curl"}"#, &[]),
    ask(
        "describe",
        "DescribeRepositories",
        r#"{"repositoryNames":["curl"]}"#,
        &["/repositories/0/repositoryName", "/repositories/0/registryId"],
    ),
    ask("describe one that is not there", "DescribeRepositories", r#"{"repositoryNames":["none"]}"#, &[]),
    ask(
        "tags",
        "ListTagsForResource",
        r#"{"resourceArn":"arn:aws:ecr:eu-west-1:123456789012:repository/curl"}"#,
        &["/tags/0/Key", "/tags/1/Key"],
    ),
    ask(
        "tag",
        "TagResource",
        r#"{"resourceArn":"arn:aws:ecr:eu-west-1:123456789012:repository/curl","tags":[{"Key":"htc-grid/dev","Value":""}]}"#,
        &[],
    ),
    ask(
        "untag",
        "UntagResource",
        r#"{"resourceArn":"arn:aws:ecr:eu-west-1:123456789012:repository/curl","tagKeys":["htc-grid/prod"]}"#,
        &[],
    ),
    ask(
        "tags after both",
        "ListTagsForResource",
        r#"{"resourceArn":"arn:aws:ecr:eu-west-1:123456789012:repository/curl"}"#,
        &["/tags/0/Key", "/tags/1/Key"],
    ),
    ask(
        "scan on push off",
        "PutImageScanningConfiguration",
        r#"{"repositoryName":"curl","imageScanningConfiguration":{"scanOnPush":false}}"#,
        &["/imageScanningConfiguration/scanOnPush"],
    ),
    ask(
        "immutable",
        "PutImageTagMutability",
        r#"{"repositoryName":"curl","imageTagMutability":"IMMUTABLE"}"#,
        &["/imageTagMutability"],
    ),
    ask(
        "mutable but for build tags",
        "PutImageTagMutability",
        r#"{"repositoryName":"curl","imageTagMutability":"MUTABLE_WITH_EXCLUSION","imageTagMutabilityExclusionFilters":[{"filterType":"WILDCARD","filter":"*-sha256-*"}]}"#,
        &["/imageTagMutability", "/imageTagMutabilityExclusionFilters/0/filter"],
    ),
    ask("policy of a new one", "GetRepositoryPolicy", r#"{"repositoryName":"curl"}"#, &[]),
    ask("set a policy", "SetRepositoryPolicy", PULL, &["/repositoryName"]),
    ask("policy", "GetRepositoryPolicy", r#"{"repositoryName":"curl"}"#, &["/registryId"]),
    ask("delete the policy", "DeleteRepositoryPolicy", r#"{"repositoryName":"curl"}"#, &["/repositoryName"]),
    ask("lifecycle of a new one", "GetLifecyclePolicy", r#"{"repositoryName":"curl"}"#, &[]),
    ask("set a lifecycle without rules", "PutLifecyclePolicy", NO_RULES, &[]),
    ask("set a lifecycle", "PutLifecyclePolicy", LIFECYCLE, &["/repositoryName"]),
    ask("lifecycle", "GetLifecyclePolicy", r#"{"repositoryName":"curl"}"#, &["/registryId"]),
    ask(
        "delete the lifecycle",
        "DeleteLifecyclePolicy",
        r#"{"repositoryName":"curl"}"#,
        &["/repositoryName"],
    ),
    ask("images of an empty one", "DescribeImages", r#"{"repositoryName":"curl"}"#, &["/imageDetails/0"]),
    ask(
        "an image that is not there",
        "DescribeImages",
        r#"{"repositoryName":"curl","imageIds":[{"imageTag":"1"}]}"#,
        &[],
    ),
    ask(
        "fetch one that is not there",
        "BatchGetImage",
        r#"{"repositoryName":"curl","imageIds":[{"imageTag":"1"}]}"#,
        &["/failures/0/failureCode"],
    ),
    ask("delete", "DeleteRepository", r#"{"repositoryName":"curl"}"#, &["/repository/repositoryName"]),
    ask("delete again", "DeleteRepository", r#"{"repositoryName":"curl"}"#, &[]),
];

#[cfg(test)]
mod tests {
    use super::is_valid_name;

    #[test]
    fn names_follow_the_apis_rules() {
        for good in [
            "curl",
            "kedacore/keda-metrics-apiserver",
            "ecr-public/sam/build-python3.11",
            "a__b",
            "registry-k8s-io/x",
        ] {
            assert!(is_valid_name(good), "{good}");
        }
        for bad in ["", "a", "Curl", "a//b", "/ab", "ab/", "a..b", "-ab", "ab-", "a b", "a%2fb", "../ab"] {
            assert!(!is_valid_name(bad), "{bad}");
        }
    }
}
