//! Misleading replies of other servers, from reports of users of other copiers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::stream;
use registry::mirror::{Job, Mirror, Platforms};
use registry::{Digest, ErrorKind, Manifest, NoConnection, Request, Response};

use crate::support::faults::Rule;
use crate::support::images::{OCI_INDEX, bytes, image};
use crate::support::odd::{ODD, answer, copied_by, header, odd, plainly};
use crate::support::{Fake, Fault, Passwords, TestImage, builder, copied, copy, pair, reply, run, whole};

#[test]
fn a_refused_head_is_repeated_by_get_whatever_its_content_type() {
    run(async {
        let image = image("a", &[bytes("l", 10)]);
        for status in [400, 401, 403, 405, 406, 501] {
            for kind in ["text/html", "application/json"] {
                let (source, target) = pair(&image).await;
                for fake in [&source, &target] {
                    fake.on(Rule::new("HEAD", "", reply(status, &[("content-type", kind)], "")).times(99));
                }
                let digest =
                    copied(&source, &target).await.unwrap_or_else(|error| panic!("{status}: {error}"));
                whole(&Mirror::new(builder().build().unwrap()), &target.name("r:1"), digest).await;
            }
        }
    });
}

#[test]
fn a_registry_that_only_challenges_at_its_root_gets_the_login() {
    run(async {
        let image = image("a", &[bytes("l", 10)]);
        for status in [403, 404] {
            let asked = Arc::new(AtomicUsize::new(0));
            let (image, roots) = (image.clone(), Arc::clone(&asked));
            let digest = image.digest();
            // Artifactory that hides everything that is not public.
            let hiding = move |request: &Request| match (header(request, "authorization"), request.url.path())
            {
                ("Basic QVdTOnB3", _) => plainly(&image, request),
                ("", "/v2/") => {
                    roots.fetch_add(1, Ordering::SeqCst);
                    answer(401, &[("www-authenticate", "Basic realm=\"Büro\"")], "")
                }
                _ => answer(status, &[], ""),
            };
            let target = Fake::plain().await;
            let client = odd(hiding.clone()).credentials(Arc::new(Passwords::new("pw")));
            assert_eq!(copied_by(client, &target).await.unwrap(), digest, "{status}");
            assert_eq!(asked.load(Ordering::SeqCst), 1, "once for a registry");
            // A user without a login there sends no further request.
            assert!(copied_by(odd(hiding), &target).await.is_err());
            assert_eq!(asked.load(Ordering::SeqCst), 1);
        }
    });
}

