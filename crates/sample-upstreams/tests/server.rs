//! The sample upstreams over HTTP, with the behaviour of the real registries.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not marked as such")]

use std::path::Path;
use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Client, StatusCode};
use sample_upstreams::{Config, Options, Scale, Server, Store, build};
use serde_json::Value;
use sha2::{Digest, Sha256};

struct Upstream {
    base: String,
    http: Client,
    store: Store,
    _server: Server,
    _dir: tempfile::TempDir,
}

impl Upstream {
    async fn start(config: Config) -> Self {
        // The other crates of this workspace choose it in their own `main`.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let store = build(dir.path(), &Options { scale: Scale::Small }).unwrap();
        let server = Server::start(store.clone(), config).await.unwrap();
        let base = format!("http://{}", server.address());
        Self { base, http: Client::builder().no_proxy().build().unwrap(), store, _server: server, _dir: dir }
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> (StatusCode, HeaderMap, Vec<u8>) {
        let mut request = self.http.get(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        (status, headers, response.bytes().await.unwrap().to_vec())
    }

    async fn json(&self, path: &str) -> Value {
        let (status, _, body) = self.get(path, &[]).await;
        assert_eq!(status, StatusCode::OK, "{path}");
        serde_json::from_slice(&body).unwrap()
    }

    async fn token(&self, scope: &str) -> String {
        self.json(&format!("/token?service=x&scope={scope}")).await["token"].as_str().unwrap().to_owned()
    }
}

fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

fn no_token() -> Config {
    Config { token_registries: [].into(), ..Config::default() }
}

#[tokio::test]
async fn every_manifest_and_blob_exists_with_its_digest_and_size() {
    let upstream = Upstream::start(no_token()).await;
    let mut kinds = std::collections::BTreeSet::new();
    for image in sample_upstreams::images() {
        let path = format!("/v2/{}/{}", image.registry(), image.repository());
        let (_, headers, index) = upstream.get(&format!("{path}/manifests/{}", image.tag()), &[]).await;
        assert_eq!(headers["docker-content-digest"], *sha256(&index));
        let index: Value = serde_json::from_slice(&index).unwrap();
        assert_eq!(headers["content-type"], *index["mediaType"].as_str().unwrap());
        kinds.insert(index["mediaType"].as_str().unwrap().to_owned());

        let children = index["manifests"].as_array().unwrap();
        let platforms: Vec<String> = children
            .iter()
            .filter(|child| child["annotations"].is_null())
            .map(|child| child["platform"]["architecture"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(platforms, ["amd64", "arm64", "arm", "s390x"]);
        for child in children {
            let digest = child["digest"].as_str().unwrap();
            let (_, _, bytes) = upstream.get(&format!("{path}/manifests/{digest}"), &[]).await;
            assert_eq!(
                (sha256(&bytes), Some(bytes.len() as u64)),
                (digest.to_owned(), child["size"].as_u64())
            );
            let manifest: Value = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(manifest["mediaType"], child["mediaType"]);
            let mut blobs = vec![&manifest["config"]];
            blobs.extend(manifest["layers"].as_array().unwrap());
            let mut diff_ids = Vec::new();
            for blob in blobs {
                let digest = blob["digest"].as_str().unwrap();
                let (status, _, bytes) = upstream.get(&format!("{path}/blobs/{digest}"), &[]).await;
                assert_eq!(status, StatusCode::OK);
                assert_eq!(
                    (sha256(&bytes), Some(bytes.len() as u64)),
                    (digest.to_owned(), blob["size"].as_u64())
                );
                if blob["mediaType"].as_str().unwrap().ends_with("gzip") {
                    let mut plain = Vec::new();
                    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&bytes[..]), &mut plain)
                        .unwrap();
                    diff_ids.push(Value::from(sha256(&plain)));
                }
            }
            if child["annotations"].is_null() {
                let digest = manifest["config"]["digest"].as_str().unwrap();
                let config = upstream.json(&format!("{path}/blobs/{digest}")).await;
                assert_eq!(config["rootfs"]["diff_ids"], Value::from(diff_ids));
                assert_eq!(config["architecture"], child["platform"]["architecture"]);
            } else {
                let subject = &child["annotations"]["vnd.docker.reference.digest"];
                assert!(children.iter().any(|child| child["digest"] == *subject));
            }
        }
    }
    assert_eq!(kinds.len(), 2, "both an OCI index and a Docker list: {kinds:?}");
}

#[tokio::test]
async fn docker_hub_requires_a_token_for_the_repository_and_only_counts_gets() {
    let upstream = Upstream::start(Config { pull_limit: 2, ..Config::default() }).await;
    let path = "/v2/docker.io/curlimages/curl/manifests/7.85.0";
    let (status, headers, _) = upstream.get(path, &[]).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    let challenge = headers["www-authenticate"].to_str().unwrap();
    assert_eq!(
        challenge,
        format!(
            "Bearer realm=\"{}/token\",service=\"sample-upstreams\",scope=\"repository:docker.io/curlimages/curl:pull\"",
            upstream.base
        )
    );
    let other = upstream.token("repository:docker.io/grafana/grafana:pull").await;
    let (status, ..) = upstream.get(path, &[("authorization", &format!("Bearer {other}"))]).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);

    let bearer =
        format!("Bearer {}", upstream.token("repository%3Adocker.io%2Fcurlimages%2Fcurl%3Apull").await);
    for _ in 0..3 {
        let head = upstream.http.head(format!("{}{path}", upstream.base)).header("authorization", &bearer);
        let head = head.send().await.unwrap();
        assert_eq!(head.status(), StatusCode::OK);
        assert_eq!(head.headers()["ratelimit-remaining"], "2;w=21600");
        assert_eq!(
            head.headers()["docker-content-digest"],
            *upstream.store.digest("docker.io/curlimages/curl", "7.85.0").unwrap().unwrap()
        );
    }
    for (status, remaining) in
        [(StatusCode::OK, "1"), (StatusCode::OK, "0"), (StatusCode::TOO_MANY_REQUESTS, "0")]
    {
        let (got, headers, _) = upstream.get(path, &[("authorization", &bearer)]).await;
        assert_eq!(
            (got, headers["ratelimit-remaining"].to_str().unwrap()),
            (status, &*format!("{remaining};w=21600"))
        );
        assert_eq!(headers["ratelimit-limit"], "2;w=21600");
    }
    // The other registries neither count pulls nor require a token.
    let (status, headers, _) = upstream.get("/v2/ghcr.io/kedacore/keda/manifests/2.11.2", &[]).await;
    assert_eq!((status, headers.contains_key("ratelimit-limit")), (StatusCode::OK, false));
}

#[tokio::test]
async fn an_expired_token_is_refused() {
    let upstream = Upstream::start(Config { token_lifetime: Duration::ZERO, ..Config::default() }).await;
    let bearer = format!("Bearer {}", upstream.token("repository:docker.io/curlimages/curl:pull").await);
    let path = "/v2/docker.io/curlimages/curl/manifests/7.85.0";
    assert_eq!(upstream.get(path, &[("authorization", &bearer)]).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_blob_can_be_resumed() {
    let upstream = Upstream::start(no_token()).await;
    let path = "/v2/ghcr.io/kedacore/keda";
    let index = upstream.json(&format!("{path}/manifests/2.11.2")).await;
    let child = index["manifests"][0]["digest"].as_str().unwrap();
    let manifest = upstream.json(&format!("{path}/manifests/{child}")).await;
    let blob = format!("{path}/blobs/{}", manifest["layers"][2]["digest"].as_str().unwrap());
    let (_, _, whole) = upstream.get(&blob, &[]).await;
    let (status, headers, rest) = upstream.get(&blob, &[("range", "bytes=1000-")]).await;
    assert_eq!((status, &rest[..]), (StatusCode::PARTIAL_CONTENT, &whole[1000..]));
    assert_eq!(headers["content-range"], *format!("bytes 1000-{}/{}", whole.len() - 1, whole.len()));
    let (status, ..) = upstream.get(&blob, &[("range", "bytes=999999999-")]).await;
    assert_eq!(status, StatusCode::RANGE_NOT_SATISFIABLE);
}

#[tokio::test]
async fn missing_content_is_a_registry_error() {
    let upstream = Upstream::start(no_token()).await;
    for (path, code) in [
        ("/v2/ghcr.io/nobody/nothing/manifests/1", "NAME_UNKNOWN"),
        ("/v2/ghcr.io/kedacore/keda/manifests/1", "MANIFEST_UNKNOWN"),
        // A blob of another repository: the registry does not serve it under this name.
        ("/v2/ghcr.io/kedacore/keda/blobs/sha256:0000", "BLOB_UNKNOWN"),
    ] {
        let (status, _, body) = upstream.get(path, &[]).await;
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            (status, &body["errors"][0]["code"]),
            (StatusCode::NOT_FOUND, &Value::from(code)),
            "{path}"
        );
    }
    let push = upstream.http.post(format!("{}/v2/ghcr.io/kedacore/keda/blobs/uploads/", upstream.base));
    assert_eq!(push.send().await.unwrap().status(), StatusCode::NOT_FOUND);
    let push = upstream.http.put(format!("{}/v2/ghcr.io/kedacore/keda/manifests/x", upstream.base));
    assert_eq!(push.send().await.unwrap().status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn tags_come_in_pages_and_requests_are_counted() {
    let upstream = Upstream::start(no_token()).await;
    let (_, headers, body) = upstream.get("/v2/public.ecr.aws/lambda/python/tags/list?n=2", &[]).await;
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["tags"], serde_json::json!(["3.12", "3.13"]));
    assert_eq!(headers["link"], "</v2/public.ecr.aws/lambda/python/tags/list?n=2&last=3.13>; rel=\"next\"");
    let next = upstream.json("/v2/public.ecr.aws/lambda/python/tags/list?n=2&last=3.13").await;
    assert_eq!(next["tags"], serde_json::json!(["3.14", "3.8"]));
    let referrers = upstream.json("/v2/ghcr.io/kedacore/keda/referrers/sha256:00").await;
    assert_eq!(referrers["manifests"], serde_json::json!([]));
    assert_eq!(
        upstream.json("/_local/requests").await,
        serde_json::json!({ "oci GET referrers": 1, "oci GET tags": 2 })
    );
    assert_eq!(upstream.json("/_local/log").await[2], "GET /v2/ghcr.io/kedacore/keda/referrers/sha256:00");
    upstream.http.post(format!("{}/_local/reset-requests", upstream.base)).send().await.unwrap();
    assert_eq!(upstream.json("/_local/requests").await, serde_json::json!({}));
}

#[tokio::test]
async fn touch_moves_a_tag_and_keeps_the_old_digest_and_reset_restores_it() {
    let upstream = Upstream::start(no_token()).await;
    let path = "/v2/docker.io/grafana/grafana/manifests";
    let before = upstream.store.digest("docker.io/grafana/grafana", "10.1.1").unwrap().unwrap();
    let (old, new) = upstream.store.touch("grafana/grafana:10.1.1").unwrap();
    assert_eq!(old, before);
    let (_, again) = upstream.store.touch("docker.io/grafana/grafana:10.1.1").unwrap();
    assert!(again != new && new != old);
    let (_, headers, index) = upstream.get(&format!("{path}/10.1.1"), &[]).await;
    assert_eq!(headers["docker-content-digest"], *again);
    let index: Value = serde_json::from_slice(&index).unwrap();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 8, "four platforms, four attestations");
    let child = index["manifests"][0]["digest"].as_str().unwrap();
    let manifest = upstream.json(&format!("{path}/{child}")).await;
    let layers = manifest["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 7, "one layer for each change");
    for layer in layers {
        let blob = format!("/v2/docker.io/grafana/grafana/blobs/{}", layer["digest"].as_str().unwrap());
        assert_eq!(upstream.get(&blob, &[]).await.2.len() as u64, layer["size"].as_u64().unwrap());
    }
    assert_eq!(upstream.get(&format!("{path}/{old}"), &[]).await.0, StatusCode::OK);
    upstream.store.reset().unwrap();
    assert_eq!(upstream.get(&format!("{path}/10.1.1"), &[]).await.1["docker-content-digest"], *old);
    assert!(
        upstream.store.touch("grafana/grafana:11").unwrap_err().to_string().contains("grafana/grafana:11")
    );
}

#[test]
fn a_build_is_repeatable_and_a_killed_one_leaves_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    let data = |name: &str| dir.path().join(name);
    let options = Options { scale: Scale::Small };
    let first = build(&data("a"), &options).unwrap();
    let digest = |store: &Store| store.digest("docker.io/curlimages/curl", "7.85.0").unwrap();
    // The remains of a killed build: an incomplete directory under its temporary name.
    std::fs::create_dir_all(data("b").join(".building-1/blobs")).unwrap();
    assert!(Store::open(&data("b")).unwrap_err().to_string().contains("sample-upstreams build"));
    let second = build(&data("b"), &options).unwrap();
    assert_eq!(digest(&first), digest(&second));
    assert_eq!(names(&data("b")), ["lock", "store"]);
    first.touch("curlimages/curl:7.85.0").unwrap();
    let copy = first.copy_to(&data("c")).unwrap();
    assert_eq!(digest(&copy), digest(&second), "a copy starts with the tags as they were built");
    copy.touch("curlimages/curl:7.85.0").unwrap();
    assert_eq!(
        digest(&build(&data("c"), &options).unwrap()),
        digest(&copy),
        "a second build changes nothing"
    );
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = dir
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn the_program_prints_its_address_and_ends_on_sigterm() {
    let dir = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_sample-upstreams");
    let data = dir.path();
    let failure = duct::cmd!(program, "serve", "--data", data).stderr_capture().unchecked().run().unwrap();
    assert!(!failure.status.success());
    assert!(String::from_utf8_lossy(&failure.stderr).contains("sample-upstreams build --data"));
    duct::cmd!(program, "build", "--small", "--data", data).run().unwrap();
    let server = duct::cmd!(program, "serve", "--data", data).unchecked().start().unwrap();
    let file = data.join("server.json");
    let json = loop {
        if let Ok(json) = std::fs::read(&file) {
            break json;
        }
        assert!(server.try_wait().unwrap().is_none(), "the server ended");
        std::thread::sleep(Duration::from_millis(10));
    };
    let json: Value = serde_json::from_slice(&json).unwrap();
    let port = u16::try_from(json["port"].as_u64().unwrap()).unwrap();
    std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    duct::cmd!("kill", "-TERM", json["pid"].to_string()).run().unwrap();
    assert_eq!(server.wait().unwrap().status.code(), Some(0));
    assert!(!file.exists());
}
