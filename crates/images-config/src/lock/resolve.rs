//! Resolves names to digests at the registries.
//!
//! A HEAD comes first: it is free at every registry, and enough for an unchanged name. Only for new digests are the index and the
//! manifests of the wanted platforms read, for their sizes. Docker Hub counts each of these as a pull.

use std::collections::BTreeMap;

use futures_util::stream::{self, StreamExt as _};
use registry::choose::{self, Repository};
use registry::{
    Client, Descriptor, Digest, ErrorKind, Image, Kind, Manifest, ManifestError, Platform, Reference,
};

use super::update::Want;
use super::{Lock, Locked, LockedPlatform, PlatformSet, Seen};
use crate::Platforms;

/// Names resolved in parallel.
const AT_ONCE: usize = 16;

/// Why a name could not be resolved.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The image does not exist.
    #[error("{name} does not exist")]
    Missing {
        /// The name.
        name: String,
    },
    /// The image no longer exists.
    #[error("{name} has vanished upstream: it was {digest}, first seen {first_seen}")]
    Vanished {
        /// The name.
        name: String,
        /// Its last digest.
        digest: Digest,
        /// When it was first seen there.
        first_seen: jiff::Timestamp,
    },
    /// The registry does not answer, or refuses.
    #[error("{name} cannot be resolved")]
    Registry {
        /// The name.
        name: String,
        /// The registry's error.
        source: Box<registry::Error>,
    },
    /// The manifest is not an image, or not for the wanted platforms.
    #[error("{name} cannot be used")]
    Manifest {
        /// The name.
        name: String,
        /// The reason.
        source: Box<ManifestError>,
    },
    /// A single image for another platform than the wanted one.
    #[error("{name} is for {found} alone, {wanted} is wanted")]
    Platform {
        /// The name.
        name: String,
        /// Its platform.
        found: String,
        /// The wanted platform.
        wanted: String,
    },
}

/// The results for all names.
#[derive(Debug, Default)]
pub struct Answers {
    /// The digests to lock.
    pub locked: Vec<(Reference, Locked)>,
    /// The digests that have not been known for long enough.
    pub waiting: BTreeMap<Reference, Seen>,
    /// Digests that are no longer under their names, either not locked yet or replaced by nothing.
    pub vanished: BTreeMap<Reference, Seen>,
    /// The errors for names that could not be resolved.
    pub failed: Vec<ResolveError>,
}

/// Resolves all these names, several in parallel. Results and errors are in the order of the names.
pub async fn resolve_all(client: &Client, wants: &[Want], known: &Lock, now: jiff::Timestamp) -> Answers {
    let asked =
        wants.iter().map(|want| async move { (&want.source, resolve(client, want, known, now).await) });
    let found: Vec<_> = stream::iter(asked).buffered(AT_ONCE).collect().await;
    let mut answers = Answers::default();
    for (source, meaning) in found {
        match meaning {
            Ok(Resolution { locked, waiting }) => {
                let now = waiting.map(|seen| seen.digest).or(locked.as_ref().map(|locked| locked.digest));
                let gone = known.waiting.get(source).filter(|seen| Some(seen.digest) != now);
                answers.vanished.extend(gone.map(|seen| (source.clone(), *seen)));
                answers.locked.extend(locked.map(|locked| (source.clone(), locked)));
                answers.waiting.extend(waiting.map(|seen| (source.clone(), seen)));
            }
            Err(why) => {
                if let ResolveError::Vanished { digest, first_seen, .. } = why {
                    answers.vanished.insert(source.clone(), Seen { digest, first_seen });
                }
                answers.failed.push(why);
            }
        }
    }
    answers
}

/// The result of resolving a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// The digest to lock: the new one, or the locked one while the new one waits. `None` if there is none to use yet.
    pub locked: Option<Locked>,
    /// The new digest, if it has not been known for long enough.
    pub waiting: Option<Seen>,
}

