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

/// Writes an object beside the state.
///
/// # Errors
/// S3 refuses or does not answer.
pub async fn put(aws: &Aws, bucket: &str, key: &str, text: String) -> anyhow::Result<()> {
    let request =
        Client::new(aws.config()).put_object().bucket(bucket).key(key).body(text.into_bytes().into());
    request.send().await.map(drop).map_err(|e| explain(e, "s3:PutObject"))
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
