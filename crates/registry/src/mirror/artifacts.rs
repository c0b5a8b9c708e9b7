//! Signatures, attestations and other artifacts that are about an image, in both forms that are in use: the referrers API, and
//! cosign's tags.

use std::collections::HashSet;

use futures_util::future::try_join_all;
use futures_util::stream::{self, StreamExt as _};

use super::apply::{put, put_top, put_with_blobs};
use super::blob::ImageCopy;
use super::event::Event;
use super::job::{Content, Job};
use super::shared_blobs::SharedBlobs;
use super::{Action, Mirror, Planned, pulls};
use crate::bugs::{self, Bug};
use crate::client::{Client, tagged};
use crate::digest::Digest;
use crate::error::Error;
use crate::lists;
use crate::manifest::{Descriptor, Kind, Manifest, subject as subject_of};
use crate::reference::Reference;
use crate::size_limits;

/// [Cosign's tags](https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md#tag-based-discovery).
const SUFFIXES: [&str; 3] = ["sig", "att", "sbom"];

/// Artifacts about artifacts, a signed SBOM for instance.
const DEPTH: usize = 2;

/// Artifacts of one image: no image has more, and an endless list must not be copied forever.
const MAX_ARTIFACTS: usize = 200;

/// Manifests whose tags are looked for at once.
const LOOKS_AT_ONCE: usize = 4;

/// What a source's cosign tags name, in the order of [`SUFFIXES`].
type Tagged = Vec<Option<Descriptor>>;

/// Copies the artifacts of the image before its tag is put: a reader of the tag finds its signatures, and the next run does not
/// skip what an interrupted one has left out. What a registry refuses is a warning (ECR answers some of them with 405,
/// [containers-roadmap#2783](https://github.com/aws/containers-roadmap/issues/2783)).
///
/// # Errors
/// A registry that does not work at the moment: the next run tries again.
pub(super) async fn copy(image_copy: ImageCopy<'_>, content: &Content) -> Result<Vec<String>, Error> {
    let subjects = subjects_of(content);
    let mut artifacts = Artifacts { anchor: Some(content), ..Artifacts::new(image_copy, true) };
    artifacts.walk(subjects).await?;
    Ok(artifacts.warnings)
}

/// What there may be artifacts of, for an image that is to be copied.
fn subjects_of(content: &Content) -> Vec<Digest> {
    let tree = &content.tree;
    let children = tree.children.iter().map(|(_, child)| child.digest());
    // A child that the target has may lack its artifacts: an earlier run may have ended before them.
    let children = children.chain(tree.present.iter().copied());
    std::iter::once(content.digest).chain(children).collect()
}

/// [`copy`] for an image that the target has.
///
/// # Errors
/// As [`copy`].
pub(super) async fn complete(image_copy: ImageCopy<'_>, digest: Digest) -> Result<Vec<String>, Error> {
    let subjects = subjects(image_copy.client, image_copy.target, digest).await?;
    let mut artifacts = Artifacts::new(image_copy, true);
    artifacts.walk(subjects).await?;
    Ok(artifacts.warnings)
}

/// Whether [`look_for`] has something to look for: an image that is up to date may lack artifacts, because they were not wanted
/// when it was copied; and if pulls are counted, the plan names those of the artifacts too.
pub(super) fn are_looked_for(mirror: &Mirror, planned: &Planned) -> bool {
    let Planned { job, action, unanswered: None, .. } = planned else { return false };
    let is_in_question = match action {
        Action::UpToDate { digest } => !are_known(mirror, job, *digest),
        Action::Copy(_) | Action::Replace { .. } => mirror.client.rate_limit(job.source.registry()).is_some(),
        Action::Complete { .. } | Action::Failed(_) => false,
    };
    job.artifacts && is_in_question && !bugs::is_in(Bug::ForgottenArtifacts)
}

