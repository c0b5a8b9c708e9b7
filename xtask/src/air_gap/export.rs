//! `export-images`: copies from the target and the sources into a layout.

use std::path::Path;
use std::sync::Arc;

use failure::{FailWith as _, Kind, failure};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use images_config::lock::Lock;
use images_config::{Config, Image, RUNTIMES_REPOSITORY};
use oci_layout::{HOST, Layout};
use registry::mirror::{Action, Check, Job, Mirror, Outcome, Plan, Platforms};
use registry::{Client, Digest};
use runtimes::tag_check;

use super::{failures, file_error, image_error, in_layout, moved, report};
use crate::context::Context;
use crate::min_age::{self, Ages};
use crate::target::Target;
use crate::transfer::{
    Board, ConfiguredGrid, builder_context, explain_runtime, refuse_exhausted, short, wanted_runtimes,
};
use crate::trust::Trust;
use crate::ui::units;

/// Images looked up at the target, or read back from the file, in parallel.
const AT_ONCE: usize = 32;

/// The options of an export.
pub struct Export<'a> {
    /// A directory, or a file whose name ends in `.tar`.
    pub path: &'a Path,
    /// The list of images.
    pub config: &'a Config,
    /// images.lock.
    pub lock: Option<&'a Lock>,
    /// The images.lock of an earlier export: its images are left out.
    pub since: Option<&'a Lock>,
    /// Images to copy even if `min_age` says to wait.
    pub allow_fresh: &'a [String],
    /// The source of runtimes, and of images that it already has. `None` to copy everything from the sources.
    pub target: Option<&'a Target>,
}

/// Writes the images of a list into a layout, and reads them back.
///
/// # Errors
/// The file cannot be written, or an image cannot be read. Finished work stays, and the next run continues from there.
pub async fn export(context: &Context, request: &Export<'_>) -> anyhow::Result<()> {
    // Reads and hashes the files of an earlier run.
    let path = request.path.to_owned();
    let layout = tokio::task::spawn_blocking(move || Layout::create(&path)).await?;
    let layout = Arc::new(layout.map_err(file_error)?);
    context.interrupt.check()?;
    let ages = Ages::new(context, request.config, min_age::fresh(request.config, request.allow_fresh)?)?;
    let (builder, credentials) = match request.target {
        Some(target) => target.client_builder(context.sources(), request.config)?,
        None => {
            let credentials = context.sources().credentials()?;
            let builder =
                context.sources().client_builder(request.config).credentials(Arc::clone(&credentials));
            (builder, credentials)
        }
    };
    let served = Arc::clone(&layout) as Arc<dyn registry::Transport>;
    let client = builder.serve(HOST, served).build().kind(Kind::Config)?;
    let lane = context.printer.progress().lane("looking at what there is");
    let work = async {
        let mut jobs = images(request, &client).await?;
        if let Some(target) = request.target {
            let configured = ConfiguredGrid::new(
                context.sources(),
                request.config,
                request.lock.cloned(),
                Some(target),
                None,
                None,
            )?;
            let builder =
                builder_context(context, client.clone(), credentials, configured, Some(target), None)?;
            jobs.extend(runtimes(request, target, &builder).await?);
        }
        let mapping = context.mapping();
        let mut mirror = Mirror::new(client.clone()).mapping(Arc::clone(&mapping) as Arc<_>);
        if let Some(trust) = Trust::new(context, request.config, &client, &mapping)? {
            mirror = mirror.signature_policy(trust);
        }
        let mut plan = changed(request, mirror.plan(jobs).await);
        if let Some(ages) = &ages {
            ages.hold(&client, &mut plan)?;
        }
        anyhow::Ok((mirror, plan))
    };
    let (mirror, plan) = context.interrupt.guard(work).await?;
    drop(lane);
    refuse_exhausted(&plan, false)?;
    let board = Board::new(&context.printer, &plan);
    let copying = mirror.clone().on_event(move |event| board.on_event(event));
    let outcomes = context.interrupt.guard(async { Ok(copying.apply(&plan).await) }).await?;
    drop(copying);
    let error = |outcome: &Outcome| {
        let error = outcome.result.as_ref().err()?;
        Some(image_error(request.path, request.target, &short(&outcome.job), error))
    };
    let errors: Vec<anyhow::Error> = outcomes.iter().filter_map(error).collect();
    let moved = moved(&outcomes);
    if !errors.is_empty() {
        report(context, request.path, &moved)?;
        return failures(context, errors);
    }
    context.interrupt.guard(read_back(request.path, &mirror, &outcomes)).await?;
    layout.finish().map_err(file_error)?;
    report(context, request.path, &moved)?;
    context.printer.line(format!(
        "{} in {}, {}",
        units::count(moved.len(), "image"),
        request.path.display(),
        units::bytes(layout.bytes())
    ));
    Ok(())
}

