//! Other people's registries, proxies and stores: what users of other copiers report of them.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use registry::mirror::{Action, Job, Mirror, Platforms};
use registry::{
    BoxError, BoxFuture, Builder, Client, Digest, Error, ErrorKind, Lookup, Manifest, ManifestError,
    NoConnection, Quotas, RateLimit,
};

use crate::support::faults::Rule;
use crate::support::images::{self, OCI_INDEX, TestImage, bytes, image, index};
use crate::support::{Auth, Fake, Fault, Passwords, builder, client, copy, reference, run, whole};

fn reply(status: u16, headers: &[(&'static str, &str)], body: &str) -> Fault {
    let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    Fault::Reply { status, headers, body: body.to_owned() }
}

async fn pair(image: &TestImage) -> (Fake, Fake) {
    let (source, target) = (Fake::plain().await, Fake::plain().await);
    source.store(|store| store.seed("r", "1", image));
    (source, target)
}

async fn copied(source: &Fake, target: &Fake) -> Result<Digest, Error> {
    let job = Job::new(source.name("r:1"), target.name("r:1"));
    copy(&Mirror::new(client()), job).await.map(|copied| copied.digest)
}

/// Every name leads to this machine.
struct Here;

impl Lookup for Here {
    fn lookup<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, BoxError>> {
        Box::pin(std::future::ready(Ok(vec!["127.0.0.1".parse().unwrap()])))
    }
}

#[test]
fn a_source_that_knows_an_image_by_get_alone_has_it() {
    run(async {
        let image = image("a", &[bytes("l", 10)]);
        let page = reply(404, &[("content-type", "text/html")], "<html>not found</html>");
        for no in [Fault::status(404), page, Fault::error(404, "NAME_UNKNOWN", "", Vec::new())] {
            let (source, target) = pair(&image).await;
            source.on(Rule::new("HEAD", "/manifests/", no).times(99));
            assert_eq!(copied(&source, &target).await.unwrap(), image.digest());
        }
        // What is not there is asked for once by each.
        let (none, target) = (Fake::plain().await, Fake::plain().await);
        assert!(matches!(copied(&none, &target).await.unwrap_err().kind(), ErrorKind::NotFound { .. }));
        assert_eq!(none.counts(), "GET manifests 1, HEAD manifests 1");
    });
}

#[test]
fn at_a_target_a_look_is_advice_and_the_push_decides() {
    run(async {
        let image = index(&[(Some("linux/amd64"), image("a", &[bytes("l", 10)]))]);
        let refusals = [
            Fault::status(401),
            Fault::error(403, "DENIED", "access to the requested resource is not authorized", Vec::new()),
            Fault::error(401, "UNAUTHORIZED", "no", Vec::new()),
        ];
        for no in refusals {
            for mount_error in [None, Some(404)] {
                let (source, target) = pair(&image).await;
                target.quirks(|quirks| quirks.mount_error = mount_error);
                target.on(Rule::new("HEAD", "", no.clone()).times(99));
                target.on(Rule::new("GET", "/manifests/", no.clone()).times(99));
                assert_eq!(copied(&source, &target).await.unwrap(), image.digest());
                assert_eq!(target.broken_tag(), None);
            }
        }
        // A push that is refused is one.
        let (source, target) = pair(&image).await;
        for method in ["HEAD", "GET", "POST", "PUT"] {
            target.on(Rule::new(method, "", Fault::status(401)).times(99));
        }
        let error = copied(&source, &target).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Unauthorized { .. }), "{error}");
        assert_eq!(error.registry(), target.host());
        // ECR means what it says.
        let (source, target) = pair(&image).await;
        target.on(Rule::new("*", "/manifests/", Fault::error(403, "DENIED", "no", Vec::new())).times(99));
        let client = builder().quotas(&target.host(), Quotas::Ecr).build().unwrap();
        let plan = Mirror::new(client).plan(vec![Job::new(source.name("r:1"), target.name("r:1"))]).await;
        assert!(matches!(plan.images[0].action, Action::Failed(_)), "{plan:?}");
    });
}

