//! Ambiguous manifests: fields that readers interpret differently, images whose platform is in no index.

use registry::lists::referrers;
use registry::mirror::{Job, Mirror};
use registry::{Digest, ErrorKind, Manifest, ManifestError};

use crate::support::faults::Rule;
use crate::support::images::{OCI_IMAGE, OCI_INDEX, bytes, image, image_for, two_platforms};
use crate::support::odd::{copied_by, odd, plainly};
use crate::support::{Fake, TestImage, client, copied, copy, only, pair, reply, run};

/// The image with another text as its manifest.
fn rewritten(image: &TestImage, media_type: &str, from: &str, to: &str) -> TestImage {
    let text = String::from_utf8(image.manifest.bytes().to_vec()).unwrap();
    assert!(text.contains(from), "{text}");
    TestImage { manifest: Manifest::new(media_type, text.replacen(from, to, 1)), ..image.clone() }
}

#[test]
fn an_ambiguous_manifest_is_refused_by_name_before_anything_is_copied() {
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
            // Alone, and next to the right one.
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
fn an_ambiguous_manifest_is_refused_with_any_content_type_and_in_lists() {
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

/// An index whose entries have these platforms; empty ones are omitted.
fn listed(entries: &[(&str, &TestImage)]) -> TestImage {
    let manifests = entries.iter().map(|(platform, image)| {
        let mut entry = serde_json::to_value(image.manifest.descriptor()).unwrap();
        if let Some((os, architecture)) = platform.split_once('/') {
            entry["platform"] = serde_json::json!({ "os": os, "architecture": architecture });
        }
        entry
    });
    let json = serde_json::json!({
        "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests.collect::<Vec<_>>(),
    });
    TestImage {
        manifest: Manifest::new(OCI_INDEX, json.to_string()),
        children: entries.iter().map(|(_, image)| (*image).clone()).collect(),
        blobs: Vec::new(),
    }
}

/// The result of a copy of `platforms`, and the requests to the source.
async fn chosen(index: &TestImage, platforms: &[&str]) -> (Result<Digest, String>, String, Fake) {
    let (source, target) = pair(index).await;
    let job = Job { platforms: only(platforms), ..Job::new(source.name("r:1"), target.name("r:1")) };
    let plan = Mirror::new(client()).plan([job.clone()]).await;
    let asked = source.log.counts();
    drop(plan);
    let copied = copy(&Mirror::new(client()), job).await;
    assert_eq!(target.broken_tag(), None);
    (copied.map(|copied| copied.digest).map_err(|error| error.to_string()), asked, target)
}

#[test]
fn an_image_without_a_platform_in_an_index_has_its_configurations_platform() {
    run(async {
        let [amd64, arm64] = ["linux/amd64", "linux/arm64"].map(|name| image_for(name, &[bytes(name, 100)]));
        let artifact = image("sbom", &[bytes("sbom", 10)]);
        for saying in ["", "/", "unknown/unknown", "linux/", "/arm64", "unknown/arm64"] {
            let alone = listed(&[(saying, &arm64)]);
            assert_eq!(chosen(&alone, &["linux/arm64"]).await.0, Ok(arm64.digest()), "{saying}");
            let error = chosen(&alone, &["linux/amd64"]).await.0.unwrap_err();
            assert!(error.contains("no linux/amd64: it has") && error.ends_with("linux/arm64"), "{error}");
            let several = listed(&[("", &artifact), (saying, &arm64), (saying, &amd64)]);
            assert_eq!(chosen(&several, &["linux/amd64"]).await.0, Ok(amd64.digest()), "{saying}");
        }
    });
}

#[test]
fn a_platform_in_the_index_has_precedence_and_costs_no_request() {
    run(async {
        let [said, unsaid] = ["a", "b"].map(|name| image_for("linux/amd64", &[bytes(name, 100)]));
        let index = listed(&[("", &unsaid), ("linux/amd64", &said)]);
        let (copied, asked, _) = chosen(&index, &["linux/amd64"]).await;
        assert_eq!((copied, asked.as_str()), (Ok(said.digest()), "GET manifests 2, HEAD manifests 1"));
        // Each manifest that has to be read, and its configuration, once.
        let index = listed(&[("", &unsaid), ("linux/s390x", &said)]);
        let (copied, asked, _) = chosen(&index, &["linux/amd64"]).await;
        let wanted = "GET blobs 1, GET manifests 2, HEAD manifests 1";
        assert_eq!((copied, asked.as_str()), (Ok(unsaid.digest()), wanted));
    });
}

#[test]
fn an_index_inside_an_index_is_read() {
    run(async {
        let [amd64, arm64, s390x] =
            ["linux/amd64", "linux/arm64", "linux/s390x"].map(|name| image_for(name, &[bytes(name, 100)]));
        let inner = listed(&[("linux/amd64", &amd64), ("", &arm64)]);
        let outer = listed(&[("linux/s390x", &s390x), ("", &inner)]);
        for (platform, image) in [("linux/amd64", &amd64), ("linux/arm64", &arm64), ("linux/s390x", &s390x)] {
            assert_eq!(chosen(&outer, &[platform]).await.0, Ok(image.digest()), "{platform}");
        }
        // With several platforms, an index that contains one of them is copied unchanged.
        let (copied, _, target) = chosen(&outer, &["linux/arm64", "linux/amd64"]).await;
        let there = Mirror::new(client()).client().manifest(&target.name("r:1")).await.unwrap().unwrap();
        assert_eq!(copied, Ok(there.digest()));
        let kept: Vec<Digest> = there.index().unwrap().manifests.iter().map(|entry| entry.digest).collect();
        assert_eq!(kept, [inner.digest()]);

        let deep = (0..9).fold(amd64, |inside, _| listed(&[("", &inside)]));
        let error = chosen(&deep, &["linux/amd64"]).await.0.unwrap_err();
        assert!(error.contains("more than 4 deep"), "{error}");
        let many: Vec<TestImage> = (0..101).map(|at| image(&at.to_string(), &[])).collect();
        let many: Vec<(&str, &TestImage)> = many.iter().map(|image| ("", image)).collect();
        let error = chosen(&listed(&many), &["linux/amd64"]).await.0.unwrap_err();
        assert!(error.contains("more than 100 images that say no platform"), "{error}");
    });
}

#[test]
fn several_entries_may_have_no_platform() {
    run(async {
        let [amd64, arm64, s390x] =
            ["linux/amd64", "linux/arm64", "linux/s390x"].map(|name| image_for(name, &[bytes(name, 100)]));
        let index = listed(&[("", &s390x), ("", &arm64), ("linux/amd64", &amd64)]);
        let (_, _, target) = chosen(&index, &["linux/amd64", "linux/arm64"]).await;
        let there = Mirror::new(client()).client().manifest(&target.name("r:1")).await.unwrap().unwrap();
        let kept: Vec<Digest> = there.index().unwrap().manifests.iter().map(|entry| entry.digest).collect();
        assert_eq!(kept, [arm64.digest(), amd64.digest()]);
    });
}
