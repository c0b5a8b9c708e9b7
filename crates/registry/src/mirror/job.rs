//! What is wanted, and what is to be done for it.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::client::RateLimit;
use crate::digest::Digest;
use crate::error::Error;
use crate::manifest::{Blob, Manifest};
use crate::platform::Platform;
use crate::reference::{MAX_TAG, Reference};

/// Which of an index's images are wanted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Platforms {
    /// All, byte for byte.
    All,
    /// These. One gives that platform's own manifest, several a trimmed index.
    Only(Vec<Platform>),
}

/// One image to copy.
#[derive(Clone, Debug)]
pub struct Job {
    /// Where it comes from.
    pub source: Reference,
    /// Where it goes to; has a tag.
    pub target: Reference,
    /// Which of its platforms.
    pub platforms: Platforms,
    /// Whether signatures and other referrers go along.
    pub artifacts: bool,
    /// The source's digest by the lock: copied even if the source's tag has moved.
    pub source_digest: Option<Digest>,
    /// What the target must be by the lock.
    pub expected: Option<Digest>,
}

impl Job {
    /// All platforms of `source` to `target`, unlocked and without artifacts.
    pub fn new(source: Reference, target: Reference) -> Self {
        Self {
            source,
            target,
            platforms: Platforms::All,
            artifacts: false,
            source_digest: None,
            expected: None,
        }
    }
}

/// What is to be done for one image.
#[derive(Clone, Debug)]
pub struct Planned {
    /// What was wanted.
    pub job: Arc<Job>,
    /// What the source's name points to now; `None` if it was not asked or did not answer.
    pub source: Option<Digest>,
    /// What is to be done.
    pub action: Action,
    /// Why the source did not answer, if the target is what was last known of the source: then nothing is to be done.
    pub unanswered: Option<Error>,
    /// Who signed it, if a signature is required ([`SignaturePolicy`](super::SignaturePolicy)).
    pub signed: Option<String>,
    /// What the user should know, one line each.
    pub warnings: Vec<String>,
}

/// What is to be done.
#[derive(Clone, Debug)]
pub enum Action {
    /// Nothing.
    UpToDate {
        /// What the target is.
        digest: Digest,
    },
    /// The target's tag does not exist yet.
    Copy(Content),
    /// The target's tag is something else now.
    Replace {
        /// What it is now.
        previous: Digest,
        /// Whether an earlier run of ours put it there. If not, keep it before it is overwritten ([`Planned::keep_as`],
        /// [`Client::retag`](crate::Client::retag)).
        ours: bool,
        /// Whether it was made from the same source, for other platforms: then upstream has not moved.
        same_source: bool,
        /// What it becomes.
        content: Content,
    },
    /// The target's tag is what it should be, and some artifacts of the image are missing.
    Complete {
        /// What the target is.
        digest: Digest,
        /// Artifacts that are missing.
        missing: usize,
    },
    /// It cannot be done.
    Failed(Error),
}

/// An image that is to be copied.
#[derive(Clone, Debug)]
pub struct Content {
    /// The digest that the target's tag will have.
    pub digest: Digest,
    /// Bytes of its blobs, each counted once. Which of them the target has is seen when it is copied.
    pub bytes: u64,
    /// Its blobs, largest first.
    pub blobs: Vec<Blob>,
    /// Manifests that the target already has, with all that they name.
    pub manifests_present: usize,
    /// The configuration that must name a wanted platform, because no index does.
    pub(crate) config: Option<Digest>,
    pub(crate) tree: Tree,
}

/// The manifests of an image.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    pub(crate) top: Manifest,
    /// Those below it that the target lacks, with their depth.
    pub(crate) children: Vec<(usize, Manifest)>,
    /// Those that the target has, of those that it was asked for.
    pub(crate) present: Vec<Digest>,
    /// Attestations that the source does not have.
    pub(crate) gone: Vec<Digest>,
}

/// What a registry that counts pulls is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulls {
    /// The registry.
    pub registry: String,
    /// Manifests that this run reads from it.
    pub needed: u64,
    /// What it allowed before that.
    pub limit: Option<RateLimit>,
}

