//! A registry that lists new artifacts only after a delay.

use std::time::Duration;

use registry::RetryPolicy;

use super::*;
use crate::push::Push;

#[tokio::test]
async fn an_artifact_visible_later_is_read_again_and_a_missing_one_is_an_error() {
    for (late, is_shown) in [(2, true), (1_000, false)] {
        let build = Build::with(&[("var/lib/dpkg/status", STATUS)]);
        let (store, plain) = (Arc::new(Store { late, ..Store::default() }), Arc::new(Plain::default()));
        let served = Arc::clone(&store) as Arc<dyn Transport>;
        let retry = RetryPolicy { base: Duration::from_millis(1), ..RetryPolicy::default() };
        let client = Client::builder().serve("registry.example", served).retry(retry).build().unwrap();
        let context = Context { client, ..context(&store, &plain) };
        let repository: Reference = "registry.example/lambda".parse().unwrap();
        let Build { planned, image, _files } = build;
        let (images, bases) = ([image], [BaseLayers::default()]);
        let (manifest, tag) = (&images[0].manifest, repository.with_tag("build").unwrap());
        let published: Result<(), RuntimeError> = async {
            let push = Push {
                context: &context,
                runtime: &planned.name,
                repository: &repository,
                images: &images,
                bases: &bases,
            };
            push.manifests(&tag, manifest, &mut push.blobs().await?).await?;
            push::verify(&context, &tag, manifest.digest()).await?;
            attach(&context, &planned, &repository, manifest, &images).await
        }
        .await;
        assert_eq!(published.is_ok(), is_shown, "{published:?}");
        if let Err(error) = published {
            assert!(error.to_string().contains("read back after it was written: "), "{error}");
        }
    }
}
