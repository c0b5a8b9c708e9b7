//! Creates the image sets.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::catalog::{Catalog, Image, Set, Variant};
use crate::content::{Blob, Layer};
use crate::store::Store;

/// Part of the catalogue: increasing it creates the sets again.
const VERSION: u32 = 4;
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const OTHERS: [(&str, &str, Option<&str>); 3] =
    [("linux", "arm64", None), ("linux", "arm", Some("v7")), ("linux", "s390x", None)];

/// Repository, and its layers by name and size: layers with one name are one blob.
type Shape = Vec<(String, Vec<(String, u64)>)>;

fn shape(set: Set) -> Shape {
    match set {
        Set::Grid => grid(),
        Set::Small => small(),
        Set::Big => vec![(
            "big/one".to_owned(),
            vec![("big/base".to_owned(), 3 * MIB), ("big/4gib".to_owned(), 4 << 30)],
        )],
        Set::Tiny => (0..500)
            .map(|n| (format!("tiny/image-{n:03}"), vec![(format!("tiny/layer-{n:03}"), 4 * KIB)]))
            .collect(),
        Set::Smoke => (0..2)
            .map(|n| {
                let own = (format!("smoke/own-{n}"), 300 * KIB);
                (format!("smoke/image-{n}"), vec![("smoke/shared".to_owned(), 100 * KIB), own])
            })
            .collect(),
        Set::Scale100 | Set::Scale1000 | Set::Scale10000 | Set::Scale | Set::Runtimes => Vec::new(),
    }
}

/// Five images: three of one family share twelve small layers, like the three of KEDA.
fn grid() -> Shape {
    let shared: Vec<(String, u64)> = (0..12).map(|n| (format!("grid/base-{n}"), 107 * KIB)).collect();
    let own = |name: &str, sizes: &[u64]| -> Vec<(String, u64)> {
        sizes.iter().enumerate().map(|(n, size)| (format!("grid/{name}-{n}"), *size)).collect()
    };
    let family = |name: &str, sizes: &[u64]| [shared.clone(), own(name, sizes)].concat();
    vec![
        ("grid/curl".to_owned(), own("curl", &[3_300 * KIB, 2 * MIB, 1_500 * KIB, 200 * KIB])),
        (
            "grid/grafana".to_owned(),
            own(
                "grafana",
                &[
                    47 * MIB,
                    26 * MIB,
                    12 * MIB,
                    6 * MIB,
                    3_200 * KIB,
                    1_200 * KIB,
                    400 * KIB,
                    90 * KIB,
                    8 * KIB,
                    4 * KIB,
                ],
            ),
        ),
        ("grid/keda".to_owned(), family("keda", &[33 * MIB, 300 * KIB])),
        ("grid/keda-admission-webhooks".to_owned(), family("webhooks", &[28 * MIB, 100 * KIB])),
        ("grid/keda-metrics-apiserver".to_owned(), family("metrics", &[27 * MIB, 700 * KIB, 20 * KIB])),
    ]
}

/// Fifty images in five families: two layers shared by all, two by each family, and two of their own.
fn small() -> Shape {
    (0..50)
        .map(|n| {
            let family = n / 10;
            let layers = vec![
                ("small/base-0".to_owned(), 3 * MIB),
                ("small/base-1".to_owned(), 1_500 * KIB),
                (format!("small/family-{family}-0"), 500 * KIB),
                (format!("small/family-{family}-1"), 276 * KIB),
                (format!("small/own-{n}-0"), 260 * KIB),
                (format!("small/own-{n}-1"), 66 * KIB),
            ];
            (format!("small/image-{n:02}"), layers)
        })
        .collect()
}

/// Creates `set` in `store`, unless it exists, and returns the catalogue.
///
/// # Errors
/// A file cannot be written.
pub fn make(set: Set, store: &Store, catalogs: &std::path::Path) -> Result<Catalog> {
    let path = catalogs.join(format!("{}.json", set.name()));
    if let Ok(bytes) = std::fs::read(&path)
        && let Ok(catalog) = serde_json::from_slice::<Catalog>(&bytes)
        && catalog.version == VERSION
        && catalog
            .images
            .iter()
            .all(|image| store.tagged(&image.repository, image.tag(Variant::Index)).is_some())
    {
        return Ok(catalog);
    }
    let mut layers: BTreeMap<String, Layer> = BTreeMap::new();
    let mut images = many(set, store)?;
    for (repository, names) in shape(set) {
        let mut of_image = Vec::new();
        for (name, size) in names {
            let layer = match layers.get(&name) {
                Some(layer) => layer.clone(),
                None => {
                    let layer = store.put_layer(&name, size)?;
                    layers.insert(name, layer.clone());
                    layer
                }
            };
            of_image.push(layer);
        }
        let other = match layers.get("other") {
            Some(layer) => layer.clone(),
            None => {
                let layer = store.put_layer(&format!("{}/other", set.name()), 2 * KIB)?;
                layers.insert("other".to_owned(), layer.clone());
                layer
            }
        };
        images.push(image(store, &repository, &of_image, &other)?);
    }
    let catalog = Catalog { version: VERSION, set, images };
    std::fs::create_dir_all(catalogs)?;
    let bytes = serde_json::to_vec_pretty(&catalog)?;
    std::fs::write(&path, bytes).with_context(|| format!("could not write {}", path.display()))?;
    Ok(catalog)
}

