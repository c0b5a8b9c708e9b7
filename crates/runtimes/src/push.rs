//! Pushes an image from the container client's store to the registry. Its digest is known before the first byte is sent.
//!
//! Layers of the base keep the base's own descriptors and are copied from where the base was pulled; the others and the image's
//! configuration are converted to one form, independent of the builder ([`super::normal`]). The order is that of the mirror: blobs, then
//! the manifests of the platforms, then the index, the tag last.

mod sending;

use std::path::{Path, PathBuf};

use dockerfile::Layer;
use registry::choose::{self, Repository};
use registry::mirror::{Check, Mirror, read_back};
use registry::{Descriptor, Digest, ErrorKind, Kind, Manifest, ManifestError, Platform, Reference};
use serde::Serialize;

use super::archive::{self, Archive};
use super::normal::{self, Blob, normal};
use super::packages::Installed;
use super::planned::{Base, same_machine};
use super::{Context, RuntimeError};

pub(super) use sending::{Push, Transfers};

/// The media types of one family, OCI or docker: a manifest does not mix them.
struct Family {
    manifest: &'static str,
    index: &'static str,
    config: &'static str,
    gzip: &'static str,
}

const OCI: Family = Family {
    manifest: "application/vnd.oci.image.manifest.v1+json",
    index: "application/vnd.oci.image.index.v1+json",
    config: "application/vnd.oci.image.config.v1+json",
    gzip: "application/vnd.oci.image.layer.v1.tar+gzip",
};

const DOCKER: Family = Family {
    manifest: "application/vnd.docker.distribution.manifest.v2+json",
    index: "application/vnd.docker.distribution.manifest.list.v2+json",
    config: "application/vnd.docker.container.image.v1+json",
    gzip: "application/vnd.docker.image.rootfs.diff.tar.gzip",
};

/// An image in the form that the registry will have.
#[derive(Debug)]
pub(super) struct Packed {
    pub(super) manifest: Manifest,
    pub(super) platform: Platform,
    config: (Descriptor, Vec<u8>),
    own: Vec<(Descriptor, Blob)>,
    inherited: Vec<Descriptor>,
    /// Its packages; `None` if attestations are switched off.
    pub(super) installed: Option<Installed>,
}

impl Packed {
    /// Bytes to send at most: the registry may already have the base's layers.
    pub(super) fn bytes(&self) -> u64 {
        let layers = self.own.iter().map(|(layer, _)| layer).chain(&self.inherited);
        layers.map(|layer| layer.size).sum::<u64>() + self.config.0.size
    }

    /// Its configuration.
    pub(super) fn config(&self) -> &[u8] {
        &self.config.1
    }
}

/// The base for one platform: its manifest, and upstream's compressed layers.
#[derive(Clone, Debug, Default)]
pub(super) struct BaseLayers {
    /// The platform's own manifest, by digest; `None` for a build from scratch.
    from: Option<Reference>,
    layers: Vec<Descriptor>,
    diff_ids: Vec<Digest>,
    is_oci: bool,
    own: normal::Base,
}

impl BaseLayers {
    /// The platform's own manifest, by digest, to which the build is pinned. For an index's digest, the legacy builder would use any
    /// platform that it has pulled by that digest before.
    pub(super) fn pinned(&self) -> Option<&Reference> {
        self.from.as_ref()
    }

