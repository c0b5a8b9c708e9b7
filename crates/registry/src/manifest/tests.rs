use super::*;

const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

#[test]
fn a_media_type_that_contradicts_the_reply_is_refused() {
    let text = format!(r#"{{"mediaType":"{INDEX}","manifests":[]}}"#);
    let manifest = Manifest::new(IMAGE, text.clone());
    assert!(matches!(manifest.image(), Err(ManifestError::Contradiction { .. })));
    assert!(Manifest::new(INDEX, text).index().is_ok());
}

#[test]
fn a_manifest_that_is_both_image_and_index_is_refused() {
    let config = Descriptor::new("x", Digest::of(b"c"), 1);
    let text = serde_json::json!({ "manifests": [], "config": config }).to_string();
    assert!(matches!(Manifest::new(INDEX, text).index(), Err(ManifestError::Contradiction { .. })));
}

#[test]
fn impossible_sizes_are_refused() {
    for size in ["-1", "1.5", "\"1\"", "99999999999999999999"] {
        let text =
            format!(r#"{{"config":{{"mediaType":"x","digest":"{}","size":{size}}}}}"#, Digest::of(b"c"));
        assert!(Manifest::new(IMAGE, text).image().is_err(), "{size}");
    }
}

#[test]
fn blobs_are_listed_once_and_foreign_layers_not_at_all() {
    let layer = Descriptor::new("l", Digest::of(b"l"), 3);
    let foreign = Descriptor {
        urls: Some(vec!["https://example.com/".to_owned()]),
        ..Descriptor::new("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", Digest::of(b"f"), 3)
    };
    let config = Descriptor::new("c", Digest::of(b"c"), 1);
    let image = Image {
        config: Some(config.clone()),
        layers: vec![layer.clone(), foreign, layer.clone()],
        subject: None,
    };
    assert_eq!(image.blobs(), [&config, &layer]);
}

#[test]
fn a_generic_content_type_defers_to_the_manifest() {
    let text = format!(r#"{{"mediaType":"{INDEX}","manifests":[]}}"#);
    assert_eq!(
        Manifest::received("application/json; charset=utf-8", text.clone().into()).kind(),
        Kind::Index
    );
    assert_eq!(Manifest::received(IMAGE, text.into()).kind(), Kind::Image, "a contradiction is not hidden");
    assert_eq!(Manifest::received("", b"{}".to_vec()).kind(), Kind::Other);
}

#[test]
fn meaningless_content_types_defer_to_the_manifest_and_contradicting_ones_are_refused() {
    let config = serde_json::json!({ "mediaType": "c", "digest": Digest::of(b"c"), "size": 1 });
    let image = |own: serde_json::Value| {
        let mut image = serde_json::json!({ "schemaVersion": 2, "config": config, "layers": null });
        if own != "none" {
            image["mediaType"] = own;
        }
        image.to_string()
    };
    for outside in [
        "",
        "application/json",
        "binary/octet-stream",
        "text/plain; charset=utf-8",
        "text/html",
        "application/x-tar",
        "application/vnd.oci.image.manifest.v1+json; charset=UTF-8",
        "Application/Vnd.OCI.Image.Manifest.V1+JSON",
    ] {
        for own in [IMAGE.into(), "none".into(), "".into(), serde_json::Value::Null] {
            let manifest = Manifest::received(outside, image(own).into());
            assert!(manifest.image().is_ok(), "{outside}: {:?}", manifest.image());
            assert_eq!(manifest.media_type(), IMAGE);
        }
    }
    let docker = "application/vnd.docker.distribution.manifest.v2+json";
    let signed = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    for outside in [docker, signed, INDEX] {
        let manifest = Manifest::received(outside, image(IMAGE.into()).into());
        assert!(manifest.image().is_err() && manifest.index().is_err(), "{outside}");
    }
    // A type is not guessed if both readings are possible.
    let both = serde_json::json!({ "schemaVersion": 2, "config": config, "manifests": [] }).to_string();
    assert_eq!(Manifest::received("", both.into()).kind(), Kind::Other);
    let first = Manifest::received("application/json", br#"{"schemaVersion":1,"fsLayers":[]}"#.to_vec());
    assert_eq!(
        first.image().unwrap_err(),
        ManifestError::MediaType("application/vnd.docker.distribution.manifest.v1+json".to_owned())
    );
    let list = Manifest::received("text/plain", br#"{"schemaVersion":2,"manifests":[]}"#.to_vec());
    assert_eq!(list.media_type(), INDEX);
}

#[test]
fn null_fields_of_gos_encoder_are_read_as_empty() {
    let digest = Digest::of(b"x");
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"","config":{{"mediaType":null,"digest":"{digest}","size":1,"annotations":{{"n":1,"a":"b"}},"urls":null,"platform":{{"os":null,"architecture":"amd64"}}}},"layers":null,"annotations":{{"n":1}},"subject":null,"blobs":null}}"#
    );
    let image = Manifest::new(IMAGE, text).image().unwrap();
    let config = image.config.unwrap();
    assert_eq!((image.layers.len(), image.subject), (0, None));
    assert_eq!(config.annotations.unwrap().into_iter().collect::<Vec<_>>(), [("a".into(), "b".into())]);
    assert_eq!(config.platform.unwrap().to_string(), "/amd64");
}

#[test]
fn an_index_may_have_an_entry_with_another_algorithm_that_is_not_selected() {
    let good = Digest::of(b"x");
    let entry = |digest: &str, architecture: &str| {
        serde_json::json!({ "mediaType": IMAGE, "digest": digest, "size": 1,
            "platform": { "os": "linux", "architecture": architecture } })
    };
    let other = format!("sha512:{}", "a".repeat(128));
    let blake = "blake3:abc".to_owned();
    let list = |entries: Vec<serde_json::Value>| {
        Manifest::new(INDEX, serde_json::json!({ "schemaVersion": 2, "manifests": entries }).to_string())
    };
    for foreign in [&other, &blake] {
        let index = list(vec![entry(foreign, "s390x"), entry(&good.to_string(), "amd64")]);
        assert_eq!(index.index().unwrap().manifests.len(), 1, "{foreign}");
        assert_eq!(index.select(&"linux/amd64".parse().unwrap()).unwrap().digest, good);
        let trimmed = index.trim(&["linux/amd64".parse().unwrap()]).unwrap();
        assert_eq!(trimmed.index().unwrap().foreign, []);
        assert_eq!(trimmed.index().unwrap().manifests[0].digest, good);
        let error = index.select(&"linux/s390x".parse().unwrap()).unwrap_err();
        assert!(matches!(error, ManifestError::Algorithm(_)), "{error}");
        assert!(matches!(
            index.trim(&["linux/amd64".parse().unwrap(), "linux/s390x".parse().unwrap()]),
            Err(ManifestError::Algorithm(_))
        ));
    }
    assert!(list(vec![entry("sha256:short", "amd64")]).index().is_err(), "a broken digest is none");
    assert!(list(vec![entry("nothing", "amd64")]).index().is_err());
}

#[test]
fn parameters_of_a_media_type_are_ignored() {
    let manifest = Manifest::new(format!("{IMAGE}; charset=utf-8"), "{}");
    assert_eq!((manifest.media_type(), manifest.kind()), (IMAGE, Kind::Image));
}

#[test]
fn fuzz_any_manifest_is_refused_or_unambiguous_and_bounded() {
    let platform: [Platform; 1] = ["linux/arm64".parse().unwrap()];
    let types: Vec<&str> = ACCEPTED.split(", ").chain(["application/json"]).collect();
    crate::fuzz::each("manifests", |input| {
        let mut taken = false;
        for media_type in &types {
            let manifest = Manifest::received(media_type, input.to_vec());
            assert_eq!(manifest.bytes(), input, "a manifest is its bytes");
            assert_eq!(
                (manifest.digest(), manifest.descriptor().size),
                (Digest::of(input), input.len() as u64)
            );
            let (image, index) = (manifest.image(), manifest.index());
            assert!(image.is_err() || index.is_err(), "both an image and an index");
            taken |= image.is_ok() || index.is_ok();
            if let Ok(image) = image {
                let blobs = image.blobs();
                let names: std::collections::HashSet<Digest> = blobs.iter().map(|blob| blob.digest).collect();
                assert!(names.len() == blobs.len() && blobs.len() <= size_limits::DESCRIPTORS + 1);
            }
            let (Ok(index), Ok(trimmed)) = (index, manifest.trim(&platform)) else { continue };
            let kept = trimmed.index().unwrap_or_else(|error| panic!("{error}: {:?}", trimmed.bytes()));
            assert!(kept.manifests.iter().all(|child| index.manifests.contains(child)));
            assert_eq!(trimmed.trim(&platform).map(|again| again.digest()), Ok(trimmed.digest()));
        }
        taken
    });
}
