//! Challenges, tokens and passwords: how often they are requested, and which servers get them.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use registry::{Client, Digest, ErrorKind, Request};

use crate::support::faults::Rule;
use crate::support::images::{bytes, image};
use crate::support::odd::{answer, copied_by, header, odd, plainly};
use crate::support::{
    Auth, Fake, Fault, Passwords, Quirks, builder, client, location, reference, reply, run, small,
};

/// A registry with this behaviour that has a small image as `r:1`, and a client that gets `passwords`.
async fn with(passwords: &Passwords, quirks: Quirks) -> (Fake, Client) {
    let fake = Fake::start(quirks).await;
    fake.store(|store| store.seed("r", "1", &small()));
    let client = builder().credentials(Arc::new(passwords.clone())).build().unwrap();
    (fake, client)
}

/// A registry that requires this password, like ECR.
fn wants(password: &str) -> Quirks {
    Quirks { ecr: true, auth: Auth::Basic(password.to_owned()), ..Quirks::default() }
}

/// A registry that requires a token.
fn wants_token() -> Quirks {
    Quirks { auth: Auth::Bearer(None), ..Quirks::default() }
}

#[test]
fn a_hundred_first_requests_cost_one_challenge_and_one_token() {
    run(async {
        let fake = Fake::start(wants_token()).await;
        fake.store(|store| store.seed("r", "1", &image("a", &[])));
        let client = client();
        let name = fake.name("r:1");
        for result in join_all((0..100).map(|_| client.head(&name))).await {
            assert!(result.unwrap().is_some());
        }
        assert_eq!(fake.log.count("GET token"), 1);
        assert_eq!(fake.log.count("HEAD manifests"), 101, "one of them was the challenge");
    });
}

#[test]
fn a_registry_without_authentication_gets_no_further_request() {
    run(async {
        let fake = Fake::plain().await;
        fake.store(|store| store.seed("r", "1", &image("a", &[])));
        let (client, name) = (client(), fake.name("r:1"));
        for result in join_all((0..50).map(|_| client.head(&name))).await {
            assert!(result.unwrap().is_some());
        }
        assert_eq!(fake.log.counts(), "HEAD manifests 50");
    });
}

#[test]
fn tokens_are_kept_per_repository() {
    run(async {
        let fake = Fake::start(wants_token()).await;
        let client = client();
        for name in ["a:1", "b:1", "a:2", "b:2"] {
            assert_eq!(client.head(&fake.name(name)).await.unwrap(), None);
        }
        assert_eq!(fake.log.count("GET token"), 2);
        let scopes: Vec<String> =
            fake.log.seen().into_iter().filter(|seen| seen.kind == "token").map(|seen| seen.path).collect();
        assert!(scopes[0].ends_with("scope=repository%3Aa%3Apull"), "{scopes:?}");
        assert!(scopes[1].ends_with("scope=repository%3Ab%3Apull"), "{scopes:?}");
    });
}

#[test]
fn a_refused_token_is_renewed_once_for_all_requests() {
    run(async {
        let fake = Fake::start(wants_token()).await;
        fake.store(|store| store.seed("r", "1", &image("a", &[])));
        let (client, name) = (client(), fake.name("r:1"));
        client.head(&name).await.unwrap();
        fake.expire();
        for result in join_all((0..30).map(|_| client.head(&name))).await {
            assert!(result.unwrap().is_some());
        }
        assert_eq!(fake.log.count("GET token"), 2);
    });
}

