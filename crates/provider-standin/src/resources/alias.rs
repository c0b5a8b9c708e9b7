//! `aws_kms_alias`.

use serde_json::{Value as Json, json};

use super::{During, Failure, Resource, changed, id, if_there, set};
use crate::api::{Api, ApiError};
use crate::values::{Object, text};

pub(super) const RESOURCE: Resource = Resource {
    name: "aws_kms_alias",
    force_new: &["name", "name_prefix", "region"],
    defaults: &[],
    keep_blocks: &[],
    documents: &[],
    tagged: false,
    create: |api, state| Box::pin(create(api, state)),
    read: |api, state| Box::pin(read(api, state)),
    update: |api, prior, state| Box::pin(update(api, prior, state)),
    delete: |api, state| Box::pin(delete(api, state)),
};

const GONE: &[&str] = &["NotFoundException"];

async fn create(api: &Api, state: &mut Object) -> Result<(), Failure> {
    let name = match text(state, "name") {
        Some(name) => name.to_owned(),
        None => {
            let prefix = text(state, "name_prefix").unwrap_or("alias/");
            format!("{prefix}{:016x}", fastrand::u64(..))
        }
    };
    let body = json!({ "AliasName": name, "TargetKeyId": text(state, "target_key_id") });
    api.kms("CreateAlias", body).await.during(|| format!("creating KMS Alias ({name})"))?;
    state.insert("id".to_owned(), name.into());
    Ok(())
}

async fn read(api: &Api, state: &mut Object) -> Result<bool, Failure> {
    let name = id(state).to_owned();
    let alias = find(api, &name).await.during(|| format!("reading KMS Alias ({name})"))?;
    let Some(alias) = alias else { return Ok(false) };
    set(state, "arn", &alias["AliasArn"]);
    set(state, "name", &alias["AliasName"]);
    set(state, "target_key_id", &alias["TargetKeyId"]);
    if text(state, "name_prefix").is_none() {
        state.insert("name_prefix".to_owned(), "".into());
    }
    // The alias's ARN with the key instead of the alias.
    if let (Some(arn), Some(key)) = (alias["AliasArn"].as_str(), alias["TargetKeyId"].as_str())
        && let Some((account, _)) = arn.split_once(":alias/")
    {
        state.insert("target_key_arn".to_owned(), format!("{account}:key/{key}").into());
    }
    Ok(true)
}

async fn update(api: &Api, prior: &Object, state: &mut Object) -> Result<(), Failure> {
    if !changed(prior, state, "target_key_id") {
        return Ok(());
    }
    let name = id(state);
    let body = json!({ "AliasName": name, "TargetKeyId": text(state, "target_key_id") });
    api.kms("UpdateAlias", body).await.during(|| format!("updating KMS Alias ({name})")).map(drop)
}

async fn delete(api: &Api, state: &Object) -> Result<(), Failure> {
    let name = id(state);
    let answer = api.kms("DeleteAlias", json!({ "AliasName": name })).await;
    if_there(answer, GONE).during(|| format!("deleting KMS Alias ({name})")).map(drop)
}

/// KMS has no call for a single alias.
async fn find(api: &Api, name: &str) -> Result<Option<Json>, ApiError> {
    let mut marker = Json::Null;
    loop {
        let mut answer = api.kms("ListAliases", json!({ "Marker": marker })).await?;
        if let Some(aliases) = answer["Aliases"].as_array_mut()
            && let Some(found) = aliases.iter_mut().find(|alias| alias["AliasName"].as_str() == Some(name))
        {
            return Ok(Some(found.take()));
        }
        if answer["Truncated"].as_bool() != Some(true) || answer["NextMarker"].is_null() {
            return Ok(None);
        }
        marker = answer["NextMarker"].take();
    }
}
