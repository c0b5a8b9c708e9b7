//! Reading a target back: what is there, compared with what should be. That it was sent proves nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::checked_blobs::CheckedBlobs;
use super::{Limits, Mirror, blob};
use crate::client::blobs;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind};
use crate::manifest::{Descriptor, Kind, Manifest};
use crate::reference::Reference;
use crate::size_limits;
use crate::transfer::source::{self, Meter, Transfer};
use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

/// Requests for one image at once; those for all images have the mirror's limits.
const AT_ONCE: usize = 16;

/// How often a blob is read whose bytes are wrong: they may be damaged on the way and stored well.
const READS: usize = 2;

/// What a target has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// What the tag names; `None` if there is no such tag.
    pub digest: Option<Digest>,
    /// Manifests that are as they should be, the top one included.
    pub manifests: usize,
    /// Blobs that were looked at, each once.
    pub blobs: usize,
    /// Their bytes, as the manifests name them.
    pub bytes: u64,
    /// What is not as it should be.
    pub differences: Vec<Difference>,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The manifest or blob that should be there.
    pub digest: Digest,
    /// What is wrong.
    pub kind: DifferenceKind,
}

/// How a target differs from what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DifferenceKind {
    /// There is no such tag.
    TagAbsent,
    /// The tag names something else.
    TagMoved {
        /// What it names.
        found: Digest,
    },
    /// The manifest is not there.
    ManifestAbsent,
    /// The manifest exists and cannot be used.
    ManifestBroken {
        /// What is wrong with it.
        reason: String,
    },
    /// The blob is not there.
    BlobAbsent,
    /// The blob has another length.
    BlobSize {
        /// What the manifest says, in bytes.
        expected: u64,
        /// What the registry has, in bytes.
        found: u64,
    },
    /// The blob's bytes are others.
    BlobContent {
        /// Their digest.
        found: Digest,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digest = &self.digest;
        match &self.kind {
            DifferenceKind::TagAbsent => write!(f, "the tag is absent, {digest} was expected"),
            DifferenceKind::TagMoved { found } => write!(f, "the tag names {found}, not {digest}"),
            DifferenceKind::ManifestAbsent => write!(f, "manifest {digest} is missing"),
            DifferenceKind::ManifestBroken { reason } => write!(f, "manifest {digest}: {reason}"),
            DifferenceKind::BlobAbsent => write!(f, "blob {digest} is missing"),
            DifferenceKind::BlobSize { expected, found } => {
                write!(f, "blob {digest} has {found} bytes, not {expected}")
            }
            DifferenceKind::BlobContent { found } => write!(f, "blob {digest} has the content of {found}"),
        }
    }
}

/// Reads images back, and each blob once.
pub struct Check<'a> {
    mirror: &'a Mirror,
    deep: bool,
    checked_blobs: CheckedBlobs,
}

/// An image that is being read back, and what was found.
#[derive(Default)]
struct Walk {
    checked: Checked,
    blobs: BTreeMap<Digest, Descriptor>,
}

impl<'a> Check<'a> {
    /// Reads manifests and compares them with their digests, and asks the registry whether it has the blobs and how long they
    /// are; with `deep` every byte of them is read and hashed.
    pub fn new(mirror: &'a Mirror, deep: bool) -> Self {
        Self { mirror, deep, checked_blobs: CheckedBlobs::default() }
    }
}

