//! What is to be done: decided by HEAD, which costs no pull; manifests are read only of what is to be copied, and only if
//! enough pulls are left.

use std::sync::Arc;

use futures_util::stream::{self, Stream, StreamExt as _};

use super::job::{Action, Job, Plan, Planned, Platforms};
use super::mapping::Mapping;
use super::pulls::{Read, Reserved, kept};
use super::resolve::{Reader, Root};
use super::signature_policy::refuse_unsigned;
use super::target_tags::TargetTags;
use super::{IMAGES_AT_ONCE, Mirror, artifacts, learned};
use crate::BoxFuture;
use crate::client::counts_pulls;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind};
use crate::manifest::Descriptor;

/// What the HEADs of an image have shown.
pub(super) struct Inspection {
    pub(super) job: Arc<Job>,
    pub(super) source: Option<Descriptor>,
    target: Option<Digest>,
    unanswered: Option<Error>,
    /// Who signed the source.
    pub(super) signed: Option<String>,
    pub(super) step: Step,
}

/// What was found at source and target.
type Found = (Result<Option<Descriptor>, Error>, Result<Option<Digest>, Error>);

/// The next step of an image's plan.
pub(super) enum Step {
    /// Decided.
    Done(Action),
    /// The manifest of this source is to be read.
    Top { source: Digest, wanted: Option<Digest> },
    /// The children of this one are to be read.
    Children(Root),
}

impl Mirror {
    /// Decides what is to be done for each of `jobs`. An image that fails is in the plan as well.
    pub fn plan<J: Into<Arc<Job>>>(&self, jobs: impl IntoIterator<Item = J>) -> BoxFuture<'_, Plan> {
        plan(self, jobs.into_iter().map(Into::into).collect())
    }
}

/// Boxed here, because generic code is compiled in the crate that calls it.
fn plan(mirror: &Mirror, jobs: Vec<Arc<Job>>) -> BoxFuture<'_, Plan> {
    Box::pin(async move {
        let planner =
            Planner { mirror, reader: Reader::new(mirror), tags: TargetTags::of(&*mirror.mapping, &jobs) };
        planner.plan(jobs).await
    })
}

/// What one plan is made with.
struct Planner<'a> {
    mirror: &'a Mirror,
    reader: Reader<'a>,
    tags: TargetTags,
}

