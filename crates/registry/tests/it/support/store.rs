//! The content of a fake registry.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use bytes::Bytes;
use registry::{Digest, Manifest};

use super::TestImage;

#[derive(Default)]
pub struct Store {
    pub repositories: HashMap<String, Repository>,
    pub contents: HashMap<Digest, Bytes>,
    pub uploads: HashMap<String, Upload>,
    pub next_upload: usize,
}

#[derive(Default)]
pub struct Repository {
    pub manifests: HashMap<Digest, Manifest>,
    pub tags: HashMap<String, Digest>,
    /// With the time from which manifests may refer to them.
    pub blobs: HashMap<Digest, Instant>,
}

pub struct Upload {
    pub repository: String,
}

impl Store {
    pub fn repository(&mut self, name: &str) -> &mut Repository {
        self.repositories.entry(name.to_owned()).or_default()
    }

    /// Stores an image without a request.
    pub fn seed(&mut self, repository: &str, tag: &str, image: &TestImage) {
        self.seed_untagged(repository, image);
        self.repository(repository).tags.insert(tag.to_owned(), image.digest());
    }

    pub fn seed_untagged(&mut self, repository: &str, image: &TestImage) {
        for child in &image.children {
            self.seed_untagged(repository, child);
        }
        for blob in &image.blobs {
            self.contents.insert(Digest::of(blob), Bytes::from(blob.clone()));
            self.repository(repository).blobs.insert(Digest::of(blob), Instant::now());
        }
        self.repository(repository).manifests.insert(image.digest(), image.manifest.clone());
    }

    pub fn manifest(&self, repository: &str, identifier: &str) -> Option<&Manifest> {
        let repository = self.repositories.get(repository)?;
        let digest = match identifier.parse() {
            Ok(digest) => digest,
            Err(_) => *repository.tags.get(identifier)?,
        };
        repository.manifests.get(&digest)
    }

    /// Whether a manifest in the repository refers to the blob.
    pub fn is_committed(&self, repository: &str, blob: Digest) -> bool {
        self.repositories.get(repository).is_some_and(|repository| {
            let images = repository.manifests.values().filter_map(|manifest| manifest.image().ok());
            images.into_iter().any(|image| image.blobs().iter().any(|named| named.digest == blob))
        })
    }

    /// The blobs and manifests that a manifest refers to and the repository lacks.
    pub fn lacking(&self, name: &str, manifest: &Manifest) -> Vec<Digest> {
        let Some(repository) = self.repositories.get(name) else { return vec![manifest.digest()] };
        let now = Instant::now();
        if let Ok(index) = manifest.index() {
            let children = index.manifests.iter().map(|child| child.digest);
            return children.filter(|digest| !repository.manifests.contains_key(digest)).collect();
        }
        let Ok(image) = manifest.image() else { return Vec::new() };
        let blobs: HashSet<Digest> = image.blobs().iter().map(|blob| blob.digest).collect();
        blobs.into_iter().filter(|blob| repository.blobs.get(blob).is_none_or(|since| *since > now)).collect()
    }

    /// Whether a tag refers to an incomplete image; the invariant that no fault may break.
    pub fn broken_tag(&self) -> Option<String> {
        for (name, repository) in &self.repositories {
            for (tag, digest) in &repository.tags {
                let mut open = vec![*digest];
                while let Some(digest) = open.pop() {
                    let Some(manifest) = repository.manifests.get(&digest) else {
                        return Some(format!("{name}:{tag} lacks manifest {digest}"));
                    };
                    let lacking = self.lacking(name, manifest);
                    if !lacking.is_empty() {
                        return Some(format!("{name}:{tag} lacks {lacking:?}"));
                    }
                    if let Ok(index) = manifest.index() {
                        open.extend(index.manifests.iter().map(|child| child.digest));
                    }
                }
            }
        }
        // Content stored under a digest has that digest.
        let wrong = self.contents.iter().find(|(digest, bytes)| Digest::of(bytes) != **digest);
        wrong.map(|(digest, _)| format!("the content of {digest} is not that"))
    }
}
