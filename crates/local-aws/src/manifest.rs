//! Parses manifests, and rejects those that ECR rejects.

use std::collections::BTreeMap;

use http::StatusCode;
use serde_json::Value;

use crate::digest;
use crate::fault::Fault;
use crate::store::model::Image;
use crate::time::now_millis;

pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Largest manifest in ECR, in bytes.
pub(crate) const MOST_BYTES: usize = 4 * 1024 * 1024;

/// A valid manifest, and the blobs that it needs, without "foreign" layers.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) image: Image,
    pub(crate) needed: Vec<String>,
}

fn unsupported(message: impl Into<String>) -> Fault {
    Fault::new(StatusCode::METHOD_NOT_ALLOWED, "UnsupportedImageTypeException", message)
}

/// Parses `bytes`. `declared` is the media type in the request; it has to be the same as the one in the manifest.
///
/// ECR answers 405 UNSUPPORTED for every invalid manifest, including an OCI manifest without `mediaType`.
pub(crate) fn parse(bytes: &[u8], declared: Option<&str>) -> Result<Parsed, Fault> {
    let manifest: Value = serde_json::from_slice(bytes)
        .map_err(|error| unsupported(format!("Invalid JSON syntax: {error}")))?;
    if manifest["schemaVersion"] != 2 {
        return Err(unsupported("Invalid image manifest: schemaVersion must be 2"));
    }
    let media_type = manifest["mediaType"]
        .as_str()
        .ok_or_else(|| unsupported("Invalid JSON syntax: mediaType is missing"))?;
    if let Some(declared) = declared.map(|text| text.split(';').next().unwrap_or(text).trim())
        && declared != media_type
    {
        return Err(unsupported(format!(
            "Invalid image manifest: media type '{declared}' does not match the manifest's mediaType '{media_type}'"
        )));
    }
    let mut image = Image {
        media_type: media_type.to_owned(),
        manifest_size: bytes.len() as u64,
        image_size: 0,
        pushed: now_millis(),
        pulled: None,
        archived: None,
        blobs: Vec::new(),
        children: Vec::new(),
        subject: None,
        artifact_type: manifest["artifactType"].as_str().map(str::to_owned),
        annotations: annotations(&manifest),
        findings: BTreeMap::new(),
        signing: BTreeMap::new(),
    };
    let mut needed = Vec::new();
    match media_type {
        DOCKER_MANIFEST | OCI_MANIFEST => {
            let config = descriptor(&manifest["config"], "config")?;
            if image.artifact_type.is_none() {
                image.artifact_type = config.media_type.clone();
            }
            needed.push(config.digest.clone());
            image.blobs.push(config.digest);
            let layers = manifest["layers"]
                .as_array()
                .ok_or_else(|| unsupported("Invalid JSON syntax: layers is missing"))?;
            for layer in layers {
                let layer_descriptor = descriptor(layer, "layers")?;
                let kind = layer_descriptor.media_type.unwrap_or_default();
                let foreign = kind.contains(".foreign.") || kind.contains("nondistributable");
                image.image_size += layer_descriptor.size;
                if !foreign {
                    needed.push(layer_descriptor.digest.clone());
                }
                image.blobs.push(layer_descriptor.digest);
            }
        }
        DOCKER_LIST | OCI_INDEX => {
            let children = manifest["manifests"]
                .as_array()
                .ok_or_else(|| unsupported("Invalid JSON syntax: manifests is missing"))?;
            for child in children {
                image.children.push(descriptor(child, "manifests")?.digest);
            }
        }
        other => return Err(unsupported(format!("Image manifest media type '{other}' is not supported"))),
    }
    if let Some(subject) = manifest.get("subject").filter(|subject| !subject.is_null()) {
        image.subject = Some(descriptor(subject, "subject")?.digest);
    }
    needed.sort();
    needed.dedup();
    Ok(Parsed { image, needed })
}

fn annotations(manifest: &Value) -> BTreeMap<String, String> {
    manifest["annotations"]
        .as_object()
        .map(|map| map.iter().filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect())
        .unwrap_or_default()
}

struct Descriptor {
    digest: String,
    size: u64,
    media_type: Option<String>,
}

fn descriptor(value: &Value, place: &str) -> Result<Descriptor, Fault> {
    let digest = value["digest"].as_str().filter(|text| digest::is_valid(text));
    match (digest, value["size"].as_u64()) {
        (Some(digest), Some(size)) => Ok(Descriptor {
            digest: digest.to_owned(),
            size,
            media_type: value["mediaType"].as_str().map(str::to_owned),
        }),
        _ => Err(unsupported(format!("Invalid image manifest: {place} needs a digest and a size"))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refusal(manifest: &Value, declared: Option<&str>) -> Fault {
        parse(manifest.to_string().as_bytes(), declared).unwrap_err()
    }

    #[test]
    fn an_oci_manifest_without_its_media_type_is_unsupported() {
        let fault = refusal(&json!({ "schemaVersion": 2, "config": {}, "layers": [] }), Some(OCI_MANIFEST));
        assert_eq!(fault.status, StatusCode::METHOD_NOT_ALLOWED);
        assert!(fault.message.contains("Invalid JSON syntax"), "{fault}");
    }

    #[test]
    fn media_types_must_agree() {
        let fault = refusal(
            &json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [] }),
            Some(DOCKER_LIST),
        );
        assert!(fault.message.contains("does not match"), "{fault}");
    }

    #[test]
    fn foreign_layers_are_not_needed_and_others_once() {
        let digest = |c: char| format!("sha256:{}", c.to_string().repeat(64));
        let manifest = json!({
            "schemaVersion": 2, "mediaType": DOCKER_MANIFEST,
            "config": { "mediaType": "application/vnd.docker.container.image.v1+json", "digest": digest('a'), "size": 3 },
            "layers": [
                { "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "digest": digest('b'), "size": 5 },
                { "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "digest": digest('b'), "size": 5 },
                { "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "digest": digest('c'), "size": 7 },
            ],
        });
        let parsed = parse(manifest.to_string().as_bytes(), None).unwrap();
        assert_eq!(parsed.needed, [digest('a'), digest('b')]);
        assert_eq!(parsed.image.image_size, 17);
    }
}
