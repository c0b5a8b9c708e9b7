//! The registry: the distribution specification as implemented by ECR
//! (<https://github.com/opencontainers/distribution-spec/blob/main/spec.md>).

mod blobs;
mod errors;
pub(crate) mod layer_bucket;
mod manifests;
mod uploads;

use std::sync::Arc;

use http::request::Parts;
use http::{Method, StatusCode};
use hyper::body::Incoming;
use serde_json::json;

use crate::account::RegistryToken;
use crate::app::App;
use crate::ecr::{images, repositories};
use crate::fault::Fault;
use crate::http::{Answer, header, query, set, value, with_body, without_body};
use crate::iam;
use crate::journal::Entry;
use crate::policy::{Need, Principal};
use crate::quirks::{Delay, Quirk};
use crate::request::{CloseConnection, note_needs};
use crate::scope::Scope;
use crate::time::now_millis;

/// What a path refers to.
enum Kind {
    Ping,
    Manifest(String),
    Blob(String),
    Uploads,
    Upload(String),
    Tags,
    Referrers(String),
    Unknown,
}

impl Kind {
    fn name(&self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Manifest(_) => "manifest",
            Self::Blob(_) => "blob",
            Self::Uploads | Self::Upload(_) => "upload",
            Self::Tags => "tags",
            Self::Referrers(_) => "referrers",
            Self::Unknown => "unknown",
        }
    }
}

/// Repository and kind of a path below `/v2`.
fn parse(path: &str) -> (String, Kind) {
    let rest = path.strip_prefix("/v2").unwrap_or(path).trim_start_matches('/');
    if rest.is_empty() {
        return (String::new(), Kind::Ping);
    }
    if let Some(name) = rest.strip_suffix("/tags/list") {
        return (name.to_owned(), Kind::Tags);
    }
    if let Some(name) = rest.strip_suffix("/blobs/uploads") {
        return (name.to_owned(), Kind::Uploads);
    }
    for (marker, kind) in [
        (
            "/blobs/uploads/",
            (|id: String| if id.is_empty() { Kind::Uploads } else { Kind::Upload(id) }) as fn(String) -> Kind,
        ),
        ("/manifests/", Kind::Manifest),
        ("/blobs/", Kind::Blob),
        ("/referrers/", Kind::Referrers),
    ] {
        // From the right: a repository may be named `a/blobs/b`.
        if let Some((name, last)) = rest.rsplit_once(marker)
            && !last.contains('/')
        {
            return (name.to_owned(), kind(crate::http::percent_decode(last)));
        }
    }
    (rest.to_owned(), Kind::Unknown)
}

/// The ECR actions that AWS checks, all on the repository (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-push-iam.html>).
/// Invalid methods are rejected later.
fn actions(method: &Method, kind: &Kind) -> &'static [&'static str] {
    match kind {
        // The token is sufficient.
        Kind::Ping | Kind::Unknown => &[],
        Kind::Manifest(_) if method == Method::PUT => &["ecr:PutImage"],
        Kind::Manifest(_) => &["ecr:BatchGetImage"],
        Kind::Blob(_) if method == Method::HEAD => &["ecr:BatchCheckLayerAvailability"],
        Kind::Blob(_) => &["ecr:GetDownloadUrlForLayer"],
        Kind::Uploads => &["ecr:InitiateLayerUpload"],
        Kind::Upload(_) if method == Method::PUT => &["ecr:UploadLayerPart", "ecr:CompleteLayerUpload"],
        Kind::Upload(_) => &["ecr:UploadLayerPart"],
        Kind::Tags => &["ecr:ListImages"],
        Kind::Referrers(_) => &["ecr:ListImageReferrers"],
    }
}

/// One authenticated request.
struct Call<'a> {
    app: &'a Arc<App>,
    parts: &'a Parts,
    scope: Scope,
    principal: Principal,
    name: String,
    query: Vec<(String, String)>,
}

