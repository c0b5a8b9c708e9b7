//! From a source's name to the manifests that the target must have.

use std::collections::HashSet;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use super::job::{Content, Tree, total};
use super::manifest_cache::ManifestCache;
use super::{Job, Mirror, Platforms, learned, pulls};
use crate::BoxFuture;
use crate::blobs;
use crate::choose::{self, Images, is_absent};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind};
use crate::manifest::{Blob, Descriptor, Kind, Manifest, ManifestError};
use crate::reference::Reference;
use crate::size_limits;

/// Children of one index that are asked for at once.
const CHILDREN_AT_ONCE: usize = 16;

/// The manifest for the target's tag, and which of its children the target lacks.
pub(super) struct Root {
    pub(super) top: Manifest,
    pub(super) absent: Vec<Descriptor>,
    present: Vec<Digest>,
    /// What it was made from.
    source: Digest,
}

/// A manifest below the top one.
enum Child {
    Found(usize, Manifest),
    /// One that the target has.
    Present(Digest),
    /// An attestation that the source does not have: proxies keep images and leave them behind
    /// ([oc-mirror#1526](https://github.com/openshift/oc-mirror/pull/1526)).
    Gone(Digest),
}

/// A job's source, as its plan reads it.
struct Source<'a> {
    reader: &'a Reader<'a>,
    job: &'a Job,
}

impl Images for Source<'_> {
    fn name(&self) -> &Reference {
        &self.job.source
    }

    fn manifest(&self, digest: Digest) -> BoxFuture<'_, Result<Manifest, Error>> {
        Box::pin(self.reader.read(self.job, digest))
    }

    fn configuration<'a>(&'a self, config: &'a Descriptor) -> BoxFuture<'a, Result<Vec<u8>, Error>> {
        Box::pin(blobs::bytes(&self.reader.mirror.client, &self.job.source, config))
    }
}

/// Reads the manifests of one plan.
pub(super) struct Reader<'a> {
    mirror: &'a Mirror,
    manifests: ManifestCache,
}

impl<'a> Reader<'a> {
    pub(super) fn new(mirror: &'a Mirror) -> Self {
        Self { mirror, manifests: ManifestCache::default() }
    }

    /// The manifest that the target's tag must name: the source's, one of its children, or a trimmed index.
    ///
    /// If `wanted` is known already and only one platform is asked for, the index need not be read: one pull less.
    pub(super) async fn top(
        &self,
        job: &Job,
        source: Digest,
        wanted: Option<Digest>,
    ) -> Result<Manifest, Error> {
        let fail = |error: ManifestError| Error::of(&job.source, ErrorKind::Manifest(error));
        let Platforms::Only(platforms) = &job.platforms else { return self.read(job, source).await };
        if let ([_], Some(wanted)) = (platforms.as_slice(), wanted) {
            return self.read(job, wanted).await;
        }
        let manifest = self.read(job, source).await?;
        match (manifest.kind(), platforms.as_slice()) {
            (Kind::Image, _) => Ok(manifest),
            (Kind::Index, [platform]) => {
                let child = choose::image(&Source { reader: self, job }, &manifest, platform).await?;
                let image = self.read(job, child.digest).await?;
                fits(&job.source, &child, &image)?;
                Ok(image)
            }
            (Kind::Index, platforms) => {
                let index = choose::index(&Source { reader: self, job }, &manifest, platforms).await?;
                index.trim(&manifest, platforms).map_err(fail)
            }
            (Kind::Other, _) => Err(fail(ManifestError::MediaType(manifest.media_type().to_owned()))),
        }
    }

    /// Which manifests below `top` the target lacks. It has the others with all their blobs: a registry accepts a manifest only
    /// after its parts.
    pub(super) async fn root(&self, job: &Job, source: Digest, top: Manifest) -> Result<Root, Error> {
        if top.kind() != Kind::Index {
            return Ok(Root { top, absent: Vec::new(), present: Vec::new(), source });
        }
        let fail = |error: ManifestError| Error::of(&job.source, ErrorKind::Manifest(error));
        let index = top.index().map_err(fail)?;
        if let Some(foreign) = index.foreign.first() {
            return Err(fail(foreign.error()));
        }
        let (absent, present) = self.absent(&job.target, index.manifests).await?;
        Ok(Root { top, absent, present, source })
    }

