//! A registry in memory, with or without the referrers API.

use std::collections::BTreeMap;
use std::sync::Mutex;

use bytes::Bytes;
use registry::{Body, BoxFuture, Digest, ErrorKind, Request, Response, Transport};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// A registry in memory.
#[derive(Default)]
pub(super) struct Store {
    pub(super) blobs: Mutex<BTreeMap<String, Vec<u8>>>,
    /// By digest and by tag.
    pub(super) manifests: Mutex<BTreeMap<String, Vec<u8>>>,
    /// Whether it has the referrers API.
    pub(super) lists: bool,
    /// Whether it rejects manifests with a subject.
    pub(super) refuses: bool,
    /// Whether it claims to have every blob, and then misses those that it does not have.
    pub(super) claims: bool,
    /// For how many requests something is hidden after it was put.
    pub(super) late: usize,
    /// By name, how many of these requests are left.
    pub(super) hidden: Mutex<BTreeMap<String, usize>>,
}

impl Store {
    fn answer(&self, method: &Method, path: &str, query: &str, body: Vec<u8>) -> (StatusCode, Vec<u8>) {
        let missing = (StatusCode::NOT_FOUND, Vec::new());
        let found = |bytes: Option<&Vec<u8>>| match bytes {
            Some(bytes) => (StatusCode::OK, bytes.clone()),
            None => (StatusCode::NOT_FOUND, Vec::new()),
        };
        let (mut blobs, mut manifests) = (self.blobs.lock().unwrap(), self.manifests.lock().unwrap());
        let (kind, name) = path.strip_prefix("/v2/lambda/").unwrap().split_once('/').unwrap();
        if let ("HEAD" | "GET", Some(left)) =
            (method.as_str(), self.hidden.lock().unwrap().get_mut(name).filter(|left| **left > 0))
        {
            *left -= 1;
            return missing;
        }
        match (method.as_str(), kind) {
            ("POST", "blobs") => (StatusCode::ACCEPTED, Vec::new()),
            ("PUT", "blobs") => {
                let digest = query.strip_prefix("digest=").unwrap().replace("%3A", ":");
                assert_eq!(Digest::of(&body).to_string(), digest);
                self.hide(&digest);
                blobs.insert(digest, body);
                (StatusCode::CREATED, Vec::new())
            }
            ("HEAD", "blobs") if self.claims => {
                (StatusCode::OK, blobs.get(name).cloned().unwrap_or_default())
            }
            ("HEAD" | "GET", "blobs") => found(blobs.get(name)),
            ("PUT", "manifests") => {
                let manifest: Value = serde_json::from_slice(&body).unwrap();
                let layers = manifest["layers"].as_array().into_iter().flatten();
                let mut parts = layers.chain(manifest.get("config")).map(|part| part["digest"].as_str());
                if self.claims && !parts.all(|digest| blobs.contains_key(digest.unwrap())) {
                    let no = json!({ "errors": [{ "code": "MANIFEST_BLOB_UNKNOWN" }] });
                    return (StatusCode::NOT_FOUND, no.to_string().into_bytes());
                }
                if self.refuses && serde_json::from_slice::<Value>(&body).unwrap()["subject"].is_object() {
                    return (StatusCode::METHOD_NOT_ALLOWED, Vec::new());
                }
                for name in [name, &Digest::of(&body).to_string()] {
                    self.hide(name);
                }
                manifests.insert(Digest::of(&body).to_string(), body.clone());
                manifests.insert(name.to_owned(), body);
                (StatusCode::CREATED, Vec::new())
            }
            ("HEAD" | "GET", "manifests") => found(manifests.get(name)),
            ("GET", "referrers") if self.lists => {
                let about = |manifest: &Value| manifest["subject"]["digest"] == name;
                let listed: Vec<Value> = manifests
                    .iter()
                    .filter(|(name, _)| name.starts_with("sha256:"))
                    .map(|(digest, bytes)| {
                        (digest, bytes.len(), serde_json::from_slice::<Value>(bytes).unwrap())
                    })
                    .filter(|(_, _, manifest)| about(manifest))
                    .map(|(digest, size, manifest)| {
                        json!({
                            "mediaType": manifest["mediaType"], "digest": digest, "size": size,
                            "artifactType": manifest["artifactType"],
                        })
                    })
                    .collect();
                let index = json!({ "schemaVersion": 2, "manifests": listed });
                (StatusCode::OK, index.to_string().into_bytes())
            }
            ("GET", "referrers") => missing,
            other => panic!("{other:?} {path}"),
        }
    }
}

impl Store {
    fn hide(&self, name: &str) {
        self.hidden.lock().unwrap().insert(name.to_owned(), self.late);
    }
}

impl Transport for Store {
    fn send(&self, mut request: Request) -> BoxFuture<'_, Result<Response, ErrorKind>> {
        Box::pin(async move {
            let mut body = Vec::new();
            while let Some(piece) = request.body.chunk().await? {
                body.extend_from_slice(&piece);
            }
            let (path, query) = (request.url.path(), request.url.query().unwrap_or_default());
            let (status, bytes) = self.answer(&request.method, path, query, body);
            let kind = serde_json::from_slice::<Value>(&bytes).unwrap_or_default()["mediaType"].clone();
            let mut response = Response::new(Body::default());
            *response.status_mut() = status;
            let headers = response.headers_mut();
            headers.insert("content-length", bytes.len().into());
            headers.insert("content-type", kind.as_str().unwrap_or("application/json").parse().unwrap());
            if status == StatusCode::ACCEPTED {
                headers.insert("location", "/v2/lambda/blobs/uploads/1".parse().unwrap());
            }
            if request.method != Method::HEAD {
                *response.body_mut() = Body::from(Bytes::from(bytes));
            }
            Ok(response)
        })
    }
}
