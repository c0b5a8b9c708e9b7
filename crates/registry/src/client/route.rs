//! Where a registry is reached.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use url::Url;

use crate::auth::Server;
use crate::error::ErrorKind;
use crate::net::location;
use crate::reference::{DOCKER_HUB, Reference};

/// Docker Hub's name is not its address.
const DOCKER_HUB_ADDRESS: &str = "registry-1.docker.io";

/// Where a registry is reached, and what is known of the server there.
#[must_use]
#[derive(Clone, Debug, Default)]
pub struct Route {
    url: Option<String>,
    counts_pulls: bool,
    blob_hosts: Vec<String>,
}

impl Route {
    /// At `url`, which may carry a path: with `https://mirror.example/hub`, repository `a/b` is `/v2/hub/a/b` there. This is
    /// the only way to plain http to another machine. With [`Route::default`], a registry's name is its address.
    pub fn to(url: &str) -> Self {
        Self { url: Some(url.to_owned()), ..Self::default() }
    }

    /// The server passes on Docker Hub's count of pulls that are left: it is a mirror of Docker Hub.
    pub fn counts_pulls(mut self) -> Self {
        self.counts_pulls = true;
        self
    }

    /// Blobs may also come from `host` (with its port, if any) by plain http: an object store in the same network.
    pub fn blob_host(mut self, host: &str) -> Self {
        self.blob_hosts.push(host.to_ascii_lowercase());
        self
    }
}

impl From<&str> for Route {
    fn from(url: &str) -> Self {
        Self::to(url)
    }
}

impl From<&String> for Route {
    fn from(url: &String) -> Self {
        Self::to(url)
    }
}

/// A registry's address, and the path that its repositories are below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// Scheme, host and port.
    pub(crate) origin: Url,
    /// Put before each repository; empty, or without a slash at its ends.
    prefix: String,
}

/// A [`Route`] with a parsed address.
#[derive(Debug)]
struct Named {
    address: Option<Arc<Address>>,
    counts_pulls: bool,
    blob_hosts: Vec<String>,
}

/// The routes that the user named; the name of any other registry is its address.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    named: HashMap<String, Named>,
    /// Addresses of other registries: each is parsed once, not for each request.
    own: RwLock<HashMap<String, Arc<Address>>>,
}

impl Routes {
    pub(crate) fn insert(&mut self, registry: &str, route: Route) -> Result<(), ErrorKind> {
        let Route { url, counts_pulls, blob_hosts } = route;
        let address = url.map(|url| Address::named(&url)).transpose()?.map(Arc::new);
        self.named.insert(registry.to_owned(), Named { address, counts_pulls, blob_hosts });
        Ok(())
    }

    fn address(&self, registry: &str) -> Option<&Arc<Address>> {
        self.named.get(registry)?.address.as_ref()
    }

    /// Whether the registry is Docker Hub, or passes on its count of pulls.
    pub(crate) fn counts_pulls(&self, registry: &str) -> bool {
        let is_docker_hub = match self.address(registry) {
            Some(address) => Server::at(&address.origin).is_docker_hub(),
            None => registry == DOCKER_HUB,
        };
        is_docker_hub || self.named.get(registry).is_some_and(|route| route.counts_pulls)
    }

    /// Where blobs of `registry` may come from by plain http.
    pub(crate) fn plain_hosts(&self, registry: &str) -> location::Plain<'_> {
        let hosts = self.named.get(registry).map_or(&[][..], |route| &route.blob_hosts);
        location::Plain {
            is_plain: self.address(registry).is_some_and(|address| address.origin.scheme() == "http"),
            hosts: hosts.iter().map(String::as_str).collect(),
        }
    }

    /// The address of `registry`: the user's route, otherwise https, or http on this machine.
    pub(crate) fn get(&self, registry: &str) -> Result<Arc<Address>, ErrorKind> {
        if let Some(address) = self.address(registry) {
            return Ok(Arc::clone(address));
        }
        if let Some(address) = self.own.read().unwrap_or_else(PoisonError::into_inner).get(registry) {
            return Ok(Arc::clone(address));
        }
        let address = Arc::new(Address::own(registry)?);
        let mut own = self.own.write().unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::clone(own.entry(registry.to_owned()).or_insert(address)))
    }
}

