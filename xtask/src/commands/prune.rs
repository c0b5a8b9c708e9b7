//! `prune`.

use std::collections::BTreeMap;

use aws::ecr::Rule;
use clap::Args;
use grid::{Infrastructure, Inventory, RepositoryUsage, UnlistedResources, Usage};
use images_config::Config;

use super::Context;
use super::destroy::{confirm, unchanged};
use crate::infrastructure::{self, usage_table};

/// Delete the repositories and rules that this grid created and images.toml no longer names; asks for the grid's name
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  cargo xtask prune TAG=prod REGION=eu-west-1 --dry-run")]
pub struct Prune {
    /// Show what would be deleted, and stop
    #[arg(long)]
    dry_run: bool,
    /// Do not ask for approval
    #[arg(long)]
    yes: bool,
}

impl Prune {
    /// Runs the command.
    ///
    /// # Errors
    /// The user answers no, AWS refuses, or terraform fails.
    pub async fn run(self, context: &Context) -> anyhow::Result<()> {
        let config = context.config()?;
        let aws = context.aws(config.account.as_deref()).await?;
        let infrastructure = infrastructure::open(context, &aws).await?;
        let inventory = infrastructure.inventory().await?;
        let (usage, unwanted, kept) = look(&infrastructure, &config, &inventory).await?;
        let names = |of: &BTreeMap<String, Rule>| of.keys().cloned().collect::<Vec<_>>();
        let report = |changed: Option<bool>| {
            let report = serde_json::json!({
                "repositories": unwanted.repositories, "rules": names(&unwanted.rules), "templates": names(&unwanted.templates),
                "kept": names(&kept.rules), "changed": changed,
            });
            context.printer.results().report(&report)
        };
        report(Some(false))?;
        if unwanted.is_empty() {
            context.printer.line("nothing to prune: images.toml names everything that this grid created");
            return Ok(());
        }
        context.printer.table(&usage_table(&usage));
        let verdicts = [(&kept, "keep: other grids are in this account"), (&unwanted, "delete")].into_iter();
        for (of, verdict) in verdicts {
            for rule in of.rules.keys() {
                context.printer.line(format!("pull-through rule {rule}: {verdict}"));
            }
            for prefix in of.templates.keys() {
                context.printer.line(format!("creation template {prefix}: {verdict}"));
            }
        }
        if self.dry_run {
            return Ok(());
        }
        if !self.yes {
            confirm(context, "`prune --yes` does not ask; `prune --dry-run` shows what it would delete")?;
        }
        let lease = infrastructure.lease().await?;
        let pruned = async {
            let inventory = infrastructure.inventory().await?;
            let now = look(&infrastructure, &config, &inventory).await?;
            unchanged(&now, &(usage, unwanted.clone(), kept.clone()))?;
            report(None)?;
            let terraform = infrastructure.terraform().await?;
            let variables = infrastructure.variables(&config, &inventory, &kept);
            grid::planning::prune(&infrastructure, terraform, &variables, &unwanted.repositories).await
        };
        let result = pruned.await;
        infrastructure.release(lease).await;
        result?;
        report(Some(true))
    }
}

/// What is no longer wanted: all repositories with their contents, then what to delete, then what is kept for other grids.
async fn look(
    infrastructure: &Infrastructure<'_>,
    config: &Config,
    inventory: &Inventory,
) -> anyhow::Result<(Vec<RepositoryUsage>, UnlistedResources, UnlistedResources)> {
    let mut unwanted = inventory.unlisted_resources(config);
    let is_unwanted = |name: &str| unwanted.repositories.iter().any(|unwanted| unwanted == name);
    let Usage { repositories, others, .. } =
        grid::usage::read(infrastructure, inventory, is_unwanted).await?;
    let mut kept = UnlistedResources::default();
    (unwanted.repositories, kept.repositories) = {
        let names = |free| {
            let held = repositories.iter().filter(move |held| held.is_free() == free);
            held.map(|held| held.repository.clone()).collect()
        };
        (names(true), names(false))
    };
    if others {
        std::mem::swap(&mut unwanted.rules, &mut kept.rules);
        std::mem::swap(&mut unwanted.templates, &mut kept.templates);
    }
    Ok((repositories, unwanted, kept))
}
