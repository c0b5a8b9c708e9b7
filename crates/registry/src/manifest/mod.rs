//! Manifests: kept as the bytes they came in, so that digests survive, with parsed views for those who look inside.

mod lenient;
mod media_type;
mod trim;

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::digest::{Digest, DigestError, excerpt};
use crate::limits;
use crate::platform::Platform;

pub(crate) use media_type::OCI_INDEX;
pub use media_type::{ACCEPTED, Kind};
pub use trim::SOURCE_DIGEST_ANNOTATION;

/// What a manifest or an index says about another piece of content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The content's media type; empty where a registry did not say.
    #[serde(default, deserialize_with = "crate::lenient::or_default")]
    pub media_type: String,
    /// The content's digest.
    pub digest: Digest,
    /// The content's length in bytes.
    pub size: u64,
    /// In an index: the platform of the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Free annotations.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient::texts")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// What kind of artifact it is, in a referrers list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Where else the content can be had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub urls: Option<Vec<String>>,
}

impl Descriptor {
    /// A descriptor of nothing but type, digest and size.
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest,
            size,
            platform: None,
            annotations: None,
            artifact_type: None,
            urls: None,
        }
    }

    /// The digest of the image that this descriptor, `BuildKit`'s attestation, is about
    /// ([attestation storage](https://docs.docker.com/build/metadata/attestations/attestation-storage/)).
    pub fn attests(&self) -> Option<Digest> {
        let annotations = self.annotations.as_ref()?;
        if annotations.get("vnd.docker.reference.type")? != "attestation-manifest" {
            return None;
        }
        annotations.get("vnd.docker.reference.digest")?.parse().ok()
    }

    /// Whether registries never hold the content: Windows base layers, which come from their vendor's address alone.
    pub fn is_foreign(&self) -> bool {
        media_type::is_foreign_layer(&self.media_type)
            && self.urls.as_ref().is_some_and(|urls| !urls.is_empty())
    }
}

/// A manifest as a registry sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    media_type: String,
    bytes: Bytes,
    digest: Digest,
}

/// What an image manifest names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The configuration, where the manifest has one.
    pub config: Option<Descriptor>,
    /// The layers in order.
    pub layers: Vec<Descriptor>,
    /// The manifest that this one is about, for signatures and the like.
    pub subject: Option<Descriptor>,
}

/// What an index names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// The manifests in order.
    pub manifests: Vec<Descriptor>,
    /// The position of each of them among all entries.
    positions: Vec<usize>,
    /// Entries whose digest is of an algorithm that no registry of ours takes. Nobody may want them.
    pub(crate) foreign: Vec<Foreign>,
}

/// An entry of an index that can only be left out.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Foreign {
    pub(crate) digest: String,
    platform: Option<Platform>,
}

impl Index {
    /// How many entries there are.
    fn len(&self) -> usize {
        self.manifests.len() + self.foreign.len()
    }

    fn read(entries: &[&RawValue]) -> Result<Self, ManifestError> {
        let mut index = Self { manifests: Vec::new(), positions: Vec::new(), foreign: Vec::new() };
        for (position, entry) in entries.iter().enumerate() {
            match serde_json::from_str::<Descriptor>(entry.get()) {
                Ok(descriptor) => {
                    index.manifests.push(descriptor);
                    index.positions.push(position);
                }
                Err(error) => match serde_json::from_str::<Foreign>(entry.get()) {
                    Ok(foreign) if foreign.is_of_another_algorithm() => index.foreign.push(foreign),
                    _ => return Err(ManifestError::Json(error.to_string())),
                },
            }
        }
        Ok(index)
    }
}

impl Foreign {
    fn is_of_another_algorithm(&self) -> bool {
        matches!(self.digest.parse::<Digest>(), Err(DigestError::Algorithm(_)))
    }

    pub(crate) fn error(&self) -> ManifestError {
        ManifestError::Algorithm(excerpt(&self.digest))
    }
}