/// Looks for the artifacts of an image; of one that is up to date only once, as the result is remembered. Returns also what is
/// to be read from a source that counts pulls.
pub(super) async fn look_for(mirror: &Mirror, planned: Planned) -> (Planned, Vec<Digest>) {
    let job = &planned.job;
    if let Some(content) = planned.content() {
        // An error is reported when the image is copied.
        let unread = Missing::of(mirror, job, subjects_of(content)).await.map(|missing| missing.unread);
        return (planned, unread.unwrap_or_default());
    }
    let Action::UpToDate { digest } = planned.action else { return (planned, Vec::new()) };
    let missing = match subjects(&mirror.client, &job.target, digest).await {
        Ok(subjects) => Missing::of(mirror, job, subjects).await,
        Err(error) => Err(error),
    };
    match missing {
        Ok(Missing { count: 0, warnings, .. }) => {
            remember(mirror, job, digest);
            (Planned { warnings: [planned.warnings, warnings].concat(), ..planned }, Vec::new())
        }
        // Warnings are reported when the rest is copied.
        Ok(Missing { count: missing, unread, .. }) => {
            (Planned { action: Action::Complete { digest, missing }, ..planned }, unread)
        }
        Err(error) if error.is_out_of_reach() && error.registry() == job.source.registry() => {
            (Planned { unanswered: Some(error), ..planned }, Vec::new())
        }
        Err(error) => (Planned { action: Action::Failed(error), ..planned }, Vec::new()),
    }
}

/// Artifacts that the target lacks.
#[derive(Default)]
struct Missing {
    count: usize,
    /// Those that have to be read from a source that counts pulls.
    unread: Vec<Digest>,
    /// What could not be found out.
    warnings: Vec<String>,
}

impl Missing {
    async fn of(mirror: &Mirror, job: &Job, subjects: Vec<Digest>) -> Result<Self, Error> {
        let shared_blobs = SharedBlobs::default();
        let image_copy = ImageCopy {
            mirror,
            image: 0,
            client: &mirror.client,
            source: &job.source,
            target: &job.target,
            shared_blobs: &shared_blobs,
            keep: None,
        };
        let mut artifacts = Artifacts::new(image_copy, false);
        artifacts.walk(subjects).await?;
        Ok(Self { warnings: artifacts.warnings, ..artifacts.missing })
    }
}

/// What there may be artifacts of: the image and all manifests below it, read from the target, which costs no pull.
async fn subjects(client: &Client, target: &Reference, digest: Digest) -> Result<Vec<Digest>, Error> {
    let (mut subjects, mut level) = (vec![digest], vec![digest]);
    for _ in 0..size_limits::INDEX_DEPTH {
        let reads = level.iter().map(|digest| target.with_digest(*digest));
        let reads = reads.map(|manifest| async move { client.manifest(&manifest).await });
        let found = try_join_all(reads).await?;
        let indexes = found.iter().flatten().filter_map(|manifest| manifest.index().ok());
        let children: Vec<Descriptor> = indexes.flat_map(|index| index.manifests).collect();
        subjects.extend(children.iter().map(|child| child.digest));
        let below = children.iter().filter(|child| Kind::of(&child.media_type) == Kind::Index);
        level = below.map(|child| child.digest).collect();
    }
    Ok(subjects)
}

/// Whether the artifacts were copied, or looked for, before. In-process registries are always asked: that costs nothing, and
/// two files may have the same name.
fn are_known(mirror: &Mirror, job: &Job, digest: Digest) -> bool {
    let connection = &mirror.client.connection;
    let is_served = [&job.source, &job.target].iter().any(|name| connection.is_served(name.registry()));
    !is_served && mirror.mapping.has_artifacts(&job.source, &job.target.with_digest(digest))
}

/// Remembers that the artifacts were looked for and copied.
pub(super) fn remember(mirror: &Mirror, job: &Job, digest: Digest) {
    mirror.mapping.record_artifacts(&job.source, &job.target.with_digest(digest));
}

