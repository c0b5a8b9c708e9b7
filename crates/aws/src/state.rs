//! Reads the terraform state in S3, without starting terraform.

use std::collections::BTreeMap;

use anyhow::Context as _;
use failure::{FailWith as _, Kind, failure};
use serde::Deserialize;

use super::Aws;
use super::store::{StateStore, WriteCondition};

/// The state's key in its bucket. It is HTC-Grid's key, so that an account deployed with its Makefile keeps its state.
pub const STATE_KEY: &str = ".terraform/terraform.tfstate";

/// The version of terraform's state format that this program reads.
const VERSION: u64 = 4;
const NO_STATE: &str = "the state object is not a terraform state";

/// The key for a grid that shares the bucket with another one. docs/iam-policy.json allows this location too.
pub fn own_key(tag: &str) -> String {
    format!(".terraform/{tag}.tfstate")
}

/// The resources in a state.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// The object's ETag. `None` if there is no state yet.
    pub etag: Option<String>,
    /// Resource types, such as `aws_ecr_repository`, with the IDs of their instances.
    pub owned: BTreeMap<String, Vec<String>>,
    /// The output `tag`: the grid that owns the state.
    pub tag: Option<String>,
}

impl State {
    /// Whether the state owns the instance `id` of a resource type.
    pub fn owns(&self, resource_type: &str, id: &str) -> bool {
        self.owned.get(resource_type).is_some_and(|ids| ids.iter().any(|owned| owned == id))
    }

    /// Reads the state object. A missing one owns nothing.
    ///
    /// # Errors
    /// S3 refuses or does not answer, or the object is not a terraform state.
    pub async fn read(store: &StateStore) -> anyhow::Result<Self> {
        let Some(object) = store.get(store.key()).await? else { return Ok(Self::default()) };
        Ok(Self { etag: Some(object.etag), ..Self::parse(&object.bytes)? })
    }