#[test]
fn a_scope_of_the_challenge_is_requested_too() {
    run(async {
        let image = image("a", &[bytes("l", 10)]);
        let digest = image.digest();
        // A gateway whose names differ from those of the registry behind it.
        let gateway = move |request: &Request| {
            if request.url.path() == "/token" {
                let scopes: Vec<_> = request.url.query_pairs().filter(|(name, _)| name == "scope").collect();
                let is_right = scopes.iter().any(|(_, scope)| scope == "repository:real/r:pull");
                return answer(200, &[], if is_right { r#"{"token":"good"}"# } else { r#"{"token":"bad"}"# });
            }
            let challenge = r#"Bearer realm="https://odd.example/token",scope="repository:real/r:pull""#;
            match header(request, "authorization") {
                "Bearer good" => plainly(&image, request),
                _ => answer(401, &[("www-authenticate", challenge)], ""),
            }
        };
        let target = Fake::plain().await;
        assert_eq!(copied_by(odd(gateway), &target).await.unwrap(), digest);
    });
}

#[test]
fn a_refused_or_wrong_range_is_replaced_by_the_whole_blob() {
    run(async {
        let image = image("a", &[bytes("l", 300_000)]);
        let part = |at: usize, of: &[u8]| {
            let range = format!("bytes {at}-{}/{}", of.len() - 1, of.len());
            answer(206, &[("content-range", &range)], of[at..].to_vec())
        };
        type Resumed = Box<dyn Fn(usize, &[u8]) -> Response + Send + Sync>;
        let resumed: Vec<(&str, Resumed)> = vec![
            ("crane's own registry", Box::new(|_, _| answer(416, &[], ""))),
            (
                "registry.k8s.io#333",
                Box::new(|_, _| answer(400, &[], "<Error><Code>InvalidArgument</Code></Error>")),
            ),
            ("no ranges", Box::new(|_, _| answer(501, &[], ""))),
            ("from the start", Box::new(move |_, blob| part(0, blob))),
            ("another offset", Box::new(move |at, blob| part(at + 1, blob))),
            ("no word of which", Box::new(|at, blob| answer(206, &[], blob[at..].to_vec()))),
        ];
        for (what, resumed) in resumed {
            let (image, digest) = (image.clone(), image.digest());
            let breaks = move |request: &Request| {
                let whole = plainly(&image, request);
                let blob = &image.blobs[0];
                if !request.url.path().ends_with(&Digest::of(blob).to_string()) {
                    return whole;
                }
                match header(request, "range").strip_prefix("bytes=").and_then(|at| at.strip_suffix('-')) {
                    Some(at) => resumed(at.parse().unwrap(), blob),
                    None if FIRST.swap(1, Ordering::SeqCst) == 0 => {
                        let begin = Bytes::copy_from_slice(&blob[..200_000]);
                        let pieces = vec![Ok(begin), Err(std::io::Error::other("cut"))];
                        let body = registry::Body::stream(stream::iter(pieces), Some(blob.len() as u64));
                        whole.map(|_| body)
                    }
                    None => whole,
                }
            };
            static FIRST: AtomicUsize = AtomicUsize::new(0);
            FIRST.store(0, Ordering::SeqCst);
            let target = Fake::plain().await;
            let copied =
                copied_by(odd(breaks), &target).await.unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(copied, digest);
            assert_eq!(target.log.count("PUT uploads"), 2, "{what}: inside the same upload");
        }
        // A 206 that was not requested and has the whole content.
        let (asked, digest) = (image.clone(), image.digest());
        let all = move |request: &Request| {
            let mut whole = plainly(&asked, request);
            if request.url.path().contains("/blobs/") {
                *whole.status_mut() = http::StatusCode::PARTIAL_CONTENT;
            }
            whole
        };
        assert_eq!(copied_by(odd(all), &Fake::plain().await).await.unwrap(), digest);
    });
}

#[test]
fn a_body_too_large_for_a_proxy_is_one_clear_error() {
    run(async {
        let image = image("a", &[bytes("l", 5_000)]);
        let page = "<html><head><title>413 Request Entity Too Large</title></head></html>";
        let nginx = reply(413, &[("content-type", "text/html")], page);
        for no in [nginx, Fault::error(413, "SIZE_INVALID", "too large", Vec::new())] {
            for path in ["/uploads/", "/manifests/"] {
                let (source, target) = pair(&image).await;
                target.on(Rule::new("PUT", path, no.clone()).times(99));
                let error = copied(&source, &target).await.unwrap_err();
                assert!(matches!(error.kind(), ErrorKind::Refused { status: 413, .. }), "{error}");
                assert!(target.log.fired() <= 2, "each of the two blobs once");
            }
        }
    });
}

#[test]
fn a_missing_upload_session_is_started_again() {
    run(async {
        let image = image("a", &[bytes("l", 5_000)]);
        let answers = [
            reply(404, &[("content-type", "text/plain")], "404 page not found"),
            Fault::status(404),
            Fault::status(410),
            Fault::error(404, "BLOB_UPLOAD_UNKNOWN", "", Vec::new()),
        ];
        for lost in answers {
            let (source, target) = pair(&image).await;
            target.on(Rule::new("PUT", "/uploads/", lost));
            assert_eq!(copied(&source, &target).await.unwrap(), image.digest());
        }
    });
}

#[test]
fn an_upload_answered_with_created_is_complete() {
    run(async {
        let image = image("a", &[bytes("l", 5_000)]);
        let (source, target) = pair(&image).await;
        let created = reply(201, &[("location", "/v2/r/blobs/uploads/nobodys")], "");
        target.on(Rule::new("POST", "mount=", created));
        assert_eq!(copied(&source, &target).await.unwrap(), image.digest());
    });
}

#[test]
fn a_rate_limit_reported_as_a_refusal_is_retried() {
    run(async {
        let image = image("a", &[bytes("l", 10)]);
        let github =
            "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.";
        let soon = vec![("retry-after", "0".to_owned())];
        let limits = [
            Fault::error(403, "TOOMANYREQUESTS", "", Vec::new()),
            Fault::error(403, "DENIED", github, Vec::new()),
            Fault::error(403, "DENIED", "", soon),
        ];
        for no in limits {
            for (method, path) in [("HEAD", "/manifests/"), ("PUT", "/manifests/"), ("POST", "/uploads/")] {
                let (source, target) = pair(&image).await;
                let fake = if method == "HEAD" { &source } else { &target };
                fake.on(Rule::new(method, path, no.clone()).times(2));
                assert_eq!(copied(&source, &target).await.unwrap(), image.digest(), "{method} {no:?}");
            }
        }
    });
}

#[test]
fn an_unreachable_token_service_is_named() {
    run(async {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let nobody = listener.local_addr().unwrap().to_string();
        drop(listener);
        let source = Fake::plain().await;
        let challenge = format!("Bearer realm=\"http://{nobody}/token\"");
        source.on(Rule::new("*", "", reply(401, &[("www-authenticate", &challenge)], "")).times(9));
        let error = builder().build().unwrap().head(&source.name("r:1")).await.unwrap_err();
        let refused = NoConnection::Refused;
        assert!(matches!(error.kind(), ErrorKind::NoConnection { why, .. } if *why == refused), "{error}");
        assert_eq!((error.registry(), error.server()), (source.host().as_str(), nobody.as_str()));
    });
}

/// An index with the same entry very often, as if it had this size.
fn repeated(child: &TestImage, times: usize, size: usize) -> TestImage {
    let entry = serde_json::json!({
        "mediaType": child.manifest.media_type(), "digest": child.digest(), "size": size
    });
    let text =
        serde_json::json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": vec![entry; times] });
    let manifest = Manifest::new(OCI_INDEX, text.to_string());
    TestImage { manifest, children: vec![child.clone()], blobs: Vec::new() }
}

#[test]
fn repeated_entries_of_indexes_are_read_once() {
    run(async {
        let mut top = image("a", &[bytes("l", 10)]);
        for _ in 0..3 {
            top = repeated(&top, 300, top.manifest.bytes().len());
        }
        let (source, target) = pair(&top).await;
        let job = Job { platforms: Platforms::All, ..Job::new(source.name("r:1"), target.name("r:1")) };
        let mirror = Mirror::new(builder().build().unwrap());
        assert_eq!(copy(&mirror, job).await.unwrap().digest, top.digest());
        assert_eq!(source.log.count("GET manifests"), 4);
        assert!(target.log.count("HEAD manifests") <= 5, "{}", target.log.counts());
        target.log.forget();
        whole(&mirror, &target.name("r:1"), top.digest()).await;
        assert_eq!(target.log.count("GET manifests"), 4);
    });
}

#[test]
fn manifests_with_a_too_large_total_are_not_read() {
    run(async {
        let images: Vec<_> = (0..10).map(|at| image(&at.to_string(), &[])).collect();
        let mut entries = Vec::new();
        for child in &images {
            let entry: serde_json::Value =
                serde_json::from_slice(repeated(child, 1, 7 << 20).manifest.bytes()).unwrap();
            entries.push(entry["manifests"][0].clone());
        }
        let text = serde_json::json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries });
        let manifest = Manifest::new(OCI_INDEX, text.to_string());
        let (source, target) = pair(&TestImage { manifest, children: images, blobs: Vec::new() }).await;
        let job = Job { platforms: Platforms::All, ..Job::new(source.name("r:1"), target.name("r:1")) };
        let error = copy(&Mirror::new(builder().build().unwrap()), job).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::TooLarge { .. }), "{error}");
        assert_eq!(source.log.count("GET manifests"), 1);
    });
}

