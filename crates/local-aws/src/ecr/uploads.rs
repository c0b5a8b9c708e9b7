//! Upload sessions. They live in memory and end with the process, as ECR's end after a while; what was completed lasts.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Mutex as AsyncMutex;

use super::repositories;
use crate::account::Scope;
use crate::fault::Fault;
use crate::kms;
use crate::server::App;
use crate::store::content::Incoming;
use crate::store::model::Layer;
use crate::time::now_millis;

/// Parts but the last have to be this large
/// (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/service-quotas.html>).
const SMALLEST_PART: u64 = 5 * 1024 * 1024;
/// `partSize` of `InitiateLayerUpload`'s answer, and the largest part `UploadLayerPart` takes.
pub(crate) const PART_SIZE: u64 = 20_971_520;

/// One upload under way.
pub(crate) struct Upload {
    scope: Scope,
    repository: String,
    /// Taken when the upload is completed.
    incoming: Option<Incoming>,
    parts: Vec<u64>,
}

/// A session: locked while a part comes in, so that two parts cannot mix.
pub(crate) type Session = Arc<AsyncMutex<Upload>>;

#[derive(Default)]
pub(crate) struct Uploads(Mutex<HashMap<String, Session>>);

fn not_found(scope: &Scope, name: &str, id: &str) -> Fault {
    Fault::client(
        "UploadNotFoundException",
        format!(
            "The upload with uploadId '{id}' in the repository with name '{name}' in the registry with id '{}' does not exist",
            scope.account
        ),
    )
}

impl Upload {
    pub(crate) fn offset(&self) -> u64 {
        self.incoming.as_ref().map_or(0, Incoming::size)
    }

    /// The last byte of the first part: what ECR's `Range` goes on saying, however much more has come
    /// (aws/containers-roadmap#2831).
    pub(crate) fn stale_range_end(&self) -> u64 {
        self.parts.first().copied().unwrap_or(0).saturating_sub(1)
    }

    /// Begins a part whose first byte is `first`.
    pub(crate) fn begin_part(&mut self, first: u64) -> Result<(), Fault> {
        let offset = self.offset();
        if first != offset {
            return Err(Fault::new(
                http::StatusCode::RANGE_NOT_SATISFIABLE,
                "InvalidLayerPartException",
                format!("First byte of the layer part is {first} instead of {offset}"),
            ));
        }
        self.parts.push(0);
        Ok(())
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        if let (Some(incoming), Some(part)) = (&mut self.incoming, self.parts.last_mut()) {
            incoming.write(bytes)?;
            *part += bytes.len() as u64;
        }
        Ok(())
    }
}

impl Uploads {
    /// Opens a session in a repository that exists.
    pub(crate) fn begin(app: &App, scope: &Scope, name: &str) -> Result<String, Fault> {
        let repository = repositories::find(app, scope, name)?;
        kms::check(app, scope, repository.encryption.key.as_deref())?;
        let upload = Upload {
            scope: scope.clone(),
            repository: name.to_owned(),
            incoming: Some(app.store.contents.begin()?),
            parts: Vec::new(),
        };
        let id = crate::store::new_id();
        let mut uploads = app.uploads.0.lock().unwrap_or_else(PoisonError::into_inner);
        uploads.insert(id.clone(), Arc::new(AsyncMutex::new(upload)));
        Ok(id)
    }

    /// The session, if it belongs to this repository.
    pub(crate) async fn find(app: &App, scope: &Scope, name: &str, id: &str) -> Result<Session, Fault> {
        repositories::find(app, scope, name)?;
        let found = app.uploads.0.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
        let session = found.ok_or_else(|| not_found(scope, name, id))?;
        let belongs = {
            let upload = session.lock().await;
            upload.scope == *scope && upload.repository == name
        };
        if belongs { Ok(session) } else { Err(not_found(scope, name, id)) }
    }

    /// Gives an upload up.
    pub(crate) fn forget(app: &App, id: &str) {
        app.uploads.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    /// Completes an upload: from here on the layer lasts. `Ok(true)`: the repository had it before.
    pub(crate) fn complete(app: &App, id: &str, upload: &mut Upload, digest: &str) -> Result<bool, Fault> {
        let Some(incoming) = upload.incoming.take() else {
            return Err(not_found(&upload.scope, &upload.repository, id));
        };
        // Whatever comes of it, the session has had its one try.
        Self::forget(app, id);
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
                format!(
                    "The layer digest '{digest}' does not match the uploaded layer's '{actual}' in {place}"
                ),
            ));
        }
        let known = app.store.repository(&upload.scope, &upload.repository);
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
}