/// A request that took longer than its token's lifetime does not show that the next token is wrong.
#[test]
fn a_token_that_expired_during_a_request_is_not_a_refusal_of_the_next() {
    run(async {
        let fake = Fake::start(wants_token()).await;
        fake.store(|store| store.seed("r", "1", &small()));
        fake.on(Rule::new("GET", "/token", reply(200, &[], r#"{"token":"short","expires_in":1}"#)));
        fake.on(Rule::new("GET", "manifests", Fault::Delay(Duration::from_secs(1))).skip(1));
        fake.on(Rule::new("GET", "manifests", Fault::Expire).skip(1));
        assert!(client().manifest(&fake.name("r:1")).await.unwrap().is_some());
        assert_eq!((fake.log.fired(), fake.log.count("GET token")), (3, 3));
        // A token that is refused while it is valid is renewed once.
        fake.on(Rule::new("GET", "manifests", Fault::Expire).skip(1).times(2));
        let error = client().manifest(&fake.name("r:1")).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Unauthorized { .. }), "{error}");
    });
}

#[test]
fn an_invalid_token_reply_and_an_expired_password_are_both_retried() {
    run(async {
        let passwords = Passwords::new("first");
        let token_password = Some("first".to_owned());
        let (fake, client) = with(&passwords, Quirks { token_password, ..wants_token() }).await;
        let name = fake.name("r:1");
        assert!(client.head(&name).await.unwrap().is_some());
        fake.expire();
        fake.quirks(|quirks| quirks.token_password = Some("second".to_owned()));
        "second".clone_into(&mut passwords.current.lock().unwrap());
        fake.on(Rule::new("GET", "/token", reply(200, &[], "<html>")));
        assert!(client.head(&name).await.unwrap().is_some());
        assert_eq!((fake.log.fired(), fake.log.count("GET token"), passwords.asked()), (1, 4, 2));
    });
}

#[test]
fn a_routes_prefix_is_part_of_path_and_scope() {
    run(async {
        let fake = Fake::start(wants_token()).await;
        let image = image("a", &[]);
        fake.store(|store| store.seed("docker.io/library/curl", "7", &image));
        let client =
            builder().route("docker.io", &format!("http://{}/docker.io", fake.host())).build().unwrap();
        assert_eq!(client.head(&reference("curl:7")).await.unwrap().unwrap().digest, image.digest());
        let token = fake.log.seen().into_iter().find(|seen| seen.kind == "token").unwrap();
        assert!(
            token.path.ends_with("scope=repository%3Adocker.io%2Flibrary%2Fcurl%3Apull"),
            "{}",
            token.path
        );
    });
}

#[test]
fn credentials_never_cross_hosts() {
    run(async {
        let auth = Auth::Basic("p".to_owned());
        let fake = Fake::start(Quirks { auth, ..Quirks::default() }).await;
        let other = Fake::plain().await;
        let image = image("a", &[]);
        other.store(|store| store.seed("r", "1", &image));
        let client = builder().credentials(Arc::new(Passwords::new("p"))).build().unwrap();
        // Get the challenge first, so that the next request has the password.
        assert_eq!(client.head(&fake.name("r:0")).await.unwrap(), None);
        let there = format!("http://{}/v2/r/manifests/1", other.host());
        fake.on(Rule::new("GET", "/manifests/1", location(307, &there)));
        let manifest = client.manifest(&fake.name("r:1")).await.unwrap().unwrap();
        assert_eq!(manifest, image.manifest);
        let asked = fake.log.seen().pop().unwrap();
        assert!(asked.headers.contains_key("authorization"));
        assert!(!other.log.seen()[0].headers.contains_key("authorization"));
    });
}

#[test]
fn a_realm_at_a_private_address_gets_no_credentials() {
    run(async {
        let fake = Fake::plain().await;
        let challenge = "Bearer realm=\"http://169.254.169.254/token\",service=\"x\"".to_owned();
        let headers = vec![("www-authenticate", challenge)];
        fake.on(Rule::new("GET", "/manifests/", Fault::Reply { status: 401, headers, body: String::new() })
            .times(9));
        let client = builder().credentials(Arc::new(Passwords::new("p"))).build().unwrap();
        let error = client.manifest(&fake.name("r:1")).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::UnsafeLocation { .. }), "{error}");
    });
}

#[test]
fn a_new_password_is_used_by_all_waiting_repositories() {
    run(async {
        let quirks = Quirks { token_password: Some("old".to_owned()), ..wants_token() };
        let passwords = Passwords::new("old");
        let (fake, client) = with(&passwords, quirks).await;
        assert!(client.manifest(&fake.name("a:1")).await.unwrap().is_none());
        "new".clone_into(&mut passwords.current.lock().unwrap());
        fake.quirks(|quirks| quirks.token_password = Some("new".to_owned()));
        let names = ["b:1", "c:1", "d:1"].map(|name| fake.name(name));
        for found in join_all(names.iter().map(|name| client.manifest(name))).await {
            assert!(found.unwrap().is_none());
        }
        assert_eq!(passwords.asked(), 2, "once for all");
    });
}

#[test]
fn a_password_that_expires_during_blob_checks_is_renewed() {
    run(async {
        let fake = Fake::start(Quirks { auth: Auth::Basic("old".to_owned()), ..Quirks::default() }).await;
        let image = image("a", &[bytes("l", 10)]);
        fake.store(|store| store.seed("r", "1", &image));
        let passwords = Passwords::new("old");
        let client = builder().credentials(Arc::new(passwords.clone())).build().unwrap();
        let blob = Digest::of(&image.blobs[0]);
        assert!(registry::blobs::has(&client, &fake.name("r"), blob).await.unwrap());
        for (password, digest) in [("new", blob), ("newer", Digest::of(b"not there"))] {
            password.clone_into(&mut passwords.current.lock().unwrap());
            fake.quirks(|quirks| quirks.auth = Auth::Basic(password.to_owned()));
            assert_eq!(registry::blobs::has(&client, &fake.name("r"), digest).await.unwrap(), digest == blob);
        }
    });
}

