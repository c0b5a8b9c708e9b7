//! The client side of the pull-through cache: anonymous, like ECR with registries that need no secret.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use futures_util::StreamExt as _;
use http::{Method, StatusCode};
use reqwest::{Client, Response};
use tokio::sync::Mutex as AsyncMutex;
use url::Url;

use crate::digest;
use crate::manifest;
use crate::store::content::{Contents, Incoming};

/// Attempts for one layer, including the first. Each one continues where the last one stopped.
const TRIES: u32 = 4;

/// A repository at an upstream.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) host: String,
    pub(crate) repository: String,
}

/// Why an upstream request failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamError {
    #[error("{0}")]
    Client(String),
    #[error("{url} answered {status}")]
    Status { url: String, status: StatusCode },
    #[error("{url} sent bytes of digest {actual}")]
    Digest { url: String, actual: String },
    #[error("{url} sent a manifest of more than {most} bytes", most = manifest::MOST_BYTES)]
    TooLarge { url: String },
    #[error("the data directory cannot be used: {0}")]
    Disk(#[from] std::io::Error),
}

impl From<reqwest::Error> for UpstreamError {
    /// With its causes: reqwest's own text does not contain them.
    fn from(error: reqwest::Error) -> Self {
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(inner) = cause {
            text.push_str(": ");
            text.push_str(&inner.to_string());
            cause = inner.source();
        }
        Self::Client(text)
    }
}

/// All upstreams, by their host in rules.
pub(crate) struct Upstreams {
    routes: HashMap<String, Url>,
    client: OnceLock<Client>,
    direct: OnceLock<Client>,
    tokens: Mutex<HashMap<String, String>>,
    flights: Mutex<HashMap<String, Weak<AsyncMutex<()>>>>,
}

/// Docker Hub's registry has two names.
fn canonical(host: &str) -> &str {
    if matches!(host, "registry-1.docker.io" | "index.docker.io") { "docker.io" } else { host }
}

impl Upstreams {
    /// The upstreams at these addresses, by host.
    ///
    /// # Errors
    /// The host whose URL is invalid.
    pub(crate) fn new(routes: &[(String, String)]) -> Result<Self, String> {
        let routes = routes
            .iter()
            .map(|(host, text)| {
                Url::parse(text)
                    .ok()
                    .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
                    // A login in an address would be sent to every host that the client is referred to.
                    .filter(|url| url.username().is_empty() && url.password().is_none())
                    .map(|url| (canonical(host).to_owned(), url))
                    // Not the address: it may contain a password.
                    .ok_or_else(|| format!("{host}=..."))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            routes,
            client: OnceLock::new(),
            direct: OnceLock::new(),
            tokens: Mutex::new(HashMap::new()),
            flights: Mutex::new(HashMap::new()),
        })
    }

    /// One lock for each transfer in progress, so that a second request waits instead of starting another one.
    pub(crate) fn flight(&self, key: &str) -> Arc<AsyncMutex<()>> {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        flights.retain(|_, flight| flight.strong_count() > 0);
        if let Some(flight) = flights.get(key).and_then(Weak::upgrade) {
            return flight;
        }
        let flight = Arc::new(AsyncMutex::new(()));
        flights.insert(key.to_owned(), Arc::downgrade(&flight));
        flight
    }

