//! Layers through the JSON API.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::layer_url;
use super::uploads::{self, PART_SIZE};
use super::{Call, repositories};
use crate::app::App;
use crate::digest;
use crate::fault::Fault;
use crate::input::Input;
use crate::kms;
use crate::scope::Scope;
use crate::store::model::Layer;

pub(super) fn batch_check(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let digests = input.texts("layerDigests");
    if !(1..=100).contains(&digests.len()) {
        return Err(Fault::invalid_parameter(
            "Invalid parameter at 'layerDigests' failed to satisfy constraint: 'Member must have length between 1 and 100'",
        ));
    }
    let repository = repositories::find(call.app, &call.scope, input.text("repositoryName")?)?;
    let (mut layers, mut failures) = (Vec::new(), Vec::new());
    for wanted in digests {
        if !digest::is_valid(wanted) {
            failures.push(json!({
                "layerDigest": wanted, "failureCode": "InvalidLayerDigest", "failureReason": "Invalid layer digest",
            }));
            continue;
        }
        layers.push(match repository.layers.get(wanted) {
            Some(layer) => json!({
                "layerDigest": wanted,
                "layerAvailability": "AVAILABLE",
                "layerSize": layer.size,
                "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
            }),
            None => json!({ "layerDigest": wanted, "layerAvailability": "UNAVAILABLE" }),
        });
    }
    Ok(json!({ "layers": layers, "failures": failures }))
}

/// The layer, or ECR's refusal.
pub(crate) fn find(app: &App, scope: &Scope, name: &str, wanted: &str) -> Result<Layer, Fault> {
    let repository = repositories::find(app, scope, name)?;
    kms::check(app, scope, repository.encryption.key.as_deref())?;
    repository.layers.get(wanted).cloned().ok_or_else(|| {
        Fault::client(
            "LayersNotFoundException",
            format!(
                "The layer with digest '{wanted}' does not exist within the repository with name '{name}' in the registry with \
                 id '{}'",
                scope.account
            ),
        )
    })
}

pub(super) fn download_url(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let wanted = input.text("layerDigest")?;
    find(call.app, &call.scope, input.text("repositoryName")?, wanted)?;
    Ok(json!({
        "downloadUrl": layer_url::presign(call.app, &call.scope, wanted),
        "layerDigest": wanted,
    }))
}

pub(super) fn initiate(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let id = uploads::begin(call.app, &call.scope, input.text("repositoryName")?)?;
    Ok(json!({ "uploadId": id, "partSize": PART_SIZE }))
}

pub(super) fn upload_part(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let (name, id) = (input.text("repositoryName")?, input.text("uploadId")?);
    let session = block_on(uploads::find(call.app, &call.scope, name, id))?;
    let bytes = STANDARD
        .decode(input.text("layerPartBlob")?)
        .map_err(|_| Fault::client("SerializationException", "layerPartBlob is not base64"))?;
    let first = input.number("partFirstByte").unwrap_or(0);
    let last = input.number("partLastByte").unwrap_or(0);
    let length = bytes.len() as u64;
    if last.checked_sub(first).map(|span| span + 1) != Some(length) || length > PART_SIZE {
        return Err(Fault::invalid_parameter(format!(
            "Invalid parameter at 'partLastByte': bytes {first} to {last} were announced and {length} came"
        )));
    }
    let mut upload = session.blocking_lock();
    upload.begin_part(first).map_err(|fault| Fault::client("InvalidLayerPartException", fault.message))?;
    upload.write(&bytes)?;
    Ok(json!({
        "registryId": call.scope.account, "repositoryName": name, "uploadId": id, "lastByteReceived": last,
    }))
}

pub(super) fn complete(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let (name, id) = (input.text("repositoryName")?, input.text("uploadId")?);
    let digests = input.texts("layerDigests");
    let Some(wanted) = digests.first().copied().filter(|wanted| digest::is_valid(wanted)) else {
        return Err(Fault::invalid_parameter(
            "Invalid parameter at 'layerDigests': a sha256 digest is needed",
        ));
    };
    let session = block_on(uploads::find(call.app, &call.scope, name, id))?;
    let existed = uploads::complete(call.app, id, &mut session.blocking_lock(), wanted)?;
    if existed {
        return Err(Fault::client(
            "LayerAlreadyExistsException",
            format!(
                "Layer with digest '{wanted}' already exists in the repository with name '{name}' in the registry with id '{}'",
                call.scope.account
            ),
        ));
    }
    Ok(json!({
        "registryId": call.scope.account, "repositoryName": name, "uploadId": id, "layerDigest": wanted,
    }))
}

/// The JSON actions run on threads of the blocking pool, where waiting for a session is allowed.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Handle::current().block_on(future)
}
