//! The AWS resources in the plan.

use std::time::Instant;

use aws::registry_settings::SettingsPlan;
use failure::{FailWith as _, Kind, failure};
use grid::{
    Infrastructure, Inventory, Planned, ResourceKind, foreign_resources, last_apply, planning, recovery,
    templates,
};
use terraform::Change;

use super::Run;

/// The grid's AWS resources, and terraform's changes to them.
pub struct Resources<'a> {
    pub infrastructure: Infrastructure<'a>,
    pub inventory: Inventory,
    /// Whether it is known, without starting terraform, that it has nothing to do.
    pub up_to_date: bool,
    /// Differences between images.toml and resources of others, one line each.
    pub differences: Vec<String>,
    /// The settings of the pull-through cache's own repositories, one line each.
    pub of_the_cache: Vec<String>,
    planned: Option<Planned>,
    settings: SettingsPlan,
}

impl Resources<'_> {
    /// Whether terraform has nothing to do.
    pub fn is_empty(&self) -> bool {
        self.settings.lines.is_empty()
            && self.inventory.unrecorded.is_empty()
            && self.planned.as_ref().is_none_or(|planned| planned.plan.is_empty())
    }

    /// The changes to the registry's settings, one line each.
    pub fn settings(&self) -> &[String] {
        &self.settings.lines
    }

    /// Terraform's changes and those to the registry's settings, one line each.
    pub(super) fn all_lines(&self) -> Vec<String> {
        self.lines().into_iter().chain(self.settings.lines.iter().cloned()).collect()
    }

    /// Terraform's changes, one line each.
    pub fn lines(&self) -> Vec<String> {
        let changes = self.changes();
        self.adopted().into_iter().chain(changes.into_iter().map(ToString::to_string)).collect()
    }

    /// Existing resources that are added to the state unchanged, one line each.
    pub(super) fn adopted(&self) -> Vec<String> {
        let unrecorded = self.inventory.unrecorded.iter().map(ToString::to_string);
        let cut_off = self.planned.iter().flat_map(|planned| &planned.cut_off);
        let kept = cut_off.map(|address| {
            format!("{address}: its creation was interrupted; it exists and is kept unchanged")
        });
        unrecorded.chain(kept).collect()
    }

    /// Resources that terraform would create, change or delete, without adopted ones.
    pub(super) fn changes(&self) -> Vec<&Change> {
        let Some(planned) = &self.planned else { return Vec::new() };
        let unrecorded = &self.inventory.unrecorded;
        let known = |address: &String| {
            planned.cut_off.contains(address) || unrecorded.iter().any(|found| found.address == *address)
        };
        planned.plan.effective().filter(|change| !known(&change.address)).collect()
    }

    /// Whether an existing tag must not move, and terraform does not change that.
    pub(super) fn is_fixed(&self, repository: &str, tag: &str) -> bool {
        let found = self.inventory.repositories.get(repository);
        let changes = self.planned.iter().flat_map(|planned| planned.plan.effective());
        found.is_some_and(|found| !found.mutability.may_move(tag))
            && !changes
                .into_iter()
                .filter(|change| ResourceKind::of(&change.kind) == Some(ResourceKind::Repository))
                .any(|change| change.index.as_deref() == Some(repository))
    }

    /// Applies the changes, and marks resources that this grid uses and others manage.
    pub(super) async fn apply(&self, run: &Run<'_>) -> anyhow::Result<()> {
        let righted = self.repair(run).await?;
        let planned = righted.as_ref().or(self.planned.as_ref());
        if let Some(planned) = planned.filter(|planned| !planned.plan.is_empty()) {
            let names = run.config.repositories.iter().map(|name| run.target.repository(name));
            let repositories = names.collect::<anyhow::Result<Vec<_>>>()?;
            let client = run.mirror.client();
            let began = Instant::now();
            planning::apply(&self.infrastructure, planned, &run.config, &repositories, client).await?;
            run.times.changed(planned.plan.effective().count(), began);
        }
        if let Some(account) = &run.target.account {
            self.settings.apply(&account.aws).await?;
        }
        if !self.up_to_date {
            self.infrastructure.mark(&run.config, &self.inventory).await?;
        }
        Ok(())
    }

    /// If the plan expects corrections of the state, makes them, and plans the remaining work.
    async fn repair(&self, run: &Run<'_>) -> anyhow::Result<Option<Planned>> {
        let cut_off = self.planned.as_ref().map_or(&[][..], |planned| &planned.cut_off);
        if self.inventory.unrecorded.is_empty() && cut_off.is_empty() {
            return Ok(None);
        }
        let infrastructure = &self.infrastructure;
        let inventory = recovery::repair(infrastructure, run.whole, &self.inventory, cut_off).await?;
        let variables = infrastructure.variables_without_deletions(run.whole, &inventory);
        let terraform = infrastructure.terraform().await?;
        let planned = planning::plan(infrastructure, terraform, &inventory, &variables, true).await?;
        if let Some(address) = planned.cut_off.first() {
            let message =
                format!("{address} is marked for replacement again: another process is changing this state");
            return Err(failure(Kind::Terraform, message)).hint(Kind::Terraform, "run it again");
        }
        Ok(Some(planned))
    }
}

/// Reads the account, and starts terraform unless it is known to have nothing to do. `None` with `--registry`.
pub(super) async fn plan<'a>(run: &Run<'a>) -> anyhow::Result<Option<Resources<'a>>> {
    let (Some(account), Some(infrastructure)) = (&run.target.account, run.infrastructure) else {
        return Ok(None);
    };
    let mut inventory = run.interrupt.guard(infrastructure.inventory()).await?;
    inventory.refuse_makefile()?;
    let config = run.whole;
    infrastructure.refuse_misplaced(config)?;
    inventory.refuse_clashes(config)?;
    inventory = recovery::with_unrecorded(infrastructure, config, inventory).await?;
    inventory = recovery::with_left_key(infrastructure, inventory).await?;
    inventory = templates::with_left_templates(infrastructure, config, inventory);
    templates::refuse_others(infrastructure, config, &inventory)?;
    let settings = run
        .interrupt
        .guard(SettingsPlan::new(
            &account.aws,
            &config.registry,
            &config.repositories,
            infrastructure.store(),
        ))
        .await?;
    let variables = infrastructure.variables_without_deletions(config, &inventory);
    let up_to_date =
        !run.request.refresh && last_apply::is_up_to_date(infrastructure, &variables, &inventory)?;
    let (mut differences, mut of_the_cache) = (Vec::new(), Vec::new());
    let planned = if up_to_date {
        None
    } else {
        let looks = async {
            tokio::try_join!(
                foreign_resources::differences(infrastructure, config, &inventory),
                foreign_resources::of_the_cache(infrastructure, config, &inventory)
            )
        };
        (differences, of_the_cache) = run.interrupt.guard(looks).await?;
        let terraform = infrastructure.terraform().await?;
        let lock = !run.request.dry_run;
        Some(planning::plan(infrastructure, terraform, &inventory, &variables, lock).await?)
    };
    Ok(Some(Resources {
        infrastructure: infrastructure.clone(),
        inventory,
        up_to_date,
        differences,
        of_the_cache,
        planned,
        settings,
    }))
}
