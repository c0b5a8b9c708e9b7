//! Operations on upload sessions for the JSON API and the OCI registry.

use super::repositories;
use crate::app::App;
use crate::fault::Fault;
use crate::kms;
use crate::scope::Scope;
use crate::store::model::Layer;
use crate::time::now_millis;
use crate::uploads::{Session, Upload};

/// Minimum size of all parts except the last, in bytes (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/service-quotas.html>).
const SMALLEST_PART: u64 = 5 * 1024 * 1024;
/// `partSize` in the answer of `InitiateLayerUpload`, and the maximum for `UploadLayerPart`, in bytes.
pub(crate) const PART_SIZE: u64 = 20_971_520;

fn not_found(scope: &Scope, name: &str, id: &str) -> Fault {
    Fault::client(
        "UploadNotFoundException",
        format!(
            "The upload with uploadId '{id}' in the repository with name '{name}' in the registry with id '{}' does not exist",
            scope.account
        ),
    )
}

/// Opens a session in an existing repository.
pub(crate) fn begin(app: &App, scope: &Scope, name: &str) -> Result<String, Fault> {
    let repository = repositories::find(app, scope, name)?;
    kms::check(app, scope, repository.encryption.key.as_deref())?;
    let upload = Upload {
        scope: scope.clone(),
        repository: name.to_owned(),
        incoming: Some(app.store.contents.begin()?),
        parts: Vec::new(),
    };
    Ok(app.uploads.insert(upload))
}

/// The session, if it belongs to this repository.
pub(crate) async fn find(app: &App, scope: &Scope, name: &str, id: &str) -> Result<Session, Fault> {
    repositories::find(app, scope, name)?;
    let session = app.uploads.get(id).ok_or_else(|| not_found(scope, name, id))?;
    let belongs = {
        let upload = session.lock().await;
        upload.scope == *scope && upload.repository == name
    };
    if belongs { Ok(session) } else { Err(not_found(scope, name, id)) }
}

/// Completes an upload: from now on the layer is persistent. `Ok(true)`: the repository had it before.
pub(crate) fn complete(app: &App, id: &str, upload: &mut Upload, digest: &str) -> Result<bool, Fault> {
    let Some(incoming) = upload.incoming.take() else {
        return Err(not_found(&upload.scope, &upload.repository, id));
    };
    // Whatever the result, the session ends.
    app.uploads.remove(id);
    let place = format!(
        "the repository with name '{}' in the registry with id '{}'",
        upload.repository, upload.scope.account
    );
    if incoming.size() == 0 {
        return Err(Fault::client(
            "EmptyUploadException",
            format!(
                "The upload with uploadId '{id}' in {place} cannot be completed because it does not have any parts"
            ),
        ));
    }
    let all_but_last = upload.parts.split_last().map_or(&[][..], |(_, before)| before);
    if all_but_last.iter().any(|part| *part < SMALLEST_PART) {
        return Err(Fault::client(
            "LayerPartTooSmallException",
            format!("Layer parts must be at least {SMALLEST_PART} bytes in size"),
        ));
    }
    let actual = incoming.digest();
    if actual != digest {
        return Err(Fault::client(
            "InvalidLayerException",
            format!("The layer digest '{digest}' does not match the uploaded layer's '{actual}' in {place}"),
        ));
    }
    let known = app.store.region(&upload.scope).repository(&upload.repository);
    if known.is_some_and(|repository| repository.layers.contains_key(digest)) {
        return Ok(true);
    }
    let size = incoming.size();
    app.store.contents.commit(incoming, digest)?;
    repositories::change(app, &upload.scope, &upload.repository, |repository| {
        let existed = repository.layers.contains_key(digest);
        if !existed {
            repository.layers.insert(digest.to_owned(), Layer { size, completed: now_millis() });
        }
        Ok(existed)
    })
}
