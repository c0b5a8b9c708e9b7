//! Blobs that are made here, or taken from another registry, into a repository.
//!
//! One blob is one `POST` and one `PUT` with the whole body, the form that every registry takes (ECR's `PATCH` has ways of
//! its own). A failed body means a new upload session: a byte 0 that is sent twice is refused there.

use std::path::Path;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use super::event::Events;
use super::source::{Meter, Transfer};
use super::upload::{self, Opened, Opening};
use crate::client::uploads::Started;
use crate::client::{Body, Client};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind};
use crate::manifest::Descriptor;
use crate::reference::Reference;

/// How much of a file is read at a time.
const CHUNK: usize = 256 * 1024;

impl Client {
    /// Pushes a blob from memory, unless the repository has it. Gives the bytes that were sent.
    ///
    /// # Errors
    /// When the registry cannot be reached or refuses, or the bytes are not what the descriptor says.
    pub async fn push_bytes(&self, to: &Reference, blob: &Descriptor, bytes: Vec<u8>) -> Result<u64, Error> {
        let bytes = bytes::Bytes::from(bytes);
        let actual = Digest::of(&bytes);
        if actual != blob.digest {
            let kind = ErrorKind::DigestMismatch { expected: blob.digest, actual };
            return Err(Error::of(&to.with_digest(blob.digest), kind));
        }
        if self.retry(|| self.shows_blob(to, blob.digest)).await? {
            return Ok(0);
        }
        self.retry(|| async {
            match self.start_upload(to, blob.digest, None).await? {
                Started::Mounted => Ok(0),
                Started::Session(session) => {
                    self.finish_upload(to, session, blob, bytes.clone().into()).await?;
                    Ok(blob.size)
                }
            }
        })
        .await
    }

    /// Pushes a blob that lies in a file at `offset`, unless the repository has it. The registry compares the digest. Gives
    /// the bytes that were sent.
    ///
    /// # Errors
    /// When the file cannot be read, or the registry cannot be reached or refuses.
    pub async fn push_file(
        &self,
        to: &Reference,
        blob: &Descriptor,
        path: &Path,
        offset: u64,
    ) -> Result<u64, Error> {
        if self.retry(|| self.shows_blob(to, blob.digest)).await? {
            return Ok(0);
        }
        let unreadable = |error: std::io::Error| {
            Error::of(
                &to.with_digest(blob.digest),
                ErrorKind::Helper { what: "reading the blob", source: Arc::new(error) },
            )
        };
        self.retry(|| async {
            let session = match self.start_upload(to, blob.digest, None).await? {
                Started::Mounted => return Ok(0),
                Started::Session(session) => session,
            };
            let mut file = tokio::fs::File::open(path).await.map_err(unreadable)?;
            file.seek(std::io::SeekFrom::Start(offset)).await.map_err(unreadable)?;
            let (meter, size) = (Arc::new(Meter::default()), blob.size);
            let counted = (file.take(blob.size), Arc::clone(&meter));
            let body = futures_util::stream::try_unfold(counted, move |(mut file, meter)| async move {
                let mut chunk = Vec::with_capacity(CHUNK);
                let mut part = (&mut file).take(CHUNK as u64);
                let read = part.read_to_end(&mut chunk).await?;
                meter.add(read as u64, size);
                Ok::<_, std::io::Error>((read > 0).then_some((bytes::Bytes::from(chunk), (file, meter))))
            });
            let sending = self.finish_upload(to, session, blob, Body::stream(body, Some(size)));
            upload::watched(self, to, &meter, sending).await?;
            Ok(size)
        })
        .await
    }

    /// Copies a blob from one repository to another, unless it is there: mounted where both are at one registry and it mounts, else
    /// streamed as the mirror does it. Gives the bytes that were sent.
    ///
    /// # Errors
    /// When one of the registries cannot be reached or refuses, or the source's bytes are not what the descriptor says.
    pub async fn copy_blob(&self, from: &Reference, to: &Reference, blob: &Descriptor) -> Result<u64, Error> {
        let transfer = Transfer {
            client: self.clone(),
            source: from.clone(),
            blob: blob.clone(),
            image: 0,
            events: Events::default(),
            high_water: Arc::default(),
            keep: None,
        };
        let opening = if from.registry() == to.registry() {
            Opening::Mount(from.repository().to_owned())
        } else {
            Opening::Absent
        };
        self.retry(|| async {
            if self.shows_blob(to, blob.digest).await? {
                return Ok(0);
            }
            match upload::open(self, to, blob, &opening, |_| {}).await? {
                Opened::Placed(_) => Ok(0),
                Opened::Session(session) => {
                    upload::stream(&transfer, to, session).await?;
                    Ok(blob.size)
                }
            }
        })
        .await
    }
}
