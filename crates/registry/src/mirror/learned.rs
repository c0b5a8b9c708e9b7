//! What earlier runs learned of an image: what its target must be, as far as that is known without reading a manifest.

use super::job::{Action, Job, Platforms};
use super::mapping::Mapping;
use crate::digest::Digest;
use crate::manifest::{Descriptor, Kind};

/// What the target must be, as far as that is known without the source: by the lock, or by what the source's name last pointed
/// to.
pub(super) fn without_source(mapping: &dyn Mapping, job: &Job) -> Option<Digest> {
    let source = || job.source_digest.or_else(|| mapping.source_digest(&job.source));
    job.expected.or_else(|| wanted(mapping, job, source()?, None))
}

/// The digest that the target must have, if that is known without reading the source's manifest.
pub(super) fn wanted(
    mapping: &dyn Mapping,
    job: &Job,
    source: Digest,
    found: Option<&Descriptor>,
) -> Option<Digest> {
    let is_image = |found: &Descriptor| found.digest == source && Kind::of(&found.media_type) == Kind::Image;
    if job.platforms == Platforms::All || found.is_some_and(is_image) {
        return Some(source);
    }
    mapping.get(source, &job.platforms)
}

/// Remembers which manifest a target must have for a source's digest.
pub(super) fn learn(mapping: &dyn Mapping, job: &Job, source: Digest, wanted: Digest) {
    let is_news = job.platforms != Platforms::All && mapping.get(source, &job.platforms) != Some(wanted);
    if is_news {
        mapping.put(source, &job.platforms, wanted);
    }
}

/// Remembers that the target is up to date.
pub(super) fn up_to_date(mapping: &dyn Mapping, job: &Job, source: Digest, digest: Digest) -> Action {
    learn(mapping, job, source, digest);
    if mapping.target_digest(&job.target) != Some(digest) {
        mapping.record_target_digest(&job.target, digest);
    }
    Action::UpToDate { digest }
}