/// Why bytes are no manifest that this crate can read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// Not JSON, or not of a manifest's shape.
    #[error("malformed manifest: {0}")]
    Json(String),
    /// A media type that is neither an image's nor an index's.
    #[error("media type `{0}` is neither an image manifest's nor an index's")]
    MediaType(String),
    /// The media type inside contradicts the one that the registry sent.
    #[error("the registry calls it `{outside}`, the manifest calls itself `{inside}`")]
    Contradiction {
        /// What the reply's Content-Type said.
        outside: String,
        /// What the manifest's `mediaType` says.
        inside: String,
    },
    /// A part that is wanted is named by another algorithm than sha256.
    #[error("`{0}` is named by an algorithm that is not taken: sha256 is")]
    Algorithm(String),
    /// More descriptors than any image has.
    #[error("{0} descriptors, more than the {max} that are taken", max = limits::DESCRIPTORS)]
    TooMany(usize),
    /// None, or not all, of the wanted platforms are in the index.
    #[error("no {missing}: it has {available}")]
    Platform {
        /// The platforms that are missing, for people.
        missing: String,
        /// The platforms that are there, for people.
        available: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape<'a> {
    media_type: Option<String>,
    #[serde(borrow)]
    manifests: Option<Vec<&'a RawValue>>,
    config: Option<Descriptor>,
    #[serde(default, deserialize_with = "crate::lenient::or_default")]
    layers: Vec<Descriptor>,
    /// The artifact manifest of OCI 1.1's release candidates called its layers so.
    #[serde(default, deserialize_with = "crate::lenient::or_default")]
    blobs: Vec<Descriptor>,
    subject: Option<Descriptor>,
}

impl Manifest {
    /// Wraps `bytes` of the media type that the registry's `Content-Type` named.
    pub fn new(media_type: impl Into<String>, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self { media_type: bare(&media_type.into()), digest: Digest::of(&bytes), bytes }
    }

    /// A manifest from a server that does not know manifests' media types (a plain store says `binary/octet-stream`, a file server
    /// `text/plain`): then the manifest's own word for itself counts.
    pub(crate) fn received(media_type: &str, bytes: Vec<u8>) -> Self {
        let manifest = Self::new(media_type, bytes);
        if media_type::is_manifest(&manifest.media_type) {
            return manifest;
        }
        match lenient::own_type(&manifest.bytes) {
            Some(own) => Self { media_type: own, ..manifest },
            None => manifest,
        }
    }

    /// The manifest that this one is about, if it says so.
    pub(crate) fn subject(&self) -> Option<Digest> {
        Some(self.shape().ok()?.subject?.digest)
    }

    /// The media type, without parameters.
    pub fn media_type(&self) -> &str {
        &self.media_type
    }

    /// The bytes as they came.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The digest of the bytes.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// A descriptor of this manifest.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(self.media_type.clone(), self.digest, self.bytes.len() as u64)
    }

    /// What it is, by its media type.
    pub fn kind(&self) -> Kind {
        Kind::of(&self.media_type)
    }

    /// The image that it describes.
    ///
    /// # Errors
    /// When it is malformed or no image manifest.
    pub fn image(&self) -> Result<Image, ManifestError> {
        let shape = self.shape()?;
        if self.kind() != Kind::Image {
            return Err(ManifestError::MediaType(self.media_type.clone()));
        }
        let layers = if shape.layers.is_empty() { shape.blobs } else { shape.layers };
        bounded(layers.len())?;
        Ok(Image { config: shape.config, layers, subject: shape.subject })
    }

    /// The index that it is.
    ///
    /// # Errors
    /// When it is malformed or no index.
    pub fn index(&self) -> Result<Index, ManifestError> {
        let shape = self.shape()?;
        if self.kind() != Kind::Index {
            return Err(ManifestError::MediaType(self.media_type.clone()));
        }
        let manifests = shape.manifests.ok_or_else(|| ManifestError::Json("no `manifests`".to_owned()))?;
        bounded(manifests.len())?;
        Index::read(&manifests)
    }

    /// A manifest that contradicts its reply's media type is refused: one reader would take it for an image, the next for
    /// an index ([CVE-2021-41190](https://github.com/opencontainers/distribution-spec/security/advisories/GHSA-mc8v-mgrf-8f4m)).
    fn shape(&self) -> Result<Shape<'_>, ManifestError> {
        let shape: Shape<'_> =
            serde_json::from_slice(&self.bytes).map_err(|error| ManifestError::Json(error.to_string()))?;
        let inside = shape.media_type.as_deref().map(bare).filter(|inside| !inside.is_empty());
        let inside = inside.as_deref().unwrap_or(&self.media_type);
        let both_kinds = shape.manifests.is_some() && (shape.config.is_some() || !shape.layers.is_empty());
        if inside != self.media_type || both_kinds {
            let inside = if both_kinds { "both an image and an index" } else { inside };
            return Err(ManifestError::Contradiction {
                outside: self.media_type.clone(),
                inside: excerpt(inside),
            });
        }
        Ok(shape)
    }
}

