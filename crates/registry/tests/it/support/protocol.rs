//! The replies of the fake registry, with ECR's behaviour if configured.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Instant;

use base64::Engine as _;
use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};
use registry::{Digest, Manifest};

use super::fake::{Auth, Body, Cut, Inner, Quirks, Shared};
use super::spoil::Received;
use super::store::{Store, Upload};

pub fn full(body: impl Into<Bytes>) -> Body {
    BodyExt::boxed_unsync(Full::new(body.into()).map_err(|never: Infallible| match never {}))
}

pub fn response(status: u16, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(full(body)).unwrap()
}

fn error(status: u16, code: &str, message: &str) -> Response<Body> {
    let body = serde_json::json!({ "errors": [{ "code": code, "message": message }] });
    response(status, &[("content-type", "application/json")], body.to_string())
}

pub fn reply(shared: &Shared, parts: &Parts, body: Received, kind: &str) -> Result<Response<Body>, Cut> {
    let mut state = shared.state.lock().unwrap();
    let state = &mut *state;
    let method = parts.method.as_str();
    let path = parts.uri.path();
    let authorization =
        parts.headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if kind == "elsewhere" {
        return Ok(elsewhere(state, parts, body, authorization));
    }
    if kind == "token" {
        return Ok(token(state, authorization));
    }
    if let Some(refusal) = state.refuse_access(authorization, shared.address) {
        return Ok(refusal);
    }
    let reply = match (method, kind) {
        ("GET" | "HEAD", "manifests") => state.get_manifest(method, path),
        ("PUT", "manifests") => state.put_manifest(parts, body)?,
        ("GET" | "HEAD", "blobs") => {
            let elsewhere = shared.elsewhere.lock().unwrap().unwrap();
            state.get_blob(parts, elsewhere)
        }
        ("POST", "uploads") => state.start_upload(parts)?,
        ("PUT", "uploads") => state.finish_upload(parts, body),
        ("GET", "v2") => response(200, &[], "{}"),
        ("GET", "tags") => state.tags(parts),
        ("GET", "referrers") => state.referrers(path),
        _ => {
            state.unknown.push(format!("{method} {path}"));
            error(404, "UNSUPPORTED", "unknown")
        }
    };
    Ok(reply)
}

/// S3: no second kind of authentication.
fn elsewhere(state: &mut Inner, parts: &Parts, body: Received, authorization: &str) -> Response<Body> {
    if !authorization.is_empty() {
        state.unknown.push("an Authorization at another host".to_owned());
        let body =
            "<Error><Code>InvalidArgument</Code><Message>Only one auth mechanism allowed</Message></Error>";
        return response(400, &[], body);
    }
    if parts.method == "PUT" {
        return state.finish_upload(parts, body);
    }
    let quirks = Quirks::default();
    let kept = std::mem::replace(&mut state.quirks, quirks);
    let reply = state.get_blob(parts, SocketAddr::from(([127, 0, 0, 1], 1)));
    state.quirks = kept;
    reply
}

fn token(state: &mut Inner, authorization: &str) -> Response<Body> {
    if let Some(password) = &state.quirks.token_password {
        let right = base64::engine::general_purpose::STANDARD.encode(format!("AWS:{password}"));
        if authorization != format!("Basic {right}") {
            return error(401, "UNAUTHORIZED", "another login is wanted");
        }
    }
    state.next_token += 1;
    let token = format!("token-{}", state.next_token);
    state.tokens.insert(token.clone());
    response(200, &[], serde_json::json!({ "token": token, "expires_in": 300 }).to_string())
}

fn split<'a>(path: &'a str, at: &str) -> (&'a str, &'a str) {
    let (repository, rest) =
        path.strip_prefix("/v2/").and_then(|path| path.rsplit_once(at)).unwrap_or_default();
    (repository, rest)
}

fn query(parts: &Parts, name: &str) -> Option<String> {
    let query = parts.uri.query()?;
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let value = pairs.find(|(key, _)| *key == name)?.1;
    Some(value.replace("%3A", ":").replace("%2F", "/"))
}

