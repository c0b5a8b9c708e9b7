//! Reads the target back. Compares each image with images.lock, otherwise with the last run's result, otherwise with its source,
//! and each runtime with its own labels.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use failure::{FailWith as _, Kind, ending, failure};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use images_config::lock::Lock;
use images_config::{Config, RUNTIMES_REPOSITORY};
use registry::mirror::{Action, Check, Checked, DifferenceKind, Job, Mapping, Mirror};
use registry::{Digest, Reference};
use runtimes::tag_check;
use serde::Serialize;

use crate::context::Context;
use crate::target::Target;
use crate::transfer::{
    ConfiguredGrid, builder_context, explain_runtime, image_verdict, jobs, short, wanted_runtimes,
};
use crate::ui::{Lane, units};

/// Images read back in parallel.
const AT_ONCE: usize = 32;

/// Runtimes read back in parallel.
const RUNTIMES_AT_ONCE: usize = 8;

/// The reference for the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum ComparedWith {
    /// images.lock.
    #[serde(rename = "images.lock")]
    Lock,
    /// The digest that the last run on this machine put there.
    #[serde(rename = "last run")]
    LastRun,
    /// The source, as it is now.
    #[serde(rename = "source")]
    Source,
    /// A runtime's own labels, and images.lock.
    #[serde(rename = "labels")]
    Labels,
}

impl ComparedWith {
    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lock => "images.lock",
            Self::LastRun => "last run",
            Self::Source => "source",
            Self::Labels => "labels",
        }
    }
}

/// An image or runtime that was read back.
#[derive(Debug, Serialize)]
pub struct Verified {
    /// `repository:tag`.
    pub name: String,
    /// The reference for the comparison.
    pub against: ComparedWith,
    /// The expected digest of its tag, if known.
    pub expected: Option<Digest>,
    /// The digest of its tag.
    pub digest: Option<Digest>,
    /// Number of correct manifests.
    pub manifests: usize,
    /// Number of blobs checked.
    pub blobs: usize,
    /// Their size in bytes.
    pub bytes: u64,
    /// The differences, one line each.
    pub differences: Vec<String>,
    /// Whether only the tag differs: a transfer can then correct it.
    #[serde(skip)]
    pub tag_only: bool,
}

impl Verified {
    fn of(name: String, against: ComparedWith, expected: Option<Digest>, checked: &Checked) -> Self {
        let is_tag = |kind: &DifferenceKind| {
            matches!(kind, DifferenceKind::TagAbsent | DifferenceKind::TagMoved { .. })
        };
        Self {
            name,
            against,
            expected,
            digest: checked.digest,
            manifests: checked.manifests,
            blobs: checked.blobs,
            bytes: checked.bytes,
            differences: checked.differences.iter().map(ToString::to_string).collect(),
            tag_only: checked.differences.iter().all(|difference| is_tag(&difference.kind)),
        }
    }

    /// Adds the results of a part.
    fn add(&mut self, what: &str, checked: &Checked) {
        self.manifests += checked.manifests;
        self.blobs += checked.blobs;
        self.bytes = self.bytes.saturating_add(checked.bytes);
        self.differences.extend(checked.differences.iter().map(|difference| format!("{what}: {difference}")));
        self.tag_only &= checked.differences.is_empty();
    }
}

/// The settings of a verification.
pub struct Verification<'a> {
    context: &'a Context,
    config: &'a Config,
    lock: Option<&'a Lock>,
    target: &'a Target,
    mapping: Arc<dyn Mapping>,
    mirror: Mirror,
    builder: runtimes::Context,
    deep: bool,
}

impl<'a> Verification<'a> {
    /// Verifies the images and runtimes of `config` at `target`. With `deep`, every byte is read and hashed.
    ///
    /// # Errors
    /// A route is not an address, or docker's configuration is broken.
    pub fn new(
        context: &'a Context,
        config: &'a Config,
        lock: Option<&'a Lock>,
        target: &'a Target,
        deep: bool,
    ) -> anyhow::Result<Self> {
        let (client, credentials) = target.client(context.sources(), config)?;
        let mapping: Arc<dyn Mapping> = context.mapping();
        let mut mirror = Mirror::new(client.clone()).mapping(Arc::clone(&mapping));
        if let Some(index) = target.blob_index() {
            mirror = mirror.blob_index(index);
        }
        let configured =
            ConfiguredGrid::new(context.sources(), config, lock.cloned(), Some(target), None, None)?;
        let builder = builder_context(context, client, credentials, configured, Some(target), None)?;
        Ok(Self { context, config, lock, target, mapping, mirror, builder, deep })
    }

