//! Blobs that are made here, or taken from another registry, into a repository.
//!
//! One blob is one `POST` and one `PUT` with the whole body, the form that every registry takes (ECR's `PATCH` has ways of
//! its own). A failed body means a new upload session: a byte 0 that is sent twice is refused there.

use std::path::Path;

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use reqwest::Body;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use url::Url;

use super::pace::Action;
use super::transport::{Call, Payload};
use super::{Client, location, response};
use crate::digest::{Digest, Hasher};
use crate::error::{Error, ErrorKind};
use crate::manifest::Descriptor;
use crate::reference::Reference;

/// How much of a file is read at a time.
const CHUNK: usize = 256 * 1024;

/// What a `POST` for an upload came to.
enum Session {
    /// The registry mounted the blob from the other repository.
    Mounted,
    /// The body goes there.
    Open(Url),
}

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
            match self.begin_upload(to, None).await? {
                Session::Mounted => Ok(()),
                Session::Open(url) => self.finish_upload(to, blob, url, Payload::Bytes(bytes.clone())).await,
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
            let url = match self.begin_upload(to, None).await? {
                Session::Mounted => return Ok(()),
                Session::Open(url) => url,
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
            self.finish_upload(to, blob, url, Payload::stream(body)).await
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
        let mount = (from.registry() == to.registry()).then(|| (blob.digest, from.repository().to_owned()));
        self.retry(|| async {
            let url = match self.begin_upload(to, mount.as_ref()).await? {
                Session::Mounted => return Ok(()),
                Session::Open(url) => url,
            };
            let source = self.url(from, &format!("blobs/{}", blob.digest))?;
            let call = Call::read(from, Action::BlobGet, Method::GET, source);
            let response = self.core.send(call).await?;
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
            self.finish_upload(to, blob, url, Payload::stream(Body::wrap_stream(body))).await
        })
        .await
    }

    async fn begin_upload(&self, to: &Reference, mount: Option<&(Digest, String)>) -> Result<Session, Error> {
        let mut url = self.url(to, "blobs/uploads/")?;
        if let Some((digest, from)) = mount {
            let route = self.core.routes.get(to.registry()).map_err(|kind| Error::of(to, kind))?;
            url.query_pairs_mut()
                .append_pair("mount", &digest.to_string())
                .append_pair("from", &route.repository(from));
        }
        let asked = url.clone();
        let call = Call {
            push: true,
            mount_from: mount.map(|(_, from)| from.as_str()),
            headers: HeaderMap::from_iter([(CONTENT_LENGTH, HeaderValue::from_static("0"))]),
            ..Call::read(to, Action::UploadStart, Method::POST, url)
        };
        let reply = self.core.send(call).await?;
        if reply.status() == StatusCode::CREATED && mount.is_some() {
            return Ok(Session::Mounted);
        }
        let text = response::header(reply.headers(), LOCATION.as_str()).ok_or_else(|| {
            Error::of(to, ErrorKind::Protocol("an upload was begun without a Location".to_owned()))
        })?;
        location::resolve(&asked, text).map(Session::Open).map_err(|kind| Error::of(to, kind))
    }

    async fn finish_upload(
        &self,
        to: &Reference,
        blob: &Descriptor,
        mut url: Url,
        body: Payload,
    ) -> Result<(), Error> {
        url.query_pairs_mut().append_pair("digest", &blob.digest.to_string());
        let call = Call {
            push: true,
            headers: HeaderMap::from_iter([
                (CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
                (CONTENT_LENGTH, HeaderValue::from(blob.size)),
            ]),
            body,
            ..Call::read(to, Action::UploadFinish, Method::PUT, url)
        };
        self.core.send(call).await.map(drop)
    }
}
