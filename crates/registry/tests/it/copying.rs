//! Whole images from one registry to another: what is asked, what arrives.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use registry::mirror::{Action, Event, Job, Limits, Mapping, MemoryMapping, Mirror, Platforms};
use registry::{Digest, ErrorKind, Manifest, NoConnection, Quotas, SOURCE_DIGEST_ANNOTATION};

use crate::support::faults::Rule;
use crate::support::images::{self, TestImage, bytes, image, index};
use crate::support::{Fake, Fault, Quirks, builder, client, copy, copy_all, run, whole};

/// Two platforms with an attestation each.
fn two_platforms() -> TestImage {
    index(&[
        (Some("linux/amd64"), image("amd64", &[bytes("la", 5_000), bytes("common", 900)])),
        (None, image("attests amd64", &[bytes("aa", 50)])),
        (Some("linux/arm64"), image("arm64", &[bytes("lb", 6_000), bytes("common", 900)])),
        (None, image("attests arm64", &[bytes("ab", 60)])),
    ])
}

fn only(platforms: &[&str]) -> Platforms {
    Platforms::Only(platforms.iter().map(|platform| platform.parse().unwrap()).collect())
}

async fn pair(image: &TestImage) -> (Fake, Fake) {
    let (source, target) = (Fake::plain().await, Fake::plain().await);
    source.store(|store| store.seed("r", "1", image));
    (source, target)
}

#[test]
fn a_cold_copy_asks_no_more_than_it_must_and_a_warm_one_two_heads() {
    run(async {
        let image = image("a", &[bytes("l1", 300_000), bytes("l2", 10)]);
        let (source, target) = pair(&image).await;
        let mirror = Mirror::new(client());
        let job = || Job::new(source.name("r:1"), target.name("x/r:1"));
        let copied = copy(&mirror, job()).await.unwrap();
        assert_eq!((copied.sent, copied.bytes, copied.digest), (3, image.bytes(), image.digest()));
        assert_eq!(source.counts(), "GET blobs 3, GET manifests 1, HEAD manifests 1");
        assert_eq!(target.counts(), "HEAD manifests 1, POST uploads 3, PUT manifests 1, PUT uploads 3");
        assert_eq!(target.broken_tag(), None);
        assert_eq!(whole(&mirror, &target.name("x/r:1"), image.digest()).await.blobs, 3);
        source.forget();
        target.forget();
        assert!(copy(&mirror, job()).await.unwrap().was_up_to_date);
        assert_eq!(
            (source.counts(), target.counts()),
            ("HEAD manifests 1".to_owned(), "HEAD manifests 1".to_owned())
        );
    });
}

#[test]
fn all_platforms_are_copied_byte_for_byte() {
    run(async {
        let index = two_platforms();
        let (source, target) = pair(&index).await;
        let mirror = Mirror::new(client());
        let copied = copy(&mirror, Job::new(source.name("r:1"), target.name("r:1"))).await.unwrap();
        assert_eq!(copied.digest, index.digest());
        let there = mirror.client().manifest(&target.name("r:1")).await.unwrap().unwrap();
        assert_eq!(there, index.manifest);
        assert_eq!(whole(&mirror, &target.name("r:1"), index.digest()).await.manifests, 5);
        assert_eq!(source.count("GET blobs"), 9, "each blob once, the shared layer too");
    });
}

#[test]
fn one_platform_is_its_own_manifest_and_a_warm_run_reads_no_index() {
    run(async {
        let index = two_platforms();
        let arm64 = index.children[2].clone();
        let (source, target) = pair(&index).await;
        let mirror = Mirror::new(client());
        let job = || Job {
            platforms: only(&["linux/arm64/v8"]),
            ..Job::new(source.name("r:1"), target.name("r:1"))
        };
        let copied = copy(&mirror, job()).await.unwrap();
        assert_eq!((copied.digest, copied.sent), (arm64.digest(), 3));
        source.forget();
        target.forget();
        assert!(copy(&mirror, job()).await.unwrap().was_up_to_date);
        assert_eq!(
            (source.counts(), target.counts()),
            ("HEAD manifests 1".to_owned(), "HEAD manifests 1".to_owned())
        );
    });
}