    /// Those that the target lacks, and the digests of the others.
    async fn absent(
        &self,
        target: &Reference,
        mut manifests: Vec<Descriptor>,
    ) -> Result<(Vec<Descriptor>, Vec<Digest>), Error> {
        let mut seen = HashSet::new();
        manifests.retain(|child| seen.insert(child.digest));
        let asked = stream::iter(manifests).map(|child| async move {
            let there = self.mirror.client.look_up(&target.with_digest(child.digest)).await?;
            Ok::<_, Error>((there.is_some(), child))
        });
        let asked: Vec<_> = asked.buffered(CHILDREN_AT_ONCE).try_collect().await?;
        let (present, absent): (Vec<_>, Vec<_>) = asked.into_iter().partition(|(is_there, _)| *is_there);
        let digests = present.into_iter().map(|(_, child)| child.digest);
        Ok((absent.into_iter().map(|(_, child)| child).collect(), digests.collect()))
    }

    /// Reads what is missing and sums up.
    pub(super) async fn content(&self, job: &Job, root: Root) -> Result<Content, Error> {
        let Root { mut top, absent, mut present, source } = root;
        let (mut children, mut gone) = (Vec::new(), Vec::new());
        for child in self.children(job, absent).await? {
            match child {
                Child::Found(depth, manifest) => children.push((depth, manifest)),
                Child::Present(digest) => present.push(digest),
                Child::Gone(digest) => gone.push(digest),
            }
        }
        if let (Some(digest), Platforms::Only(_)) = (gone.first(), &job.platforms) {
            // The index of the lock names it.
            if job.expected.is_some() {
                return Err(Error::of(&job.source, ErrorKind::AttestationGone { digest: *digest }));
            }
            let fail = |error| Error::of(&job.source, ErrorKind::Manifest(error));
            top = top.without(&gone).map_err(fail)?;
            learned::learn(&*self.mirror.mapping, job, source, top.digest());
        }
        let config = top.image().ok().and_then(|image| image.config);
        let is_source = top.digest() == source;
        let config = config.filter(|config| is_source && config.is_configuration());
        let manifests_present = present.len();
        let tree = Tree { top, children, present, gone };
        let mut blobs = all_blobs(&job.source, &tree)?;
        // The largest first: the run ends when the last one has arrived.
        blobs.sort_by_key(|blob| std::cmp::Reverse(blob.size));
        Ok(Content {
            digest: tree.top.digest(),
            bytes: total(blobs.iter().map(|blob| blob.size)),
            blobs,
            manifests_present,
            config: config.map(|config| config.digest),
            tree,
        })
    }

    /// The manifests below, level by level: an index may name one many times, and each is read once.
    async fn children(&self, job: &Job, mut level: Vec<Descriptor>) -> Result<Vec<Child>, Error> {
        let fail = |kind| Error::of(&job.source, kind);
        let (mut all, mut bytes) = (Vec::new(), 0);
        for depth in 1.. {
            if level.is_empty() {
                break;
            }
            if depth > size_limits::INDEX_DEPTH {
                let message = format!("indexes inside indexes, more than {} deep", size_limits::INDEX_DEPTH);
                return Err(fail(ErrorKind::Protocol(message)));
            }
            bytes = total([bytes].into_iter().chain(level.iter().map(|child| child.size)));
            if bytes > size_limits::MANIFESTS {
                return Err(fail(ErrorKind::TooLarge {
                    what: "the image's manifests",
                    limit: size_limits::MANIFESTS,
                }));
            }
            let (mut seen, mut below) = (HashSet::new(), Vec::new());
            let found = stream::iter(level).map(|descriptor| self.child(job, descriptor, depth));
            let mut found = std::pin::pin!(found.buffered(CHILDREN_AT_ONCE));
            while let Some((child, named)) = found.try_next().await? {
                all.push(child);
                below.extend(named.into_iter().filter(|child| seen.insert(child.digest)));
                if below.len() > size_limits::DESCRIPTORS {
                    return Err(fail(ErrorKind::Manifest(ManifestError::TooMany(below.len()))));
                }
            }
            let (absent, present) = self.absent(&job.target, below).await?;
            all.extend(present.into_iter().map(Child::Present));
            level = absent;
        }
        Ok(all)
    }

