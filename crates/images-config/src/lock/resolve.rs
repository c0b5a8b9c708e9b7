//! Asks the registries what names mean.
//!
//! A HEAD comes first: it is free everywhere, and a name that means what it meant costs nothing else. Only what moved is read: its
//! index, and the manifests of the platforms that are wanted, for their sizes. Docker Hub counts each of those as a pull.

use std::collections::BTreeMap;

use futures_util::stream::{self, StreamExt as _};
use registry::{Client, Digest, Image, Kind, Manifest, ManifestError, Platform, Reference};

use super::update::Want;
use super::{Lock, Locked, LockedPlatform, PlatformSet};
use crate::Platforms;

/// Names that are asked for at once.
const AT_ONCE: usize = 16;

/// Why there is no telling what a name means.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The registry has no such image.
    #[error("{name} does not exist")]
    Missing {
        /// The name.
        name: String,
    },
    /// The registry does not answer, or refuses.
    #[error("{name} cannot be resolved")]
    Registry {
        /// The name.
        name: String,
        /// Why.
        source: Box<registry::Error>,
    },
    /// What it sends is no image, or not for the wanted platforms.
    #[error("{name} cannot be used")]
    Manifest {
        /// The name.
        name: String,
        /// Why.
        source: Box<ManifestError>,
    },
    /// A single image, and for another platform than the one that is wanted.
    #[error("{name} is for {found} alone, {wanted} is wanted")]
    Platform {
        /// The name.
        name: String,
        /// What it is for.
        found: String,
        /// What was asked for.
        wanted: String,
    },
}

/// What all these names mean now, several asked at once; and why some could not be told. Both in the order of the names.
pub async fn resolve_all(
    client: &Client,
    wants: &[Want],
    known: &Lock,
    now: jiff::Timestamp,
) -> (Vec<(Reference, Locked)>, Vec<ResolveError>) {
    let asked = wants.iter().map(|want| async move {
        let locked = resolve(client, want, known.sources.get(&want.source), now).await?;
        Ok((want.source.clone(), locked))
    });
    let answers: Vec<Result<_, ResolveError>> = stream::iter(asked).buffered(AT_ONCE).collect().await;
    let (mut resolved, mut failed) = (Vec::new(), Vec::new());
    for answer in answers {
        match answer {
            Ok(pair) => resolved.push(pair),
            Err(why) => failed.push(why),
        }
    }
    (resolved, failed)
}

/// What a name means now. `known` is what the lock says: while the name still means that, nothing is read.
///
/// # Errors
/// The registry has no such image, cannot be asked, or the image is not for the wanted platforms.
pub async fn resolve(
    client: &Client,
    want: &Want,
    known: Option<&Locked>,
    now: jiff::Timestamp,
) -> Result<Locked, ResolveError> {
    let resolver = Resolver { client, source: &want.source };
    let head = client.find(&want.source).await.map_err(|why| resolver.registry(why))?;
    let head = head.ok_or_else(|| resolver.missing())?;
    if let Some(known) = known.filter(|known| known.digest == head.digest && want.is_covered_by(known)) {
        return Ok(known.clone());
    }
    // By digest from here on: the tag may move between two requests.
    let manifest = resolver.manifest(head.digest).await?;
    let mut targets = BTreeMap::new();
    let platforms = match manifest.kind() {
        Kind::Index => {
            for copy in &want.copies {
                targets.insert(PlatformSet::from(copy), resolver.target(&manifest, copy)?);
            }
            resolver.images_of(&manifest, want).await?
        }
        Kind::Image | Kind::Other => {
            for copy in &want.copies {
                targets.insert(PlatformSet::from(copy), manifest.digest());
            }
            vec![resolver.single(&manifest, want).await?]
        }
    };
    Ok(Locked {
        digest: manifest.digest(),
        media_type: manifest.media_type().to_owned(),
        resolved_at: now,
        platforms,
        targets,
    })
}

struct Resolver<'a> {
    client: &'a Client,
    source: &'a Reference,
}