#[test]
fn the_codes_of_proxies_and_cdns_pass() {
    run(async {
        let image = image("a", &[bytes("l", 5_000)]);
        let page = |status| reply(status, &[("content-type", "text/html")], "<html>error</html>");
        for status in [408, 425, 429, 500, 502, 507, 520, 521, 523, 524, 525, 527, 530, 599] {
            let (source, target) = pair(&image).await;
            source.on(Rule::new("HEAD", "/manifests/", page(status)));
            source.on(Rule::new("GET", "/blobs/", page(status)));
            target.on(Rule::new("POST", "/uploads/", page(status)));
            target.on(Rule::new("PUT", "/uploads/", page(status)));
            assert_eq!(copied(&source, &target).await.unwrap(), image.digest(), "{status}");
            assert_eq!((source.fired(), target.fired()), (2, 2));
        }
        for status in [501, 505, 418] {
            let (source, target) = pair(&image).await;
            source.on(Rule::new("GET", "/blobs/", page(status)).times(9));
            copied(&source, &target).await.unwrap_err();
            assert!(source.fired() <= 2, "each of the two blobs once, {status}");
        }
    });
}

#[test]
fn a_token_service_may_send_us_on_within_its_host() {
    run(async {
        let image = image("a", &[bytes("l", 10)]);
        for status in [301, 302, 303, 307, 308] {
            let (source, target) = pair(&image).await;
            source.quirks(|quirks| quirks.auth = Auth::Bearer(None));
            let there = format!("http://{}/token?twice", source.host());
            source.on(Rule::new("GET", "/token", reply(status, &[("location", &there)], "")));
            assert_eq!(copied(&source, &target).await.unwrap(), image.digest(), "{status}");
        }
        // Not to another one, and not for ever.
        let other = Fake::plain().await;
        for to in
            [format!("http://{}/token", other.host()), "/token".to_owned(), "http://10.0.0.1/".to_owned()]
        {
            let (source, target) = pair(&image).await;
            source.quirks(|quirks| quirks.auth = Auth::Bearer(None));
            source.on(Rule::new("GET", "/token", reply(307, &[("location", &to)], "")).times(99));
            copied(&source, &target).await.unwrap_err();
            assert!(source.count("GET token") < 40, "{to}: {}", source.counts());
        }
        assert_eq!(other.counts(), "");
    });
}

#[test]
fn a_registry_that_is_redirected_to_is_read_as_anybody_and_named_where_it_wants_a_login() {
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
            let shown = |seen: &crate::support::fake::Seen| {
                seen.headers.get("authorization").is_some_and(|shown| shown.as_bytes().starts_with(b"Basic"))
            };
            assert!(!other.seen().iter().any(shown), "nobody there learns who we are");
            if is_for_all {
                assert_eq!(result.unwrap().digest, image.digest());
                assert!(other.count("GET token") <= 2, "{}", other.counts());
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

#[test]
fn a_manifests_own_word_counts_where_the_servers_says_nothing() {
    run(async {
        let image = image("a", &[bytes("l", 10)]);
        let text = String::from_utf8(image.manifest.bytes().to_vec()).unwrap();
        for kind in ["binary/octet-stream", "text/plain; charset=utf-8", "text/html", "application/x-tar", ""]
        {
            let (source, target) = pair(&image).await;
            let digest = image.digest().to_string();
            let mut headers = vec![("docker-content-digest", digest.as_str())];
            if !kind.is_empty() {
                headers.push(("content-type", kind));
            }
            source.on(Rule::new("*", "/manifests/", reply(200, &headers, &text)).times(99));
            assert_eq!(copied(&source, &target).await.unwrap(), image.digest(), "{kind}");
            let there = client().manifest(&target.name("r:1")).await.unwrap().unwrap();
            assert_eq!(there.media_type(), images::OCI_IMAGE);
        }
        let (source, target) = pair(&image).await;
        let docker = [("content-type", "application/vnd.docker.distribution.manifest.v2+json")];
        source.on(Rule::new("*", "/manifests/", reply(200, &docker, &text)).times(99));
        let error = copied(&source, &target).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Manifest(ManifestError::Contradiction { .. })), "{error}");
    });
}

