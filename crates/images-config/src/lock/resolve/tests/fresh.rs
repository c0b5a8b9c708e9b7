//! Digests that are too new wait, by a clock that the tests set.

use super::*;
use crate::lock::Seen;

fn day(day: u8) -> jiff::Timestamp {
    format!("2026-11-{day:02}T12:00:00Z").parse().unwrap()
}

/// A registry with one image under `x/y:1`.
async fn having(architecture: &str) -> (Client, Arc<Mutex<Vec<String>>>, Digest) {
    let mut registry = Registry::default();
    let (digest, _) = registry.image(architecture, Some("1"));
    let (client, asked) = registry.start().await;
    (client, asked, digest)
}

/// `x/y:1`, with a `min_age` of three days.
fn waits_three_days() -> Want {
    let text =
        "schema_version = 1\nmin_age = \"3d\"\n[images]\nyy = { source = \"x/y:1\", platforms = \"all\" }\n";
    let config = crate::Config::parse(text, std::path::Path::new("images.toml"), None).unwrap();
    config.wants().remove(0)
}

/// The lock that `lock` writes after `answers`.
fn after(before: &Lock, want: &Want, answers: Answers) -> Lock {
    let mut lock = before.clone();
    lock.waiting.remove(&want.source);
    lock.sources.extend(answers.locked);
    lock.waiting.extend(answers.waiting);
    lock
}

#[tokio::test]
async fn a_digest_is_locked_when_it_is_old_enough_and_not_read_before() {
    let (client, asked, digest) = having("amd64").await;
    let want = waits_three_days();
    let mut lock = Lock::default();
    for today in [1, 2, 3] {
        let answers = resolve_all(&client, std::slice::from_ref(&want), &lock, day(today)).await;
        assert!(answers.locked.is_empty() && answers.vanished.is_empty(), "{answers:#?}");
        assert_eq!(answers.waiting[&want.source], Seen { digest, first_seen: day(1) }, "day {today}");
        lock = after(&lock, &want, answers);
    }
    assert_eq!(count(&asked, "GET manifest"), 0, "nothing is read of what waits");
    let answers = resolve_all(&client, std::slice::from_ref(&want), &lock, day(4)).await;
    assert!(answers.waiting.is_empty() && answers.vanished.is_empty(), "{answers:#?}");
    let locked = &answers.locked[0].1;
    assert_eq!((locked.digest, locked.resolved_at), (digest, day(4)));
    assert_eq!((locked.first_seen, locked.allow_fresh), (Some(day(1)), false));
}

#[tokio::test]
async fn the_older_one_stays_locked_while_the_newer_one_waits() {
    let (client, _, new) = having("amd64").await;
    let want = waits_three_days();
    let old = Locked {
        digest: Digest::of(b"old"),
        media_type: INDEX.to_owned(),
        resolved_at: day(1),
        first_seen: None,
        allow_fresh: false,
        platforms: Vec::new(),
        targets: want.targets.iter().map(|set| (set.clone(), Digest::of(b"old"))).collect(),
    };
    let lock = Lock { sources: BTreeMap::from([(want.source.clone(), old.clone())]), ..Lock::default() };
    let answers = resolve_all(&client, std::slice::from_ref(&want), &lock, day(9)).await;
    assert_eq!(answers.locked, [(want.source.clone(), old.clone())]);
    assert_eq!(answers.waiting[&want.source], Seen { digest: new, first_seen: day(9) });

    // An urgent fix.
    let urgent = Want { allow_fresh: true, ..want.clone() };
    let answers = resolve_all(&client, std::slice::from_ref(&urgent), &lock, day(9)).await;
    let locked = &answers.locked[0].1;
    assert!(answers.waiting.is_empty() && locked.allow_fresh, "{answers:#?}");
    assert_eq!((locked.digest, locked.first_seen), (new, Some(day(9))));
    // A digest that is old enough is not marked as fresh.
    let lock = Lock {
        waiting: BTreeMap::from([(want.source.clone(), Seen { digest: new, first_seen: day(1) })]),
        ..lock
    };
    let answers = resolve_all(&client, std::slice::from_ref(&urgent), &lock, day(9)).await;
    assert!(!answers.locked[0].1.allow_fresh, "{answers:#?}");
}

#[tokio::test]
async fn a_waiting_digest_that_is_replaced_or_gone_is_reported() {
    let (client, _, new) = having("amd64").await;
    let want = waits_three_days();
    let withdrawn = Seen { digest: Digest::of(b"withdrawn"), first_seen: day(1) };
    let gone = Want { source: "x/y:preview".parse().unwrap(), ..want.clone() };
    let waiting = [&want, &gone].map(|want| (want.source.clone(), withdrawn));
    let lock = Lock { waiting: waiting.into_iter().collect(), ..Lock::default() };
    // The first digest is old enough, and its replacement is not.
    let answers = resolve_all(&client, &[want.clone(), gone.clone()], &lock, day(9)).await;
    assert_eq!(answers.vanished.keys().collect::<Vec<_>>(), [&want.source, &gone.source]);
    assert_eq!(answers.waiting[&want.source], Seen { digest: new, first_seen: day(9) });
    assert_eq!(
        answers.failed[0].to_string(),
        format!(
            "docker.io/x/y:preview has vanished upstream: it was {}, first seen {}",
            withdrawn.digest,
            day(1)
        )
    );
}

#[tokio::test]
async fn a_wrong_clock_neither_blocks_a_digest_for_ever_nor_allows_a_fresh_one() {
    let (client, _, digest) = having("amd64").await;
    let want = waits_three_days();
    let seen = |first_seen| Lock {
        waiting: BTreeMap::from([(want.source.clone(), Seen { digest, first_seen })]),
        ..Lock::default()
    };
    // It was seen by a machine whose clock is ahead.
    let answers = resolve_all(&client, std::slice::from_ref(&want), &seen(day(20)), day(9)).await;
    assert!(answers.locked.is_empty());
    assert_eq!(answers.waiting[&want.source].first_seen, day(9), "it waits from now on");
    let lock = after(&seen(day(20)), &want, answers);
    let answers = resolve_all(&client, std::slice::from_ref(&want), &lock, day(12)).await;
    let locked = &answers.locked[0].1;
    assert_eq!((locked.digest, locked.first_seen), (digest, Some(day(9))));

    // The same for a locked digest.
    let ahead = Locked { first_seen: Some(day(20)), ..locked.clone() };
    let lock = Lock { sources: BTreeMap::from([(want.source.clone(), ahead)]), ..Lock::default() };
    let answers = resolve_all(&client, std::slice::from_ref(&want), &lock, day(12)).await;
    assert_eq!(answers.locked[0].1.first_seen, Some(day(12)));
}