#[test]
fn a_lost_mapping_costs_one_look_and_no_transfer() {
    run(async {
        let index = two_platforms();
        let (source, target) = pair(&index).await;
        let job =
            || Job { platforms: only(&["linux/arm64"]), ..Job::new(source.name("r:1"), target.name("r:1")) };
        copy(&Mirror::new(client()), job()).await.unwrap();
        source.forget();
        target.forget();
        assert!(copy(&Mirror::new(client()), job()).await.unwrap().was_up_to_date);
        assert_eq!(source.counts(), "GET manifests 2, HEAD manifests 1");
        assert_eq!(target.counts(), "HEAD manifests 1");
    });
}

#[test]
fn several_platforms_are_a_trimmed_index_without_dangling_attestations() {
    run(async {
        let mut parts: Vec<(Option<&str>, TestImage)> = vec![(Some("linux/s390x"), image("s390x", &[]))];
        parts.push((None, image("attests s390x", &[])));
        let whole = two_platforms().children;
        let names = [Some("linux/amd64"), None, Some("linux/arm64"), None];
        parts.extend(names.into_iter().zip(whole));
        let index = index(&parts);
        let (source, target) = pair(&index).await;
        let mirror = Mirror::new(client());
        let job = Job {
            platforms: only(&["linux/arm64", "linux/amd64"]),
            ..Job::new(source.name("r:1"), target.name("r:1"))
        };
        let copied = copy(&mirror, job).await.unwrap();
        let there = mirror.client().manifest(&target.name("r:1")).await.unwrap().unwrap();
        assert_eq!(there.digest(), copied.digest);
        assert_eq!(there.index().unwrap().manifests.len(), 4);
        let text = String::from_utf8_lossy(there.bytes()).into_owned();
        assert!(text.contains(&format!("\"{SOURCE_DIGEST_ANNOTATION}\":\"{}\"", index.digest())), "{text}");
        assert_eq!(target.broken_tag(), None);
    });
}

#[test]
fn a_platform_that_is_not_there_is_an_error_that_names_those_that_are() {
    run(async {
        let (source, target) = pair(&two_platforms()).await;
        let job =
            Job { platforms: only(&["linux/s390x"]), ..Job::new(source.name("r:1"), target.name("r:1")) };
        let error = copy(&Mirror::new(client()), job).await.unwrap_err();
        assert!(error.to_string().contains("no linux/s390x: it has linux/amd64, linux/arm64"), "{error}");
    });
}

#[test]
fn a_single_image_of_another_platform_is_refused_before_its_tag_is_put() {
    run(async {
        let arm64 = images::image_for("linux/arm64", &[bytes("l", 100)]);
        let (source, target) = pair(&arm64).await;
        let job = |platforms| Job { platforms, ..Job::new(source.name("r:1"), target.name("r:1")) };
        // The second time the configuration is there, and is asked for.
        for fetched in [2, 3] {
            let error = copy(&Mirror::new(client()), job(only(&["linux/amd64"]))).await.unwrap_err();
            assert!(error.to_string().ends_with("no linux/amd64: it has linux/arm64"), "{error}");
            assert_eq!((source.count("GET blobs"), target.count("PUT manifests")), (fetched, 0));
        }
        copy(&Mirror::new(client()), job(only(&["linux/arm64/v8"]))).await.unwrap();
        copy(&Mirror::new(client()), Job { target: target.name("all:1"), ..job(Platforms::All) })
            .await
            .unwrap();
    });
}

#[test]
fn children_that_the_target_has_are_not_read_again() {
    run(async {
        let index = two_platforms();
        let (source, target) = pair(&index).await;
        target.store(|store| store.seed_untagged("r", &index.children[0]));
        let plan = Mirror::new(client()).plan(vec![Job::new(source.name("r:1"), target.name("r:1"))]).await;
        let content = plan.images[0].content().unwrap();
        assert_eq!(content.manifests_present, 1);
        assert_eq!(source.count("GET manifests"), 4, "the index and three children");
    });
}

