//! Which of an index's images is the one for a platform, if the index does not say what they are for.
//!
//! The platform of an entry is [optional](https://github.com/opencontainers/image-spec/blob/main/image-index.md). If no entry
//! that names one is wanted, the configurations of the others are read, as
//! [containerd](https://github.com/containerd/containerd/blob/main/core/images/image.go) does it.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::BoxFuture;
use crate::blobs;
use crate::client::Client;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind};
use crate::manifest::{Descriptor, Index, Kind, Manifest, ManifestError};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::size_limits;

/// Where the images of an index are read.
pub trait Images: Sync {
    /// The repository.
    fn name(&self) -> &Reference;

    /// One of its manifests.
    fn manifest(&self, digest: Digest) -> BoxFuture<'_, Result<Manifest, Error>>;

    /// A configuration.
    fn configuration<'a>(&'a self, config: &'a Descriptor) -> BoxFuture<'a, Result<Vec<u8>, Error>>;
}

/// A repository, without a cache.
#[derive(Clone, Copy)]
pub struct Repository<'a> {
    /// What reads.
    pub client: &'a Client,
    /// The repository.
    pub name: &'a Reference,
}

impl Images for Repository<'_> {
    fn name(&self) -> &Reference {
        self.name
    }

    fn manifest(&self, digest: Digest) -> BoxFuture<'_, Result<Manifest, Error>> {
        Box::pin(async move {
            let name = self.name.with_digest(digest);
            let missing = || Error::of(&name, ErrorKind::NotFound { message: String::new() });
            self.client.manifest(&name).await?.ok_or_else(missing)
        })
    }

    fn configuration<'a>(&'a self, config: &'a Descriptor) -> BoxFuture<'a, Result<Vec<u8>, Error>> {
        Box::pin(blobs::bytes(self.client, self.name, config))
    }
}

/// The image for `platform`. If the index says which one it is, nothing is read.
///
/// # Errors
/// There is no such image, or what has to be read for that cannot be read.
pub async fn image(
    images: &dyn Images,
    manifest: &Manifest,
    platform: &Platform,
) -> Result<Descriptor, Error> {
    let fail = |error| Error::of(images.name(), ErrorKind::Manifest(error));
    let mut chosen = index(images, manifest, std::slice::from_ref(platform)).await?.select(platform);
    for _ in 0..size_limits::INDEX_DEPTH {
        let descriptor = chosen.map_err(fail)?;
        if descriptor.has_platform() {
            return Ok(descriptor);
        }
        let inside = images.manifest(descriptor.digest).await?;
        if inside.kind() != Kind::Index {
            return Ok(descriptor);
        }
        chosen = index(images, &inside, std::slice::from_ref(platform)).await?.select(platform);
    }
    Err(too_deep(images))
}

/// The index, with the platforms that have to be known to find `platforms` in it. If it names all of them itself, nothing is
/// read.
///
/// # Errors
/// It is not an index, or what has to be read cannot be read.
pub async fn index(images: &dyn Images, manifest: &Manifest, platforms: &[Platform]) -> Result<Index, Error> {
    let mut index = manifest.index().map_err(|error| Error::of(images.name(), ErrorKind::Manifest(error)))?;
    let left = AtomicUsize::new(size_limits::UNSAID);
    for position in 0..index.manifests.len() {
        let entry = &index.manifests[position];
        if !may_be_any(entry) {
            continue;
        }
        if platforms.iter().all(|platform| index.find(platform).is_some()) {
            break;
        }
        let found = offered(images, entry, &left, 1).await?;
        index.told.extend(found.into_iter().map(|platform| (position, platform)));
    }
    Ok(index)
}

/// Whether only a look inside shows what an entry is for.
fn may_be_any(entry: &Descriptor) -> bool {
    let is_other = !entry.media_type.is_empty() && Kind::of(&entry.media_type) == Kind::Other;
    !entry.has_platform() && entry.attests().is_none() && entry.artifact_type.is_none() && !is_other
}

/// The platforms of the images in an entry.
fn offered<'a>(
    images: &'a dyn Images,
    entry: &'a Descriptor,
    left: &'a AtomicUsize,
    depth: usize,
) -> BoxFuture<'a, Result<Vec<Platform>, Error>> {
    Box::pin(async move {
        let fail = |error: ManifestError| {
            Error::of(&images.name().with_digest(entry.digest), ErrorKind::Manifest(error))
        };
        if depth > size_limits::INDEX_DEPTH {
            return Err(too_deep(images));
        }
        if left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err() {
            let message =
                format!("an index with more than {} images that say no platform", size_limits::UNSAID);
            return Err(Error::of(images.name(), ErrorKind::Protocol(message)));
        }
        let manifest = match images.manifest(entry.digest).await {
            // Attestations that a proxy has left behind are not always marked as such.
            Err(error) if is_absent(&error) => return Ok(Vec::new()),
            manifest => manifest?,
        };
        let mut found = Vec::new();
        match manifest.kind() {
            Kind::Image => {
                let config = manifest.image().map_err(fail)?.config;
                let Some(config) = config.filter(Descriptor::is_configuration) else { return Ok(found) };
                let json = images.configuration(&config).await?;
                found.extend(Platform::of_configuration(&json).map_err(|why| fail(why.into()))?);
                found.retain(Platform::is_known);
            }
            Kind::Index => {
                for inside in manifest.index().map_err(fail)?.manifests {
                    match &inside.platform {
                        Some(platform) if inside.has_platform() => found.push(platform.clone()),
                        _ if may_be_any(&inside) => {
                            found.extend(offered(images, &inside, left, depth + 1).await?);
                        }
                        _ => {}
                    }
                }
            }
            Kind::Other => {}
        }
        Ok(found)
    })
}

/// Whether it does not exist: proxies that keep manifests as blobs answer as for a blob.
pub(crate) fn is_absent(error: &Error) -> bool {
    let kind = error.kind();
    matches!(kind, ErrorKind::NotFound { .. } | ErrorKind::NameUnknown { .. } | ErrorKind::PartUnknown { .. })
}

fn too_deep(images: &dyn Images) -> Error {
    let message = format!("indexes inside indexes, more than {} deep", size_limits::INDEX_DEPTH);
    Error::of(images.name(), ErrorKind::Protocol(message))
}