impl Resolver<'_> {
    fn name(&self) -> String {
        self.source.to_string()
    }

    fn missing(&self) -> ResolveError {
        ResolveError::Missing { name: self.name() }
    }

    fn registry(&self, why: registry::Error) -> ResolveError {
        ResolveError::Registry { name: self.name(), source: Box::new(why) }
    }

    fn unusable(&self, why: ManifestError) -> ResolveError {
        ResolveError::Manifest { name: self.name(), source: Box::new(why) }
    }

    async fn manifest(&self, digest: Digest) -> Result<Manifest, ResolveError> {
        let read = async |reference: &Reference| {
            self.client.manifest(reference).await.map_err(|why| self.registry(why))
        };
        if let Some(found) = read(&self.source.with_digest(digest)).await? {
            return Ok(found);
        }
        // A pull-through cache in front of the registry may know the digest only after it was asked for the tag.
        let by_tag = self.source.tag().and_then(|tag| self.source.with_tag(tag).ok());
        let found = match &by_tag {
            Some(tag) => read(tag).await?,
            None => None,
        };
        found.filter(|manifest| manifest.digest() == digest).ok_or_else(|| self.missing())
    }

    /// What a copy of these platforms comes to.
    fn target(&self, index: &Manifest, platforms: &Platforms) -> Result<Digest, ResolveError> {
        let target = match platforms {
            Platforms::All => Ok(index.digest()),
            Platforms::Only(list) => match list.as_slice() {
                [one] => index.select(one).map(|image| image.digest),
                several => index.trim(several).map(|trimmed| trimmed.digest()),
            },
        };
        target.map_err(|why| self.unusable(why))
    }

    /// The wanted images of an index with their sizes; where none is named, all that it has.
    async fn images_of(&self, index: &Manifest, want: &Want) -> Result<Vec<LockedPlatform>, ResolveError> {
        let entries = match want.wanted_platforms() {
            // A source that is only primed: its digest is all that is asked for.
            Some(platforms) => {
                platforms.into_iter().map(|platform| index.select(platform)).collect::<Result<Vec<_>, _>>()
            }
            None => index
                .index()
                .map(|index| index.manifests.into_iter().filter(|entry| entry.attests().is_none()).collect()),
        };
        let mut images = Vec::new();
        for entry in entries.map_err(|why| self.unusable(why))? {
            let Some(platform) = entry.platform else { continue };
            let manifest = self.manifest(entry.digest).await?;
            if manifest.kind() != Kind::Image {
                // An index inside of the index, or an artifact: copied as it is, and no platform's image.
                continue;
            }
            let image = manifest.image().map_err(|why| self.unusable(why))?;
            images.push(LockedPlatform { platform, digest: entry.digest, size: size(&manifest, &image) });
        }
        images.sort_unstable();
        Ok(images)
    }

    /// A source that is one image: its configuration says what it is for.
    async fn single(&self, manifest: &Manifest, want: &Want) -> Result<LockedPlatform, ResolveError> {
        let image = manifest.image().map_err(|why| self.unusable(why))?;
        let wanted = want.wanted_platforms().unwrap_or_default();
        let platform = match &image.config {
            Some(config) => {
                let bytes = self.client.blob_bytes(self.source, config).await;
                serde_json::from_slice(&bytes.map_err(|why| self.registry(why))?).ok()
            }
            None => None,
        };
        let known = platform.filter(|platform: &Platform| !platform.architecture.is_empty());
        match (known, wanted.first()) {
            (Some(found), _) => match wanted.iter().find(|wanted| !wanted.matches(&found)) {
                Some(wanted) => Err(ResolveError::Platform {
                    name: self.name(),
                    found: found.to_string(),
                    wanted: wanted.to_string(),
                }),
                None => Ok(LockedPlatform {
                    platform: found,
                    digest: manifest.digest(),
                    size: size(manifest, &image),
                }),
            },
            // An artifact has no platform: it is what it is wanted for.
            (None, wanted) => Ok(LockedPlatform {
                platform: wanted.map_or_else(crate::default_platform, |wanted| (*wanted).clone()),
                digest: manifest.digest(),
                size: size(manifest, &image),
            }),
        }
    }
}

/// Bytes of a manifest and of all blobs that it names.
fn size(manifest: &Manifest, image: &Image) -> u64 {
    let manifest = u64::try_from(manifest.bytes().len()).unwrap_or(u64::MAX);
    image.blobs().iter().fold(manifest, |sum, blob| sum.saturating_add(blob.size))
}

#[cfg(test)]
mod tests;
