//! A document as an artifact about an image.

use std::collections::BTreeMap;

use registry::{Client, Descriptor, Digest, Manifest, Reference, blobs, lists};
use serde_json::Value;

use crate::RuntimeError;
use crate::empty_blob::{ArtifactManifest, EMPTY, MANIFEST, empty};

/// A document and the manifest that names it.
#[derive(Debug)]
pub(super) struct Artifact {
    pub(super) manifest: Manifest,
    kind: &'static str,
    document: Descriptor,
    pub(super) bytes: Vec<u8>,
}

impl Artifact {
    /// An artifact of type `kind` about `subject`. The annotations are the document's.
    pub(super) fn new(
        kind: &'static str,
        document: &Value,
        annotations: &[(&str, &str)],
        subject: &Manifest,
    ) -> Self {
        let bytes = document.to_string().into_bytes();
        let named = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let annotations: BTreeMap<String, String> = annotations.iter().map(named).collect();
        let document = Descriptor {
            annotations: Some(annotations).filter(|annotations| !annotations.is_empty()),
            ..Descriptor::new(kind, Digest::of(&bytes), bytes.len() as u64)
        };
        let mut shape = ArtifactManifest::new(kind, &document);
        shape.subject = Some(subject.descriptor());
        let manifest = Manifest::new(MANIFEST, serde_json::json!(shape).to_string());
        Self { manifest, kind, document, bytes }
    }

    /// As it is listed among what is about its image.
    fn listed(&self) -> Descriptor {
        Descriptor { artifact_type: Some(self.kind.to_owned()), ..self.manifest.descriptor() }
    }

    /// Puts it into the repository of `image`, without a tag, and reads its manifest back.
    pub(super) async fn push(&self, client: &Client, image: &Reference) -> Result<(), RuntimeError> {
        blobs::push_bytes(client, image, &empty(), EMPTY.to_vec()).await?;
        blobs::push_bytes(client, image, &self.document, self.bytes.clone()).await?;
        let own = image.with_digest(self.manifest.digest());
        client.put_manifest(&own, &self.manifest).await?;
        let found = client.manifest(&own).await?.map(|found| found.digest());
        if found == Some(self.manifest.digest()) { Ok(()) } else { Err(lost(&own, self.manifest.digest())) }
    }
}

/// Sees to it that the registry lists `artifacts` among what is about `image`.
pub(super) async fn list(
    client: &Client,
    image: &Reference,
    artifacts: &[Artifact],
) -> Result<(), RuntimeError> {
    let Some(subject) = image.digest() else { return Ok(()) };
    let listed: Vec<Descriptor> = artifacts.iter().map(Artifact::listed).collect();
    let Some((tag, list)) = lists::missing_referrers(client, image, subject, &listed).await? else {
        return Ok(());
    };
    client.put_manifest(&tag, &list).await?;
    let found = lists::referrers(client, image, subject).await?;
    match listed.iter().find(|artifact| found.iter().all(|found| found.digest != artifact.digest)) {
        Some(artifact) => Err(lost(&image.with_digest(artifact.digest), artifact.digest)),
        None => Ok(()),
    }
}

fn lost(artifact: &Reference, pushed: Digest) -> RuntimeError {
    RuntimeError::ReadBack { image: artifact.to_string(), pushed, found: None }
}
