//! Manifests by tag and by digest.

use std::sync::Arc;

use http::StatusCode;
use hyper::body::Incoming;

use super::Call;
use crate::digest;
use crate::ecr::{images, repositories};
use crate::fault::Fault;
use crate::http::{Answer, empty, header, read, set, with_body, without_body};
use crate::journal::Entry;
use crate::kms;
use crate::manifest;
use crate::pull_through;
use crate::quirks::Quirk;

pub(super) async fn get(call: &Call<'_>, reference: &str, entry: &mut Entry) -> Result<Answer, Fault> {
    // A rule for the prefix may import the image first.
    pull_through::manifest(call.app, &call.scope, &call.name, reference, (&call.principal, entry)).await?;
    let repository = repositories::find(call.app, &call.scope, &call.name)?;
    kms::check(call.app, &call.scope, repository.encryption.key.as_deref())?;
    let (digest, image) = images::resolve(&repository, reference).ok_or_else(|| {
        let by_digest = digest::is_valid(reference);
        images::not_found(
            &call.scope,
            &call.name,
            by_digest.then_some(reference),
            (!by_digest).then_some(reference),
        )
    })?;
    let is_head = call.parts.method == http::Method::HEAD;
    let bytes = call.app.store.contents.read(digest)?;
    if !is_head {
        images::note_pull(call.app, &call.scope, &call.name, digest, image)?;
    }
    let mut answer = with_body(StatusCode::OK, &image.media_type, bytes);
    set(&mut answer, "docker-content-digest", digest);
    Ok(if is_head { without_body(answer) } else { answer })
}

pub(super) async fn put(
    call: &Call<'_>,
    reference: &str,
    body: &mut Incoming,
    entry: &mut Entry,
) -> Result<Answer, Fault> {
    let bytes = read(body, manifest::MOST_BYTES).await?;
    if call.app.quirks.throttles.put_image() {
        return Err(Fault::client("ThrottlingException", "Rate exceeded"));
    }
    let (app, scope, name) = (Arc::clone(call.app), call.scope.clone(), call.name.clone());
    let principal = call.principal.clone();
    let media_type = header(call.parts, "content-type").map(str::to_owned);
    let by_digest = reference.contains(':');
    let owned = reference.to_owned();
    let stored = tokio::task::spawn_blocking(move || {
        let put = images::Put {
            bytes: &bytes,
            media_type: media_type.as_deref(),
            tag: (!by_digest).then_some(owned.as_str()),
            digest: by_digest.then_some(owned.as_str()),
            by: &principal,
        };
        images::store(&app, &scope, &name, &put)
    })
    .await
    .unwrap_or_else(|error| Err(Fault::from(std::io::Error::other(error))))?;
    entry.iam.extend(stored.signing.into_iter().map(|need| need.action));
    entry.iam.dedup();
    let mut answer = empty(StatusCode::CREATED);
    set(&mut answer, "docker-content-digest", &stored.digest);
    if !call.app.quirks.is_on(&Quirk::NoLocationOnManifestPut) {
        set(&mut answer, "location", call.location(&format!("manifests/{}", stored.digest)));
    }
    if let Some(subject) = &stored.subject {
        set(&mut answer, "oci-subject", subject);
    }
    set(&mut answer, "content-length", "0");
    Ok(answer)
}
