//! Blobs that several images share: fetched once, mounted, waited for.

use std::sync::Arc;

use registry::ErrorKind;
use registry::mirror::{Job, MemoryMapping, Mirror, Mounts};

use crate::support::faults::Rule;
use crate::support::images::{bytes, image};
use crate::support::{
    Fake, Fault, Quirks, client, copy, copy_all, ecr, knowing, profile, run, small, source,
};

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
        assert_eq!(source.log.count("GET blobs"), 2 + 12);
        assert_eq!(results.iter().map(|copied| copied.mounted).sum::<usize>(), 22);
        assert_eq!(target.log.count("POST uploads"), 36, "one POST a blob, sent or mounted");
        assert_eq!(target.log.count("HEAD blobs"), 0);
        assert_eq!(target.broken_tag(), None);
    });
}

#[test]
fn a_blob_of_an_earlier_run_is_mounted_by_a_later_one() {
    run(async {
        for ecr in [false, true] {
            let source = Fake::plain().await;
            let target = Fake::start(Quirks { mounts: true, ecr, ..Quirks::default() }).await;
            let client = knowing(&target, profile(ecr));
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
                target.log.forget();
                let results = copy_all(&mirror, jobs[..run].to_vec()).await;
                let copied = results[count].as_ref().unwrap();
                // The layer is sent, then mounted from the other repository, then found in its own.
                let ways = (copied.sent, copied.mounted, copied.skipped);
                assert_eq!(ways, [(2, 0, 0), (1, 1, 0), (1, 0, 1)][count], "ecr {ecr}");
                assert_eq!(
                    target.log.count("POST uploads"),
                    [2, 2, if ecr { 1 } else { 2 }][count],
                    "ecr {ecr}"
                );
            }
            assert_eq!((source.log.count("GET blobs"), target.broken_tag()), (4, None));
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
        assert_eq!(source.log.count("GET blobs"), 2 + 6);
        assert_eq!(target.broken_tag(), None);
    });
}

#[test]
fn if_the_first_image_of_a_shared_blob_fails_another_copies_it() {
    run(async {
        let shared = [bytes("base", 40_000)];
        for ecr in [false, true] {
            let source = Fake::plain().await;
            let target = Fake::start(Quirks { mounts: true, ecr, ..Quirks::default() }).await;
            let client = knowing(&target, profile(ecr));
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
fn a_mount_waits_for_the_manifest_that_refers_to_the_blob() {
    run(async {
        let layers = [bytes("shared", 100_000)];
        let (one, two) = (image("one", &layers), image("two", &layers));
        let source = source(&one).await;
        source.store(|store| store.seed("s", "1", &two));
        let (target, mirror) = ecr(&["r", "s"], Quirks { mounts: true, ..Quirks::default() }).await;
        let jobs = vec![
            Job::new(source.name("r:1"), target.name("r:1")),
            Job::new(source.name("s:1"), target.name("s:1")),
        ];
        let results = copy_all(&mirror, jobs).await;
        let second = results[1].as_ref().unwrap();
        assert_eq!((second.mounted, second.mounted_bytes, second.sent), (1, 100_000, 1));
        assert_eq!(source.log.count("GET blobs"), 3, "the shared layer once, two configurations");
        // The mount that the fake registry refuses until the first manifest exists is not tried before.
        assert_eq!(target.log.count("POST uploads"), 4);
    });
}

#[test]
fn the_session_of_a_refused_mount_is_used() {
    run(async {
        let layers = [bytes("shared", 100_000)];
        let (one, two) = (image("one", &layers), image("two", &layers));
        let source = source(&one).await;
        source.store(|store| store.seed("s", "1", &two));
        let (target, mirror) = ecr(&["r", "s"], Quirks::default()).await;
        let jobs = vec![
            Job::new(source.name("r:1"), target.name("r:1")),
            Job::new(source.name("s:1"), target.name("s:1")),
        ];
        for result in copy_all(&mirror, jobs).await {
            result.unwrap();
        }
        assert_eq!(target.log.count("POST uploads"), 4, "four blobs sent, one POST each");
        assert_eq!(source.log.count("GET blobs"), 4, "without mounts each repository gets the bytes once");
    });
}

#[test]
fn a_registry_without_mounts_gets_a_plain_upload() {
    run(async {
        for status in [400, 404, 405, 403] {
            let image = small();
            let source = source(&image).await;
            let target = Fake::start(Quirks { mount_error: Some(status), ..Quirks::default() }).await;
            copy(&Mirror::new(client()), Job::new(source.name("r:1"), target.name("r:1"))).await.unwrap();
            assert_eq!(target.broken_tag(), None);
        }
    });
}

#[test]
fn mounts_can_be_switched_off() {
    run(async {
        let layers = [bytes("shared", 1_000)];
        let (one, two) = (image("one", &layers), image("two", &layers));
        let source = source(&one).await;
        source.store(|store| store.seed("s", "1", &two));
        let (target, mirror) = ecr(&["r", "s"], Quirks { mounts: true, ..Quirks::default() }).await;
        let mirror = mirror.mounts(&target.host(), Mounts::Never);
        let jobs = vec![
            Job::new(source.name("r:1"), target.name("r:1")),
            Job::new(source.name("s:1"), target.name("s:1")),
        ];
        for result in copy_all(&mirror, jobs).await {
            assert_eq!(result.unwrap().mounted, 0);
        }
    });
}