    /// Reads the base's manifest and configuration for a platform.
    pub(super) async fn read(
        context: &Context,
        base: &Base,
        from: &Reference,
        platform: &Platform,
    ) -> Result<Self, RuntimeError> {
        let unreadable = |reason: String| RuntimeError::Unreadable {
            image: from.with_digest(base.digest).to_string(),
            reason,
        };
        let get = async |digest| {
            let reference = from.with_digest(digest);
            let found = context.client.manifest(&reference).await?;
            found.ok_or_else(|| unreadable(format!("it has no manifest {digest}")))
        };
        let mut manifest = get(base.digest).await?;
        if manifest.kind() == Kind::Index {
            let index = manifest.index().map_err(|error| unreadable(error.to_string()))?;
            let exact = index.manifests.iter().find(|child| matches(child, |found| found.matches(platform)));
            let child = exact.or_else(|| {
                index.manifests.iter().find(|child| matches(child, |found| same_machine(found, platform)))
            });
            let digest = match child {
                Some(child) => child.digest,
                None => unlisted_platform(context, base, from, &manifest, platform).await?,
            };
            manifest = get(digest).await?;
        }
        let image = manifest.image().map_err(|error| unreadable(error.to_string()))?;
        let config = image.config.ok_or_else(|| unreadable("it has no configuration".to_owned()))?;
        let config = registry::blobs::bytes(&context.client, from, &config).await?;
        let diff_ids = archive::diff_ids(&config).map_err(|error| unreadable(error.to_string()))?;
        if diff_ids.len() != image.layers.len() {
            return Err(unreadable(format!("{} layers, {} diff_ids", image.layers.len(), diff_ids.len())));
        }
        if archive::platform(&config).is_some_and(|found| !same_machine(&found, platform)) {
            let (base, platform) = (base.name.to_string(), platform.to_string());
            return Err(RuntimeError::BasePlatform { base, platform });
        }
        let own = normal::Base::read(&config).map_err(|error| unreadable(error.to_string()))?;
        let is_oci = manifest.media_type() == OCI.manifest;
        let from = from.with_digest(manifest.digest());
        Ok(Self { from: Some(from), layers: image.layers, diff_ids, is_oci, own })
    }
}

/// The base for a platform that its index does not list.
async fn unlisted_platform(
    context: &Context,
    base: &Base,
    from: &Reference,
    index: &Manifest,
    platform: &Platform,
) -> Result<Digest, RuntimeError> {
    let images = Repository { client: &context.client, name: from };
    let missing =
        || RuntimeError::BasePlatform { base: base.name.to_string(), platform: platform.to_string() };
    match choose::image(&images, index, platform).await {
        Ok(image) => Ok(image.digest),
        Err(error) => match error.kind() {
            ErrorKind::Manifest(ManifestError::Platform { .. }) => Err(missing()),
            _ => Err(error.into()),
        },
    }
}

fn matches(child: &Descriptor, is_it: impl Fn(&Platform) -> bool) -> bool {
    child.platform.as_ref().is_some_and(is_it)
}

/// Splits an image into blobs: `saved` is the container client's file, the compressed layers are written to `scratch`. `instructions` are
/// those of the Dockerfile that make layers.
pub(super) fn pack(
    saved: &Path,
    base: &BaseLayers,
    platform: &Platform,
    instructions: &[Layer],
    scratch: &Path,
) -> Result<Packed, RuntimeError> {
    let archive = Archive::open(saved)?;
    if let Some(found) = archive::platform(&archive.config).filter(|found| !same_machine(found, platform)) {
        let (image, platform) = (saved.display().to_string(), platform.to_string());
        return Err(RuntimeError::OtherPlatform { image, platform, found: found.to_string() });
    }
    // A build that squashes does not start with the base's layers; then all layers are its own.
    let inherited = if archive.diff_ids.starts_with(&base.diff_ids) { base.layers.as_slice() } else { &[] };
    let image = normal(&archive, inherited.len(), &base.own, instructions, scratch)?;
    let family = if base.is_oci { &OCI } else { &DOCKER };
    let own: Vec<(Descriptor, Blob)> = image
        .layers
        .into_iter()
        .map(|blob| (Descriptor::new(family.gzip, blob.digest, blob.size), blob))
        .collect();
    let inherited: Vec<Descriptor> = inherited.iter().map(|layer| in_family(layer, family)).collect();
    let config = Descriptor::new(family.config, Digest::of(&image.config), image.config.len() as u64);
    let layers: Vec<&Descriptor> = inherited.iter().chain(own.iter().map(|(layer, _)| layer)).collect();
    let manifest = image_manifest(family, &config, &layers)?;
    let platform = platform.clone();
    Ok(Packed { manifest, platform, config: (config, image.config), own, inherited, installed: None })
}

