//! Reading a target back: the requests, and the damage that is found.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use registry::mirror::{BlobIndex, Check, Checked, DifferenceKind, Event, Job, Mirror, Sizes};
use registry::{Digest, ErrorKind, Reference};

use crate::support::images::{TestImage, bytes, image, index};
use crate::support::{Fake, Fault, client, copy, copy_all, faults::Rule, pair, run};

/// Two platforms that share a layer, and an attestation that no registry has.
fn platforms() -> TestImage {
    let amd64 = image("amd64", &[bytes("a", 300_000), bytes("common", 900)]);
    let arm64 = image("arm64", &[bytes("b", 600), bytes("common", 900)]);
    let mut whole =
        index(&[(Some("linux/amd64"), amd64), (None, image("attests", &[])), (Some("linux/arm64"), arm64)]);
    whole.children.remove(1);
    whole
}

async fn target(image: &TestImage) -> Fake {
    let target = Fake::plain().await;
    target.store(|store| store.seed("r", "1", image));
    target
}

async fn read(mirror: &Mirror, target: &Fake, expected: Digest, deep: bool) -> Checked {
    Check::new(mirror, deep).image(0, &target.name("r:1"), expected).await.unwrap()
}

fn kinds(checked: Checked) -> Vec<(Digest, DifferenceKind)> {
    checked.differences.into_iter().map(|difference| (difference.digest, difference.kind)).collect()
}

#[test]
fn an_image_is_read_back_once_and_its_bytes_only_on_request() {
    run(async {
        let whole = platforms();
        let target = target(&whole).await;
        let mirror = Mirror::new(client());
        let quick = read(&mirror, &target, whole.digest(), false).await;
        assert_eq!((quick.digest, quick.manifests, quick.blobs), (Some(whole.digest()), 3, 5));
        assert!(quick.differences.is_empty(), "{quick:?}");
        assert_eq!(target.log.counts(), "GET manifests 4, HEAD blobs 5");
        target.log.forget();
        let deep = read(&mirror, &target, whole.digest(), true).await;
        assert_eq!(deep, quick);
        assert_eq!(target.log.counts(), "GET blobs 5, GET manifests 4");
        // A second image of the repository only adds its own requests.
        target.store(|store| store.seed("r", "2", &whole));
        target.log.forget();
        let check = Check::new(&mirror, true);
        for tag in ["r:1", "r:2"] {
            assert!(check.image(0, &target.name(tag), whole.digest()).await.unwrap().differences.is_empty());
        }
        assert_eq!(target.log.count("GET blobs"), 5);
    });
}

#[test]
fn each_damage_is_named_with_the_expected_digest() {
    run(async {
        let whole = platforms();
        let (first, common) = (Digest::of(&bytes("a", 300_000)), Digest::of(&bytes("common", 900)));
        let child = whole.children[1].digest();
        let mirror = Mirror::new(client());
        type Damage = fn(&mut crate::support::store::Store, Digest, Digest, Digest);
        let zeros = Digest::of(&[0; 300_000]);
        let cases: [(&str, Damage, DifferenceKind, Digest, bool); 4] = [
            (
                "a blob is gone",
                |store, first, _, _| assert!(store.repository("r").blobs.remove(&first).is_some()),
                DifferenceKind::BlobAbsent,
                first,
                false,
            ),
            (
                "a blob is cut",
                |store, _, common, _| drop(store.contents.insert(common, Bytes::from_static(b"short"))),
                DifferenceKind::BlobSize { expected: 900, found: 5 },
                common,
                false,
            ),
            (
                "a child is gone",
                |store, _, _, child| drop(store.repository("r").manifests.remove(&child)),
                DifferenceKind::ManifestAbsent,
                child,
                false,
            ),
            (
                "a blob is another of the same length",
                |store, first, _, _| drop(store.contents.insert(first, Bytes::from(vec![0; 300_000]))),
                DifferenceKind::BlobContent { found: zeros },
                first,
                true,
            ),
        ];
        for (what, damage, kind, digest, only_deep) in cases {
            let target = target(&whole).await;
            target.store(|store| damage(store, first, common, child));
            for deep in [false, true] {
                let found = kinds(read(&mirror, &target, whole.digest(), deep).await);
                let wanted = if only_deep && !deep { Vec::new() } else { vec![(digest, kind.clone())] };
                assert_eq!(found, wanted, "{what}, deep: {deep}");
            }
        }
    });
}

