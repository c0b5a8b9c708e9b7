//! `aws_ecr_lifecycle_policy`.

use serde_json::json;

use super::{During, Failure, Resource, id, if_there, set, set_document};
use crate::api::Api;
use crate::values::{Object, text};

pub(super) const RESOURCE: Resource = Resource {
    name: "aws_ecr_lifecycle_policy",
    // Every change is a new policy, which replaces the old one.
    force_new: &["repository", "policy", "region"],
    defaults: &[],
    keep_blocks: &[],
    documents: &["policy"],
    tagged: false,
    create: |api, state| Box::pin(put(api, state)),
    read: |api, state| Box::pin(read(api, state)),
    update: |api, _, state| Box::pin(put(api, state)),
    delete: |api, state| Box::pin(delete(api, state)),
};

const GONE: &[&str] = &["RepositoryNotFoundException", "LifecyclePolicyNotFoundException"];

async fn put(api: &Api, state: &mut Object) -> Result<(), Failure> {
    let repository = text(state, "repository").unwrap_or_default().to_owned();
    let body = json!({ "repositoryName": repository, "lifecyclePolicyText": text(state, "policy") });
    let answer = api.ecr("PutLifecyclePolicy", body).await;
    let answer = answer.during(|| format!("creating ECR Lifecycle Policy ({repository})"))?;
    set(state, "id", &answer["repositoryName"]);
    Ok(())
}

async fn read(api: &Api, state: &mut Object) -> Result<bool, Failure> {
    let name = id(state).to_owned();
    let answer = api.ecr("GetLifecyclePolicy", json!({ "repositoryName": name })).await;
    let Some(answer) = if_there(answer, GONE).during(|| format!("reading ECR Lifecycle Policy ({name})"))?
    else {
        return Ok(false);
    };
    set(state, "repository", &answer["repositoryName"]);
    set(state, "registry_id", &answer["registryId"]);
    set_document(state, "policy", &answer["lifecyclePolicyText"]);
    Ok(true)
}

async fn delete(api: &Api, state: &Object) -> Result<(), Failure> {
    let name = id(state);
    let answer = api.ecr("DeleteLifecyclePolicy", json!({ "repositoryName": name })).await;
    if_there(answer, GONE).during(|| format!("deleting ECR Lifecycle Policy ({name})")).map(drop)
}