impl Address {
    /// The address that a user has named.
    fn named(url: &str) -> Result<Self, ErrorKind> {
        let refused = |reason| ErrorKind::UnsafeLocation { url: location::shown(url), reason };
        let mut origin = Url::parse(url).map_err(|_| refused("it is not a URL"))?;
        if !matches!(origin.scheme(), "http" | "https") || origin.host_str().is_none() {
            return Err(refused("a route is an http or https address"));
        }
        if !origin.username().is_empty() || origin.password().is_some() || origin.query().is_some() {
            return Err(refused("a route has neither user name nor query"));
        }
        let prefix = origin.path().trim_matches('/').to_owned();
        origin.set_path("/");
        Ok(Self { origin, prefix })
    }

    /// The address that a registry's name means.
    fn own(registry: &str) -> Result<Self, ErrorKind> {
        let address = if registry == DOCKER_HUB { DOCKER_HUB_ADDRESS } else { registry };
        let malformed = |_| ErrorKind::Protocol(format!("`{registry}` is not a host"));
        let mut origin = Url::parse(&format!("https://{address}/")).map_err(malformed)?;
        if location::is_loopback(&origin) {
            origin = Url::parse(&format!("http://{address}/")).map_err(malformed)?;
        }
        Ok(Self { origin, prefix: String::new() })
    }

    /// The repository's path at the server.
    pub(crate) fn repository(&self, repository: &str) -> String {
        match self.prefix.as_str() {
            "" => repository.to_owned(),
            prefix => format!("{prefix}/{repository}"),
        }
    }

    /// `/v2/<repository>/<tail>` at the server.
    pub(crate) fn url(&self, reference: &Reference, tail: &str) -> Url {
        let mut url = self.origin.clone();
        url.set_path(&format!("/v2/{}/{tail}", self.repository(reference.repository())));
        url
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(routes: &Routes, reference: &str) -> String {
        let reference: Reference = reference.parse().unwrap();
        routes.get(reference.registry()).unwrap().url(&reference, "tags/list").to_string()
    }

    #[test]
    fn registries_use_https_and_loopback_http() {
        let routes = Routes::default();
        assert_eq!(url(&routes, "curl"), "https://registry-1.docker.io/v2/library/curl/tags/list");
        assert_eq!(url(&routes, "h.example:5000/a"), "https://h.example:5000/v2/a/tags/list");
        assert_eq!(url(&routes, "127.0.0.1:5000/a"), "http://127.0.0.1:5000/v2/a/tags/list");
        assert_eq!(url(&routes, "localhost:5000/a"), "http://localhost:5000/v2/a/tags/list");
        assert_eq!(url(&routes, "[::1]:5000/a"), "http://[::1]:5000/v2/a/tags/list");
        assert_eq!(url(&routes, "10.0.0.1:5000/a"), "https://10.0.0.1:5000/v2/a/tags/list");
    }

    #[test]
    fn a_route_may_have_a_path() {
        let mut routes = Routes::default();
        routes.insert("docker.io", Route::to("http://mirror.example:81/docker.io/")).unwrap();
        assert_eq!(url(&routes, "a/b"), "http://mirror.example:81/v2/docker.io/a/b/tags/list");
    }

    #[test]
    fn an_invalid_address_is_refused_as_a_route() {
        for text in ["", "mirror", "ftp://a/", "http://u:p@a/", "https://a/?x=1", "file:///etc"] {
            let error = Routes::default().insert("a", Route::to(text)).expect_err(text);
            assert!(!error.to_string().contains("u:p"), "{error}");
        }
    }
}