impl Check<'_> {
    /// Reads `target`'s tag back and all below it. `image` names it in events.
    ///
    /// # Errors
    /// When the registry cannot be reached or refuses. A difference is not an error.
    pub fn image<'a>(
        &'a self,
        image: usize,
        target: &'a Reference,
        expected: Digest,
    ) -> BoxFuture<'a, Result<Checked, Error>> {
        async move {
            let difference = |kind| vec![Difference { digest: expected, kind }];
            let top = match self.read(target).await? {
                Ok(Some(top)) => top,
                Ok(None) => {
                    let differences = difference(DifferenceKind::TagAbsent);
                    return Ok(Checked { differences, ..Checked::default() });
                }
                Err(kind) => {
                    return Ok(Checked { differences: difference(kind), ..Checked::default() });
                }
            };
            let digest = Some(top.digest());
            if digest != Some(expected) {
                let differences = difference(DifferenceKind::TagMoved { found: top.digest() });
                return Ok(Checked { digest, differences, ..Checked::default() });
            }
            self.below(image, target, top).await
        }
        .boxed()
    }

    /// Reads back what is known by its digest alone: a signature, for instance.
    ///
    /// # Errors
    /// As [`Check::image`].
    pub fn manifest<'a>(
        &'a self,
        image: usize,
        repository: &'a Reference,
        digest: Digest,
    ) -> BoxFuture<'a, Result<Checked, Error>> {
        async move {
            let kind = match self.read(&repository.with_digest(digest)).await? {
                Ok(Some(manifest)) => return self.below(image, repository, manifest).await,
                Ok(None) => DifferenceKind::ManifestAbsent,
                Err(kind) => kind,
            };
            Ok(Checked { differences: vec![Difference { digest, kind }], ..Checked::default() })
        }
        .boxed()
    }

    async fn below(&self, image: usize, target: &Reference, top: Manifest) -> Result<Checked, Error> {
        let mut walk = Walk::default();
        walk.checked.digest = Some(top.digest());
        let mut level = vec![top];
        for depth in 0..=size_limits::INDEX_DEPTH {
            // Each once, however many indexes name it.
            let mut children = BTreeMap::new();
            for (digest, optional) in level.iter().flat_map(|manifest| walk.take(manifest, depth)) {
                *children.entry(digest).or_insert(true) &= optional;
            }
            // Boxed: a bare future is in memory twice, here and in the stream's task.
            let reads = children.into_iter().map(|(digest, optional)| {
                async move {
                    let found = self.read(&target.with_digest(digest)).await?;
                    Ok::<_, Error>((digest, optional, found))
                }
                .boxed()
            });
            let found: Vec<_> = stream::iter(reads).buffered(AT_ONCE).try_collect().await?;
            level = found.into_iter().filter_map(|found| walk.found(found)).collect();
            if level.is_empty() {
                break;
            }
        }
        let blobs: Vec<Descriptor> = walk.blobs.into_values().collect();
        let mut checked = walk.checked;
        checked.blobs = blobs.len();
        checked.bytes = super::job::total(blobs.iter().map(|blob| blob.size));
        let differences = self.blobs(image, target, &blobs).await?;
        checked.differences.extend(differences);
        Ok(checked)
    }

    /// A manifest, or what is wrong with it.
    async fn read(&self, reference: &Reference) -> Result<Result<Option<Manifest>, DifferenceKind>, Error> {
        let _permit = self.mirror.small.take(&[reference.registry()]).await;
        match self.mirror.client.manifest(reference).await {
            Ok(manifest) => Ok(Ok(manifest)),
            Err(error) => match error.kind() {
                ErrorKind::DigestMismatch { .. } | ErrorKind::TooLarge { .. } => {
                    Ok(Err(DifferenceKind::ManifestBroken { reason: error.kind().to_string() }))
                }
                _ => Err(error),
            },
        }
    }

    async fn blobs(
        &self,
        image: usize,
        target: &Reference,
        blobs: &[Descriptor],
    ) -> Result<Vec<Difference>, Error> {
        let digests = blobs.iter().map(|blob| blob.digest);
        let known = if self.deep { None } else { blob::sizes(self.mirror, target, digests).await? };
        let known = known.as_ref();
        let looks = blobs.iter().map(|blob| {
            async move {
                let kind = match known {
                    Some(sizes) => compare(blob, sizes.get(&blob.digest).copied()),
                    None => self.blob(image, target, blob).await?,
                };
                Ok::<_, Error>(kind.map(|kind| Difference { digest: blob.digest, kind }))
            }
            .boxed()
        });
        let looks: Vec<_> = looks.collect();
        let found = stream::iter(looks).buffered(AT_ONCE).try_collect::<Vec<_>>().await?;
        Ok(found.into_iter().flatten().collect())
    }

    async fn blob(
        &self,
        image: usize,
        target: &Reference,
        blob: &Descriptor,
    ) -> Result<Option<DifferenceKind>, Error> {
        let look = async {
            if self.deep { self.hash(image, target, blob).await } else { self.look(target, blob).await }
        };
        self.checked_blobs.once(target.repository(), blob.digest, look).await
    }

    async fn look(&self, target: &Reference, blob: &Descriptor) -> Result<Option<DifferenceKind>, Error> {
        let _permit = self.mirror.small.take(&[target.registry()]).await;
        let connection = &self.mirror.client.connection;
        let found = connection.retry(|| blobs::size_once(connection, target, blob.digest)).await?;
        let difference = compare(blob, found);
        if !matches!(difference, Some(DifferenceKind::BlobSize { .. })) {
            return Ok(difference);
        }
        // Not every server's HEAD tells the length that its GET has.
        let found = connection.retry(|| blobs::size_by_get(connection, target, blob.digest)).await?;
        Ok(compare(blob, found))
    }

    /// Reads all of the blob.
    async fn hash(
        &self,
        image: usize,
        target: &Reference,
        blob: &Descriptor,
    ) -> Result<Option<DifferenceKind>, Error> {
        let slots = if blob.size <= Limits::SMALL { &self.mirror.small } else { &self.mirror.large };
        let _permit = slots.take(&[target.registry()]).await;
        let transfer = Transfer {
            connection: self.mirror.client.connection.clone(),
            source: target.clone(),
            blob: blob.into(),
            progress: self.mirror.events.progress(image, blob.digest),
            keep: None,
        };
        let mut reads = 1;
        loop {
            let bytes = source::body(transfer.clone(), Arc::new(Meter::default()));
            let read = bytes.try_for_each(|_| std::future::ready(Ok(()))).await;
            let Err(error) = read else { return Ok(None) };
            match wrong(&error) {
                Some(DifferenceKind::BlobContent { .. }) if reads < READS => reads += 1,
                Some(kind) => return Ok(Some(kind)),
                None => return Err(error),
            }
        }
    }
}