impl Call<'_> {
    /// The absolute URL of a path in this repository, with the host that the client used.
    fn location(&self, rest: &str) -> String {
        let own = self.app.host();
        let host = header(self.parts, "host").unwrap_or(&own);
        format!("http://{host}/v2/{}/{rest}", self.name)
    }

    fn arn(&self) -> String {
        repositories::arn(&self.scope, &self.name)
    }
}

pub(crate) async fn answer(
    app: &Arc<App>,
    parts: &Parts,
    mut body: Incoming,
    entry: &mut Entry,
) -> Result<Answer, CloseConnection> {
    let (name, kind) = parse(parts.uri.path());
    "oci".clone_into(&mut entry.service);
    entry.action = format!("{} {}", parts.method, kind.name());
    let mut answer = match outcome(app, parts, &mut body, name, kind, entry).await {
        Ok(answer) => answer,
        Err(Refusal::Fault(fault)) => {
            entry.error.clone_from(&fault.code);
            errors::answer(&fault)
        }
        Err(Refusal::Challenge) => {
            "Unauthorized".clone_into(&mut entry.error);
            let own = app.host();
            errors::challenge(header(parts, "host").unwrap_or(&own))
        }
        Err(Refusal::CloseConnection) => {
            "HangUp".clone_into(&mut entry.error);
            return Err(CloseConnection);
        }
    };
    if !answer.status().is_success() {
        crate::http::drain(&mut body).await;
    }
    set(&mut answer, "docker-distribution-api-version", "registry/2.0");
    // An error to HEAD has no body: clients that need it repeat the request with GET.
    Ok(if parts.method == Method::HEAD && !answer.status().is_success() {
        without_body(answer)
    } else {
        answer
    })
}

