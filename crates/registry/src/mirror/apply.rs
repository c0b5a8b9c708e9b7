//! Doing what was planned: blobs first, then manifests from the leaves up, the tag last.

use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use super::blob::{ImageCopy, Totals};
use super::event::Event;
use super::job::{Action, Content, Job, Plan, Planned, Platforms};
use super::plan::gather;
use super::read_back::read_back;
use super::shared_blobs::SharedBlobs;
use super::{Check, IMAGES_AT_ONCE, Mirror, artifacts};
use crate::BoxFuture;
use crate::blobs;
use crate::bugs::{self, Bug};
use crate::client::Client;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind};
use crate::manifest::{Blob, Kind, Manifest, ManifestError};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::resend::put_or_resend;
use crate::size_limits;
use crate::transfer::blob_upload::Opening;
use crate::transfer::source::Kept;

/// Manifests of one image that are put at once.
const MANIFESTS_AT_ONCE: usize = 8;

/// The result of one job.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was wanted.
    pub job: Arc<Job>,
    /// What the target is now, or why it is not what it should be.
    pub result: Result<Copied, Error>,
}

/// An image that the target has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// What the target's tag names.
    pub digest: Digest,
    /// Whether nothing had to be done.
    pub was_up_to_date: bool,
    /// What the target's tag named before, if something else.
    pub replaced: Option<Digest>,
    /// Bytes that were sent.
    pub bytes: u64,
    /// Blobs that were sent.
    pub sent: usize,
    /// Blobs that the target mounted from another of its repositories.
    pub mounted: usize,
    /// Bytes that were not sent because of that.
    pub mounted_bytes: u64,
    /// Blobs that the target had.
    pub skipped: usize,
    /// Bytes that were not sent because of that.
    pub skipped_bytes: u64,
    /// What the user should know, one line each.
    pub warnings: Vec<String>,
}

impl Mirror {
    /// Carries out `plan`. If an image fails, the others are still copied; the outcomes are in the plan's order.
    ///
    /// Boxed, like [`Mirror::plan`]: a bare future is compiled in the crate that awaits it, and optimised only if that crate
    /// is.
    pub fn apply<'a>(&'a self, plan: &'a Plan) -> BoxFuture<'a, Vec<Outcome>> {
        Box::pin(async move {
            let shared_blobs = SharedBlobs::new(self, plan);
            let (shared_blobs, check) = (&shared_blobs, &Check::new(self, false));
            // In order: an image waits only for those before it, so those have to be in progress.
            let images = stream::iter(0..plan.images.len())
                .map(|image| finish(self, (image, &plan.images[image]), shared_blobs, check));
            let outcomes = gather(images.buffered(IMAGES_AT_ONCE), plan.images.len()).await;
            self.mapping.flush();
            outcomes
        })
    }
}

async fn finish(
    mirror: &Mirror,
    (image, planned): (usize, &Planned),
    shared_blobs: &SharedBlobs,
    check: &Check<'_>,
) -> Outcome {
    let Planned { job, action, warnings, .. } = planned;
    let (job, warnings) = (Arc::clone(job), warnings.clone());
    let client = telling(mirror, image);
    let kept = Kept::default();
    let image_copy = ImageCopy {
        mirror,
        image,
        client: &client,
        source: &job.source,
        target: &job.target,
        shared_blobs,
        keep: None,
    };
    let (content, replaced) = match action {
        Action::UpToDate { digest } => {
            return Outcome { result: Ok(Copied::up_to_date(*digest, warnings)), job };
        }
        Action::Complete { digest, .. } => {
            let result = add_artifacts(image_copy, &job, *digest, warnings).await;
            tell_end(mirror, image, &result);
            return Outcome { job, result };
        }
        Action::Failed(error) => {
            mirror.events.tell(&Event::ImageFailed { image, error: error.clone() });
            return Outcome { job, result: Err(error.clone()) };
        }
        Action::Copy(content) => (content, None),
        Action::Replace { previous, content, .. } => (content, Some(*previous)),
    };
    let image_copy = ImageCopy { keep: content.config.map(|config| (config, &kept)), ..image_copy };
    let result = copy(image_copy, &job, content, replaced, warnings).await;
    for blob in &content.blobs {
        let (registry, repository) = (job.target.registry(), job.target.repository());
        match &result {
            Ok(_) => shared_blobs.committed(registry, repository, blob.digest),
            Err(_) => shared_blobs.lost(image, registry, repository, blob.digest),
        }
    }
    let result = match result {
        Ok((mut copied, mut totals)) if mirror.reads_back => {
            let read = read_back_all(image_copy, check, copied.digest, &mut totals).await;
            copied.count(&totals);
            read.map(|()| copied)
        }
        result => result.map(|(copied, _)| copied),
    };
    tell_end(mirror, image, &result);
    Outcome { job, result }
}