impl Planner<'_> {
    async fn plan(&self, jobs: Vec<Arc<Job>>) -> Plan {
        let count = jobs.len();
        let inspections = stream::iter(jobs).map(|job| self.inspect(job)).buffered(IMAGES_AT_ONCE);
        // Boxed: each inspection of a step is freed when that of the next one is made.
        let inspections: Vec<Box<Inspection>> = gather(inspections.map(Box::new), count).await;
        let registries = inspections.iter().map(|inspection| inspection.job.source.registry());
        let mut pulls = Reserved::new(&self.mirror.client, registries);
        let inspections = stream::iter(inspections)
            .map(|inspection| refuse_unsigned(self.mirror, *inspection))
            .buffered(IMAGES_AT_ONCE);
        let mut inspections: Vec<Box<Inspection>> = gather(inspections.map(Box::new), count).await;
        pulls.count_read(&self.mirror.client);
        self.reserve_pulls(&mut inspections, &mut pulls);
        let inspections =
            stream::iter(inspections).map(|inspection| self.read_top(*inspection)).buffered(IMAGES_AT_ONCE);
        let mut inspections: Vec<Box<Inspection>> = gather(inspections.map(Box::new), count).await;
        self.reserve_pulls(&mut inspections, &mut pulls);
        let images = stream::iter(inspections)
            .map(|inspection| self.read_children(*inspection))
            .buffered(IMAGES_AT_ONCE);
        let mut images = gather(images, count).await;
        self.reserve_artifacts(&mut images, &mut pulls);
        let images = images.into_iter().map(|(planned, _)| planned).collect();
        Plan { images, pulls: pulls.into_pulls() }
    }

    fn mapping(&self) -> &dyn Mapping {
        &*self.mirror.mapping
    }

    /// One HEAD on each side, at the target for many tags together if possible.
    async fn inspect(&self, job: Arc<Job>) -> Inspection {
        let known = learned::without_source(self.mapping(), &job);
        let (mut source, target) = if known.is_none() && self.may_read_at_once(&job) {
            self.inspect_new(&job).await
        } else {
            let source = async {
                match known {
                    // The run can do without it: it is not waited for if it is away.
                    Some(_) => head_source(&job, self.mirror.client.find_soon(&job.source)).await,
                    None => head_source(&job, self.mirror.client.find(&job.source)).await,
                }
            };
            tokio::join!(source, self.tags.digest(self.mirror, &job.target))
        };
        let mut inspection = Inspection::new(job, Step::Top { source: Digest::of(b""), wanted: None });
        match target {
            Ok(target) => inspection.target = target,
            Err(error) => {
                inspection.step = Step::Done(Action::Failed(error));
                return inspection;
            }
        }
        if source.is_err() && known.is_some() && inspection.target != known {
            source = head_source(&inspection.job, self.mirror.client.find(&inspection.job.source)).await;
        }
        inspection.step = match source {
            Ok(source) => {
                inspection.source = source;
                self.compare(&mut inspection).await
            }
            Err(error) => without_source(&mut inspection, known, error),
        };
        inspection
    }

    /// Whether the source's manifest may be read before it is known what it is, for one of many tags of a repository that no
    /// run is known to have written to: that costs no pull, and no signature is required.
    fn may_read_at_once(&self, job: &Job) -> bool {
        let is_given = job.source.digest().or(job.source_digest).or(job.expected).is_some();
        let is_free = self.mirror.signature_policy.is_none()
            && !counts_pulls(&self.mirror.client, job.source.registry());
        is_free && !is_given && self.tags.are_new(&job.target)
    }

    /// An image that no run is known to have copied: if the target has no such tag, the manifest is read anyway, and says what
    /// a HEAD of the source would say. One request instead of two.
    async fn inspect_new(&self, job: &Job) -> Found {
        let target = self.tags.digest(self.mirror, &job.target).await;
        let source = match &target {
            Ok(None) => self.reader.by_name(job).await.map(Some),
            Ok(Some(_)) => head_source(job, self.mirror.client.find(&job.source)).await,
            // It fails in any case.
            Err(_) => Ok(None),
        };
        (source, target)
    }

    async fn compare(&self, inspection: &mut Inspection) -> Step {
        let job = &inspection.job;
        if let Some(found) = inspection.source.as_ref().filter(|_| job.source.digest().is_none()) {
            self.mapping().record_source_digest(&job.source, found.digest);
        }
        let Some(source) = job.source_digest.or(inspection.source.as_ref().map(|source| source.digest))
        else {
            let kind = ErrorKind::NotFound { message: String::new() };
            return Step::Done(Action::Failed(Error::of(&job.source, kind)));
        };
        let wanted =
            job.expected.or_else(|| learned::wanted(self.mapping(), job, source, inspection.source.as_ref()));
        if wanted.is_some() && wanted == inspection.target {
            return Step::Done(learned::up_to_date(self.mapping(), job, source, wanted.unwrap_or(source)));
        }
        if job.source.digest().is_some() {
            // It was not asked above, and now it matters: this shows the pulls that are left.
            // If it fails, reading the manifest says why.
            if let Ok(Some(found)) = self.mirror.client.head(&job.source).await {
                inspection.source = Some(found);
            }
        }
        Step::Top { source, wanted }
    }

    /// Counts the manifests that are to be read, each once, and fails the images of a registry that does not allow so many.
    fn reserve_pulls(&self, inspections: &mut [Box<Inspection>], pulls: &mut Reserved) {
        let reads = inspections.iter().map(|inspection| {
            let reads = inspection.reads().into_iter().filter(|read| !self.has_kept(read));
            (&inspection.job.source, reads.collect())
        });
        let refused = pulls.reserve(&self.mirror.client, reads);
        for (inspection, refused) in inspections.iter_mut().zip(refused) {
            if let Some(error) = refused {
                inspection.step = Step::Done(Action::Failed(error));
            }
        }
    }

    /// Like [`Self::reserve_pulls`], for the artifacts of the images.
    fn reserve_artifacts(&self, images: &mut [(Planned, Vec<Digest>)], pulls: &mut Reserved) {
        let reads = images.iter().map(|(planned, unread)| {
            let source = &planned.job.source;
            (source, unread.iter().map(|digest| Read::of(source, *digest, None)).collect())
        });
        let refused = pulls.reserve(&self.mirror.client, reads);
        for ((planned, _), refused) in images.iter_mut().zip(refused) {
            if let Some(error) = refused {
                planned.action = Action::Failed(error);
            }
        }
    }

    /// Whether an earlier run has read it, so that it costs no pull.
    fn has_kept(&self, read: &Read) -> bool {
        let kept = |digest| kept(&self.mirror.client, self.mapping(), &read.registry, digest);
        match (kept(read.digest), &read.platform) {
            (Some(index), Some(platform)) => {
                index.select(platform).is_ok_and(|child| kept(child.digest).is_some())
            }
            (manifest, _) => manifest.is_some(),
        }
    }

    async fn read_top(&self, mut inspection: Inspection) -> Inspection {
        if let Step::Top { source, wanted } = inspection.step {
            inspection.step = match self.decide_top(&inspection, source, wanted).await {
                Ok(step) => step,
                Err(error) => Step::Done(Action::Failed(error)),
            };
        }
        inspection
    }

    async fn decide_top(
        &self,
        inspection: &Inspection,
        source: Digest,
        wanted: Option<Digest>,
    ) -> Result<Step, Error> {
        let job = &inspection.job;
        let top = self.reader.top(job, source, wanted).await?;
        let digest = top.digest();
        if let Some(expected) = job.expected.filter(|expected| *expected != digest) {
            return Err(Error::of(&job.source, ErrorKind::DigestMismatch { expected, actual: digest }));
        }
        if inspection.target == Some(digest) {
            return Ok(Step::Done(learned::up_to_date(self.mapping(), job, source, digest)));
        }
        learned::learn(self.mapping(), job, source, digest);
        Ok(Step::Children(self.reader.root(job, source, top).await?))
    }

    /// What is to be done for the image, and artifacts of it that are to be read from a source that counts pulls.
    async fn read_children(&self, inspection: Inspection) -> (Planned, Vec<Digest>) {
        let Inspection { job, source, target, unanswered, signed, step } = inspection;
        let action = match step {
            Step::Done(action) => action,
            Step::Children(root) => match (self.reader.content(&job, root).await, target) {
                (Err(error), _) => Action::Failed(error),
                (Ok(content), Some(there)) if there == content.digest => {
                    Action::UpToDate { digest: content.digest }
                }
                (Ok(content), None) => Action::Copy(content),
                (Ok(content), Some(previous)) => {
                    let ours = self.mapping().target_digest(&job.target) == Some(previous);
                    let from = job.source_digest.or(source.as_ref().map(|source| source.digest));
                    let same_source = from
                        .is_some_and(|from| from == previous || self.mapping().is_made_of(previous, from));
                    Action::Replace { previous, ours, same_source, content }
                }
            },
            Step::Top { .. } => {
                let kind = ErrorKind::Protocol("the plan ended early".to_owned());
                Action::Failed(Error::of(&job.source, kind))
            }
        };
        let source = source.map(|source| source.digest);
        let gone = action.content().into_iter().flat_map(|content| &content.tree.gone);
        let left_out =
            |digest| format!("{}: attestation {digest} is not at the source and is left out", job.source);
        let warnings = gone.map(left_out).collect();
        let planned = Planned { job, source, action, unanswered, signed, warnings };
        // Boxed: few images have artifacts, and each has this step.
        if artifacts::are_looked_for(self.mirror, &planned) {
            Box::pin(artifacts::look_for(self.mirror, planned)).await
        } else {
            (planned, Vec::new())
        }
    }
}

