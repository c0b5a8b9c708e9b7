//! `import-images`: copies from a layout into the target.

use std::path::Path;
use std::sync::Arc;

use failure::{FailWith as _, Kind, failure};
use images_config::Config;
use oci_layout::{HOST, Image, Layout};
use registry::mirror::{Action, Job, Mirror, Plan};

use super::{failures, file_error, image_error, in_layout, moved, report};
use crate::context::Context;
use crate::min_age::{self, Ages};
use crate::target::Target;
use crate::transfer::{Board, mounts, short, with_resources};
use crate::trust::Trust;
use crate::ui::{Table, units};

/// The options of an import.
pub struct Import<'a> {
    /// The layout: a directory, or a tar file.
    pub path: &'a Path,
    /// The list of images. The account needs its repositories.
    pub config: &'a Config,
    /// The target.
    pub target: &'a Target,
    /// Do not ask for confirmation.
    pub auto_approve: bool,
    /// Images to copy even if `min_age` says to wait.
    pub allow_fresh: &'a [String],
    /// `repository:tag` for a layout of one image without such a name.
    pub name: Option<&'a str>,
}

/// Copies the images of a layout to the target with unchanged digests, and reads them back.
///
/// # Errors
/// The file cannot be read, the answer is no, or the registry refuses an image. Finished work stays, and the next run continues
/// from there.
pub async fn import(context: &Context, request: &Import<'_>) -> anyhow::Result<()> {
    let path = request.path.to_owned();
    let layout = tokio::task::spawn_blocking(move || Layout::open(&path)).await?;
    let layout = Arc::new(layout.map_err(file_error)?);
    let images = named(request, &layout)?;
    let (builder, _) = request.target.client_builder(context.sources(), request.config)?;
    let served = Arc::clone(&layout) as Arc<dyn registry::Transport>;
    let client = builder.serve(HOST, served).build().kind(Kind::Config)?;
    let mapping = context.mapping();
    let trust = Trust::new(context, request.config, &client, &mapping)?;
    let ages = Ages::new(context, request.config, min_age::fresh(request.config, request.allow_fresh)?)?;
    let mut mirror = Mirror::new(client.clone()).mapping(mapping);
    if let Some(trust) = trust {
        mirror = mirror.signature_policy(trust);
    }
    if let Some(index) = request.target.blob_index() {
        mirror = mirror.blob_index(index);
    }
    if let Some(index) = request.target.tag_index() {
        mirror = mirror.tag_index(index);
    }
    let jobs = images.iter().map(|image| {
        Ok(Job {
            // The layout knows the referrers of the image and of its platforms without a network.
            artifacts: true,
            ..Job::new(
                // By digest: the digest of this name in an earlier file does not matter.
                in_layout(&image.repository, &image.tag)?.with_digest(image.digest),
                request.target.repository(&image.repository)?.with_tag(&image.tag)?,
            )
        })
    });
    let jobs = jobs.collect::<anyhow::Result<Vec<Job>>>().kind(Kind::Usage)?;
    let lane = context.printer.progress().lane("looking at what there is");
    let mut plan = context.interrupt.guard(async { Ok(mirror.plan(jobs).await) }).await?;
    if let Some(ages) = &ages {
        ages.hold(&client, &mut plan)?;
    }
    drop(lane);
    let errors = planned_errors(request, &plan);
    if !errors.is_empty() {
        return failures(context, errors);
    }
    show(context, request, &plan);
    let outcomes = if plan.is_up_to_date() {
        mirror.apply(&plan).await
    } else {
        let work = async {
            let mirror =
                mirror.clone().mounts(request.target.host(), mounts(request.target).await?).read_back();
            keep_replaced(context, &mirror, &plan).await?;
            let board = Board::new(&context.printer, &plan);
            let copying = mirror.on_event(move |event| board.on_event(event));
            Ok(copying.apply(&plan).await)
        };
        with_resources(context, request.auto_approve, request.config, request.target, work).await?
    };
    let mut errors = Vec::new();
    for outcome in &outcomes {
        if let Err(error) = &outcome.result {
            errors.push(image_error(request.path, Some(request.target), &short(&outcome.job), error));
        }
    }
    let moved = moved(&outcomes);
    report(context, request.path, &moved)?;
    failures(context, errors)?;
    context.printer.line(format!(
        "{} at {} and verified",
        units::count(moved.len(), "image"),
        request.target.host()
    ));
    Ok(())
}

/// The layout's images by name.
fn named(request: &Import<'_>, layout: &Layout) -> anyhow::Result<Vec<Image>> {
    let unnamed = layout.unnamed();
    match (request.name, unnamed.as_slice()) {
        (Some(name), [only])
            if name.rsplit_once(':').is_some_and(|(repository, _)| !repository.is_empty()) =>
        {
            layout.name(*only, name);
        }
        (Some(name), [_]) => {
            return Err(failure(Kind::Usage, format!("--name {name:?} is not repository:tag")));
        }
        (Some(_), others) => {
            let message =
                format!("--name is for one image without a name, and the file has {}", others.len());
            return Err(failure(Kind::Usage, message));
        }
        (None, []) => {}
        (None, others) => {
            let count = units::count(others.len(), "image");
            let message = format!("{} has {count} without a repository and tag", request.path.display());
            return Err(failure(Kind::Usage, message)).hint(
                Kind::Usage,
                "`--name repository:tag` names the only one; skopeo names an image where it writes it: oci:DIR:repository:tag",
            );
        }
    }
    let images = layout.images();
    if images.is_empty() {
        return Err(failure(Kind::Usage, format!("{} has no image", request.path.display())));
    }
    Ok(images)
}

fn planned_errors(request: &Import<'_>, plan: &Plan) -> Vec<anyhow::Error> {
    let failed = plan.images.iter().filter_map(|planned| match &planned.action {
        Action::Failed(error) => {
            Some(image_error(request.path, Some(request.target), &short(&planned.job), error))
        }
        _ => None,
    });
    failed.collect()
}

fn show(context: &Context, request: &Import<'_>, plan: &Plan) {
    let mut table = Table::new(["IMAGE", "ACTION", "SIZE"]);
    for planned in &plan.images {
        let (action, bytes) = match &planned.action {
            Action::Copy(content) => ("copy", content.bytes),
            Action::Replace { content, .. } => ("replace", content.bytes),
            Action::Complete { .. } => ("complete", 0),
            Action::UpToDate { .. } | Action::Failed(_) => continue,
        };
        table.row([short(&planned.job), action.to_owned(), units::bytes(bytes)]);
    }
    if !table.is_empty() {
        context.printer.table(&table);
    }
    let copies = plan.images.iter().filter(|planned| planned.has_work()).count();
    let bytes = units::bytes(plan.repository_bytes());
    let host = request.target.host();
    let file = request.path.display();
    context.printer.line(match copies {
        0 => format!("{host} has all {} of {file}", units::count(plan.images.len(), "image")),
        _ => format!("copy {} from {file} to {host}, at most {bytes}", units::count(copies, "image")),
    });
}

/// If a tag of the target has another image, keeps that under another tag.
async fn keep_replaced(context: &Context, mirror: &Mirror, plan: &Plan) -> anyhow::Result<()> {
    for planned in &plan.images {
        let Some((tag, digest)) = planned.keep_as() else { continue };
        let previous = planned.job.target.with_digest(digest);
        mirror.client().retag(&previous, &tag).await.kind(Kind::Registry)?;
        context.printer.warn(format!("{}: the previous image is kept as {tag}", planned.job.target));
    }
    Ok(())
}
