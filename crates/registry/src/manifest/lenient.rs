//! Manifests as other encoders write them: an unused field is an empty text, an annotation may be a number.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::media_type::{Kind, OCI_IMAGE, OCI_INDEX, SCHEMA_1};

/// The annotations that are texts. No other ones are used here.
pub(super) fn texts<'de, D>(deserializer: D) -> Result<Option<BTreeMap<String, String>>, D::Error>
where
    D: Deserializer<'de>,
{
    let all: Option<BTreeMap<String, Value>> = Option::deserialize(deserializer)?;
    let text = |(name, value)| match value {
        Value::String(text) => Some((name, text)),
        _ => None,
    };
    Ok(all.map(|all| all.into_iter().filter_map(text).collect()))
}

/// The media type in a manifest, or the only possible one: OCI's may leave it out, docker's never do.
pub(super) fn own_type(bytes: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Inside {
        #[serde(default, deserialize_with = "crate::lenient::or_default")]
        schema_version: u64,
        #[serde(default, deserialize_with = "crate::lenient::or_default")]
        media_type: String,
        manifests: Option<serde::de::IgnoredAny>,
        config: Option<serde::de::IgnoredAny>,
        layers: Option<serde::de::IgnoredAny>,
    }
    let inside: Inside = serde_json::from_slice(bytes).ok()?;
    let own = super::bare(&inside.media_type);
    if Kind::of(&own) != Kind::Other {
        return Some(own);
    }
    let is_image = inside.config.is_some();
    match (inside.schema_version, own.is_empty(), inside.manifests.is_some()) {
        (2, true, true) if !is_image && inside.layers.is_none() => Some(OCI_INDEX.to_owned()),
        (2, true, false) if is_image => Some(OCI_IMAGE.to_owned()),
        (1, true, false) => Some(SCHEMA_1.to_owned()),
        _ => None,
    }
}
