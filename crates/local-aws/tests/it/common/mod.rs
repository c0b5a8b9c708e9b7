//! A server, and requests of its protocols written by hand: the tests do not depend on a client library.

#![allow(
    dead_code,
    clippy::allow_attributes,
    clippy::unwrap_used,
    reason = "every test file compiles this for itself and uses a part of it; in a test an unwrap is an assertion"
)]

pub(crate) mod programs;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use local_aws::{Config, Server};
use reqwest::{Client, Method, Response, StatusCode};
use serde_json::{Value, json};
use service_models::{Checked, Models, Side};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

pub(crate) const REGION: &str = "eu-west-1";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// cargo's target directory.
pub(crate) fn target() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap()
}

/// AWS's published service models, if they are installed.
pub(crate) fn models() -> Option<Models> {
    Models::installed(target())
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// A client that follows no redirects: they are part of what is tested.
pub(crate) fn client() -> Client {
    drop(rustls::crypto::ring::default_provider().install_default());
    Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap()
}

pub(crate) fn signed(service: &str, region: &str, key: &str) -> String {
    format!(
        "AWS4-HMAC-SHA256 Credential={key}/20261122/{region}/{service}/aws4_request, SignedHeaders=host, Signature=00"
    )
}

pub(crate) struct Local {
    pub(crate) server: Server,
    answers: Answers,
    pub(crate) dir: TempDir,
    pub(crate) client: Client,
    pub(crate) url: String,
}

/// A server's answer, checked against AWS's published models when this is dropped. The requests are not checked: these tests send
/// some that no client would send.
struct Answers(PathBuf);

impl Drop for Answers {
    fn drop(&mut self) {
        static MODELS: OnceLock<Option<Models>> = OnceLock::new();
        let models = MODELS.get_or_init(models);
        // A test that has already failed shows the reason. Missing models are reported elsewhere.
        let (Some(models), false) = (models, std::thread::panicking()) else { return };
        let checked = Checked::log(models, &std::fs::read_to_string(&self.0).unwrap()).unwrap();
        // An action that is not implemented is refused with its name, in words that AWS does not use.
        let wrong = checked.text(Some(Side::Answer));
        let wrong: Vec<&str> = wrong.lines().filter(|line| !line.contains("NotImplemented (501)")).collect();
        assert!(wrong.is_empty(), "not what AWS's published service models say:\n{}", wrong.join("\n"));
    }
}

impl Local {
    pub(crate) fn start() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::new(dir.path());
        let traffic = dir.path().join("traffic.jsonl");
        config.traffic = Some(traffic.clone());
        change(&mut config);
        let server = Server::start(config).unwrap();
        let url = server.url();
        Self { server, answers: Answers(traffic), dir, client: client(), url }
    }

    pub(crate) fn caller(&self) -> Caller {
        Caller {
            client: self.client.clone(),
            url: self.url.clone(),
            region: REGION.to_owned(),
            key: "local".to_owned(),
        }
    }

    pub(crate) fn quirks(&self, names: &[&str]) {
        self.server.set_quirks(names.iter().map(|name| name.parse().unwrap()).collect());
    }

    pub(crate) async fn local(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        let mut request = self.client.request(method, format!("{}/_local/{path}", self.url));
        if let Some(body) = body {
            request = request.body(body.to_string());
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
    }
}

/// The caller and the region.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) client: Client,
    pub(crate) url: String,
    pub(crate) region: String,
    pub(crate) key: String,
}

impl Caller {
    pub(crate) fn region(&self, region: &str) -> Self {
        Self { region: region.to_owned(), ..self.clone() }
    }

    pub(crate) fn key(&self, key: &str) -> Self {
        Self { key: key.to_owned(), ..self.clone() }
    }

    /// An action of a service with a JSON protocol.
    pub(crate) async fn json(
        &self,
        service: &str,
        target: &str,
        action: &str,
        input: Value,
    ) -> (StatusCode, Value) {
        let response = self
            .client
            .post(&self.url)
            .header("authorization", signed(service, &self.region, &self.key))
            .header("x-amz-target", format!("{target}.{action}"))
            .header("content-type", "application/x-amz-json-1.1")
            .body(input.to_string())
            .send()
            .await
            .unwrap();
        let status = response.status();
        // Another server's failure may be an HTML page.
        (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default())
    }

    pub(crate) async fn ecr_any(&self, action: &str, input: Value) -> (StatusCode, Value) {
        self.json("ecr", "AmazonEC2ContainerRegistry_V20150921", action, input).await
    }

    /// An ECR action that succeeds.
    pub(crate) async fn ecr(&self, action: &str, input: Value) -> Value {
        let (status, value) = self.ecr_any(action, input).await;
        assert_eq!(status, 200, "{action}: {value}");
        value
    }

    /// An ECR action that is refused: its error code and its message.
    pub(crate) async fn ecr_refused(&self, action: &str, input: Value) -> (String, String) {
        refused(action, self.ecr_any(action, input).await)
    }

    pub(crate) async fn kms(&self, action: &str, input: Value) -> Value {
        let (status, value) = self.json("kms", "TrentService", action, input).await;
        assert_eq!(status, 200, "{action}: {value}");
        value
    }

    pub(crate) async fn kms_refused(&self, action: &str, input: Value) -> (String, String) {
        refused(action, self.json("kms", "TrentService", action, input).await)
    }

