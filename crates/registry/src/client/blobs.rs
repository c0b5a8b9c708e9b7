//! Blobs, one request at a time; whole transfers are the mirror's.

use http::Method;
use http::header::CONTENT_LENGTH;

use super::Client;
use super::manifests::{is_absent, is_refusal};
use super::pace::Action;
use super::transport::Call;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind};
use crate::limits;
use crate::manifest::{Blob, Descriptor};
use crate::net::encoding;
use crate::net::response::{self, read_bounded};
use crate::net::waits::waiting;
use crate::reference::Reference;

/// By how much gzip makes what is small and has no pattern longer.
pub(crate) const PACKED_ROOM: usize = 64 << 10;

impl Client {
    /// Whether the reference's repository has the blob.
    ///
    /// # Errors
    /// When the registry cannot be reached or refuses.
    pub async fn has_blob(&self, reference: &Reference, digest: Digest) -> Result<bool, Error> {
        self.retry(|| self.has_blob_once(reference, digest)).await
    }

    /// How long the blob is that the reference's repository has, in bytes; none inside where the registry does not say.
    ///
    /// # Errors
    /// When the registry cannot be reached or refuses.
    pub async fn blob_size(
        &self,
        reference: &Reference,
        digest: Digest,
    ) -> Result<Option<Option<u64>>, Error> {
        self.retry(|| self.blob_size_once(reference, digest)).await
    }

    pub(crate) async fn has_blob_once(&self, reference: &Reference, digest: Digest) -> Result<bool, Error> {
        Ok(self.blob_size_once(reference, digest).await?.is_some())
    }

    async fn blob_size_once(
        &self,
        reference: &Reference,
        digest: Digest,
    ) -> Result<Option<Option<u64>>, Error> {
        let url = self.url(reference, &format!("blobs/{digest}"))?;
        let result = self.core.send(Call::read(reference, Action::BlobHead, Method::HEAD, url)).await;
        // ECR answers an expired token so, and without a body nobody knows: by GET it says more.
        let result = match result {
            Err(error) if matches!(error.kind(), ErrorKind::Denied { message } if message.is_empty()) => {
                self.open_blob(reference, digest, 0).await
            }
            result => result,
        };
        match result {
            // What was compressed on its way has another length.
            Ok(reply) if encoding::is_compressed(reply.headers()) => Ok(Some(None)),
            Ok(reply) => {
                let length = response::header(reply.headers(), CONTENT_LENGTH.as_str());
                Ok(Some(length.and_then(|length| length.parse().ok())))
            }
            Err(error) if is_absent(&error) || matches!(error.kind(), ErrorKind::PartUnknown { .. }) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// [`Client::has_blob_once`] at a target, where the push decides: who may not look may still push.
    pub(crate) async fn shows_blob(&self, reference: &Reference, digest: Digest) -> Result<bool, Error> {
        match self.has_blob_once(reference, digest).await {
            Err(error) if is_refusal(&error) && self.profile(reference.registry()).creates_repositories => {
                Ok(false)
            }
            other => other,
        }
    }

    /// A small blob, a configuration for instance, in memory; size and digest verified.
    ///
    /// # Errors
    /// When it is larger than [`limits::BLOB_IN_MEMORY`], is not there, or is not what the descriptor says.
    pub async fn blob_bytes(&self, reference: &Reference, blob: &Descriptor) -> Result<Vec<u8>, Error> {
        self.small_blob(reference, blob.into()).await
    }

    /// [`Client::blob_bytes`], by digest and size alone.
    pub(crate) async fn small_blob(&self, reference: &Reference, blob: Blob) -> Result<Vec<u8>, Error> {
        let fail = |kind| Error::of(&reference.with_digest(blob.digest), kind);
        if blob.size > limits::BLOB_IN_MEMORY {
            return Err(fail(ErrorKind::TooLarge { what: "the blob", limit: limits::BLOB_IN_MEMORY }));
        }
        let url = self.url(reference, &format!("blobs/{}", blob.digest))?;
        self.retry(|| async {
            let call = Call::read(reference, Action::BlobGet, Method::GET, url.clone());
            let response = self.core.send(call).await?;
            let after = self.core.timeouts.reply;
            let headers = response.headers().clone();
            // What was compressed on its way may be a little longer than what is wanted.
            let room = if encoding::is_compressed(&headers) { PACKED_ROOM } else { 0 };
            let reading = read_bounded(response, "the blob", blob.size as usize + room);
            let _wait = waiting(reference.registry(), "the rest of a blob", after);
            let body = match tokio::time::timeout(after, reading).await {
                Ok(body) => body.map_err(fail)?,
                Err(_) => return Err(fail(ErrorKind::Stalled { what: "the blob", after })),
            };
            let is_right = |body: &[u8]| Digest::of(body) == blob.digest;
            let body = encoding::decoded(&headers, body, blob.size as usize, is_right);
            let actual = Digest::of(&body);
            if body.len() as u64 != blob.size {
                let kind = ErrorKind::SizeMismatch { expected: blob.size, actual: body.len() as u64 };
                return Err(fail(kind));
            }
            if actual != blob.digest {
                return Err(fail(ErrorKind::DigestMismatch { expected: blob.digest, actual }));
            }
            Ok(body)
        })
        .await
    }
}
