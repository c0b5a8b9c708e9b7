//! How other servers challenge, answer with a token, and redirect.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use registry::{Descriptor, Digest, ErrorKind, Request, Response, RetryPolicy};

use crate::support::faults::Rule;
use crate::support::images::{TestImage, bytes, image};
use crate::support::odd::{ODD, answer, copied_by, header, odd, plainly};
use crate::support::{Fake, Fault, Passwords, builder, client, location, reply, run, small};

const LOGIN: &str = "Basic QVdTOnB3";

/// A 401 with these challenges, each in its own header.
fn challenge(status: u16, challenges: &[&str]) -> Response {
    let headers: Vec<(&str, &str)> = challenges.iter().map(|text| ("www-authenticate", *text)).collect();
    answer(status, &headers, "")
}

/// A registry that answers this to requests without a login or token, with a token service at `/token` that needs no login.
fn asking(
    image: TestImage,
    first: impl Fn(&Request) -> Response + Send + Sync,
) -> impl Fn(&Request) -> Response + Send + Sync {
    move |request| match (request.url.path(), header(request, "authorization")) {
        ("/token", _) => answer(200, &[], r#"{"token":"good"}"#),
        (_, "Bearer good" | LOGIN) => plainly(&image, request),
        _ => first(request),
    }
}

#[test]
fn a_login_in_an_address_is_neither_shown_nor_used() {
    run(async {
        let other = Fake::plain().await;
        let there = format!("http://user:secret@{}/v2/r/", other.host());
        let realm = format!("Bearer realm=\"{there}\"");
        let link = format!("<{there}>; rel=\"next\"");
        for (method, fault) in [
            ("GET", location(307, &there)),
            ("GET", reply(401, &[("www-authenticate", &realm)], "")),
            ("GET", reply(200, &[("link", &link)], "{}")),
            ("POST", location(202, &there)),
            ("POST", location(307, &there)),
        ] {
            let fake = Fake::plain().await;
            fake.on(Rule::new(method, "", fault.clone()).times(9));
            let client = builder().credentials(Arc::new(Passwords::new("pw"))).build().unwrap();
            let name = fake.name("r");
            let error = if method == "GET" {
                registry::lists::tags(&client, &name).await.unwrap_err()
            } else {
                let blob = Descriptor::new("x", Digest::of(b"x"), 1);
                registry::blobs::push_bytes(&client, &name, &blob, b"x".to_vec()).await.unwrap_err()
            };
            assert!(matches!(error.kind(), ErrorKind::UnsafeLocation { .. }), "{fault:?}: {error}");
            let said = format!("{error} {error:?}");
            assert!(said.contains(&other.host()) && !said.contains("secret"), "{said}");
        }
        assert_eq!(other.log.counts(), "");
    });
}

#[test]
fn relative_addresses_are_resolved_by_the_address_that_answered() {
    run(async {
        let (gateway, other) = (Fake::plain().await, Fake::plain().await);
        for tag in ["a", "b", "c"] {
            other.store(|store| store.seed("r", tag, &small()));
        }
        for (method, path) in [("POST", "/v2/r/blobs/uploads/"), ("GET", "/v2/r/tags/list")] {
            let there = format!("http://{}{path}?n=9", other.host());
            gateway.on(Rule::new(method, path, location(307, &there)).times(9));
        }
        let (client, name) = (client(), gateway.name("r"));
        let blob = Descriptor::new("x", Digest::of(b"x"), 1);
        registry::blobs::push_bytes(&client, &name, &blob, b"x".to_vec()).await.unwrap();
        assert!(other.store(|store| store.contents.contains_key(&blob.digest)));
        assert_eq!(registry::lists::tags(&client, &name).await.unwrap(), ["a", "b", "c"]);
        assert_eq!((gateway.log.count("GET tags"), gateway.log.count("PUT uploads")), (1, 0));
        // To another path of the same server.
        let put = Arc::new(Mutex::new(String::new()));
        let seen = Arc::clone(&put);
        let moved = move |request: &Request| match (request.method.as_str(), request.url.path()) {
            ("POST", "/v2/r/blobs/uploads/") => {
                answer(308, &[("location", "/v2/moved/to/r/blobs/uploads/?x=1")], "")
            }
            ("POST", _) => answer(202, &[("location", "session-7?state=1")], ""),
            ("PUT", path) => {
                path.clone_into(&mut seen.lock().unwrap());
                answer(201, &[], "")
            }
            _ => answer(404, &[], ""),
        };
        let name = format!("{ODD}/r").parse().unwrap();
        let client = odd(moved).build().unwrap();
        registry::blobs::push_bytes(&client, &name, &blob, b"x".to_vec()).await.unwrap();
        assert_eq!(*put.lock().unwrap(), "/v2/moved/to/r/blobs/uploads/session-7");
    });
}

#[test]
fn a_401_without_a_challenge_is_resolved_at_the_root_or_by_the_login() {
    run(async {
        let (image, target) = (image("a", &[bytes("l", 10)]), Fake::plain().await);
        for (at_root, login, succeeds) in [
            (challenge(401, &["Bearer realm=\"/token\""]), None, true),
            (challenge(401, &["Basic realm=\"x\""]), Some("pw"), true),
            (challenge(401, &[]), Some("pw"), true),
            (answer(200, &[], ""), Some("pw"), true),
            (answer(404, &[], ""), Some("pw"), true),
            (challenge(401, &[]), Some("wrong"), false),
            (challenge(401, &[]), None, false),
        ] {
            let (status, headers) = (at_root.status(), at_root.headers().clone());
            let roots = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&roots);
            let what = format!("{status} {headers:?} {login:?}");
            let silent = asking(image.clone(), move |request| {
                let mut reply = answer(401, &[], "");
                if request.url.path() == "/v2/" {
                    counted.fetch_add(1, Ordering::SeqCst);
                    (*reply.status_mut(), *reply.headers_mut()) = (status, headers.clone());
                }
                reply
            });
            let client = login
                .into_iter()
                .fold(odd(silent), |client, login| client.credentials(Arc::new(Passwords::new(login))));
            match copied_by(client, &target).await {
                Ok(digest) => assert!(succeeds && digest == image.digest(), "{what}"),
                Err(error) => {
                    assert!(!succeeds, "{what}: {error}");
                    assert!(matches!(error.kind(), ErrorKind::Unauthorized { .. }), "{what}: {error}");
                }
            }
            assert_eq!(roots.load(Ordering::SeqCst), 1, "{what}");
        }
    });
}