#[test]
fn shared_blobs_are_fetched_once_and_mounted() {
    run(async {
        let source = Fake::plain().await;
        let target = Fake::plain().await;
        let shared = [bytes("base", 400_000), bytes("more", 300)];
        let mut jobs = Vec::new();
        for number in 0..12 {
            let image = image(&format!("i{number}"), &shared);
            source.store(|store| store.seed(&format!("s{number}"), "1", &image));
            jobs.push(Job::new(source.name(&format!("s{number}:1")), target.name(&format!("t{number}:1"))));
        }
        let mirror = Mirror::new(client());
        let plan = mirror.plan(jobs).await;
        assert_eq!(plan.repository_bytes() - plan.unique_bytes(), 11 * 400_300);
        let results: Vec<_> =
            mirror.apply(&plan).await.into_iter().map(|outcome| outcome.result.unwrap()).collect();
        assert_eq!(source.count("GET blobs"), 2 + 12);
        assert_eq!(results.iter().map(|copied| copied.mounted).sum::<usize>(), 22);
        assert_eq!(target.count("POST uploads"), 36, "one POST a blob, sent or mounted");
        assert_eq!(target.count("HEAD blobs"), 0);
        assert_eq!(target.broken_tag(), None);
    });
}

#[test]
fn what_an_earlier_run_brought_is_mounted_by_a_later_one() {
    run(async {
        for ecr in [false, true] {
            let source = Fake::plain().await;
            let target = Fake::start(Quirks { mounts: true, ecr, ..Quirks::default() }).await;
            let quotas = if ecr { Quotas::Ecr } else { Quotas::Unknown };
            let client = builder().quotas(&target.host(), quotas).build().unwrap();
            let mapping = Arc::new(MemoryMapping::default());
            let mut jobs = Vec::new();
            for (number, repository) in ["t", "u", "t"].into_iter().enumerate() {
                let image = image(&format!("i{number}"), &[bytes("base", 40_000)]);
                source.store(|store| store.seed("s", &number.to_string(), &image));
                target.store(|store| {
                    store.repository(repository);
                });
                let name = format!("{repository}:{number}");
                jobs.push(Job::new(source.name(&format!("s:{number}")), target.name(&name)));
            }
            for (count, run) in [1, 2, 3].into_iter().enumerate() {
                let mirror = Mirror::new(client.clone()).mapping(Arc::<MemoryMapping>::clone(&mapping));
                target.forget();
                let results = copy_all(&mirror, jobs[..run].to_vec()).await;
                let copied = results[count].as_ref().unwrap();
                // The layer is sent, then mounted from the other repository, then found in its own.
                let ways = (copied.sent, copied.mounted, copied.skipped);
                assert_eq!(ways, [(2, 0, 0), (1, 1, 0), (1, 0, 1)][count], "ecr {ecr}");
                assert_eq!(target.count("POST uploads"), [2, 2, if ecr { 1 } else { 2 }][count], "ecr {ecr}");
            }
            assert_eq!((source.count("GET blobs"), target.broken_tag()), (4, None));
        }
    });
}

#[test]
fn without_mounts_each_repository_gets_a_blob_once() {
    run(async {
        let source = Fake::plain().await;
        let target = Fake::start(Quirks::default()).await;
        let shared = [bytes("base", 40_000)];
        let mut jobs = Vec::new();
        for number in 0..6 {
            let image = image(&format!("i{number}"), &shared);
            source.store(|store| store.seed("s", &number.to_string(), &image));
            // Three tags in each of two repositories.
            let name = format!("t{}:{number}", number % 2);
            jobs.push(Job::new(source.name(&format!("s:{number}")), target.name(&name)));
        }
        for result in copy_all(&Mirror::new(client()), jobs).await {
            result.unwrap();
        }
        assert_eq!(source.count("GET blobs"), 2 + 6);
        assert_eq!(target.broken_tag(), None);
    });
}

