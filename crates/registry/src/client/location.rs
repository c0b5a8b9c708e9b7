//! Where a registry may send us: `Location`, a token service's realm, the next page of a list.
//!
//! A registry is not trusted to choose whom we talk to. It may name other hosts (Docker Hub's token service, ECR's S3), but never
//! another scheme than the user chose, nor an address inside the network that the user did not name.

use std::net::{IpAddr, Ipv4Addr};

use url::{Host, Url};

use crate::digest::excerpt;
use crate::error::ErrorKind;
use crate::limits;

/// `text` as a URL, relative to the URL that was asked, if going there is safe.
pub(crate) fn resolve(asked: &Url, text: &str) -> Result<Url, ErrorKind> {
    let refused = |reason| ErrorKind::UnsafeLocation { url: shown(text), reason };
    if text.len() > limits::HEADER {
        return Err(refused("it is too long"));
    }
    let url = asked.join(text).map_err(|_| refused("it is no URL"))?;
    check(asked, &url).map_err(refused)?;
    Ok(url)
}

/// A token service's address: absolute, and as safe as any other.
pub(crate) fn realm(origin: &Url, text: &str) -> Result<Url, ErrorKind> {
    let refused = |reason| ErrorKind::UnsafeLocation { url: shown(text), reason };
    let url = Url::parse(text).map_err(|_| refused("a realm is an absolute URL"))?;
    check(origin, &url).map_err(refused)?;
    Ok(url)
}

/// Without the query, which may hold a signature.
fn shown(text: &str) -> String {
    excerpt(text.split(['?', '#']).next().unwrap_or_default())
}

fn check(from: &Url, to: &Url) -> Result<(), &'static str> {
    if !matches!(to.scheme(), "http" | "https") {
        return Err("it is neither http nor https");
    }
    if !to.username().is_empty() || to.password().is_some() {
        return Err("it names a user");
    }
    // From http, which the user chose for this host, https is no step down; plain http anywhere else is.
    let stays = same_host(from, to) || (is_loopback(from) && is_loopback(to));
    if to.scheme() == "http" && !(from.scheme() == "http" && stays) {
        return Err("it is not encrypted");
    }
    if is_private(to) && !stays {
        return Err("it is a private address that the user did not name");
    }
    Ok(())
}

/// Whether both are one server: the only case in which an `Authorization` goes along.
pub(crate) fn same_origin(one: &Url, other: &Url) -> bool {
    one.scheme() == other.scheme()
        && same_host(one, other)
        && one.port_or_known_default() == other.port_or_known_default()
}

fn same_host(one: &Url, other: &Url) -> bool {
    one.host() == other.host()
}

/// Whether the URL is on this machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost")
        }
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.to_canonical().is_loopback(),
        None => false,
    }
}

fn is_private(url: &Url) -> bool {
    let address = match url.host() {
        Some(Host::Ipv4(address)) => IpAddr::V4(address),
        Some(Host::Ipv6(address)) => address.to_canonical(),
        Some(Host::Domain(_)) | None => return is_loopback(url),
    };
    match address {
        IpAddr::V4(address) => is_private_v4(address),
        IpAddr::V6(address) => {
            let embedded = address.to_ipv4().is_some_and(is_private_v4);
            let special = address.is_loopback() || address.is_unspecified() || address.is_multicast();
            embedded || special || address.is_unique_local() || address.is_unicast_link_local()
        }
    }
}

fn is_private_v4(address: Ipv4Addr) -> bool {
    let shared = matches!(address.octets(), [100, 64..=127, _, _]);
    let this_network = matches!(address.octets(), [0, _, _, _]);
    address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_broadcast()
        || shared
        || this_network
}

#[cfg(test)]
mod tests {
    use super::*;

    fn goes(from: &str, to: &str) -> bool {
        resolve(&from.parse().unwrap(), to).is_ok()
    }

    #[test]
    fn other_hosts_are_fine_and_lesser_schemes_are_not() {
        let from = "https://registry.example/v2/";
        assert!(goes(from, "https://bucket.s3.amazonaws.com/x?sig=1"));
        assert!(goes(from, "/v2/a/blobs/uploads/1?_state=2"));
        assert!(goes(from, "uploads/1"));
        for to in [
            "http://registry.example/",
            "http://other.example/",
            "file:///etc/passwd",
            "ftp://a/",
            "https://u:p@a/",
        ] {
            assert!(!goes(from, to), "{to}");
        }
        assert!(goes("http://named.example:5000/", "http://named.example:5001/"));
        assert!(goes("http://named.example:5000/", "https://other.example/"));
        assert!(!goes("http://named.example:5000/", "http://other.example/"));
    }

    #[test]
    fn private_addresses_are_not_reached_unless_the_user_named_them() {
        for to in [
            "https://169.254.169.254/latest/meta-data",
            "https://10.0.0.1/",
            "https://172.16.0.1/",
            "https://192.168.1.1/",
            "https://127.0.0.1/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://0.0.0.0/",
            "https://100.64.0.1/",
            "https://[::1]/",
            "https://[::ffff:10.0.0.1]/",
            "https://[fd00::1]/",
            "https://[fe80::1]/",
            "https://localhost/",
            "https://a.localhost./",
        ] {
            assert!(!goes("https://registry.example/", to), "{to}");
            assert!(!goes("https://10.9.9.9/", to), "{to}");
        }
        assert!(goes("https://10.0.0.1:5000/", "https://10.0.0.1/other"));
        assert!(goes("http://127.0.0.1:5000/", "http://localhost:5001/other"));
        assert!(goes("https://registry.example/", "https://8.8.8.8/"));
    }

    #[test]
    fn errors_do_not_show_a_query() {
        let error = resolve(&"https://a/".parse().unwrap(), "http://b/x?sig=secret").unwrap_err().to_string();
        assert!(error.contains("http://b/x") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn any_location_ends_at_a_safe_place_or_nowhere() {
        let pieces = [
            "http",
            "https",
            "://",
            "//",
            "/",
            "\\",
            "@",
            ":",
            "[::1]",
            "127.0.0.1",
            "a.b",
            "?",
            "#",
            "%2f",
            "é",
            " ",
            "..",
        ];
        let from: Url = "https://registry.example/v2/".parse().unwrap();
        let mut random = fastrand::Rng::with_seed(11);
        for _ in 0..5_000 {
            let text: String =
                (0..random.usize(0..10)).map(|_| *random.choice(&pieces).unwrap_or(&"")).collect();
            if let Ok(url) = resolve(&from, &text) {
                assert_eq!(url.scheme(), "https", "{text}");
                assert!(!is_private(&url) && url.username().is_empty(), "{text}");
            }
        }
    }
}