/// Resolves a name. `lock` is the present lock. If the digest is unchanged, or the new one must wait, no manifest is read.
///
/// # Errors
/// The image does not exist, the registry fails, or the image is not for the wanted platforms.
pub async fn resolve(
    client: &Client,
    want: &Want,
    lock: &Lock,
    now: jiff::Timestamp,
) -> Result<Resolution, ResolveError> {
    let resolver = Resolver { client, source: &want.source };
    let (known, seen) = (lock.sources.get(&want.source), lock.waiting.get(&want.source));
    let head = client.find(&want.source).await.map_err(|why| resolver.registry(why))?;
    let digest = head.ok_or_else(|| resolver.missing(lock))?.digest;
    let is_locked = known.filter(|known| known.digest == digest);
    let first_seen = match (is_locked, seen.filter(|seen| seen.digest == digest)) {
        (Some(known), _) => known.seen_since(),
        (None, Some(seen)) => seen.first_seen,
        (None, None) => now,
    };
    // A clock was wrong: the time counts from now.
    let first_seen = if first_seen > now { now } else { first_seen };
    let waits = want.min_age.as_ref().is_some_and(|age| age.waits_until(first_seen, now).is_some());
    if waits && !want.allow_fresh && is_locked.is_none() {
        let locked = match known {
            Some(known) => Some(resolver.read(want, lock, known.digest, now).await?),
            None => None,
        };
        return Ok(Resolution { locked, waiting: Some(Seen { digest, first_seen }) });
    }
    let mut locked = resolver.read(want, lock, digest, now).await?;
    if want.min_age.is_some() {
        if is_locked.is_none_or(|known| known.seen_since() != first_seen) {
            locked.first_seen = Some(first_seen);
        }
        locked.allow_fresh |= waits && want.allow_fresh;
    }
    Ok(Resolution { locked: Some(locked), waiting: None })
}

struct Resolver<'a> {
    client: &'a Client,
    source: &'a Reference,
}