#[test]
fn when_the_first_of_those_who_share_a_blob_fails_another_brings_it() {
    run(async {
        let shared = [bytes("base", 40_000)];
        for quotas in [Quotas::Unknown, Quotas::Ecr] {
            let source = Fake::plain().await;
            let target =
                Fake::start(Quirks { mounts: true, ecr: quotas == Quotas::Ecr, ..Quirks::default() }).await;
            let client = builder().quotas(&target.host(), quotas).build().unwrap();
            let mut jobs = Vec::new();
            for number in 0..4 {
                let image = image(&format!("i{number}"), &shared);
                source.store(|store| store.seed(&format!("s{number}"), "1", &image));
                target.store(|store| {
                    store.repository(&format!("t{number}"));
                });
                jobs.push(Job::new(
                    source.name(&format!("s{number}:1")),
                    target.name(&format!("t{number}:1")),
                ));
            }
            target.on(Rule::new("POST", "/v2/t0/", Fault::error(403, "DENIED", "no", Vec::new())).times(99));
            let results = copy_all(&Mirror::new(client), jobs).await;
            assert!(matches!(results[0].as_ref().unwrap_err().kind(), ErrorKind::Denied { .. }));
            assert!(results[1..].iter().all(Result::is_ok), "{results:?}");
            assert_eq!(target.broken_tag(), None);
        }
    });
}

#[test]
fn an_interrupted_run_goes_on_where_it_was() {
    run(async {
        let image = image("a", &[bytes("l1", 30_000), bytes("l2", 20_000)]);
        let (source, target) = pair(&image).await;
        target.on(Rule::new("PUT", "/manifests/", Fault::error(403, "DENIED", "not yet", Vec::new())));
        let job = || Job::new(source.name("r:1"), target.name("r:1"));
        copy(&Mirror::new(client()), job()).await.unwrap_err();
        source.forget();
        let copied = copy(&Mirror::new(client()), job()).await.unwrap();
        assert_eq!((copied.sent, copied.skipped, source.count("GET blobs")), (0, 3, 0));
    });
}

#[test]
fn a_tag_that_somebody_else_moved_is_shown_and_can_be_kept() {
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
        // What the last run left there is ours to move.
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
fn a_lock_that_asks_for_something_else_than_the_source_gives_is_an_error() {
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
        assert_eq!(target.count("PUT manifests"), 0);
    });
}

#[test]
fn upstream_may_be_out_of_reach_if_the_target_is_what_the_lock_says() {
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
fn a_source_that_is_away_is_not_waited_for_and_one_that_refuses_is_no_success() {
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
            // A hundred at once: one after the other, those that hang would take half a minute.
            let plan = Mirror::new(client()).plan(vec![job; 100]).await;
            assert!(began.elapsed() < Duration::from_secs(5), "{fault:?}: {:?}", began.elapsed());
            assert_eq!(plan.is_up_to_date(), is_away, "{fault:?}: {:?}", plan.images[0]);
            assert_eq!(plan.images[0].unanswered.is_some(), is_away, "{fault:?}");
        }
    });
}

#[test]
fn without_a_lock_it_is_enough_that_the_last_run_asked() {
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
        // Another platform was never asked for: what it comes to is not known.
        let plan = mirror().plan(vec![job("linux/arm64")]).await;
        assert!(matches!(plan.images[0].action, Action::Failed(_)), "{plan:?}");
    });
}

#[test]
fn a_registry_that_never_answers_is_asked_by_all_at_once() {
    run(async {
        let (source, target) = (Fake::plain().await, Fake::plain().await);
        source.on(Rule::new("*", "", Fault::Hang).times(999));
        let retry = registry::RetryPolicy { attempts: 2, ..registry::RetryPolicy::default() };
        let client = builder().retry(retry).build().unwrap();
        let job = Job::new(source.name("r:1"), target.name("r:1"));
        let began = std::time::Instant::now();
        let plan = Mirror::new(client).plan(vec![job; 20]).await;
        assert!(plan.images.iter().all(|planned| matches!(planned.action, Action::Failed(_))));
        // The first one alone, all others after it, and once more: not 40 times the 1.5 s that a reply may take.
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    });
}

