//! `prune`.

use std::collections::BTreeMap;

use clap::Args;

use super::Context;
use super::destroy::{confirm, others_anywhere};
use crate::aws::ecr::Ecr;
use crate::infrastructure::{Infrastructure, no_longer_wanted};
use crate::ui::{Table, units};

/// Delete the repositories and rules that this grid created and images.toml no longer names; asks for the grid's name
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  cargo xtask prune TAG=prod REGION=eu-west-1 --dry-run")]
pub struct Prune {
    /// Show what would be deleted, and stop
    #[arg(long)]
    dry_run: bool,
}

impl Prune {
    /// Runs the command.
    ///
    /// # Errors
    /// The user says no, AWS refuses, or terraform fails.
    pub async fn run(self, context: &Context) -> anyhow::Result<()> {
        let config = context.config()?;
        let aws = context.aws(config.account.as_deref()).await?;
        let ecr = Ecr::new(&aws);
        let infrastructure = Infrastructure::open(context, &aws).await?;
        let survey = infrastructure.survey().await?;
        let mut unwanted = no_longer_wanted(&config, &survey);
        let mut table = Table::new(["REPOSITORY", "IMAGES", "SIZE", ""]);
        let mut kept = Vec::new();
        for name in &unwanted.repositories {
            let Some(repository) = survey.repositories.get(name) else { continue };
            let images = ecr.images(name).await?;
            let size = units::bytes(images.iter().map(|image| image.size).sum());
            let mut others = ecr.marks(repository).await?;
            others.remove(&context.settings.tag);
            let verdict = if others.is_empty() {
                "delete".to_owned()
            } else {
                kept.push(name.clone());
                format!("keep: used by {}", others.into_iter().collect::<Vec<_>>().join(", "))
            };
            table.row([name.clone(), images.len().to_string(), size, verdict]);
        }
        unwanted.repositories.retain(|name| !kept.contains(name));
        // Any other grid of the account may pull through a rule, and nothing on the rule says which does.
        let kept_rules = if others_anywhere(&ecr, &survey, &context.settings.tag).await? {
            std::mem::take(&mut unwanted.rules)
        } else {
            BTreeMap::new()
        };
        let rules: Vec<String> = unwanted.rules.keys().cloned().collect();
        if unwanted.repositories.is_empty() && rules.is_empty() {
            context.printer.line("images.toml names everything that this grid created: nothing to prune");
            return Ok(());
        }
        context.printer.table(&table);
        for rule in kept_rules.keys() {
            context.printer.line(format!("pull-through rule {rule}: keep: other grids are in this account"));
        }
        for rule in &rules {
            context.printer.line(format!("pull-through rule {rule}: delete"));
        }
        let document = serde_json::json!({ "repositories": unwanted.repositories, "rules": rules });
        if self.dry_run {
            return context.printer.data(&Table::default(), &document);
        }
        confirm(context)?;
        let lease = infrastructure.lease().await?;
        let pruned = async {
            let terraform = infrastructure.terraform().await?;
            let mut variables = infrastructure.wanted_variables(&config, &survey);
            if let Some(repositories) = variables["repositories"].as_array_mut() {
                repositories.extend(kept.iter().map(|name| serde_json::Value::from(name.as_str())));
            }
            if let Some(rules) = variables["pull_through_cache_rules"].as_object_mut() {
                rules.extend(kept_rules.iter().map(|(prefix, upstream)| {
                    (prefix.clone(), serde_json::json!({ "upstream": upstream, "credential_arn": null }))
                }));
            }
            infrastructure.prune(terraform, &variables, &unwanted.repositories).await
        };
        let result = pruned.await;
        infrastructure.release(lease).await;
        result?;
        context.printer.data(&Table::default(), &document)
    }
}