impl Inner {
    fn refuse_access(&self, authorization: &str, address: SocketAddr) -> Option<Response<Body>> {
        match &self.quirks.auth {
            Auth::Open => None,
            Auth::Basic(password) => {
                let expected = base64::engine::general_purpose::STANDARD.encode(format!("AWS:{password}"));
                if authorization == format!("Basic {expected}") {
                    return None;
                }
                if authorization.is_empty() {
                    let challenge =
                        format!("Basic realm=\"http://{address}/\",service=\"ecr.amazonaws.com\"");
                    return Some(response(401, &[("www-authenticate", &challenge)], "Not Authorized"));
                }
                // Not 401: ECR's behaviour.
                let message = "Your authorization token has expired. Reauthenticate and try again.";
                Some(error(403, "DENIED", message))
            }
            Auth::Bearer(scope) => {
                let known =
                    authorization.strip_prefix("Bearer ").is_some_and(|token| self.tokens.contains(token));
                if known {
                    return None;
                }
                let scope = scope.map(|scope| format!(",scope=\"{scope}\"")).unwrap_or_default();
                let challenge = format!("Bearer realm=\"http://{address}/token\",service=\"fake\"{scope}");
                let body = r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#;
                Some(response(401, &[("www-authenticate", &challenge)], body))
            }
        }
    }

    fn get_manifest(&mut self, method: &str, path: &str) -> Response<Body> {
        let (repository, identifier) = split(path, "/manifests/");
        if self.quirks.bare_400 && method == "HEAD" {
            return response(400, &[], "");
        }
        if self.quirks.ecr && !self.store.repositories.contains_key(repository) {
            return error(404, "NAME_UNKNOWN", "The repository does not exist in the registry");
        }
        let limits = self.quirks.pulls_left.map(|left| {
            self.quirks.pulls_left = Some(if method == "GET" { left.saturating_sub(1) } else { left });
            ("100;w=21600".to_owned(), format!("{left};w=21600"))
        });
        let Some(manifest) = self.store.manifest(repository, identifier) else {
            return error(404, "MANIFEST_UNKNOWN", "manifest unknown");
        };
        let digest = manifest.digest().to_string();
        let length = manifest.bytes().len().to_string();
        let mut headers = vec![
            ("content-type", manifest.media_type()),
            ("docker-content-digest", digest.as_str()),
            ("content-length", length.as_str()),
        ];
        if let Some((limit, left)) = &limits {
            headers.extend([("ratelimit-limit", limit.as_str()), ("ratelimit-remaining", left.as_str())]);
        }
        response(200, &headers, manifest.bytes().clone())
    }

    fn put_manifest(&mut self, parts: &Parts, body: Received) -> Result<Response<Body>, Cut> {
        let (repository, identifier) = split(parts.uri.path(), "/manifests/");
        let Received::Bytes(bytes) = body else { return Ok(error(413, "SIZE_INVALID", "too large")) };
        if self.quirks.ecr && !self.store.repositories.contains_key(repository) {
            return Err(Cut);
        }
        let media_type =
            parts.headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
        if self.quirks.ecr && json.get("mediaType").is_none() {
            return Ok(error(405, "UNSUPPORTED", "Invalid JSON syntax"));
        }
        let manifest = Manifest::new(media_type, bytes);
        let lacking = self.store.lacking(repository, &manifest);
        if !lacking.is_empty() && !self.quirks.gullible {
            return Ok(lacks(&manifest, &lacking));
        }
        let is_digest = identifier.starts_with("sha256:");
        if is_digest && identifier != manifest.digest().to_string() {
            return Ok(error(400, "DIGEST_INVALID", "digest"));
        }
        let digest = manifest.digest();
        let repository = self.store.repository(repository);
        if self.quirks.immutable && repository.tags.contains_key(identifier) {
            let message = format!(
                "tag invalid: The image tag '{identifier}' already exists in the repository and cannot be overwritten because the repository is immutable."
            );
            return Ok(error(400, "TAG_INVALID", &message));
        }
        repository.manifests.insert(digest, manifest);
        if !is_digest {
            repository.tags.insert(identifier.to_owned(), digest);
        }
        let digest = digest.to_string();
        // ECR sends no Location.
        Ok(response(201, &[("docker-content-digest", &digest)], ""))
    }