#[test]
fn a_source_that_is_not_there_is_named() {
    run(async {
        let (source, target) = (Fake::plain().await, Fake::plain().await);
        let error =
            copy(&Mirror::new(client()), Job::new(source.name("r:1"), target.name("r:1"))).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::NotFound { .. }), "{error}");
        assert!(error.to_string().contains(&source.name("r:1").to_string()), "{error}");
    });
}

#[test]
fn pulls_that_are_not_left_are_not_begun() {
    run(async {
        let hub = Fake::start(Quirks { pulls_left: Some(1), ..Quirks::default() }).await;
        let (other, target) = (Fake::plain().await, Fake::plain().await);
        for name in ["a", "b"] {
            hub.store(|store| store.seed(name, "1", &image(name, &[])));
        }
        other.store(|store| store.seed("c", "1", &image("c", &[])));
        let jobs = vec![
            Job::new(hub.name("a:1"), target.name("a:1")),
            Job::new(hub.name("b:1"), target.name("b:1")),
            Job::new(other.name("c:1"), target.name("c:1")),
        ];
        let mirror = Mirror::new(builder().counts_pulls(&hub.host()).build().unwrap());
        let plan = mirror.plan(jobs).await;
        assert_eq!((hub.count("GET manifests"), hub.count("HEAD manifests")), (0, 2));
        let pulls = plan.pulls.iter().find(|pulls| pulls.registry == hub.host()).unwrap();
        assert_eq!((pulls.needed, pulls.limit.unwrap().remaining), (2, 1));
        let results: Vec<_> = mirror.apply(&plan).await.into_iter().map(|outcome| outcome.result).collect();
        let ErrorKind::PullsExhausted { needed: 2, remaining: 1, limit: 100, window } =
            results[0].as_ref().unwrap_err().kind()
        else {
            panic!("{results:?}");
        };
        assert_eq!(*window, Some(Duration::from_secs(21_600)));
        assert!(results[1].is_err() && results[2].is_ok());
    });
}

#[test]
fn one_image_under_many_names_is_one_pull() {
    run(async {
        // Three names at the source, and more at the target: one image, and one platform of an index.
        let hub = Fake::start(Quirks { pulls_left: Some(4), ..Quirks::default() }).await;
        let target = Fake::plain().await;
        let (single, index) = (image("single", &[bytes("layer", 10)]), two_platforms());
        for tag in ["1", "1.2", "latest"] {
            hub.store(|store| store.seed("single", tag, &single));
            hub.store(|store| store.seed("index", tag, &index));
        }
        let names = |source: &'static str| {
            let tags = ["1", "1.2", "latest"].into_iter().cycle().take(40).enumerate();
            tags.map(move |(at, tag)| (format!("{source}:{tag}"), format!("{source}-{at}:1")))
                .collect::<Vec<_>>()
        };
        let jobs = [("single", Platforms::All), ("index", only(&["linux/amd64"]))].into_iter().flat_map(
            |(name, platforms)| names(name).into_iter().map(move |(from, to)| (from, to, platforms.clone())),
        );
        let jobs: Vec<Job> = jobs
            .map(|(from, to, platforms)| Job { platforms, ..Job::new(hub.name(&from), target.name(&to)) })
            .collect();
        let mirror = Mirror::new(builder().counts_pulls(&hub.host()).build().unwrap());
        let plan = mirror.plan(jobs).await;
        let [pulls] = plan.pulls.as_slice() else { panic!("{:?}", plan.pulls) };
        assert_eq!((pulls.needed, pulls.limit.unwrap().remaining), (3, 4));
        let outcomes = mirror.apply(&plan).await;
        assert!(outcomes.iter().all(|outcome| outcome.result.is_ok()), "{outcomes:?}");
        assert_eq!(hub.count("GET manifests"), 3);
        // A blob is fetched once, and mounted by all others: two of the one, three of the other.
        assert_eq!(hub.count("GET blobs"), 5);
    });
}

