//! A server that accepts connections and never answers: all tries of a request have one time limit, and waiting for another
//! request's try does not count as a try.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use registry::mirror::{Job, Mirror};
use registry::{Client, Descriptor, Digest, Error, ErrorKind, Manifest, RetryPolicy, Timeouts, blobs, lists};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::support::faults::Rule;
use crate::support::images::{self, bytes};
use crate::support::odd::{ODD, answer, odd};
use crate::support::{Auth, Fake, Fault, Quirks, copy, pair, reference, reply, run, small};

const REPLY: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_millis(300);
/// The tries that begin within that time.
const TRIES: usize = 2;
/// All of them, on a busy machine.
const LIMIT: Duration = Duration::from_secs(5);

/// A client with many tries and a time limit of less than two reply timeouts.
fn client() -> Client {
    let retry = RetryPolicy {
        attempts: 9,
        base: Duration::from_millis(2),
        give_up_after: PATIENCE,
        ..RetryPolicy::default()
    };
    let timeouts = Timeouts { reply: REPLY, idle: Duration::from_millis(150), ..Timeouts::default() };
    Client::builder().retry(retry).timeouts(timeouts).build().unwrap()
}

/// The result of `asked`, within the limit.
async fn stalled<T: std::fmt::Debug>(asked: impl Future<Output = Result<T, Error>>) {
    let began = Instant::now();
    let error = tokio::time::timeout(LIMIT, asked).await.expect("it has no end").unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Stalled { .. }), "{error}");
    assert!(began.elapsed() >= REPLY.min(Duration::from_millis(150)), "nothing was waited for");
}

async fn hanging(method: &'static str, path: &str) -> Fake {
    let fake = Fake::plain().await;
    fake.store(|store| store.seed("r", "1", &small()));
    fake.on(Rule::new(method, path, Fault::Hang).times(999));
    fake
}

#[test]
fn a_request_is_retried_until_its_time_limit_and_not_by_count() {
    run(async {
        let fake = hanging("HEAD", "/manifests/").await;
        stalled(client().head(&fake.name("r:1"))).await;
        assert!((1..=TRIES).contains(&fake.log.count("HEAD manifests")), "{}", fake.log.counts());

        let fake = hanging("GET", "/manifests/").await;
        stalled(client().manifest(&fake.name("r:1"))).await;
        assert!((1..=TRIES).contains(&fake.log.count("GET manifests")), "{}", fake.log.counts());

        let fake = Fake::start(Quirks { auth: Auth::Bearer(None), ..Quirks::default() }).await;
        fake.on(Rule::new("GET", "/token", Fault::Hang).times(999));
        stalled(client().head(&fake.name("r:1"))).await;
        assert!((1..=TRIES).contains(&fake.log.count("GET token")), "{}", fake.log.counts());

        let fake = hanging("GET", "/tags/list").await;
        stalled(lists::tags(&client(), &fake.name("r"))).await;
        assert!((1..=TRIES).contains(&fake.log.count("GET tags")), "{}", fake.log.counts());
    });
}

/// Simultaneous requests.
const TOGETHER: usize = 6;

#[test]
fn simultaneous_requests_fail_as_soon_as_one() {
    run(async {
        let fake = hanging("HEAD", "/manifests/").await;
        let (client, name) = (client(), fake.name("r:1"));
        join_all((0..TOGETHER).map(|_| stalled(client.head(&name)))).await;
        // All others wait for the first one without a result, and then for their own.
        let asked = fake.log.count("HEAD manifests");
        assert!((TOGETHER..=TOGETHER + 1).contains(&asked), "{}", fake.log.counts());
    });
}

