//! The pull-through cache, with an upstream that requires a token, counts its requests, and breaks connections if told to.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::{Caller, DOCKER_MANIFEST, Local, OCI_INDEX, client, digest, header, manifest, oci_error};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use reqwest::Method;
use serde_json::json;

#[derive(Default)]
struct Content {
    manifests: BTreeMap<String, (String, Vec<u8>)>,
    blobs: BTreeMap<String, Vec<u8>>,
    asked: BTreeMap<String, usize>,
    /// The number of blob downloads that are still to be broken off.
    break_blobs: usize,
    gone: bool,
}

/// An upstream below a path prefix, as set with `--upstream HOST=URL/prefix`.
#[derive(Clone)]
struct Upstream {
    content: Arc<Mutex<Content>>,
    address: SocketAddr,
}

type Body = BoxBody<Bytes, std::io::Error>;

fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

impl Upstream {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = Self { content: Arc::default(), address: listener.local_addr().unwrap() };
        let serving = upstream.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let serving = serving.clone();
                tokio::spawn(async move {
                    let service = hyper::service::service_fn(|request| {
                        let answer = serving.answer(&request);
                        async move { Ok::<_, Infallible>(answer) }
                    });
                    // A connection that is closed on purpose ends with an error.
                    drop(
                        hyper::server::conn::http1::Builder::new()
                            .serve_connection(TokioIo::new(stream), service)
                            .await,
                    );
                });
            }
        });
        upstream
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Body> {
        let mut content = self.content.lock().unwrap();
        let path = request.uri().path().to_owned();
        let reply = |status: u16| Response::builder().status(status);
        if content.gone {
            return reply(503).body(full("")).unwrap();
        }
        if path == "/token" {
            *content.asked.entry("token".to_owned()).or_default() += 1;
            return reply(200).body(full("{\"token\":\"anonymous\"}")).unwrap();
        }
        if request.headers().get("authorization").is_none_or(|value| value != "Bearer anonymous") {
            let challenge = format!("Bearer realm=\"http://{}/token\",service=\"upstream\"", self.address);
            return reply(401).header("www-authenticate", challenge).body(full("")).unwrap();
        }
        let (kind, name) = path.rsplit_once('/').unwrap();
        let kind = if kind.ends_with("manifests") { "manifest" } else { "blob" };
        assert!(path.starts_with("/v2/prefix/team/base/"), "{path}");
        *content.asked.entry(format!("{} {kind}", request.method())).or_default() += 1;
        if kind == "manifest" {
            let Some((media_type, bytes)) = content.manifests.get(name) else {
                return reply(404).body(full("")).unwrap();
            };
            let body = if request.method() == Method::HEAD { Vec::new() } else { bytes.clone() };
            let reply =
                reply(200).header("content-type", media_type).header("docker-content-digest", digest(bytes));
            return reply.body(full(body)).unwrap();
        }
        let Some(bytes) = content.blobs.get(name).cloned() else { return reply(404).body(full("")).unwrap() };
        let first = request.headers().get("range").and_then(|value| {
            value.to_str().ok()?.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok()
        });
        let status = if first.is_some() { 206 } else { 200 };
        let rest = bytes[first.unwrap_or(0)..].to_vec();
        if content.break_blobs > 0 && bytes.len() > 1000 {
            content.break_blobs -= 1;
            let half = Bytes::from(rest[..rest.len() / 2].to_vec());
            let frames =
                futures_util::stream::iter([Ok(Frame::data(half)), Err(std::io::Error::other("broken off"))]);
            let reply = reply(status).header("content-length", rest.len());
            return reply.body(StreamBody::new(frames).boxed()).unwrap();
        }
        reply(status).body(full(rest)).unwrap()
    }

    fn with<T>(&self, change: impl FnOnce(&mut Content) -> T) -> T {
        change(&mut self.content.lock().unwrap())
    }

    fn asked(&self, what: &str) -> usize {
        self.with(|content| content.asked.get(what).copied().unwrap_or(0))
    }

    /// Serves an index of two platforms under a tag.
    fn publish(&self, tag: &str, layers: [&[u8]; 2]) -> String {
        self.with(|content| {
            content.blobs.insert(digest(b"{}"), b"{}".to_vec());
            let mut children = Vec::new();
            for (layer, architecture) in layers.into_iter().zip(["amd64", "arm64"]) {
                content.blobs.insert(digest(layer), layer.to_vec());
                let bytes = manifest(layer);
                children.push(json!({
                    "mediaType": DOCKER_MANIFEST, "digest": digest(&bytes), "size": bytes.len(),
                    "platform": { "os": "linux", "architecture": architecture },
                }));
                content.manifests.insert(digest(&bytes), (DOCKER_MANIFEST.to_owned(), bytes));
            }
            let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children })
                .to_string()
                .into_bytes();
            let digest = digest(&index);
            content.manifests.insert(digest.clone(), (OCI_INDEX.to_owned(), index.clone()));
            content.manifests.insert(tag.to_owned(), (OCI_INDEX.to_owned(), index));
            digest
        })
    }
}

