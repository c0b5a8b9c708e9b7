//! Where a registry may redirect us to: `Location`, a token service's realm, the next page of a list.
//!
//! A registry is not trusted to choose the servers that we talk to. It may name other hosts (Docker Hub's token service, ECR's
//! S3), but never a less safe scheme than the user chose, nor a private address that the user did not name.

use std::net::IpAddr;

use url::{Host, Url};

use super::address::{is_forbidden_address, is_private_address};
use crate::digest::excerpt;
use crate::error::ErrorKind;
use crate::size_limits;

/// `text` as a URL, relative to the URL that was asked, if it is safe.
pub(crate) fn resolve(asked: &Url, text: &str) -> Result<Url, ErrorKind> {
    let refused = |reason| ErrorKind::UnsafeLocation { url: shown(text), reason };
    if text.len() > size_limits::HEADER {
        return Err(refused("it is too long"));
    }
    let url = asked.join(text).map_err(|_| refused("it is not a URL"))?;
    let url = encrypted(asked, url);
    // With escapes it may be longer than it was sent, and than the HTTP library accepts.
    if url.as_str().len() > MOST {
        return Err(refused("it is too long"));
    }
    check(asked, &url).map_err(refused)?;
    Ok(url)
}

/// The longest address that is requested: the HTTP library accepts 64 KiB, and something may have to be added.
const MOST: usize = 60 << 10;

/// Where blobs of a registry may come from by plain http.
#[derive(Debug, Default)]
pub(crate) struct Plain<'a> {
    /// The user named the registry by plain http: its object store beside it is no less safe.
    pub(crate) is_plain: bool,
    /// Hosts that the user named, each with its port if it has one.
    pub(crate) hosts: Vec<&'a str>,
}

impl Plain<'_> {
    pub(crate) fn names(&self, url: &Url) -> bool {
        self.hosts.iter().any(|host| *host == url.authority() || Some(*host) == url.host_str())
    }

    /// Whether blobs may come from `url`. Digests tell whether they are right, and no credentials are sent; but a registry must
    /// not redirect us to this machine or to where clouds keep their machines' credentials.
    fn allows(&self, url: &Url) -> bool {
        let is_sound = url.scheme() == "http" && !names_user(url);
        is_sound && (self.names(url) || (self.is_plain && !is_never_reached(url)))
    }
}

/// [`resolve`] for the bytes of a blob. An object store that is refused is named, so that the user can allow it.
pub(crate) fn resolve_blob(asked: &Url, text: &str, plain: &Plain<'_>) -> Result<Url, ErrorKind> {
    resolve(asked, text).or_else(|refused| match asked.join(text) {
        Ok(url) if text.len() <= size_limits::HEADER && plain.allows(&url) => Ok(url),
        Ok(url) if url.scheme() == "http" && !is_never_reached(&url) && !names_user(&url) => {
            Err(ErrorKind::PlainBlobs { host: url.authority().to_owned() })
        }
        _ => Err(refused),
    })
}

/// This machine, and addresses that [`is_forbidden_address`] names.
fn is_never_reached(url: &Url) -> bool {
    let address: Option<IpAddr> = match url.host() {
        Some(Host::Ipv4(address)) => Some(address.into()),
        Some(Host::Ipv6(address)) => Some(address.to_canonical()),
        Some(Host::Domain(_)) | None => None,
    };
    let is_special = match address {
        Some(address @ IpAddr::V4(_)) => is_forbidden_address(address),
        Some(IpAddr::V6(address)) => !matches!(address.octets(), [0x20..=0x3f, ..]),
        None => false,
    };
    is_special || is_loopback(url)
}

/// A token service's address: as safe as any other. A path alone is at the registry; any other text is not an address.
pub(crate) fn realm(origin: &Url, text: &str) -> Result<Url, ErrorKind> {
    if !text.starts_with('/') && Url::parse(text).is_err() && text.len() <= size_limits::HEADER {
        return Err(ErrorKind::UnsafeLocation { url: shown(text), reason: "a realm is a URL" });
    }
    resolve(origin, text)
}

/// A registry behind a proxy that ends TLS may call itself http, with its own port. It is asked where we reached it: by https
/// (Harbor and Artifactory without `X-Forwarded-Proto`).
fn encrypted(asked: &Url, mut url: Url) -> Url {
    if (asked.scheme(), url.scheme()) == ("https", "http") && same_host(asked, &url) {
        // Neither can fail: both URLs are of the same kind.
        let changed = url.set_scheme("https").and_then(|()| url.set_port(asked.port()));
        debug_assert!(changed.is_ok());
    }
    url
}