#[test]
fn pulls_that_just_suffice_are_enough() {
    run(async {
        let index = two_platforms();
        let hub = Fake::start(Quirks { pulls_left: Some(6), ..Quirks::default() }).await;
        let target = Fake::plain().await;
        hub.store(|store| store.seed("r", "1", &index));
        // The index and its four children; one is left for the image of one platform, which would be two more.
        let mirror = Mirror::new(builder().counts_pulls(&hub.host()).build().unwrap());
        let plan = mirror.plan(vec![Job::new(hub.name("r:1"), target.name("r:1"))]).await;
        let [pulls] = plan.pulls.as_slice() else { panic!("{:?}", plan.pulls) };
        assert_eq!((pulls.needed, pulls.limit.unwrap().remaining), (5, 6));
        assert_eq!(mirror.apply(&plan).await.remove(0).result.unwrap().digest, index.digest());
        let one =
            Job { platforms: only(&["linux/amd64"]), ..Job::new(hub.name("r:1"), target.name("one:1")) };
        let plan = mirror.plan(vec![one]).await;
        assert_eq!((plan.pulls[0].needed, plan.pulls[0].limit.unwrap().remaining), (2, 1));
        assert!(matches!(plan.images[0].action, Action::Failed(_)));
    });
}

#[test]
fn a_pull_is_saved_where_the_mapping_knows_the_manifest() {
    run(async {
        let index = two_platforms();
        let (source, target) = pair(&index).await;
        let mapping = Arc::new(MemoryMapping::default());
        mapping.put(index.digest(), &only(&["linux/arm64"]), index.children[2].digest());
        let job =
            Job { platforms: only(&["linux/arm64"]), ..Job::new(source.name("r:1"), target.name("r:1")) };
        copy(&Mirror::new(client()).mapping(mapping), job).await.unwrap();
        assert_eq!(source.count("GET manifests"), 1);
    });
}

#[test]
fn signatures_go_along_when_asked_for_and_a_refusal_is_a_warning() {
    run(async {
        let image = image("a", &[bytes("l", 10)]);
        let signature = images::image_of(images::OCI_IMAGE, "sig", &[bytes("s", 20)], Some(&image.manifest));
        let cosign = images::image("cosign", &[bytes("c", 20)]);
        let source = Fake::start(Quirks { referrers: true, ..Quirks::default() }).await;
        let target = Fake::start(Quirks { referrers: true, ..Quirks::default() }).await;
        let cosign_tag = format!("sha256-{}.sig", image.digest().hex());
        source.store(|store| {
            store.seed("r", "1", &image);
            store.seed_untagged("r", &signature);
            store.seed("r", &cosign_tag, &cosign);
        });
        let job = |tag: &str| Job { artifacts: true, ..Job::new(source.name("r:1"), target.name(tag)) };
        let copied = copy(&Mirror::new(client()), job("r:1")).await.unwrap();
        assert_eq!(copied.warnings, Vec::<String>::new());
        assert!(target.store(|store| store.manifest("r", &signature.digest().to_string()).is_some()));
        assert!(target.store(|store| store.manifest("r", &cosign_tag).is_some()));

        // A registry without the API gets the list under a tag.
        let old = Fake::plain().await;
        let job_to = |target| Job { artifacts: true, ..Job::new(source.name("r:1"), target) };
        copy(&Mirror::new(client()), job_to(old.name("r:1"))).await.unwrap();
        let listed = client().referrers(&old.name("r"), image.digest()).await.unwrap();
        assert_eq!(listed.iter().map(|one| one.digest).collect::<Vec<_>>(), [signature.digest()]);
        assert_eq!(old.broken_tag(), None);

        target.on(Rule::new("PUT", "/v2/x/manifests/sha256", Fault::status(405)).times(9));
        let copied = copy(&Mirror::new(client()), job("x:1")).await.unwrap();
        assert_eq!(copied.warnings.len(), 2, "{copied:?}");
        assert!(target.store(|store| store.manifest("x", "1").is_some()));
    });
}

