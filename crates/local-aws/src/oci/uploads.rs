//! Uploads: in one piece or in consecutive pieces.

use std::sync::Arc;

use http::StatusCode;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use super::Call;
use crate::digest;
use crate::ecr::repositories;
use crate::ecr::uploads as sessions;
use crate::fault::Fault;
use crate::http::{Answer, empty, header, set, value};
use crate::iam;
use crate::journal::Entry;
use crate::policy::Need;
use crate::store::model::Layer;
use crate::time::now_millis;
use crate::uploads::Upload;

/// `POST`: opens a session, or returns the layer if it can be mounted.
pub(super) async fn begin(call: &Call<'_>, entry: &mut Entry) -> Result<Answer, Fault> {
    if let (Some(wanted), Some(from)) = (value(&call.query, "mount"), value(&call.query, "from")) {
        entry.action.push_str(" mount");
        let read = Need::new("ecr:GetDownloadUrlForLayer", repositories::arn(&call.scope, from));
        entry.iam.push(read.action.clone());
        // Without permission to read it there, the client has to send it.
        if iam::authorize(call.app, &call.principal, &[read]).is_ok() && mount(call, wanted, from)? {
            let mut answer = empty(StatusCode::CREATED);
            set(&mut answer, "location", call.location(&format!("blobs/{wanted}")));
            set(&mut answer, "docker-content-digest", wanted);
            set(&mut answer, "content-length", "0");
            return Ok(answer);
        }
    }
    let id = sessions::begin(call.app, &call.scope, &call.name)?;
    let mut answer = empty(StatusCode::ACCEPTED);
    describe(call, &mut answer, &id, "0-0");
    Ok(answer)
}

fn describe(call: &Call<'_>, answer: &mut Answer, id: &str, range: &str) {
    set(answer, "location", call.location(&format!("blobs/uploads/{id}")));
    set(answer, "docker-upload-uuid", id);
    set(answer, "range", range);
    set(answer, "content-length", "0");
}

/// ECR mounts only if the account allows it, between repositories with the same encryption, never with pull-through repositories, and only
/// blobs that a committed manifest refers to (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/blob-mounting.html>,
/// aws/containers-roadmap#2860).
fn mount(call: &Call<'_>, wanted: &str, from: &str) -> Result<bool, Fault> {
    let target = repositories::find(call.app, &call.scope, &call.name)?;
    let settings = call.app.store.region(&call.scope).settings();
    if settings.account.get("BLOB_MOUNTING").map(String::as_str) != Some("ENABLED") {
        return Ok(false);
    }
    let Some(source) = call.app.store.region(&call.scope).repository(from) else { return Ok(false) };
    let committed = source.images.values().any(|image| image.blobs.iter().any(|blob| blob == wanted));
    let alike = source.encryption == target.encryption
        && source.pull_through.is_none()
        && target.pull_through.is_none();
    let Some(layer) = source.layers.get(wanted).filter(|_| committed && alike) else { return Ok(false) };
    let size = layer.size;
    repositories::change(call.app, &call.scope, &call.name, |repository| {
        repository.layers.entry(wanted.to_owned()).or_insert(Layer { size, completed: now_millis() });
        Ok(true)
    })
}

/// The position of a request's first byte. If it is not specified, ECR assumes 0, so a body that is sent again to a session with bytes is
/// rejected.
fn first_byte(call: &Call<'_>) -> Result<u64, Fault> {
    let Some(text) = header(call.parts, "content-range") else { return Ok(0) };
    text.trim_start_matches("bytes")
        .trim()
        .split_once('-')
        .and_then(|(first, _)| first.parse().ok())
        .ok_or_else(|| {
            Fault::client("InvalidLayerPartException", format!("Content-Range '{text}' cannot be read"))
        })
}

/// Receives a body. If the connection breaks, the bytes received before are kept.
async fn receive(upload: &mut Upload, body: &mut Incoming) -> Result<(), Fault> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            Fault::client("IncompleteBody", format!("the layer's bytes broke off: {error}"))
        })?;
        if let Ok(bytes) = frame.into_data() {
            upload.write(&bytes)?;
        }
    }
    Ok(())
}

/// `PATCH` answers 201, while the specification requires 202.
pub(super) async fn patch(call: &Call<'_>, id: &str, body: &mut Incoming) -> Result<Answer, Fault> {
    let session = sessions::find(call.app, &call.scope, &call.name, id).await?;
    let mut upload = session.lock().await;
    upload.begin_part(first_byte(call)?)?;
    receive(&mut upload, body).await?;
    let mut answer = empty(StatusCode::CREATED);
    describe(call, &mut answer, id, &format!("0-{}", upload.stale_range_end()));
    Ok(answer)
}

pub(super) async fn complete(call: &Call<'_>, id: &str, body: &mut Incoming) -> Result<Answer, Fault> {
    let wanted = value(&call.query, "digest").filter(|wanted| digest::is_valid(wanted)).ok_or_else(|| {
        Fault::client("InvalidLayerException", "the parameter 'digest' is missing or is no sha256 digest")
    })?;
    let session = sessions::find(call.app, &call.scope, &call.name, id).await?;
    let mut upload = session.lock_owned().await;
    if !hyper::body::Body::is_end_stream(body) {
        // Chunked bodies may be empty: a part begins with its first byte.
        let before = upload.offset();
        let first = first_byte(call)?;
        let mut begun = false;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                Fault::client("IncompleteBody", format!("the layer's bytes broke off: {error}"))
            })?;
            let Ok(bytes) = frame.into_data() else { continue };
            if !begun && !bytes.is_empty() {
                upload.begin_part(if before == 0 { 0 } else { first })?;
                begun = true;
            }
            upload.write(&bytes)?;
        }
    }
    let (app, owned_id, owned) = (Arc::clone(call.app), id.to_owned(), wanted.to_owned());
    tokio::task::spawn_blocking(move || sessions::complete(&app, &owned_id, &mut upload, &owned))
        .await
        .unwrap_or_else(|error| Err(Fault::from(std::io::Error::other(error))))?;
    let mut answer = empty(StatusCode::CREATED);
    set(&mut answer, "location", call.location(&format!("blobs/{wanted}")));
    set(&mut answer, "docker-content-digest", wanted);
    set(&mut answer, "content-length", "0");
    Ok(answer)
}

pub(super) async fn status(call: &Call<'_>, id: &str) -> Result<Answer, Fault> {
    let session = sessions::find(call.app, &call.scope, &call.name, id).await?;
    let end = session.lock().await.stale_range_end();
    let mut answer = empty(StatusCode::NO_CONTENT);
    describe(call, &mut answer, id, &format!("0-{end}"));
    answer.headers_mut().remove("content-length");
    Ok(answer)
}

pub(super) async fn cancel(call: &Call<'_>, id: &str) -> Result<Answer, Fault> {
    sessions::find(call.app, &call.scope, &call.name, id).await?;
    call.app.uploads.remove(id);
    Ok(empty(StatusCode::NO_CONTENT))
}
