//! Repository creation templates: what ECR gives to the repositories that it makes by itself
//! (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/repository-creation-templates.html>).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Call, settings};
use crate::app::App;
use crate::fault::Fault;
use crate::input::Input;
use crate::kms;
use crate::scope::Scope;
use crate::store::model::{Encryption, Lifecycle, Repository};
use crate::time::{epoch_seconds, now_millis};

/// The prefix of the template for what no other one is for.
const ROOT: &str = "ROOT";

/// What a template may have beside what every one has.
const OPTIONAL: [&str; 6] = [
    "description",
    "encryptionConfiguration",
    "resourceTags",
    "repositoryPolicy",
    "lifecyclePolicy",
    "customRoleArn",
];

fn missing(call: &Call<'_>, prefix: &str) -> Fault {
    Fault::client(
        "TemplateNotFoundException",
        format!(
            "The repository creation template with prefix '{prefix}' does not exist in registry with id '{}'",
            call.scope.account
        ),
    )
}

fn answer(call: &Call<'_>, template: &Value) -> Value {
    json!({ "registryId": call.scope.account, "repositoryCreationTemplate": template })
}

pub(super) fn create(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let prefix = input.text("prefix")?;
    if input.list("appliedFor").is_empty() {
        return Err(Fault::invalid_parameter("Invalid parameter at 'appliedFor': at least one is required"));
    }
    let (mode, filters) = settings::mutability(input)?;
    let mut template = json!({
        "prefix": prefix,
        "appliedFor": input.list("appliedFor"),
        "imageTagMutability": mode,
        "encryptionConfiguration": { "encryptionType": "AES256" },
        "createdAt": epoch_seconds(now_millis()),
        "updatedAt": epoch_seconds(now_millis()),
    });
    if !filters.is_empty() {
        template["imageTagMutabilityExclusionFilters"] = settings::filters_view(&filters);
    }
    for (name, value) in OPTIONAL.into_iter().filter_map(|name| Some((name, input.value(name)?))) {
        template[name] = value.clone();
    }
    check(&template)?;
    call.app.store.region(&call.scope).change_settings(|settings| {
        if settings.templates.contains_key(prefix) {
            return Err(Fault::client(
                "TemplateAlreadyExistsException",
                format!("The repository creation template with prefix '{prefix}' already exists"),
            ));
        }
        settings.templates.insert(prefix.to_owned(), template.clone());
        Ok(())
    })?;
    Ok(answer(call, &template))
}

/// Changes what is given, and leaves the rest as it is; an empty text takes a policy away.
pub(super) fn update(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let prefix = input.text("prefix")?;
    let mutability = input.opt("imageTagMutability").map(|_| settings::mutability(input)).transpose()?;
    let template = call.app.store.region(&call.scope).change_settings(|settings| {
        let known = settings.templates.get_mut(prefix).ok_or_else(|| missing(call, prefix))?;
        let mut template = known.clone();
        for name in OPTIONAL.into_iter().chain(["appliedFor"]) {
            if let Some(value) = input.value(name) {
                template[name] = value.clone();
            }
        }
        if let Some((mode, filters)) = &mutability {
            template["imageTagMutability"] = json!(mode);
            template["imageTagMutabilityExclusionFilters"] = settings::filters_view(filters);
        }
        template["updatedAt"] = epoch_seconds(now_millis());
        if let Some(members) = template.as_object_mut() {
            members.retain(|_, value| *value != json!("") && *value != json!([]));
        }
        check(&template)?;
        *known = template.clone();
        Ok(template)
    })?;
    Ok(answer(call, &template))
}

fn check(template: &Value) -> Result<(), Fault> {
    let encrypted = template["encryptionConfiguration"]["encryptionType"] != "AES256";
    if template["customRoleArn"].is_null() && (encrypted || !template["resourceTags"].is_null()) {
        return Err(Fault::invalid_parameter(
            "Invalid parameter at 'customRoleArn': required with a KMS key or with tags",
        ));
    }
    if let Some(text) = template["lifecyclePolicy"].as_str() {
        super::lifecycle_actions::parse(text)?;
    }
    Ok(())
}

pub(super) fn describe(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let settings = call.app.store.region(&call.scope).settings();
    let prefixes = input.texts("prefixes");
    if !prefixes.is_empty() {
        // The service model has no refusal for one that is not there.
        let found: Vec<&Value> =
            prefixes.iter().filter_map(|prefix| settings.templates.get(*prefix)).collect();
        return Ok(json!({ "registryId": call.scope.account, "repositoryCreationTemplates": found }));
    }
    let all: Vec<&Value> = settings.templates.values().collect();
    let (page, next) = input.page(&all, 1000)?;
    Ok(json!({ "registryId": call.scope.account, "repositoryCreationTemplates": page, "nextToken": next }))
}

pub(super) fn delete(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let prefix = input.text("prefix")?;
    let template =
        call.app.store.region(&call.scope).change_settings(|settings| {
            settings.templates.remove(prefix).ok_or_else(|| missing(call, prefix))
        })?;
    Ok(answer(call, &template))
}

/// The repository `name` as the account's templates make it for the pull-through cache: by the longest prefix, else by `ROOT`.
///
/// The role of the template is taken to let ECR do all that it needs.
///
/// # Errors
/// The template's key cannot be used.
pub(crate) fn for_cache(app: &App, scope: &Scope, name: &str) -> Result<Repository, Fault> {
    let settings = app.store.region(scope).settings();
    let applies =
        |prefix: &str| prefix == ROOT || name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'));
    let for_cache = |template: &Value| {
        let reasons = template["appliedFor"].as_array();
        reasons.into_iter().flatten().any(|reason| reason == "PULL_THROUGH_CACHE")
    };
    let found = settings.templates.iter().filter(|(prefix, template)| applies(prefix) && for_cache(template));
    let found = found.max_by_key(|(prefix, _)| if *prefix == ROOT { 0 } else { prefix.len() });
    let Some((_, template)) = found else { return Ok(Repository::new(name)) };
    let encryption = &template["encryptionConfiguration"];
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let filters = template["imageTagMutabilityExclusionFilters"].as_array();
    let tags = template["resourceTags"].as_array().into_iter().flatten();
    let tags: BTreeMap<String, String> =
        tags.filter_map(|tag| Some((text(&tag["Key"])?, text(&tag["Value"]).unwrap_or_default()))).collect();
    let key = text(&encryption["kmsKey"]).map(|key| kms::usable_key(app, scope, &key)).transpose()?;
    Ok(Repository {
        encryption: Encryption {
            kind: text(&encryption["encryptionType"]).unwrap_or_else(|| "AES256".to_owned()),
            key,
        },
        mutability: text(&template["imageTagMutability"]).unwrap_or_else(|| "MUTABLE".to_owned()),
        filters: filters.into_iter().flatten().filter_map(|filter| text(&filter["filter"])).collect(),
        resource_tags: tags,
        policy: text(&template["repositoryPolicy"]),
        lifecycle: text(&template["lifecyclePolicy"]).map(|text| Lifecycle { text, evaluated: 0 }),
        ..Repository::new(name)
    })
}
