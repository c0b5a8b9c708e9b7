//! The server that a credential is for.

use std::fmt;

use url::Url;

use crate::error::Answerer;
use crate::net::location;

/// Docker Hub's token service. It has its own host, and knows only Docker Hub's logins.
const DOCKER_HUB_TOKENS: &str = "auth.docker.io";

/// The names of Docker Hub's registry.
const DOCKER_HUB: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

/// The address that a request really goes to: what `[upstream]` says, not the image's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Server {
    host: String,
    is_exposed: bool,
    namespace: String,
}

impl Server {
    /// The server of an address; `None` without a host.
    pub fn of(address: &str) -> Option<Self> {
        let url = Url::parse(address).ok()?;
        url.host_str()?;
        Some(Self::at(&url))
    }

    pub(crate) fn at(url: &Url) -> Self {
        let host = url.host_str().unwrap_or_default();
        let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let is_exposed = url.scheme() == "http" && !location::is_loopback(url);
        Self { host, is_exposed, namespace: String::new() }
    }

    /// The part of the server below a namespace: a login may be only for that.
    pub fn within(&self, namespace: &str) -> Self {
        Self { namespace: namespace.to_owned(), ..self.clone() }
    }

    /// The whole server.
    pub fn whole(&self) -> Self {
        self.within("")
    }

    /// The namespace or repository that this is limited to; empty for the whole server.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The part of the server that `repository` is in: the longest of these namespaces that fits.
    pub fn around(&self, repository: &str, namespaces: &[String]) -> Self {
        let holds = |namespace: &&String| {
            let rest = repository.strip_prefix(namespace.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let longest = namespaces.iter().filter(holds).max_by_key(|namespace| namespace.len());
        self.within(longest.map_or("", String::as_str))
    }

    /// The host, with its port unless that is the scheme's default.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether others on the way can read along: plain http to another machine. Only a credential that was stored for exactly
    /// this address may go there.
    pub fn is_exposed(&self) -> bool {
        self.is_exposed
    }

    /// The host, if it is not that of `registry`.
    pub(super) fn in_place_of(&self, registry: &str) -> Option<String> {
        let is_itself = self.host == registry || (self.is_docker_hub() && DOCKER_HUB.contains(&registry));
        (!is_itself).then(|| self.host.clone())
    }

    /// Whether this is Docker Hub, under one of its names.
    pub fn is_docker_hub(&self) -> bool {
        DOCKER_HUB.contains(&self.host.as_str()) && !self.is_exposed
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)
    }
}

/// The server at `url`, if it is not `registry` under its own name.
pub(crate) fn mirror(url: &Url, registry: &str) -> Option<Answerer> {
    Server::at(url).in_place_of(registry).map(Answerer::Mirror)
}

/// Whether a token service gets the credential of the registry that names it.
///
/// Over an encrypted connection it does: the registry could ask for the credential itself. Over plain http, anybody on the way
/// may have named the service, so only the registry's own host gets the credential. Docker Hub's token service only gets Docker
/// Hub's login: a mirror that passes its challenge on gets an anonymous token.
pub(super) fn is_shown_to(registry: &Url, realm: &Url) -> bool {
    let server = Server::at(registry);
    let is_better = registry.host() == realm.host() && realm.scheme() == "https";
    if location::same_origin(registry, realm) || is_better {
        return true;
    }
    if realm.host_str() == Some(DOCKER_HUB_TOKENS) {
        return server.is_docker_hub() && realm.scheme() == "https";
    }
    let is_local = location::is_loopback(registry) && location::is_loopback(realm);
    !server.is_exposed && (realm.scheme() == "https" || is_local)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_host_and_port_and_insecure_with_plain_http() {
        for (address, host, is_exposed) in [
            ("https://mirror.corp/hub", "mirror.corp", false),
            ("https://mirror.corp:443/hub", "mirror.corp", false),
            ("https://mirror.corp:8443", "mirror.corp:8443", false),
            ("http://mirror.corp", "mirror.corp", true),
            ("http://mirror.corp:80", "mirror.corp", true),
            ("http://10.1.2.3:5000", "10.1.2.3:5000", true),
            ("http://127.0.0.1:5000", "127.0.0.1:5000", false),
            ("http://[::1]:5000", "[::1]:5000", false),
        ] {
            let server = Server::of(address).unwrap();
            assert_eq!((server.host(), server.is_exposed()), (host, is_exposed), "{address}");
        }
        assert_eq!(Server::of("mirror.corp"), None);
    }

    #[test]
    fn a_repository_is_in_the_longest_namespace_that_is_above_it() {
        let server = Server::of("https://quay.io").unwrap();
        let namespaces = ["team", "team/app", "te", "team/app/x"].map(str::to_owned);
        for (repository, namespace) in [
            ("team/app", "team/app"),
            ("team/app/y", "team/app"),
            ("team/application", "team"),
            ("team", "team"),
            ("teams/app", ""),
            ("app", ""),
        ] {
            assert_eq!(server.around(repository, &namespaces).namespace(), namespace, "{repository}");
        }
    }

    #[test]
    fn a_token_service_gets_its_registrys_login() {
        for (registry, realm, is_shown) in [
            ("https://registry-1.docker.io", "https://auth.docker.io/token", true),
            ("https://registry.gitlab.example", "https://gitlab.example/jwt/auth", true),
            ("https://harbor.corp", "https://harbor.corp/service/token", true),
            ("http://harbor.corp", "http://harbor.corp/service/token", true),
            ("http://harbor.corp", "https://harbor.corp/service/token", true),
            ("http://127.0.0.1:5000", "http://127.0.0.1:5001/token", true),
            // A mirror that passes on Docker Hub's challenge.
            ("https://mirror.corp", "https://auth.docker.io/token", false),
            ("http://registry-1.docker.io", "https://auth.docker.io/token", false),
            // Any server may have written this realm.
            ("http://harbor.corp", "https://elsewhere.example/token", false),
            ("http://harbor.corp", "http://harbor.corp:81/token", false),
            ("http://127.0.0.1:5000", "http://harbor.corp/token", false),
        ] {
            let url = |text: &str| text.parse::<Url>().unwrap();
            assert_eq!(is_shown_to(&url(registry), &url(realm)), is_shown, "{registry} {realm}");
        }
    }
}
