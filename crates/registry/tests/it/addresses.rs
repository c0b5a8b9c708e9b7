//! Redirects and servers that cannot be reached: what is followed, and what fails at once.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use registry::mirror::{Job, Mirror};
use registry::{BoxError, BoxFuture, Builder, Client, Digest, ErrorKind, Lookup, NoConnection, Route};

use crate::support::faults::Rule;
use crate::support::images::{bytes, image};
use crate::support::{Auth, Fake, Passwords, builder, copied, copy, pair, reference, reply, run};

/// Every name resolves to this machine.
struct Here;

impl Lookup for Here {
    fn lookup<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, BoxError>> {
        Box::pin(std::future::ready(Ok(vec!["127.0.0.1".parse().unwrap()])))
    }
}

#[test]
fn a_token_service_may_redirect_within_its_host() {
    run(async {
        let image = image("a", &[bytes("l", 10)]);
        for status in [301, 302, 303, 307, 308] {
            let (source, target) = pair(&image).await;
            source.quirks(|quirks| quirks.auth = Auth::Bearer(None));
            let there = format!("http://{}/token?twice", source.host());
            source.on(Rule::new("GET", "/token", reply(status, &[("location", &there)], "")));
            assert_eq!(copied(&source, &target).await.unwrap(), image.digest(), "{status}");
        }
        // Not to another server, and not without end.
        let other = Fake::plain().await;
        for to in
            [format!("http://{}/token", other.host()), "/token".to_owned(), "http://10.0.0.1/".to_owned()]
        {
            let (source, target) = pair(&image).await;
            source.quirks(|quirks| quirks.auth = Auth::Bearer(None));
            source.on(Rule::new("GET", "/token", reply(307, &[("location", &to)], "")).times(99));
            copied(&source, &target).await.unwrap_err();
            assert!(source.log.count("GET token") < 40, "{to}: {}", source.log.counts());
        }
        assert_eq!(other.log.counts(), "");
    });
}

#[test]
fn a_redirect_to_another_registry_is_read_anonymously_and_named_if_it_requires_a_login() {
    run(async {
        let image = image("a", &[bytes("l", 100)]);
        for auth in [Auth::Bearer(None), Auth::Bearer(Some("aws")), Auth::Basic("p".to_owned())] {
            let is_for_all = matches!(auth, Auth::Bearer(_));
            let (gateway, target) = pair(&image).await;
            let other = Fake::plain().await;
            other.store(|store| store.seed("r", "1", &image));
            other.quirks(|quirks| quirks.auth = auth);
            let paths = image.blobs.iter().map(|blob| format!("/v2/r/blobs/{}", Digest::of(blob)));
            let manifests = ["1".to_owned(), image.digest().to_string()];
            let manifests = manifests.iter().map(|name| format!("/v2/r/manifests/{name}"));
            for path in paths.chain(manifests) {
                let there = format!("http://{}{path}", other.host());
                gateway.on(Rule::new("*", &path, reply(307, &[("location", &there)], "")).times(9));
            }
            let client = builder().credentials(Arc::new(Passwords::new("p"))).build().unwrap();
            let job = Job::new(gateway.name("r:1"), target.name("r:1"));
            let result = copy(&Mirror::new(client.clone()), job).await;
            let shown = |seen: &crate::support::log::Seen| {
                seen.headers.get("authorization").is_some_and(|shown| shown.as_bytes().starts_with(b"Basic"))
            };
            assert!(!other.log.seen().iter().any(shown), "nobody there learns who we are");
            if is_for_all {
                assert_eq!(result.unwrap().digest, image.digest());
                assert!(other.log.count("GET token") <= 2, "{}", other.log.counts());
                assert_eq!(client.redirected_to(&gateway.host()), Some(other.host()));
                assert_eq!(client.redirected_to(&target.host()), None);
                continue;
            }
            let error = result.unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Unauthorized { .. }), "{error}");
            assert!(error.is_redirected() && error.server() == other.host(), "{error}");
            assert!(error.to_string().contains(&other.host()), "{error}");
        }
    });
}

/// The failure of one read, which has to come within three seconds, whatever the retry time.
pub async fn fails_soon(builder: Builder, name: &str) -> NoConnection {
    let client: Client = builder.retry(registry::RetryPolicy::default()).build().unwrap();
    let began = Instant::now();
    let error = client.head(&reference(name)).await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}: {error}", began.elapsed());
    assert!(!error.to_string().contains("://"), "{error}");
    let ErrorKind::NoConnection { why, .. } = error.kind() else { panic!("{error:?}") };
    *why
}

