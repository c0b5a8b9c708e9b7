//! The mirrored images: jobs from images.toml and images.lock, the copies, the priming of the cache.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use aws::shard::Shard;
use failure::{FailWith as _, Kind, ending, failure};
use futures_util::future::try_join_all;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use images_config::{Config, RUNTIMES_REPOSITORY, lock::Lock};
use registry::Reference;
use registry::mirror::{Action, Check, Event, Job, Mounts, Outcome, Plan, Planned};

use super::Run;
use super::hints::registry_failure;
use super::resources::Resources;
use crate::target::Target;
use crate::ui::{Lane, Printer, units};

/// Copies that are looked at at once.
const LOOKS_AT_ONCE: usize = 64;

/// Images up to which each has a line of its own while it is copied.
const LINES: usize = 16;

/// The part of images.toml that `names` name: repositories, `repository:tag`, or runtimes.
///
/// # Errors
/// A name that images.toml does not have.
pub fn only(mut config: Config, names: &[String]) -> anyhow::Result<Config> {
    if names.is_empty() {
        return Ok(config);
    }
    let image_names = |image: &images_config::Image| {
        [image.repository.clone(), format!("{}:{}", image.repository, image.tag)]
    };
    let runtime_names =
        |runtime: &images_config::Runtime| [runtime.name.clone(), format!("lambda:{}", runtime.name)];
    let known: Vec<String> = config
        .images
        .iter()
        .flat_map(image_names)
        .chain(config.runtimes.iter().flat_map(runtime_names))
        .collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(name)) {
        return Err(failure(Kind::Usage, format!("{unknown}: images.toml has no such image or runtime")))
            .hint(Kind::Usage, format!("it has {}", known.join(", ")));
    }
    config.images.retain(|image| image_names(image).iter().any(|name| names.contains(name)));
    // Switched off, not taken away: which entry points there are is part of each runtime's build key.
    for runtime in &mut config.runtimes {
        runtime.enabled = runtime_names(runtime).iter().any(|name| names.contains(name));
    }
    config.prime.clear();
    Ok(config)
}

/// The part of images.toml that is a shard's: images by their repository, so that one process sees all that can be mounted within
/// it, and each runtime by itself. What is primed is the first shard's.
pub(super) fn share(mut config: Config, shard: Shard) -> Config {
    config.images.retain(|image| shard.has(&image.repository));
    for runtime in &mut config.runtimes {
        runtime.enabled &= shard.has(&format!("{RUNTIMES_REPOSITORY}/{}", runtime.name));
    }
    if !shard.is_first() {
        config.prime.clear();
    }
    config
}

/// No image and no runtime of images.toml: its resources alone.
pub(super) fn none(mut config: Config) -> Config {
    config.images.clear();
    config.prime.clear();
    for runtime in &mut config.runtimes {
        runtime.enabled = false;
    }
    config
}

/// What is to be mirrored.
///
/// # Errors
/// A destination that is no repository of the target.
pub fn jobs(config: &Config, lock: Option<&Lock>, target: &Target) -> anyhow::Result<Vec<Job>> {
    let mut jobs = Vec::with_capacity(config.images.len());
    for image in &config.images {
        jobs.push(Job {
            source: image.source.clone(),
            target: target.repository(&image.repository)?.with_tag(&image.tag)?,
            platforms: image.platforms.clone(),
            artifacts: image.artifacts,
            source_digest: lock.and_then(|lock| lock.source_digest(&image.source)),
            expected: lock.and_then(|lock| lock.expected(&image.source, &image.platforms)),
        });
    }
    Ok(jobs)
}

