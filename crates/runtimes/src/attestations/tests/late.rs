//! A registry that shows what it took only a moment later.

use std::time::Duration;

use registry::RetryPolicy;

use super::*;
use crate::outcome::Done;
use crate::publish::publish;

#[tokio::test]
async fn what_is_shown_a_moment_later_is_looked_at_again_and_what_never_comes_is_an_error() {
    for (late, is_in_place) in [(2, true), (1_000, false)] {
        let build = Build::with(&[("var/lib/dpkg/status", STATUS)]);
        let (store, plain) = (Arc::new(Store { late, ..Store::default() }), Arc::new(Plain::default()));
        let served = Arc::clone(&store) as Arc<dyn Transport>;
        let retry = RetryPolicy { base: Duration::from_millis(1), ..RetryPolicy::default() };
        let client = Client::builder().serve("registry.example", served).retry(retry).build().unwrap();
        let context = Context { client, ..context(&store, &plain) };
        let repository: Reference = "registry.example/lambda".parse().unwrap();
        let (images, bases) = ([build.image], [BaseLayers::default()]);
        let mut done = Done::default();
        let published = publish(&context, &build.planned, &repository, &images, &bases, &mut done).await;
        let tags = store.manifests.lock().unwrap();
        let is_tagged = tags.contains_key(&build.planned.name);
        assert_eq!((published.is_ok(), is_tagged), (is_in_place, is_in_place), "{published:?}");
        match published {
            Ok(()) => assert_eq!(*plain.warnings.lock().unwrap(), Vec::<String>::new()),
            Err(error) => assert!(error.to_string().contains("read back after it was written: "), "{error}"),
        }
    }
}