#[test]
fn permanent_errors_are_reported_at_once() {
    run(async {
        let fake = Fake::plain().await;
        assert_eq!(fails_soon(builder(), "127.0.0.1:1/r:1").await, NoConnection::Refused);
        let as_https = |host: &str| format!("https://{host}");
        let plain = builder().route("a.example", &as_https(&fake.host()));
        assert_eq!(fails_soon(plain, "a.example/r:1").await, NoConnection::PlainHttp);
        // The token service of a registry that is available.
        let challenge = "Bearer realm=\"http://127.0.0.1:1/token\",service=\"x\"";
        fake.on(Rule::new("HEAD", "", reply(401, &[("www-authenticate", challenge)], "")).times(9));
        assert_eq!(fails_soon(builder(), &fake.name("r:1").to_string()).await, NoConnection::Refused);
    });
}

/// A name server that knows no name.
struct Nobody;

impl Lookup for Nobody {
    fn lookup<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, BoxError>> {
        Box::pin(std::future::ready(Err("no such host".into())))
    }
}

#[test]
fn an_unknown_host_name_is_reported_soon() {
    run(async {
        let builder = builder().lookup(Arc::new(Nobody));
        assert_eq!(fails_soon(builder, "registry.example/r:1").await, NoConnection::UnknownName);
    });
}

#[test]
fn an_object_store_of_an_http_registry_is_read_and_another_one_is_named() {
    run(async {
        let image = image("a", &[bytes("l", 1_000)]);
        let target = Fake::plain().await;
        for allowed in [false, true] {
            for named in [true, false] {
                let source = Fake::plain().await;
                source.store(|store| store.seed("r", "1", &image));
                let store = Fake::plain().await;
                store.store(|store| store.seed("r", "1", &image));
                for blob in &image.blobs {
                    let path = format!("/v2/r/blobs/{}", Digest::of(blob));
                    let there =
                        format!("http://minio.corp:{}{path}?X-Amz-Signature=secret", store.address.port());
                    source.on(Rule::new("GET", &path, reply(307, &[("location", &there)], "")).times(9));
                }
                let registry = if named { "harbor.corp".to_owned() } else { source.host() };
                let builder = builder().lookup(Arc::new(Here));
                let mut route = if named {
                    Route::to(&format!("http://harbor.corp:{}", source.address.port()))
                } else {
                    Route::default()
                };
                if allowed {
                    route = route.blob_host(&format!("minio.corp:{}", store.address.port()));
                }
                let to = target.name(&format!("r{}{}:1", u8::from(allowed), u8::from(named)));
                let job = Job::new(reference(&format!("{registry}/r:1")), to);
                let result = copy(&Mirror::new(builder.route(&registry, route).build().unwrap()), job).await;
                if allowed || named {
                    assert_eq!(result.unwrap().digest, image.digest());
                    continue;
                }
                let error = result.unwrap_err();
                let ErrorKind::PlainBlobs { host } = error.kind() else { panic!("{error}") };
                assert_eq!(*host, format!("minio.corp:{}", store.address.port()));
                assert!(!error.to_string().contains("secret"), "{error}");
            }
        }
    });
}

#[test]
fn a_chain_of_redirects_is_followed_and_an_endless_one_is_an_error() {
    run(async {
        let image = image("a", &[bytes("l", 100)]);
        for (status, spelled) in
            [(301, "http://"), (302, "HTTP://"), (303, "//"), (307, "http://"), (308, "//")]
        {
            let (gateway, target) = pair(&image).await;
            let other = Fake::plain().await;
            other.store(|store| store.seed("r", "1", &image));
            let blobs = image.blobs.iter().map(|blob| format!("/v2/r/blobs/{}", Digest::of(blob)));
            let manifests = ["1".to_owned(), image.digest().to_string()];
            let manifests = manifests.iter().map(|name| format!("/v2/r/manifests/{name}"));
            for path in blobs.chain(manifests) {
                // First to itself by only a path, then to another server.
                let there = format!("{spelled}{}{path}", other.host());
                let again = format!("{path}?again");
                gateway.on(Rule::new("*", &again, reply(status, &[("location", &there)], "")).times(99));
                gateway.on(Rule::new("*", &path, reply(status, &[("location", &again)], "")).times(99));
            }
            assert_eq!(copied(&gateway, &target).await.unwrap(), image.digest(), "{status} {spelled}");
            assert!(other.log.count("GET blobs") >= 1);
        }
        for headers in
            [vec![], vec![("location", "")], vec![("location", "?again")], vec![("location", "http://")]]
        {
            let (gateway, target) = pair(&image).await;
            gateway.on(Rule::new("*", "/manifests/", reply(307, &headers, "")).times(99));
            copied(&gateway, &target).await.unwrap_err();
            assert!(gateway.log.fired() < 30, "{headers:?}: {}", gateway.log.fired());
            assert_eq!(target.log.count("PUT manifests"), 0);
        }
    });
}