/// The images of the list: from the target if it has the wanted digest, otherwise from their sources.
async fn images(request: &Export<'_>, client: &Client) -> anyhow::Result<Vec<Job>> {
    let jobs = request.config.images.iter().map(|image| async move {
        let expected = request.lock.and_then(|lock| lock.expected(&image.source, &image.platforms));
        let by_source = Job {
            source: image.source.clone(),
            target: in_layout(&image.repository, &image.tag)?,
            platforms: image.platforms.clone(),
            artifacts: image.artifacts || request.config.trusted(&image.source).is_some(),
            source_digest: request.lock.and_then(|lock| lock.source_digest(&image.source)),
            expected,
        };
        if is_unchanged(request, image, expected) {
            return Ok(None);
        }
        let Some(target) = request.target else { return Ok(Some(by_source)) };
        let there = target.repository(&image.repository)?.with_tag(&image.tag)?;
        let found = client.find(&there).await.kind(Kind::Registry)?.map(|found| found.digest);
        // The lock's digest is wanted; without a lock, the target's.
        Ok(Some(match found.filter(|found| expected.is_none_or(|expected| expected == *found)) {
            Some(found) => Job {
                source: there,
                platforms: Platforms::All,
                source_digest: Some(found),
                expected: Some(found),
                ..by_source
            },
            None => by_source,
        }))
    });
    let jobs: Vec<_> = jobs.collect();
    let jobs: Vec<Option<Job>> = stream::iter(jobs)
        .buffered(AT_ONCE)
        .try_collect::<Vec<_>>()
        .await
        .map_err(|error: anyhow::Error| error)?;
    Ok(jobs.into_iter().flatten().collect())
}

/// Whether the earlier lock has the same digest.
fn is_unchanged(request: &Export<'_>, image: &Image, expected: Option<Digest>) -> bool {
    let before = request.since.and_then(|since| since.expected(&image.source, &image.platforms));
    before.is_some() && before == expected
}

/// The plan without images of the earlier lock, for digests that only the plan knows.
fn changed(request: &Export<'_>, mut plan: Plan) -> Plan {
    let Some(since) = request.since else { return plan };
    plan.images.retain(|planned| {
        let digest = match &planned.action {
            Action::Copy(content) | Action::Replace { content, .. } => content.digest,
            Action::UpToDate { digest } | Action::Complete { digest, .. } => *digest,
            Action::Failed(_) => return true,
        };
        let image = request.config.images.iter().find(|image| {
            planned.job.target.repository() == image.repository
                && planned.job.target.tag() == Some(&image.tag)
        });
        let before = image.and_then(|image| since.expected(&image.source, &image.platforms));
        before != Some(digest)
    });
    plan
}

/// The target's runtimes, with all their tags.
async fn runtimes(
    request: &Export<'_>,
    target: &Target,
    builder: &runtimes::Context,
) -> anyhow::Result<Vec<Job>> {
    let wanted = wanted_runtimes(request.config);
    let listed = request.config.runtimes.iter().zip(wanted).filter(|(listed, _)| listed.enabled);
    let mut jobs = Vec::new();
    for (_, runtime) in listed {
        let explained = |error| explain_runtime(&runtime.name, &error);
        let Some(digest) = tag_check::current(builder, &runtime).await.map_err(explained)? else {
            let message = format!("{RUNTIMES_REPOSITORY}:{} is not at {}", runtime.name, target.host());
            return Err(failure(Kind::Registry, message)).hint(
                Kind::Registry,
                "`cargo xtask transfer-images` builds it; --from-sources exports the images alone",
            );
        };
        let tags = tag_check::tags(builder, &runtime, digest).await.map_err(explained)?;
        for tag in std::iter::once(runtime.name.clone()).chain(tags) {
            let source = target.repository(RUNTIMES_REPOSITORY)?.with_tag(&tag)?;
            jobs.push(Job {
                source_digest: Some(digest),
                expected: Some(digest),
                // Referrers of the build are copied with one of its tags.
                artifacts: tag == runtime.name,
                ..Job::new(source, in_layout(RUNTIMES_REPOSITORY, &tag)?)
            });
        }
    }
    Ok(jobs)
}

/// Reads the layout back: every image with all its manifests and blobs.
async fn read_back(path: &Path, mirror: &Mirror, outcomes: &[Outcome]) -> anyhow::Result<()> {
    let check = Check::new(mirror, false);
    let reads = outcomes.iter().enumerate().map(|(index, outcome)| {
        let check = &check;
        async move {
            let Ok(done) = &outcome.result else { return Ok(()) };
            let target = &outcome.job.target;
            let checked = check.image(index, target, done.digest).await;
            let checked = checked.map_err(|error| image_error(path, None, &short(&outcome.job), &error))?;
            match checked.differences.first() {
                None => Ok(()),
                Some(difference) => Err(failure(
                    Kind::Unexpected,
                    format!("{}, read back from {}: {difference}", short(&outcome.job), path.display()),
                )),
            }
        }
    });
    let reads: Vec<_> = reads.collect();
    stream::iter(reads).buffered(AT_ONCE).try_collect::<()>().await
}
