//! A read-only registry for a [`Store`]: every upstream under its own path, so that a route such as `docker.io` to
//! `http://127.0.0.1:PORT/docker.io` reaches it.
//!
//! It implements the pull part of the [OCI distribution specification](https://github.com/opencontainers/distribution-spec), tag lists and
//! referrers (always empty). Registries in [`Config::token_registries`] require an anonymous token; Docker Hub also counts manifest GETs
//! and returns how many are left, as in [its documentation](https://docs.docker.com/docker-hub/usage/pulls/): HEAD is not counted.
//!
//! `/_local/requests` counts requests by kind (`oci HEAD manifest`), `/_local/log` lists them, `POST /_local/reset-requests` resets both.

mod body;
mod request;
mod tokens;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LINK, RANGE, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::store::Repository;
use crate::{Error, Store};
use body::Body;
use request::{Kind, Parsed, bearer, parse_range, query};
use tokens::Tokens;

/// How many requests `/_local/log` keeps.
const LOG_LINES: usize = 10_000;

/// The window of Docker Hub's pull limit, in seconds.
const LIMIT_WINDOW: u64 = 21_600;

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// The registry that counts pulls.
const DOCKER_HUB: &str = "docker.io";

/// Settings of the server.
#[derive(Clone, Debug)]
pub struct Config {
    /// Port on 127.0.0.1; 0 lets the kernel choose.
    pub port: u16,
    /// Registries whose manifests and blobs require a token.
    pub token_registries: BTreeSet<String>,
    /// Lifetime of a token.
    pub token_lifetime: Duration,
    /// How many manifest GETs Docker Hub allows before it answers 429.
    pub pull_limit: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            port: 0,
            token_registries: [DOCKER_HUB.to_owned()].into(),
            token_lifetime: Duration::from_secs(300),
            pull_limit: 100,
        }
    }
}