    /// The client, created when first needed: most servers never contact an upstream. Loopback is never behind a proxy.
    fn client(&self, url: &Url) -> Result<&Client, UpstreamError> {
        let loopback = is_loopback(url);
        let place = if loopback { &self.direct } else { &self.client };
        if let Some(client) = place.get() {
            return Ok(client);
        }
        // An error only means that a provider is installed already.
        drop(rustls::crypto::ring::default_provider().install_default());
        let mut builder = Client::builder()
            .user_agent(concat!("local-aws/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(10))
            .read_timeout(Duration::from_secs(30));
        if loopback {
            builder = builder.no_proxy();
        }
        let client = builder.build()?;
        Ok(place.get_or_init(|| client))
    }

    fn url(&self, source: &Source, rest: &str) -> Result<Url, UpstreamError> {
        let host = canonical(&source.host);
        let invalid = |error: url::ParseError| UpstreamError::Client(format!("{host}: {error}"));
        let mut url = match self.routes.get(host) {
            Some(url) => url.clone(),
            None if host == "docker.io" => Url::parse("https://registry-1.docker.io").map_err(invalid)?,
            None => Url::parse(&format!("https://{host}")).map_err(invalid)?,
        };
        let prefix = url.path().trim_matches('/').to_owned();
        let separator = if prefix.is_empty() { "" } else { "/" };
        url.set_path(&format!("/v2/{prefix}{separator}{}/{rest}", source.repository));
        Ok(url)
    }

    /// Sends a request, with a token if the upstream requires one.
    async fn send(
        &self,
        method: Method,
        source: &Source,
        rest: &str,
        headers: &[(&str, String)],
    ) -> Result<Response, UpstreamError> {
        let url = self.url(source, rest)?;
        let client = self.client(&url)?;
        let key = format!("{}/{}", source.host, source.repository);
        let known = self.tokens.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        let request = |token: Option<&str>| {
            let mut request = client.request(method.clone(), url.clone());
            for (name, value) in headers {
                request = request.header(*name, value);
            }
            if let Some(token) = token {
                request = request.bearer_auth(token);
            }
            request.send()
        };
        let response = request(known.as_deref()).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let Some(token) = self.token(client, source, &response).await? else { return Ok(response) };
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).insert(key, token.clone());
        Ok(request(Some(&token)).await?)
    }

    /// An anonymous token from the address in the challenge.
    async fn token(
        &self,
        client: &Client,
        source: &Source,
        refused: &Response,
    ) -> Result<Option<String>, UpstreamError> {
        let challenge = refused
            .headers()
            .get("www-authenticate")
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let Some(parameters) = challenge.strip_prefix("Bearer ") else { return Ok(None) };
        let parameter = |name: &str| {
            let (_, rest) = parameters.split_once(&format!("{name}=\""))?;
            rest.split_once('"').map(|(value, _)| value.to_owned())
        };
        let Some(mut realm) = parameter("realm").and_then(|realm| Url::parse(&realm).ok()) else {
            return Ok(None);
        };
        // As careful as a client with a login: never to another host over plain http, never with a user name.
        let origin = refused.url();
        let stays = realm.host() == origin.host() || (is_loopback(&realm) && is_loopback(origin));
        let is_safe =
            realm.scheme() == "https" || (realm.scheme() == "http" && origin.scheme() == "http" && stays);
        if !is_safe || !realm.username().is_empty() || realm.password().is_some() {
            return Ok(None);
        }
        let scope = parameter("scope").unwrap_or_else(|| format!("repository:{}:pull", source.repository));
        realm.query_pairs_mut().append_pair("scope", &scope);
        if let Some(service) = parameter("service") {
            realm.query_pairs_mut().append_pair("service", &service);
        }
        let response = client.get(realm.clone()).send().await?;
        if !response.status().is_success() {
            return Err(UpstreamError::Status { url: shown(&realm), status: response.status() });
        }
        let document: serde_json::Value =
            serde_json::from_slice(&response.bytes().await?).map_err(|error| {
                UpstreamError::Client(format!("the token's document cannot be read: {error}"))
            })?;
        let named = ["token", "access_token"].map(|name| document[name].as_str().unwrap_or_default());
        Ok(named.into_iter().find(|token| !token.is_empty()).map(str::to_owned))
    }

    /// The digest of a tag at the upstream, by HEAD; `None`: no such image.
    pub(crate) async fn digest(&self, source: &Source, tag: &str) -> Result<Option<String>, UpstreamError> {
        let response = self.send(Method::HEAD, source, &format!("manifests/{tag}"), &accept()).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let url = shown(response.url());
        if !response.status().is_success() {
            return Err(UpstreamError::Status { url, status: response.status() });
        }
        let digest = response.headers().get("docker-content-digest").and_then(|value| value.to_str().ok());
        match digest.filter(|text| digest::is_valid(text)) {
            Some(digest) => Ok(Some(digest.to_owned())),
            None => Err(UpstreamError::Client(format!("{url} named no digest"))),
        }
    }

    /// A manifest with its media type; `None`: no such image.
    pub(crate) async fn manifest(
        &self,
        source: &Source,
        reference: &str,
    ) -> Result<Option<(Vec<u8>, String)>, UpstreamError> {
        let response = self.send(Method::GET, source, &format!("manifests/{reference}"), &accept()).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let url = shown(response.url());
        if !response.status().is_success() {
            return Err(UpstreamError::Status { url, status: response.status() });
        }
        let header = |name: &str| {
            response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        let (media_type, claimed) =
            (header("content-type").unwrap_or_default(), header("docker-content-digest"));
        let mut bytes = Vec::new();
        let mut chunks = response.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            bytes.extend_from_slice(&chunk?);
            if bytes.len() > manifest::MOST_BYTES {
                return Err(UpstreamError::TooLarge { url });
            }
        }
        let actual = digest::sha256(&bytes);
        let expected = if digest::is_valid(reference) { Some(reference) } else { claimed.as_deref() };
        if expected.is_some_and(|expected| expected != actual) {
            return Err(UpstreamError::Digest { url, actual });
        }
        Ok(Some((bytes, media_type)))
    }

    /// Streams a layer to the disk and returns its size. An interrupted download is continued with `Range`.
    pub(crate) async fn blob(
        &self,
        source: &Source,
        wanted: &str,
        contents: &Contents,
    ) -> Result<u64, UpstreamError> {
        let mut incoming = contents.begin()?;
        let mut tries = 1;
        while let Err(error) = self.blob_rest(source, wanted, &mut incoming, contents).await {
            let broke_off = matches!(error, UpstreamError::Client(_));
            if !broke_off || tries == TRIES {
                return Err(error);
            }
            tracing::info!(%error, digest = wanted, "the download goes on where it broke off");
            tries += 1;
        }
        let (size, actual) = (incoming.size(), incoming.digest());
        if actual != wanted {
            return Err(UpstreamError::Digest {
                url: format!("{}/{}", source.host, source.repository),
                actual,
            });
        }
        contents.commit(incoming, wanted)?;
        Ok(size)
    }

    async fn blob_rest(
        &self,
        source: &Source,
        wanted: &str,
        incoming: &mut Incoming,
        contents: &Contents,
    ) -> Result<(), UpstreamError> {
        let headers = match incoming.size() {
            0 => Vec::new(),
            have => vec![("range", format!("bytes={have}-"))],
        };
        let response = self.send(Method::GET, source, &format!("blobs/{wanted}"), &headers).await?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT => {}
            // The upstream does not support ranges: start again.
            StatusCode::OK if incoming.size() > 0 => *incoming = contents.begin()?,
            StatusCode::OK => {}
            status => {
                return Err(UpstreamError::Status { url: shown(response.url()), status });
            }
        }
        let mut chunks = response.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            incoming.write(&chunk?)?;
        }
        Ok(())
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// An address without its query, which may contain a signature.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.to_string()
}

