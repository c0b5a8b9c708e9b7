//! A registry that claims to have all blobs, and then misses them.

use std::collections::BTreeSet;
use std::time::Duration;

use registry::RetryPolicy;

use super::*;
use crate::push::Push;

#[tokio::test]
async fn blobs_that_a_registry_only_claims_to_have_are_sent() {
    // The third image has the blobs of the second one.
    for platforms in [1, 2, 3] {
        let store = Arc::new(Store { claims: true, ..Store::default() });
        let served = Arc::clone(&store) as Arc<dyn Transport>;
        let retry = RetryPolicy { base: Duration::from_millis(1), ..RetryPolicy::default() };
        let client = Client::builder().serve("registry.example", served).retry(retry).build().unwrap();
        let context = Context { client, ..context(&store, &Arc::new(Plain::default())) };
        let repository: Reference = "registry.example/lambda".parse().unwrap();
        let one = Build::with(&[("var/lib/dpkg/status", STATUS)]);
        let two = Build::with(&[("var/lib/dpkg/status", STATUS), ("etc/os-release", OS)]);
        let three = Build::with(&[("var/lib/dpkg/status", STATUS), ("etc/os-release", OS)]);
        let mut images = vec![one.image, two.image, three.image];
        images[1].platform = "linux/arm64".parse().unwrap();
        images[2].platform = "linux/s390x".parse().unwrap();
        images.truncate(platforms);
        let bases = vec![BaseLayers::default(); platforms];
        let index = push::index(&images).unwrap();
        let manifest = if platforms == 1 { images[0].manifest.clone() } else { index };
        let push = Push {
            context: &context,
            runtime: &one.planned.name,
            repository: &repository,
            images: &images,
            bases: &bases,
        };
        let (mut pushed, tag) = (push.blobs().await.unwrap(), repository.with_tag("build").unwrap());
        assert_eq!(pushed.sent, 0);
        push.manifests(&tag, &manifest, &mut pushed).await.unwrap();
        assert_eq!(pushed.sent, images.iter().take(2).map(Packed::bytes).sum::<u64>());
        push::verify(&context, &tag, manifest.digest()).await.unwrap();
        attach(&context, &one.planned, &repository, &manifest, &images).await.unwrap();
        let listed = lists::referrers_of_all(&context.client, &repository, manifest.digest()).await.unwrap();
        let listed: BTreeSet<_> = listed.into_iter().map(|listed| listed.digest).collect();
        assert_eq!(listed.len(), platforms + 1);
    }
}
