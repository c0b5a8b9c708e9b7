//! The content of a simulated registry. New content exists at once, and becomes visible later.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use registry::{Digest, Manifest};
use tokio::time::Instant;

use crate::images::TestImage;

/// A repository.
#[derive(Default)]
pub struct Repository {
    /// With the time from which each is visible.
    pub manifests: BTreeMap<Digest, (Manifest, Instant)>,
    /// What each tag refers to, with the time from which that is visible, and what it referred to before.
    pub tags: BTreeMap<String, (Digest, Instant, Option<Digest>)>,
    pub blobs: BTreeMap<Digest, Instant>,
}

/// An upload session without any bytes so far.
pub struct Upload {
    pub repository: String,
    pub is_used: bool,
}

/// All repositories of a registry.
#[derive(Default)]
pub struct Store {
    pub repositories: BTreeMap<String, Repository>,
    pub contents: BTreeMap<Digest, Bytes>,
    pub uploads: BTreeMap<String, Upload>,
}

impl Store {
    /// An artifact that a list of referrers contained and the next list does not.
    pub fn lost_referrer(&self, repository: &str, tag: &str, next: &Manifest) -> Option<String> {
        let before = self.seen(repository, tag).filter(|_| tag.starts_with("sha256-"))?.index().ok()?;
        let next = next.index().ok()?;
        let lost =
            before.manifests.iter().find(|old| next.manifests.iter().all(|new| new.digest != old.digest))?;
        Some(format!("{repository}:{tag} does not list {} any more", lost.digest))
    }

    pub fn repository(&mut self, name: &str) -> &mut Repository {
        self.repositories.entry(name.to_owned()).or_default()
    }

    /// Stores an image, visible at once.
    pub fn seed(&mut self, repository: &str, image: &TestImage) {
        for child in &image.children {
            self.seed(repository, child);
        }
        let now = Instant::now();
        for blob in &image.blobs {
            let digest = Digest::of(blob);
            self.contents.insert(digest, Bytes::from(blob.clone()));
            self.repository(repository).blobs.insert(digest, now);
        }
        self.repository(repository).manifests.insert(image.digest(), (image.manifest.clone(), now));
    }

    pub fn tag(&mut self, repository: &str, tag: &str, digest: Digest, seen: Instant) {
        let tags = &mut self.repository(repository).tags;
        let before = tags.get(tag).map(|(digest, ..)| *digest);
        tags.insert(tag.to_owned(), (digest, seen, before));
    }

    /// What a tag refers to, visible or not.
    pub fn tagged(&self, repository: &str, tag: &str) -> Option<Digest> {
        Some(self.repositories.get(repository)?.tags.get(tag)?.0)
    }

    /// The manifest that is visible now.
    pub fn seen(&self, repository: &str, identifier: &str) -> Option<&Manifest> {
        let now = Instant::now();
        let repository = self.repositories.get(repository)?;
        let digest = match identifier.parse() {
            Ok(digest) => digest,
            Err(_) => match *repository.tags.get(identifier)? {
                (digest, seen, _) if seen <= now => digest,
                (_, _, before) => before?,
            },
        };
        let (manifest, seen) = repository.manifests.get(&digest)?;
        (*seen <= now).then_some(manifest)
    }

    /// Whether a manifest in the repository refers to the blob.
    pub fn is_committed(&self, repository: &str, blob: Digest) -> bool {
        let manifests =
            self.repositories.get(repository).into_iter().flat_map(|found| found.manifests.values());
        manifests
            .filter_map(|(manifest, _)| manifest.image().ok())
            .any(|image| image.blobs().iter().any(|named| named.digest == blob))
    }

    /// What the manifest directly refers to and the repository lacks at `time`; without a time: never has.
    pub fn lacking(&self, name: &str, manifest: &Manifest, time: Option<Instant>) -> BTreeSet<Digest> {
        let Some(repository) = self.repositories.get(name) else {
            return BTreeSet::from([manifest.digest()]);
        };
        let is_there = |seen: &Instant| time.is_none_or(|time| *seen <= time);
        match manifest.index() {
            Ok(index) => {
                let children = index.manifests.iter().map(|child| child.digest);
                let lacks = |digest: &Digest| {
                    !repository.manifests.get(digest).is_some_and(|(_, seen)| is_there(seen))
                };
                children.filter(lacks).collect()
            }
            Err(_) => {
                let image = manifest.image();
                let blobs: Vec<Digest> =
                    image.iter().flat_map(|image| image.blobs()).map(|blob| blob.digest).collect();
                blobs.into_iter().filter(|blob| !repository.blobs.get(blob).is_some_and(is_there)).collect()
            }
        }
    }

    /// What is missing below a tag's manifest, if anything is.
    pub fn broken(&self, name: &str, tag: &str) -> Option<String> {
        let mut open = vec![self.tagged(name, tag)?];
        // A list of referrers is stored next to what it lists, and may contain what no longer exists.
        if tag.starts_with("sha256-") {
            return None;
        }
        while let Some(digest) = open.pop() {
            let found = self.repositories.get(name).and_then(|repository| repository.manifests.get(&digest));
            let Some((manifest, _)) = found else {
                return Some(format!("{name}:{tag} lacks manifest {digest}"));
            };
            if let Some(blob) = self.lacking(name, manifest, None).first() {
                return Some(format!("{name}:{tag} lacks {blob}"));
            }
            open.extend(manifest.index().iter().flat_map(|index| &index.manifests).map(|child| child.digest));
        }
        None
    }
}