#[test]
fn a_tag_that_is_absent_or_moved_is_a_difference_and_a_refusal_an_error() {
    run(async {
        let whole = platforms();
        let target = target(&whole).await;
        let mirror = Mirror::new(client());
        let wanted = Digest::of(b"wanted");
        let found = kinds(read(&mirror, &target, wanted, false).await);
        assert_eq!(found, [(wanted, DifferenceKind::TagMoved { found: whole.digest() })]);
        let check = Check::new(&mirror, false);
        let absent = check.image(0, &target.name("r:other"), wanted).await.unwrap();
        assert_eq!(kinds(absent), [(wanted, DifferenceKind::TagAbsent)]);
        // A refused HEAD has no body with the reason, so a GET follows.
        for method in ["HEAD", "GET"] {
            let denied = Fault::error(403, "DENIED", "no", Vec::new());
            target.on(Rule::new(method, "/blobs/", denied).times(99));
        }
        let error = check.image(0, &target.name("r:1"), whole.digest()).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Denied { .. }), "{error}");
    });
}

#[test]
fn bytes_corrupted_once_in_transit_are_read_again() {
    run(async {
        let whole = platforms();
        let target = target(&whole).await;
        let mirror = Mirror::new(client());
        target.on(Rule::new("GET", "/blobs/", Fault::CorruptReply(3)).times(1));
        assert!(read(&mirror, &target, whole.digest(), true).await.differences.is_empty());
        assert_eq!((target.log.fired(), target.log.count("GET blobs")), (1, 6));
    });
}

#[test]
fn a_copy_with_another_read_back_fails_and_the_others_complete() {
    run(async {
        let (source, target) = pair(&image("a", &[bytes("l", 500)])).await;
        let other = image("b", &[bytes("m", 600)]);
        source.store(|store| store.seed("s", "1", &other));
        let lost = Digest::of(&other.blobs[1]);
        let jobs = || ["r:1", "s:1"].map(|name| Job::new(source.name(name), target.name(name))).to_vec();
        // Only a read-back checks whether a blob that was just sent exists.
        let gone = |times| Rule::new("HEAD", &lost.to_string(), Fault::status(404)).times(times);
        target.on(gone(99));
        assert!(copy_all(&Mirror::new(client()), jobs()).await.iter().all(Result::is_ok));
        assert_eq!(target.log.fired(), 0);
        for tag in ["r", "s"] {
            target.store(|store| store.repository(tag).tags.clear());
        }
        target.log.forget();
        let told = Arc::new(Mutex::new(Vec::new()));
        let mirror = Mirror::new(client()).read_back().on_event({
            let told = Arc::clone(&told);
            move |event| match event {
                Event::ImageDone { image, .. } => told.lock().unwrap().push((*image, true)),
                Event::ImageFailed { image, .. } => told.lock().unwrap().push((*image, false)),
                _ => {}
            }
        });
        let copied = copy_all(&mirror, jobs()).await;
        assert!(copied[0].is_ok(), "{copied:?}");
        let error = copied[1].as_ref().unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::ReadBack { .. }), "{error}");
        let words = format!("s:1: read back after it was written: blob {lost} is missing");
        assert!(error.to_string().ends_with(&words), "{error}");
        let mut told = told.lock().unwrap().clone();
        told.sort_unstable();
        assert_eq!(told, [(0, true), (1, false)]);
        // Content that becomes visible a moment later is not a difference.
        let target = Fake::plain().await;
        target.on(gone(2));
        let late = Job::new(source.name("s:1"), target.name("s:1"));
        assert!(copy(&Mirror::new(client()).read_back(), late).await.is_ok());
        assert_eq!(target.log.fired(), 2);
    });
}

/// A registry that reports the sizes of a repository's blobs in bulk.
struct Bulk {
    sizes: HashMap<Digest, Option<u64>>,
    asked: AtomicUsize,
}

impl BlobIndex for Bulk {
    fn sizes<'a>(&'a self, _: &'a Reference, digests: &'a [Digest]) -> Sizes<'a> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let known = digests.iter().filter_map(|digest| Some((*digest, *self.sizes.get(digest)?)));
        let known = known.collect();
        Box::pin(async move { Ok(Some(known)) })
    }
}

#[test]
fn blobs_listed_in_bulk_are_not_requested_singly() {
    run(async {
        let whole = image("a", &[bytes("l", 500), bytes("m", 600)]);
        let target = target(&whole).await;
        let sizes = [(whole.blobs[0].clone(), Some(500)), (whole.blobs[2].clone(), None)];
        let sizes = sizes.into_iter().map(|(blob, size)| (Digest::of(&blob), size)).collect();
        let bulk = Arc::new(Bulk { sizes, asked: AtomicUsize::default() });
        let mirror = Mirror::new(client()).blob_index(Arc::clone(&bulk) as Arc<dyn BlobIndex>);
        let found = kinds(read(&mirror, &target, whole.digest(), false).await);
        assert_eq!(found, [(Digest::of(&whole.blobs[1]), DifferenceKind::BlobAbsent)]);
        assert_eq!(
            (target.log.counts(), bulk.asked.load(Ordering::Relaxed)),
            ("GET manifests 1".to_owned(), 1)
        );
    });
}
