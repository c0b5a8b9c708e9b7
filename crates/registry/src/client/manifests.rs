//! Manifests: looked for, read, put.

use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Method, StatusCode};

use super::call::{Call, Payload};
use super::pace::Action;
use super::{Client, Connection, counts_pulls};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind};
use crate::manifest::{ACCEPTED, Descriptor, Manifest};
use crate::net::encoding;
use crate::net::http::Response;
use crate::net::response::{self, read_in_time};
use crate::reference::Reference;
use crate::size_limits;

impl Client {
    /// What `reference` points to, or `None` if it does not exist. One HEAD, which no registry counts as a pull.
    ///
    /// # Errors
    /// When the registry cannot be reached, or refuses. A refused HEAD has no body that says why, so a GET follows.
    pub async fn head(&self, reference: &Reference) -> Result<Option<Descriptor>, Error> {
        look(&self.connection, reference, false).await
    }

    /// [`Client::head`] at a source: some answer 404 to HEAD and have the manifest for a GET
    /// ([Nexus, diun#1614](https://github.com/crazy-max/diun/issues/1614)). So a 404 is confirmed by GET.
    ///
    /// # Errors
    /// As [`Client::head`].
    pub async fn find(&self, reference: &Reference) -> Result<Option<Descriptor>, Error> {
        match self.head(reference).await? {
            Some(found) => Ok(Some(found)),
            None => explain(&self.connection, reference, false).await,
        }
    }

    /// [`Client::head`] at a target, where a refusal is not final. Quay and GitLab refuse to read a repository that does not
    /// exist yet and may be pushed to ([helm#31567](https://github.com/helm/helm/issues/31567),
    /// [skopeo#2484](https://github.com/containers/skopeo/issues/2484)); with push access in the token they say more. ECR's
    /// repositories exist before, so its refusal is final.
    ///
    /// # Errors
    /// When the registry cannot be reached, or refuses for another reason than missing access.
    pub async fn look_up(&self, reference: &Reference) -> Result<Option<Descriptor>, Error> {
        let is_advice = self.connection.profile(reference.registry()).creates_repositories;
        match self.head(reference).await {
            Err(error) if is_advice && is_refusal(&error) => {
                match look(&self.connection, reference, true).await {
                    Err(error) if is_refusal(&error) => Ok(None),
                    other => other,
                }
            }
            other => other,
        }
    }

    /// [`Client::find`] for what the run can do without: at most two tries, given up after [`Timeouts::news`](crate::Timeouts).
    ///
    /// # Errors
    /// As [`Client::find`], and if no answer came in that time.
    pub async fn find_soon(&self, reference: &Reference) -> Result<Option<Descriptor>, Error> {
        let after = self.connection.timeouts().news;
        let hasty = Self { connection: self.connection.hasty() };
        match tokio::time::timeout(after, hasty.find(reference)).await {
            Ok(found) => found,
            Err(_) => Err(Error::of(reference, ErrorKind::Stalled { what: "the registry's reply", after })),
        }
    }

    /// The manifest of `reference`, its digest verified, or `None` if it does not exist. Docker Hub counts it as a pull.
    ///
    /// # Errors
    /// When the registry cannot be reached or refuses, or does not send what it announces.
    pub async fn manifest(&self, reference: &Reference) -> Result<Option<Manifest>, Error> {
        read(&self.connection, reference).await
    }