/// All of a list of a known length, in no more room than they need.
pub(super) async fn gather<T>(stream: impl Stream<Item = T>, count: usize) -> Vec<T> {
    let mut all = Vec::with_capacity(count);
    let mut stream = std::pin::pin!(stream);
    while let Some(next) = stream.next().await {
        all.push(next);
    }
    all
}

impl Inspection {
    /// An inspection before any request.
    pub(super) fn new(job: Arc<Job>, step: Step) -> Self {
        Self { job, source: None, target: None, unanswered: None, signed: None, step }
    }

    /// The manifests that the next step reads from the source.
    fn reads(&self) -> Vec<Read> {
        let read = |digest, platform| Read::of(&self.job.source, digest, platform);
        match &self.step {
            Step::Done(_) => Vec::new(),
            Step::Top { source, wanted } => match (&self.job.platforms, wanted) {
                (Platforms::Only(platforms), None) if platforms.len() == 1 => {
                    vec![read(*source, None), read(*source, platforms.first().cloned())]
                }
                (Platforms::Only(platforms), Some(wanted)) if platforms.len() == 1 => {
                    vec![read(*wanted, None)]
                }
                _ => vec![read(*source, None)],
            },
            Step::Children(root) => root.absent.iter().map(|child| read(child.digest, None)).collect(),
        }
    }
}

/// What the source's name points to. A digest needs no request.
async fn head_source(
    job: &Job,
    asked: impl Future<Output = Result<Option<Descriptor>, Error>>,
) -> Result<Option<Descriptor>, Error> {
    if let Some(digest) = job.source.digest() {
        return Ok(Some(Descriptor::new("", digest, 0)));
    }
    match asked.await? {
        Some(source) => Ok(Some(source)),
        None => Err(Error::of(&job.source, ErrorKind::NotFound { message: String::new() })),
    }
}

/// The source does not answer. If the target has what was last known of the source, that is not a failure: nothing would have
/// been copied. If the source refuses, or does not have the image, it is a failure.
fn without_source(inspection: &mut Inspection, known: Option<Digest>, error: Error) -> Step {
    match known {
        Some(digest) if inspection.target == known && error.is_out_of_reach() => {
            inspection.unanswered = Some(error);
            Step::Done(Action::UpToDate { digest })
        }
        _ => Step::Done(Action::Failed(error)),
    }
}