/// The artifacts of one image, copied or counted.
struct Artifacts<'a> {
    image_copy: ImageCopy<'a>,
    /// Whether they are copied; otherwise they are counted.
    copies: bool,
    /// The image, as long as the target does not have its manifest.
    anchor: Option<&'a Content>,
    seen: HashSet<Digest>,
    missing: Missing,
    warnings: Vec<String>,
}

impl<'a> Artifacts<'a> {
    fn new(image_copy: ImageCopy<'a>, copies: bool) -> Self {
        let (seen, missing) = (HashSet::new(), Missing::default());
        Self { image_copy, copies, anchor: None, seen, missing, warnings: Vec::new() }
    }

    /// Copies or counts the artifacts of each of `subjects`, and the artifacts of those.
    async fn walk(&mut self, subjects: Vec<Digest>) -> Result<(), Error> {
        let image_copy = self.image_copy;
        self.seen.extend(&subjects);
        let tags = stream::iter(subjects)
            .map(|subject| async move { (subject, find_tagged(image_copy, subject).await) })
            .buffered(LOOKS_AT_ONCE);
        // All of them before anything else is awaited: a future that is not polled may hold a lock that the others wait for.
        let tags: Vec<(Digest, Result<Tagged, Error>)> = tags.collect().await;
        for (subject, tagged) in tags {
            self.take_all(subject, tagged).await?;
        }
        Ok(())
    }

    async fn take_all(&mut self, subject: Digest, tagged: Result<Tagged, Error>) -> Result<(), Error> {
        let mut next = Some(tagged);
        let mut subjects = vec![(subject, 0)];
        while let Some((subject, depth)) = subjects.pop() {
            let tagged = match next.take() {
                Some(tagged) => tagged,
                None => find_tagged(self.image_copy, subject).await,
            };
            let taken = match tagged {
                Ok(tagged) => self.take_tagged(subject, tagged).await,
                Err(error) => Err(error),
            };
            self.warn_of(taken)?;
            let referrers = self.take_referrers(subject).await;
            let found = self.warn_of(referrers)?.unwrap_or_default();
            if depth < DEPTH {
                subjects.extend(found.into_iter().map(|digest| (digest, depth + 1)));
            }
        }
        Ok(())
    }

    /// A refusal becomes a warning.
    fn warn_of<T>(&mut self, result: Result<T, Error>) -> Result<Option<T>, Error> {
        match result {
            Ok(done) => Ok(Some(done)),
            // Bytes that are wrong at their source are wrong the next time, too.
            Err(error) if error.is_transient() && !error.kind().is_mismatch() => Err(error),
            Err(error) => {
                self.warn(format!("an artifact was not copied: {error}"));
                Ok(None)
            }
        }
    }

    fn warn(&mut self, message: String) {
        if self.copies {
            let ImageCopy { mirror, image, .. } = self.image_copy;
            mirror.events.tell(&Event::Warning { image, message: message.clone() });
        }
        self.warnings.push(message);
    }

    async fn take_tagged(&mut self, subject: Digest, found: Tagged) -> Result<(), Error> {
        let image_copy = self.image_copy;
        for (suffix, there) in SUFFIXES.iter().zip(found) {
            let Some(there) = there else { continue };
            let tag = lists::cosign_tag(subject, suffix);
            let (source, target) = (tagged(image_copy.source, &tag)?, tagged(image_copy.target, &tag)?);
            match image_copy.client.look_up(&target).await?.map(|here| here.digest) {
                Some(here) if here == there.digest => continue,
                // Signed there by another signer, as companies sign what they mirror.
                Some(here) if image_copy.mirror.mapping.target_digest(&target) != Some(here) => {
                    self.warn(format!("{target} is another one than {source} and is left as it is"));
                    continue;
                }
                _ => {}
            }
            if !self.copies {
                self.miss(there.digest);
            } else if let Some(manifest) = self.read(&source, there.digest).await? {
                self.copy_one(&manifest, &target).await?;
                image_copy.mirror.mapping.record_target_digest(&target, manifest.digest());
            }
        }
        Ok(())
    }

