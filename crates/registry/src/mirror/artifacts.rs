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
use crate::manifest::{Descriptor, Kind, Manifest, OCI_INDEX, subject as subject_of};
use crate::reference::Reference;

/// [Cosign's tags](https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md#tag-based-discovery).
const SUFFIXES: [&str; 3] = ["sig", "att", "sbom"];

/// Artifacts about artifacts, a signed SBOM for instance.
const DEPTH: usize = 2;

/// Artifacts of one image: nobody has more, and a list that never ends is no reason to copy forever.
const MAX_ARTIFACTS: usize = 200;

impl Mirror {
    /// Copies what is about the image, before its tag is put: whoever finds the tag finds its signatures, and a run that ended in
    /// between is not taken for complete by the next one. Whatever a registry refuses is a warning
    /// (ECR answers some of them with 405, [containers-roadmap#2783](https://github.com/aws/containers-roadmap/issues/2783)).
    ///
    /// # Errors
    /// A registry that does not work at the moment: the next run tries again.
    pub(super) async fn copy_artifacts(&self, way: Way<'_>, content: &Content) -> Result<Vec<String>, Error> {
        let tree = &content.tree;
        let children = tree.children.iter().map(|(_, child)| child.digest());
        // A child that the target has already may lack what is about it: an earlier run may have ended before.
        let children = children.chain(tree.present.iter().copied());
        let mut subjects: Vec<(Digest, usize)> = children.map(|digest| (digest, 0)).collect();
        subjects.insert(0, (content.digest, 0));
        let seen = subjects.iter().map(|(digest, _)| *digest).collect();
        let mut artifacts =
            Artifacts { mirror: self, way, content, seen, is_anchored: false, warnings: Vec::new() };
        while let Some((subject, depth)) = subjects.pop() {
            let tagged = artifacts.copy_tagged(subject).await;
            artifacts.warn_of(tagged)?;
            let referrers = artifacts.copy_referrers(subject).await;
            let found = artifacts.warn_of(referrers)?.unwrap_or_default();
            if depth < DEPTH {
                subjects.extend(found.into_iter().map(|digest| (digest, depth + 1)));
            }
        }
        Ok(artifacts.warnings)
    }
}

/// What is about one image, on its way to the target.
struct Artifacts<'a> {
    mirror: &'a Mirror,
    way: Way<'a>,
    content: &'a Content,
    seen: HashSet<Digest>,
    /// Whether the target was given the image's manifest, by its digest.
    is_anchored: bool,
    warnings: Vec<String>,
}

impl Artifacts<'_> {
    /// A refusal becomes a warning.
    fn warn_of<T>(&mut self, result: Result<T, Error>) -> Result<Option<T>, Error> {
        match result {
            Ok(done) => Ok(Some(done)),
            // Bytes that are wrong at their source are so the next time, too.
            Err(error) if error.is_transient() && !error.kind().is_mismatch() => Err(error),
            Err(error) => {
                let message = format!("an artifact was not copied: {error}");
                let image = self.way.image;
                self.mirror.events.tell(&Event::Warning { image, message: message.clone() });
                self.warnings.push(message);
                Ok(None)
            }
        }
    }

    async fn copy_tagged(&mut self, subject: Digest) -> Result<(), Error> {
        let way = self.way;
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
                self.copy_one(&manifest, &target).await?;
            }
        }
        Ok(())
    }

    /// Copies the artifacts that name `subject`, and returns their digests.
    async fn copy_referrers(&mut self, subject: Digest) -> Result<Vec<Digest>, Error> {
        let way = self.way;
        let mut copied: Vec<Descriptor> = Vec::new();
        for descriptor in way.client.referrers(way.source, subject).await?.into_iter().take(MAX_ARTIFACTS) {
            if self.seen.len() >= MAX_ARTIFACTS || self.seen.contains(&descriptor.digest) {
                continue;
            }
            let source = way.source.with_digest(descriptor.digest);
            let Some(manifest) = way.client.manifest(&source).await? else { continue };
            // Lists are what somebody wrote down; what an artifact is about, it says itself.
            if subject_of(&manifest) != Some(subject) {
                continue;
            }
            self.seen.insert(descriptor.digest);
            self.copy_one(&manifest, &way.target.with_digest(descriptor.digest)).await?;
            copied.push(descriptor);
        }
        if !copied.is_empty() {
            self.list_referrers(subject, &copied).await?;
        }
        Ok(copied.into_iter().map(|descriptor| descriptor.digest).collect())
    }

    /// A registry without the referrers API lists nothing by itself: the client keeps the list, under a tag
    /// ([specification](https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pushing-manifests-with-subject)).
    async fn list_referrers(&self, subject: Digest, copied: &[Descriptor]) -> Result<(), Error> {
        let way = self.way;
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
        self.mirror.put(way, &tag, &Manifest::new(OCI_INDEX, index.to_string())).await
    }

    async fn copy_one(&mut self, manifest: &Manifest, target: &Reference) -> Result<(), Error> {
        let way = self.way;
        self.anchor().await?;
        let fail = |error| Error::of(way.source, ErrorKind::Manifest(error));
        if manifest.kind() == Kind::Image {
            let image = manifest.image().map_err(fail)?;
            self.mirror.place_more(way, &image.blobs()).await?;
        }
        self.mirror.put(way, target, manifest).await
    }

    /// Puts the image by its digest, without its tag: not every registry takes what is about a manifest that it does not have.
    /// Where one refuses that, the tag says why.
    async fn anchor(&mut self) -> Result<(), Error> {
        if self.is_anchored {
            return Ok(());
        }
        let target = self.way.target.with_digest(self.content.digest);
        match self.mirror.put_top(self.way, &target, self.content).await {
            Err(error) if error.is_transient() => return Err(error),
            Ok(()) | Err(_) => {}
        }
        self.is_anchored = true;
        Ok(())
    }
}

fn tagged(reference: &Reference, tag: &str) -> Result<Reference, Error> {
    reference.with_tag(tag).map_err(|error| Error::of(reference, ErrorKind::Protocol(error.to_string())))
}
