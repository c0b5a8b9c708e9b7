//! Whether a target is whole: asked of the registry itself, after everything was done.

use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use super::Mirror;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind};
use crate::limits;
use crate::manifest::{Descriptor, Kind, Manifest};
use crate::reference::Reference;

/// Requests for one image at once.
const AT_ONCE: usize = 16;

/// What was found to be there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Manifests, the top one included.
    pub manifests: usize,
    /// Blobs.
    pub blobs: usize,
}

impl Mirror {
    /// Checks that `target`'s tag names `digest`, and that every manifest and every blob below it is there.
    ///
    /// # Errors
    /// When one of them is not, named.
    pub async fn verify(&self, target: &Reference, digest: Digest) -> Result<Verified, Error> {
        let missing = || Error::of(target, ErrorKind::NotFound { message: String::new() });
        let there = self.client.head(target).await?.ok_or_else(missing)?;
        if there.digest != digest {
            let kind = ErrorKind::DigestMismatch { expected: digest, actual: there.digest };
            return Err(Error::of(target, kind));
        }
        self.verify_manifest(target, digest, false, 0).await
    }

    fn verify_manifest<'a>(
        &'a self,
        target: &'a Reference,
        digest: Digest,
        is_attestation: bool,
        depth: usize,
    ) -> BoxFuture<'a, Result<Verified, Error>> {
        async move {
            let reference = target.with_digest(digest);
            let missing = || Error::of(&reference, ErrorKind::NotFound { message: String::new() });
            let manifest = match self.client.manifest(&reference).await? {
                // Left out where the source does not have it; no image needs it.
                None if is_attestation => return Ok(Verified::default()),
                manifest => manifest.ok_or_else(missing)?,
            };
            let below = match manifest.kind() {
                Kind::Index if depth < limits::INDEX_DEPTH => {
                    self.verify_children(target, &manifest, depth).await?
                }
                _ => self.verify_blobs(&reference, &manifest).await?,
            };
            Ok(Verified { manifests: below.manifests + 1, ..below })
        }
        .boxed()
    }

    async fn verify_children(
        &self,
        target: &Reference,
        manifest: &Manifest,
        depth: usize,
    ) -> Result<Verified, Error> {
        let index = manifest.index().map_err(|error| Error::of(target, ErrorKind::Manifest(error)))?;
        let children = index.manifests.iter();
        let children = children
            .map(|child| self.verify_manifest(target, child.digest, child.attests().is_some(), depth + 1));
        let children: Vec<_> = children.collect();
        stream::iter(children)
            .buffer_unordered(AT_ONCE)
            .try_fold(Verified::default(), |sum, one| async move {
                Ok(Verified { manifests: sum.manifests + one.manifests, blobs: sum.blobs + one.blobs })
            })
            .await
    }

    async fn verify_blobs(&self, reference: &Reference, manifest: &Manifest) -> Result<Verified, Error> {
        let image = manifest.image().map_err(|error| Error::of(reference, ErrorKind::Manifest(error)))?;
        let blobs: Vec<Descriptor> = image.blobs().into_iter().cloned().collect();
        let known = self.known_blobs(reference, &blobs).await?;
        let is_known = |blob: &Descriptor| known.as_ref().map(|known| known.contains(&blob.digest));
        let checks: Vec<_> =
            blobs.iter().map(|blob| self.verify_blob(reference, blob.digest, is_known(blob))).collect();
        stream::iter(checks).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        Ok(Verified { manifests: 0, blobs: blobs.len() })
    }

    async fn verify_blob(
        &self,
        reference: &Reference,
        digest: Digest,
        known: Option<bool>,
    ) -> Result<(), Error> {
        let is_there = match known {
            Some(is_there) => is_there,
            None => self.client.has_blob(reference, digest).await?,
        };
        let message = format!("blob {digest} is missing");
        is_there.then_some(()).ok_or_else(|| Error::of(reference, ErrorKind::PartUnknown { message }))
    }
}
