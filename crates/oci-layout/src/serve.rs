//! Serves the layout as a registry: the part of [the protocol](https://github.com/opencontainers/distribution-spec/blob/main/spec.md) that
//! the client uses.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE};
use http::{HeaderMap, Method, StatusCode};
use registry::{Body, BoxFuture, Digest, ErrorKind, Request, Response, Transport};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::blobs::open_at;
use crate::place::digest;
use crate::{Layout, index};

/// Read size of a blob, in bytes.
const CHUNK: usize = 256 << 10;

/// A request.
enum Asked<'a> {
    Ping,
    Manifest {
        repository: &'a str,
        reference: &'a str,
    },
    Blob(Digest),
    /// Starts an upload; a blob that exists need not be sent.
    Upload {
        repository: &'a str,
    },
    /// The bytes of an upload.
    Bytes,
    Referrers(Digest),
    Tags {
        repository: &'a str,
    },
    Unknown,
}

impl<'a> Asked<'a> {
    fn of(path: &'a str) -> Self {
        let Some(path) = path.strip_prefix("/v2/") else { return Self::Unknown };
        if path.is_empty() {
            return Self::Ping;
        }
        if let Some(repository) = path.strip_suffix("/tags/list") {
            return Self::Tags { repository };
        }
        if let Some(repository) = path.strip_suffix("/blobs/uploads/") {
            return Self::Upload { repository };
        }
        let mut parts = path.rsplitn(3, '/');
        let (Some(last), Some(kind), Some(repository)) = (parts.next(), parts.next(), parts.next()) else {
            return Self::Unknown;
        };
        match (kind, last.parse()) {
            ("manifests", _) => Self::Manifest { repository, reference: last },
            ("blobs", Ok(digest)) => Self::Blob(digest),
            ("referrers", Ok(digest)) => Self::Referrers(digest),
            ("uploads", _) => Self::Bytes,
            _ => Self::Unknown,
        }
    }
}

impl Transport for Layout {
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, ErrorKind>> {
        Box::pin(async move {
            let path = request.url.path().to_owned();
            match Asked::of(&path) {
                Asked::Ping => Ok(reply(StatusCode::OK, &[], Bytes::new())),
                Asked::Manifest { repository, reference } if request.method == Method::PUT => {
                    put_manifest(self, repository, reference, request).await
                }
                Asked::Manifest { repository, reference } => {
                    manifest(self, repository, reference, &request.method)
                }
                Asked::Blob(digest) => blob(self, digest, &request.method, &request.headers),
                Asked::Upload { repository } => Ok(begin_upload(self, repository, &request)),
                Asked::Bytes => put_blob(self, request).await,
                Asked::Referrers(digest) => {
                    let manifests = self.index().referrers(digest);
                    let list = serde_json::json!({ "schemaVersion": 2, "manifests": manifests });
                    let kind = "application/vnd.oci.image.index.v1+json";
                    Ok(reply(StatusCode::OK, &[(CONTENT_TYPE.as_str(), kind)], list.to_string()))
                }
                Asked::Tags { repository } => {
                    let list =
                        serde_json::json!({ "name": repository, "tags": self.index().tags(repository) });
                    Ok(reply(StatusCode::OK, &[], list.to_string()))
                }
                Asked::Unknown => Ok(refusal(StatusCode::NOT_FOUND, "UNSUPPORTED", "unknown")),
            }
        })
    }
}