#[test]
fn what_was_compressed_on_its_way_is_unpacked_and_a_mere_label_means_nothing() {
    run(async {
        let image = image("a", &[bytes("layer", 9_000), vec![7; 200_000]]);
        for path in ["/manifests/", "/blobs/"] {
            for fault in [Fault::Pack, Fault::Label] {
                let (source, target) = pair(&image).await;
                source.on(Rule::new("GET", path, fault.clone()).times(99));
                assert_eq!(copied(&source, &target).await.unwrap(), image.digest(), "{path} {fault:?}");
                assert_eq!(target.broken_tag(), None);
            }
        }
        // Into memory alone, too.
        let blob = bytes("layer", 9_000);
        let (source, _) = pair(&image).await;
        source.on(Rule::new("GET", "/blobs/", Fault::Pack));
        let descriptor = registry::Descriptor::new("x", Digest::of(&blob), 9_000);
        assert_eq!(client().blob_bytes(&source.name("r"), &descriptor).await.unwrap(), blob);
    });
}

#[test]
fn a_web_page_is_no_registry() {
    run(async {
        let image = image("a", &[bytes("l", 10)]);
        let page = "<!doctype html><p>Please log in</p>";
        for (status, body) in [(200, page), (201, "<html></html>"), (200, "Please log in")] {
            let (source, target) = pair(&image).await;
            target.on(Rule::new("*", "", reply(status, &[("content-type", "text/html")], body)).times(99));
            let error = copied(&source, &target).await.unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Page { .. }), "{status}: {error}");
            assert_eq!(target.count("PUT manifests") + target.count("POST uploads"), 0);
        }
        for status in [401, 403, 451] {
            let (source, target) = pair(&image).await;
            let html = [("content-type", "text/html")];
            source.on(Rule::new("*", "", reply(status, &html, page)).times(99));
            let error = copied(&source, &target).await.unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Page { .. }), "{status}: {error}");
        }
        let (source, target) = pair(&image).await;
        source.on(Rule::new("*", "", reply(407, &[], page)).times(99));
        let error = copied(&source, &target).await.unwrap_err();
        let ErrorKind::NoConnection { why: NoConnection::ProxyLogin, .. } = error.kind() else {
            panic!("{error}");
        };
        assert_eq!(source.fired(), 1, "a proxy that wants a login is not asked again");
    });
}

/// Two platforms with an attestation each, and a third without, where the source lacks the attestations.
fn without_attestations() -> (TestImage, [Digest; 2]) {
    let index = index(&[
        (Some("linux/amd64"), image("amd64", &[bytes("a", 100)])),
        (None, image("attests amd64", &[bytes("aa", 50)])),
        (Some("linux/arm64"), image("arm64", &[bytes("b", 100)])),
        (None, image("attests arm64", &[bytes("bb", 50)])),
        (Some("linux/s390x"), image("s390x", &[bytes("c", 100)])),
    ]);
    let gone = [index.children[1].digest(), index.children[3].digest()];
    (index, gone)
}

#[test]
fn attestations_that_the_source_lacks_are_left_out_with_a_warning_or_named() {
    run(async {
        let (index, gone) = without_attestations();
        let (source, target) = pair(&index).await;
        source.store(|store| {
            for digest in gone {
                store.repository("r").manifests.remove(&digest);
            }
        });
        let only = |platforms: &[&str]| {
            Platforms::Only(platforms.iter().map(|platform| platform.parse().unwrap()).collect())
        };
        let job = |platforms, tag: &str| Job {
            platforms,
            ..Job::new(source.name("r:1"), target.name("r").with_tag(tag).unwrap())
        };
        let mirror = Mirror::new(client());
        let one = copy(&mirror, job(only(&["linux/amd64"]), "one")).await.unwrap();
        assert_eq!((one.digest, one.warnings.len()), (index.children[0].digest(), 0));
        let two = only(&["linux/amd64", "linux/arm64"]);
        let copied = copy(&mirror, job(two.clone(), "two")).await.unwrap();
        assert!(copied.warnings.iter().zip(gone).all(|(line, gone)| line.contains(&gone.to_string())));
        assert_eq!(copied.warnings.len(), 2);
        assert_eq!(target.broken_tag(), None);
        let manifest = client().manifest(&target.name("r:two")).await.unwrap().unwrap();
        assert_eq!(manifest.index().unwrap().manifests.len(), 2);
        whole(&mirror, &target.name("r:two"), copied.digest).await;
        // Known from now on: nothing is read again.
        assert!(copy(&mirror, job(two.clone(), "two")).await.unwrap().was_up_to_date);
        assert!(copy(&Mirror::new(client()), job(two.clone(), "two")).await.unwrap().was_up_to_date);

        // Where it is wanted it is named: by the lock, and by an index that is copied whole to a registry that wants its parts.
        let locked = Job {
            expected: Some(
                index
                    .manifest
                    .trim(match &two {
                        Platforms::Only(platforms) => platforms,
                        Platforms::All => &[],
                    })
                    .unwrap()
                    .digest(),
            ),
            ..job(two, "locked")
        };
        for job in [locked, job(Platforms::All, "all")] {
            let error = copy(&mirror, job).await.unwrap_err();
            let ErrorKind::AttestationGone { digest } = error.kind() else { panic!("{error}") };
            assert!(gone.contains(digest));
        }
        // An image that is gone is no attestation.
        source.store(|store| store.repository("r").manifests.remove(&index.children[4].digest()));
        let job = Job { target: target.name("other:1"), ..job(only(&["linux/amd64", "linux/s390x"]), "x") };
        let error = copy(&mirror, job).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::NotFound { .. }), "{error}");
    });
}