impl Image {
    /// Every blob that a registry must hold for this image, each once: the configuration first.
    pub fn blobs(&self) -> Vec<&Descriptor> {
        let mut seen = std::collections::HashSet::new();
        let all = self.config.iter().chain(&self.layers);
        all.filter(|blob| !blob.is_foreign() && seen.insert(blob.digest)).collect()
    }
}

/// A media type without parameters, in lower case.
fn bare(media_type: &str) -> String {
    media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn bounded(count: usize) -> Result<(), ManifestError> {
    if count > limits::DESCRIPTORS { Err(ManifestError::TooMany(count)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
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
    fn sizes_that_cannot_be_are_refused() {
        for size in ["-1", "1.5", "\"1\"", "99999999999999999999"] {
            let text =
                format!(r#"{{"config":{{"mediaType":"x","digest":"{}","size":{size}}}}}"#, Digest::of(b"c"));
            assert!(Manifest::new(IMAGE, text).image().is_err(), "{size}");
        }
    }

    #[test]
    fn blobs_are_named_once_and_vendors_layers_not_at_all() {
        let layer = Descriptor::new("l", Digest::of(b"l"), 3);
        let foreign = Descriptor {
            urls: Some(vec!["https://example.com/".to_owned()]),
            ..Descriptor::new(
                "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
                Digest::of(b"f"),
                3,
            )
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
    fn a_server_that_knows_no_media_types_leaves_it_to_the_manifest() {
        let text = format!(r#"{{"mediaType":"{INDEX}","manifests":[]}}"#);
        assert_eq!(
            Manifest::received("application/json; charset=utf-8", text.clone().into()).kind(),
            Kind::Index
        );
        assert_eq!(
            Manifest::received(IMAGE, text.into()).kind(),
            Kind::Image,
            "a contradiction is not hidden"
        );
        assert_eq!(Manifest::received("", b"{}".to_vec()).kind(), Kind::Other);
    }

    #[test]
    fn types_that_say_nothing_leave_it_to_the_manifest_and_two_that_contradict_are_refused() {
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
        // What does not say what it is is not guessed where both readings are there.
        let both = serde_json::json!({ "schemaVersion": 2, "config": config, "manifests": [] }).to_string();
        assert_eq!(Manifest::received("", both.into()).kind(), Kind::Other);
        let list = Manifest::received("text/plain", br#"{"schemaVersion":2,"manifests":[]}"#.to_vec());
        assert_eq!(list.media_type(), INDEX);
    }

    #[test]
    fn what_gos_encoder_leaves_empty_is_read_as_empty() {
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
    fn an_entry_of_another_algorithm_may_stand_in_an_index_and_not_be_wanted() {
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
    fn parameters_of_a_media_type_are_left_out() {
        let manifest = Manifest::new(format!("{IMAGE}; charset=utf-8"), "{}");
        assert_eq!((manifest.media_type(), manifest.kind()), (IMAGE, Kind::Image));
    }

    #[test]
    fn fuzz_any_manifest_is_refused_or_is_one_thing_and_bounded() {
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
                    let names: std::collections::HashSet<Digest> =
                        blobs.iter().map(|blob| blob.digest).collect();
                    assert!(names.len() == blobs.len() && blobs.len() <= limits::DESCRIPTORS + 1);
                }
                let (Ok(index), Ok(trimmed)) = (index, manifest.trim(&platform)) else { continue };
                let kept = trimmed.index().unwrap_or_else(|error| panic!("{error}: {:?}", trimmed.bytes()));
                assert!(kept.manifests.iter().all(|child| index.manifests.contains(child)));
                assert_eq!(trimmed.trim(&platform).map(|again| again.digest()), Ok(trimmed.digest()));
            }
            taken
        });
    }
}
