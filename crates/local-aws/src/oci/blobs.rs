//! Layers: whether they exist, and where to download them.

use http::{Method, StatusCode};

use super::Call;
use crate::digest;
use crate::ecr::{layer_url, layers};
use crate::fault::Fault;
use crate::http::{Answer, empty, set};
use crate::pull_through;

pub(super) async fn get(call: &Call<'_>, wanted: &str) -> Result<Answer, Fault> {
    if !digest::is_valid(wanted) {
        return Err(Fault::client("InvalidLayerException", format!("invalid digest '{wanted}'")));
    }
    let mut found = layers::find(call.app, &call.scope, &call.name, wanted);
    if found.is_err() && pull_through::blob(call.app, &call.scope, &call.name, wanted).await? {
        found = layers::find(call.app, &call.scope, &call.name, wanted);
    }
    let layer = found?;
    if call.parts.method == Method::HEAD {
        let mut answer = empty(StatusCode::OK);
        set(&mut answer, "content-length", layer.size.to_string());
        set(&mut answer, "content-type", "application/octet-stream");
        set(&mut answer, "docker-content-digest", wanted);
        return Ok(answer);
    }
    let mut answer = empty(StatusCode::TEMPORARY_REDIRECT);
    set(&mut answer, "location", layer_url::presign(call.app, &call.scope, wanted));
    set(&mut answer, "docker-content-digest", wanted);
    set(&mut answer, "content-length", "0");
    Ok(answer)
}