/// What is to be done for all images, in the order in which they were asked for.
#[derive(Clone, Debug)]
pub struct Plan {
    /// One for each job.
    pub images: Vec<Planned>,
    /// One for each source registry that manifests are read from.
    pub pulls: Vec<Pulls>,
}

impl Action {
    pub(super) fn content(&self) -> Option<&Content> {
        match self {
            Self::Copy(content) | Self::Replace { content, .. } => Some(content),
            Self::UpToDate { .. } | Self::Complete { .. } | Self::Failed(_) => None,
        }
    }
}

impl Planned {
    /// What would be copied.
    pub fn content(&self) -> Option<&Content> {
        self.action.content()
    }

    /// Whether there is something to do that can be done.
    pub fn has_work(&self) -> bool {
        !matches!(self.action, Action::UpToDate { .. } | Action::Failed(_))
    }

    /// If the lock's digest and the source's differ: both.
    pub fn moved(&self) -> Option<(Digest, Digest)> {
        let (locked, now) = (self.job.source_digest?, self.source?);
        (locked != now).then_some((locked, now))
    }

    /// If the target's tag was put by another tool: the tag that keeps it, `<tag>-replaced-<digest12>`, and its digest.
    pub fn keep_as(&self) -> Option<(String, Digest)> {
        let Action::Replace { previous, ours: false, .. } = &self.action else { return None };
        let suffix = format!("-replaced-{}", previous.short());
        let tag = self.job.target.tag().unwrap_or("latest");
        let room = MAX_TAG.saturating_sub(suffix.len()).min(tag.len());
        Some((format!("{}{suffix}", tag.get(..room).unwrap_or_default()), *previous))
    }
}

impl Plan {
    /// Bytes of all blobs that are to be copied, each counted once per destination registry: what has to be fetched if the
    /// target mounts.
    pub fn unique_bytes(&self) -> u64 {
        self.bytes_once_per(Reference::registry)
    }

    /// Bytes of all blobs that are to be copied, each counted once per destination repository: what has to be fetched if the
    /// target does not mount.
    pub fn repository_bytes(&self) -> u64 {
        self.bytes_once_per(|target| (target.registry(), target.repository()))
    }

    /// Bytes of all blobs that are to be copied, each counted once per `place` of its target.
    fn bytes_once_per<'a, P: Eq + Hash>(&'a self, place: impl Fn(&'a Reference) -> P) -> u64 {
        let mut seen = HashSet::new();
        let blobs = self.images.iter().flat_map(|planned| {
            let blobs = planned.content().into_iter().flat_map(|content| &content.blobs);
            blobs.map(|blob| (&planned.job.target, blob))
        });
        let blobs = blobs.filter(|(target, blob)| seen.insert((place(target), blob.digest)));
        total(blobs.map(|(_, blob)| blob.size))
    }

    /// Whether nothing is to be done.
    pub fn is_up_to_date(&self) -> bool {
        self.images.iter().all(|planned| matches!(planned.action, Action::UpToDate { .. }))
    }
}

/// The sum of sizes that servers name, without overflow.
pub(super) fn total(sizes: impl Iterator<Item = u64>) -> u64 {
    sizes.fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_for_a_replaced_image_has_its_digest_and_fits() {
        let target: Reference = format!("h:1/a:{}", "t".repeat(128)).parse().unwrap();
        let manifest = Manifest::new("m", "{}");
        let content = Content {
            digest: manifest.digest(),
            bytes: 0,
            blobs: Vec::new(),
            manifests_present: 0,
            config: None,
            tree: Tree { top: manifest, children: Vec::new(), present: Vec::new(), gone: Vec::new() },
        };
        let previous = Digest::of(b"old");
        let action = |ours| Action::Replace { previous, ours, same_source: false, content: content.clone() };
        let job = Arc::new(Job::new(target.clone(), target.clone()));
        let planned = |ours| Planned {
            job: Arc::clone(&job),
            source: None,
            action: action(ours),
            unanswered: None,
            signed: None,
            warnings: Vec::new(),
        };
        let (tag, digest) = planned(false).keep_as().unwrap();
        assert!(tag.ends_with(&format!("t-replaced-{}", previous.short())) && tag.len() == 128, "{tag}");
        assert_eq!(digest, previous);
        assert!(target.with_tag(&tag).is_ok());
        assert_eq!(planned(true).keep_as(), None);
    }
}