/// Stops where an upstream tag, an image's or a base's, has moved away from images.lock.
pub(super) fn refuse_moved(plan: &super::Plan<'_>) -> anyhow::Result<()> {
    let images =
        plan.images.images.iter().filter_map(|planned| Some((&planned.job.source, planned.moved()?)));
    let bases = plan.planned_runtimes().filter_map(|planned| {
        let base = planned.base.as_ref()?;
        Some((&base.name, planned.base_moved?))
    });
    // Several runtimes may stand on one base.
    let moved: BTreeSet<String> =
        images.chain(bases).map(|(name, (from, to))| format!("\n  {name} from {from} to {to}")).collect();
    if moved.is_empty() {
        return Ok(());
    }
    let moved: String = moved.into_iter().collect();
    Err(failure(Kind::Upstream, format!("--locked, and upstream has moved:{moved}"))).hint(
        Kind::Upstream,
        "`cargo xtask lock --update` updates the lock; without --locked, the locked digests are used",
    )
}

/// Stops where a tag would have to move that its repository does not let move.
pub(super) fn refuse_fixed(plan: &super::Plan<'_>, resources: &Resources<'_>) -> anyhow::Result<()> {
    let fixed = |planned: &&Planned| {
        let target = &planned.job.target;
        matches!(planned.action, Action::Replace { .. })
            && resources.is_fixed(target.repository(), target.tag().unwrap_or_default())
    };
    let images = plan.images.images.iter().filter(fixed).map(|planned| short(&planned.job));
    // A runtime's tag moves with each build, and the record of its moves with each move.
    let work = plan.planned_runtimes().filter(|planned| !super::runtimes::is_up_to_date(planned));
    let runtimes = work
        .flat_map(|planned| [planned.name.clone(), runtimes::history_tag(&planned.name)])
        .filter(|tag| resources.is_fixed(RUNTIMES_REPOSITORY, tag))
        .map(|tag| format!("{RUNTIMES_REPOSITORY}:{tag}"));
    let list: String = images.chain(runtimes).map(|name| format!("\n  {name}")).collect();
    if list.is_empty() {
        return Ok(());
    }
    Err(failure(
        Kind::Refused,
        format!("these tags would name another image, and their repositories are immutable:{list}"),
    ))
    .hint(
        Kind::Refused,
        "give the image another tag in images.toml, or make the repository mutable (`aws ecr put-image-tag-mutability`)",
    )
}

/// Stops before any transfer where a registry allows fewer pulls than the run needs.
pub fn refuse_exhausted(plan: &Plan, keep_going: bool) -> anyhow::Result<()> {
    for pulls in &plan.pulls {
        let Some(limit) = pulls.limit.filter(|limit| limit.remaining < pulls.needed) else { continue };
        if keep_going {
            continue;
        }
        let message = format!(
            "{}: {} needed, {} of {} left",
            pulls.registry,
            units::count(pulls.needed as usize, "pull"),
            limit.remaining,
            limit.limit
        );
        let wait = limit.window.map_or_else(String::new, |window| {
            format!(", or wait up to {} until they are back", units::duration(window))
        });
        return Err(failure(Kind::Upstream, message)).hint(
            Kind::Upstream,
            format!("log in (`docker login {}`) for more pulls{wait}; --keep-going does everything that needs no pull", pulls.registry),
        );
    }
    Ok(())
}