#[test]
fn events_tell_the_whole_story() {
    run(async {
        let image = image("a", &[bytes("l", 600_000)]);
        let (source, target) = pair(&image).await;
        source.on(Rule::new("GET", "/blobs/", Fault::CutReply(100)));
        let events = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&events);
        let mirror = Mirror::new(client()).on_event(move |event| heard.lock().unwrap().push(event.clone()));
        copy(&mirror, Job::new(source.name("r:1"), target.name("r:1"))).await.unwrap();
        let events = events.lock().unwrap();
        let progress: u64 = events
            .iter()
            .map(|event| match event {
                Event::BlobProgress { bytes, .. } => *bytes,
                _ => 0,
            })
            .sum();
        assert_eq!(progress, image.bytes());
        let count = |f: &dyn Fn(&&Event) -> bool| events.iter().filter(f).count();
        assert_eq!(count(&|event| matches!(event, Event::BlobDone { .. })), 2);
        assert_eq!(count(&|event| matches!(event, Event::Retried { .. })), 1);
        assert!(matches!(events.first(), Some(Event::ImageStarted { blobs: 2, .. })));
        assert!(matches!(events.last(), Some(Event::ImageDone { .. })));
    });
}

#[test]
fn one_slot_is_enough_for_everything() {
    run(async {
        let (source, target) = pair(&two_platforms()).await;
        let limits = Limits { transfers: 1, transfers_per_host: 1, requests: 1, requests_per_host: 1 };
        let mirror = Mirror::new(client()).limits(limits);
        copy(&mirror, Job::new(source.name("r:1"), target.name("r:1"))).await.unwrap();
        // Within one registry too, where source and target share a host.
        copy(&mirror, Job::new(source.name("r:1"), source.name("other:1"))).await.unwrap();
        assert_eq!(source.broken_tag(), None);
    });
}

#[test]
fn an_upload_that_waits_for_its_turn_does_not_stall() {
    run(async {
        let layers: Vec<Vec<u8>> = (0..3).map(|layer| bytes(&format!("l{layer}"), 1_000)).collect();
        let (source, target) = pair(&image("a", &layers)).await;
        // All further uploads wait for longer than a target may take to take a byte.
        target.on(Rule::new("PUT", "/uploads/", Fault::too_many(Some(1))));
        let events = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&events);
        let limits = Limits { requests: 1, requests_per_host: 1, ..Limits::default() };
        let mirror = Mirror::new(client())
            .limits(limits)
            .on_event(move |event| heard.lock().unwrap().push(event.clone()));
        copy(&mirror, Job::new(source.name("r:1"), target.name("r:1"))).await.unwrap();
        let retried: Vec<_> = events
            .lock()
            .unwrap()
            .iter()
            .filter_map(|event| match event {
                Event::Retried { error, .. } => Some(error.to_string()),
                _ => None,
            })
            .collect();
        assert_eq!(retried.len(), 1, "{retried:?}");
    });
}

#[test]
fn images_in_ecr_mode_are_put_no_faster_than_the_quota() {
    run(async {
        let (source, target) = (Fake::plain().await, Fake::ecr().await);
        let mut jobs = Vec::new();
        for number in 0..25 {
            source.store(|store| store.seed("s", &number.to_string(), &image(&format!("i{number}"), &[])));
            jobs.push(Job::new(source.name(&format!("s:{number}")), target.name(&format!("t:{number}"))));
        }
        target.store(|store| {
            store.repository("t");
        });
        // Three in ten are throttled on top of it.
        let mut random = fastrand::Rng::with_seed(5);
        for skip in 0..25 {
            if random.u8(0..10) < 3 {
                target.on(Rule::new("PUT", "/manifests/", Fault::too_many(None)).skip(skip));
            }
        }
        let client = builder().quotas(&target.host(), Quotas::Ecr).build().unwrap();
        for result in copy_all(&Mirror::new(client), jobs).await {
            result.unwrap();
        }
        assert_never_more_than_ten_images_a_second(&target);
    });
}