#[test]
fn an_artifact_is_what_says_itself_what_it_is_about() {
    run(async {
        let platform = image("amd64", &[bytes("l", 10)]);
        let index = index(&[(Some("linux/amd64"), platform.clone())]);
        let signature = images::image_of(images::OCI_IMAGE, "s", &[], Some(&index.manifest));
        let list = |entries: &[&Manifest]| {
            let entries: Vec<_> = entries.iter().map(|manifest| manifest.descriptor()).collect();
            let text =
                serde_json::json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries });
            TestImage {
                manifest: Manifest::new(OCI_INDEX, text.to_string()),
                children: vec![],
                blobs: vec![],
            }
        };
        let stand_in = format!("sha256-{}", index.digest().hex());
        // The tag read as the digest; a list that names an image; one that names both; a cosign tag read as the digest.
        let cases = [
            (stand_in.clone(), index.clone(), 0),
            (stand_in.clone(), list(&[&platform.manifest]), 0),
            (stand_in.clone(), list(&[&platform.manifest, &signature.manifest]), 1),
            (format!("{stand_in}.sig"), index.clone(), 0),
        ];
        for (tag, content, artifacts) in cases {
            let (source, target) = pair(&index).await;
            source.store(|store| {
                store.seed_untagged("r", &signature);
                store.seed("r", &tag, &content);
            });
            let job = Job { artifacts: true, ..Job::new(source.name("r:1"), target.name("r:1")) };
            let copied = copy(&Mirror::new(client()), job).await.unwrap();
            assert_eq!(copied.warnings, Vec::<String>::new());
            assert_eq!(copied.digest, index.digest());
            let found = client().referrers(&target.name("r"), index.digest()).await.unwrap();
            assert_eq!(found.len(), artifacts, "{tag}");
            assert!(found.iter().all(|one| one.digest == signature.digest()));
            assert!(
                !target.store(|store| store.repository("r").tags.contains_key(&format!("{stand_in}.sig")))
            );
        }
    });
}

#[test]
fn only_docker_hub_counts_pulls_and_its_last_word_counts() {
    run(async {
        let image = image("a", &[]);
        let limits =
            [("retry-after", "1"), ("ratelimit-limit", "60;w=60"), ("ratelimit-remaining", "0;w=60")];
        let throttled = reply(429, &limits, "");
        let (source, target) = pair(&image).await;
        source.on(Rule::new("HEAD", "/manifests/", throttled.clone()));
        assert_eq!(copied(&source, &target).await.unwrap(), image.digest());
        // A mirror that is known to count: what the wait was for is over with the next answer.
        let (source, target) = pair(&image).await;
        let client = builder().counts_pulls(&source.host()).build().unwrap();
        source.on(Rule::new("HEAD", "/manifests/", throttled));
        let job = Job::new(source.name("r:1"), target.name("r:1"));
        copy(&Mirror::new(client.clone()), job).await.unwrap();
        assert_eq!(client.rate_limit(&source.host()), None);
        source.quirks(|quirks| quirks.pulls_left = Some(5));
        client.head(&source.name("r:1")).await.unwrap();
        assert!(matches!(client.rate_limit(&source.host()), Some(RateLimit { remaining: 5, .. })));
        // Nobody else is believed.
        let client = builder().build().unwrap();
        client.head(&source.name("r:1")).await.unwrap();
        assert_eq!(client.rate_limit(&source.host()), None);
    });
}

