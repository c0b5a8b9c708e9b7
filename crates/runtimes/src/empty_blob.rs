//! The empty blob: content of artifacts that are described by their manifest alone, and configuration of artifacts without one
//! (<https://github.com/opencontainers/image-spec/blob/main/manifest.md#guidance-for-an-empty-descriptor>).

use std::collections::BTreeMap;

use registry::{Descriptor, Digest};
use serde::Serialize;

/// The media type of an artifact's manifest.
pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// An artifact's manifest: one layer, and the empty configuration.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ArtifactManifest<'a> {
    schema_version: u8,
    media_type: &'a str,
    artifact_type: &'a str,
    config: Descriptor,
    layers: [&'a Descriptor; 1],
    /// The manifest that the artifact refers to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) subject: Option<Descriptor>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) annotations: BTreeMap<&'a str, String>,
}

impl<'a> ArtifactManifest<'a> {
    /// An artifact of this type, without a subject and annotations.
    pub(super) fn new(artifact_type: &'a str, content: &'a Descriptor) -> Self {
        Self {
            schema_version: 2,
            media_type: MANIFEST,
            artifact_type,
            config: empty(),
            layers: [content],
            subject: None,
            annotations: BTreeMap::new(),
        }
    }
}

/// The blob's content.
pub(super) const EMPTY: &[u8] = b"{}";

/// The blob's descriptor.
pub(super) fn empty() -> Descriptor {
    Descriptor::new("application/vnd.oci.empty.v1+json", Digest::of(EMPTY), EMPTY.len() as u64)
}
