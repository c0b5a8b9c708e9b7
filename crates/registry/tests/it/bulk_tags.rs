//! Tags of one repository that a registry lists in bulk, and tags of a repository that does not exist.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use registry::mirror::{Action, Job, Mapping, MemoryMapping, Mirror, Planned, TagIndex};
use registry::{BoxFuture, Digest, Reference};

use crate::support::faults::Rule;
use crate::support::images::{TestImage, bytes, image};
use crate::support::{Fake, Fault, client, counting, run};

type Known = HashMap<String, Option<Digest>>;

/// Knows some tags of the repository `many`, and counts how often it is asked.
#[derive(Default)]
struct Bulk {
    known: Known,
    asked: AtomicUsize,
    wanted: Mutex<Vec<String>>,
}

impl TagIndex for Bulk {
    fn tags<'a>(&'a self, repository: &'a Reference, tags: &'a [String]) -> BoxFuture<'a, Option<Known>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.wanted.lock().unwrap().extend_from_slice(tags);
        let known = (repository.repository() == "many").then(|| self.known.clone());
        Box::pin(async move { known })
    }
}

#[test]
fn tags_of_a_repository_are_listed_once_and_others_checked_by_head() {
    run(async {
        let image = image("a", &[bytes("l", 10)]);
        let (source, target) = (Fake::plain().await, Fake::plain().await);
        source.store(|store| store.seed("r", "1", &image));
        for (repository, tag) in [("many", "old"), ("many", "there"), ("many", "unknown"), ("few", "1")] {
            target.store(|store| store.seed(repository, tag, &image));
        }
        let bulk = Arc::new(Bulk {
            known: HashMap::from([
                // The tag was moved since: the plan uses the list.
                ("old".to_owned(), Some(Digest::of(b"before"))),
                ("there".to_owned(), Some(image.digest())),
                ("absent".to_owned(), None),
            ]),
            ..Bulk::default()
        });
        let mirror = Mirror::new(client()).tag_index(Arc::clone(&bulk) as Arc<dyn TagIndex>);
        let names = ["many:old", "many:there", "many:absent", "many:unknown", "few:1", "other:1", "other:2"];
        let jobs = names.map(|name| Job::new(source.name("r:1"), target.name(name)));
        let plan = mirror.plan(jobs.to_vec()).await;
        let actions: Vec<&str> = plan.images.iter().map(action).collect();
        assert_eq!(
            actions,
            ["replace", "up to date", "copy", "up to date", "up to date", "copy", "copy"],
            "{plan:?}"
        );
        // The tag of `many` that is not in the list, `few` because it has one tag, `other` because it cannot be listed in bulk.
        assert_eq!(target.log.counts(), "HEAD manifests 4");
        assert_eq!(bulk.asked.load(Ordering::Relaxed), 2, "once for each repository of more than one tag");
        let mut wanted = bulk.wanted.lock().unwrap().clone();
        wanted.sort();
        assert_eq!(wanted, ["1", "2", "absent", "old", "there", "unknown"]);
    });
}

fn action(planned: &Planned) -> &'static str {
    match planned.action {
        Action::UpToDate { .. } => "up to date",
        Action::Copy(_) => "copy",
        Action::Replace { .. } => "replace",
        Action::Complete { .. } => "complete",
        Action::Failed(_) => "failed",
    }
}

/// A source with the tags 0 to 3 of one repository, each another image, and an empty target.
async fn many() -> (Fake, Fake, Vec<TestImage>) {
    let (source, target) = (Fake::plain().await, Fake::plain().await);
    let images: Vec<TestImage> = (0..4).map(|n| image("a", &[bytes(&format!("l{n}"), 10)])).collect();
    for (tag, image) in images.iter().enumerate() {
        source.store(|store| store.seed("r", &tag.to_string(), image));
    }
    (source, target, images)
}