#[test]
fn an_always_busy_registry_fails_once_for_all_requests() {
    run(async {
        let fake = Fake::plain().await;
        fake.store(|store| store.seed("r", "1", &small()));
        fake.on(Rule::new("HEAD", "/manifests/", Fault::too_many(Some(1))).times(999));
        let give_up_after = Duration::from_millis(2500);
        let retry = RetryPolicy {
            attempts: 99,
            base: Duration::from_millis(2),
            give_up_after,
            ..RetryPolicy::default()
        };
        let client = Client::builder().retry(retry).build().unwrap();
        let (name, began) = (fake.name("r:1"), Instant::now());
        for asked in join_all((0..TOGETHER).map(|_| client.head(&name))).await {
            let error = asked.unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::TooManyRequests { .. }), "{error}");
            // With the same text, so that it can be reported once.
            assert_eq!(error.retry_after(), Some(Duration::from_secs(1)), "{error}");
        }
        let took = began.elapsed();
        assert!(took >= give_up_after - Duration::from_secs(1), "nothing was waited for: {took:?}");
        assert!(took < give_up_after * 3, "each was waited for by itself: {took:?}");
    });
}

#[test]
fn a_list_without_a_last_page_is_an_error() {
    run(async {
        let fake = Fake::plain().await;
        for tag in 0..20 {
            fake.store(|store| store.seed("r", &format!("a-long-tag-{tag}"), &small()));
        }
        fake.on(Rule::new("GET", "/tags/list", Fault::Trickle).times(999));
        stalled(lists::tags(&client(), &fake.name("r"))).await;
    });
}

#[test]
fn a_copy_from_a_silent_source_or_to_a_silent_target_ends() {
    let image = images::image("a", &[bytes("l", 500_000)]);
    for (method, path, at_source) in [
        ("GET", "/blobs/", true),
        ("POST", "/blobs/uploads/", false),
        ("PUT", "/blobs/uploads/", false),
        ("PUT", "/manifests/", false),
    ] {
        run(async {
            let (source, target) = pair(&image).await;
            let side = if at_source { &source } else { &target };
            side.on(Rule::new(method, path, Fault::Hang).times(999));
            let mirror = Mirror::new(client());
            stalled(copy(&mirror, Job::new(source.name("r:1"), target.name("r:1")))).await;
            let seen = side.log.seen();
            let asked = seen.iter().filter(|seen| seen.method == method && seen.path.contains(path)).count();
            // A configuration and a layer.
            assert!((1..=2 * TRIES).contains(&asked), "{method} {path}: {}", side.log.counts());
        });
    }
}

#[test]
fn a_stalled_push_from_memory_is_an_error() {
    run(async {
        for content in [bytes("sbom", 70_000), Vec::new()] {
            let fake = hanging("PUT", "/blobs/uploads/").await;
            let blob = Descriptor::new("x", Digest::of(&content), content.len() as u64);
            let (client, to) = (client(), fake.name("r"));
            stalled(blobs::push_bytes(&client, &to, &blob, content.clone())).await;
            assert!((1..=TRIES).contains(&fake.log.count("PUT uploads")), "{}", fake.log.counts());
        }
    });
}

/// A server that answers each request with informational replies, and never with the one that ends them. Its open connections
/// hold the second result.
async fn announcing(line: &'static str, pause: Duration) -> (SocketAddr, Arc<()>) {
    let open = Arc::new(());
    let held = Arc::clone(&open);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let open = Arc::clone(&held);
            tokio::spawn(async move {
                let mut request = [0; 1024];
                // Ends when the client closes the connection.
                while socket.read(&mut request).await.is_ok_and(|read| read > 0) {
                    while socket.write_all(format!("HTTP/1.1 {line}\r\n\r\n").as_bytes()).await.is_ok() {
                        tokio::time::sleep(pause).await;
                    }
                }
                drop(open);
            });
        }
    });
    (address, open)
}

