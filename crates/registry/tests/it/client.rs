//! Single requests: their target, their content, and which replies are accepted.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use registry::{Descriptor, Digest, ErrorKind, RateLimit};

use crate::support::faults::Rule;
use crate::support::images::{self, bytes};
use crate::support::{Fake, Fault, Passwords, Quirks, builder, client, counting, location, reference, run};

#[test]
fn missing_content_is_none() {
    run(async {
        let fake = Fake::plain().await;
        let client = client();
        assert_eq!(client.head(&fake.name("a:1")).await.unwrap(), None);
        assert_eq!(client.manifest(&fake.name("a:1")).await.unwrap(), None);
        assert_eq!(registry::lists::tags(&client, &fake.name("a")).await.unwrap(), Vec::<String>::new());
        assert!(!registry::blobs::has(&client, &fake.name("a"), Digest::of(b"x")).await.unwrap());
    });
}

#[test]
fn tags_come_page_by_page() {
    run(async {
        let fake = Fake::plain().await;
        let image = images::image("a", &[]);
        for tag in ["a", "b", "c", "d", "e"] {
            fake.store(|store| store.seed("r", tag, &image));
        }
        assert_eq!(
            registry::lists::tags(&client(), &fake.name("r")).await.unwrap(),
            ["a", "b", "c", "d", "e"]
        );
        assert_eq!(fake.log.count("GET tags"), 3);
    });
}

#[test]
fn an_endless_list_of_tags_is_an_error() {
    run(async {
        let fake = Fake::plain().await;
        for number in 0..2 {
            let next = format!("</v2/r/tags/list?n={number}>; rel=\"next\"");
            let fault = Fault::Reply { status: 200, headers: vec![("link", next)], body: "{}".to_owned() };
            // Each page links to the other.
            let other = if number == 0 { "n=1" } else { "n=0" };
            fake.on(Rule::new("GET", other, fault).times(10_000));
        }
        let error = registry::lists::tags(&client(), &fake.name("r")).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Protocol(_)), "{error}");
    });
}

#[test]
fn redirects_to_other_schemes_and_private_addresses_are_refused() {
    run(async {
        for to in [
            "http://169.254.169.254/latest/meta-data",
            "http://10.0.0.1/",
            "file:///etc/passwd",
            "http://a.example/",
        ] {
            let fake = Fake::plain().await;
            fake.on(Rule::new("GET", "/manifests/", location(307, to)).times(9));
            let error = client().manifest(&fake.name("r:1")).await.unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::UnsafeLocation { .. }), "{to}: {error}");
            assert_eq!(fake.log.count("GET manifests"), 1, "what is unsafe is not tried again");
        }
    });
}

#[test]
fn endless_redirects_are_an_error() {
    run(async {
        let fake = Fake::plain().await;
        fake.on(Rule::new("GET", "/manifests/", location(307, "/v2/r/manifests/1")).times(99));
        let error = client().manifest(&fake.name("r:1")).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Protocol(_)), "{error}");
    });
}

/// A name server with two names: the registry's, and one with the address at which clouds provide a machine's credentials.
struct Names;

impl registry::Lookup for Names {
    fn lookup<'a>(
        &'a self,
        host: &'a str,
    ) -> registry::BoxFuture<'a, Result<Vec<IpAddr>, registry::BoxError>> {
        let address = if host == "registry.example" { "127.0.0.1" } else { "169.254.169.254" };
        Box::pin(std::future::ready(Ok(vec![address.parse().unwrap()])))
    }
}

#[test]
fn a_name_that_resolves_to_a_private_address_is_refused() {
    run(async {
        let there = "https://metadata.example/latest/meta-data".to_owned();
        let challenge = format!("Bearer realm=\"{there}\",service=\"x\"");
        let reply = |status, name, value| {
            let headers = vec![(name, value)];
            Fault::Reply { status, headers, body: String::new() }
        };
        let cases = [
            ("GET", reply(307, "location", there.clone())),
            ("GET", reply(401, "www-authenticate", challenge)),
            ("POST", reply(202, "location", there)),
        ];
        for (method, fault) in cases {
            let fake = Fake::plain().await;
            fake.on(Rule::new(method, "", fault.clone()).times(9));
            let route = format!("http://registry.example:{}", fake.address.port());
            let client = builder().lookup(Arc::new(Names)).route("registry.example", &route);
            let client = client.credentials(Arc::new(Passwords::new("p"))).build().unwrap();
            let name = reference("registry.example/r:1");
            let error = match method {
                "GET" => client.manifest(&name).await.unwrap_err(),
                _ => {
                    let blob = Descriptor::new("x", Digest::of(b"x"), 1);
                    registry::blobs::push_bytes(&client, &name, &blob, b"x".to_vec()).await.unwrap_err()
                }
            };
            let ErrorKind::UnsafeLocation { url, .. } = error.kind() else { panic!("{fault:?}: {error}") };
            assert_eq!(url, "metadata.example");
            assert_eq!(fake.log.seen().iter().filter(|seen| seen.method == method).count(), 1, "tried once");
        }
    });
}