impl Walk {
    /// Counts a manifest, and returns what it names below it, and whether that may be absent.
    fn take(&mut self, manifest: &Manifest, depth: usize) -> Vec<(Digest, bool)> {
        let broken = |reason: String| {
            let kind = DifferenceKind::ManifestBroken { reason };
            vec![Difference { digest: manifest.digest(), kind }]
        };
        if manifest.kind() == Kind::Index {
            match manifest.index() {
                Ok(_) if depth == size_limits::INDEX_DEPTH => {
                    self.checked.differences.extend(broken("indexes lie too deep in indexes".to_owned()));
                }
                Ok(index) => {
                    self.checked.manifests += 1;
                    let children = index.manifests.iter();
                    // An attestation is left out if the source does not have it; no image needs it.
                    return children.map(|child| (child.digest, child.attests().is_some())).collect();
                }
                Err(error) => self.checked.differences.extend(broken(error.to_string())),
            }
            return Vec::new();
        }
        match manifest.image() {
            Ok(image) => {
                self.checked.manifests += 1;
                self.blobs.extend(image.blobs().into_iter().map(|blob| (blob.digest, blob.clone())));
            }
            Err(error) => self.checked.differences.extend(broken(error.to_string())),
        }
        Vec::new()
    }

    /// A child as it was found.
    fn found(
        &mut self,
        (digest, optional, found): (Digest, bool, Result<Option<Manifest>, DifferenceKind>),
    ) -> Option<Manifest> {
        let kind = match found {
            Ok(Some(manifest)) => return Some(manifest),
            Ok(None) if optional => return None,
            Ok(None) => DifferenceKind::ManifestAbsent,
            Err(kind) => kind,
        };
        self.checked.differences.push(Difference { digest, kind });
        None
    }
}

/// Compares a blob with what the registry says of it: `None` if it is absent, `Some(None)` if its length is not said.
fn compare(blob: &Descriptor, found: Option<Option<u64>>) -> Option<DifferenceKind> {
    match found {
        None => Some(DifferenceKind::BlobAbsent),
        Some(Some(found)) if found != blob.size => {
            Some(DifferenceKind::BlobSize { expected: blob.size, found })
        }
        Some(_) => None,
    }
}

/// What is wrong with the blob that was read, if the error says that.
fn wrong(error: &Error) -> Option<DifferenceKind> {
    match error.kind() {
        ErrorKind::DigestMismatch { actual, .. } => Some(DifferenceKind::BlobContent { found: *actual }),
        ErrorKind::SizeMismatch { expected, actual } => {
            Some(DifferenceKind::BlobSize { expected: *expected, found: *actual })
        }
        ErrorKind::NotFound { .. } | ErrorKind::NameUnknown { .. } | ErrorKind::PartUnknown { .. } => {
            Some(DifferenceKind::BlobAbsent)
        }
        _ => None,
    }
}
