//! Whole images from one registry to another: the requests, and the result.

use std::sync::{Arc, Mutex};

use registry::mirror::{Event, Job, Limits, Mirror, Platforms};
use registry::{Digest, ErrorKind, Manifest, SOURCE_DIGEST_ANNOTATION};

use crate::support::faults::Rule;
use crate::support::images::{self, TestImage, bytes, image, index, two_platforms};
use crate::support::{Fault, client, copy, only, pair, run, whole};

#[test]
fn a_first_copy_sends_only_needed_requests_and_a_second_one_two_heads() {
    run(async {
        let image = image("a", &[bytes("l1", 300_000), bytes("l2", 10)]);
        let (source, target) = pair(&image).await;
        let mirror = Mirror::new(client());
        let job = || Job::new(source.name("r:1"), target.name("x/r:1"));
        let copied = copy(&mirror, job()).await.unwrap();
        assert_eq!((copied.sent, copied.bytes, copied.digest), (3, image.bytes(), image.digest()));
        assert_eq!(source.log.counts(), "GET blobs 3, GET manifests 1, HEAD manifests 1");
        assert_eq!(target.log.counts(), "HEAD manifests 1, POST uploads 3, PUT manifests 1, PUT uploads 3");
        assert_eq!(target.broken_tag(), None);
        assert_eq!(whole(&mirror, &target.name("x/r:1"), image.digest()).await.blobs, 3);
        source.log.forget();
        target.log.forget();
        assert!(copy(&mirror, job()).await.unwrap().was_up_to_date);
        assert_eq!(
            (source.log.counts(), target.log.counts()),
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
        assert_eq!(source.log.count("GET blobs"), 9, "each blob once, the shared layer too");
    });
}

#[test]
fn one_platform_is_its_own_manifest_and_a_second_run_reads_no_index() {
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
        source.log.forget();
        target.log.forget();
        assert!(copy(&mirror, job()).await.unwrap().was_up_to_date);
        assert_eq!(
            (source.log.counts(), target.log.counts()),
            ("HEAD manifests 1".to_owned(), "HEAD manifests 1".to_owned())
        );
    });
}

#[test]
fn a_lost_mapping_costs_one_read_and_no_transfer() {
    run(async {
        let index = two_platforms();
        let (source, target) = pair(&index).await;
        let job =
            || Job { platforms: only(&["linux/arm64"]), ..Job::new(source.name("r:1"), target.name("r:1")) };
        copy(&Mirror::new(client()), job()).await.unwrap();
        source.log.forget();
        target.log.forget();
        assert!(copy(&Mirror::new(client()), job()).await.unwrap().was_up_to_date);
        assert_eq!(source.log.counts(), "GET manifests 2, HEAD manifests 1");
        assert_eq!(target.log.counts(), "HEAD manifests 1");
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
fn a_missing_platform_is_an_error_with_the_existing_ones() {
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
        // The second time the configuration exists, and is looked up.
        for fetched in [2, 3] {
            let error = copy(&Mirror::new(client()), job(only(&["linux/amd64"]))).await.unwrap_err();
            assert!(error.to_string().ends_with("no linux/amd64: it has linux/arm64"), "{error}");
            assert_eq!((source.log.count("GET blobs"), target.log.count("PUT manifests")), (fetched, 0));
        }
        copy(&Mirror::new(client()), job(only(&["linux/arm64/v8"]))).await.unwrap();
        copy(&Mirror::new(client()), Job { target: target.name("all:1"), ..job(Platforms::All) })
            .await
            .unwrap();
    });
}

#[test]
fn existing_children_at_the_target_are_not_read_again() {
    run(async {
        let index = two_platforms();
        let (source, target) = pair(&index).await;
        target.store(|store| store.seed_untagged("r", &index.children[0]));
        let plan = Mirror::new(client()).plan(vec![Job::new(source.name("r:1"), target.name("r:1"))]).await;
        let content = plan.images[0].content().unwrap();
        assert_eq!(content.manifests_present, 1);
        assert_eq!(source.log.count("GET manifests"), 4, "the index and three children");
    });
}

#[test]
fn an_interrupted_run_is_continued() {
    run(async {
        let image = image("a", &[bytes("l1", 30_000), bytes("l2", 20_000)]);
        let (source, target) = pair(&image).await;
        target.on(Rule::new("PUT", "/manifests/", Fault::error(403, "DENIED", "not yet", Vec::new())));
        let job = || Job::new(source.name("r:1"), target.name("r:1"));
        copy(&Mirror::new(client()), job()).await.unwrap_err();
        source.log.forget();
        let copied = copy(&Mirror::new(client()), job()).await.unwrap();
        assert_eq!((copied.sent, copied.skipped, source.log.count("GET blobs")), (0, 3, 0));
    });
}

#[test]
fn events_report_every_step() {
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
        // Also within one registry, if source and target have the same host.
        copy(&mirror, Job::new(source.name("r:1"), source.name("other:1"))).await.unwrap();
        assert_eq!(source.broken_tag(), None);
    });
}

#[test]
fn a_queued_upload_does_not_time_out() {
    run(async {
        let layers: Vec<Vec<u8>> = (0..3).map(|layer| bytes(&format!("l{layer}"), 1_000)).collect();
        let (source, target) = pair(&image("a", &layers)).await;
        // All further uploads wait for longer than a target's write timeout.
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
fn a_manifest_with_wrong_sizes_or_types_is_refused() {
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
            assert_eq!(target.log.count("PUT manifests"), 0);
        }
    });
}