    /// Reads everything back, images first, in the order of images.toml.
    ///
    /// # Errors
    /// A registry cannot be reached or refuses, or a needed source does not answer. Differences are not errors.
    pub async fn run(&self) -> anyhow::Result<Vec<Verified>> {
        let lane = self.context.printer.progress().lane("reading back");
        let wanted = wanted_runtimes(self.config);
        let listed = self.config.runtimes.iter().zip(wanted).filter(|(listed, _)| listed.enabled);
        let runtimes: Vec<runtimes::Runtime> = listed.map(|(_, runtime)| runtime).collect();
        let jobs = jobs(self.config, self.lock, self.target)?;
        let count = Count::new(&lane, jobs.len() + runtimes.len());
        let mirror = self.counting(&count);
        let check = Check::new(&mirror, self.deep);
        let mut verified = self.images(&check, jobs, &count).await?;
        let runtimes = runtimes.iter().map(|runtime| self.runtime(&check, runtime, &count));
        let runtimes: Vec<_> = runtimes.collect();
        verified.extend(stream::iter(runtimes).buffered(RUNTIMES_AT_ONCE).try_collect::<Vec<_>>().await?);
        Ok(verified)
    }

    fn counting(&self, count: &Count) -> Mirror {
        let bytes = Arc::clone(&count.bytes);
        self.mirror.clone().on_event(move |event| {
            if let registry::mirror::Event::BlobProgress { bytes: more, .. } = event {
                bytes.fetch_add(*more, Ordering::Relaxed);
            }
        })
    }

    async fn images(
        &self,
        check: &Check<'_>,
        jobs: Vec<Arc<Job>>,
        count: &Count<'_>,
    ) -> anyhow::Result<Vec<Verified>> {
        let known: Vec<Option<(Digest, ComparedWith)>> = jobs.iter().map(|job| self.known(job)).collect();
        let unknown: Vec<usize> = (0..jobs.len()).filter(|index| known[*index].is_none()).collect();
        let asked = self.ask(&jobs, &unknown).await?;
        let expected = |index: usize| {
            known[index].or_else(|| asked.get(&index).map(|digest| (*digest, ComparedWith::Source)))
        };
        let looks = jobs.iter().enumerate().filter_map(|(index, job)| {
            let (digest, against) = expected(index)?;
            Some(self.image(check, (index, &**job), digest, against, count))
        });
        let looks: Vec<_> = looks.collect();
        let mut verified: Vec<Verified> = stream::iter(looks).buffered(AT_ONCE).try_collect().await?;
        // Another machine may have copied a newer image from the source, so the last run's digest is not binding.
        let stale =
            |image: &Verified| image.against == ComparedWith::LastRun && !image.differences.is_empty();
        let stale: Vec<usize> = (0..jobs.len()).filter(|index| stale(&verified[*index])).collect();
        for (index, digest) in self.ask(&jobs, &stale).await.unwrap_or_default() {
            if verified[index].digest == Some(digest) && verified[index].tag_only {
                let job = &jobs[index];
                verified[index] =
                    self.image(check, (index, job), digest, ComparedWith::Source, count).await?;
            }
        }
        Ok(verified)
    }

    fn known(&self, job: &Job) -> Option<(Digest, ComparedWith)> {
        if let Some(digest) = job.expected {
            return Some((digest, ComparedWith::Lock));
        }
        // The lock has the image for other platforms, so the last run's result may be from another lock.
        if job.source_digest.is_some() {
            return None;
        }
        self.mapping.target_digest(&job.target).map(|digest| (digest, ComparedWith::LastRun))
    }

    /// The present digests of these jobs' sources.
    async fn ask(&self, jobs: &[Arc<Job>], which: &[usize]) -> anyhow::Result<BTreeMap<usize, Digest>> {
        if which.is_empty() {
            return Ok(BTreeMap::new());
        }
        let plan = self.mirror.plan(which.iter().map(|index| Arc::clone(&jobs[*index]))).await;
        let mut found = BTreeMap::new();
        for (index, planned) in which.iter().zip(&plan.images) {
            let digest = match &planned.action {
                Action::UpToDate { digest } | Action::Complete { digest, .. } => *digest,
                Action::Copy(content) | Action::Replace { content, .. } => content.digest,
                Action::Failed(error) => return Err(self.failed(&short(&planned.job), error)),
            };
            found.insert(*index, digest);
        }
        Ok(found)
    }

    async fn image(
        &self,
        check: &Check<'_>,
        (index, job): (usize, &Job),
        expected: Digest,
        against: ComparedWith,
        count: &Count<'_>,
    ) -> anyhow::Result<Verified> {
        let failed = |error: registry::Error| self.failed(&short(job), &error);
        let checked = check.image(index, &job.target, expected).await.map_err(failed)?;
        let mut verified = Verified::of(short(job), against, Some(expected), &checked);
        if job.artifacts && checked.digest == Some(expected) {
            self.referrers(check, index, &job.target, &mut verified).await.map_err(failed)?;
        }
        count.done();
        Ok(verified)
    }

