//! The records that runs leave next to the state for the next run: terraform has nothing to do, or images have changed.

use aws::plan_cache::{self, LastApply, PlanCache};
use aws::state::State;
use images_config::Config;
use serde_json::Value;

use super::{Infrastructure, Inventory};

/// Whether the plan cache shows that a plan would be empty.
///
/// # Errors
/// The module cannot be read.
pub fn is_up_to_date(
    grid: &Infrastructure<'_>,
    variables: &Value,
    inventory: &Inventory,
) -> anyhow::Result<bool> {
    if !inventory.unrecorded.is_empty() {
        return Ok(false);
    }
    let now = plan_cache(grid, variables, inventory)?;
    Ok(matches!(&inventory.last_apply, Some(LastApply::PlanCache(before)) if now.holds(before)))
}

/// Writes the plan cache: with these variables terraform has nothing to do.
///
/// # Errors
/// AWS refuses or does not answer.
pub async fn write_plan_cache(grid: &Infrastructure<'_>, config: &Config) -> anyhow::Result<()> {
    let inventory = grid.inventory().await?;
    let plan_cache = plan_cache(grid, &grid.variables_without_deletions(config, &inventory), &inventory)?;
    LastApply::PlanCache(plan_cache).write(&grid.store).await
}

/// Whether another run has finished work since `inventory` was read.
///
/// # Errors
/// S3 refuses or does not answer.
pub async fn is_outdated(grid: &Infrastructure<'_>, inventory: &Inventory) -> anyhow::Result<bool> {
    let state = State::read(&grid.store);
    let (state, last_apply) = tokio::try_join!(state, LastApply::read(&grid.store))?;
    Ok(state.etag != inventory.state.etag || last_apply != inventory.last_apply)
}

/// Records a run that changed images, but nothing that the plan cache of `inventory` covers.
///
/// # Errors
/// S3 refuses or does not answer.
pub async fn worked(grid: &Infrastructure<'_>, inventory: &Inventory) -> anyhow::Result<()> {
    let Some(LastApply::PlanCache(plan_cache)) = inventory.last_apply.clone() else { return Ok(()) };
    LastApply::PlanCache(plan_cache.worked()).write(&grid.store).await
}

/// Records a run that changed images and did not read the resources.
///
/// # Errors
/// S3 refuses or does not answer.
pub async fn worked_on_images(grid: &Infrastructure<'_>) -> anyhow::Result<()> {
    match LastApply::read(&grid.store).await? {
        Some(LastApply::PlanCache(plan_cache)) => {
            LastApply::PlanCache(plan_cache.worked()).write(&grid.store).await
        }
        _ => Ok(()),
    }
}

fn plan_cache(
    grid: &Infrastructure<'_>,
    variables: &Value,
    inventory: &Inventory,
) -> anyhow::Result<PlanCache> {
    let inputs = plan_cache::inputs(&grid.options.module, &variables.to_string())?;
    let Inventory { state, repositories, rules, templates, .. } = inventory;
    Ok(PlanCache::now(inputs, state.etag.clone(), repositories, rules, templates))
}
