//! A document as an artifact that refers to an image.

use std::collections::BTreeMap;

use registry::mirror::{differs, look_again};
use registry::{Client, Descriptor, Digest, Manifest, Reference, lists, resend};
use serde_json::Value;

use crate::empty_blob::{ArtifactManifest, EMPTY, MANIFEST, empty};
use crate::push;
use crate::{Context, RuntimeError};

/// A document and the manifest that names it.
#[derive(Debug)]
pub(super) struct Artifact {
    pub(super) manifest: Manifest,
    kind: &'static str,
    document: Descriptor,
    subject: Digest,
    pub(super) bytes: Vec<u8>,
}

impl Artifact {
    /// An artifact of type `kind` whose subject is `subject`. The annotations describe the document.
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
        Self { manifest, kind, document, subject: subject.digest(), bytes }
    }

    /// Its descriptor in the subject's list of referrers.
    fn listed(&self) -> Descriptor {
        Descriptor { artifact_type: Some(self.kind.to_owned()), ..self.manifest.descriptor() }
    }

    /// Pushes it to the repository of `image`, without a tag, and reads it back.
    pub(super) async fn push(&self, context: &Context, image: &Reference) -> Result<(), RuntimeError> {
        let own = image.with_digest(self.manifest.digest());
        let blobs = [(empty(), EMPTY.to_vec()), (self.document.clone(), self.bytes.clone())];
        resend::push(&context.client, &own, &self.manifest, &blobs).await?;
        Ok(push::verify(context, &own, self.manifest.digest()).await?)
    }
}

/// Ensures that the registry lists `artifacts` of `repository` as referrers of their subjects.
pub(super) async fn list(
    client: &Client,
    repository: &Reference,
    artifacts: &[Artifact],
) -> Result<(), RuntimeError> {
    let mut about: BTreeMap<Digest, Vec<Descriptor>> = BTreeMap::new();
    for artifact in artifacts {
        about.entry(artifact.subject).or_default().push(artifact.listed());
    }
    for (subject, listed) in &about {
        let missing = lists::missing_referrers(client, repository, *subject, listed).await?;
        let Some((tag, list)) = missing else { continue };
        client.put_manifest(&tag, &list).await?;
        let look = || async {
            let found = lists::referrers(client, repository, *subject).await?;
            match listed.iter().find(|artifact| found.iter().all(|found| found.digest != artifact.digest)) {
                Some(artifact) => Err(differs(&tag, format!("{} is not listed", artifact.digest))),
                None => Ok(()),
            }
        };
        look_again(client, look).await?;
    }
    Ok(())
}
