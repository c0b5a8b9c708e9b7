//! What manifests leave open: fields that readers take differently, images whose platform no index says.

use registry::lists::referrers;
use registry::{ErrorKind, Manifest, ManifestError};

use crate::support::faults::Rule;
use crate::support::images::{OCI_IMAGE, OCI_INDEX, bytes, image, two_platforms};
use crate::support::odd::{copied_by, odd, plainly};
use crate::support::{TestImage, client, copied, pair, reply, run};

/// The image with another text as its manifest.
fn rewritten(image: &TestImage, media_type: &str, from: &str, to: &str) -> TestImage {
    let text = String::from_utf8(image.manifest.bytes().to_vec()).unwrap();
    assert!(text.contains(from), "{text}");
    TestImage { manifest: Manifest::new(media_type, text.replacen(from, to, 1)), ..image.clone() }
}

#[test]
fn what_readers_take_differently_is_refused_by_name_before_anything_is_copied() {
    run(async {
        let plain = image("a", &[bytes("l", 100)]);
        let list = two_platforms();
        for (image, media_type, name, other) in [
            (&plain, OCI_IMAGE, "layers", "Layers"),
            (&plain, OCI_IMAGE, "layers", "layer\u{17f}"),
            (&plain, OCI_IMAGE, "config", "Config"),
            (&plain, OCI_IMAGE, "mediaType", "mediatype"),
            (&plain, OCI_IMAGE, "digest", "Digest"),
            (&plain, OCI_IMAGE, "size", "SIZE"),
            (&list, OCI_INDEX, "manifests", "Manifests"),
            (&list, OCI_INDEX, "platform", "Platform"),
            (&list, OCI_INDEX, "architecture", "Architecture"),
            (&list, OCI_INDEX, "annotations", "Annotations"),
        ] {
            let quoted = |name: &str| format!("\"{name}\":");
            // Alone, and beside the right one.
            for to in [quoted(other), format!("\"{other}\":[],{}", quoted(name))] {
                let image = rewritten(image, media_type, &quoted(name), &to);
                let (source, target) = pair(&image).await;
                let error = copied(&source, &target).await.unwrap_err();
                assert!(
                    matches!(error.kind(), ErrorKind::Manifest(ManifestError::Ambiguous(_))),
                    "{other}: {error}"
                );
                assert!(error.to_string().contains(&format!("`{other}` for `{name}`")), "{error}");
                assert_eq!(target.log.counts(), "HEAD manifests 1", "{other}");
            }
        }
    });
}

#[test]
fn it_is_refused_whatever_type_the_server_names_and_in_lists_too() {
    run(async {
        let plain = image("a", &[bytes("l", 100)]);
        let other = rewritten(&plain, OCI_IMAGE, "\"layers\"", "\"Layers\"");
        let (source, target) = pair(&plain).await;
        let untyped =
            TestImage { manifest: Manifest::new("text/plain", other.manifest.bytes().clone()), ..other };
        let error = copied_by(odd(move |request| plainly(&untyped, request)), &target).await.unwrap_err();
        assert!(error.to_string().contains("`Layers` for `layers`"), "{error}");

        let list = reply(200, &[], r#"{"schemaVersion":2,"Manifests":[]}"#);
        source.on(Rule::new("GET", "/referrers/", list));
        let error = referrers(&client(), &source.name("r"), plain.digest()).await.unwrap_err();
        assert!(error.to_string().contains("`Manifests` for `manifests`"), "{error}");
    });
}