/// What would be copied or built because the registry has archived it: pulls, and so the looks by tag, do not find that. A line
/// each; a repository is asked only where something is absent from it.
pub(super) async fn archived(
    run: &Run<'_>,
    images: &Plan,
    runtimes: &[Result<runtimes::Planned, runtimes::Failure>],
) -> anyhow::Result<Vec<String>> {
    let Some(account) = &run.target.account else { return Ok(Vec::new()) };
    let copies = images.images.iter().filter(|planned| matches!(planned.action, Action::Copy(_)));
    let copies = copies.map(|planned| {
        let (repository, tag) =
            (planned.job.target.repository(), planned.job.target.tag().unwrap_or_default());
        (repository.to_owned(), tag.to_owned(), "copying it restores it".to_owned())
    });
    let builds =
        runtimes.iter().flatten().filter(|planned| matches!(planned.action, runtimes::Action::Build { .. }));
    let builds = builds.map(|planned| {
        let tag = runtimes::key_tag(&planned.name, &planned.key);
        let restore = format!(
            "`aws ecr update-image-storage-class --repository-name {RUNTIMES_REPOSITORY} --image-id imageTag={tag} \
             --target-storage-class STANDARD` restores it; else {} is built anew",
            planned.name
        );
        (RUNTIMES_REPOSITORY.to_owned(), tag, restore)
    });
    let mut absent: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for (repository, tag, words) in copies.chain(builds) {
        absent.entry(repository).or_default().push((tag, words));
    }
    let asked = absent.into_iter().map(|(repository, tags)| async move {
        let found = account.ecr.images(&repository).await?;
        let of = |tag: &str| found.iter().any(|image| image.archived && image.tags.iter().any(|t| t == tag));
        let lines = tags
            .iter()
            .filter(|(tag, _)| of(tag))
            .map(|(tag, words)| format!("{repository}:{tag} is archived, and pulls do not find it: {words}"));
        anyhow::Ok(lines.collect::<Vec<_>>())
    });
    Ok(try_join_all(asked).await?.concat())
}

/// Copies what the plan says, and reads the copies back.
pub(super) async fn copy(run: &Run<'_>, plan: &Plan) -> anyhow::Result<Vec<Outcome>> {
    if plan.is_up_to_date() {
        return Ok(Vec::new());
    }
    keep_replaced(run, plan).await?;
    let mirror = run.mirror.clone().mounts(run.target.host(), mounts(run.target).await?);
    let board = Board::new(run.printer, plan);
    let mirror = mirror.on_event(move |event| board.hear(event));
    let outcomes = mirror.apply(plan).await;
    let check = run.mirror.check(false);
    let looks = outcomes.into_iter().enumerate().map(|(image, outcome)| verified(&check, image, outcome));
    stream::iter(looks).buffered(LOOKS_AT_ONCE).try_collect().await
}

/// Reads a copy back: the tag, each manifest, and of each blob whether it is there and how long it is.
async fn verified(check: &Check<'_>, image: usize, mut outcome: Outcome) -> anyhow::Result<Outcome> {
    if let Ok(copied) = &outcome.result
        && !copied.was_up_to_date
    {
        let target = &outcome.job.target;
        match check.image(image, target, copied.digest).await {
            Ok(checked) => {
                if let Some(difference) = checked.differences.first() {
                    let message = format!("{target}, read back after it was copied: {difference}");
                    return Err(failure(Kind::Registry, message))
                        .hint(Kind::Registry, "does another tool push there?");
                }
            }
            Err(error) => outcome.result = Err(error),
        }
    }
    Ok(outcome)
}

/// A target tag that neither this tool nor upstream put there is somebody's work: it is kept under another tag before
/// it is overwritten.
async fn keep_replaced(run: &Run<'_>, plan: &Plan) -> anyhow::Result<()> {
    for planned in &plan.images {
        let Some((tag, digest)) = planned.keep_as() else { continue };
        let kept = run.mirror.client().retag(&planned.job.target.with_digest(digest), &tag).await;
        kept.map_err(of_target)?;
        run.printer.warn(format!(
            "{} was changed by somebody else; the previous image is kept as {tag}",
            planned.job.target
        ));
    }
    Ok(())
}

fn of_target(error: registry::Error) -> anyhow::Error {
    registry_failure(error, Kind::Registry)
}

/// ECR mounts only where the account has it switched on.
///
/// # Errors
/// AWS refuses or does not answer.
pub async fn mounts(target: &Target) -> anyhow::Result<Mounts> {
    match &target.account {
        None => Ok(Mounts::Anytime),
        Some(account) if account.ecr.account_setting("BLOB_MOUNTING").await? == "ENABLED" => {
            Ok(Mounts::Committed)
        }
        Some(_) => Ok(Mounts::Never),
    }
}