/// Without the query, which may hold a signature, and without a login.
pub(crate) fn shown(text: &str) -> String {
    // Another scheme: `http:u:p@host` is relative to http.
    let url = Url::parse("ws://nowhere/").and_then(|base| base.join(text));
    let is_plain = url.is_ok_and(|url| matches!(url.scheme(), "http" | "https" | "ws") && !names_user(&url));
    // If it cannot be parsed, everything before the last `@` may be a login.
    let text = if is_plain { text } else { text.rsplit('@').next().unwrap_or_default() };
    excerpt(text.split(['?', '#']).next().unwrap_or_default())
}

fn names_user(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

fn check(from: &Url, to: &Url) -> Result<(), &'static str> {
    if !matches!(to.scheme(), "http" | "https") {
        return Err("it is neither http nor https");
    }
    if names_user(to) {
        return Err("it names a user");
    }
    // From http, which the user chose for this host, https is not less safe; plain http to any other host is.
    let stays = same_host(from, to) || (is_loopback(from) && is_loopback(to));
    if to.scheme() == "http" && !(from.scheme() == "http" && stays) {
        return Err("it is not encrypted");
    }
    if is_private(to) && !stays {
        return Err("it is a private address that the user did not name");
    }
    Ok(())
}

/// Whether both are the same server: only then is an `Authorization` sent along.
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
    match url.host() {
        Some(Host::Ipv4(address)) => is_private_address(address.into()),
        Some(Host::Ipv6(address)) => is_private_address(address.into()),
        Some(Host::Domain(_)) | None => is_loopback(url),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn goes(from: &str, to: &str) -> bool {
        resolve(&from.parse().unwrap(), to).is_ok()
    }

    #[test]
    fn redirects_to_other_hosts_are_allowed_and_to_weaker_schemes_are_not() {
        let from = "https://registry.example/v2/";
        assert!(goes(from, "https://bucket.s3.amazonaws.com/x?sig=1"));
        assert!(goes(from, "/v2/a/blobs/uploads/1?_state=2"));
        assert!(goes(from, "uploads/1"));
        for to in ["http://other.example/", "file:///etc/passwd", "ftp://a/", "https://u:p@a/"] {
            assert!(!goes(from, to), "{to}");
        }
        assert!(goes("http://named.example:5000/", "http://named.example:5001/"));
        assert!(goes("http://named.example:5000/", "https://other.example/"));
        assert!(!goes("http://named.example:5000/", "http://other.example/"));
    }

    #[test]
    fn an_http_location_of_the_same_registry_is_requested_by_https() {
        let resolved = |from: &str, to: &str| resolve(&from.parse().unwrap(), to).unwrap().to_string();
        assert_eq!(
            resolved("https://harbor.corp/v2/", "http://harbor.corp/v2/u?x=1"),
            "https://harbor.corp/v2/u?x=1"
        );
        assert_eq!(
            resolved("https://harbor.corp:8443/v2/", "http://harbor.corp/token"),
            "https://harbor.corp:8443/token"
        );
        assert_eq!(
            resolved("https://harbor.corp/v2/", "http://harbor.corp:8080/token"),
            "https://harbor.corp/token"
        );
        let realm =
            realm(&"https://harbor.corp/".parse().unwrap(), "http://harbor.corp/service/token").unwrap();
        assert_eq!(realm.as_str(), "https://harbor.corp/service/token");
    }

    #[test]
    fn private_addresses_are_only_reached_if_the_user_named_them() {
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
            "https://[64:ff9b::10.0.0.1]/",
            "https://[fd00::1]/",
            "https://[fe80::1]/",
            "https://[::169.254.169.254]/",
            "https://168.63.129.16/",
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
    fn an_object_store_of_an_http_registry_may_use_http() {
        let from: Url = "http://harbor.corp/v2/a/blobs/x".parse().unwrap();
        let goes = |to: &str, is_plain, hosts: &[&str]| {
            resolve_blob(&from, to, &Plain { is_plain, hosts: hosts.to_vec() })
        };
        for to in ["http://minio.corp:9000/b?sig=1", "http://10.0.0.5:9000/b"] {
            assert!(goes(to, true, &[]).is_ok(), "{to}");
            let Err(ErrorKind::PlainBlobs { host }) = goes(to, false, &[]) else { panic!("{to}") };
            assert!(to.contains(&host) && !host.contains('/'), "{host}");
            assert!(goes(to, false, &[&host]).is_ok(), "{to}");
            assert!(goes(to, false, &[host.split(':').next().unwrap()]).is_ok(), "{to}");
            assert!(goes(to, false, &["other.corp:9000"]).is_err(), "{to}");
        }
        for to in [
            "http://169.254.169.254/latest",
            "http://127.0.0.1/x",
            "http://localhost/x",
            "http://[::1]/x",
            "http://[fd00:ec2::254]/latest",
            "http://[::ffff:169.254.169.254]/x",
            "http://0.0.0.0/x",
            "http://u:p@minio.corp/x",
            "file:///etc/passwd",
        ] {
            assert!(goes(to, true, &[]).is_err(), "{to}");
        }
        // From https to plain http is a downgrade, which the user has to allow.
        let from: Url = "https://harbor.corp/v2/".parse().unwrap();
        let to = "http://minio.corp:9000/b";
        assert!(matches!(resolve_blob(&from, to, &Plain::default()), Err(ErrorKind::PlainBlobs { .. })));
        assert!(resolve_blob(&from, to, &Plain { is_plain: false, hosts: vec!["minio.corp:9000"] }).is_ok());
    }

    #[test]
    fn errors_do_not_show_a_query() {
        let error = resolve(&"https://a/".parse().unwrap(), "http://b/x?sig=secret").unwrap_err().to_string();
        assert!(error.contains("http://b/x") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn errors_do_not_show_a_login_in_any_spelling() {
        let asked: Url = "https://a/".parse().unwrap();
        let plain = Plain { is_plain: true, hosts: vec!["b"] };
        for to in [
            "https://hush:secret@b/x",
            "http://hush:secret@b/x",
            "//hush:secret@b/x",
            "\\\\hush:secret@b/x",
            "http:hush:secret@b/x",
            "https://secret@b/x",
            "https://hush:sec?ret@b/x",
            "https://hush:a/secret@b/x",
            "hush:secret@b/x",
            "ftp://hush:secret@b/x",
            " ht\ttps://hu@sh:secret@b/x",
        ] {
            for refused in [resolve(&asked, to), resolve_blob(&asked, to, &plain), realm(&asked, to)] {
                let error = refused.expect_err(to).to_string();
                assert!(error.contains("b/x") || error.contains(" b"), "{to}: {error}");
                assert!(!error.contains("sec") && !error.contains("hu"), "{to}: {error}");
            }
        }
        assert_eq!(shown("/v2/a@sha256:1?x"), "/v2/a@sha256:1");
    }

    #[test]
    fn a_realm_without_a_host_is_at_the_registry() {
        let origin: Url = "https://harbor.corp:8443/".parse().unwrap();
        let at = |text: &str| realm(&origin, text).map(String::from);
        assert_eq!(at("/token?x=1").unwrap(), "https://harbor.corp:8443/token?x=1");
        assert_eq!(at("//auth.corp/token").unwrap(), "https://auth.corp/token");
        for text in ["//10.0.0.1/token", "Registry Realm", "token", ""] {
            assert!(at(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_address_has_a_maximum_length() {
        let from: Url = "https://a/".parse().unwrap();
        let state = |length| format!("/v2/a/blobs/uploads/1?state={}", "x".repeat(length));
        assert!(resolve(&from, &state(47 << 10)).is_ok());
        assert!(resolve(&from, &state(size_limits::HEADER)).is_err());
        assert!(
            resolve(&from, &format!("/{}", " ".repeat(size_limits::HEADER - 1))).is_ok(),
            "blanks at the end"
        );
        assert!(
            resolve(&from, &format!("/{}x", " ".repeat(size_limits::HEADER - 2))).is_err(),
            "three for one"
        );
    }

    #[test]
    fn fuzz_any_location_is_safe_or_refused() {
        let asked = [
            "https://registry.example/v2/",
            "https://10.1.2.3:5000/v2/",
            "http://named.example:5000/v2/",
            "http://127.0.0.1:5000/v2/",
        ];
        let asked: Vec<Url> = asked.into_iter().map(|url| url.parse().unwrap()).collect();
        crate::fuzz::each("locations", |input| {
            let Ok(text) = std::str::from_utf8(input) else { return false };
            let mut taken = false;
            for from in &asked {
                for url in [resolve(from, text), realm(from, text)].into_iter().flatten() {
                    taken = true;
                    assert!(
                        text.len() <= size_limits::HEADER
                            && url.username().is_empty()
                            && url.password().is_none()
                    );
                    let stays = same_host(from, &url) || (is_loopback(from) && is_loopback(&url));
                    let is_encrypted = url.scheme() == "https";
                    assert!(is_encrypted || (url.scheme() == "http" && from.scheme() == "http" && stays));
                    assert!(!is_private(&url) || stays, "{from} led to {url}");
                    // A safe URL stays the same, and safe, however often it is checked. With escapes it may be longer than a
                    // header.
                    if url.as_str().len() <= size_limits::HEADER {
                        assert_eq!(resolve(from, url.as_str()).ok(), Some(url));
                    }
                }
            }
            taken
        });
    }
}
