//! The terraform state as an object in S3: what it owns, without starting terraform.

use std::collections::BTreeMap;

use anyhow::Context as _;
use aws_sdk_s3::Client;
use serde::Deserialize;

use super::{Aws, errors::explain};

/// The state's key in its bucket; HTC-Grid's own, so that an account which its Makefile deployed keeps its state.
pub const STATE_KEY: &str = ".terraform/terraform.tfstate";

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
    pub async fn read(aws: &Aws, bucket: &str, key: &str) -> anyhow::Result<Self> {
        let answer = match Client::new(aws.config()).get_object().bucket(bucket).key(key).send().await {
            Err(error) if error.as_service_error().is_some_and(|e| e.is_no_such_key()) => {
                return Ok(Self::default());
            }
            other => other.map_err(|e| explain(e, "s3:GetObject"))?,
        };
        let etag = answer.e_tag.clone();
        let bytes = answer.body.collect().await.context("could not read the terraform state")?.into_bytes();
        Ok(Self { etag, ..Self::parse(&bytes)? })
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
pub async fn forget(
    aws: &Aws,
    bucket: &str,
    key: &str,
    resource_type: &str,
) -> anyhow::Result<(usize, String)> {
    let client = Client::new(aws.config());
    let lock = format!("{key}.tflock");
    let holder = serde_json::json!({
        "ID": format!("xtask-{}", std::process::id()), "Operation": "OperationTypeTakeOver", "Info": "",
        "Who": aws.identity().arn, "Version": "", "Created": jiff::Timestamp::now().to_string(), "Path": format!("{bucket}/{key}"),
    });
    let locking = client
        .put_object()
        .bucket(bucket)
        .key(&lock)
        .if_none_match("*")
        .body(holder.to_string().into_bytes().into());
    locking
        .send()
        .await
        .map_err(|e| explain(e, "s3:PutObject"))
        .context("could not lock the terraform state")?;
    let result = forget_locked(&client, bucket, key, resource_type).await;
    let unlocked = client
        .delete_object()
        .bucket(bucket)
        .key(&lock)
        .send()
        .await
        .map_err(|e| explain(e, "s3:DeleteObject"));
    let result = result?;
    unlocked?;
    Ok(result)
}

async fn forget_locked(
    client: &Client,
    bucket: &str,
    key: &str,
    resource_type: &str,
) -> anyhow::Result<(usize, String)> {
    let answer =
        client.get_object().bucket(bucket).key(key).send().await.map_err(|e| explain(e, "s3:GetObject"))?;
    let etag = answer.e_tag.clone().context("S3 gave no ETag")?;
    let bytes = answer.body.collect().await.context("could not read the terraform state")?.into_bytes();
    let mut state: serde_json::Value =
        serde_json::from_slice(&bytes).context("the state object is no terraform state")?;
    let copy = format!("{key}.before-xtask");
    let put = |key: &str, body: Vec<u8>| client.put_object().bucket(bucket).key(key).body(body.into());
    put(&copy, bytes.to_vec()).send().await.map_err(|e| explain(e, "s3:PutObject"))?;
    let resources = state["resources"].as_array_mut().context("the state object has no resources")?;
    let before = resources.len();
    resources.retain(|resource| resource["type"] != resource_type);
    let left = before - resources.len();
    let serial = state["serial"].as_u64().context("the state object has no serial")?;
    state["serial"] = (serial + 1).into();
    let request = put(key, serde_json::to_vec_pretty(&state)?).if_match(etag);
    request.send().await.map_err(|e| explain(e, "s3:PutObject"))?;
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