/// The failure of one look, which has to come within three seconds, whatever the patience.
async fn fails_soon(builder: Builder, name: &str) -> NoConnection {
    let client: Client = builder.retry(registry::RetryPolicy::default()).build().unwrap();
    let began = Instant::now();
    let error = client.head(&reference(name)).await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}: {error}", began.elapsed());
    assert!(!error.to_string().contains("://"), "{error}");
    let ErrorKind::NoConnection { why, .. } = error.kind() else { panic!("{error:?}") };
    *why
}

#[test]
fn what_no_wait_mends_is_told_at_once() {
    run(async {
        let fake = Fake::plain().await;
        assert_eq!(fails_soon(builder(), "127.0.0.1:1/r:1").await, NoConnection::Refused);
        let as_https = |host: &str| format!("https://{host}");
        let plain = builder().route("a.example", &as_https(&fake.host()));
        assert_eq!(fails_soon(plain, "a.example/r:1").await, NoConnection::PlainHttp);
        // The token service of a registry that is there.
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
fn a_name_that_nobody_knows_is_told_soon() {
    run(async {
        let builder = builder().lookup(Arc::new(Nobody));
        assert_eq!(fails_soon(builder, "registry.example/r:1").await, NoConnection::UnknownName);
    });
}

#[test]
fn an_object_store_beside_a_registry_by_http_is_read_and_another_one_is_named() {
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
                let mut builder = builder().lookup(Arc::new(Here));
                if named {
                    builder =
                        builder.route(&registry, &format!("http://harbor.corp:{}", source.address.port()));
                }
                if allowed {
                    builder = builder.blob_host(&registry, &format!("minio.corp:{}", store.address.port()));
                }
                let to = target.name(&format!("r{}{}:1", u8::from(allowed), u8::from(named)));
                let job = Job::new(reference(&format!("{registry}/r:1")), to);
                let result = copy(&Mirror::new(builder.build().unwrap()), job).await;
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
fn a_tag_that_cannot_be_moved_is_said_once() {
    run(async {
        let (old, new) = (image("old", &[]), image("new", &[]));
        let refusals = [
            Fault::error(412, "PRECONDITION", "configured as immutable", Vec::new()),
            Fault::error(409, "TAG_EXISTS", "", Vec::new()),
        ];
        for no in refusals {
            let (source, target) = pair(&new).await;
            target.store(|store| store.seed("r", "1", &old));
            target.on(Rule::new("PUT", "/manifests/1", no).times(9));
            let error = copied(&source, &target).await.unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::TagImmutable { .. }), "{error}");
            assert_eq!(target.fired(), 1);
        }
    });
}

#[test]
fn sizes_that_cannot_be_are_an_error_and_no_crash() {
    run(async {
        for size in [u64::MAX, u64::MAX / 2 + 1, 1 << 63] {
            let layer = |name: &str| serde_json::json!({ "mediaType": "l", "digest": Digest::of(name.as_bytes()), "size": size });
            let text = serde_json::json!({
                "schemaVersion": 2, "mediaType": images::OCI_IMAGE, "config": layer("c"), "layers": [layer("a"), layer("b")]
            });
            let manifest = Manifest::new(images::OCI_IMAGE, text.to_string());
            let huge = TestImage { manifest, children: Vec::new(), blobs: Vec::new() };
            let (source, target) = pair(&huge).await;
            let plan = Mirror::new(client())
                .plan(vec![
                    Job::new(source.name("r:1"), target.name("r:1")),
                    Job::new(source.name("r:1"), target.name("s:1")),
                ])
                .await;
            assert_eq!((plan.unique_bytes(), plan.repository_bytes()), (u64::MAX, u64::MAX));
            copied(&source, &target).await.unwrap_err();
            assert_eq!(target.count("PUT manifests"), 0);
        }
    });
}