    /// Puts `manifest` under `reference`: its tag, or its digest.
    ///
    /// A tag that is immutable, or in conflict, and already names the same manifest is a success.
    ///
    /// # Errors
    /// When the registry cannot be reached or refuses, or the reference's digest is not the manifest's.
    pub async fn put_manifest(&self, reference: &Reference, manifest: &Manifest) -> Result<(), Error> {
        if let Some(expected) = reference.digest().filter(|digest| *digest != manifest.digest()) {
            let kind = ErrorKind::DigestMismatch { expected, actual: manifest.digest() };
            return Err(Error::of(reference, kind));
        }
        // ECR may still look for a blob that it just accepted (ocync#104 saw hundreds of milliseconds), Harbor for the manifest
        // ([harbor#14902](https://github.com/goharbor/harbor/issues/14902)).
        let is_late = |kind: &_| matches!(kind, ErrorKind::PartUnknown { .. } | ErrorKind::NotFound { .. });
        let is_transient = |error: &Error| error.is_transient() || is_late(error.kind());
        let put = || put_once(&self.connection, reference, manifest);
        let result = self.connection.retry_if(is_transient, put).await;
        match result {
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::TagImmutable { .. } | ErrorKind::Refused { status: 409, .. }
                ) =>
            {
                let there = self.look_up(reference).await?;
                let same = there.is_some_and(|there| there.digest == manifest.digest());
                if same { Ok(()) } else { Err(error) }
            }
            other => other,
        }
    }

    /// Puts the manifest that `from` names under `tag` of the same repository too, byte for byte; nothing is transferred.
    /// Returns its digest.
    ///
    /// # Errors
    /// When `from` is not there, or as [`Client::put_manifest`].
    pub async fn retag(&self, from: &Reference, tag: &str) -> Result<Digest, Error> {
        let to = tagged(from, tag)?;
        let manifest = self.manifest(from).await?;
        let manifest =
            manifest.ok_or_else(|| Error::of(from, ErrorKind::NotFound { message: String::new() }))?;
        self.put_manifest(&to, &manifest).await?;
        Ok(manifest.digest())
    }
}

/// [`Client::find`] for what rarely exists: if a GET counts as a pull, a 404 to HEAD is final. Docker Hub's is reliable.
///
/// # Errors
/// As [`Client::head`].
pub(crate) async fn find_uncounted(
    client: &Client,
    reference: &Reference,
) -> Result<Option<Descriptor>, Error> {
    if counts_pulls(client, reference.registry()) {
        return client.head(reference).await;
    }
    client.find(reference).await
}

/// [`Client::head`], with push access in the token or without.
async fn look(
    connection: &Connection,
    reference: &Reference,
    push: bool,
) -> Result<Option<Descriptor>, Error> {
    let response = match connection.retry(|| ask(connection, reference, Method::HEAD, push)).await {
        Ok(response) => response,
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) if deserves_explanation(&error) => return explain(connection, reference, push).await,
        Err(error) => return Err(error),
    };
    match described(reference, &response)? {
        Some(descriptor) => Ok(Some(descriptor)),
        // A registry that does not name the digest: it has to be computed.
        None => Ok(read(connection, reference).await?.map(|manifest| manifest.descriptor())),
    }
}

/// Asks by GET, whose refusal has a body. A registry that supports only GET answers here.
async fn explain(
    connection: &Connection,
    reference: &Reference,
    push: bool,
) -> Result<Option<Descriptor>, Error> {
    let result = connection.retry(|| async {
        let response = ask(connection, reference, Method::GET, push).await?;
        match described(reference, &response)? {
            Some(descriptor) => Ok(descriptor),
            None => Ok(verified(connection, reference, response).await?.descriptor()),
        }
    });
    absent_as_none(result.await)
}

/// [`Client::manifest`].
async fn read(connection: &Connection, reference: &Reference) -> Result<Option<Manifest>, Error> {
    let result = connection.retry(|| async {
        let response = ask(connection, reference, Method::GET, false).await?;
        verified(connection, reference, response).await
    });
    absent_as_none(result.await)
}

/// One request for a manifest.
async fn ask(
    connection: &Connection,
    reference: &Reference,
    method: Method,
    push: bool,
) -> Result<Response, Error> {
    let url = connection.url(reference, &format!("manifests/{}", reference.identifier()))?;
    let mut call = Call::read(reference, Action::ManifestRead, method, url);
    call.push = push;
    call.headers.insert(ACCEPT, HeaderValue::from_static(ACCEPTED));
    connection.send(call).await
}

