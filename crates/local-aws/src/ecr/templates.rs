//! Repository creation templates: settings of the repositories that ECR creates
//! (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/repository-creation-templates.html>).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{repositories, settings};
use crate::app::App;
use crate::fault::Fault;
use crate::input::Input;
use crate::kms;
use crate::policy::Need;
use crate::resource::{Asked, Call, Needs, ON_ALL, Resource, ask};
use crate::scope::Scope;
use crate::store::model::{Encryption, Lifecycle, Repository};
use crate::time::{epoch_seconds, now_millis};

const KIND: &str = "aws_ecr_repository_creation_template";

pub(super) const RESOURCE: Resource = Resource {
    actions: &[
        ("CreateRepositoryCreationTemplate", ON_TEMPLATE, create),
        ("DeleteRepositoryCreationTemplate", ON_ALL, delete),
        ("DescribeRepositoryCreationTemplates", ON_ALL, describe),
        ("UpdateRepositoryCreationTemplate", ON_TEMPLATE, update),
    ],
    existing: Some((KIND, |app, scope| app.store.region(scope).shown(KIND).into_keys().collect())),
    scenarios: &[("creation templates", TEMPLATES)],
};

/// The registry, and the permissions for the template's content
/// (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/repository-creation-templates-create.html>).
const ON_TEMPLATE: Needs = |call, permission, input| {
    let below = repositories::arn(&call.scope, &format!("{}/*", input.opt("prefix").unwrap_or("*")));
    let gives =
        [("ecr:PutLifecyclePolicy", "lifecyclePolicy"), ("ecr:SetRepositoryPolicy", "repositoryPolicy")];
    let gives = gives.into_iter().filter(|(_, member)| input.value(member).is_some());
    let gives = gives.map(|(action, _)| action).chain(["ecr:CreateRepository"]);
    let gives = gives.map(|action| Need::new(action, below.clone()));
    let role = input.opt("customRoleArn");
    let role =
        role.map(|role| Need::new("iam:PassRole", role).with("iam:passedtoservice", "ecr.amazonaws.com"));
    Ok([Need::new(permission, "*")].into_iter().chain(role).chain(gives).collect())
};

/// The prefix of the default template.
const ROOT: &str = "ROOT";

/// Optional members of a template.
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

fn create(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
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
    call.app.store.region(&call.scope).change_shown(KIND, |templates| {
        if templates.contains_key(prefix) {
            return Err(Fault::client(
                "TemplateAlreadyExistsException",
                format!("The repository creation template with prefix '{prefix}' already exists"),
            ));
        }
        templates.insert(prefix.to_owned(), template.clone());
        Ok(())
    })?;
    Ok(answer(call, &template))
}

