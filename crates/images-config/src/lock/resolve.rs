//! Asks the registries what names mean.
//!
//! A HEAD comes first: it is free everywhere, and a name that means what it meant costs nothing else. Only what moved is read: its
//! index, and the manifests of the platforms that are wanted, for their sizes. Docker Hub counts each of those as a pull.

use std::collections::BTreeMap;

use futures_util::stream::{self, StreamExt as _};
use registry::choose::{self, Repository};
use registry::{
    Client, Descriptor, Digest, ErrorKind, Image, Kind, Manifest, ManifestError, Platform, Reference,
};

use super::update::Want;
use super::{Lock, Locked, LockedPlatform, PlatformSet, Seen};
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
    /// The registry had such an image and has it no longer.
    #[error("{name} has vanished upstream: it was {digest}, first seen {first_seen}")]
    Vanished {
        /// The name.
        name: String,
        /// What it meant.
        digest: Digest,
        /// When it was first seen there.
        first_seen: jiff::Timestamp,
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

/// What the registries said of all the names.
#[derive(Debug, Default)]
pub struct Answers {
    /// What is to be locked.
    pub locked: Vec<(Reference, Locked)>,
    /// What has not been known for long enough.
    pub waiting: BTreeMap<Reference, Seen>,
    /// What is under the same name no longer: it was not locked yet, or nothing is there now.
    pub vanished: BTreeMap<Reference, Seen>,
    /// Why there is no telling what some names mean.
    pub failed: Vec<ResolveError>,
}

/// What all these names mean now, several asked at once; and why some could not be told. Each in the order of the names.
pub async fn resolve_all(client: &Client, wants: &[Want], known: &Lock, now: jiff::Timestamp) -> Answers {
    let asked =
        wants.iter().map(|want| async move { (&want.source, resolve(client, want, known, now).await) });
    let found: Vec<_> = stream::iter(asked).buffered(AT_ONCE).collect().await;
    let mut answers = Answers::default();
    for (source, meaning) in found {
        match meaning {
            Ok(Meaning { locked, waiting }) => {
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

/// What a name means now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meaning {
    /// What is to be locked: what it means, or what the lock says while that waits. None where nothing of it can be used yet.
    pub locked: Option<Locked>,
    /// What it means and has not meant for long enough.
    pub waiting: Option<Seen>,
}

/// What a name means now. `lock` is the lock so far: while the name still means what it says, or what it means has to wait, nothing is
/// read.
///
/// # Errors
/// The registry has no such image, cannot be asked, or the image is not for the wanted platforms.
pub async fn resolve(
    client: &Client,
    want: &Want,
    lock: &Lock,
    now: jiff::Timestamp,
) -> Result<Meaning, ResolveError> {
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
    // A clock was wrong: it counts from now on.
    let first_seen = if first_seen > now { now } else { first_seen };
    let waits = want.min_age.as_ref().is_some_and(|age| age.waits_until(first_seen, now).is_some());
    if waits && !want.allow_fresh && is_locked.is_none() {
        let locked = match known {
            Some(known) => Some(resolver.read(want, lock, known.digest, now).await?),
            None => None,
        };
        return Ok(Meaning { locked, waiting: Some(Seen { digest, first_seen }) });
    }
    let mut locked = resolver.read(want, lock, digest, now).await?;
    if want.min_age.is_some() {
        if is_locked.is_none_or(|known| known.seen_since() != first_seen) {
            locked.first_seen = Some(first_seen);
        }
        locked.allow_fresh |= waits && want.allow_fresh;
    }
    Ok(Meaning { locked: Some(locked), waiting: None })
}

struct Resolver<'a> {
    client: &'a Client,
    source: &'a Reference,
}

impl Resolver<'_> {
    fn name(&self) -> String {
        self.source.to_string()
    }

    /// What the name means by `digest`: the lock's own word while that is all that is wanted.
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
        // By digest from here on: the tag may move between two requests.
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

    /// Nothing is there; where something was, that is said.
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
        // A pull-through cache in front of the registry may know the digest only after it was asked for the tag.
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

    /// What a copy of these platforms comes to.
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

    /// The wanted images of an index with their sizes; where none is named, all that it has.
    async fn images_of(&self, index: &Manifest, want: &Want) -> Result<Vec<LockedPlatform>, ResolveError> {
        let entries = match want.wanted_platforms() {
            // A source that is only primed: its digest is all that is asked for.
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
                // An index inside of the index, or an artifact: copied as it is, and no platform's image.
                continue;
            }
            let image = manifest.image().map_err(|why| self.unusable(why))?;
            images.push(LockedPlatform { platform, digest, size: size(&manifest, &image) });
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