/// A running server; it stops when dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    /// Listens on 127.0.0.1 and serves `store`.
    ///
    /// # Errors
    /// The port is in use.
    pub async fn start(store: Store, config: Config) -> Result<Self, Error> {
        let address = SocketAddr::from(([127, 0, 0, 1], config.port));
        let failed = |source| Error::Listen { address: address.to_string(), source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let state = Arc::new(State {
            store,
            tokens: Tokens::new(config.token_lifetime),
            config,
            pulls: AtomicU64::new(0),
            requests: Mutex::default(),
        });
        let task = tokio::spawn(async move {
            // Connections end with the server: a stopped upstream must not answer on a kept-alive connection.
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    Some(_) = connections.join_next() => continue,
                };
                // For example out of file descriptors: they are released when connections end.
                let Ok((stream, _)) = accepted else {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                };
                let state = Arc::clone(&state);
                connections.spawn(async move {
                    let service = service_fn(move |request| {
                        let state = Arc::clone(&state);
                        async move { Ok::<_, Infallible>(state.answer(&request)) }
                    });
                    // An error here means that the client closed the connection.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .timer(TokioTimer::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Ok(Self { address, task })
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Debug, Default)]
struct Requests {
    counts: BTreeMap<String, u64>,
    log: VecDeque<String>,
}

#[derive(Debug)]
struct State {
    store: Store,
    config: Config,
    tokens: Tokens,
    pulls: AtomicU64,
    requests: Mutex<Requests>,
}

type Answer = Response<Body>;

impl State {
    fn answer(&self, request: &Request<Incoming>) -> Answer {
        let path = request.uri().path();
        match (request.method(), path) {
            (&Method::GET, "/_local/requests") => {
                return json_answer(StatusCode::OK, &json!(self.requests().counts));
            }
            (&Method::GET, "/_local/log") => return json_answer(StatusCode::OK, &json!(self.requests().log)),
            (&Method::POST, "/_local/reset-requests") => {
                *self.requests() = Requests::default();
                return json_answer(StatusCode::OK, &json!({}));
            }
            _ => {}
        }
        let method = request.method().as_str();
        let target = request.uri().path_and_query().map_or(path, |target| target.as_str());
        if path == "/token" {
            self.count("oci GET token".to_owned(), format!("{method} {target}"));
            return self.token(request);
        }
        let Some(rest) = path.strip_prefix("/v2/") else {
            self.count(format!("oci {method} unknown"), format!("{method} {target}"));
            return oci_error(StatusCode::NOT_FOUND, "UNSUPPORTED", "no such path");
        };
        let kind = if rest.is_empty() {
            "ping"
        } else {
            Kind::parse(rest).map_or("unknown", |(_, kind)| kind.name())
        };
        self.count(format!("oci {method} {kind}"), format!("{method} {target}"));
        if rest.is_empty() {
            return self.ping(request);
        }
        let Some((repository, kind)) = Kind::parse(rest) else {
            return oci_error(StatusCode::NOT_FOUND, "NAME_UNKNOWN", "no such path");
        };
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return oci_error(
                StatusCode::METHOD_NOT_ALLOWED,
                "UNSUPPORTED",
                "the sample upstreams are read-only",
            );
        }
        let registry = repository.split('/').next().unwrap_or_default();
        if self.config.token_registries.contains(registry) && !self.tokens.allow(bearer(request), repository)
        {
            return self.unauthorized(request, Some(repository));
        }
        let contents = match self.store.contents() {
            Ok(contents) => contents,
            Err(error) => {
                return oci_error(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", &error.to_string());
            }
        };
        let Some(found) = contents.repositories.get(repository) else {
            let message = format!("no sample repository {repository}");
            return oci_error(StatusCode::NOT_FOUND, "NAME_UNKNOWN", &message);
        };
        match kind {
            Kind::Manifest(reference) if registry == DOCKER_HUB => self.limited(request, found, reference),
            Kind::Manifest(reference) => self.manifest(request, found, reference),
            Kind::Blob(digest) if found.blobs.contains(digest) => {
                self.file(request, digest, "application/octet-stream")
            }
            Kind::Blob(_) => oci_error(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", "blob unknown to registry"),
            Kind::Tags => tags(request, repository, found),
            Kind::Referrers => {
                let none = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [] });
                let builder = Response::builder().header(CONTENT_TYPE, OCI_INDEX);
                finish(builder, Body::full(none.to_string().into()))
            }
        }
    }

    fn manifest(&self, request: &Request<Incoming>, repository: &Repository, reference: &str) -> Answer {
        let digest = repository.tags.get(reference).map_or(reference, String::as_str);
        match repository.manifests.get(digest) {
            Some(media_type) => self.file(request, digest, media_type),
            None => oci_error(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", "manifest unknown"),
        }
    }

    /// A manifest of Docker Hub: every GET counts as a pull, and every answer has the number left.
    fn limited(&self, request: &Request<Incoming>, repository: &Repository, reference: &str) -> Answer {
        let limit = self.config.pull_limit;
        let pull = request.method() == Method::GET;
        let used = self.pulls.fetch_add(u64::from(pull), Ordering::Relaxed) + u64::from(pull);
        let mut answer = if pull && used > limit {
            let message = "You have reached your unauthenticated pull rate limit.";
            let mut answer = oci_error(StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS", message);
            answer.headers_mut().insert(RETRY_AFTER, LIMIT_WINDOW.into());
            answer
        } else {
            self.manifest(request, repository, reference)
        };
        for (name, count) in [("ratelimit-limit", limit), ("ratelimit-remaining", limit.saturating_sub(used))]
        {
            if let Ok(value) = format!("{count};w={LIMIT_WINDOW}").parse() {
                answer.headers_mut().insert(name, value);
            }
        }
        answer.headers_mut().insert("docker-ratelimit-source", http::HeaderValue::from_static("127.0.0.1"));
        answer
    }

    fn file(&self, request: &Request<Incoming>, digest: &str, media_type: &str) -> Answer {
        let opened = std::fs::File::open(self.store.blob(digest))
            .and_then(|file| file.metadata().map(|metadata| (file, metadata.len())));
        let Ok((file, size)) = opened else {
            return oci_error(
                StatusCode::INTERNAL_SERVER_ERROR,
                "UNKNOWN",
                "the sample images' directory is damaged",
            );
        };
        let range = request.headers().get(RANGE).and_then(|value| value.to_str().ok());
        let builder = Response::builder()
            .header(CONTENT_TYPE, media_type)
            .header("docker-content-digest", digest)
            .header(ACCEPT_RANGES, "bytes");
        let (builder, start, length) = match range.map(|range| parse_range(range, size)) {
            // For several ranges or another unit, the whole content is a valid answer.
            None | Some(Parsed::Ignored) => (builder.status(StatusCode::OK), 0, size),
            Some(Parsed::Part { start, end }) => (
                builder
                    .status(StatusCode::PARTIAL_CONTENT)
                    .header(CONTENT_RANGE, format!("bytes {start}-{end}/{size}")),
                start,
                end - start + 1,
            ),
            Some(Parsed::Unsatisfiable) => {
                let mut answer =
                    oci_error(StatusCode::RANGE_NOT_SATISFIABLE, "RANGE_INVALID", "range not satisfiable");
                if let Ok(value) = format!("bytes */{size}").parse() {
                    answer.headers_mut().insert(CONTENT_RANGE, value);
                }
                return answer;
            }
        };
        let body =
            if request.method() == Method::HEAD { Body::empty() } else { Body::file(file, start, length) };
        finish(builder.header(CONTENT_LENGTH, length), body)
    }

    fn ping(&self, request: &Request<Incoming>) -> Answer {
        let open = self.config.token_registries.is_empty() || self.tokens.known(bearer(request));
        if open { json_answer(StatusCode::OK, &json!({})) } else { self.unauthorized(request, None) }
    }

    fn unauthorized(&self, request: &Request<Incoming>, repository: Option<&str>) -> Answer {
        let host = request.headers().get("host").and_then(|host| host.to_str().ok()).unwrap_or("127.0.0.1");
        let scope = repository.map(|name| format!(",scope=\"repository:{name}:pull\"")).unwrap_or_default();
        let challenge = format!("Bearer realm=\"http://{host}/token\",service=\"sample-upstreams\"{scope}");
        let mut answer = oci_error(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "authentication required");
        if let Ok(challenge) = challenge.parse() {
            answer.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        answer
    }

    fn token(&self, request: &Request<Incoming>) -> Answer {
        let scopes =
            query(request).filter(|(key, _)| *key == "scope").map(|(_, value)| value).collect::<Vec<_>>();
        let token = self.tokens.issue(&scopes.join(" "));
        let lifetime = self.config.token_lifetime.as_secs();
        json_answer(StatusCode::OK, &json!({ "token": token, "access_token": token, "expires_in": lifetime }))
    }

    fn requests(&self) -> std::sync::MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, kind: String, line: String) {
        let mut requests = self.requests();
        *requests.counts.entry(kind).or_default() += 1;
        if requests.log.len() == LOG_LINES {
            requests.log.pop_front();
        }
        requests.log.push_back(line);
    }
}

fn tags(request: &Request<Incoming>, path: &str, repository: &Repository) -> Answer {
    let mut limit = usize::MAX;
    let mut last = String::new();
    for (key, value) in query(request) {
        match key {
            "n" => limit = value.parse().unwrap_or(usize::MAX),
            "last" => last = value,
            _ => {}
        }
    }
    let mut rest = repository.tags.keys().filter(|tag| **tag > last);
    let page: Vec<&String> = rest.by_ref().take(limit).collect();
    let more = rest.next().is_some();
    let mut answer = json_answer(StatusCode::OK, &json!({ "name": path, "tags": page }));
    if more
        && let Some(last) = page.last()
        && let Ok(link) = format!("</v2/{path}/tags/list?n={limit}&last={last}>; rel=\"next\"").parse()
    {
        answer.headers_mut().insert(LINK, link);
    }
    answer
}

fn oci_error(status: StatusCode, code: &str, message: &str) -> Answer {
    json_answer(status, &json!({ "errors": [{ "code": code, "message": message }] }))
}

fn json_answer(status: StatusCode, document: &Value) -> Answer {
    let bytes = Bytes::from(document.to_string());
    let builder = Response::builder().status(status).header(CONTENT_TYPE, "application/json");
    finish(builder, Body::full(bytes))
}

fn finish(builder: http::response::Builder, body: Body) -> Answer {
    builder.body(body).unwrap_or_else(|_| {
        // An invalid header: only a damaged store can have such a media type.
        let mut answer = Response::new(Body::empty());
        *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        answer
    })
}
