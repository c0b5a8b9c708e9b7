//! Images made of a few bytes, and indexes of them.

use registry::{Descriptor, Digest, Manifest};

pub const OCI_IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A manifest with everything below it.
#[derive(Clone, Debug)]
pub struct TestImage {
    pub manifest: Manifest,
    pub children: Vec<TestImage>,
    pub blobs: Vec<Vec<u8>>,
}

/// Bytes that are the same for the same name, and compress badly.
pub fn bytes(name: &str, length: usize) -> Vec<u8> {
    let seed = name.bytes().fold(7_u64, |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte)));
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; length];
    random.fill(&mut bytes);
    bytes
}

fn descriptor(bytes: &[u8]) -> Descriptor {
    Descriptor::new("application/vnd.oci.image.layer.v1.tar+gzip", Digest::of(bytes), bytes.len() as u64)
}

/// An image of these layers.
pub fn image(name: &str, layers: &[Vec<u8>]) -> TestImage {
    image_of(OCI_IMAGE, name, layers, None)
}

/// An image with a media type, optionally with a subject.
pub fn image_of(media_type: &str, name: &str, layers: &[Vec<u8>], subject: Option<&Manifest>) -> TestImage {
    let config = format!(r#"{{"name":"{name}"}}"#).into_bytes();
    configured(media_type, config, layers, subject)
}

/// An image whose configuration has its platform.
pub fn image_for(platform: &str, layers: &[Vec<u8>]) -> TestImage {
    let (os, architecture) = platform.split_once('/').unwrap();
    let config = serde_json::json!({ "os": os, "architecture": architecture }).to_string();
    configured(OCI_IMAGE, config.into_bytes(), layers, None)
}

fn configured(
    media_type: &str,
    config: Vec<u8>,
    layers: &[Vec<u8>],
    subject: Option<&Manifest>,
) -> TestImage {
    let layer_list: Vec<Descriptor> = layers.iter().map(|layer| descriptor(layer)).collect();
    let mut json = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": Descriptor::new(
            "application/vnd.oci.image.config.v1+json", Digest::of(&config), config.len() as u64
        ),
        "layers": layer_list,
    });
    if let Some(subject) = subject {
        json["subject"] = serde_json::to_value(subject.descriptor()).unwrap();
        json["artifactType"] = "application/vnd.example.signature".into();
    }
    let mut blobs = layers.to_vec();
    blobs.push(config);
    TestImage { manifest: Manifest::new(media_type, json.to_string()), children: Vec::new(), blobs }
}

/// An index of images, one per platform; `None` is an attestation for the image before it.
pub fn index(images: &[(Option<&str>, TestImage)]) -> TestImage {
    let mut manifests = Vec::new();
    let mut before = None;
    for (platform, image) in images {
        let mut entry = serde_json::to_value(image.manifest.descriptor()).unwrap();
        match platform {
            Some(platform) => {
                let (os, architecture) = platform.split_once('/').unwrap();
                entry["platform"] = serde_json::json!({ "os": os, "architecture": architecture });
                before = Some(image.manifest.digest());
            }
            None => {
                entry["platform"] = serde_json::json!({ "os": "unknown", "architecture": "unknown" });
                entry["annotations"] = serde_json::json!({
                    "vnd.docker.reference.type": "attestation-manifest",
                    "vnd.docker.reference.digest": before.unwrap().to_string(),
                });
            }
        }
        manifests.push(entry);
    }
    let json = serde_json::json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests });
    TestImage {
        manifest: Manifest::new(OCI_INDEX, json.to_string()),
        children: images.iter().map(|(_, image)| image.clone()).collect(),
        blobs: Vec::new(),
    }
}

impl TestImage {
    pub fn digest(&self) -> Digest {
        self.manifest.digest()
    }

    /// Bytes of its own blobs.
    pub fn bytes(&self) -> u64 {
        self.blobs.iter().map(|blob| blob.len() as u64).sum()
    }
}

/// Two platforms with an attestation each.
pub fn two_platforms() -> TestImage {
    index(&[
        (Some("linux/amd64"), image("amd64", &[bytes("la", 5_000), bytes("common", 900)])),
        (None, image("attests amd64", &[bytes("aa", 50)])),
        (Some("linux/arm64"), image("arm64", &[bytes("lb", 6_000), bytes("common", 900)])),
        (None, image("attests arm64", &[bytes("ab", 60)])),
    ])
}
