//! Blobs: whether a repository has one, its bytes, and pushes of local ones. A blob of another registry is copied by
//! [`copy_blob`](crate::mirror::copy_blob).
//!
//! One upload is one `POST` and one `PUT` with the whole body, the form that every registry supports (ECR's `PATCH` has rules
//! of its own). After a failure, the whole body is sent to a new upload session.

use std::io::SeekFrom;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt as _, TryStreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use crate::client::uploads::{self, Started};
use crate::client::{Client, blobs};
use crate::digest::Digest;
use crate::error::{BoxError, Error, ErrorKind};
use crate::manifest::Descriptor;
use crate::net::http::Body;
use crate::reference::Reference;
use crate::transfer::blob_upload;
use crate::transfer::source::{self, Meter, Transfer};

/// How much is read from a file, or passed on from memory, at a time.
const CHUNK: usize = 256 * 1024;

/// Whether the reference's repository has the blob.
///
/// # Errors
/// When the registry cannot be reached or refuses.
pub async fn has(client: &Client, reference: &Reference, digest: Digest) -> Result<bool, Error> {
    Ok(size(client, reference, digest).await?.is_some())
}

/// The blob's length in bytes, `Some(None)` if the registry does not say it; `None` if the repository does not have the blob.
///
/// # Errors
/// When the registry cannot be reached or refuses.
pub async fn size(
    client: &Client,
    reference: &Reference,
    digest: Digest,
) -> Result<Option<Option<u64>>, Error> {
    let connection = &client.connection;
    connection.retry(|| blobs::size_once(connection, reference, digest)).await
}

/// A small blob, a configuration for instance, in memory; size and digest verified.
///
/// # Errors
/// When it is larger than [`size_limits::BLOB_IN_MEMORY`](crate::size_limits::BLOB_IN_MEMORY), is not there, or is not what the descriptor says.
pub async fn bytes(client: &Client, reference: &Reference, blob: &Descriptor) -> Result<Vec<u8>, Error> {
    blobs::read(&client.connection, reference, blob.into()).await
}

/// The bytes of a blob of any size, as they come. A broken download is resumed. The last bytes only come if the digest of all
/// is right: otherwise the stream ends with an error instead.
pub fn pull(
    client: &Client,
    from: &Reference,
    blob: &Descriptor,
) -> impl Stream<Item = Result<Bytes, Error>> + Send + use<> {
    source::body(Transfer::new(&client.connection, from, blob.into()), Arc::new(Meter::default()))
}

/// Pushes a blob from memory, unless the repository has it. Returns the number of bytes that were sent.
///
/// # Errors
/// When the registry cannot be reached or refuses, or the bytes are not what the descriptor says.
pub async fn push_bytes(
    client: &Client,
    to: &Reference,
    blob: &Descriptor,
    bytes: Vec<u8>,
) -> Result<u64, Error> {
    let bytes = Bytes::from(bytes);
    let actual = Digest::of(&bytes);
    if actual != blob.digest {
        let kind = ErrorKind::DigestMismatch { expected: blob.digest, actual };
        return Err(Error::of(&to.with_digest(blob.digest), kind));
    }
    // In pieces, so that progress is seen.
    push_stream(client, to, blob, || {
        stream::unfold(bytes.clone(), |mut rest| async move {
            let piece = rest.split_to(rest.len().min(CHUNK));
            (!piece.is_empty()).then_some((Ok::<_, BoxError>(piece), rest))
        })
    })
    .await
}

/// Pushes a blob that is in a file at `offset`, unless the repository has it. The registry compares the digest. Returns the
/// number of bytes that were sent.
///
/// # Errors
/// When the file cannot be read, or the registry cannot be reached or refuses.
pub async fn push_file(
    client: &Client,
    to: &Reference,
    blob: &Descriptor,
    path: &Path,
    offset: u64,
) -> Result<u64, Error> {
    let size = blob.size;
    push_stream(client, to, blob, || {
        let path = path.to_owned();
        let opened = async move {
            let mut file = tokio::fs::File::open(path).await?;
            file.seek(SeekFrom::Start(offset)).await?;
            Ok::<_, std::io::Error>(chunks(file.take(size)))
        };
        stream::once(opened).try_flatten()
    })
    .await
}

/// Pushes a blob of any size, unless the repository has it. `open` returns its bytes from the beginning each time that it is
/// called, because a failed upload is sent again. The registry compares the digest. Returns the number of bytes that were sent.
///
/// # Errors
/// When the stream fails, or the registry cannot be reached or refuses.
pub async fn push_stream<S, E>(
    client: &Client,
    to: &Reference,
    blob: &Descriptor,
    open: impl Fn() -> S,
) -> Result<u64, Error>
where
    S: Stream<Item = Result<Bytes, E>> + Send + 'static,
    E: Into<BoxError>,
{
    let connection = &client.connection;
    if connection.retry(|| blobs::need_not_be_sent(connection, to, blob.digest)).await? {
        return Ok(0);
    }
    connection
        .retry(|| async {
            let session = match uploads::start(connection, to, blob.digest, None).await? {
                Started::Mounted => return Ok(0),
                Started::Session(session) => session,
            };
            let (size, subject) = (blob.size, to.with_digest(blob.digest));
            let body = |meter: &Arc<Meter>| {
                let (meter, subject) = (Arc::clone(meter), subject.clone());
                let body = open().map(move |piece| match piece {
                    Ok(piece) => {
                        meter.add(piece.len() as u64, size);
                        Ok(piece)
                    }
                    Err(error) => {
                        let kind =
                            ErrorKind::Helper { what: "reading the blob", source: Arc::from(error.into()) };
                        let error = Error::of(&subject, kind);
                        meter.fail(error.clone());
                        Err(error)
                    }
                });
                Body::stream(body, Some(size))
            };
            blob_upload::send(connection, to, session, blob.into(), body).await?;
            Ok(size)
        })
        .await
}

/// What is left of a file, in pieces.
fn chunks(file: tokio::io::Take<tokio::fs::File>) -> impl Stream<Item = std::io::Result<Bytes>> + Send {
    stream::try_unfold(file, |mut file| async move {
        let mut chunk = Vec::with_capacity(CHUNK);
        let read = (&mut file).take(CHUNK as u64).read_to_end(&mut chunk).await?;
        Ok((read > 0).then_some((Bytes::from(chunk), file)))
    })
}
