//! `aws_ecr_repository`.

use serde_json::{Value as Json, json};

use super::{Default, During, Failure, Resource, changed, id, if_there, set};
use crate::api::{Api, ecr_tags};
use crate::tags::{self, Tags};
use crate::values::{Object, Value, block, flag, text};

pub(super) const RESOURCE: Resource = Resource {
    name: "aws_ecr_repository",
    force_new: &["name", "encryption_configuration", "region"],
    defaults: &[
        ("image_tag_mutability", Default::Text("MUTABLE")),
        ("encryption_configuration.encryption_type", Default::Text("AES256")),
    ],
    keep_blocks: &["encryption_configuration", "image_scanning_configuration"],
    documents: &[],
    tagged: true,
    create: |api, state| Box::pin(create(api, state)),
    read: |api, state| Box::pin(read(api, state)),
    update: |api, prior, state| Box::pin(update(api, prior, state)),
    delete: |api, state| Box::pin(delete(api, state)),
};

const GONE: &[&str] = &["RepositoryNotFoundException"];

async fn create(api: &Api, state: &mut Object) -> Result<(), Failure> {
    let name = text(state, "name").unwrap_or_default().to_owned();
    let encryption = block(state, "encryption_configuration").map(|encryption| {
        json!({
            "encryptionType": text(encryption, "encryption_type"),
            "kmsKey": text(encryption, "kms_key").filter(|key| !key.is_empty()),
        })
    });
    let tags = api.tags.at_creation(state);
    let answer = api
        .ecr(
            "CreateRepository",
            json!({
                "repositoryName": name,
                "imageTagMutability": text(state, "image_tag_mutability"),
                "imageTagMutabilityExclusionFilters": filters(state),
                "imageScanningConfiguration": scanning(state),
                "encryptionConfiguration": encryption,
                "tags": (!tags.is_empty()).then(|| ecr_tags(&tags)),
            }),
        )
        .await
        .during(|| format!("creating ECR Repository ({name})"))?;
    set(state, "id", &answer["repository"]["repositoryName"]);
    Ok(())
}

async fn read(api: &Api, state: &mut Object) -> Result<bool, Failure> {
    let name = id(state).to_owned();
    let answer = api.ecr("DescribeRepositories", json!({ "repositoryNames": [name] })).await;
    let Some(answer) = if_there(answer, GONE).during(|| format!("reading ECR Repository ({name})"))? else {
        return Ok(false);
    };
    let repository = &answer["repositories"][0];
    set(state, "name", &repository["repositoryName"]);
    set(state, "arn", &repository["repositoryArn"]);
    set(state, "registry_id", &repository["registryId"]);
    set(state, "repository_url", &repository["repositoryUri"]);
    set(state, "image_tag_mutability", &repository["imageTagMutability"]);
    let scanning = repository["imageScanningConfiguration"]["scanOnPush"].as_bool();
    let scanning = scanning.map(|on| vec![("scan_on_push", on.into())]);
    state.insert("image_scanning_configuration".to_owned(), blocks(scanning));
    let encryption = &repository["encryptionConfiguration"];
    let encryption = encryption["encryptionType"].as_str().map(|kind| {
        let key = encryption["kmsKey"].as_str().unwrap_or_default();
        vec![("encryption_type", kind.into()), ("kms_key", key.into())]
    });
    state.insert("encryption_configuration".to_owned(), blocks(encryption));
    state.insert("image_tag_mutability_exclusion_filter".to_owned(), filters_of(repository));

    let arn = text(state, "arn").unwrap_or_default().to_owned();
    let answer = api
        .ecr("ListTagsForResource", json!({ "resourceArn": arn }))
        .await
        .during(|| format!("listing tags for ECR (Elastic Container Registry) Repository ({arn})"))?;
    let found = answer["tags"].as_array().into_iter().flatten();
    let found: Tags = found
        .filter_map(|tag| Some((tag["Key"].as_str()?.to_owned(), tag["Value"].as_str()?.to_owned())))
        .collect();
    api.tags.remember(state, found);
    Ok(true)
}

async fn update(api: &Api, prior: &Object, state: &mut Object) -> Result<(), Failure> {
    let name = id(state).to_owned();
    if changed(prior, state, "image_tag_mutability")
        || changed(prior, state, "image_tag_mutability_exclusion_filter")
    {
        let body = json!({
            "repositoryName": name,
            "imageTagMutability": text(state, "image_tag_mutability"),
            "imageTagMutabilityExclusionFilters": filters(state),
        });
        let answer = api.ecr("PutImageTagMutability", body).await;
        answer.during(|| format!("updating ECR Repository ({name}) image tag mutability"))?;
    }
    if changed(prior, state, "image_scanning_configuration") {
        let body = json!({ "repositoryName": name, "imageScanningConfiguration": scanning(state) });
        let answer = api.ecr("PutImageScanningConfiguration", body).await;
        answer.during(|| format!("updating ECR Repository ({name}) image scanning configuration"))?;
    }
    let arn = text(state, "arn").unwrap_or_default();
    let (gone, set) = tags::changes(prior, state);
    let what = || format!("updating tags for ECR (Elastic Container Registry) Repository ({arn})");
    if !gone.is_empty() {
        let answer = api.ecr("UntagResource", json!({ "resourceArn": arn, "tagKeys": gone })).await;
        answer.during(what)?;
    }
    if !set.is_empty() {
        let answer = api.ecr("TagResource", json!({ "resourceArn": arn, "tags": ecr_tags(&set) })).await;
        answer.during(what)?;
    }
    Ok(())
}

async fn delete(api: &Api, state: &Object) -> Result<(), Failure> {
    let name = id(state);
    let body = json!({
        "repositoryName": name,
        "registryId": text(state, "registry_id"),
        "force": flag(state, "force_delete"),
    });
    match api.ecr("DeleteRepository", body).await {
        Err(error) if error.is(GONE) => Ok(()),
        Err(error) if error.is(&["RepositoryNotEmptyException"]) => {
            Err(error).during(|| format!("ECR Repository ({name}) not empty, consider using force_delete"))
        }
        answer => answer.during(|| format!("deleting ECR Repository ({name})")).map(drop),
    }
}

pub(super) fn filters(state: &Object) -> Option<Json> {
    let filters = state.get("image_tag_mutability_exclusion_filter")?.elements();
    let filters: Vec<_> = filters
        .iter()
        .filter_map(Value::as_object)
        .map(|filter| json!({ "filter": text(filter, "filter"), "filterType": text(filter, "filter_type") }))
        .collect();
    (!filters.is_empty()).then_some(Json::Array(filters))
}

/// The filters in an answer, as blocks.
pub(super) fn filters_of(answer: &Json) -> Value {
    let filters = answer["imageTagMutabilityExclusionFilters"].as_array().into_iter().flatten();
    blocks(filters.map(|filter| {
        let part = |name: &str| Value::from(filter[name].as_str().unwrap_or_default());
        vec![("filter", part("filter")), ("filter_type", part("filterType"))]
    }))
}

fn scanning(state: &Object) -> Json {
    let on = block(state, "image_scanning_configuration").is_some_and(|block| flag(block, "scan_on_push"));
    json!({ "scanOnPush": on })
}

pub(super) fn blocks(found: impl IntoIterator<Item = Vec<(&'static str, Value)>>) -> Value {
    let objects = found.into_iter().map(|members| {
        Value::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    });
    Value::List(objects.collect())
}