fn manifest(
    layout: &Layout,
    repository: &str,
    reference: &str,
    method: &Method,
) -> Result<Response, ErrorKind> {
    let digest = match reference.parse() {
        Ok(digest) => Some(digest),
        Err(_) => layout.index().get(repository, reference),
    };
    let bytes = match digest {
        Some(digest) => layout.blobs.read(digest).map_err(unreadable)?.map(|bytes| (digest, bytes)),
        None => None,
    };
    let Some((digest, bytes)) = bytes else {
        return Ok(refusal(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", "no such manifest"));
    };
    let kind = layout.index().types.get(digest).map(str::to_owned);
    let kind = kind.unwrap_or_else(|| index::media_type(&bytes));
    let (name, length) = (digest.to_string(), bytes.len().to_string());
    let headers = [
        (CONTENT_TYPE.as_str(), kind.as_str()),
        ("docker-content-digest", name.as_str()),
        (CONTENT_LENGTH.as_str(), length.as_str()),
    ];
    let body = if *method == Method::HEAD { Bytes::new() } else { bytes.into() };
    Ok(reply(StatusCode::OK, &headers, body))
}

async fn put_manifest(
    layout: &Layout,
    repository: &str,
    reference: &str,
    request: Request,
) -> Result<Response, ErrorKind> {
    let kind = header(&request.headers, CONTENT_TYPE.as_str()).unwrap_or_default().to_owned();
    let mut body = request.body;
    let mut bytes = Vec::new();
    while let Some(piece) = body.chunk().await? {
        if bytes.len() + piece.len() > registry::size_limits::MANIFEST {
            return Ok(refusal(StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID", "the manifest is too large"));
        }
        bytes.extend_from_slice(&piece);
    }
    let digest = Digest::of(&bytes);
    if reference.parse::<Digest>().is_ok_and(|named| named != digest) {
        return Ok(refusal(StatusCode::BAD_REQUEST, "DIGEST_INVALID", "the manifest has another digest"));
    }
    if layout.blobs.size(digest).is_none() {
        let file = layout.blobs.new_file().map_err(unwritable)?;
        crate::blobs::replace(&file, &bytes).map_err(unwritable)?;
        layout.blobs.take(digest, &file).map_err(unwritable)?;
    }
    {
        let mut index = layout.index();
        if reference.parse::<Digest>().is_err() {
            index.put(repository, reference, &kind, (digest, &bytes));
        }
        index.types.note(digest, &kind);
        index.refer(&kind, (digest, &bytes));
    }
    layout.keep_index().map_err(unwritable)?;
    Ok(reply(StatusCode::CREATED, &[("docker-content-digest", &digest.to_string())], Bytes::new()))
}

fn blob(
    layout: &Layout,
    digest: Digest,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response, ErrorKind> {
    let Some((file, place)) = layout.blobs.find(digest) else {
        return Ok(refusal(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", "no such blob"));
    };
    let length = place.size.to_string();
    if *method == Method::HEAD {
        return Ok(reply(StatusCode::OK, &[(CONTENT_LENGTH.as_str(), length.as_str())], Bytes::new()));
    }
    let from = header(headers, RANGE.as_str())
        .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<u64>().ok())
        .filter(|from| *from < place.size);
    let offset = from.unwrap_or_default();
    let file = open_at(&file, place, offset).map_err(unreadable)?;
    let left = place.size - offset;
    let part = file.take(left);
    let stream = futures_util::stream::try_unfold(part, |mut part| async move {
        let mut chunk = Vec::with_capacity(CHUNK);
        let read = (&mut part).take(CHUNK as u64).read_to_end(&mut chunk).await?;
        Ok::<_, io::Error>((read > 0).then_some((Bytes::from(chunk), part)))
    });
    let mut builder = http::Response::builder().header(CONTENT_LENGTH, left);
    if from.is_some() {
        let range = format!("bytes {offset}-{}/{}", place.size - 1, place.size);
        builder = builder.status(StatusCode::PARTIAL_CONTENT).header(CONTENT_RANGE, range);
    }
    builder.body(Body::stream(stream, Some(left))).map_err(|error| unreadable(io::Error::other(error)))
}

/// A blob belongs to the whole layout: a client that requests a mount from a repository need not send it.
fn begin_upload(layout: &Layout, repository: &str, request: &Request) -> Response {
    let mount = request.url.query_pairs().find(|(name, _)| name == "mount");
    let there = mount
        .and_then(|(_, digest)| digest.parse().ok())
        .filter(|digest| layout.blobs.size(*digest).is_some());
    match there {
        Some(digest) => {
            reply(StatusCode::CREATED, &[("docker-content-digest", &digest.to_string())], Bytes::new())
        }
        None => {
            let location = format!("/v2/{repository}/blobs/uploads/new");
            reply(StatusCode::ACCEPTED, &[(LOCATION.as_str(), &location)], Bytes::new())
        }
    }
}

async fn put_blob(layout: &Layout, request: Request) -> Result<Response, ErrorKind> {
    let wanted = request.url.query_pairs().find(|(name, _)| name == "digest");
    let Some(wanted) = wanted.and_then(|(_, digest)| digest.parse::<Digest>().ok()) else {
        return Ok(refusal(StatusCode::BAD_REQUEST, "DIGEST_INVALID", "no digest"));
    };
    let path = layout.blobs.new_file().map_err(unwritable)?;
    let found = match write(&path, request.body).await {
        Ok(found) => found,
        Err(error) => {
            // Its name is not that of a blob; a file that is left over is removed by the next run.
            let _ = tokio::fs::remove_file(&path).await;
            return Err(error);
        }
    };
    if found != wanted {
        tokio::fs::remove_file(&path).await.map_err(unwritable)?;
        return Ok(refusal(StatusCode::BAD_REQUEST, "DIGEST_INVALID", "the bytes have another digest"));
    }
    // A tar file needs a copy, and other blobs arrive at the same time.
    let blobs = Arc::clone(&layout.blobs);
    let taken = tokio::task::spawn_blocking(move || blobs.take(wanted, &path)).await;
    taken.map_err(io::Error::other).and_then(|taken| taken).map_err(unwritable)?;
    Ok(reply(StatusCode::CREATED, &[("docker-content-digest", &wanted.to_string())], Bytes::new()))
}

/// Writes a body to a file, syncs it, and returns its digest.
async fn write(path: &std::path::Path, mut body: Body) -> Result<Digest, ErrorKind> {
    let mut file = tokio::fs::File::create(path).await.map_err(unwritable)?;
    let mut hasher = Sha256::new();
    while let Some(piece) = body.chunk().await? {
        hasher.update(&piece);
        file.write_all(&piece).await.map_err(unwritable)?;
    }
    file.flush().await.map_err(unwritable)?;
    file.sync_data().await.map_err(unwritable)?;
    digest(hasher).map_err(unwritable)
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn unwritable(error: io::Error) -> ErrorKind {
    ErrorKind::Helper { what: "writing the OCI image layout", source: Arc::new(error) }
}

fn unreadable(error: io::Error) -> ErrorKind {
    ErrorKind::Helper { what: "reading the OCI image layout", source: Arc::new(error) }
}

fn reply(status: StatusCode, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Response {
    let mut reply = Response::new(Body::from(body.into()));
    *reply.status_mut() = status;
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) =
            (http::HeaderName::from_bytes(name.as_bytes()), http::HeaderValue::from_str(value))
        {
            reply.headers_mut().insert(name, value);
        }
    }
    reply
}

fn refusal(status: StatusCode, code: &str, message: &str) -> Response {
    let body = serde_json::json!({ "errors": [{ "code": code, "message": message }] });
    reply(status, &[], body.to_string())
}
