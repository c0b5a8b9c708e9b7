//! Writes configurations, manifests and indexes into a store.

use std::path::Path;

use serde_json::{Value, json};

use super::{Repository, blob_path};
use crate::Error;
use crate::catalogue::Format;
use crate::layer::{Layer, digest_of};

/// The media types of one format.
pub(super) struct MediaTypes {
    pub(super) index: &'static str,
    pub(super) manifest: &'static str,
    pub(super) config: &'static str,
    pub(super) layer: &'static str,
}

impl Format {
    pub(super) fn media_types(self) -> MediaTypes {
        match self {
            Self::Oci => MediaTypes {
                index: "application/vnd.oci.image.index.v1+json",
                manifest: "application/vnd.oci.image.manifest.v1+json",
                config: "application/vnd.oci.image.config.v1+json",
                layer: "application/vnd.oci.image.layer.v1.tar+gzip",
            },
            Self::Docker => MediaTypes {
                index: "application/vnd.docker.distribution.manifest.list.v2+json",
                manifest: "application/vnd.docker.distribution.manifest.v2+json",
                config: "application/vnd.docker.container.image.v1+json",
                layer: "application/vnd.docker.image.rootfs.diff.tar.gzip",
            },
        }
    }
}

/// A document in the store.
pub(super) struct Put {
    digest: String,
    size: usize,
}

pub(super) fn descriptor(media_type: &str, put: &Put, platform: Option<Value>) -> Value {
    let mut descriptor = json!({ "mediaType": media_type, "digest": put.digest, "size": put.size });
    if let Some(platform) = platform {
        descriptor["platform"] = platform;
    }
    descriptor
}

pub(super) fn put_manifest(
    dir: &Path,
    repository: &mut Repository,
    types: &MediaTypes,
    config: &Value,
    layers: &[Layer],
) -> Result<Put, Error> {
    let config = put_json(dir, config)?;
    repository.blobs.insert(config.digest.clone());
    repository.blobs.extend(layers.iter().map(|layer| layer.digest.clone()));
    let layers: Vec<Value> = layers
        .iter()
        .map(|layer| json!({ "mediaType": types.layer, "digest": layer.digest, "size": layer.size }))
        .collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": types.manifest,
        "config": descriptor(types.config, &config, None),
        "layers": layers,
    });
    let put = put_json(dir, &manifest)?;
    repository.manifests.insert(put.digest.clone(), types.manifest.to_owned());
    Ok(put)
}

pub(super) fn put_index(
    dir: &Path,
    repository: &mut Repository,
    format: Format,
    manifests: Vec<Value>,
) -> Result<String, Error> {
    let media_type = format.media_types().index;
    let put = put_json(dir, &json!({ "schemaVersion": 2, "mediaType": media_type, "manifests": manifests }))?;
    repository.manifests.insert(put.digest.clone(), media_type.to_owned());
    Ok(put.digest)
}

/// BuildKit's attestation of an image: a manifest without a platform whose layer is a statement about the image.
pub(super) fn attestation(dir: &Path, repository: &mut Repository, subject: &Put) -> Result<Value, Error> {
    let types = Format::Oci.media_types();
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v0.1",
        "predicateType": "https://slsa.dev/provenance/v0.2",
        "subject": [{ "name": "_", "digest": { "sha256": subject.digest.trim_start_matches("sha256:") } }],
        "predicate": { "builder": { "id": "" }, "buildType": "https://mobyproject.org/buildkit@v1" },
    });
    let layer = put_json(dir, &statement)?;
    let config = json!({
        "architecture": "unknown",
        "os": "unknown",
        "config": {},
        "rootfs": { "type": "layers", "diff_ids": [layer.digest] },
    });
    let config = put_json(dir, &config)?;
    repository.blobs.extend([layer.digest.clone(), config.digest.clone()]);
    let mut described = descriptor("application/vnd.in-toto+json", &layer, None);
    described["annotations"] = json!({ "in-toto.io/predicate-type": "https://slsa.dev/provenance/v0.2" });
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": types.manifest,
        "config": descriptor(types.config, &config, None),
        "layers": [described],
    });
    let put = put_json(dir, &manifest)?;
    repository.manifests.insert(put.digest.clone(), types.manifest.to_owned());
    let mut attestation =
        descriptor(types.manifest, &put, Some(json!({ "architecture": "unknown", "os": "unknown" })));
    attestation["annotations"] = json!({
        "vnd.docker.reference.digest": subject.digest,
        "vnd.docker.reference.type": "attestation-manifest",
    });
    Ok(attestation)
}

fn put_json(dir: &Path, document: &Value) -> Result<Put, Error> {
    let bytes = document.to_string().into_bytes();
    let digest = digest_of(&bytes);
    crate::store::write_atomically(&blob_path(dir, &digest), &bytes)?;
    Ok(Put { digest, size: bytes.len() })
}

pub(super) fn read_json(path: &Path) -> Result<Value, Error> {
    let bytes = std::fs::read(path).map_err(Error::file("read", path))?;
    serde_json::from_slice(&bytes).map_err(|source| Error::Damaged { path: path.into(), source })
}