/// [`read_back`], and once more after missing blobs that the target claims to have were sent: a registry may answer 201 to a
/// mount and not have the blob.
async fn read_back_all(
    image_copy: ImageCopy<'_>,
    check: &Check<'_>,
    digest: Digest,
    totals: &mut Totals,
) -> Result<(), Error> {
    let ImageCopy { client, image, target, .. } = image_copy;
    match read_back(client, check, image, target, digest).await {
        Err(error) if matches!(error.kind(), ErrorKind::ReadBack { .. }) && totals.has_claimed() => {
            image_copy.send_claimed(totals, &Opening::Head).await?;
            read_back(client, check, image, target, digest).await
        }
        read => read,
    }
}

fn tell_end(mirror: &Mirror, image: usize, result: &Result<Copied, Error>) {
    mirror.events.tell(&match result {
        Ok(copied) => Event::ImageDone { image, digest: copied.digest },
        Err(error) => Event::ImageFailed { image, error: error.clone() },
    });
}

/// Copies the artifacts that are missing at an image that the target has.
async fn add_artifacts(
    image_copy: ImageCopy<'_>,
    job: &Job,
    digest: Digest,
    mut warnings: Vec<String>,
) -> Result<Copied, Error> {
    let ImageCopy { mirror, image, .. } = image_copy;
    mirror.events.tell(&Event::ImageStarted { image, blobs: 0, bytes: 0 });
    warnings.extend(artifacts::complete(image_copy, digest).await?);
    artifacts::remember(mirror, job, digest);
    Ok(Copied::new(digest, None, &Totals::default(), warnings))
}

/// A client that reports its retries as this image's.
fn telling(mirror: &Mirror, image: usize) -> Client {
    let events = mirror.events.clone();
    mirror.client.watched(Arc::new(move |error, pause| {
        events.tell(&Event::Retried { image, error: error.clone(), pause });
    }))
}

/// Copies it, and returns also how its blobs came to the target.
async fn copy(
    image_copy: ImageCopy<'_>,
    job: &Job,
    content: &Content,
    replaced: Option<Digest>,
    mut warnings: Vec<String>,
) -> Result<(Copied, Totals), Error> {
    let ImageCopy { mirror, image, .. } = image_copy;
    mirror.events.tell(&Event::ImageStarted { image, blobs: content.blobs.len(), bytes: content.bytes });
    if bugs::is_in(Bug::TagFirst) {
        put_children(image_copy, content).await?;
        put_top(image_copy, image_copy.target, content).await?;
    }
    let mut totals = image_copy.place_blobs(&content.blobs).await?;
    check_platform(image_copy, job, content).await?;
    let resend = async {
        if !totals.has_claimed() && content.tree.present.is_empty() {
            return Ok(false);
        }
        image_copy.send_all_claimed(&mut totals).await?;
        totals.extend(put_claimed(image_copy, content).await?);
        Ok::<_, Error>(true)
    };
    warnings.extend(put_or_resend(|| put_all(image_copy, job, content), resend).await?);
    if job.artifacts {
        artifacts::remember(mirror, job, content.digest);
    }
    mirror.mapping.record_blobs(content.digest, content.blobs.iter().map(|blob| blob.digest).collect());
    mirror.mapping.record_target_digest(&job.target, content.digest);
    Ok((Copied::new(content.digest, replaced, &totals, warnings), totals))
}

/// Puts the manifests below the top one that the target claimed to have, and what they name.
async fn put_claimed(image_copy: ImageCopy<'_>, content: &Content) -> Result<Totals, Error> {
    let (mut level, mut manifests) = (content.tree.present.clone(), Vec::new());
    for _ in 0..size_limits::INDEX_DEPTH {
        let reads = level.iter().map(|digest| image_copy.source.with_digest(*digest));
        let reads: Vec<_> =
            reads.map(|name| async move { image_copy.client.manifest(&name).await }).collect();
        let found: Vec<_> = stream::iter(reads).buffered(MANIFESTS_AT_ONCE).try_collect().await?;
        level = Vec::new();
        for manifest in found.into_iter().flatten() {
            if let Ok(index) = manifest.index() {
                level.extend(index.manifests.iter().map(|child| child.digest));
            }
            manifests.push(manifest);
        }
    }
    let mut totals = Totals::default();
    for manifest in manifests.iter().rev() {
        let name = image_copy.target.with_digest(manifest.digest());
        totals.extend(put_with_blobs(image_copy, &name, manifest).await?);
    }
    Ok(totals)
}

/// Puts one manifest after the blobs that it names.
pub(super) async fn put_with_blobs(
    image_copy: ImageCopy<'_>,
    reference: &Reference,
    manifest: &Manifest,
) -> Result<Totals, Error> {
    let mut totals = Totals::default();
    if manifest.kind() == Kind::Image {
        let image = manifest.image();
        let image = image.map_err(|error| Error::of(image_copy.source, ErrorKind::Manifest(error)))?;
        let blobs: Vec<Blob> = image.blobs().into_iter().map(Blob::from).collect();
        totals = image_copy.place_blobs(&blobs).await?;
    }
    let resend = async {
        let has_claimed = totals.has_claimed();
        image_copy.send_all_claimed(&mut totals).await?;
        Ok::<_, Error>(has_claimed)
    };
    put_or_resend(|| put(image_copy, reference, manifest), resend).await?;
    Ok(totals)
}