    pub(crate) async fn query(&self, service: &str, form: &str) -> (StatusCode, String) {
        let response = self
            .client
            .post(&self.url)
            .header("authorization", signed(service, &self.region, &self.key))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form.to_owned())
            .send()
            .await
            .unwrap();
        let status = response.status();
        (status, response.text().await.unwrap())
    }

    pub(crate) fn s3(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client
            .request(method, format!("{}/{path}", self.url))
            .header("authorization", signed("s3", &self.region, &self.key))
    }

    pub(crate) async fn repository(&self, name: &str) {
        self.ecr("CreateRepository", json!({ "repositoryName": name })).await;
    }

    /// Logs in to the registry.
    pub(crate) async fn registry(&self) -> Registry {
        let data = self.ecr("GetAuthorizationToken", json!({})).await;
        let token = data["authorizationData"][0]["authorizationToken"].as_str().unwrap().to_owned();
        Registry { client: self.client.clone(), url: self.url.clone(), token }
    }
}

/// Creates a bucket in the caller's region.
pub(crate) async fn create_bucket(caller: &Caller, name: &str) {
    let body = if caller.region == "us-east-1" {
        String::new()
    } else {
        format!(
            "<CreateBucketConfiguration><LocationConstraint>{}</LocationConstraint></CreateBucketConfiguration>",
            caller.region
        )
    };
    let response = caller.s3(Method::PUT, name).body(body).send().await.unwrap();
    assert_eq!(response.status(), 200);
}

fn refused(action: &str, (status, value): (StatusCode, Value)) -> (String, String) {
    assert_eq!(status, 400, "{action}: {value}");
    (value["__type"].as_str().unwrap().to_owned(), value["message"].as_str().unwrap().to_owned())
}

/// A client of the registry with one token.
#[derive(Clone)]
pub(crate) struct Registry {
    pub(crate) client: Client,
    pub(crate) url: String,
    pub(crate) token: String,
}

impl Registry {
    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let url = if path.starts_with("http") { path.to_owned() } else { format!("{}/v2/{path}", self.url) };
        self.client.request(method, url).header("authorization", format!("Basic {}", self.token))
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.unwrap()
    }

    pub(crate) async fn head(&self, path: &str) -> Response {
        self.request(Method::HEAD, path).send().await.unwrap()
    }

    /// Opens an upload session and returns its URL.
    pub(crate) async fn upload(&self, name: &str) -> String {
        let response = self.request(Method::POST, &format!("{name}/blobs/uploads/")).send().await.unwrap();
        assert_eq!(response.status(), 202);
        header(&response, "location")
    }

    /// Pushes a layer in one piece.
    pub(crate) async fn blob(&self, name: &str, bytes: &[u8]) -> String {
        let (status, digest) = self.try_blob(name, bytes).await;
        assert_eq!(status, 201);
        digest
    }

    pub(crate) async fn try_blob(&self, name: &str, bytes: &[u8]) -> (StatusCode, String) {
        let digest = digest(bytes);
        let location = self.upload(name).await;
        let response = self
            .request(Method::PUT, &format!("{location}?digest={digest}"))
            .body(bytes.to_vec())
            .send()
            .await
            .unwrap();
        (response.status(), digest)
    }

    pub(crate) async fn put_manifest(
        &self,
        name: &str,
        reference: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> Response {
        self.request(Method::PUT, &format!("{name}/manifests/{reference}"))
            .header("content-type", media_type)
            .body(bytes.to_vec())
            .send()
            .await
            .unwrap()
    }

    /// Pushes an image with one layer and returns the manifest's digest.
    pub(crate) async fn image(&self, name: &str, tag: &str, layer: &[u8]) -> String {
        self.blob(name, b"{}").await;
        self.blob(name, layer).await;
        let manifest = manifest(layer);
        let response = self.put_manifest(name, tag, DOCKER_MANIFEST, &manifest).await;
        assert_eq!(response.status(), 201);
        assert_eq!(header(&response, "docker-content-digest"), digest(&manifest));
        digest(&manifest)
    }
}

/// A manifest with the configuration `{}` and one layer.
pub(crate) fn manifest(layer: &[u8]) -> Vec<u8> {
    json!({
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": { "mediaType": "application/vnd.docker.container.image.v1+json", "digest": digest(b"{}"), "size": 2 },
        "layers": [{
            "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "digest": digest(layer), "size": layer.len(),
        }],
    })
    .to_string()
    .into_bytes()
}

pub(crate) fn header(response: &Response, name: &str) -> String {
    response
        .headers()
        .get(name)
        .unwrap_or_else(|| panic!("no {name} in {response:?}"))
        .to_str()
        .unwrap()
        .to_owned()
}

/// The error code and the message of a registry's refusal.
pub(crate) async fn oci_error(response: Response) -> (u16, String, String) {
    let status = response.status().as_u16();
    let value: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
    let error = &value["errors"][0];
    (status, error["code"].as_str().unwrap().to_owned(), error["message"].as_str().unwrap().to_owned())
}

/// The number of rounds of a test with random input: few, or all if SOAK is set.
pub(crate) fn rounds(few: usize, all: usize) -> usize {
    if std::env::var_os("SOAK").is_some() { all } else { few }
}
