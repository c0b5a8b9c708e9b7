//! Tags that have moved, locks, and sources that do not answer: what is done, and what is only reported.

use std::sync::Arc;
use std::time::Duration;

use registry::mirror::{Action, Job, MemoryMapping, Mirror};
use registry::{Digest, ErrorKind, NoConnection};

use crate::support::faults::Rule;
use crate::support::images::{bytes, image, two_platforms};
use crate::support::{Fake, Fault, builder, client, copy, only, pair, run, whole};

#[test]
fn a_tag_moved_by_others_is_shown_and_can_be_kept() {
    run(async {
        let (image, other) = (image("a", &[]), image("other", &[bytes("o", 10)]));
        let (source, target) = pair(&image).await;
        target.store(|store| store.seed("r", "1", &other));
        let mirror = Mirror::new(client());
        let job = || Job::new(source.name("r:1"), target.name("r:1"));
        let plan = mirror.plan(vec![job()]).await;
        let (tag, previous) = plan.images[0].keep_as().unwrap();
        assert_eq!(previous, other.digest());
        mirror.client().retag(&target.name("r:1"), &tag).await.unwrap();
        let copied = mirror.apply(&plan).await.remove(0).result.unwrap();
        assert_eq!((copied.digest, copied.replaced), (image.digest(), Some(other.digest())));
        let kept = target.name("r").with_tag(&tag).unwrap();
        whole(&mirror, &kept, other.digest()).await;
        // A tag that the last run put there may be moved.
        source.store(|store| store.seed("r", "1", &other));
        let plan = mirror.plan(vec![job()]).await;
        assert!(matches!(plan.images[0].action, Action::Replace { ours: true, .. }));
        assert_eq!(plan.images[0].keep_as(), None);
    });
}

#[test]
fn a_lock_decides_and_a_moved_tag_is_reported() {
    run(async {
        let (old, new) = (image("old", &[bytes("l", 10)]), image("new", &[]));
        let (source, target) = pair(&old).await;
        source.store(|store| store.seed("r", "1", &new));
        let job = Job {
            source_digest: Some(old.digest()),
            expected: Some(old.digest()),
            ..Job::new(source.name("r:1"), target.name("r:1"))
        };
        let mirror = Mirror::new(client());
        let plan = mirror.plan(vec![job]).await;
        assert_eq!(plan.images[0].moved(), Some((old.digest(), new.digest())));
        assert_eq!(mirror.apply(&plan).await.remove(0).result.unwrap().digest, old.digest());
    });
}

#[test]
fn a_lock_with_another_digest_than_the_sources_is_an_error() {
    run(async {
        let index = two_platforms();
        let (source, target) = pair(&index).await;
        let job = Job {
            source_digest: Some(index.digest()),
            expected: Some(Digest::of(b"something else")),
            ..Job::new(source.name("r:1"), target.name("r:1"))
        };
        let error = copy(&Mirror::new(client()), job).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::DigestMismatch { .. }), "{error}");
        assert_eq!(target.log.count("PUT manifests"), 0);
    });
}

#[test]
fn an_unreachable_source_is_no_error_if_the_target_has_the_locked_digest() {
    run(async {
        let image = image("a", &[]);
        let target = Fake::plain().await;
        target.store(|store| store.seed("r", "1", &image));
        let dead = crate::support::reference("127.0.0.1:1/r:1");
        let job = |expected| Job { expected, ..Job::new(dead.clone(), target.name("r:1")) };
        let plan = Mirror::new(client()).plan(vec![job(Some(image.digest()))]).await;
        assert!(plan.is_up_to_date(), "{plan:?}");
        assert_eq!(plan.images[0].unanswered.as_ref().unwrap().registry(), "127.0.0.1:1");
        for expected in [None, Some(Digest::of(b"something else"))] {
            let error = copy(&Mirror::new(client()), job(expected)).await.unwrap_err();
            let why = NoConnection::Refused;
            assert!(
                matches!(error.kind(), ErrorKind::NoConnection { why: found, .. } if *found == why),
                "{error}"
            );
        }
    });
}

#[test]
fn an_unreachable_source_is_not_retried_for_long_and_a_refusal_is_an_error() {
    run(async {
        let image = image("a", &[]);
        let cases = [
            (Fault::Hang, true),
            (Fault::status(503), true),
            (Fault::too_many(None), true),
            (Fault::status(404), false),
            (Fault::status(401), false),
            (Fault::status(403), false),
        ];
        for (fault, is_away) in cases {
            let (source, target) = pair(&image).await;
            target.store(|store| store.seed("r", "1", &image));
            source.on(Rule::new("*", "", fault.clone()).times(999));
            let job =
                Job { expected: Some(image.digest()), ..Job::new(source.name("r:1"), target.name("r:1")) };
            let began = std::time::Instant::now();
            // A hundred at once: one after the other, the requests without a reply would take half a minute.
            let plan = Mirror::new(client()).plan(vec![job; 100]).await;
            assert!(began.elapsed() < Duration::from_secs(5), "{fault:?}: {:?}", began.elapsed());
            assert_eq!(plan.is_up_to_date(), is_away, "{fault:?}: {:?}", plan.images[0]);
            assert_eq!(plan.images[0].unanswered.is_some(), is_away, "{fault:?}");
        }
    });
}

#[test]
fn without_a_lock_the_last_runs_result_is_enough() {
    run(async {
        let index = two_platforms();
        let (source, target) = pair(&index).await;
        let mapping = Arc::new(MemoryMapping::default());
        let mirror = || Mirror::new(client()).mapping(Arc::<MemoryMapping>::clone(&mapping));
        let job = |platform: &str| Job {
            platforms: only(&[platform]),
            ..Job::new(source.name("r:1"), target.name("r:1"))
        };
        copy(&mirror(), job("linux/amd64")).await.unwrap();
        source.on(Rule::new("*", "", Fault::status(503)).times(999));
        let plan = mirror().plan(vec![job("linux/amd64")]).await;
        assert!(plan.is_up_to_date() && plan.images[0].unanswered.is_some(), "{plan:?}");
        // The result for another platform is not known, because it was never requested.
        let plan = mirror().plan(vec![job("linux/arm64")]).await;
        assert!(matches!(plan.images[0].action, Action::Failed(_)), "{plan:?}");
    });
}

#[test]
fn a_registry_that_never_answers_is_tried_in_parallel() {
    run(async {
        let (source, target) = (Fake::plain().await, Fake::plain().await);
        source.on(Rule::new("*", "", Fault::Hang).times(999));
        let retry = registry::RetryPolicy { attempts: 2, ..registry::RetryPolicy::default() };
        let client = builder().retry(retry).build().unwrap();
        let job = Job::new(source.name("r:1"), target.name("r:1"));
        let began = std::time::Instant::now();
        let plan = Mirror::new(client).plan(vec![job; 20]).await;
        assert!(plan.images.iter().all(|planned| matches!(planned.action, Action::Failed(_))));
        // The first one alone, all others after it, and once more: not 40 times the reply timeout of 1.5 s.
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    });
}

#[test]
fn a_missing_source_is_named() {
    run(async {
        let (source, target) = (Fake::plain().await, Fake::plain().await);
        let error =
            copy(&Mirror::new(client()), Job::new(source.name("r:1"), target.name("r:1"))).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::NotFound { .. }), "{error}");
        assert!(error.to_string().contains(&source.name("r:1").to_string()), "{error}");
    });
}