#[test]
fn oversized_replies_are_not_read() {
    run(async {
        let fake = Fake::plain().await;
        let huge = "x".repeat(registry::size_limits::MANIFEST + 1);
        fake.on(Rule::new(
            "GET",
            "/manifests/",
            Fault::Reply { status: 200, headers: Vec::new(), body: huge.clone() },
        ));
        let error = client().manifest(&fake.name("r:1")).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::TooLarge { .. }), "{error}");
        fake.on(Rule::new(
            "GET",
            "/manifests/",
            Fault::Reply { status: 418, headers: Vec::new(), body: huge },
        ));
        let error = client().manifest(&fake.name("r:1")).await.unwrap_err();
        assert!(error.to_string().len() < 1_000, "an error shows a line, not megabytes");
        let blob = Descriptor::new("x", Digest::of(b""), registry::size_limits::BLOB_IN_MEMORY + 1);
        let error = registry::blobs::bytes(&client(), &fake.name("r"), &blob).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::TooLarge { .. }), "{error}");
    });
}

#[test]
fn a_manifest_of_another_digest_is_refused() {
    run(async {
        let fake = Fake::plain().await;
        let image = images::image("a", &[]);
        fake.store(|store| store.seed("r", "1", &image));
        fake.on(Rule::new("GET", "/manifests/", Fault::CorruptReply(10)).times(99));
        for name in [fake.name("r:1"), fake.name("r").with_digest(image.digest())] {
            let error = client().manifest(&name).await.unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::DigestMismatch { .. }), "{error}");
        }
        assert_eq!(fake.log.count("GET manifests"), 2 * 3, "a pull is too dear to be wrong seven times");
    });
}

#[test]
fn a_small_blob_is_read_completely_or_not_at_all() {
    run(async {
        let fake = Fake::plain().await;
        let content = bytes("c", 5_000);
        let image = images::image("a", std::slice::from_ref(&content));
        fake.store(|store| store.seed("r", "1", &image));
        let blob = Descriptor::new("x", Digest::of(&content), 5_000);
        assert_eq!(registry::blobs::bytes(&client(), &fake.name("r"), &blob).await.unwrap(), content);
        for fault in [Fault::CutReply(7), Fault::CorruptReply(7), Fault::Truncate(7)] {
            fake.on(Rule::new("GET", "/blobs/", fault));
            assert_eq!(registry::blobs::bytes(&client(), &fake.name("r"), &blob).await.unwrap(), content);
        }
    });
}

#[test]
fn limits_on_pulls_are_read_from_heads() {
    run(async {
        let fake = Fake::start(Quirks { pulls_left: Some(76), ..Quirks::default() }).await;
        fake.store(|store| store.seed("r", "1", &images::image("a", &[])));
        let client = counting(&fake);
        assert_eq!(client.rate_limit(&fake.host()), None);
        client.head(&fake.name("r:1")).await.unwrap();
        let window = Some(Duration::from_secs(21_600));
        assert_eq!(client.rate_limit(&fake.host()), Some(RateLimit { limit: 100, remaining: 76, window }));
    });
}

#[test]
fn a_registry_that_is_unavailable_for_a_moment_is_retried() {
    run(async {
        let fake = Fake::plain().await;
        let image = images::image("a", &[]);
        fake.store(|store| store.seed("r", "1", &image));
        fake.on(Rule::new("GET", "/manifests/", Fault::Refuse(Duration::from_millis(40))));
        assert_eq!(client().manifest(&fake.name("r:1")).await.unwrap().unwrap(), image.manifest);
    });
}

#[test]
fn a_registry_that_does_not_answer_is_an_error() {
    run(async {
        let fake = Fake::plain().await;
        fake.on(Rule::new("GET", "/manifests/", Fault::Hang).times(99));
        let timeouts =
            registry::Timeouts { reply: Duration::from_millis(100), ..registry::Timeouts::default() };
        let client = builder().timeouts(timeouts).build().unwrap();
        let error = client.manifest(&fake.name("r:1")).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Stalled { .. }), "{error}");
    });
}

#[test]
fn retagging_moves_no_blob() {
    run(async {
        let fake = Fake::plain().await;
        let image = images::image("a", &[bytes("l", 100)]);
        fake.store(|store| store.seed("r", "1", &image));
        assert_eq!(client().retag(&fake.name("r:1"), "2").await.unwrap(), image.digest());
        assert_eq!(fake.log.counts(), "GET manifests 1, PUT manifests 1");
        assert!(client().retag(&fake.name("r:none"), "2").await.is_err());
        assert!(client().retag(&fake.name("r:1"), "-").await.is_err());
    });
}

#[test]
fn referrers_are_read_from_the_api_or_from_the_fallback_tag() {
    run(async {
        let image = images::image("a", &[]);
        let signature = images::image_of(images::OCI_IMAGE, "s", &[], Some(&image.manifest));
        let with = Fake::start(Quirks { referrers: true, ..Quirks::default() }).await;
        let without = Fake::plain().await;
        let list = images::index(&[(Some("linux/amd64"), signature.clone())]);
        for fake in [&with, &without] {
            fake.store(|store| {
                store.seed("r", "1", &image);
                store.seed_untagged("r", &signature);
            });
        }
        without.store(|store| store.seed("r", &format!("sha256-{}", image.digest().hex()), &list));
        for fake in [&with, &without] {
            let found = registry::lists::referrers(&client(), &fake.name("r"), image.digest()).await.unwrap();
            assert_eq!(found.iter().map(|one| one.digest).collect::<Vec<_>>(), [signature.digest()]);
        }
        let none = Fake::plain().await;
        assert_eq!(
            registry::lists::referrers(&client(), &none.name("r"), image.digest()).await.unwrap(),
            Vec::new()
        );
    });
}
