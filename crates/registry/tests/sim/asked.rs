//! Requests and replies, as the servers see them.

use bytes::Bytes;
use http::{HeaderMap, Method};
use url::Url;

use crate::plan::Op;

/// A request, as far as a registry sees it.
pub struct Asked {
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// A reply.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Bytes,
}

impl Answer {
    pub fn new(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }

    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    pub fn error(status: u16, code: &str, message: &str) -> Self {
        let body = serde_json::json!({ "errors": [{ "code": code, "message": message }] });
        Self::new(status).body(body.to_string())
    }
}

/// The server and the kind of a request.
pub fn kind(asked: &Asked) -> (bool, Op) {
    let host = asked.url.host_str().unwrap_or_default();
    let (_, kind, _) = parts(asked.url.path());
    let op = match (asked.method.as_str(), kind) {
        _ if host.starts_with("auth.") => Op::Token,
        ("HEAD", "manifests") => Op::ManifestHead,
        ("PUT", "manifests") => Op::ManifestPut,
        (_, "manifests") => Op::ManifestGet,
        ("HEAD", "blobs") => Op::BlobHead,
        (_, "blobs") => Op::BlobGet,
        ("POST", _) => Op::UploadStart,
        ("PUT", _) => Op::UploadFinish,
        _ => Op::Referrers,
    };
    (host.ends_with("target.example"), op)
}

pub fn authorization(asked: &Asked) -> &str {
    asked.headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Repository, kind and name: `/v2/<repository>/<kind>/<name>`.
pub fn parts(path: &str) -> (&str, &str, &str) {
    let path = path.strip_prefix("/v2/").unwrap_or_default();
    for (at, kind) in [
        ("/blobs/uploads/", "uploads"),
        ("/blobs/", "blobs"),
        ("/manifests/", "manifests"),
        ("/referrers/", "referrers"),
        ("/tags/list", "tags"),
    ] {
        if let Some((repository, name)) = path.split_once(at) {
            return (repository, kind, name);
        }
    }
    ("", "", "")
}