    /// One manifest, and what it names if it is an index.
    async fn child(
        &self,
        job: &Job,
        descriptor: Descriptor,
        depth: usize,
    ) -> Result<(Child, Vec<Descriptor>), Error> {
        let manifest = match self.read(job, descriptor.digest).await {
            Err(error) if descriptor.attests().is_some() && is_absent(&error) => {
                return Ok((Child::Gone(descriptor.digest), Vec::new()));
            }
            manifest => manifest?,
        };
        fits(&job.source, &descriptor, &manifest)?;
        let mut below = Vec::new();
        if manifest.kind() == Kind::Index {
            let fail = |error| Error::of(&job.source, ErrorKind::Manifest(error));
            let index = manifest.index().map_err(fail)?;
            if let Some(foreign) = index.foreign.first() {
                return Err(fail(foreign.error()));
            }
            below = index.manifests;
        }
        Ok((Child::Found(depth, manifest), below))
    }

    /// What the source's name points to, by its manifest, which is kept.
    pub(super) async fn by_name(&self, job: &Job) -> Result<Descriptor, Error> {
        match self.mirror.client.manifest(&job.source).await? {
            Some(manifest) => {
                let descriptor = manifest.descriptor();
                self.manifests.keep(&job.source, manifest);
                Ok(descriptor)
            }
            None => Err(Error::of(&job.source, ErrorKind::NotFound { message: String::new() })),
        }
    }

    /// The source's manifest `digest`, once for all images of a plan, and if its registry counts pulls, once for all runs.
    async fn read(&self, job: &Job, digest: Digest) -> Result<Manifest, Error> {
        let read = async {
            let (client, mapping) = (&self.mirror.client, &*self.mirror.mapping);
            if let Some(kept) = pulls::kept(client, mapping, job.source.registry(), digest) {
                return Ok(kept);
            }
            let manifest = self.fetch(job, digest).await?;
            pulls::keep(client, mapping, job.source.registry(), &manifest);
            Ok(manifest)
        };
        self.manifests.read(&job.source, digest, read).await
    }

    /// A pull-through cache may know a digest only after it was asked for the tag
    /// ([containers-roadmap#2837](https://github.com/aws/containers-roadmap/issues/2837)).
    async fn fetch(&self, job: &Job, digest: Digest) -> Result<Manifest, Error> {
        let by_digest = job.source.with_digest(digest);
        if let Some(manifest) = self.mirror.client.manifest(&by_digest).await? {
            return Ok(manifest);
        }
        let tag = job.source.tag().and_then(|tag| job.source.with_tag(tag).ok());
        if let Some(tag) = tag
            && let Some(manifest) = self.mirror.client.manifest(&tag).await?
            && manifest.digest() == digest
        {
            return Ok(manifest);
        }
        Err(Error::of(&by_digest, ErrorKind::NotFound { message: String::new() }))
    }
}

/// Whether the manifest is what its index says.
fn fits(source: &Reference, descriptor: &Descriptor, manifest: &Manifest) -> Result<(), Error> {
    let actual = manifest.bytes().len() as u64;
    if actual != descriptor.size {
        let kind = ErrorKind::SizeMismatch { expected: descriptor.size, actual };
        return Err(Error::of(&source.with_digest(descriptor.digest), kind));
    }
    Ok(())
}

/// All blobs of all images in the tree, each once.
fn all_blobs(source: &Reference, tree: &Tree) -> Result<Vec<Blob>, Error> {
    let mut seen = HashSet::new();
    let mut all = Vec::new();
    let manifests = std::iter::once(&tree.top).chain(tree.children.iter().map(|(_, manifest)| manifest));
    for manifest in manifests {
        if manifest.kind() == Kind::Index {
            continue;
        }
        let image = manifest.image();
        let image = image
            .map_err(|error| Error::of(&source.with_digest(manifest.digest()), ErrorKind::Manifest(error)))?;
        let new = image.blobs().into_iter().filter(|blob| seen.insert(blob.digest));
        all.extend(new.map(Blob::from));
    }
    // Kept as long as the plan: for ten thousand images, room for two more blobs each is megabytes.
    all.shrink_to_fit();
    Ok(all)
}