impl Resolver<'_> {
    fn name(&self) -> String {
        self.source.to_string()
    }

    /// The details of `digest`: from the lock, if they cover what is wanted.
    async fn read(
        &self,
        want: &Want,
        lock: &Lock,
        digest: Digest,
        now: jiff::Timestamp,
    ) -> Result<Locked, ResolveError> {
        let known = lock.sources.get(&want.source).filter(|known| known.digest == digest);
        if let Some(known) = known.filter(|known| want.is_covered_by(known)) {
            return Ok(known.clone());
        }
        // By digest from now on: the tag may move between two requests.
        let manifest = self.manifest(digest).await?;
        let mut targets = BTreeMap::new();
        let platforms = match manifest.kind() {
            Kind::Index => {
                for copy in &want.copies {
                    targets.insert(PlatformSet::from(copy), self.target(&manifest, copy).await?);
                }
                self.images_of(&manifest, want).await?
            }
            Kind::Image | Kind::Other => {
                for copy in &want.copies {
                    targets.insert(PlatformSet::from(copy), manifest.digest());
                }
                vec![self.single(&manifest, want).await?]
            }
        };
        Ok(Locked {
            digest: manifest.digest(),
            media_type: manifest.media_type().to_owned(),
            resolved_at: now,
            first_seen: known.and_then(|known| known.first_seen),
            allow_fresh: known.is_some_and(|known| known.allow_fresh),
            platforms,
            targets,
        })
    }

    /// The error for a missing image. If the lock knows it, it has vanished.
    fn missing(&self, lock: &Lock) -> ResolveError {
        let locked = lock.sources.get(self.source).map(|locked| (locked.digest, locked.seen_since()));
        let waiting = lock.waiting.get(self.source).map(|seen| (seen.digest, seen.first_seen));
        match waiting.or(locked) {
            Some((digest, first_seen)) => ResolveError::Vanished { name: self.name(), digest, first_seen },
            None => ResolveError::Missing { name: self.name() },
        }
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
        // A pull-through cache in front of the registry may know the digest only after a request for the tag.
        let by_tag = self.source.tag().and_then(|tag| self.source.with_tag(tag).ok());
        let found = match &by_tag {
            Some(tag) => read(tag).await?,
            None => None,
        };
        let missing = || ResolveError::Missing { name: self.source.with_digest(digest).to_string() };
        found.filter(|manifest| manifest.digest() == digest).ok_or_else(missing)
    }

    fn images(&self) -> Repository<'_> {
        Repository { client: self.client, name: self.source }
    }

    /// An index's image for a platform.
    async fn image(&self, index: &Manifest, platform: &Platform) -> Result<Descriptor, ResolveError> {
        choose::image(&self.images(), index, platform).await.map_err(|why| self.unreadable(why))
    }

    fn unreadable(&self, why: registry::Error) -> ResolveError {
        match why.kind() {
            ErrorKind::Manifest(error) => self.unusable(error.clone()),
            _ => self.registry(why),
        }
    }

    /// The digest that a copy of these platforms will have.
    async fn target(&self, index: &Manifest, platforms: &Platforms) -> Result<Digest, ResolveError> {
        let target = match platforms {
            Platforms::All => return Ok(index.digest()),
            Platforms::Only(list) => match list.as_slice() {
                [one] => return Ok(self.image(index, one).await?.digest),
                several => {
                    let known = choose::index(&self.images(), index, several).await;
                    known.map_err(|why| self.unreadable(why))?.trim(index, several)
                }
            },
        };
        Ok(target.map_err(|why| self.unusable(why))?.digest())
    }

    /// The wanted images of an index with their sizes; all of them if no platform is named.
    async fn images_of(&self, index: &Manifest, want: &Want) -> Result<Vec<LockedPlatform>, ResolveError> {
        let entries = match want.wanted_platforms() {
            // A source that is only primed: only its digest is needed.
            Some(platforms) => {
                let mut entries = Vec::new();
                for platform in platforms {
                    let image = self.image(index, platform).await?;
                    let said = image.platform.filter(|said| said.matches(platform));
                    entries.push((said.unwrap_or_else(|| platform.clone()), image.digest));
                }
                entries
            }
            None => {
                let all = index.index().map_err(|why| self.unusable(why))?.manifests;
                let images = all.into_iter().filter(|entry| entry.attests().is_none());
                images.filter_map(|entry| Some((entry.platform?, entry.digest))).collect()
            }
        };
        let mut images = Vec::new();
        for (platform, digest) in entries {
            let manifest = self.manifest(digest).await?;
            if manifest.kind() != Kind::Image {
                // A nested index or an artifact is copied unchanged and is not an image of a platform.
                continue;
            }
            let image = manifest.image().map_err(|why| self.unusable(why))?;
            images.push(LockedPlatform { platform, digest, size: size(&manifest, &image) });
        }
        images.sort_unstable();
        Ok(images)
    }

    /// A source that is a single image: its platform is in its configuration.
    async fn single(&self, manifest: &Manifest, want: &Want) -> Result<LockedPlatform, ResolveError> {
        let image = manifest.image().map_err(|why| self.unusable(why))?;
        let wanted = want.wanted_platforms().unwrap_or_default();
        let platform = match &image.config {
            Some(config) => {
                let bytes = registry::blobs::bytes(self.client, self.source, config).await;
                Platform::of_configuration(&bytes.map_err(|why| self.registry(why))?)
                    .map_err(|why| self.unusable(why.into()))?
            }
            None => None,
        };
        match (platform, wanted.first()) {
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
            // An artifact has no platform. Use the wanted one.
            (None, wanted) => Ok(LockedPlatform {
                platform: wanted.map_or_else(crate::default_platform, |wanted| (*wanted).clone()),
                digest: manifest.digest(),
                size: size(manifest, &image),
            }),
        }
    }
}

/// Size of a manifest and of all its blobs, in bytes.
fn size(manifest: &Manifest, image: &Image) -> u64 {
    let manifest = u64::try_from(manifest.bytes().len()).unwrap_or(u64::MAX);
    image.blobs().iter().fold(manifest, |sum, blob| sum.saturating_add(blob.size))
}

#[cfg(test)]
mod tests;
