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

/// A registry's address, and the path that its repositories stand under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// Scheme, host and port.
    pub(crate) origin: Url,
    /// Put before each repository; empty, or without a slash at its ends.
    prefix: String,
}

/// The routes that the user named; any other registry is its own address.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    named: HashMap<String, Arc<Route>>,
    /// The others that were asked for: an address is parsed once, not for each request.
    others: RwLock<HashMap<String, Arc<Route>>>,
    /// Registries whose route leads to a mirror that counts Docker Hub's pulls.
    counting: Vec<String>,
    /// Registries, and hosts that may send their blobs by plain http.
    blob_hosts: Vec<(String, String)>,
}

impl Routes {
    pub(crate) fn insert(&mut self, registry: &str, url: &str) -> Result<(), ErrorKind> {
        let refused = |reason| ErrorKind::UnsafeLocation { url: crate::digest::excerpt(url), reason };
        let url = Url::parse(url).map_err(|_| refused("it is no URL"))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(refused("a route is an http or https address"));
        }
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
            return Err(refused("a route has neither user name nor query"));
        }
        let prefix = url.path().trim_matches('/').to_owned();
        let mut origin = url;
        origin.set_path("/");
        self.named.insert(registry.to_owned(), Arc::new(Route { origin, prefix }));
        Ok(())
    }

    pub(crate) fn counting(&mut self, registries: Vec<String>) {
        self.counting = registries;
    }

    pub(crate) fn blob_hosts(&mut self, hosts: Vec<(String, String)>) {
        self.blob_hosts = hosts;
    }

    /// Whether what the registry says of pulls is Docker Hub's own word.
    pub(crate) fn counts_pulls(&self, registry: &str) -> bool {
        let is_known = || self.counting.iter().any(|counting| counting == registry);
        match self.named.get(registry) {
            Some(route) => Server::at(&route.origin).is_docker_hub() || is_known(),
            None => registry == DOCKER_HUB || is_known(),
        }
    }

    /// Where blobs of `registry` may come from by plain http.
    pub(crate) fn plain_hosts(&self, registry: &str) -> location::Plain<'_> {
        let named = self.named.get(registry).map(|route| &route.origin);
        let hosts = self.blob_hosts.iter().filter(|(of, _)| of == registry).map(|(_, host)| host.as_str());
        location::Plain {
            is_plain: named.is_some_and(|origin| origin.scheme() == "http"),
            hosts: hosts.collect(),
        }
    }

    /// The route to `registry`: the user's, else https, else (on this machine alone) http.
    pub(crate) fn get(&self, registry: &str) -> Result<Arc<Route>, ErrorKind> {
        if let Some(route) = self.named.get(registry) {
            return Ok(Arc::clone(route));
        }
        if let Some(route) = self.others.read().unwrap_or_else(PoisonError::into_inner).get(registry) {
            return Ok(Arc::clone(route));
        }
        let route = Arc::new(Self::own(registry)?);
        let mut others = self.others.write().unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::clone(others.entry(registry.to_owned()).or_insert(route)))
    }

    /// A registry as its own address.
    fn own(registry: &str) -> Result<Route, ErrorKind> {
        let address = if registry == DOCKER_HUB { DOCKER_HUB_ADDRESS } else { registry };
        let malformed = |_| ErrorKind::Protocol(format!("`{registry}` is no host"));
        let mut origin = Url::parse(&format!("https://{address}/")).map_err(malformed)?;
        if location::is_loopback(&origin) {
            origin = Url::parse(&format!("http://{address}/")).map_err(malformed)?;
        }
        Ok(Route { origin, prefix: String::new() })
    }
}

impl Route {
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
    fn registries_are_reached_by_https_and_this_machine_by_http() {
        let routes = Routes::default();
        assert_eq!(url(&routes, "curl"), "https://registry-1.docker.io/v2/library/curl/tags/list");
        assert_eq!(url(&routes, "h.example:5000/a"), "https://h.example:5000/v2/a/tags/list");
        assert_eq!(url(&routes, "127.0.0.1:5000/a"), "http://127.0.0.1:5000/v2/a/tags/list");
        assert_eq!(url(&routes, "localhost:5000/a"), "http://localhost:5000/v2/a/tags/list");
        assert_eq!(url(&routes, "[::1]:5000/a"), "http://[::1]:5000/v2/a/tags/list");
        assert_eq!(url(&routes, "10.0.0.1:5000/a"), "https://10.0.0.1:5000/v2/a/tags/list");
    }

    #[test]
    fn a_route_may_carry_a_path() {
        let mut routes = Routes::default();
        routes.insert("docker.io", "http://mirror.example:81/docker.io/").unwrap();
        assert_eq!(url(&routes, "a/b"), "http://mirror.example:81/v2/docker.io/a/b/tags/list");
    }

    #[test]
    fn what_is_no_address_is_no_route() {
        for text in ["", "mirror", "ftp://a/", "http://u:p@a/", "https://a/?x=1", "file:///etc"] {
            assert!(Routes::default().insert("a", text).is_err(), "{text}");
        }
    }
}