/// Changes the given members, and keeps the others; an empty text removes a policy.
fn update(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let prefix = input.text("prefix")?;
    let mutability = input.opt("imageTagMutability").map(|_| settings::mutability(input)).transpose()?;
    let template = call.app.store.region(&call.scope).change_shown(KIND, |templates| {
        let known = templates.get_mut(prefix).ok_or_else(|| missing(call, prefix))?;
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

fn describe(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let templates = call.app.store.region(&call.scope).shown(KIND);
    let prefixes = input.texts("prefixes");
    if !prefixes.is_empty() {
        // The service model has no error for a missing one.
        let found: Vec<&Value> = prefixes.iter().filter_map(|prefix| templates.get(*prefix)).collect();
        return Ok(json!({ "registryId": call.scope.account, "repositoryCreationTemplates": found }));
    }
    let all: Vec<&Value> = templates.values().collect();
    let (page, next) = input.page(&all, 1000)?;
    Ok(json!({ "registryId": call.scope.account, "repositoryCreationTemplates": page, "nextToken": next }))
}

fn delete(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let prefix = input.text("prefix")?;
    let template = call
        .app
        .store
        .region(&call.scope)
        .change_shown(KIND, |templates| templates.remove(prefix).ok_or_else(|| missing(call, prefix)))?;
    Ok(answer(call, &template))
}

/// The repository `name` for the pull-through cache, created by the account's templates: the one with the longest prefix, else `ROOT`.
///
/// The template's role is assumed to have all permissions that ECR needs.
///
/// # Errors
/// The template's key cannot be used.
pub(crate) fn for_cache(app: &App, scope: &Scope, name: &str) -> Result<Repository, Fault> {
    let templates = app.store.region(scope).shown(KIND);
    let applies =
        |prefix: &str| prefix == ROOT || name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'));
    let for_cache = |template: &Value| {
        let reasons = template["appliedFor"].as_array();
        reasons.into_iter().flatten().any(|reason| reason == "PULL_THROUGH_CACHE")
    };
    let found = templates.iter().filter(|(prefix, template)| applies(prefix) && for_cache(template));
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

/// Settings of the repositories that ECR creates.
const TEMPLATES: &[Asked] = &[
    ask(
        "create with a key and no role",
        "CreateRepositoryCreationTemplate",
        r#"{"prefix":"quay","appliedFor":["PULL_THROUGH_CACHE"],"encryptionConfiguration":{"encryptionType":"KMS","kmsKey":"arn:aws:kms:eu-west-1:123456789012:key/00000000-0000-0000-0000-000000000000"}}"#,
        &[],
    ),
    ask(
        "create",
        "CreateRepositoryCreationTemplate",
        r#"{"prefix":"quay","appliedFor":["PULL_THROUGH_CACHE"],"description":"the cache","customRoleArn":"arn:aws:iam::123456789012:role/ecr-creation-template","resourceTags":[{"Key":"a","Value":"b"}]}"#,
        &[
            "/repositoryCreationTemplate/prefix",
            "/repositoryCreationTemplate/imageTagMutability",
            "/repositoryCreationTemplate/encryptionConfiguration/encryptionType",
        ],
    ),
    ask(
        "create again",
        "CreateRepositoryCreationTemplate",
        r#"{"prefix":"quay","appliedFor":["PULL_THROUGH_CACHE"]}"#,
        &[],
    ),
    ask(
        "describe",
        "DescribeRepositoryCreationTemplates",
        r#"{}"#,
        &[
            "/repositoryCreationTemplates/0/prefix",
            "/repositoryCreationTemplates/0/description",
            "/repositoryCreationTemplates/0/resourceTags/0/Key",
        ],
    ),
    ask(
        "describe one that is not there",
        "DescribeRepositoryCreationTemplates",
        r#"{"prefixes":["none"]}"#,
        &["/repositoryCreationTemplates/0"],
    ),
    ask(
        "change",
        "UpdateRepositoryCreationTemplate",
        r#"{"prefix":"quay","description":"the cache of quay.io","imageTagMutability":"IMMUTABLE_WITH_EXCLUSION","imageTagMutabilityExclusionFilters":[{"filterType":"WILDCARD","filter":"latest"}],"appliedFor":["PULL_THROUGH_CACHE","REPLICATION"]}"#,
        &[
            "/repositoryCreationTemplate/description",
            "/repositoryCreationTemplate/imageTagMutability",
            "/repositoryCreationTemplate/appliedFor/1",
        ],
    ),
    ask(
        "change one that is not there",
        "UpdateRepositoryCreationTemplate",
        r#"{"prefix":"none","description":"the cache"}"#,
        &[],
    ),
    ask(
        "what is changed, and what is not",
        "DescribeRepositoryCreationTemplates",
        r#"{"prefixes":["quay"]}"#,
        &[
            "/repositoryCreationTemplates/0/description",
            "/repositoryCreationTemplates/0/imageTagMutabilityExclusionFilters/0/filter",
            "/repositoryCreationTemplates/0/customRoleArn",
        ],
    ),
    ask(
        "delete",
        "DeleteRepositoryCreationTemplate",
        r#"{"prefix":"quay"}"#,
        &["/repositoryCreationTemplate/prefix"],
    ),
    ask("delete again", "DeleteRepositoryCreationTemplate", r#"{"prefix":"quay"}"#, &[]),
];
