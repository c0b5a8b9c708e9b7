//! Several platforms.

use super::*;

#[tokio::test]
async fn an_sbom_refers_to_its_platforms_image_and_the_provenance_to_the_index() {
    for lists in [true, false] {
        let one = Build::with(&[("var/lib/dpkg/status", STATUS)]);
        let two = Build::with(&[("var/lib/dpkg/status", STATUS), ("etc/os-release", OS)]);
        let (store, plain) = (Arc::new(Store { lists, ..Store::default() }), Arc::new(Plain::default()));
        let context = context(&store, &plain);
        let repository: Reference = "registry.example/lambda".parse().unwrap();
        let mut images = [one.image, two.image];
        images[1].platform = "linux/arm64".parse().unwrap();
        let index = push::index(&images).unwrap();
        context.client.put_manifest(&repository.with_digest(index.digest()), &index).await.unwrap();
        attach(&context, &one.planned, &repository, &index, &images).await.unwrap();

        let about = async |digest| {
            let found = lists::referrers(&context.client, &repository, digest).await.unwrap();
            found.into_iter().map(|one| (one.artifact_type.unwrap(), one.digest)).collect::<Vec<_>>()
        };
        let provenance = about(index.digest()).await;
        assert_eq!(provenance.len(), 1, "{provenance:?}");
        assert_eq!(provenance[0].0, "application/vnd.in-toto+json");
        for image in &images {
            let sboms = about(image.manifest.digest()).await;
            let [(kind, digest)] = sboms.as_slice() else { panic!("{sboms:?}") };
            assert_eq!(kind, "application/spdx+json");
            let artifact = context.client.manifest(&repository.with_digest(*digest)).await.unwrap().unwrap();
            let document = artifact.image().unwrap().layers.remove(0);
            let document = registry::blobs::bytes(&context.client, &repository, &document).await.unwrap();
            let document: Value = serde_json::from_slice(&document).unwrap();
            assert_eq!(document["packages"][0]["versionInfo"], image.manifest.digest().to_string());
            assert_eq!(
                document["name"].as_str().unwrap().split(' ').nth(1),
                Some(image.platform.to_string().as_str())
            );
        }
        let all = lists::referrers_of_all(&context.client, &repository, index.digest()).await.unwrap();
        assert_eq!(all.len(), 3, "{lists}");
    }
}