fn image(store: &Store, repository: &str, layers: &[Layer], other: &Layer) -> Result<Image> {
    let (manifest, config) = platform(store, repository, ("linux", "amd64", None), layers)?;
    store.tag(repository, Variant::Single.tag(), &manifest.digest)?;
    let mut children = vec![(("linux", "amd64", None), manifest.clone())];
    for target in OTHERS {
        let (child, _) = platform(store, repository, target, std::slice::from_ref(other))?;
        children.push((target, child));
    }
    let mut listed: Vec<serde_json::Value> = Vec::new();
    for ((os, architecture, variant), child) in &children {
        let mut platform = json!({ "architecture": architecture, "os": os });
        if let Some(variant) = variant {
            platform["variant"] = json!(variant);
        }
        listed.push(json!({
            "mediaType": OCI_MANIFEST, "digest": child.digest, "size": child.size, "platform": platform
        }));
    }
    for (_, child) in &children {
        let attestation = attestation(store, repository, child)?;
        listed.push(json!({
            "mediaType": OCI_MANIFEST, "digest": attestation.digest, "size": attestation.size,
            "annotations": {
                "vnd.docker.reference.digest": child.digest,
                "vnd.docker.reference.type": "attestation-manifest"
            },
            "platform": { "architecture": "unknown", "os": "unknown" }
        }));
    }
    let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed });
    let index = store.put_manifest(repository, &serde_json::to_vec_pretty(&index)?)?;
    store.tag(repository, Variant::Index.tag(), &index.digest)?;
    let layers = layers.iter().map(|layer| layer.blob.clone()).collect();
    Ok(Image { repository: repository.to_owned(), own_tag: None, manifest, index, config, layers })
}

/// Images of one small layer each, 100 per repository.
fn many(set: Set, store: &Store) -> Result<Vec<Image>> {
    let count = match set {
        Set::Scale100 => 100,
        Set::Scale1000 => 1_000,
        Set::Scale10000 => 10_000,
        _ => 0,
    };
    (0..count)
        .map(|n| {
            let (repository, tag) = (format!("scale/team-{:03}", n / 100), format!("1.{}", n % 100));
            let layer = store.put_layer(&format!("scale/layer-{n:05}"), 2 * KIB)?;
            let platform_of = ("linux", "amd64", None);
            let (manifest, config) = platform(store, &repository, platform_of, std::slice::from_ref(&layer))?;
            store.tag(&repository, &tag, &manifest.digest)?;
            let index = manifest.clone();
            Ok(Image { repository, own_tag: Some(tag), manifest, index, config, layers: vec![layer.blob] })
        })
        .collect()
}

/// Writes one platform's manifest and configuration into the store.
fn platform(
    store: &Store,
    repository: &str,
    (os, architecture, variant): (&str, &str, Option<&str>),
    layers: &[Layer],
) -> Result<(Blob, Blob)> {
    let diff_ids: Vec<&str> = layers.iter().map(|layer| layer.diff_id.as_str()).collect();
    let history: Vec<serde_json::Value> =
        layers.iter().map(|_| json!({ "created": "2026-01-01T00:00:00Z", "created_by": "bench" })).collect();
    let mut config = json!({
        "architecture": architecture, "os": os, "created": "2026-01-01T00:00:00Z",
        "config": { "Cmd": ["/bin/true"], "Labels": { "bench": repository } },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
        "history": history
    });
    if let Some(variant) = variant {
        config["variant"] = json!(variant);
    }
    let config = store.put_blob(repository, &serde_json::to_vec(&config)?)?;
    let mut listed = Vec::new();
    for layer in layers {
        store.link(repository, &layer.blob.digest)?;
        listed.push(json!({ "mediaType": OCI_LAYER, "digest": layer.blob.digest, "size": layer.blob.size }));
    }
    let manifest = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": { "mediaType": OCI_CONFIG, "digest": config.digest, "size": config.size },
        "layers": listed
    });
    Ok((store.put_manifest(repository, &serde_json::to_vec_pretty(&manifest)?)?, config))
}