/// Images that are primed at once.
const PRIMED_AT_ONCE: usize = 8;

/// Pulls through ECR's cache what the grid's next step and its charts need, by tag: the first pull through the cache makes the
/// repository, and one by digest fails (<https://github.com/aws/containers-roadmap/issues/2837>). Nothing comes here: ECR imports the
/// layers that it is asked for by HEAD, and the grid's nodes find them in the account.
pub(super) async fn prime(run: &Run<'_>) -> anyhow::Result<Vec<Reference>> {
    if run.target.account.is_none() {
        return Ok(Vec::new());
    }
    let primed = run.config.prime.iter().map(|prime| prime_one(run, prime));
    stream::iter(primed).buffered(PRIMED_AT_ONCE).try_collect().await
}

async fn prime_one(run: &Run<'_>, prime: &images_config::Prime) -> anyhow::Result<Reference> {
    let cached = run.target.repository(&prime.repository)?.with_tag(&prime.tag)?;
    let client = run.mirror.client();
    // That the manifest is there says nothing of the layers: a look at it by HEAD imports it alone.
    let pulled = client.manifest(&cached).await.map_err(of_target)?;
    let pulled = pulled.ok_or_else(|| {
        failure(Kind::Upstream, format!("{cached}: the cache does not find {}", prime.upstream))
    });
    let pulled =
        pulled.hint(Kind::Upstream, "is the pull-through rule right, and does upstream have the tag?")?;
    let locked = run.lock.as_ref().and_then(|lock| lock.source_digest(&prime.upstream));
    if let Some(locked) = locked.filter(|locked| *locked != pulled.digest()) {
        run.printer.warn(format!(
            "{cached}: the cache has {} of {}, and images.lock says {locked}",
            pulled.digest(),
            prime.upstream
        ));
    }
    // The cache takes from an index only the images that are asked for.
    let image = match pulled.select(&images_config::default_platform()) {
        Ok(child) => client.manifest(&cached.with_digest(child.digest)).await.map_err(of_target)?,
        Err(_) => Some(pulled),
    };
    let image = image.and_then(|image| image.image().ok());
    for blob in image.iter().flat_map(registry::Image::blobs) {
        client.has_blob(&cached, blob.digest).await.map_err(of_target)?;
    }
    Ok(cached)
}

/// The grid's next step builds in the primed images: where the engine is needed anyway, or with `--prime`, they are left in its
/// store, as the Makefile did. Gives the commands that fetch those which an engine is there for and lacks.
pub(super) async fn fetch_primed(run: &Run<'_>, primed: &[Reference]) -> anyhow::Result<Vec<String>> {
    let mut fetch = Vec::new();
    let pull = run.request.prime || run.builder.used_docker();
    for image in primed {
        if pull {
            match runtimes::pull(&run.builder, image).await {
                Ok(()) => continue,
                Err(error) if run.request.prime => {
                    let (kind, hint) = (error.kind(), error.hint().map(str::to_owned));
                    let error = anyhow::Error::new(error).context(format!("{image} was not pulled"));
                    return Err(ending(kind, hint, error));
                }
                Err(error) => {
                    let why = error.in_full();
                    run.printer.warn(format!("{image} was not pulled into the local engine: {why}"));
                }
            }
        }
        // Without an engine there is nothing to fetch it into.
        let Ok(docker) = run.builder.docker().await else { continue };
        if matches!(docker.image(&run.builder.grid_settings.engine_name(image)).await, Ok(None)) {
            fetch.push(format!("{} pull {image}", docker.name()));
        }
    }
    Ok(fetch)
}

/// What is seen of copies while they run.
pub struct Board {
    printer: Printer,
    names: Vec<String>,
    lanes: Mutex<Lanes>,
}

/// A line for each image, or one for all where they are many.
struct Lanes {
    each: BTreeMap<usize, Lane>,
    all: Option<Lane>,
    done: usize,
    copies: usize,
}

