//! Manifests: kept as the bytes they came in, so that digests survive, with parsed views.

mod index;
mod lenient;
mod media_type;
mod trim;

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::digest::{Digest, excerpt};
use crate::names::{self, Ambiguous};
use crate::platform::Platform;
use crate::size_limits;

pub(crate) use index::Foreign;
pub use index::Index;
pub(crate) use media_type::OCI_INDEX;
pub use media_type::{ACCEPTED, Kind};
pub use trim::SOURCE_DIGEST_ANNOTATION;

/// What a manifest or an index says about another piece of content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The content's media type; empty if a registry did not say it.
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
    /// Other addresses of the content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub urls: Option<Vec<String>>,
}

/// The part of a blob's descriptor that is needed to copy it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blob {
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}

impl From<&Descriptor> for Blob {
    fn from(descriptor: &Descriptor) -> Self {
        Self { digest: descriptor.digest, size: descriptor.size }
    }
}

impl Descriptor {
    /// A descriptor with only type, digest and size.
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

    /// Whether it says for which platform the image is.
    pub(crate) fn has_platform(&self) -> bool {
        self.platform.as_ref().is_some_and(Platform::is_known)
    }

    /// Whether this is an image's configuration, not an artifact's, and of a plausible size.
    pub(crate) fn is_configuration(&self) -> bool {
        let types =
            ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];
        types.contains(&self.media_type.as_str()) && self.size <= size_limits::BLOB_IN_MEMORY
    }

    /// Whether registries never hold the content: Windows base layers, which only come from their vendor's address.
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
    /// A field in `bytes` that readers take differently. Boxed: the manifest of every image is kept.
    ambiguous: Option<Box<Ambiguous>>,
}

/// What an image manifest names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The configuration, if the manifest has one.
    pub config: Option<Descriptor>,
    /// The layers in order.
    pub layers: Vec<Descriptor>,
    /// The manifest that this one is about, for signatures and the like.
    pub subject: Option<Descriptor>,
}

/// Why this crate cannot read bytes as a manifest.
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
    /// A field whose name some readers read as another one.
    #[error("ambiguous manifest: {0}")]
    Ambiguous(#[from] Ambiguous),
    /// A part is named by a digest of another algorithm than sha256.
    #[error("the digest algorithm of `{0}` is not supported, sha256 is")]
    Algorithm(String),
    /// More descriptors than the limit.
    #[error("{0} descriptors exceed the limit of {max}", max = size_limits::DESCRIPTORS)]
    TooMany(usize),
    /// Some of the wanted platforms are not in the index.
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
    /// The layers in the artifact manifest of OCI 1.1's release candidates.
    #[serde(default, deserialize_with = "crate::lenient::or_default")]
    blobs: Vec<Descriptor>,
    subject: Option<Descriptor>,
}

impl Manifest {
    /// Wraps `bytes` of the media type that the registry's `Content-Type` named.
    pub fn new(media_type: impl Into<String>, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let ambiguous = names::check(&bytes, &names::MANIFEST).err().map(Box::new);
        Self { media_type: bare(&media_type.into()), digest: Digest::of(&bytes), bytes, ambiguous }
    }

    /// A manifest from a server that does not know manifests' media types (a plain store says `binary/octet-stream`, a file
    /// server `text/plain`): then the media type inside the manifest counts.
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
    /// When it is malformed or not an image manifest.
    pub fn image(&self) -> Result<Image, ManifestError> {
        let shape = shape(self)?;
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
    /// When it is malformed or not an index.
    pub fn index(&self) -> Result<Index, ManifestError> {
        let shape = shape(self)?;
        if self.kind() != Kind::Index {
            return Err(ManifestError::MediaType(self.media_type.clone()));
        }
        let manifests = shape.manifests.ok_or_else(|| ManifestError::Json("no `manifests`".to_owned()))?;
        bounded(manifests.len())?;
        Index::read(&manifests)
    }
}

/// The manifest that this one is about, if there is one.
pub(crate) fn subject(manifest: &Manifest) -> Option<Digest> {
    Some(shape(manifest).ok()?.subject?.digest)
}

/// A manifest that contradicts its reply's media type is refused: one reader would read it as an image, the next as an index
/// ([CVE-2021-41190](https://github.com/opencontainers/distribution-spec/security/advisories/GHSA-mc8v-mgrf-8f4m)).
fn shape(manifest: &Manifest) -> Result<Shape<'_>, ManifestError> {
    if let Some(ambiguous) = &manifest.ambiguous {
        return Err((**ambiguous).clone().into());
    }
    let shape: Shape<'_> =
        serde_json::from_slice(&manifest.bytes).map_err(|error| ManifestError::Json(error.to_string()))?;
    let inside = shape.media_type.as_deref().map(bare).filter(|inside| !inside.is_empty());
    let inside = inside.as_deref().unwrap_or(&manifest.media_type);
    let both_kinds = shape.manifests.is_some() && (shape.config.is_some() || !shape.layers.is_empty());
    if inside != manifest.media_type || both_kinds {
        let inside = if both_kinds { "both an image and an index" } else { inside };
        return Err(ManifestError::Contradiction {
            outside: manifest.media_type.clone(),
            inside: excerpt(inside),
        });
    }
    Ok(shape)
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
    if count > size_limits::DESCRIPTORS { Err(ManifestError::TooMany(count)) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