#[test]
fn an_expired_password_is_a_403_and_is_renewed_once_for_all_requests() {
    run(async {
        let passwords = Passwords::new("old");
        let (fake, client) = with(&passwords, wants("old")).await;
        let name = fake.name("r:1");
        client.manifest(&name).await.unwrap().unwrap();
        assert_eq!(passwords.asked(), 1);
        fake.quirks(|quirks| quirks.auth = Auth::Basic("new".to_owned()));
        *passwords.current.lock().unwrap() = "new".to_owned();
        let many = (0..20).map(|_| client.manifest(&name));
        for result in join_all(many).await {
            result.unwrap().unwrap();
        }
        assert_eq!(passwords.asked(), 2, "one refresh for twenty waiters");
    });
}

#[test]
fn a_stored_password_that_expired_before_the_first_request_is_renewed() {
    run(async {
        // As after `docker login` on the day before: the challenge is answered with the stored password, and the reply is a 403.
        let passwords = Passwords::new("yesterday's");
        let (fake, client) = with(&passwords, wants("today's")).await;
        let name = fake.name("r:1");
        let manifest = client.manifest(&name);
        let renewal = async {
            while passwords.asked() == 0 {
                tokio::task::yield_now().await;
            }
            *passwords.current.lock().unwrap() = "today's".to_owned();
        };
        let (manifest, ()) = tokio::join!(manifest, renewal);
        assert!(manifest.unwrap().is_some());
        assert_eq!(passwords.asked(), 2);
    });
}

#[test]
fn an_expired_password_is_detected_by_a_head_too() {
    run(async {
        let passwords = Passwords::new("old");
        let (fake, client) = with(&passwords, wants("old")).await;
        client.head(&fake.name("r:1")).await.unwrap().unwrap();
        fake.quirks(|quirks| quirks.auth = Auth::Basic("new".to_owned()));
        *passwords.current.lock().unwrap() = "new".to_owned();
        // The 403 of the HEAD has no body: only a GET shows that the token has expired.
        assert!(client.head(&fake.name("r:1")).await.unwrap().is_some());
        assert_eq!(passwords.asked(), 2);
    });
}

#[test]
fn a_password_that_cannot_be_renewed_is_one_error_for_all_waiting_requests() {
    run(async {
        let passwords = Passwords::new("wrong");
        let (fake, client) = with(&passwords, Quirks { ecr: false, ..wants("right") }).await;
        let name = fake.name("r:1");
        let many = (0..20).map(|_| client.manifest(&name));
        for result in join_all(many).await {
            let error = result.unwrap_err();
            assert!(
                matches!(error.kind(), ErrorKind::Unauthorized { .. } | ErrorKind::Denied { .. }),
                "{error}"
            );
        }
        assert!(passwords.asked() <= 3, "asked {} times", passwords.asked());
    });
}

#[test]
fn a_secret_that_a_server_echoes_is_redacted() {
    run(async {
        let image = image("a", &[bytes("l", 10)]);
        let target = Fake::plain().await;
        // A registry that quotes the header, then one whose token service quotes it in another form.
        for challenge in ["Basic realm=\"x\"", "Bearer realm=\"https://odd.example/token\""] {
            let (image, filled) = (image.clone(), "no ".repeat(95));
            let echoing = move |request: &Request| match header(request, "authorization") {
                "" => answer(401, &[("www-authenticate", challenge)], ""),
                _ if request.url.path() == "/v2/" => plainly(&image, request),
                login => {
                    let message =
                        format!("{filled}{} is no login: password-4711", login.trim_start_matches("Basic "));
                    answer(
                        403,
                        &[],
                        serde_json::json!({ "errors": [{ "code": "DENIED", "message": message }] })
                            .to_string(),
                    )
                }
            };
            let client = odd(echoing).credentials(Arc::new(Passwords::new("password-4711")));
            let error = copied_by(client, &target).await.unwrap_err().to_string();
            if challenge.starts_with("Basic") {
                assert!(error.contains("no no no ***"), "{error}");
            }
            // Nor a part of it, at the place where the message is cut off.
            assert!(!error.contains("QVdT") && !error.contains("password-4711"), "{error}");
        }
    });
}