/// The plan for this number of tags, and the requests for it at the source and at the target.
async fn asked(
    mirror: &Mirror,
    source: &Fake,
    target: &Fake,
    count: usize,
) -> (Vec<&'static str>, [String; 2]) {
    let name = |tag: usize| Job::new(source.name(&format!("r:{tag}")), target.name(&format!("new:{tag}")));
    let plan = mirror.plan((0..count).map(name)).await;
    (plan.images.iter().map(action).collect(), [source.log.counts(), target.log.counts()])
}

fn counts(source: &str, target: &str) -> [String; 2] {
    [source.to_owned(), target.to_owned()]
}

#[test]
fn a_missing_repository_has_no_tags_and_its_sources_are_read_at_once() {
    run(async {
        let (source, target, _) = many().await;
        let mirror = Mirror::new(client());
        let wanted = counts("GET manifests 4", "GET tags 1, HEAD manifests 1");
        assert_eq!(asked(&mirror, &source, &target, 4).await, (vec!["copy"; 4], wanted));
        // For two tags it would be the same number of requests.
        let (source, target, _) = many().await;
        let wanted = counts("GET manifests 2, HEAD manifests 2", "HEAD manifests 2");
        assert_eq!(asked(&mirror, &source, &target, 2).await, (vec!["copy"; 2], wanted));
    });
}

#[test]
fn each_tag_is_checked_unless_the_repository_is_known_to_be_missing() {
    run(async {
        let (source, target, images) = many().await;
        target.store(|store| store.seed("new", "other", &images[0]));
        target.store(|store| store.seed("new", "1", &images[1]));
        target.store(|store| store.seed("new", "2", &images[1]));
        let found = asked(&Mirror::new(client()), &source, &target, 4).await;
        let wanted = counts("GET manifests 3, HEAD manifests 2", "GET tags 1, HEAD manifests 4");
        assert_eq!(found, (vec!["copy", "up to date", "replace", "copy"], wanted));
        // The first tag exists: so does the repository.
        let (source, target, images) = many().await;
        target.store(|store| store.seed("new", "0", &images[0]));
        let found = asked(&Mirror::new(client()), &source, &target, 4).await;
        let wanted = counts("GET manifests 3, HEAD manifests 1", "HEAD manifests 4");
        assert_eq!(found, (vec!["up to date", "copy", "copy", "copy"], wanted));
        for no in [400, 401, 403, 404, 405, 500] {
            let (source, target, _) = many().await;
            target.on(Rule::new("GET", "/tags/list", Fault::status(no)).times(99));
            let (actions, _) = asked(&Mirror::new(client()), &source, &target, 4).await;
            assert_eq!((actions, target.log.count("HEAD manifests")), (vec!["copy"; 4], 4), "{no}");
        }
    });
}

#[test]
fn a_source_that_counts_pulls_or_was_read_before_is_checked_by_head() {
    run(async {
        let (source, target, images) = many().await;
        let counting = counting(&source);
        let (actions, _) = asked(&Mirror::new(counting), &source, &target, 4).await;
        assert_eq!((actions, source.log.count("HEAD manifests")), (vec!["copy"; 4], 4));
        let (source, target, _) = many().await;
        let mapping = Arc::new(MemoryMapping::default());
        mapping.record_target_digest(&target.name("new:3"), images[3].digest());
        let mirror = Mirror::new(client()).mapping(mapping);
        let wanted = counts("GET manifests 4, HEAD manifests 4", "HEAD manifests 4");
        assert_eq!(asked(&mirror, &source, &target, 4).await, (vec!["copy"; 4], wanted));
    });
}

#[test]
fn a_failing_source_is_distinguished_from_a_missing_one() {
    run(async {
        let (source, target, _) = many().await;
        source.on(Rule::new("GET", "/manifests/1", Fault::status(503)));
        source.on(Rule::new("GET", "/manifests/2", Fault::status(404)).times(99));
        source.on(Rule::new("GET", "/manifests/3", Fault::status(403)).times(99));
        let (actions, _) = asked(&Mirror::new(client()), &source, &target, 4).await;
        assert_eq!((actions, source.log.fired()), (vec!["copy", "copy", "failed", "failed"], 3));
    });
}
