//! Resolves names, and refuses private addresses of names that a registry redirects to.
//!
//! [`location`](super::location) refuses private addresses in a URL. A name can lead to one as well, and to another one each
//! time that it is resolved: so addresses are checked when the connection is made, and nowhere else.
//!
//! A host that the user named may have any address. A registry inside a network (a company's, or ECR behind an interface
//! endpoint) may redirect us to other hosts there; one outside may not, and none may to link-local addresses, where clouds keep
//! their machines' credentials. Behind a proxy, the proxy resolves names.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use url::{Host, Url};

use super::address::{is_forbidden_address, is_private_address};
use super::http::Lookup;
use crate::BoxFuture;
use crate::error::BoxError;
use crate::profile::Profiles;

/// How far from the public network an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    World,
    Inside,
    ThisMachine,
    /// Where no registry may redirect us to.
    Nowhere,
}

/// The hosts of a client, and which addresses each may have.
#[derive(Default)]
struct Hosts {
    named: HashSet<String>,
    /// The reach of the named ones, when they were last resolved.
    reached: HashMap<String, Reach>,
    /// The hosts that registries redirected to, with the farthest reach that all of these registries may redirect to.
    sent_to: HashMap<String, Reach>,
}

/// Resolves names for the HTTP client.
pub(crate) struct AddressGuard {
    lookup: Arc<dyn Lookup>,
    profiles: Arc<Profiles>,
    hosts: Mutex<Hosts>,
}

/// A name with an address that the registry may not redirect to.
#[derive(Debug, thiserror::Error)]
#[error("{host} leads to {address}")]
pub(crate) struct Refused {
    pub(crate) host: String,
    address: IpAddr,
}

/// The system's resolver.
pub(crate) struct System;