/// Images that share a layer, each to a repository of its own, with three in ten replies of both sides a 429.
async fn throttled(target: &Fake, images: usize, mirror: &Mirror) -> (Fake, u64) {
    let source = Fake::start(Quirks { throttled: 30, ..Quirks::default() }).await;
    target.quirks(|quirks| quirks.throttled = 30);
    let mut jobs = Vec::new();
    for number in 0..images {
        let image = image(&format!("i{number}"), &[bytes("base", 40_000)]);
        source.store(|store| store.seed(&format!("s{number}"), "1", &image));
        target.store(|store| {
            store.repository(&format!("t{number}"));
        });
        jobs.push(Job::new(source.name(&format!("s{number}:1")), target.name(&format!("t{number}:1"))));
    }
    let results = copy_all(mirror, jobs).await;
    assert_eq!(target.broken_tag(), None);
    (source, results.into_iter().map(|result| result.unwrap().bytes).sum())
}

#[test]
fn three_in_ten_replies_are_429_and_everything_arrives_as_often_as_it_must() {
    let images = if std::env::var_os("SOAK").is_some() { 25 } else { 4 };
    run(async {
        let cases = [(true, true), (true, false), (false, true), (false, false)];
        futures_util::future::join_all(cases.map(|(ecr, mounts)| three_in_ten(images, ecr, mounts))).await;
    });
}

async fn three_in_ten(images: usize, ecr: bool, mounts: bool) {
    let target = Fake::start(Quirks { ecr, mounts, ..Quirks::default() }).await;
    let quotas = if ecr { Quotas::Ecr } else { Quotas::Unknown };
    let client = builder().quotas(&target.host(), quotas).build().unwrap();
    let (source, sent) = throttled(&target, images, &Mirror::new(client)).await;
    let configurations: u64 = (0..images).map(|number| image(&format!("i{number}"), &[]).bytes()).sum();
    let layers = if mounts { 1 } else { images };
    assert_eq!(sent, configurations + 40_000 * layers as u64, "ecr {ecr}, mounts {mounts}");
    // What the target did not take is fetched again; nothing else is.
    let refused = target.answered("PUT uploads", 429);
    assert!(source.answered("GET blobs", 200) <= images + layers + refused, "ecr {ecr}, mounts {mounts}");
    if ecr {
        assert_never_more_than_ten_images_a_second(&target);
    }
}

/// On the server's clock, in every window of a second.
fn assert_never_more_than_ten_images_a_second(target: &Fake) {
    let seen = target.seen();
    let puts = seen.iter().filter(|seen| seen.method == "PUT" && seen.kind == "manifests");
    let puts: Vec<_> = puts.map(|seen| seen.at).collect();
    for first in &puts {
        let second = puts.iter().filter(|at| **at >= *first && **at < *first + Duration::from_secs(1));
        assert!(second.count() <= 10);
    }
}

#[test]
fn a_manifest_that_lies_about_its_parts_is_refused() {
    run(async {
        let honest = image("a", &[bytes("l", 1_000)]);
        for (what, field) in [("digest", "\"size\":1000"), ("size", "\"size\":999")] {
            let text = String::from_utf8_lossy(honest.manifest.bytes()).into_owned();
            let mut liar = honest.clone();
            liar.manifest = Manifest::new(images::OCI_IMAGE, text.replace("\"size\":1000", field));
            let (source, target) = pair(&liar).await;
            if what == "digest" {
                let digest = Digest::of(&liar.blobs[0]);
                source.store(|store| store.contents.insert(digest, bytes("something else", 1_000).into()));
            }
            let error = copy(&Mirror::new(client()), Job::new(source.name("r:1"), target.name("r:1")))
                .await
                .unwrap_err();
            assert!(
                matches!(error.kind(), ErrorKind::DigestMismatch { .. } | ErrorKind::SizeMismatch { .. }),
                "{what}: {error}"
            );
            assert_eq!(target.count("PUT manifests"), 0);
        }
    });
}
