//! Tags of one repository that a registry tells in bulk.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use registry::mirror::{Action, Job, Mirror, TagIndex};
use registry::{BoxFuture, Digest, Reference};

use crate::support::images::{bytes, image};
use crate::support::{Fake, client, run};

type Known = HashMap<String, Option<Digest>>;

/// Knows some tags of the repository `many`, and is asked so often.
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
fn a_repository_is_asked_once_for_all_its_tags_and_the_rest_by_head() {
    run(async {
        let image = image("a", &[bytes("l", 10)]);
        let (source, target) = (Fake::plain().await, Fake::plain().await);
        source.store(|store| store.seed("r", "1", &image));
        for (repository, tag) in [("many", "old"), ("many", "there"), ("many", "unknown"), ("few", "1")] {
            target.store(|store| store.seed(repository, tag, &image));
        }
        let bulk = Arc::new(Bulk {
            known: HashMap::from([
                // Somebody has moved it since: what the list says counts for the plan.
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
        let actions: Vec<&str> = plan
            .images
            .iter()
            .map(|planned| match planned.action {
                Action::UpToDate { .. } => "up to date",
                Action::Copy(_) => "copy",
                Action::Replace { .. } => "replace",
                Action::Complete { .. } => "complete",
                Action::Failed(_) => "failed",
            })
            .collect();
        assert_eq!(
            actions,
            ["replace", "up to date", "copy", "up to date", "up to date", "copy", "copy"],
            "{plan:?}"
        );
        // Of `many` what the list left out, `few` as it is alone, `other` because it cannot be asked so.
        assert_eq!(target.counts(), "HEAD manifests 4");
        assert_eq!(bulk.asked.load(Ordering::Relaxed), 2, "once for each repository of more than one tag");
        let mut wanted = bulk.wanted.lock().unwrap().clone();
        wanted.sort();
        assert_eq!(wanted, ["1", "2", "absent", "old", "there", "unknown"]);
    });
}
