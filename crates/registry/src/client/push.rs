//! Blobs that are made here, or taken from another registry, into a repository.
//!
//! One blob is one `POST` and one `PUT` with the whole body, the form that every registry takes (ECR's `PATCH` has ways of
//! its own). A failed body means a new upload session: a byte 0 that is sent twice is refused there.

use std::path::Path;

use reqwest::Body;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use super::Client;
use super::uploads::Started;
use crate::digest::{Digest, Hasher};
use crate::error::{Error, ErrorKind};
use crate::manifest::Descriptor;
use crate::reference::Reference;

/// How much of a file is read at a time.
const CHUNK: usize = 256 * 1024;

impl Client {
    /// Pushes a blob from memory, unless the repository has it.
    ///
    /// # Errors
    /// When the registry cannot be reached or refuses, or the bytes are not what the descriptor says.
    pub async fn push_bytes(&self, to: &Reference, blob: &Descriptor, bytes: Vec<u8>) -> Result<(), Error> {
        let bytes = bytes::Bytes::from(bytes);
        let actual = Digest::of(&bytes);
        if actual != blob.digest {
            let kind = ErrorKind::DigestMismatch { expected: blob.digest, actual };
            return Err(Error::of(&to.with_digest(blob.digest), kind));
        }
        if self.has_blob(to, blob.digest).await? {
            return Ok(());
        }
        self.retry(|| async {
            match self.start_upload(to, blob.digest, None).await? {
                Started::Mounted => Ok(()),
                Started::Session(session) => {
                    self.finish_upload(to, session, blob, bytes.clone().into()).await
                }
            }
        })
        .await
    }

    /// Pushes a blob that lies in a file at `offset`, unless the repository has it. The registry compares the digest.
    ///
    /// # Errors
    /// When the file cannot be read, or the registry cannot be reached or refuses.
    pub async fn push_file(
        &self,
        to: &Reference,
        blob: &Descriptor,
        path: &Path,
        offset: u64,
    ) -> Result<(), Error> {
        if self.has_blob(to, blob.digest).await? {
            return Ok(());
        }
        let unreadable = |error: std::io::Error| {
            Error::of(
                &to.with_digest(blob.digest),
                ErrorKind::Helper { what: "reading the blob", source: std::sync::Arc::new(error) },
            )
        };
        self.retry(|| async {
            let session = match self.start_upload(to, blob.digest, None).await? {
                Started::Mounted => return Ok(()),
                Started::Session(session) => session,
            };
            let mut file = tokio::fs::File::open(path).await.map_err(unreadable)?;
            file.seek(std::io::SeekFrom::Start(offset)).await.map_err(unreadable)?;
            let body = Body::wrap_stream(futures_util::stream::try_unfold(
                file.take(blob.size),
                |mut file| async move {
                    let mut chunk = Vec::with_capacity(CHUNK);
                    let mut part = (&mut file).take(CHUNK as u64);
                    let read = part.read_to_end(&mut chunk).await?;
                    Ok::<_, std::io::Error>((read > 0).then_some((bytes::Bytes::from(chunk), file)))
                },
            ));
            self.finish_upload(to, session, blob, body).await
        })
        .await
    }

    /// Copies a blob from one repository to another, unless it is there: mounted where both are at one registry and it mounts, else
    /// streamed, hashed on the way.
    ///
    /// # Errors
    /// When one of the registries cannot be reached or refuses, or the source's bytes are not what the descriptor says.
    pub async fn copy_blob(&self, from: &Reference, to: &Reference, blob: &Descriptor) -> Result<(), Error> {
        if self.has_blob(to, blob.digest).await? {
            return Ok(());
        }
        let mount = (from.registry() == to.registry()).then(|| from.repository());
        self.retry(|| async {
            let session = match self.start_upload(to, blob.digest, mount).await? {
                Started::Mounted => return Ok(()),
                Started::Session(session) => session,
            };
            let response = self.open_blob(from, blob.digest, 0).await?;
            let expected = (blob.digest, blob.size);
            let body = futures_util::stream::try_unfold(
                (response, Hasher::default(), 0u64),
                move |(mut response, mut hasher, mut size)| async move {
                    match response.chunk().await.map_err(std::io::Error::other)? {
                        Some(chunk) => {
                            hasher.update(&chunk);
                            size += chunk.len() as u64;
                            Ok::<_, std::io::Error>(Some((chunk, (response, hasher, size))))
                        }
                        None if (hasher.finish(), size) == expected => Ok(None),
                        None => Err(std::io::Error::other("the source sent other bytes than it names")),
                    }
                },
            );
            self.finish_upload(to, session, blob, Body::wrap_stream(body)).await
        })
        .await
    }
}