#[test]
fn an_endless_list_is_an_error_before_it_fills_the_memory() {
    run(async {
        let asked = Arc::new(AtomicUsize::new(0));
        let pages = Arc::clone(&asked);
        let endless = move |request: &Request| {
            let at = pages.fetch_add(1, Ordering::SeqCst);
            let next = format!("<{}?at={at}>; rel=\"next\"", request.url.path());
            let digest = Digest::of(b"x");
            let entry = serde_json::json!({ "mediaType": "m", "digest": digest, "size": 1 });
            let body = match request.url.path().ends_with("/tags/list") {
                true => serde_json::json!({ "tags": vec!["t"; 150_000] }),
                false => serde_json::json!({ "manifests": vec![entry; 8_000] }),
            };
            answer(200, &[("link", &next)], body.to_string())
        };
        let client = odd(endless).build().unwrap();
        let name = format!("{ODD}/r:1").parse().unwrap();
        registry::lists::tags(&client, &name).await.unwrap_err();
        assert_eq!(asked.swap(0, Ordering::SeqCst), 2);
        registry::lists::referrers(&client, &name, Digest::of(b"y")).await.unwrap_err();
        assert_eq!(asked.load(Ordering::SeqCst), 2);
    });
}

#[test]
fn errors_in_every_form_are_read() {
    run(async {
        let packed = {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            let text = br#"{"errors":[{"code":"DENIED","message":"not for you"}]}"#;
            std::io::Write::write_all(&mut encoder, text).unwrap();
            encoder.finish().unwrap()
        };
        let said: Vec<(&str, Vec<u8>)> = vec![
            ("", br#"{"errors":[{"code":403,"message":"not for you","detail":null}]}"#.to_vec()),
            ("", br#"{"errors":[{"code":"DENIED","message":null,"detail":"not for you"}]}"#.to_vec()),
            ("", br#"{"errors":["not for you"]}"#.to_vec()),
            ("", br#"{"errors":null,"error":"not for you"}"#.to_vec()),
            ("", br#"{"error":{"code":403,"message":"not for you","status":"PERMISSION_DENIED"}}"#.to_vec()),
            ("gzip", packed),
        ];
        for (encoding, body) in said {
            let client = odd(move |_| answer(403, &[("content-encoding", encoding)], body.clone()));
            let name = format!("{ODD}/r:1").parse().unwrap();
            let error = client.build().unwrap().manifest(&name).await.unwrap_err();
            assert!(error.to_string().ends_with("access denied: not for you"), "{error}");
        }
        // An error code without a message is enough.
        let client = odd(|_| answer(404, &[], r#"{"errors":[{"code":"NAME_UNKNOWN","message":null}]}"#));
        let name = format!("{ODD}/r").parse().unwrap();
        let blob = registry::Descriptor::new("x", Digest::of(b"x"), 1);
        let error = registry::blobs::bytes(&client.build().unwrap(), &name, &blob).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::NameUnknown { .. }), "{error}");
    });
}

#[test]
fn hosts_in_capitals_are_the_same_hosts() {
    run(async {
        let image = image("a", &[bytes("l", 100)]);
        let served = image.clone();
        let source = odd(move |request| plainly(&served, request));
        // The route and the images' names have different spellings.
        let target = Fake::plain().await;
        let builder = source.route("Target.Example", &format!("HTTP://{}/", target.host()));
        let mirror = Mirror::new(builder.build().unwrap());
        let job = Job::new("ODD.Example/r:1".parse().unwrap(), "target.EXAMPLE/r:1".parse().unwrap());
        assert_eq!(copy(&mirror, job).await.unwrap().digest, image.digest());
        assert_eq!((target.broken_tag(), target.log.count("PUT manifests")), (None, 1));
    });
}