#[test]
fn a_403_with_a_challenge_is_answered_once() {
    run(async {
        let (image, target) = (image("a", &[bytes("l", 10)]), Fake::plain().await);
        for challenges in ["Bearer realm=\"https://odd.example/token\"", "Basic realm=\"x\""] {
            for is_enough in [true, false] {
                let asked = Arc::new(AtomicUsize::new(0));
                let counted = Arc::clone(&asked);
                let registry = asking(image.clone(), move |_| challenge(403, &[challenges]));
                let denying = move |request: &Request| {
                    let path = request.url.path();
                    counted.fetch_add(usize::from(path.contains("/manifests/")), Ordering::SeqCst);
                    match registry(request) {
                        reply if is_enough || path == "/token" || !reply.status().is_success() => reply,
                        _ => {
                            let body = r#"{"errors":[{"code":"DENIED","message":"not for you"}]}"#;
                            answer(403, &[("www-authenticate", challenges)], body)
                        }
                    }
                };
                let client = odd(denying).credentials(Arc::new(Passwords::new("pw")));
                match copied_by(client, &target).await {
                    Ok(_) => assert!(is_enough),
                    Err(error) => {
                        assert!(
                            !is_enough && error.to_string().contains("access denied: not for you"),
                            "{error}"
                        );
                        assert!(asked.load(Ordering::SeqCst) <= 3, "{challenges}: {asked:?}");
                    }
                }
            }
        }
    });
}