    fn parse(bytes: &[u8]) -> anyhow::Result<Self> {
        check_form(bytes)?;
        let raw: RawState = serde_json::from_slice(bytes).context(NO_STATE).kind(Kind::Config)?;
        let mut owned: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for resource in raw.resources.into_iter().filter(|r| r.mode == "managed") {
            let ids = resource.instances.into_iter().filter_map(|i| i.attributes?.id);
            owned.entry(resource.r#type).or_default().extend(ids);
        }
        let tag = raw.outputs.get("tag").and_then(|o| o.value.as_str()).map(str::to_owned);
        Ok(Self { etag: None, owned, tag })
    }
}

/// Refuses an object that is not a state in plain JSON of the supported version. It would look like a state without resources, and
/// the grid's own resources would seem to belong to others.
fn check_form(bytes: &[u8]) -> anyhow::Result<()> {
    let form: Form = serde_json::from_slice(bytes).context(NO_STATE).kind(Kind::Config)?;
    if form.encrypted_data.is_some() {
        let error =
            failure(Kind::Config, "the terraform state is encrypted by OpenTofu, and cannot be read here");
        return Err(error).hint(
            Kind::Config,
            "take the state's encryption back (https://opentofu.org/docs/language/state/encryption/, under \"Rolling back \
             encryption\"); the bucket encrypts it already",
        );
    }
    match form.version {
        Some(VERSION) => Ok(()),
        Some(other) => {
            let words = format!("the terraform state has version {other} of its format, and {VERSION} is read here");
            Err(failure(Kind::Config, words)).hint(
                Kind::Config,
                "terraform 0.12 and newer, and OpenTofu, write version 4: apply once with one of them",
            )
        }
        None => Err(failure(Kind::Config, NO_STATE)).hint(
            Kind::Config,
            "is the key another program's? --state-key names another one; the bucket's versions have what was there before",
        ),
    }
}

/// Removes every resource of a type from the state, under terraform's lock but without terraform, and so without the type's
/// provider. First copies the state to an object next to it. Returns the number of removed resources and the copy's key.
///
/// # Errors
/// S3 refuses or does not answer, the object is not a terraform state, or another run has locked it.
pub async fn forget(aws: &Aws, store: &StateStore, resource_type: &str) -> anyhow::Result<(usize, String)> {
    let lock = store.sidecar("tflock");
    let holder = serde_json::json!({
        "ID": format!("xtask-{}", std::process::id()), "Operation": "OperationTypeTakeOver", "Info": "",
        "Who": aws.identity().arn, "Version": "", "Created": jiff::Timestamp::now().to_string(),
        "Path": format!("{}/{}", store.bucket(), store.key()),
    });
    let locked = store.put(&lock, holder.to_string().into_bytes(), WriteCondition::Absent).await;
    let etag = locked
        .and_then(|done| done.map_err(|_| failure(Kind::Terraform, "it is locked by another process")))
        .context("could not lock the terraform state")?;
    let result = forget_locked(store, resource_type).await;
    let unlocked = store.delete(&lock, Some(&etag)).await;
    let result = result?;
    unlocked?;
    Ok(result)
}

async fn forget_locked(store: &StateStore, resource_type: &str) -> anyhow::Result<(usize, String)> {
    let object = store.get(store.key()).await?.context("the terraform state is gone")?;
    check_form(&object.bytes)?;
    let mut state: serde_json::Value = serde_json::from_slice(&object.bytes).context(NO_STATE)?;
    let copy = store.sidecar("before-xtask");
    let _ = store.put(&copy, object.bytes, WriteCondition::Always).await?;
    let resources = state["resources"].as_array_mut().context("the state object has no resources")?;
    let before = resources.len();
    resources.retain(|resource| resource["type"] != resource_type);
    let left = before - resources.len();
    let serial = state["serial"].as_u64().context("the state object has no serial")?;
    state["serial"] = (serial + 1).into();
    let written =
        store.put(store.key(), serde_json::to_vec_pretty(&state)?, WriteCondition::Is(&object.etag)).await?;
    written.map_err(|_| failure(Kind::Terraform, "the terraform state has just changed"))?;
    Ok((left, copy))
}

/// The format of an object: a state in plain JSON has a version, an encrypted one has its content in one string
/// (<https://github.com/opentofu/opentofu/blob/main/internal/encryption/base.go>).
#[derive(Deserialize)]
struct Form {
    version: Option<u64>,
    encrypted_data: Option<serde::de::IgnoredAny>,
}

/// The part of terraform's state format (version 4) that this program reads.
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
    fn the_resources_that_a_state_owns() {
        let state = State::parse(
            br#"{"version":4,"outputs":{"tag":{"value":"prod","type":"string"}},"resources":[
                {"mode":"managed","type":"aws_ecr_repository","name":"images","instances":[{"index_key":"curl","attributes":{"id":"curl"}}]},
                {"mode":"data","type":"aws_caller_identity","name":"current","instances":[{"attributes":{"id":"1"}}]}]}"#,
        )
        .unwrap();
        assert!(state.owns("aws_ecr_repository", "curl"));
        assert!(!state.owns("aws_caller_identity", "1"));
        assert_eq!(state.tag.as_deref(), Some("prod"));
    }

    #[test]
    fn an_encrypted_or_unknown_state_is_refused_by_name() {
        let refused = |text: &str| {
            let error = State::parse(text.as_bytes()).unwrap_err();
            assert_eq!(failure::kind_of(&error), Kind::Config, "{text}");
            failure::render(&error)
        };
        // As OpenTofu writes it. Future versions may add more fields outside of the encrypted part.
        let tofu = r#"{"serial":1,"lineage":"l","meta":{"key_provider.pbkdf2.k":"eyJ9"},"encrypted_data":"b64","encryption_version":"v0"}"#;
        let said = refused(tofu);
        assert!(
            said.contains("is encrypted by OpenTofu")
                && said.contains("hint: take the state's encryption back"),
            "{said}"
        );
        let said = refused(r#"{"version":3,"modules":[]}"#);
        assert!(said.contains("has version 3 of its format"), "{said}");
        for text in ["{}", "[]", "<xml>", "", r#"{"version":4,"resources":{}}"#] {
            assert!(refused(text).contains("is not a terraform state"), "{text}");
        }
    }
}