impl Lanes {
    fn of(&self, image: usize) -> Option<&Lane> {
        self.all.as_ref().or_else(|| self.each.get(&image))
    }

    fn end(&mut self, image: usize) {
        self.each.remove(&image);
        self.done += 1;
        if let Some(all) = &self.all {
            all.news(&format!("{} of {}", self.done, units::count(self.copies, "image")));
        }
    }
}

impl Board {
    /// Of a plan that is about to be carried out.
    pub fn new(printer: &Printer, plan: &Plan) -> Self {
        let names = plan.images.iter().map(|planned| short(&planned.job)).collect();
        let contents = || plan.images.iter().filter_map(Planned::content);
        let (copies, bytes) = (contents().count(), contents().map(|content| content.bytes).sum());
        let all = (copies > LINES).then(|| printer.progress().bytes("copying", bytes));
        let lanes = Lanes { each: BTreeMap::new(), all, done: 0, copies };
        Self { printer: printer.clone(), names, lanes: Mutex::new(lanes) }
    }

    fn name(&self, image: usize) -> &str {
        self.names.get(image).map_or("?", String::as_str)
    }

    /// Shows what happened.
    pub fn hear(&self, event: &Event) {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::ImageStarted { image, bytes, blobs } => {
                if lanes.all.is_none() {
                    lanes.each.insert(*image, self.printer.progress().bytes(self.name(*image), *bytes));
                }
                self.printer.detail(format!(
                    "{}: {}, {}",
                    self.name(*image),
                    units::count(*blobs, "blob"),
                    units::bytes(*bytes)
                ));
            }
            Event::BlobSkipped { image, digest, size } | Event::BlobMounted { image, digest, size, .. } => {
                if let Some(lane) = lanes.of(*image) {
                    lane.advance(*size);
                }
                let how =
                    if matches!(event, Event::BlobMounted { .. }) { "mounted" } else { "there already" };
                self.printer.detail(format!("{}: blob {} {how}", self.name(*image), digest.short()));
            }
            Event::BlobProgress { image, bytes, .. } => {
                if let Some(lane) = lanes.of(*image) {
                    lane.advance(*bytes);
                }
            }
            Event::Retried { image, error, pause } => {
                self.printer.line(format!(
                    "{}: {error}; again in {}",
                    self.name(*image),
                    units::duration(*pause)
                ));
            }
            Event::Warning { image, message } => {
                self.printer.warn(format!("{}: {message}", self.name(*image)));
            }
            Event::ImageDone { image, digest } => {
                lanes.end(*image);
                self.printer.line(format!("{}: copied, {digest}", self.name(*image)));
            }
            Event::ImageFailed { image, error } => {
                lanes.end(*image);
                self.printer.line(format!("{}: failed: {error}", self.name(*image)));
            }
            Event::BlobDone { image, digest, size } => {
                self.printer.detail(format!(
                    "{}: blob {} sent, {}",
                    self.name(*image),
                    digest.short(),
                    units::bytes(*size)
                ));
            }
            _ => {}
        }
    }
}

/// `repository:tag`, without the registry's host, which is the same for all.
pub fn short(job: &Job) -> String {
    format!("{}:{}", job.target.repository(), job.target.tag().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_alone_brings_no_image_and_primes_nothing() {
        let shipped = include_str!("../../../deployment/image_repository/images.toml");
        let config = Config::parse(shipped, std::path::Path::new("images.toml"), None).unwrap();
        for name in ["provided", "lambda:provided"] {
            let config = only(config.clone(), &[name.to_owned()]).unwrap();
            let enabled: Vec<&str> = config.enabled_runtimes().map(|runtime| runtime.name.as_str()).collect();
            assert_eq!(enabled, ["provided"]);
            assert!(config.images.is_empty() && config.prime.is_empty(), "{name}");
        }
        assert!(only(config, &["lambda:none".to_owned()]).is_err());
    }
}
