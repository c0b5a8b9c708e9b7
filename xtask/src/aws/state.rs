//! The terraform state as an object in S3: what it owns, without starting terraform.

use std::collections::BTreeMap;

use anyhow::Context as _;
use serde::Deserialize;

use super::Aws;
use super::store::{If, StateStore};
use crate::error::{Exit, failure};

/// The state's key in its bucket; HTC-Grid's own, so that an account which its Makefile deployed keeps its state.
pub const STATE_KEY: &str = ".terraform/terraform.tfstate";

/// A state's key for a grid that shares the bucket with another one, at a place that docs/iam-policy.json opens, too.
pub fn own_key(tag: &str) -> String {
    format!(".terraform/{tag}.tfstate")
}

/// What a state owns.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// The object's version as S3 names it; none where there is no state yet.
    pub etag: Option<String>,
    /// Resource addresses without module and index, as `aws_ecr_repository`, with the ids of their instances.
    pub owned: BTreeMap<String, Vec<String>>,
    /// The output `tag`: whose state it is.
    pub tag: Option<String>,
}

impl State {
    /// Whether the state owns the instance `id` of a resource type.
    pub fn owns(&self, resource_type: &str, id: &str) -> bool {
        self.owned.get(resource_type).is_some_and(|ids| ids.iter().any(|owned| owned == id))
    }

    /// Reads the state object; an absent one owns nothing.
    ///
    /// # Errors
    /// S3 refuses or does not answer, or the object is no terraform state.
    pub async fn read(store: &StateStore) -> anyhow::Result<Self> {
        let Some(object) = store.get(store.key()).await? else { return Ok(Self::default()) };
        Ok(Self { etag: Some(object.etag), ..Self::parse(&object.bytes)? })
    }

    fn parse(bytes: &[u8]) -> anyhow::Result<Self> {
        let raw: RawState =
            serde_json::from_slice(bytes).context("the state object is no terraform state")?;
        let mut owned: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for resource in raw.resources.into_iter().filter(|r| r.mode == "managed") {
            let ids = resource.instances.into_iter().filter_map(|i| i.attributes?.id);
            owned.entry(resource.r#type).or_default().extend(ids);
        }
        let tag = raw.outputs.get("tag").and_then(|o| o.value.as_str()).map(str::to_owned);
        Ok(Self { etag: None, owned, tag })
    }
}

/// Takes every resource of a type out of the state, without terraform and so without the type's provider, under
/// terraform's own lock; a copy is put beside the state first. Gives how many left, and the copy's key.
///
/// # Errors
/// S3 refuses or does not answer, the object is no terraform state, or somebody else works on it.
pub async fn forget(aws: &Aws, store: &StateStore, resource_type: &str) -> anyhow::Result<(usize, String)> {
    let lock = store.beside("tflock");
    let holder = serde_json::json!({
        "ID": format!("xtask-{}", std::process::id()), "Operation": "OperationTypeTakeOver", "Info": "",
        "Who": aws.identity().arn, "Version": "", "Created": jiff::Timestamp::now().to_string(),
        "Path": format!("{}/{}", store.bucket(), store.key()),
    });
    let locked = store.put(&lock, holder.to_string().into_bytes(), If::Absent).await;
    let etag = locked
        .and_then(|done| done.map_err(|_| failure(Exit::Terraform, "somebody else has locked it")))
        .context("could not lock the terraform state")?;
    let result = forget_locked(store, resource_type).await;
    let unlocked = store.delete(&lock, Some(&etag)).await;
    let result = result?;
    unlocked?;
    Ok(result)
}

async fn forget_locked(store: &StateStore, resource_type: &str) -> anyhow::Result<(usize, String)> {
    let object = store.get(store.key()).await?.context("the terraform state is gone")?;
    let mut state: serde_json::Value =
        serde_json::from_slice(&object.bytes).context("the state object is no terraform state")?;
    let copy = store.beside("before-xtask");
    let _ = store.put(&copy, object.bytes, If::Always).await?;
    let resources = state["resources"].as_array_mut().context("the state object has no resources")?;
    let before = resources.len();
    resources.retain(|resource| resource["type"] != resource_type);
    let left = before - resources.len();
    let serial = state["serial"].as_u64().context("the state object has no serial")?;
    state["serial"] = (serial + 1).into();
    let written = store.put(store.key(), serde_json::to_vec_pretty(&state)?, If::Is(&object.etag)).await?;
    written.map_err(|_| failure(Exit::Terraform, "the terraform state changed in this moment"))?;
    Ok((left, copy))
}

/// The part of terraform's state format (version 4) that is read here.
#[derive(Deserialize)]
struct RawState {
    #[serde(default)]
    outputs: BTreeMap<String, RawOutput>,
    #[serde(default)]
    resources: Vec<RawResource>,
}

#[derive(Deserialize)]
struct RawOutput {
    value: serde_json::Value,
}

#[derive(Deserialize)]
struct RawResource {
    mode: String,
    r#type: String,
    #[serde(default)]
    instances: Vec<RawInstance>,
}

#[derive(Deserialize)]
struct RawInstance {
    attributes: Option<RawAttributes>,
}

#[derive(Deserialize)]
struct RawAttributes {
    id: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_state_owns() {
        let state = State::parse(
            br#"{"version":4,"outputs":{"tag":{"value":"prod","type":"string"}},"resources":[
                {"mode":"managed","type":"aws_ecr_repository","name":"images","instances":[{"index_key":"curl","attributes":{"id":"curl"}}]},
                {"mode":"data","type":"aws_caller_identity","name":"current","instances":[{"attributes":{"id":"1"}}]}]}"#,
        )
        .unwrap();
        assert!(state.owns("aws_ecr_repository", "curl"));
        assert!(!state.owns("aws_caller_identity", "1"));
        assert_eq!(state.tag.as_deref(), Some("prod"));
        assert!(State::parse(b"<xml>").is_err());
    }
}