impl Lookup for System {
    fn lookup<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, BoxError>> {
        Box::pin(async move {
            let found = tokio::net::lookup_host((host, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

impl AddressGuard {
    pub(crate) fn new(lookup: Arc<dyn Lookup>, profiles: Arc<Profiles>) -> Arc<Self> {
        Arc::new(Self { lookup, profiles, hosts: Mutex::default() })
    }

    /// Notes a host that the user named.
    pub(crate) fn named(&self, url: &Url) {
        let Some(Host::Domain(host)) = url.host() else { return };
        let mut hosts = self.hosts();
        if !hosts.named.contains(host) {
            hosts.sent_to.remove(host);
            hosts.named.insert(host.to_owned());
        }
    }

    /// Notes that the registry at `from` redirects us to `to`.
    pub(crate) fn sent(&self, from: &Url, to: &Url) {
        let Some(Host::Domain(host)) = to.host() else { return };
        let mut hosts = self.hosts();
        if hosts.named.contains(host) || self.is_storage(from, host) {
            return;
        }
        let allowed = hosts.reach_of(from);
        let allowed = hosts.sent_to.get(host).map_or(allowed, |before| allowed.min(*before));
        hosts.sent_to.insert(host.to_owned(), allowed);
    }

    /// The addresses of `host` that may be connected to.
    pub(crate) async fn find(&self, host: &str) -> Result<Vec<IpAddr>, BoxError> {
        Ok(self.pass(host, self.lookup.lookup(host).await?)?)
    }

    fn pass(&self, host: &str, found: Vec<IpAddr>) -> Result<Vec<IpAddr>, Refused> {
        let mut hosts = self.hosts();
        let Some(allowed) = hosts.sent_to.get(host).copied() else {
            // The most public one counts: a name with one private address of several is not inside.
            if let Some(nearest) = found.iter().map(|address| reach(*address)).min() {
                hosts.reached.insert(host.to_owned(), nearest);
            }
            return Ok(found);
        };
        let refused = found.first().copied();
        let passed: Vec<IpAddr> = found.into_iter().filter(|address| reach(*address) <= allowed).collect();
        match refused.filter(|_| passed.is_empty()) {
            Some(address) => Err(Refused { host: host.to_owned(), address }),
            None => Ok(passed),
        }
    }

    /// Whether the registry is known to keep its blobs there. ECR keeps layers at S3, which may have an endpoint inside the
    /// network even if ECR has none: the network's owner decides what Amazon's names lead to there.
    fn is_storage(&self, from: &Url, host: &str) -> bool {
        let profile = from.host_str().map(|registry| self.profiles.of(registry));
        profile.is_some_and(|profile| profile.storage.iter().any(|name| host.ends_with(name)))
    }

    fn hosts(&self) -> MutexGuard<'_, Hosts> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hosts {
    /// The reach of a registry: the world, as long as it is not known.
    fn reach_of(&self, registry: &Url) -> Reach {
        let reach = match registry.host() {
            Some(Host::Ipv4(address)) => reach(address.into()),
            Some(Host::Ipv6(address)) => reach(address.into()),
            Some(Host::Domain(host)) => self.reached.get(host).copied().unwrap_or(Reach::World),
            None => Reach::World,
        };
        reach.min(Reach::ThisMachine)
    }
}

fn reach(address: IpAddr) -> Reach {
    match address {
        address if is_forbidden_address(address) => Reach::Nowhere,
        address if address.to_canonical().is_loopback() => Reach::ThisMachine,
        address if is_private_address(address) => Reach::Inside,
        _ => Reach::World,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Profile;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    /// Whether we connect to a name with these addresses.
    fn passes(guard: &AddressGuard, host: &str, addresses: &[&str]) -> bool {
        let found = addresses.iter().map(|address| address.parse().unwrap());
        guard.pass(host, found.collect()).is_ok()
    }

    const ECR: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

    fn profiles() -> Arc<Profiles> {
        let ecr = Profile { storage: &[".amazonaws.com"], ..Profile::default() };
        Arc::new(Profiles::new(move |host| (host == ECR).then_some(ecr)))
    }

    fn guard(registry: &str, at: &str) -> Arc<AddressGuard> {
        let guard = AddressGuard::new(Arc::new(System), profiles());
        guard.named(&url(registry));
        assert!(
            passes(&guard, url(registry).host_str().unwrap(), &[at]),
            "what the user named goes anywhere"
        );
        guard
    }

    #[test]
    fn a_public_registry_cannot_redirect_to_a_private_network() {
        let registry = "https://registry.example/";
        let guard = guard(registry, "93.184.216.34");
        guard.sent(&url(registry), &url("https://cdn.example/x"));
        assert!(passes(&guard, "cdn.example", &["93.184.216.35"]));
        for address in ["10.0.0.1", "169.254.169.254", "127.0.0.1", "::1", "fd00::1", "::ffff:192.168.0.1"] {
            assert!(!passes(&guard, "cdn.example", &[address]), "{address}");
        }
        // Of several addresses only the allowed ones are used.
        let both = ["10.0.0.1", "93.184.216.35"].map(|address| address.parse().unwrap());
        assert_eq!(guard.pass("cdn.example", both.to_vec()).unwrap(), [both[1]]);
    }

    #[test]
    fn a_private_registry_may_redirect_to_private_addresses_except_the_metadata_service() {
        for (registry, at) in [("https://harbor.corp/", "10.1.1.1"), ("https://10.1.1.1:5000/", "10.1.1.1")] {
            let guard = guard(registry, at);
            guard.sent(&url(registry), &url("https://minio.corp/x"));
            assert!(passes(&guard, "minio.corp", &["10.1.1.2"]));
            for address in [
                "169.254.169.254",
                "64:ff9b::169.254.169.254",
                "fd00:ec2::254",
                "100.100.100.200",
                "127.0.0.1",
            ] {
                assert!(!passes(&guard, "minio.corp", &[address]), "{address}");
            }
            // The strictest of the servers that redirected us decides.
            guard.sent(&url("https://registry-1.docker.io/"), &url("https://minio.corp/x"));
            assert!(!passes(&guard, "minio.corp", &["10.1.1.2"]));
        }
    }

    #[test]
    fn a_name_without_a_redirect_is_the_users_own() {
        // For example a proxy's.
        let guard = guard("https://registry.example/", "93.184.216.34");
        assert!(passes(&guard, "proxy.corp", &["10.0.0.1"]));
        guard.sent(&url("https://registry.example/"), &url("https://other.corp/"));
        assert!(!passes(&guard, "other.corp", &["10.0.0.1"]));
        guard.named(&url("https://other.corp/"));
        assert!(passes(&guard, "other.corp", &["10.0.0.1"]));
    }

    #[test]
    fn a_known_registrys_blobs_may_come_through_a_private_endpoint() {
        let ecr = &format!("https://{ECR}/");
        let guard = guard(ecr, "54.1.2.3");
        let bucket = "prod-starport-layer-bucket.s3.eu-west-1.amazonaws.com";
        guard.sent(&url(ecr), &url(&format!("https://{bucket}/x")));
        assert!(passes(&guard, bucket, &["10.0.0.1"]));
        guard.sent(&url("https://registry.example/"), &url(&format!("https://{bucket}/x")));
        assert!(!passes(&guard, bucket, &["10.0.0.1"]));
    }
}
