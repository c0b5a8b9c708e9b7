//! `aws_ecr_pull_through_cache_rule`.

use serde_json::json;

use super::{During, Failure, Resource, changed, id, if_there, set};
use crate::api::Api;
use crate::values::{Object, from_json, text};

pub(super) const RESOURCE: Resource = Resource {
    name: "aws_ecr_pull_through_cache_rule",
    force_new: &["ecr_repository_prefix", "upstream_registry_url", "upstream_repository_prefix", "region"],
    defaults: &[],
    keep_blocks: &[],
    documents: &[],
    tagged: false,
    create: |api, state| Box::pin(create(api, state)),
    read: |api, state| Box::pin(read(api, state)),
    update: |api, prior, state| Box::pin(update(api, prior, state)),
    delete: |api, state| Box::pin(delete(api, state)),
};

const GONE: &[&str] = &["PullThroughCacheRuleNotFoundException"];

async fn create(api: &Api, state: &mut Object) -> Result<(), Failure> {
    let prefix = text(state, "ecr_repository_prefix").unwrap_or_default().to_owned();
    let body = json!({
        "ecrRepositoryPrefix": prefix,
        "upstreamRegistryUrl": text(state, "upstream_registry_url"),
        "upstreamRepositoryPrefix": text(state, "upstream_repository_prefix"),
        "credentialArn": text(state, "credential_arn"),
        "customRoleArn": text(state, "custom_role_arn"),
    });
    let answer = api.ecr("CreatePullThroughCacheRule", body).await;
    answer.during(|| format!("creating ECR Pull Through Cache Rule ({prefix})"))?;
    state.insert("id".to_owned(), prefix.into());
    Ok(())
}

async fn read(api: &Api, state: &mut Object) -> Result<bool, Failure> {
    let prefix = id(state).to_owned();
    let answer = api.ecr("DescribePullThroughCacheRules", json!({ "ecrRepositoryPrefixes": [prefix] })).await;
    let what = || format!("reading ECR Pull Through Cache Rule ({prefix})");
    let Some(answer) = if_there(answer, GONE).during(what)? else { return Ok(false) };
    let rule = &answer["pullThroughCacheRules"][0];
    if rule.is_null() {
        return Ok(false);
    }
    set(state, "ecr_repository_prefix", &rule["ecrRepositoryPrefix"]);
    set(state, "upstream_registry_url", &rule["upstreamRegistryUrl"]);
    // ECR returns the root of the upstream if the rule was created without a prefix.
    if rule["upstreamRepositoryPrefix"].as_str() != Some("ROOT") {
        set(state, "upstream_repository_prefix", &rule["upstreamRepositoryPrefix"]);
    }
    set(state, "registry_id", &rule["registryId"]);
    for (attribute, member) in [("credential_arn", "credentialArn"), ("custom_role_arn", "customRoleArn")] {
        state.insert(attribute.to_owned(), from_json(rule[member].clone()));
    }
    Ok(true)
}

async fn update(api: &Api, prior: &Object, state: &mut Object) -> Result<(), Failure> {
    if !(changed(prior, state, "credential_arn") || changed(prior, state, "custom_role_arn")) {
        return Ok(());
    }
    let prefix = id(state);
    let body = json!({
        "ecrRepositoryPrefix": prefix,
        "credentialArn": text(state, "credential_arn"),
        "customRoleArn": text(state, "custom_role_arn"),
    });
    let answer = api.ecr("UpdatePullThroughCacheRule", body).await;
    answer.during(|| format!("updating ECR Pull Through Cache Rule ({prefix})")).map(drop)
}

async fn delete(api: &Api, state: &Object) -> Result<(), Failure> {
    let prefix = id(state);
    let answer = api.ecr("DeletePullThroughCacheRule", json!({ "ecrRepositoryPrefix": prefix })).await;
    if_there(answer, GONE).during(|| format!("deleting ECR Pull Through Cache Rule ({prefix})")).map(drop)
}