/// An attestation manifest in BuildKit's format for `subject`.
fn attestation(store: &Store, repository: &str, subject: &Blob) -> Result<Blob> {
    let config = json!({
        "architecture": "unknown", "os": "unknown", "config": {}, "rootfs": { "type": "layers", "diff_ids": [] }
    });
    let config = store.put_blob(repository, &serde_json::to_vec(&config)?)?;
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v0.1", "predicateType": "https://slsa.dev/provenance/v0.2",
        "subject": [{ "name": repository, "digest": { "sha256": subject.digest.trim_start_matches("sha256:") } }],
        "predicate": {}
    });
    let statement = store.put_blob(repository, &serde_json::to_vec(&statement)?)?;
    let manifest = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": { "mediaType": OCI_CONFIG, "digest": config.digest, "size": config.size },
        "layers": [{
            "mediaType": "application/vnd.in-toto+json", "digest": statement.digest, "size": statement.size,
            "annotations": { "in-toto.io/predicate-type": "https://slsa.dev/provenance/v0.2" }
        }]
    });
    store.put_manifest(repository, &serde_json::to_vec_pretty(&manifest)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::copies;

    /// Layers without configurations: within one percent of the intended numbers.
    fn figures(shape: &Shape) -> (usize, usize, f64, f64) {
        let mut unique = BTreeMap::new();
        let (mut pairs, mut bytes) = (shape.len(), 0);
        for (_, layers) in shape {
            for (name, size) in layers {
                unique.insert(name.clone(), *size);
                pairs += 1;
                bytes += size;
            }
        }
        let mib = |bytes: u64| bytes as f64 / MIB as f64;
        (unique.len() + shape.len(), pairs, mib(unique.values().sum()), mib(bytes))
    }

    #[test]
    fn the_grid_has_its_shape() {
        let (blobs, pairs, unique, all) = figures(&grid());
        assert_eq!((blobs, pairs), (38, 62));
        // Layers exceed the requested size by up to one percent.
        assert!((192.5..194.0).contains(&unique), "{unique}");
        assert!((195.0..196.5).contains(&all), "{all}");
    }

    #[test]
    fn the_set_of_fifty_small_images_has_its_shape() {
        let (blobs, pairs, unique, all) = figures(&small());
        assert_eq!((blobs, pairs), (162, 350));
        assert!((unique - 24.4).abs() < 0.3, "{unique}");
        assert!((all - 279.0).abs() < 2.0, "{all}");
    }

    #[test]
    fn a_created_set_is_found_again_and_complete() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path().join("store"));
        let catalog = make(Set::Smoke, &store, dir.path()).unwrap();
        assert_eq!(catalog.pairs().0, 6);
        assert_eq!(catalog.unique().len(), 5);
        for image in &catalog.images {
            let bytes = std::fs::read(store.blob_path(&image.index.digest)).unwrap();
            assert_eq!(Blob::of(&bytes), image.index);
            let index: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            let children = index["manifests"].as_array().unwrap();
            assert_eq!(children.len(), 8);
            assert_eq!(children[0]["digest"], image.manifest.digest.as_str());
        }
        let again = make(Set::Smoke, &store, dir.path()).unwrap();
        assert_eq!(again.images[1].index, catalog.images[1].index);
    }

    #[test]
    fn a_filled_store_is_valid_and_a_damaged_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let source = Store::new(dir.path().join("source"));
        let catalog = make(Set::Smoke, &source, dir.path()).unwrap();
        let target = Store::new(dir.path().join("target"));
        target.wipe().unwrap();
        assert!(copies::fault(&target, &catalog, Variant::Index, true).unwrap().contains("is not there"));
        copies::fill(&target, &source, &catalog, Variant::Index).unwrap();
        assert_eq!(copies::fault(&target, &catalog, Variant::Index, true), None);
        std::fs::write(target.blob_path(&catalog.images[0].layers[0].digest), b"short").unwrap();
        assert!(copies::fault(&target, &catalog, Variant::Index, true).unwrap().contains("lacks sha256:"));
        target.wipe().unwrap();
        assert!(copies::fault(&target, &catalog, Variant::Index, false).is_some());
    }
}
