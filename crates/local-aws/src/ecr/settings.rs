//! A repository's settings: tags, mutability, scanning, policy.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{ON_REPOSITORY, repositories, wildcard};
use crate::fault::Fault;
use crate::input::Input;
use crate::policy::{Kind, Need, Policy, PolicyError};
use crate::resource::{Call, Needs, Resource};
use crate::scope::Scope;
use crate::store::model::Repository;

pub(super) const RESOURCE: Resource = Resource {
    actions: &[
        ("DeleteRepositoryPolicy", ON_REPOSITORY, delete_policy),
        ("GetRepositoryPolicy", ON_REPOSITORY, get_policy),
        ("ListTagsForResource", ON_TAGGED, list_tags),
        ("PutImageScanningConfiguration", ON_REPOSITORY, put_scanning),
        ("PutImageTagMutability", ON_REPOSITORY, put_mutability),
        ("SetRepositoryPolicy", ON_REPOSITORY, set_policy),
        ("TagResource", ON_TAGGED, tag),
        ("UntagResource", ON_TAGGED, untag),
    ],
    existing: Some(("aws_ecr_repository_policy", |app, scope| {
        repositories::names(app, scope, |repository| repository.policy.is_some())
    })),
    scenarios: &[],
};

/// Resource: `resourceArn`.
const ON_TAGGED: Needs =
    |_, permission, input| Ok(vec![Need::new(permission, input.opt("resourceArn").unwrap_or("*"))]);

/// Whether this tag cannot be moved.
pub(crate) fn tag_is_immutable(repository: &Repository, tag: &str) -> bool {
    let excluded = || repository.filters.iter().any(|filter| wildcard::matches(filter, tag));
    match repository.mutability.as_str() {
        "IMMUTABLE" => true,
        "IMMUTABLE_WITH_EXCLUSION" => !excluded(),
        "MUTABLE_WITH_EXCLUSION" => excluded(),
        _ => false,
    }
}

/// The mutability and its filters in a request.
pub(super) fn mutability(input: &Input) -> Result<(String, Vec<String>), Fault> {
    let mode = input.opt("imageTagMutability").unwrap_or("MUTABLE");
    let filters: Vec<String> = input
        .list("imageTagMutabilityExclusionFilters")
        .iter()
        .map(|filter| {
            let text = filter["filter"].as_str().unwrap_or_default();
            let valid = filter["filterType"] == "WILDCARD"
                && (1..=128).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-*".contains(&b))
                && text.matches('*').count() <= 2;
            if valid { Ok(text.to_owned()) } else {
                Err(Fault::invalid_parameter(format!(
                    "Invalid parameter at 'imageTagMutabilityExclusionFilters' failed to satisfy constraint: 'Invalid filter \
                     \"{text}\"'"
                )))
            }
        })
        .collect::<Result<_, _>>()?;
    let with_exclusion = match mode {
        "MUTABLE" | "IMMUTABLE" => false,
        "MUTABLE_WITH_EXCLUSION" | "IMMUTABLE_WITH_EXCLUSION" => true,
        other => {
            return Err(Fault::invalid_parameter(format!(
                "Invalid parameter at 'imageTagMutability' failed to satisfy constraint: 'Member must satisfy enum value set: \
                 [MUTABLE, IMMUTABLE, IMMUTABLE_WITH_EXCLUSION, MUTABLE_WITH_EXCLUSION]', got '{other}'"
            )));
        }
    };
    if with_exclusion == filters.is_empty() || filters.len() > 5 {
        return Err(Fault::invalid_parameter(format!(
            "Invalid parameter at 'imageTagMutabilityExclusionFilters' failed to satisfy constraint: '{mode} takes {}'",
            if with_exclusion { "between 1 and 5 filters" } else { "no filters" }
        )));
    }
    Ok((mode.to_owned(), filters))
}

pub(super) fn filters_view(filters: &[String]) -> Value {
    filters.iter().map(|filter| json!({ "filterType": "WILDCARD", "filter": filter })).collect()
}

fn put_mutability(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let name = input.text("repositoryName")?;
    input.text("imageTagMutability")?;
    let (mode, filters) = mutability(input)?;
    let mut view =
        json!({ "registryId": call.scope.account, "repositoryName": name, "imageTagMutability": mode });
    if !filters.is_empty() {
        view["imageTagMutabilityExclusionFilters"] = filters_view(&filters);
    }
    repositories::change(call.app, &call.scope, name, |repository| {
        repository.mutability = mode;
        repository.filters = filters;
        Ok(())
    })?;
    Ok(view)
}

