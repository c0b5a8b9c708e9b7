//! Signatures, attestations and other artifacts that are about an image, in both forms that are in use: the referrers API, and
//! cosign's tags.

use std::collections::HashSet;

use super::Mirror;
use super::blob::Way;
use super::event::Event;
use super::job::Content;
use crate::bugs::{self, Bug};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind};
use crate::manifest::{Descriptor, Kind, Manifest, OCI_INDEX};
use crate::reference::Reference;

/// [Cosign's tags](https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md#tag-based-discovery).
const SUFFIXES: [&str; 3] = ["sig", "att", "sbom"];

/// Artifacts about artifacts, a signed SBOM for instance.
const DEPTH: usize = 2;

/// Artifacts of one image: nobody has more, and a list that never ends is no reason to copy forever.
const MAX_ARTIFACTS: usize = 200;

impl Mirror {
    /// Copies what is about the image. Whatever a registry refuses is a warning: the image itself is there
    /// (ECR answers some of them with 405, [containers-roadmap#2783](https://github.com/aws/containers-roadmap/issues/2783)).
    pub(super) async fn copy_artifacts(&self, way: Way<'_>, content: &Content) -> Vec<String> {
        let mut subjects: Vec<(Digest, usize)> = vec![(content.digest, 0)];
        subjects.extend(content.tree.children.iter().map(|(_, child)| (child.digest(), 0)));
        let mut seen: HashSet<Digest> = subjects.iter().map(|(digest, _)| *digest).collect();
        let mut warnings = Vec::new();
        while let Some((subject, depth)) = subjects.pop() {
            if let Err(error) = self.copy_tagged(way, subject).await {
                self.warn(way, &mut warnings, &error);
            }
            match self.copy_referrers(way, subject, &mut seen).await {
                Ok(found) if depth < DEPTH => {
                    subjects.extend(found.into_iter().map(|digest| (digest, depth + 1)));
                }
                Ok(_) => {}
                Err(error) => self.warn(way, &mut warnings, &error),
            }
        }
        warnings
    }

    fn warn(&self, way: Way<'_>, warnings: &mut Vec<String>, error: &Error) {
        let message = format!("an artifact was not copied: {error}");
        self.events.tell(&Event::Warning { image: way.image, message: message.clone() });
        warnings.push(message);
    }

    async fn copy_tagged(&self, way: Way<'_>, subject: Digest) -> Result<(), Error> {
        for suffix in SUFFIXES {
            let tag = format!("sha256-{}.{suffix}", subject.hex());
            let (source, target) = (tagged(way.source, &tag)?, tagged(way.target, &tag)?);
            let Some(there) = way.client.head(&source).await? else { continue };
            // A registry that reads the tag as the digest in it.
            if there.digest == subject {
                continue;
            }
            let here = way.client.look_up(&target).await?;
            if here.is_some_and(|here| here.digest == there.digest) {
                continue;
            }
            if let Some(manifest) = way.client.manifest(&source).await? {
                self.copy_one(way, &manifest, &target).await?;
            }
        }
        Ok(())
    }

    /// Copies the artifacts that name `subject`, and returns their digests.
    async fn copy_referrers(
        &self,
        way: Way<'_>,
        subject: Digest,
        seen: &mut HashSet<Digest>,
    ) -> Result<Vec<Digest>, Error> {
        let mut copied: Vec<Descriptor> = Vec::new();
        for descriptor in way.client.referrers(way.source, subject).await?.into_iter().take(MAX_ARTIFACTS) {
            if seen.len() >= MAX_ARTIFACTS || seen.contains(&descriptor.digest) {
                continue;
            }
            let source = way.source.with_digest(descriptor.digest);
            let Some(manifest) = way.client.manifest(&source).await? else { continue };
            // Lists are what somebody wrote down; what an artifact is about, it says itself.
            if manifest.subject() != Some(subject) {
                continue;
            }
            seen.insert(descriptor.digest);
            self.copy_one(way, &manifest, &way.target.with_digest(descriptor.digest)).await?;
            copied.push(descriptor);
        }
        if !copied.is_empty() {
            self.list_referrers(way, subject, &copied).await?;
        }
        Ok(copied.into_iter().map(|descriptor| descriptor.digest).collect())
    }

    /// A registry without the referrers API lists nothing by itself: the client keeps the list, under a tag
    /// ([specification](https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pushing-manifests-with-subject)).
    async fn list_referrers(
        &self,
        way: Way<'_>,
        subject: Digest,
        copied: &[Descriptor],
    ) -> Result<(), Error> {
        let mut list = way.client.referrers(way.target, subject).await?;
        if bugs::is_in(Bug::ForgottenReferrers) {
            list.clear();
        }
        let known: HashSet<Digest> = list.iter().map(|descriptor| descriptor.digest).collect();
        list.extend(copied.iter().filter(|descriptor| !known.contains(&descriptor.digest)).cloned());
        if list.len() == known.len() {
            return Ok(());
        }
        let index = serde_json::json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list });
        let tag = tagged(way.target, &format!("sha256-{}", subject.hex()))?;
        self.put(way, &tag, &Manifest::new(OCI_INDEX, index.to_string())).await
    }

    async fn copy_one(&self, way: Way<'_>, manifest: &Manifest, target: &Reference) -> Result<(), Error> {
        let fail = |error| Error::of(way.source, ErrorKind::Manifest(error));
        if manifest.kind() == Kind::Image {
            let image = manifest.image().map_err(fail)?;
            self.place_more(way, &image.blobs()).await?;
        }
        self.put(way, target, manifest).await
    }
}

fn tagged(reference: &Reference, tag: &str) -> Result<Reference, Error> {
    reference.with_tag(tag).map_err(|error| Error::of(reference, ErrorKind::Protocol(error.to_string())))
}
