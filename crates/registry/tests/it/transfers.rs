//! The transfer of one blob, and faults during it.

use std::time::{Duration, Instant};

use registry::mirror::{Job, Mirror};
use registry::{Digest, ErrorKind};

use crate::support::faults::Rule;
use crate::support::images::{self, bytes};
use crate::support::{Fake, Fault, TestImage, client, copied, copy_all, pair, reply, run};

/// An image of one layer, and that layer's digest.
fn large() -> (TestImage, Digest) {
    let image = images::image("a", &[bytes("l", 500_000)]);
    let layer = Digest::of(&image.blobs[0]);
    (image, layer)
}

#[test]
fn wrong_bytes_of_the_source_never_reach_a_target_that_verifies_nothing() {
    run(async {
        let (image, layer) = large();
        let (source, target) = pair(&image).await;
        target.quirks(|quirks| quirks.gullible = true);
        source.on(Rule::new("GET", "/blobs/", Fault::CorruptReply(400_000)).times(99));
        let error = copied(&source, &target).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::DigestMismatch { .. }), "{error}");
        assert!(target.store(|store| !store.contents.contains_key(&layer)), "the last piece was held back");
    });
}

#[test]
fn a_broken_download_is_resumed_in_the_same_upload() {
    run(async {
        let (image, layer) = large();
        let (source, target) = pair(&image).await;
        source.on(Rule::new("GET", &layer.to_string(), Fault::CutReply(300_000)));
        copied(&source, &target).await.unwrap();
        let ranges: Vec<String> = source
            .log
            .seen()
            .iter()
            .filter_map(|seen| seen.headers.get("range"))
            .map(|range| range.to_str().unwrap().to_owned())
            .collect();
        let [range] = ranges.as_slice() else { panic!("{ranges:?}") };
        assert_ne!(range, "bytes=0-");
        assert_eq!(target.log.count("PUT uploads"), 2);
    });
}

#[test]
fn a_single_blob_is_copied_like_in_the_mirror() {
    run(async {
        let (image, layer) = large();
        let (source, target) = pair(&image).await;
        let blob = registry::Descriptor::new("l", layer, 500_000);
        let mirror = Mirror::new(client());
        let (from, to) = (source.name("r"), target.name("t"));
        source.on(Rule::new("GET", "/blobs/", Fault::CutReply(300_000)));
        source.on(Rule::new("GET", "/blobs/", Fault::Trickle));
        let mut sent = vec![registry::mirror::copy_blob(&mirror, &from, &to, &blob).await.unwrap()];
        assert_eq!(
            (source.log.count("GET blobs"), target.log.count("PUT uploads")),
            (3, 1),
            "resumed in one upload"
        );
        sent.push(registry::mirror::copy_blob(&mirror, &from, &to, &blob).await.unwrap());
        sent.push(registry::mirror::copy_blob(&mirror, &to, &target.name("u"), &blob).await.unwrap());
        assert_eq!(sent, [500_000, 0, 0]);
        assert_eq!(
            (source.log.count("GET blobs"), target.log.count("PUT uploads")),
            (3, 1),
            "there, then mounted"
        );
        // A target that claims to have it, and does not, gets it from a client that doubts that.
        let claiming = Fake::plain().await;
        claiming.on(Rule::new("HEAD", "/blobs/", reply(200, &[], "")).times(9));
        let to = claiming.name("t");
        assert_eq!(registry::mirror::copy_blob(&mirror, &from, &to, &blob).await.unwrap(), 0);
        let doubting = Mirror::new(registry::resend::doubting(&client()));
        assert_eq!(registry::mirror::copy_blob(&doubting, &from, &to, &blob).await.unwrap(), 500_000);
        // An upload to a target that accepts no bytes is ended.
        let deaf = Fake::plain().await;
        deaf.on(Rule::new("PUT", "/blobs/", Fault::Hang));
        let began = Instant::now();
        registry::mirror::copy_blob(&mirror, &from, &deaf.name("t"), &blob).await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    });
}

#[test]
fn a_stalled_upload_of_a_file_is_sent_again() {
    run(async {
        let target = Fake::plain().await;
        let content = bytes("f", 400_000);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &content).unwrap();
        let blob = registry::Descriptor::new("l", Digest::of(&content[100..]), 399_900);
        target.on(Rule::new("PUT", "/blobs/", Fault::Hang));
        let client = client();
        let sent =
            registry::blobs::push_file(&client, &target.name("t"), &blob, file.path(), 100).await.unwrap();
        let again =
            registry::blobs::push_file(&client, &target.name("t"), &blob, file.path(), 100).await.unwrap();
        assert_eq!((sent, again), (399_900, 0));
        assert_eq!((target.log.count("PUT uploads"), target.broken_tag()), (2, None));
    });
}

#[test]
fn a_source_without_ranges_is_read_again_in_the_same_upload() {
    run(async {
        let (image, layer) = large();
        let (source, target) = pair(&image).await;
        source.quirks(|quirks| quirks.no_range = true);
        source.on(Rule::new("GET", &layer.to_string(), Fault::CutReply(300_000)));
        copied(&source, &target).await.unwrap();
        assert_eq!((target.log.count("PUT uploads"), target.broken_tag()), (2, None));
    });
}

#[test]
fn a_too_slow_download_is_ended() {
    run(async {
        let (source, target) = pair(&images::image("a", &[bytes("l", 100_000)])).await;
        source.on(Rule::new("GET", "/blobs/", Fault::Trickle));
        let began = Instant::now();
        copied(&source, &target).await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(10), "at 50 bytes a second it would take half an hour");
    });
}

#[test]
fn one_bad_image_does_not_affect_the_others() {
    run(async {
        let (source, target) = (Fake::plain().await, Fake::plain().await);
        let mut jobs = Vec::new();
        for number in 0..5 {
            let image = images::image(&format!("i{number}"), &[bytes(&format!("l{number}"), 1_000)]);
            source.store(|store| store.seed(&format!("s{number}"), "1", &image));
            jobs.push(Job::new(source.name(&format!("s{number}:1")), target.name(&format!("t{number}:1"))));
        }
        source.on(Rule::new("GET", "/v2/s2/blobs/", Fault::status(403)).times(99));
        let results = copy_all(&Mirror::new(client()), jobs).await;
        let failed: Vec<usize> = (0..5).filter(|number| results[*number].is_err()).collect();
        assert_eq!(failed, [2]);
        assert_eq!(target.broken_tag(), None);
    });
}