async fn start(refresh: Duration) -> (Upstream, Local, Caller) {
    let upstream = Upstream::start().await;
    let url = format!("http://{}/prefix", upstream.address);
    let local = Local::with(|config| {
        config.upstreams = vec![("public.ecr.aws".to_owned(), url)];
        config.pull_through_refresh = refresh;
    });
    let caller = local.caller();
    (upstream, local, caller)
}

async fn rule(caller: &Caller) {
    caller
        .ecr(
            "CreatePullThroughCacheRule",
            json!({ "ecrRepositoryPrefix": "ecr-public", "upstreamRegistryUrl": "public.ecr.aws" }),
        )
        .await;
}

const DAY: Duration = Duration::from_secs(24 * 3600);
const MANIFESTS: &str = "ecr-public/team/base/manifests";

#[tokio::test]
async fn without_a_rule_the_name_is_unknown() {
    let (upstream, _local, caller) = start(DAY).await;
    upstream.publish("1", [b"a", b"b"]);
    let (status, code, message) =
        oci_error(caller.registry().await.get(&format!("{MANIFESTS}/1")).await).await;
    assert_eq!((status, code.as_str()), (404, "NAME_UNKNOWN"));
    assert!(
        message.contains("'ecr-public/team/base' does not exist in the registry with id '123456789012'"),
        "{message}"
    );
}

#[tokio::test]
async fn a_pull_by_tag_caches_repository_index_child_and_layers() {
    let (upstream, local, caller) = start(DAY).await;
    let layer: Vec<u8> = (0..2_000_000_u32).map(|i| i.to_le_bytes()[0]).collect();
    let index = upstream.publish("1", [&layer, b"other"]);
    rule(&caller).await;
    let registry = caller.registry().await;

    // The first pull by digest finds no repository, and creates none.
    let refused = oci_error(registry.get(&format!("{MANIFESTS}/{index}")).await).await;
    assert_eq!((refused.0, refused.1.as_str()), (404, "NAME_UNKNOWN"));
    assert_eq!(upstream.asked("GET manifest"), 0);

    let head = registry.head(&format!("{MANIFESTS}/1")).await;
    assert_eq!(header(&head, "docker-content-digest"), index);
    let log = local.local(Method::GET, "log", None).await;
    let iam = &log.as_array().unwrap().last().unwrap()["iam"];
    assert_eq!(*iam, json!(["ecr:BatchGetImage", "ecr:BatchImportUpstreamImage", "ecr:CreateRepository"]));
    let repositories = caller.ecr("DescribeRepositories", json!({})).await;
    assert_eq!(repositories["repositories"][0]["repositoryName"], "ecr-public/team/base");
    assert_eq!(registry.get(&format!("{MANIFESTS}/{index}")).await.status(), 200);

    // The download breaks off twice and is resumed.
    upstream.with(|content| content.break_blobs = 2);
    let child = digest(&manifest(&layer));
    assert_eq!(registry.get(&format!("{MANIFESTS}/{child}")).await.bytes().await.unwrap(), manifest(&layer));
    let blob = registry.get(&format!("ecr-public/team/base/blobs/{}", digest(&layer))).await;
    assert_eq!(blob.status(), 307);
    let bytes = client().get(header(&blob, "location")).send().await.unwrap().bytes().await.unwrap();
    assert_eq!(digest(&bytes), digest(&layer));
    assert_eq!(upstream.with(|content| content.break_blobs), 0);

    let before = upstream.asked("GET manifest");
    for _ in 0..3 {
        assert_eq!(registry.get(&format!("{MANIFESTS}/1")).await.status(), 200);
    }
    assert_eq!(
        (upstream.asked("GET manifest"), upstream.asked("HEAD manifest")),
        (before, 0),
        "cached for a day"
    );
    assert_eq!(upstream.asked("token"), 1);

    // Cached content stays after its upstream and this server have ended.
    upstream.with(|content| content.gone = true);
    let data = local.dir.path().to_owned();
    local.server.stop();
    let again = local_aws::Server::start(local_aws::Config::new(&data)).unwrap();
    let caller = Caller { url: again.url(), ..caller };
    let registry = caller.registry().await;
    assert_eq!(registry.get(&format!("{MANIFESTS}/1")).await.status(), 200);
    assert_eq!(registry.get(&format!("ecr-public/team/base/blobs/{}", digest(&layer))).await.status(), 307);
}