fn put_scanning(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let name = input.text("repositoryName")?;
    let scan = input
        .value("imageScanningConfiguration")
        .and_then(|value| value["scanOnPush"].as_bool())
        .unwrap_or(false);
    repositories::change(call.app, &call.scope, name, |repository| {
        repository.scan_on_push = scan;
        Ok(())
    })?;
    Ok(json!({
        "registryId": call.scope.account,
        "repositoryName": name,
        "imageScanningConfiguration": { "scanOnPush": scan },
    }))
}

/// The `tags` of a request: at most 50, without AWS's reserved prefix.
pub(super) fn tags(input: &Input) -> Result<BTreeMap<String, String>, Fault> {
    let tags: BTreeMap<String, String> = input
        .list("tags")
        .iter()
        .filter_map(|tag| {
            Some((tag["Key"].as_str()?.to_owned(), tag["Value"].as_str().unwrap_or_default().to_owned()))
        })
        .collect();
    check_tags(&tags)?;
    Ok(tags)
}

fn check_tags(tags: &BTreeMap<String, String>) -> Result<(), Fault> {
    if tags.len() > 50 {
        return Err(Fault::client(
            "TooManyTagsException",
            "The list of tags on the repository is over the limit of 50",
        ));
    }
    let allowed =
        |text: &str| text.chars().all(|c| c.is_alphanumeric() || c.is_whitespace() || "_.:/=+-@".contains(c));
    match tags.iter().find(|(key, value)| {
        key.is_empty()
            || key.len() > 128
            || value.len() > 256
            || key.starts_with("aws:")
            || !allowed(key)
            || !allowed(value)
    }) {
        Some((key, _)) => Err(Fault::client("InvalidTagParameterException", format!("Invalid tag '{key}'"))),
        None => Ok(()),
    }
}

fn name_of_arn<'a>(scope: &Scope, input: &'a Input) -> Result<&'a str, Fault> {
    let given = input.text("resourceArn")?;
    given.strip_prefix(&repositories::arn(scope, "")).ok_or_else(|| {
        Fault::invalid_parameter(format!(
            "Invalid parameter at 'resourceArn' failed to satisfy constraint: 'Invalid ARN' ({given})"
        ))
    })
}

fn tag(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let name = name_of_arn(&call.scope, input)?;
    let new = tags(input)?;
    repositories::change(call.app, &call.scope, name, |repository| {
        repository.resource_tags.extend(new);
        check_tags(&repository.resource_tags)
    })?;
    Ok(json!({}))
}

fn untag(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let name = name_of_arn(&call.scope, input)?;
    let keys = input.texts("tagKeys");
    repositories::change(call.app, &call.scope, name, |repository| {
        repository.resource_tags.retain(|key, _| !keys.contains(&key.as_str()));
        Ok(())
    })?;
    Ok(json!({}))
}

fn list_tags(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let repository = repositories::find(call.app, &call.scope, name_of_arn(&call.scope, input)?)?;
    let tags: Vec<Value> =
        repository.resource_tags.iter().map(|(key, value)| json!({ "Key": key, "Value": value })).collect();
    Ok(json!({ "tags": tags }))
}

fn policy_view(call: &Call<'_>, name: &str, text: &str) -> Value {
    json!({ "registryId": call.scope.account, "repositoryName": name, "policyText": text })
}

fn no_policy(call: &Call<'_>, name: &str) -> Fault {
    Fault::client(
        "RepositoryPolicyNotFoundException",
        format!(
            "Repository policy does not exist for the repository with name '{name}' in the registry with id '{}'",
            call.scope.account
        ),
    )
}

fn set_policy(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let name = input.text("repositoryName")?;
    let text = input.text("policyText")?;
    Policy::parse(text, Kind::Repository).map_err(|error| match error {
        PolicyError::Malformed(_) => Fault::invalid_parameter(
            "Invalid parameter at 'PolicyText' failed to satisfy constraint: 'Invalid repository policy provided'",
        ),
        unknown @ PolicyError::Unknown(_) => Fault::not_implemented("ecr", &format!("SetRepositoryPolicy: {unknown}")),
    })?;
    repositories::change(call.app, &call.scope, name, |repository| {
        repository.policy = Some(text.to_owned());
        Ok(())
    })?;
    Ok(policy_view(call, name, text))
}

fn get_policy(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let name = input.text("repositoryName")?;
    let repository = repositories::find(call.app, &call.scope, name)?;
    let text = repository.policy.as_deref().ok_or_else(|| no_policy(call, name))?;
    Ok(policy_view(call, name, text))
}

fn delete_policy(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let name = input.text("repositoryName")?;
    let text = repositories::change(call.app, &call.scope, name, |repository| {
        repository.policy.take().ok_or_else(|| no_policy(call, name))
    })?;
    Ok(policy_view(call, name, &text))
}
