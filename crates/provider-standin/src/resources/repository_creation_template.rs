//! `aws_ecr_repository_creation_template`.

use serde_json::{Value as Json, json};

use super::repository::{blocks, filters, filters_of};
use super::{Default, During, Failure, Resource, changed, id, if_there, set, set_document};
use crate::api::{Api, ecr_tags};
use crate::tags;
use crate::values::{Object, Value, block, from_json, text};

pub(super) const RESOURCE: Resource = Resource {
    name: "aws_ecr_repository_creation_template",
    force_new: &["prefix", "region"],
    defaults: &[
        ("image_tag_mutability", Default::Text("MUTABLE")),
        ("encryption_configuration.encryption_type", Default::Text("AES256")),
    ],
    keep_blocks: &["encryption_configuration"],
    documents: &["lifecycle_policy", "repository_policy"],
    // Its tags are for the created repositories: the provider's defaults are not added.
    tagged: false,
    create: |api, state| Box::pin(create(api, state)),
    read: |api, state| Box::pin(read(api, state)),
    update: |api, prior, state| Box::pin(update(api, prior, state)),
    delete: |api, state| Box::pin(delete(api, state)),
};

const GONE: &[&str] = &["TemplateNotFoundException"];

/// Each attribute in requests, with its name there.
fn members(state: &Object) -> [(&'static str, &'static str, Json); 8] {
    let encryption = block(state, "encryption_configuration").map(|encryption| {
        json!({
            "encryptionType": text(encryption, "encryption_type"),
            "kmsKey": text(encryption, "kms_key").filter(|key| !key.is_empty()),
        })
    });
    let applied = state.get("applied_for").map(Value::elements).unwrap_or_default();
    let applied: Vec<&str> = applied.iter().filter_map(Value::as_str).collect();
    let tags = tags::own(state, "resource_tags");
    [
        ("applied_for", "appliedFor", json!(applied)),
        ("custom_role_arn", "customRoleArn", json!(text(state, "custom_role_arn"))),
        ("description", "description", json!(text(state, "description"))),
        ("encryption_configuration", "encryptionConfiguration", json!(encryption)),
        ("image_tag_mutability", "imageTagMutability", json!(text(state, "image_tag_mutability"))),
        ("lifecycle_policy", "lifecyclePolicy", json!(text(state, "lifecycle_policy"))),
        ("repository_policy", "repositoryPolicy", json!(text(state, "repository_policy"))),
        ("resource_tags", "resourceTags", json!((!tags.is_empty()).then(|| ecr_tags(&tags)))),
    ]
}

async fn create(api: &Api, state: &mut Object) -> Result<(), Failure> {
    let prefix = text(state, "prefix").unwrap_or_default().to_owned();
    let mut body = json!({ "prefix": prefix, "imageTagMutabilityExclusionFilters": filters(state) });
    for (_, member, value) in members(state) {
        body[member] = value;
    }
    let answer = api.ecr("CreateRepositoryCreationTemplate", body).await;
    answer.during(|| format!("creating ECR Repository Creation Template ({prefix})"))?;
    state.insert("id".to_owned(), prefix.into());
    Ok(())
}

async fn read(api: &Api, state: &mut Object) -> Result<bool, Failure> {
    let prefix = id(state).to_owned();
    let answer = api.ecr("DescribeRepositoryCreationTemplates", json!({ "prefixes": [prefix] })).await;
    let what = || format!("reading ECR Repository Creation Template ({prefix})");
    let Some(answer) = if_there(answer, GONE).during(what)? else { return Ok(false) };
    let template = &answer["repositoryCreationTemplates"][0];
    if template.is_null() {
        return Ok(false);
    }
    set(state, "prefix", &template["prefix"]);
    set(state, "registry_id", &answer["registryId"]);
    set(state, "image_tag_mutability", &template["imageTagMutability"]);
    for (attribute, member) in
        [("applied_for", "appliedFor"), ("custom_role_arn", "customRoleArn"), ("description", "description")]
    {
        state.insert(attribute.to_owned(), from_json(template[member].clone()));
    }
    for (attribute, member) in
        [("lifecycle_policy", "lifecyclePolicy"), ("repository_policy", "repositoryPolicy")]
    {
        match template[member].is_null() {
            true => state.insert(attribute.to_owned(), Value::Null),
            false => {
                set_document(state, attribute, &template[member]);
                None
            }
        };
    }
    let encryption = &template["encryptionConfiguration"];
    let encryption = encryption["encryptionType"].as_str().map(|kind| {
        let key = encryption["kmsKey"].as_str().unwrap_or_default();
        vec![("encryption_type", kind.into()), ("kms_key", key.into())]
    });
    state.insert("encryption_configuration".to_owned(), blocks(encryption));
    state.insert("image_tag_mutability_exclusion_filter".to_owned(), filters_of(template));
    let found = template["resourceTags"].as_array().into_iter().flatten();
    let found: Object = found
        .filter_map(|tag| Some((tag["Key"].as_str()?.to_owned(), tag["Value"].as_str()?.into())))
        .collect();
    let found = if found.is_empty() { Value::Null } else { Value::Object(found) };
    state.insert("resource_tags".to_owned(), found);
    Ok(true)
}

async fn update(api: &Api, prior: &Object, state: &mut Object) -> Result<(), Failure> {
    let prefix = id(state).to_owned();
    let mut body = json!({ "prefix": prefix });
    for (_, member, value) in members(state).into_iter().filter(|(name, ..)| changed(prior, state, name)) {
        // A missing document stays unchanged; an empty one removes it.
        body[member] = if value.is_null() && member.ends_with("Policy") { json!("") } else { value };
    }
    if changed(prior, state, "image_tag_mutability_exclusion_filter") {
        body["imageTagMutability"] = json!(text(state, "image_tag_mutability"));
        body["imageTagMutabilityExclusionFilters"] = json!(filters(state));
    }
    let answer = api.ecr("UpdateRepositoryCreationTemplate", body).await;
    answer.during(|| format!("updating ECR Repository Creation Template ({prefix})")).map(drop)
}

async fn delete(api: &Api, state: &Object) -> Result<(), Failure> {
    let prefix = id(state);
    let answer = api.ecr("DeleteRepositoryCreationTemplate", json!({ "prefix": prefix })).await;
    if_there(answer, GONE)
        .during(|| format!("deleting ECR Repository Creation Template ({prefix})"))
        .map(drop)
}