fn accept() -> [(&'static str, String); 1] {
    let types =
        [manifest::OCI_INDEX, manifest::DOCKER_LIST, manifest::OCI_MANIFEST, manifest::DOCKER_MANIFEST];
    [("accept", types.join(", "))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_may_have_a_prefix() {
        let upstreams = Upstreams::new(&[
            ("public.ecr.aws".to_owned(), "http://127.0.0.1:5000/public.ecr.aws".to_owned()),
            ("docker.io".to_owned(), "http://127.0.0.1:5000/".to_owned()),
        ])
        .ok()
        .unwrap();
        let url = |host: &str, repository: &str| {
            let source = Source { host: host.to_owned(), repository: repository.to_owned() };
            upstreams.url(&source, "manifests/1").unwrap().to_string()
        };
        assert_eq!(
            url("public.ecr.aws", "sam/build"),
            "http://127.0.0.1:5000/v2/public.ecr.aws/sam/build/manifests/1"
        );
        assert_eq!(
            url("registry-1.docker.io", "library/x"),
            "http://127.0.0.1:5000/v2/library/x/manifests/1"
        );
        assert_eq!(url("quay.io", "a/b"), "https://quay.io/v2/a/b/manifests/1");
        for text in ["ftp://x", "http://me:hunter2@x", "x"] {
            assert!(Upstreams::new(&[("x".to_owned(), text.to_owned())]).is_err(), "{text}");
        }
    }
}