#[tokio::test]
async fn an_old_tag_is_checked_and_follows_the_upstream() {
    let (upstream, _local, caller) = start(Duration::ZERO).await;
    let old = upstream.publish("1", [b"a", b"b"]);
    rule(&caller).await;
    let registry = caller.registry().await;
    let digest_now =
        async || header(&registry.head(&format!("{MANIFESTS}/1")).await, "docker-content-digest");
    assert_eq!(digest_now().await, old);
    assert_eq!(digest_now().await, old);
    assert_eq!(
        (upstream.asked("GET manifest"), upstream.asked("HEAD manifest")),
        (1, 1),
        "unchanged costs a HEAD"
    );
    let new = upstream.publish("1", [b"a", b"c"]);
    assert_eq!(digest_now().await, new);
    upstream.with(|content| content.gone = true);
    assert_eq!(digest_now().await, new, "served while the upstream is away");
    let (status, code, _) = oci_error(registry.get(&format!("{MANIFESTS}/2")).await).await;
    assert_eq!((status, code.as_str()), (502, "UPSTREAM_UNAVAILABLE"));
}

#[tokio::test]
async fn simultaneous_pulls_request_the_upstream_once() {
    let (upstream, _local, caller) = start(DAY).await;
    upstream.publish("1", [b"a", b"b"]);
    rule(&caller).await;
    let registry = caller.registry().await;
    let child = digest(&manifest(b"a"));
    for path in [
        format!("{MANIFESTS}/1"),
        format!("{MANIFESTS}/{child}"),
        format!("ecr-public/team/base/blobs/{}", digest(b"a")),
    ] {
        let pulls: Vec<_> = (0..8)
            .map(|_| {
                let (registry, path) = (registry.clone(), path.clone());
                tokio::spawn(async move { registry.get(&path).await.status().as_u16() })
            })
            .collect();
        for pull in pulls {
            assert!(matches!(pull.await.unwrap(), 200 | 307), "{path}");
        }
    }
    assert_eq!(upstream.asked("GET manifest"), 2);
    // The layer and the configuration, which follows by itself or is not there yet.
    assert!(upstream.asked("GET blob") <= 2, "{}", upstream.asked("GET blob"));
}

#[tokio::test]
async fn wrong_bytes_are_not_cached() {
    let (upstream, _local, caller) = start(DAY).await;
    upstream.publish("1", [b"a", b"b"]);
    upstream.with(|content| content.blobs.insert(digest(b"a"), b"x".to_vec()));
    rule(&caller).await;
    let registry = caller.registry().await;
    registry.get(&format!("{MANIFESTS}/1")).await;
    registry.get(&format!("{MANIFESTS}/{}", digest(&manifest(b"a")))).await;
    let (status, _, message) =
        oci_error(registry.get(&format!("ecr-public/team/base/blobs/{}", digest(b"a"))).await).await;
    assert_eq!(status, 502);
    assert!(message.contains(&digest(b"x")), "{message}");
    assert_eq!(registry.get(&format!("{MANIFESTS}/nosuch")).await.status(), 404);
}

#[tokio::test]
async fn rules_are_created_described_and_deleted() {
    let (_upstream, _local, caller) = start(DAY).await;
    rule(&caller).await;
    let again = json!({ "ecrRepositoryPrefix": "ecr-public", "upstreamRegistryUrl": "public.ecr.aws" });
    assert_eq!(
        caller.ecr_refused("CreatePullThroughCacheRule", again).await.0,
        "PullThroughCacheRuleAlreadyExistsException"
    );
    let hub = json!({ "ecrRepositoryPrefix": "docker-hub", "upstreamRegistryUrl": "registry-1.docker.io" });
    assert!(caller.ecr_refused("CreatePullThroughCacheRule", hub).await.1.contains("Secrets Manager"));
    let unknown = json!({ "ecrRepositoryPrefix": "other", "upstreamRegistryUrl": "registry.example.com" });
    assert_eq!(
        caller.ecr_refused("CreatePullThroughCacheRule", unknown).await.0,
        "UnsupportedUpstreamRegistryException"
    );
    let quay = json!({ "ecrRepositoryPrefix": "quay", "upstreamRegistryUrl": "quay.io" });
    caller.ecr("CreatePullThroughCacheRule", quay).await;
    let page = caller.ecr("DescribePullThroughCacheRules", json!({ "maxResults": 1 })).await;
    assert_eq!(page["pullThroughCacheRules"][0]["upstreamRegistry"], "ecr-public");
    let next = caller
        .ecr("DescribePullThroughCacheRules", json!({ "maxResults": 1, "nextToken": page["nextToken"] }))
        .await;
    assert_eq!(next["pullThroughCacheRules"][0]["ecrRepositoryPrefix"], "quay");
    assert!(next.get("nextToken").is_none());
    caller.ecr("DeletePullThroughCacheRule", json!({ "ecrRepositoryPrefix": "quay" })).await;
    let (code, _) = caller
        .ecr_refused("DescribePullThroughCacheRules", json!({ "ecrRepositoryPrefixes": ["quay"] }))
        .await;
    assert_eq!(code, "PullThroughCacheRuleNotFoundException");
}