/// Puts all manifests, the tag last. Returns warnings of artifacts that were not copied.
async fn put_all(image_copy: ImageCopy<'_>, job: &Job, content: &Content) -> Result<Vec<String>, Error> {
    put_children(image_copy, content).await?;
    if bugs::is_in(Bug::LateArtifacts) {
        put_top(image_copy, image_copy.target, content).await?;
    }
    let warnings = if job.artifacts { artifacts::copy(image_copy, content).await? } else { Vec::new() };
    put_top(image_copy, image_copy.target, content).await?;
    Ok(warnings)
}

/// Children before the index that names them, each by digest.
async fn put_children(image_copy: ImageCopy<'_>, content: &Content) -> Result<(), Error> {
    let children = &content.tree.children;
    let deepest = children.iter().map(|(depth, _)| *depth).max().unwrap_or_default();
    for level in (1..=deepest).rev() {
        let mut puts = Vec::new();
        for (_, manifest) in children.iter().filter(|child| child.0 == level) {
            puts.push(put_child(image_copy, manifest));
        }
        stream::iter(puts).buffer_unordered(MANIFESTS_AT_ONCE).try_collect::<()>().await?;
    }
    Ok(())
}

/// Puts the manifest above all others, by the target's tag or its own digest.
pub(super) async fn put_top(
    image_copy: ImageCopy<'_>,
    target: &Reference,
    content: &Content,
) -> Result<(), Error> {
    let Some(digest) = content.tree.gone.first() else {
        return put(image_copy, target, &content.tree.top).await;
    };
    // An index whose attestation is gone: some registries accept it, and the others will not accept it later either.
    let client = Client { connection: image_copy.client.connection.hasty() };
    let put = put(ImageCopy { client: &client, ..image_copy }, target, &content.tree.top).await;
    put.map_err(|error| match error.kind() {
        ErrorKind::PartUnknown { .. } => {
            Error::of(image_copy.source, ErrorKind::AttestationGone { digest: *digest })
        }
        _ => error,
    })
}

async fn put_child(image_copy: ImageCopy<'_>, manifest: &Manifest) -> Result<(), Error> {
    put(image_copy, &image_copy.target.with_digest(manifest.digest()), manifest).await
}

/// Puts one manifest of an image.
pub(super) async fn put(
    image_copy: ImageCopy<'_>,
    reference: &Reference,
    manifest: &Manifest,
) -> Result<(), Error> {
    let _permit = image_copy.mirror.small.take(&[reference.registry()]).await;
    image_copy.client.put_manifest(reference, manifest).await
}

/// The platform of a source that is not an index is in its configuration. That was kept when it was copied, or is read now. A
/// configuration without a platform, an artifact's for instance, fits any.
async fn check_platform(image_copy: ImageCopy<'_>, job: &Job, content: &Content) -> Result<(), Error> {
    let (Some(_), Platforms::Only(platforms)) = (content.config, &job.platforms) else { return Ok(()) };
    let found = match image_copy.keep.and_then(|(_, kept)| kept.get()) {
        Some(bytes) => Platform::of_configuration(bytes),
        None => {
            let Some(config) = content.tree.top.image().ok().and_then(|image| image.config) else {
                return Ok(());
            };
            Platform::of_configuration(&blobs::bytes(image_copy.client, image_copy.source, &config).await?)
        }
    };
    let found = found.map_err(|why| Error::of(&job.source, ErrorKind::Manifest(why.into())))?;
    let Some(found) = found else { return Ok(()) };
    // Variants are rarely in a configuration.
    let bare = |platform: &Platform| Platform { variant: None, ..platform.clone() };
    if platforms.iter().any(|wanted| bare(wanted).matches(&bare(&found))) {
        return Ok(());
    }
    let missing = platforms.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let kind = ErrorKind::Manifest(ManifestError::Platform { missing, available: found.to_string() });
    Err(Error::of(&job.source, kind))
}

impl Copied {
    fn up_to_date(digest: Digest, warnings: Vec<String>) -> Self {
        Self { was_up_to_date: true, ..Self::new(digest, None, &Totals::default(), warnings) }
    }

    fn new(digest: Digest, replaced: Option<Digest>, totals: &Totals, warnings: Vec<String>) -> Self {
        let mut copied = Self {
            digest,
            was_up_to_date: false,
            replaced,
            bytes: 0,
            sent: 0,
            mounted: 0,
            mounted_bytes: 0,
            skipped: 0,
            skipped_bytes: 0,
            warnings,
        };
        copied.count(totals);
        copied
    }

    fn count(&mut self, totals: &Totals) {
        (self.sent, self.bytes) = totals.sent;
        (self.mounted, self.mounted_bytes) = totals.mounted;
        (self.skipped, self.skipped_bytes) = totals.skipped;
    }
}
