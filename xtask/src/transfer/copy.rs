//! The copies: keeps images that others put at the target, copies, and reads each copy back.

use std::sync::Arc;
use std::time::Instant;

use images_config::cache::Cache;
use registry::Client;
use registry::mirror::{Mirror, Mounts, Outcome, Plan};

use super::Run;
use super::progress::Board;
use super::registry_hints::of_target;
use crate::target::Target;
use crate::trust::Trust;

/// The mirror for the target, with the results of earlier runs and the trust rules.
pub(super) fn mirror(
    client: Client,
    target: &Target,
    mapping: Arc<Cache>,
    trust: Option<Arc<Trust>>,
) -> Mirror {
    let mut mirror = Mirror::new(client).mapping(mapping);
    if let Some(index) = target.blob_index() {
        mirror = mirror.blob_index(index);
    }
    if let Some(index) = target.tag_index() {
        mirror = mirror.tag_index(index);
    }
    match trust {
        Some(trust) => mirror.signature_policy(trust),
        None => mirror,
    }
}

/// Makes the copies in the plan, and reads them back.
pub(super) async fn copy(run: &Run<'_>, plan: &Plan) -> anyhow::Result<Vec<Outcome>> {
    if plan.is_up_to_date() {
        return Ok(Vec::new());
    }
    keep_replaced(run, plan).await?;
    let mirror = run.mirror.clone().mounts(run.target.host(), mounts(run.target).await?).read_back();
    let (board, completed) = (Board::new(run.printer, plan), Arc::clone(run.completed));
    let mirror = mirror.on_event(move |event| {
        completed.on_event(event);
        board.on_event(event);
    });
    let began = Instant::now();
    let outcomes = mirror.apply(plan).await;
    run.times.copied(&outcomes, began);
    Ok(outcomes)
}

/// An image under a target tag that neither this tool nor upstream put there belongs to someone: it is kept under another tag
/// before the tag is overwritten.
async fn keep_replaced(run: &Run<'_>, plan: &Plan) -> anyhow::Result<()> {
    for planned in &plan.images {
        let Some((tag, digest)) = planned.keep_as() else { continue };
        let kept = run.mirror.client().retag(&planned.job.target.with_digest(digest), &tag).await;
        kept.map_err(of_target)?;
        run.printer.warn(format!(
            "{} was changed by another tool; the previous image is kept as {tag}",
            planned.job.target
        ));
    }
    Ok(())
}

/// ECR mounts blobs only if the account has blob mounting enabled.
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