/// A base's layer with the media type of the manifest's family.
fn in_family(layer: &Descriptor, family: &Family) -> Descriptor {
    let media_type = match layer.media_type.as_str() {
        known if known == OCI.gzip || known == DOCKER.gzip => family.gzip.to_owned(),
        other => other.to_owned(),
    };
    Descriptor { media_type, ..layer.clone() }
}

fn image_manifest(
    family: &Family,
    config: &Descriptor,
    layers: &[&Descriptor],
) -> Result<Manifest, RuntimeError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Shape<'a> {
        schema_version: u8,
        media_type: &'a str,
        config: &'a Descriptor,
        layers: &'a [&'a Descriptor],
    }
    to_manifest(family.manifest, &Shape { schema_version: 2, media_type: family.manifest, config, layers })
}

/// The index of several platforms, in the family of its children.
pub(super) fn index(images: &[Packed]) -> Result<Manifest, RuntimeError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Shape<'a> {
        schema_version: u8,
        media_type: &'a str,
        manifests: Vec<Descriptor>,
    }
    let docker = images.iter().all(|image| image.manifest.media_type() == DOCKER.manifest);
    let media_type = if docker { DOCKER.index } else { OCI.index };
    let manifests = images
        .iter()
        .map(|image| Descriptor { platform: Some(image.platform.clone()), ..image.manifest.descriptor() })
        .collect();
    to_manifest(media_type, &Shape { schema_version: 2, media_type, manifests })
}

fn to_manifest(media_type: &str, shape: &impl Serialize) -> Result<Manifest, RuntimeError> {
    let bytes = serde_json::to_vec(shape).map_err(|error| RuntimeError::Unreadable {
        image: "the manifest made of the build".to_owned(),
        reason: error.to_string(),
    })?;
    Ok(Manifest::new(media_type, bytes))
}

/// Reads back what was put under `tag` or by digest: the manifest and those of its children, and checks that every blob exists.
pub(super) async fn verify(
    context: &Context,
    written: &Reference,
    digest: Digest,
) -> Result<(), registry::Error> {
    let mirror = Mirror::new(context.client.clone());
    read_back(&context.client, &Check::new(&mirror, false), 0, written, digest).await
}

/// The file for one platform's saved image.
pub(super) fn saved_file(scratch: &Path, platform: &Platform) -> PathBuf {
    scratch.join(format!("{}.tar", platform.to_string().replace('/', "-")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(family: &Family, platform: &str) -> Packed {
        let config = Descriptor::new(family.config, Digest::of(b"{}"), 2);
        Packed {
            manifest: image_manifest(family, &config, &[]).unwrap(),
            platform: platform.parse().unwrap(),
            config: (config, b"{}".to_vec()),
            own: Vec::new(),
            inherited: Vec::new(),
            installed: None,
        }
    }

    #[test]
    fn an_index_has_its_childrens_manifest_format() {
        for (families, wanted) in
            [([&DOCKER, &DOCKER], DOCKER.index), ([&OCI, &OCI], OCI.index), ([&DOCKER, &OCI], OCI.index)]
        {
            let images = [packed(families[0], "linux/amd64"), packed(families[1], "linux/arm64/v8")];
            let index = index(&images).unwrap();
            assert_eq!((index.media_type(), index.kind()), (wanted, Kind::Index));
            let read = index.index().unwrap();
            let platforms: Vec<_> =
                read.manifests.iter().map(|child| child.platform.clone().unwrap().to_string()).collect();
            assert_eq!(platforms, ["linux/amd64", "linux/arm64/v8"]);
            assert_eq!(read.manifests[1].digest, images[1].manifest.digest());
        }
    }

    #[test]
    fn a_base_layer_has_a_media_type_of_the_manifests_format() {
        let layer = Descriptor::new(DOCKER.gzip, Digest::of(b"x"), 1);
        assert_eq!(in_family(&layer, &OCI).media_type, OCI.gzip);
        let odd = Descriptor::new("application/x", Digest::of(b"x"), 1);
        assert_eq!(in_family(&odd, &OCI), odd);
    }
}