#[test]
fn challenges_of_every_spelling_are_answered() {
    run(async {
        let (image, target) = (image("a", &[bytes("l", 10)]), Fake::plain().await);
        for challenges in [
            &["Bearer realm=\"/token\",service=\"s\""][..],
            &["Bearer realm=\"//odd.example/token\""],
            &["BEARER realm='https://odd.example/token'; service='a, b'"],
            &["bearer realm=\"/token\" service=\"s\" scope=\"repository:r:pull\""],
            &["Negotiate", "NTLM", "Bearer realm=\"/token\""],
            &["Negotiate YII=, Digest realm=\"x\", nonce=\"y\", Bearer realm=\"/token\""],
            &["Negotiate, bAsIc realm='x'"],
            &["Digest realm=\"x\"", "Basic"],
        ] {
            let registry = asking(image.clone(), move |_| challenge(401, challenges));
            let client = odd(registry).credentials(Arc::new(Passwords::new("pw")));
            let copied = copied_by(client, &target).await;
            assert_eq!(copied.unwrap_or_else(|error| panic!("{challenges:?}: {error}")), image.digest());
        }
        // The password is not sent with another scheme, nor if the server requires neither of ours.
        for challenges in [&["Negotiate", "NTLM TlRM=="][..], &["Digest realm=\"x\", nonce=\"y\""]] {
            let registry = move |request: &Request| {
                assert_eq!(header(request, "authorization"), "");
                challenge(401, challenges)
            };
            let client = odd(registry).credentials(Arc::new(Passwords::new("pw")));
            let error = copied_by(client, &target).await.unwrap_err();
            let ErrorKind::UnknownLogin { schemes } = error.kind() else { panic!("{error}") };
            assert!(["Negotiate, NTLM", "Digest"].contains(&schemes.as_str()), "{error}");
        }
    });
}

#[test]
fn many_forms_of_tokens_are_accepted_and_an_invalid_one_is_an_error_of_the_token_service() {
    run(async {
        let (image, target) = (image("a", &[bytes("l", 10)]), Fake::plain().await);
        let page = "<!doctype html><p>Please log in</p>";
        for (status, body, said) in [
            (200, r#"[{"token":"good"}]"#, None),
            (200, r#"{"Access_Token":"good","Expires_In":"300"}"#, None),
            (200, r#"{"TOKEN":"good","token":null}"#, None),
            (200, page, Some("a web page (HTTP 200)")),
            (200, "", Some("nothing (HTTP 200)")),
            (204, "", Some("nothing (HTTP 204)")),
            (200, "good", Some("what is not JSON (HTTP 200)")),
            (200, "{\"jwt\":\"good\"}", Some("JSON without a token (HTTP 200)")),
            (404, "", Some("HTTP 404")),
            (404, page, Some("HTTP 404: a web page")),
            (403, page, Some("HTTP 403: a web page")),
            (
                400,
                r#"{"errors":[{"code":"X","message":"no such service"}]}"#,
                Some("HTTP 400: no such service"),
            ),
        ] {
            let image = image.clone();
            let asked = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&asked);
            let registry = move |request: &Request| match header(request, "authorization") {
                _ if request.url.path() == "/auth/token" => {
                    counted.fetch_add(1, Ordering::SeqCst);
                    answer(status, &[], body)
                }
                "Bearer good" => plainly(&image, request),
                _ => challenge(401, &["Bearer realm=\"/auth/token\""]),
            };
            let began = Instant::now();
            let copied = copied_by(odd(registry).retry(RetryPolicy::default()), &target).await;
            let Some(said) = said else {
                copied.unwrap_or_else(|error| panic!("{body}: {error}"));
                continue;
            };
            let error = copied.unwrap_err();
            let ErrorKind::TokenService { service, answer } = error.kind() else { panic!("{body}: {error}") };
            assert!(service == ODD && answer.ends_with(said), "{error}");
            assert!(
                asked.load(Ordering::SeqCst) <= 2 && began.elapsed() < Duration::from_secs(2),
                "{asked:?}"
            );
        }
    });
}

#[test]
fn an_upload_session_that_is_already_complete_is_named() {
    run(async {
        let image = image("a", &[bytes("l", 10)]);
        for to in [None, Some("/v2/r/blobs/sha256:0")] {
            let (source, target) = crate::support::pair(&image).await;
            let headers: Vec<_> = to.into_iter().map(|to| ("location", to)).collect();
            target.on(Rule::new("POST", "", reply(201, &headers, "")).times(999));
            let job = registry::mirror::Job::new(source.name("r:1"), target.name("r:1"));
            let client = builder().retry(RetryPolicy::default()).build().unwrap();
            let began = Instant::now();
            let error = crate::support::copy(&registry::mirror::Mirror::new(client), job).await.unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Protocol(_)), "{error}");
            assert!(error.to_string().contains("without an upload session"), "{error}");
            assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
            assert_eq!(target.log.count("PUT manifests"), 0);
        }
        // A server that has the blob, and sends no other information.
        let (source, target) = crate::support::pair(&image).await;
        target.store(|store| store.seed("r", "0", &image));
        target.on(Rule::new("POST", "", Fault::status(201)).times(999));
        crate::support::copied(&source, &target).await.unwrap();
    });
}
