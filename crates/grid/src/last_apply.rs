//! What runs leave beside the state for the next one: that terraform has nothing to do, and that images have changed.

use aws::plan_cache::{self, LastApply, PlanCache};
use aws::state::State;
use images_config::Config;
use serde_json::Value;

use super::{Infrastructure, Inventory};

impl Infrastructure<'_> {
    /// Whether what stands is known to be what is wanted, so that a plan would be empty.
    ///
    /// # Errors
    /// The module cannot be read.
    pub fn is_up_to_date(&self, variables: &Value, inventory: &Inventory) -> anyhow::Result<bool> {
        if !inventory.unrecorded.is_empty() {
            return Ok(false);
        }
        let now = self.plan_cache(variables, inventory)?;
        Ok(matches!(&inventory.last_apply, Some(LastApply::PlanCache(before)) if now.holds(before)))
    }

    /// Writes the plan cache that terraform, with these variables, has nothing to do.
    ///
    /// # Errors
    /// AWS refuses or does not answer.
    pub async fn write_plan_cache(&self, config: &Config) -> anyhow::Result<()> {
        let inventory = self.inventory().await?;
        let plan_cache = self.plan_cache(&self.sparing_variables(config, &inventory), &inventory)?;
        LastApply::PlanCache(plan_cache).write(&self.store).await
    }

    /// Whether a run has ended its work after `inventory`.
    ///
    /// # Errors
    /// S3 refuses or does not answer.
    pub async fn is_outdated(&self, inventory: &Inventory) -> anyhow::Result<bool> {
        let state = State::read(&self.store);
        let (state, last_apply) = tokio::try_join!(state, LastApply::read(&self.store))?;
        Ok(state.etag != inventory.state.etag || last_apply != inventory.last_apply)
    }

    /// Leaves word of a run that changed images and nothing that the plan cache of `inventory` speaks of.
    ///
    /// # Errors
    /// S3 refuses or does not answer.
    pub async fn worked(&self, inventory: &Inventory) -> anyhow::Result<()> {
        let Some(LastApply::PlanCache(plan_cache)) = inventory.last_apply.clone() else { return Ok(()) };
        LastApply::PlanCache(plan_cache.worked()).write(&self.store).await
    }

    /// The same of a run that did not look at the resources.
    ///
    /// # Errors
    /// S3 refuses or does not answer.
    pub async fn worked_on_images(&self) -> anyhow::Result<()> {
        match LastApply::read(&self.store).await? {
            Some(LastApply::PlanCache(plan_cache)) => {
                LastApply::PlanCache(plan_cache.worked()).write(&self.store).await
            }
            _ => Ok(()),
        }
    }

    fn plan_cache(&self, variables: &Value, inventory: &Inventory) -> anyhow::Result<PlanCache> {
        let inputs = plan_cache::inputs(&self.options.module, &variables.to_string())?;
        let Inventory { state, repositories, rules, templates, .. } = inventory;
        Ok(PlanCache::now(inputs, state.etag.clone(), repositories, rules, templates))
    }
}