/// The manifest in a reply, its digest verified.
async fn verified(
    connection: &Connection,
    reference: &Reference,
    response: Response,
) -> Result<Manifest, Error> {
    let announced = response::content_digest(response.headers());
    let media_type = response::content_type(response.headers());
    let headers = response.headers().clone();
    let status = response.status().as_u16();
    let manifest = ("the manifest", size_limits::MANIFEST);
    let body = read_in_time(response, reference.registry(), manifest, connection.timeouts().reply).await;
    let body = body.map_err(|kind| Error::of(reference, kind))?;
    let expected = reference.digest().or(announced);
    let body = encoding::decoded(&headers, body, size_limits::MANIFEST, |body| {
        expected.map_or_else(|| encoding::is_json(body), |expected| Digest::of(body) == expected)
    });
    if response::is_page(&headers, &body) {
        return Err(Error::of(reference, ErrorKind::Page { status }));
    }
    let manifest = Manifest::received(&media_type, body);
    match reference.digest().or(announced).filter(|expected| *expected != manifest.digest()) {
        None => Ok(manifest),
        Some(expected) => {
            let kind = ErrorKind::DigestMismatch { expected, actual: manifest.digest() };
            Err(Error::of(reference, kind))
        }
    }
}

async fn put_once(connection: &Connection, reference: &Reference, manifest: &Manifest) -> Result<(), Error> {
    let url = connection.url(reference, &format!("manifests/{}", reference.identifier()))?;
    let mut call = Call::read(reference, Action::ManifestPut, Method::PUT, url);
    call.push = true;
    let media_type = HeaderValue::from_str(manifest.media_type())
        .map_err(|_| Error::of(reference, ErrorKind::Protocol("an unusable media type".to_owned())))?;
    call.headers.insert(CONTENT_TYPE, media_type);
    call.body = Payload::Bytes(manifest.bytes().clone());
    let response = connection.send(call).await?;
    // No look at `Location`: ECR does not always send one.
    let expected = manifest.digest();
    match response::content_digest(response.headers()) {
        Some(actual) if actual != expected => {
            Err(Error::of(reference, ErrorKind::DigestMismatch { expected, actual }))
        }
        None if response.status() == StatusCode::OK => {
            let there = look(connection, reference, true).await?;
            match there.is_some_and(|there| there.digest == expected) {
                true => Ok(()),
                false => Err(Error::of(reference, response::not_done())),
            }
        }
        _ => Ok(()),
    }
}

/// The descriptor in a reply's headers; `None` without a digest.
fn described(reference: &Reference, response: &Response) -> Result<Option<Descriptor>, Error> {
    let headers = response.headers();
    let Some(digest) = response::content_digest(headers).or(reference.digest()) else { return Ok(None) };
    if let Some(expected) = reference.digest().filter(|expected| *expected != digest) {
        return Err(Error::of(reference, ErrorKind::DigestMismatch { expected, actual: digest }));
    }
    let size = response::header(headers, CONTENT_LENGTH.as_str()).and_then(|size| size.parse().ok());
    let media_type = response::content_type(headers);
    let media_type = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    Ok(Some(Descriptor::new(media_type, digest, size.unwrap_or_default())))
}

pub(super) fn is_absent(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound { .. } | ErrorKind::NameUnknown { .. })
}

pub(super) fn is_refusal(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unauthorized { .. } | ErrorKind::Denied { .. })
}

/// [`Reference::with_tag`], with an error of this crate.
pub(crate) fn tagged(reference: &Reference, tag: &str) -> Result<Reference, Error> {
    reference.with_tag(tag).map_err(|error| Error::of(reference, ErrorKind::Protocol(error.to_string())))
}

pub(crate) fn absent_as_none<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// ECR answers HEAD with a bare 400, and an expired token with a bare 403; others do not support HEAD, or always refuse it.
pub(super) fn deserves_explanation(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::Denied { message } | ErrorKind::Unauthorized { message } => message.is_empty(),
        ErrorKind::Refused { status, message, .. } => message.is_empty() || matches!(status, 405 | 501),
        _ => false,
    }
}