    fn get_blob(&self, parts: &Parts, elsewhere: SocketAddr) -> Response<Body> {
        let path = parts.uri.path();
        let (repository, digest) = split(path, "/blobs/");
        if parts.method == "HEAD" && self.quirks.head_blob_401 {
            return response(401, &[], "");
        }
        let Some(digest) = digest.parse::<Digest>().ok().filter(|digest| self.store.has(repository, *digest))
        else {
            return error(404, "BLOB_UNKNOWN", "blob unknown to registry");
        };
        if self.quirks.elsewhere && parts.method == "GET" {
            let there = format!("http://{elsewhere}{path}?X-Amz-Signature=secret");
            return response(307, &[("location", &there)], "");
        }
        if let Some(length) = self.zeros.get(&digest) {
            return zeros(*length);
        }
        let bytes = self.store.contents.get(&digest).cloned().unwrap_or_default();
        let range = parts.headers.get("range").and_then(|range| range.to_str().ok());
        let start =
            range.and_then(|range| range.strip_prefix("bytes=")).and_then(|range| range.strip_suffix('-'));
        match start.and_then(|start| start.parse::<usize>().ok()).filter(|_| !self.quirks.no_range) {
            Some(start) if start < bytes.len() => {
                let range = format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len());
                response(206, &[("content-range", &range)], bytes.slice(start..))
            }
            Some(_) => response(416, &[], ""),
            None => response(200, &[("content-length", &bytes.len().to_string())], bytes),
        }
    }

    fn start_upload(&mut self, parts: &Parts) -> Result<Response<Body>, Cut> {
        let (repository, _) = split(parts.uri.path(), "/blobs/uploads/");
        if self.quirks.ecr && !self.store.repositories.contains_key(repository) {
            // The reply that several tools show as only EOF.
            return Ok(error(
                404,
                "NAME_UNKNOWN",
                "The repository with this name does not exist in the registry",
            ));
        }
        if let (Some(mount), Some(from)) = (query(parts, "mount"), query(parts, "from")) {
            if let Some(status) = self.quirks.mount_error {
                return Ok(error(status, "UNSUPPORTED", "no mounts here"));
            }
            let digest: Digest = mount.parse().unwrap();
            let has = self.store.has(&from, digest);
            let committed = !self.quirks.ecr || self.store.is_committed(&from, digest);
            let own = from == repository && !self.quirks.ecr;
            if has && committed && (self.quirks.mounts || own) {
                self.store.repository(repository).blobs.insert(digest, Instant::now());
                return Ok(response(201, &[("docker-content-digest", &digest.to_string())], ""));
            }
        }
        self.store.next_upload += 1;
        let id = format!("upload-{}", self.store.next_upload);
        self.store.uploads.insert(id.clone(), Upload { repository: repository.to_owned() });
        let location = format!("/v2/{repository}/blobs/uploads/{id}?_state=x");
        Ok(response(202, &[("location", &location)], ""))
    }

    fn finish_upload(&mut self, parts: &Parts, body: Received) -> Response<Body> {
        let (_, id) = split(parts.uri.path(), "/blobs/uploads/");
        // Removed by the first PUT, whatever its result is: nothing may be sent to it again.
        let Some(Upload { repository }) = self.store.uploads.remove(id) else {
            let message = "First byte of the layer part is 0 instead of 11304960";
            return error(416, "BLOB_UPLOAD_INVALID", message);
        };
        let Some(digest) = query(parts, "digest").and_then(|digest| digest.parse::<Digest>().ok()) else {
            return error(400, "DIGEST_INVALID", "no digest");
        };
        if !parts.headers.contains_key("content-length") {
            self.unknown.push("an upload without Content-Length".to_owned());
        }
        match body {
            Received::Bytes(bytes) if self.quirks.ecr && bytes.is_empty() => {
                return error(
                    400,
                    "BLOB_UPLOAD_INVALID",
                    "cannot be completed because it does not have any parts",
                );
            }
            Received::Bytes(bytes) if !self.quirks.gullible && Digest::of(&bytes) != digest => {
                return error(400, "DIGEST_INVALID", "provided digest did not match uploaded content");
            }
            Received::Bytes(bytes) => {
                self.store.contents.insert(digest, bytes);
            }
            Received::Huge(length) => {
                self.zeros.insert(digest, length);
            }
        }
        let visible = Instant::now() + self.quirks.lag;
        self.store.repository(&repository).blobs.insert(digest, visible);
        response(201, &[("docker-content-digest", &digest.to_string())], "")
    }

    fn tags(&self, parts: &Parts) -> Response<Body> {
        let (repository, _) = split(parts.uri.path(), "/tags/list");
        let count: usize = query(parts, "n").and_then(|n| n.parse().ok()).unwrap_or(usize::MAX);
        if count > 1000 {
            return error(400, "UNSUPPORTED", "n is at most 1000");
        }
        let Some(found) = self.store.repositories.get(repository) else {
            return error(404, "NAME_UNKNOWN", "no such repository");
        };
        let mut tags: Vec<&String> = found.tags.keys().collect();
        tags.sort();
        let last = query(parts, "last").unwrap_or_default();
        let page: Vec<&&String> = tags.iter().filter(|tag| ***tag > last).take(count.min(2)).collect();
        let link = page
            .last()
            .filter(|tag| **tag != tags.last().unwrap())
            .map(|tag| format!("</v2/{repository}/tags/list?n={count}&last={tag}>; rel=\"next\""));
        let body = serde_json::json!({ "name": repository, "tags": page }).to_string();
        match link {
            Some(link) => response(200, &[("link", &link)], body),
            None => response(200, &[], body),
        }
    }

    fn referrers(&self, path: &str) -> Response<Body> {
        let (repository, digest) = split(path, "/referrers/");
        if !self.quirks.referrers {
            return response(404, &[], "404 page not found");
        }
        let manifests = self.store.repositories.get(repository).map(|repository| &repository.manifests);
        let about = manifests.into_iter().flat_map(|manifests| manifests.values()).filter(|manifest| {
            let subject = manifest.image().ok().and_then(|image| image.subject);
            subject.is_some_and(|subject| subject.digest.to_string() == digest)
        });
        let list: Vec<_> = about.map(Manifest::descriptor).collect();
        let body = serde_json::json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": list
        });
        response(200, &[("content-type", "application/vnd.oci.image.index.v1+json")], body.to_string())
    }
}

