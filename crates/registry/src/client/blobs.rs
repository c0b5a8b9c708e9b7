//! Requests for blobs: whether a repository has one, and its bytes. The public functions are in [`crate::blobs`].

use http::header::{CONTENT_LENGTH, RANGE};
use http::{HeaderValue, Method};

use super::Connection;
use super::call::Call;
use super::manifests::{deserves_explanation, is_absent, is_refusal};
use super::pace::Action;
use crate::bugs::{self, Bug};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind};
use crate::manifest::Blob;
use crate::net::encoding;
use crate::net::http::Response;
use crate::net::response::{self, read_in_time};
use crate::reference::Reference;
use crate::size_limits;

/// By how much gzip may lengthen a small blob that it cannot compress.
pub(crate) const PACKED_ROOM: usize = 64 << 10;

/// The blob's length in bytes, `Some(None)` if the registry does not say it; `None` if the repository does not have the blob.
/// No retry.
pub(crate) async fn size_once(
    connection: &Connection,
    reference: &Reference,
    digest: Digest,
) -> Result<Option<Option<u64>>, Error> {
    let url = connection.url(reference, &format!("blobs/{digest}"))?;
    let result = connection.send(Call::read(reference, Action::BlobHead, Method::HEAD, url)).await;
    // By GET it says more.
    match result {
        Err(error) if deserves_explanation(&error) => size_by_get(connection, reference, digest).await,
        result => told(result),
    }
}

/// [`size_once`] by GET, whose body is not read. No retry.
pub(crate) async fn size_by_get(
    connection: &Connection,
    reference: &Reference,
    digest: Digest,
) -> Result<Option<Option<u64>>, Error> {
    told(open(connection, reference, digest, 0).await)
}

/// What a reply says of a blob's length.
fn told(reply: Result<Response, Error>) -> Result<Option<Option<u64>>, Error> {
    match reply {
        // A compressed reply has another length.
        Ok(reply) if encoding::is_compressed(reply.headers()) => Ok(Some(None)),
        Ok(reply) => {
            let length = response::header(reply.headers(), CONTENT_LENGTH.as_str());
            Ok(Some(length.and_then(|length| length.parse().ok())))
        }
        Err(error) if is_absent(&error) || matches!(error.kind(), ErrorKind::PartUnknown { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a blob need not be sent to a target, because it has it and is believed. No retry.
pub(crate) async fn need_not_be_sent(
    connection: &Connection,
    target: &Reference,
    digest: Digest,
) -> Result<bool, Error> {
    Ok(!connection.doubts && is_at_target(connection, target, digest).await?)
}

/// Whether a target has the blob. A refusal counts as no: who may not read may still push. No retry.
pub(crate) async fn is_at_target(
    connection: &Connection,
    target: &Reference,
    digest: Digest,
) -> Result<bool, Error> {
    match size_once(connection, target, digest).await {
        Err(error) if is_refusal(&error) && connection.profile(target.registry()).creates_repositories => {
            Ok(false)
        }
        other => Ok(other?.is_some()),
    }
}

/// A small blob in memory; size and digest verified.
///
/// # Errors
/// When it is larger than [`size_limits::BLOB_IN_MEMORY`], is not there, or is not what was asked for.
pub(crate) async fn read(
    connection: &Connection,
    reference: &Reference,
    blob: Blob,
) -> Result<Vec<u8>, Error> {
    let fail = |kind| Error::of(&reference.with_digest(blob.digest), kind);
    if blob.size > size_limits::BLOB_IN_MEMORY {
        return Err(fail(ErrorKind::TooLarge { what: "the blob", limit: size_limits::BLOB_IN_MEMORY }));
    }
    let url = connection.url(reference, &format!("blobs/{}", blob.digest))?;
    connection
        .retry(|| async {
            let call = Call::read(reference, Action::BlobGet, Method::GET, url.clone());
            let response = connection.send(call).await?;
            let headers = response.headers().clone();
            // A compressed reply may be a little longer than the blob.
            let room = if encoding::is_compressed(&headers) { PACKED_ROOM } else { 0 };
            let limit = ("the blob", blob.size as usize + room);
            let body = read_in_time(response, reference.registry(), limit, connection.timeouts().reply).await;
            let body = body.map_err(fail)?;
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

/// A blob's bytes from `offset` on. No retry: the reader knows how far it came.
pub(crate) async fn open(
    connection: &Connection,
    reference: &Reference,
    digest: Digest,
    offset: u64,
) -> Result<Response, Error> {
    let url = connection.url(reference, &format!("blobs/{digest}"))?;
    let mut call = Call::read(reference, Action::BlobGet, Method::GET, url);
    let first = offset + u64::from(bugs::is_in(Bug::WrongResume));
    if offset > 0
        && let Ok(range) = HeaderValue::from_str(&format!("bytes={first}-"))
    {
        call.headers.insert(RANGE, range);
    }
    connection.send(call).await
}