#[test]
fn a_server_that_only_announces_its_reply_is_given_up() {
    run(async {
        for (line, pause) in [("100 Continue", 0), ("103 Early Hints\r\nLink: </a>; rel=preload", 5)] {
            let (address, open) = announcing(line, Duration::from_millis(pause)).await;
            let name = reference(&format!("{address}/r:1"));
            stalled(client().head(&name)).await;
            stalled(client().manifest(&name)).await;
            let content = bytes("sbom", 70_000);
            let blob = Descriptor::new("x", Digest::of(&content), 70_000);
            stalled(blobs::bytes(&client(), &name, &blob)).await;
            // The same for a token service, an object store, and where the bytes of an upload are sent to.
            let challenge = format!("Bearer realm=\"http://{address}/token\"");
            let fake = Fake::plain().await;
            fake.on(Rule::new("HEAD", "/manifests/", reply(401, &[("www-authenticate", &challenge)], "")));
            stalled(client().head(&fake.name("r:1"))).await;
            let there = format!("http://{address}/x");
            fake.on(Rule::new("GET", "/blobs/", reply(307, &[("location", &there)], "")).times(9));
            stalled(blobs::bytes(&client(), &fake.name("r"), &blob)).await;
            fake.on(Rule::new("POST", "/uploads/", reply(202, &[("location", &there)], "")).times(9));
            stalled(blobs::push_bytes(&client(), &fake.name("r"), &blob, content)).await;
            // No connection is left open: this test's and the listener's references are the last ones.
            let closed = async {
                while Arc::strong_count(&open) > 2 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::time::timeout(LIMIT, closed).await.expect("a connection is still open");
        }
    });
}

/// How long `asked` takes at a registry that answers each PUT or POST with this error, and how many of them there are. The clock
/// is moved forward instead of waited for.
async fn refused<T, F>(
    status: u16,
    code: &'static str,
    asked: impl FnOnce(Client) -> F,
) -> (Error, Duration, usize)
where
    T: std::fmt::Debug,
    F: Future<Output = Result<T, Error>>,
{
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tries);
    let client = odd(move |request| match request.method.as_str() {
        "PUT" | "POST" => {
            counted.fetch_add(1, Ordering::Relaxed);
            answer(status, &[], format!(r#"{{"errors":[{{"code":"{code}","message":"no"}}]}}"#))
        }
        _ if request.url.path() == "/v2/" => answer(200, &[], ""),
        _ => answer(404, &[], ""),
    });
    let client = client.retry(RetryPolicy::default()).build().unwrap();
    let began = tokio::time::Instant::now();
    let error = asked(client).await.unwrap_err();
    (error, began.elapsed(), tries.load(Ordering::Relaxed))
}

#[tokio::test(start_paused = true)]
async fn a_permanent_conflict_or_missing_part_is_reported_after_five_seconds() {
    let manifest = Manifest::new(images::OCI_IMAGE, "{}");
    let name = &reference(&format!("{ODD}/r:1"));
    for (status, code) in [
        (409, "CONFLICT"),
        (409, ""),
        (404, "MANIFEST_UNKNOWN"),
        (404, "MANIFEST_BLOB_UNKNOWN"),
        (400, "MANIFEST_BLOB_UNKNOWN"),
        (410, ""),
    ] {
        let put = |client: Client| {
            let manifest = &manifest;
            async move { client.put_manifest(name, manifest).await }
        };
        let (error, took, tries) = refused(status, code, put).await;
        let seconds = took.as_secs_f64();
        assert!((4.9..5.2).contains(&seconds), "{status} {code}: {error} after {seconds} s");
        assert!((5..=6).contains(&tries), "{status} {code}: {tries}");
    }
    let blob = Descriptor::new("x", Digest::of(b"x"), 1);
    let push = |client| async move { blobs::push_bytes(&client, name, &blob, b"x".to_vec()).await };
    let (error, took, _) = refused(409, "CONFLICT", push).await;
    assert!((4.9..5.2).contains(&took.as_secs_f64()), "{error} after {took:?}");
    // What is known to pass is still waited for.
    let put = |client: Client| async move {
        client.put_manifest(name, &Manifest::new(images::OCI_IMAGE, "{}")).await
    };
    let (error, took, tries) = refused(503, "", put).await;
    assert!(took > Duration::from_secs(10) && tries == 7, "{error} after {took:?}, {tries}");
}