    /// Reads back the referrers of an image.
    async fn referrers(
        &self,
        check: &Check<'_>,
        index: usize,
        image: &Reference,
        verified: &mut Verified,
    ) -> Result<(), registry::Error> {
        let Some(digest) = verified.digest else { return Ok(()) };
        for artifact in registry::lists::referrers_of_all(self.mirror.client(), image, digest).await? {
            verified.add("referrer", &check.manifest(index, image, artifact.digest).await?);
        }
        Ok(())
    }

    async fn runtime(
        &self,
        check: &Check<'_>,
        runtime: &runtimes::Runtime,
        count: &Count<'_>,
    ) -> anyhow::Result<Verified> {
        let explained = |error| explain_runtime(&runtime.name, &error);
        let name = format!("{RUNTIMES_REPOSITORY}:{}", runtime.name);
        let target: Reference = self.target.repository(RUNTIMES_REPOSITORY)?.with_tag(&runtime.name)?;
        let held = tag_check::held(&self.builder, runtime);
        let against = if held.is_some() { ComparedWith::Lock } else { ComparedWith::Labels };
        let expected = match held {
            Some(held) => Some(held),
            None => tag_check::current(&self.builder, runtime).await.map_err(explained)?,
        };
        let Some(digest) = expected else {
            count.done();
            return Ok(Verified {
                tag_only: true,
                differences: vec!["the tag is absent".to_owned()],
                ..Verified::of(name, against, None, &Checked::default())
            });
        };
        let checked = check.image(usize::MAX, &target, digest).await;
        let checked = checked.map_err(|error| self.failed(&name, &error))?;
        let mut verified = Verified::of(name.clone(), against, held, &checked);
        if checked.differences.is_empty() {
            let said = tag_check::differences(&self.builder, runtime, digest).await.map_err(explained)?;
            verified.tag_only &= said.is_empty();
            verified.differences.extend(said);
            let referrers = self.referrers(check, usize::MAX, &target, &mut verified).await;
            referrers.map_err(|error| self.failed(&name, &error))?;
        }
        count.done();
        Ok(verified)
    }

    /// Adds name, kind and hint to an image's error.
    fn failed(&self, name: &str, error: &registry::Error) -> anyhow::Error {
        let (kind, hint) = image_verdict(error, Some(self.target));
        ending(kind, hint, anyhow::Error::new(error.clone()).context(name.to_owned()))
    }
}

/// The progress of a verification, for its display line.
struct Count<'a> {
    lane: &'a Lane,
    all: usize,
    done: AtomicUsize,
    bytes: Arc<AtomicU64>,
}

impl<'a> Count<'a> {
    fn new(lane: &'a Lane, all: usize) -> Self {
        Self { lane, all, done: AtomicUsize::default(), bytes: Arc::default() }
    }

    fn done(&self) {
        use Ordering::Relaxed;
        let done = self.done.fetch_add(1, Relaxed) + 1;
        let read = match self.bytes.load(Relaxed) {
            0 => String::new(),
            bytes => format!(", {} read", units::bytes(bytes)),
        };
        self.lane.news(&format!("{done} of {}{read}", units::count(self.all, "image")));
    }
}

/// Ends with exit code 8 and a list of all differences, if there are any.
///
/// # Errors
/// There are differences.
pub fn verdict(verified: &[Verified]) -> anyhow::Result<()> {
    let wrong: Vec<&Verified> = verified.iter().filter(|image| !image.differences.is_empty()).collect();
    if wrong.is_empty() {
        return Ok(());
    }
    let line = |image: &&Verified| {
        let digest = image.digest.map_or_else(String::new, |digest| format!(" ({digest})"));
        let lines =
            image.differences.iter().map(|difference| format!("\n  {}{digest}: {difference}", image.name));
        lines.collect::<String>()
    };
    let lines: String = wrong.iter().map(line).collect();
    let count = units::count(verified.len(), "image");
    let message = format!("{} of {count} {} not as expected:{lines}", wrong.len(), is(wrong.len()));
    let runtime = |image: &&&Verified| image.against == ComparedWith::Labels && !image.tag_only;
    let mut hints = Vec::new();
    if wrong.iter().any(|image| image.tag_only) {
        hints.push("`cargo xtask transfer-images` puts right which image a tag names".to_owned());
    }
    if wrong.iter().any(|image| !image.tag_only && image.against != ComparedWith::Labels) {
        hints.push(
            "where parts of an image are missing or damaged: delete its tag at the registry, and \
             `cargo xtask transfer-images` copies it again"
                .to_owned(),
        );
    }
    if let Some(runtime) = wrong.iter().find(runtime) {
        let name = runtime.name.rsplit(':').next().unwrap_or_default();
        hints.push(format!(
            "`cargo xtask transfer-images REBUILD_RUNTIMES=true --only {name}` rebuilds the runtime"
        ));
    }
    Err(failure(Kind::Registry, message)).hint(Kind::Registry, hints.join("\n"))
}

fn is(count: usize) -> &'static str {
    if count == 1 { "is" } else { "are" }
}
