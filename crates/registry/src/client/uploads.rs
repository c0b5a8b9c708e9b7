//! The two requests of an upload: open it, send the bytes. Uploads are not resumed: a failed one begins again in a new session.

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use http::{HeaderValue, Method, StatusCode};
use url::Url;

use super::Connection;
use super::blobs;
use super::call::{Call, Payload};
use super::pace::Action;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind};
use crate::manifest::Blob;
use crate::net::http::{Body, answered_at};
use crate::net::location;
use crate::net::response::{self, CONTENT_DIGEST};
use crate::reference::Reference;

/// The answer to the start of an upload.
#[derive(Debug)]
pub(crate) enum Started {
    /// The repository has the blob, mounted or from before.
    Mounted,
    /// The bytes have to be sent to this address, which names the blob.
    Session(Url),
}

/// The answer to the bytes.
#[derive(Debug)]
pub(crate) enum Finished {
    /// The repository has the blob.
    Stored,
    /// All of them have to be sent to this address instead.
    SentOn(Url),
}

/// Opens an upload; with `from`, asks the registry to mount the blob from that repository instead. No retry.
///
/// The session that a refused mount opens is used: ECR counts each POST.
pub(crate) async fn start(
    connection: &Connection,
    target: &Reference,
    digest: Digest,
    from: Option<&str>,
) -> Result<Started, Error> {
    let mut url = connection.url(target, "blobs/uploads/")?;
    if let Some(from) = from {
        let route = connection.core.routes.get(target.registry()).map_err(|kind| Error::of(target, kind))?;
        // Always both: Quay fails on a mount without `from`.
        url.query_pairs_mut()
            .append_pair("mount", &digest.to_string())
            .append_pair("from", &route.repository(from));
    }
    let mut call = Call::read(target, Action::UploadStart, Method::POST, url.clone());
    call.push = true;
    call.mount_from = from;
    call.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    let response = connection.send(call).await?;
    let address = response::header(response.headers(), LOCATION.as_str());
    // Some servers answer 201 to any start of an upload, and still name its session.
    let is_session = address.is_some_and(|address| address.contains("/uploads/"));
    if response.status() == StatusCode::CREATED && !is_session {
        // If the reply does not name the blob, it may be a 201 to any start.
        let names = |text: &str| text.contains(&digest.to_string());
        let is_named = response::header(response.headers(), CONTENT_DIGEST).is_some_and(names);
        if from.is_some() && (is_named || address.is_some_and(names)) {
            return Ok(Started::Mounted);
        }
        if blobs::is_at_target(connection, target, digest).await? {
            return Ok(Started::Mounted);
        }
        let message = "HTTP 201 to the start of an upload, without an upload session".to_owned();
        return Err(Error::of(target, ErrorKind::Protocol(message)));
    }
    match address {
        Some(address) => {
            let mut session = place(connection, target, answered_at(&response, &url), address)?;
            session.query_pairs_mut().append_pair("digest", &digest.to_string());
            Ok(Started::Session(session))
        }
        // A proxy before the registry may have answered instead of it, as in [`response::not_done`].
        None => {
            let message = format!("HTTP {} without a `Location`", response.status().as_u16());
            Err(Error::of(target, ErrorKind::UploadLost { message }))
        }
    }
}

/// Where the server at `asked` wants the bytes of a blob.
fn place(connection: &Connection, target: &Reference, asked: &Url, address: &str) -> Result<Url, Error> {
    let plain = connection.core.routes.plain_hosts(target.registry());
    // Our bytes are sent there: by plain http only to a host that the user named.
    let plain = location::Plain { is_plain: false, ..plain };
    let place = location::resolve_blob(asked, address, &plain).map_err(|kind| Error::of(target, kind))?;
    if plain.names(&place) {
        connection.core.guard.named(&place);
    }
    Ok(place)
}

/// Sends a whole blob to `session` in one PUT, the form that every registry supports: ECR's answers to PATCH (201 instead of
/// 202, a `Range` that is too small) have broken several clients. No retry: the body cannot be sent twice.
pub(crate) async fn finish(
    connection: &Connection,
    target: &Reference,
    session: Url,
    blob: Blob,
    body: Body,
) -> Result<Finished, Error> {
    let mut call = Call::read(target, Action::UploadFinish, Method::PUT, session.clone());
    call.push = true;
    call.headers.insert(CONTENT_LENGTH, HeaderValue::from(blob.size));
    call.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    call.body = Payload::stream(body);
    let response = connection.send(call).await.map_err(|error| match error.kind() {
        // Behind a load balancer, a server may not know the session, and not all use the code for that.
        ErrorKind::NotFound { message } => {
            Error::of(target, ErrorKind::UploadLost { message: message.clone() })
        }
        _ => error,
    })?;
    if response.status().is_redirection() {
        // The address is taken as it is: a signed one must not be changed.
        let address = response::header(response.headers(), LOCATION.as_str()).unwrap_or_default();
        return Ok(Finished::SentOn(place(connection, target, &session, address)?));
    }
    match response::content_digest(response.headers()) {
        Some(actual) if actual != blob.digest => {
            Err(Error::of(target, ErrorKind::DigestMismatch { expected: blob.digest, actual }))
        }
        None if response.status() == StatusCode::OK => {
            match blobs::is_at_target(connection, target, blob.digest).await? {
                true => Ok(Finished::Stored),
                false => Err(Error::of(target, response::not_done())),
            }
        }
        _ => Ok(Finished::Stored),
    }
}