enum Refusal {
    Fault(Fault),
    Challenge,
    CloseConnection,
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

async fn outcome(
    app: &Arc<App>,
    parts: &Parts,
    body: &mut Incoming,
    name: String,
    kind: Kind,
    entry: &mut Entry,
) -> Result<Answer, Refusal> {
    let token =
        header(parts, "authorization").and_then(RegistryToken::from_basic).ok_or(Refusal::Challenge)?;
    entry.region.clone_from(&token.scope.region);
    entry.principal.clone_from(&token.principal);
    if token.expires <= now_millis() || app.quirks.throttles.token_used_up(token.nonce) {
        let message = "Your authorization token has expired. Reauthenticate and try again.";
        return Err(Fault::client("ExpiredTokenException", message).into());
    }
    let principal = token.principal();
    let call = Call { app, parts, scope: token.scope, principal, name, query: query(parts) };
    let needs: Vec<Need> =
        actions(&parts.method, &kind).iter().map(|action| Need::new(*action, call.arn())).collect();
    entry.resource = call.arn();
    note_needs(entry, &needs);
    iam::authorize(app, &call.principal, &needs)?;
    if !matches!(kind, Kind::Ping) {
        if app.quirks.throttles.at_random() {
            return Err(Fault::client("ThrottlingException", "Rate exceeded").into());
        }
        if app.quirks.delays.left(Delay::Repository, &entry.resource).is_some() {
            return Err(unknown(&call).into());
        }
        let pushes = parts.method == Method::POST || parts.method == Method::PUT;
        if pushes
            && app.quirks.is_on(&Quirk::DropConnectionOnUnknownRepo)
            && app.store.region(&call.scope).repository(&call.name).is_none()
        {
            return Err(Refusal::CloseConnection);
        }
    }
    Ok(match (parts.method.as_str(), kind) {
        ("GET" | "HEAD", Kind::Ping) => with_body(StatusCode::OK, "application/json; charset=utf-8", "{}"),
        ("GET" | "HEAD", Kind::Manifest(reference)) => manifests::get(&call, &reference, entry).await?,
        ("PUT", Kind::Manifest(reference)) => manifests::put(&call, &reference, body, entry).await?,
        ("GET" | "HEAD", Kind::Blob(digest)) => blobs::get(&call, &digest).await?,
        ("POST", Kind::Uploads) => uploads::begin(&call, entry).await?,
        ("PATCH", Kind::Upload(id)) => uploads::patch(&call, &id, body).await?,
        ("PUT", Kind::Upload(id)) => uploads::complete(&call, &id, body).await?,
        ("GET", Kind::Upload(id)) => uploads::status(&call, &id).await?,
        ("DELETE", Kind::Upload(id)) => uploads::cancel(&call, &id).await?,
        ("GET", Kind::Tags) => tags(&call)?,
        ("GET", Kind::Referrers(digest)) => referrers(&call, &digest)?,
        // Images are only deleted through the API.
        (method, kind) => {
            let message = format!("The operation is unsupported: {method} {}", kind.name());
            return Err(Fault::client("Unsupported", message).into());
        }
    })
}

fn unknown(call: &Call<'_>) -> Fault {
    repositories::not_found(&call.scope, &call.name)
}

/// At most 1000 tags per page; a larger number is an error in ECR, not a smaller page.
fn tags(call: &Call<'_>) -> Result<Answer, Fault> {
    let most = match value(&call.query, "n") {
        None => 1000,
        Some(text) => text.parse::<usize>().ok().filter(|n| (1..=1000).contains(n)).ok_or_else(|| {
            Fault::invalid_parameter(
                "Invalid parameter at 'maxResults' failed to satisfy constraint: 'Member must have value between 1 and 1000'",
            )
        })?,
    };
    let repository = repositories::find(call.app, &call.scope, &call.name)?;
    let after = value(&call.query, "last").unwrap_or_default();
    let mut left = repository.tags.keys().filter(|tag| after.is_empty() || tag.as_str() > after);
    let page: Vec<&String> = left.by_ref().take(most).collect();
    let more = left.next().is_some();
    let document = json!({ "name": call.name, "tags": page });
    let mut answer = with_body(StatusCode::OK, "application/json", document.to_string());
    if let Some(last) = page.last().filter(|_| more) {
        set(&mut answer, "link", format!("</v2/{}/tags/list?n={most}&last={last}>; rel=\"next\"", call.name));
    }
    Ok(answer)
}

fn referrers(call: &Call<'_>, digest: &str) -> Result<Answer, Fault> {
    let repository = repositories::find(call.app, &call.scope, &call.name)?;
    let wanted = value(&call.query, "artifactType");
    let descriptors: Vec<serde_json::Value> = images::referrers(&repository, digest)
        .into_iter()
        .filter(|(_, image)| wanted.is_none_or(|wanted| image.artifact_type.as_deref() == Some(wanted)))
        .map(|(digest, image)| {
            let mut descriptor = json!({
                "mediaType": image.media_type, "digest": digest, "size": image.manifest_size,
            });
            if let Some(kind) = &image.artifact_type {
                descriptor["artifactType"] = json!(kind);
            }
            if !image.annotations.is_empty() {
                descriptor["annotations"] = json!(image.annotations);
            }
            descriptor
        })
        .collect();
    let index = json!({
        "schemaVersion": 2, "mediaType": crate::manifest::OCI_INDEX, "manifests": descriptors,
    });
    let mut answer = with_body(StatusCode::OK, crate::manifest::OCI_INDEX, index.to_string());
    if wanted.is_some() {
        set(&mut answer, "oci-filters-applied", "artifactType");
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let shown = |path: &str| {
            let (name, kind) = parse(path);
            format!("{name} {}", kind.name())
        };
        assert_eq!(shown("/v2/"), " ping");
        assert_eq!(shown("/v2/kedacore/keda/manifests/2.11.2"), "kedacore/keda manifest");
        assert_eq!(shown("/v2/a/blobs/uploads/"), "a upload");
        assert_eq!(shown("/v2/a/blobs/uploads"), "a upload");
        assert_eq!(shown("/v2/a/blobs/b/blobs/uploads/1234"), "a/blobs/b upload");
        assert_eq!(shown("/v2/a/blobs/sha256:00"), "a blob");
        assert_eq!(shown("/v2/manifests/x/tags/list"), "manifests/x tags");
        assert_eq!(shown("/v2/a/referrers/sha256:00"), "a referrers");
        assert_eq!(shown("/v2/_catalog"), "_catalog unknown");
    }
}
