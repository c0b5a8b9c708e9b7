//! A server that accepts connections and never answers: all tries of a request have one time limit, and waiting for another
//! request's try does not count as a try.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use registry::mirror::{Job, Mirror};
use registry::{Client, Descriptor, Digest, Error, ErrorKind, RetryPolicy, Timeouts, blobs, lists};

use crate::support::faults::Rule;
use crate::support::images::{self, bytes};
use crate::support::{Auth, Fake, Fault, Quirks, copy, pair, run, small};

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