    /// Copies or counts the artifacts that name `subject`, and returns their digests.
    async fn take_referrers(&mut self, subject: Digest) -> Result<Vec<Digest>, Error> {
        let image_copy = self.image_copy;
        let listed = lists::referrers(image_copy.client, image_copy.source, subject).await?;
        if listed.is_empty() {
            return Ok(Vec::new());
        }
        let here: HashSet<Digest> =
            match lists::referrers(image_copy.client, image_copy.target, subject).await {
                Ok(here) => here.into_iter().map(|descriptor| descriptor.digest).collect(),
                Err(error) if error.is_transient() => return Err(error),
                // A registry that does not list them may still accept them.
                Err(_) => HashSet::new(),
            };
        let (mut found, mut copied) = (Vec::new(), Vec::new());
        for descriptor in listed.into_iter().take(MAX_ARTIFACTS) {
            let digest = descriptor.digest;
            if self.seen.len() >= MAX_ARTIFACTS || self.seen.contains(&digest) {
                continue;
            }
            // If reading it is a pull, it is read only to be copied.
            let is_counted = image_copy.client.rate_limit(image_copy.source.registry()).is_some();
            if !self.copies && is_counted && !here.contains(&digest) {
                self.miss(digest);
            } else if !here.contains(&digest) {
                let source = image_copy.source.with_digest(digest);
                let Some(manifest) = self.read(&source, digest).await? else { continue };
                // A list may be wrong; the artifact itself names its subject.
                if subject_of(&manifest) != Some(subject) {
                    continue;
                }
                if self.copies {
                    self.copy_one(&manifest, &image_copy.target.with_digest(digest)).await?;
                    copied.push(descriptor);
                } else {
                    self.miss(digest);
                }
            }
            self.seen.insert(digest);
            found.push(digest);
        }
        if !copied.is_empty() {
            self.list_referrers(subject, &copied).await?;
        }
        Ok(found)
    }

    /// Counts one that the target lacks.
    fn miss(&mut self, digest: Digest) {
        let ImageCopy { mirror, client, source, .. } = self.image_copy;
        self.missing.count += 1;
        let is_counted = client.rate_limit(source.registry()).is_some();
        if is_counted && pulls::kept(client, &*mirror.mapping, source.registry(), digest).is_none() {
            self.missing.unread.push(digest);
        }
    }

    async fn read(&self, source: &Reference, digest: Digest) -> Result<Option<Manifest>, Error> {
        pulls::read_once(self.image_copy.client, &*self.image_copy.mirror.mapping, source, digest).await
    }

    /// Adds to the list of a registry without the referrers API.
    async fn list_referrers(&self, subject: Digest, copied: &[Descriptor]) -> Result<(), Error> {
        let image_copy = self.image_copy;
        match lists::missing_referrers(image_copy.client, image_copy.target, subject, copied).await? {
            Some((tag, list)) => put(image_copy, &tag, &list).await,
            None => Ok(()),
        }
    }

    async fn copy_one(&mut self, manifest: &Manifest, target: &Reference) -> Result<(), Error> {
        self.anchor().await?;
        put_with_blobs(self.image_copy, target, manifest).await.map(drop)
    }

    /// Puts the image by its digest, without its tag: not every registry accepts artifacts of a manifest that it does not have.
    /// If this is refused, the put of the tag says why.
    async fn anchor(&mut self) -> Result<(), Error> {
        let Some(content) = self.anchor else { return Ok(()) };
        let target = self.image_copy.target.with_digest(content.digest);
        match put_top(self.image_copy, &target, content).await {
            Err(error) if error.is_transient() => return Err(error),
            Ok(()) | Err(_) => {}
        }
        self.anchor = None;
        Ok(())
    }
}

/// What the source's cosign tags of `subject` name.
async fn find_tagged(image_copy: ImageCopy<'_>, subject: Digest) -> Result<Tagged, Error> {
    let finds = SUFFIXES
        .iter()
        .map(|suffix| lists::cosign_tagged(image_copy.client, image_copy.source, subject, suffix));
    try_join_all(finds).await
}