/// ECR's and docker-registry's error for missing parts.
fn lacks(manifest: &Manifest, lacking: &[Digest]) -> Response<Body> {
    if manifest.index().is_ok() {
        let message = format!(
            "Images with digests '{lacking:?}' required for pushing image into repository do not exist"
        );
        return error(404, "MANIFEST_UNKNOWN", &message);
    }
    error(404, "BLOB_UNKNOWN", &format!("blob unknown to registry: {lacking:?}"))
}

fn zeros(length: u64) -> Response<Body> {
    let block = Bytes::from(vec![0; 64 << 10]);
    let frames = stream::unfold(length, move |left| {
        let block = block.slice(..block.len().min(left as usize));
        async move { (left > 0).then(|| (Ok(Frame::data(block.clone())), left - block.len() as u64)) }
    });
    let body = BodyExt::boxed_unsync(StreamBody::new(frames));
    Response::builder().status(StatusCode::OK).header("content-length", length).body(body).unwrap()
}

impl Store {
    fn has(&self, repository: &str, digest: Digest) -> bool {
        self.repositories.get(repository).is_some_and(|repository| repository.blobs.contains_key(&digest))
    }
}

/// The subject of a request.
pub fn kind(path: &str) -> &'static str {
    match path {
        "/v2/" => "v2",
        "/token" => "token",
        path if path.contains("/blobs/uploads/") => "uploads",
        path if path.contains("/blobs/") => "blobs",
        path if path.contains("/manifests/") => "manifests",
        path if path.contains("/referrers/") => "referrers",
        path if path.ends_with("/tags/list") => "tags",
        _ => "unknown",
    }
}
