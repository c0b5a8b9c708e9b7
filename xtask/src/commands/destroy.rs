//! `destroy-images` and `auto-destroy-images`.

use aws::Aws;
use aws::ecr::{Ecr, grids};
use aws::registry_settings::SettingsPlan;
use clap::Args;
use failure::{FailWith as _, Kind, failure};
use grid::{Infrastructure, Inventory, RepositoryUsage, ResourceKind, StaysWith, Usage};
use images_config::RUNTIMES_REPOSITORY;
use terraform::Terraform;

use super::Context;
use crate::infrastructure::{self, usage_table};
use crate::ui::{question, units};

/// Remove what this tool created for the grid, and nothing else: shows it first and asks for the grid's name
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  cargo xtask destroy-images TAG=dev REGION=eu-west-1")]
pub struct DestroyImages {
    /// Show what would be deleted and kept, and stop
    #[arg(long)]
    dry_run: bool,
}

/// destroy-images without the question
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  cargo xtask auto-destroy-images TAG=dev REGION=eu-west-1")]
pub struct AutoDestroyImages {
    /// Show what would be deleted and kept, and stop
    #[arg(long)]
    dry_run: bool,
}

impl DestroyImages {
    /// Runs the command.
    ///
    /// # Errors
    /// The user answers no, AWS refuses, or terraform fails.
    pub async fn run(self, context: &Context) -> anyhow::Result<()> {
        destroy(context, self.dry_run, true).await
    }
}

impl AutoDestroyImages {
    /// Runs the command.
    ///
    /// # Errors
    /// AWS refuses, or terraform fails.
    pub async fn run(self, context: &Context) -> anyhow::Result<()> {
        destroy(context, self.dry_run, false).await
    }
}

/// What happens to each resource in the state.
#[derive(PartialEq, Eq, serde::Serialize)]
struct DestroyPlan {
    repositories: Vec<RepositoryUsage>,
    /// The kept repositories with this grid's mark.
    #[serde(skip)]
    marked: Vec<String>,
    rules: Vec<String>,
    /// The prefixes of creation templates.
    templates: Vec<String>,
    /// Whether to keep the rules and templates: any other grid may pull through them, and nothing on them shows which does.
    keep_rules: bool,
    /// Whether another grid uses the runtimes' repository.
    #[serde(skip)]
    runtimes_used: bool,
    /// Whether to keep the key: a kept repository is encrypted with it, or a kept template names it.
    keep_key: bool,
}

/// A run in `--format json`.
#[derive(serde::Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    plan: &'a DestroyPlan,
    /// Whether it was carried out. `None` if it was started and has not ended.
    changed: Option<bool>,
}

async fn destroy(context: &Context, dry_run: bool, ask: bool) -> anyhow::Result<()> {
    let config = context.config()?;
    let aws = context.aws(config.account.as_deref()).await?;
    let ecr = Ecr::new(&aws);
    let infrastructure = infrastructure::open(context, &aws).await?;
    let inventory =
        grid::recovery::with_unrecorded(&infrastructure, &config, infrastructure.inventory().await?).await?;
    let shown = destroy_plan(context, &infrastructure, &inventory).await?;
    let report = |changed| context.printer.results().report(&Report { plan: &shown, changed });
    report(Some(false))?;
    if inventory.state.owned.is_empty() {
        context.printer.line(format!(
            "the grid {} owns nothing in {}: nothing to destroy",
            context.settings.tag,
            aws.region()
        ));
        return Ok(());
    }
    show(context, &aws, &shown);
    inventory.unrecorded.iter().for_each(|found| context.printer.line(format!("terraform: {found}")));
    let mut settings = SettingsPlan::default();
    // This grid's rules may replicate another grid's repositories or sign its runtimes.
    if !shown.keep_rules {
        settings.end_replication(&aws, infrastructure.store()).await?;
    }
    if !shown.runtimes_used {
        settings.end_signing(&aws, infrastructure.store()).await?;
    }
    settings.lines.iter().for_each(|line| context.printer.line(line));
    if dry_run {
        return Ok(());
    }
    if ask {
        confirm(context, "`auto-destroy-images` does not ask: it deletes the grid's images")?;
    }
    let lease = infrastructure.lease().await?;
    let result = async {
        let mut inventory =
            grid::recovery::with_unrecorded(&infrastructure, &config, infrastructure.inventory().await?)
                .await?;
        unchanged(&destroy_plan(context, &infrastructure, &inventory).await?, &shown)?;
        report(None)?;
        if !inventory.unrecorded.is_empty() {
            inventory = grid::recovery::repair(&infrastructure, &config, &inventory, &[]).await?;
        }
        apply(context, &infrastructure, &ecr, &inventory, &shown).await?;
        settings.apply(&aws).await
    };
    let result = result.await;
    infrastructure.release(lease).await;
    result?;
    report(Some(true))
}

/// Compares what would be deleted now with what was shown, because the user agreed only to that.
///
/// # Errors
/// They differ.
pub fn unchanged<T: PartialEq>(now: &T, shown: &T) -> anyhow::Result<()> {
    if now == shown {
        return Ok(());
    }
    Err(failure(Kind::Refused, "what would be deleted has changed since it was shown; nothing was deleted"))
        .hint(Kind::Refused, "run it again")
}

async fn destroy_plan(
    context: &Context,
    infrastructure: &Infrastructure<'_>,
    inventory: &Inventory,
) -> anyhow::Result<DestroyPlan> {
    let owned = |name: &str| inventory.owns(ResourceKind::Repository, name);
    let Usage { repositories, marks, others } = grid::usage::read(infrastructure, inventory, owned).await?;
    let stays = |name: &str| !repositories.iter().any(|held| held.repository == name && held.is_free());
    let own_keys = inventory.owned(ResourceKind::Key);
    let keep_key = inventory
        .repositories
        .values()
        .filter(|repository| stays(&repository.name))
        .filter_map(|repository| repository.kms_key.as_ref())
        .any(|key| own_keys.iter().any(|own| key == own || key.ends_with(&format!("/{own}"))));
    let templates = inventory.owned(ResourceKind::CreationTemplate).to_vec();
    let keep_key = keep_key || others && !templates.is_empty();
    let tag = &context.settings.tag;
    let runtimes_used =
        marks.get(RUNTIMES_REPOSITORY).is_some_and(|grids| grids.iter().any(|grid| grid != tag));
    let marked = marks
        .into_iter()
        .filter(|(name, grids)| stays(name) && grids.contains(tag))
        .map(|(name, _)| name)
        .collect();
    let rules = inventory.owned(ResourceKind::Rule).to_vec();
    let keep_rules = others;
    Ok(DestroyPlan { repositories, marked, rules, templates, keep_rules, runtimes_used, keep_key })
}

fn show(context: &Context, aws: &Aws, destroy_plan: &DestroyPlan) {
    let printer = &context.printer;
    printer.line(format!(
        "account {}, region {}, grid {}",
        aws.identity().account,
        aws.region(),
        context.settings.tag
    ));
    printer.table(&usage_table(&destroy_plan.repositories));
    let verdict = |command: &str, prefix: &str| {
        if destroy_plan.keep_rules {
            format!("keep: other grids are in this account; `aws ecr {command} {prefix}` deletes it")
        } else {
            "delete".to_owned()
        }
    };
    for rule in &destroy_plan.rules {
        let verdict = verdict("delete-pull-through-cache-rule --ecr-repository-prefix", rule);
        printer.line(format!("pull-through rule {rule}: {verdict}"));
    }
    for prefix in &destroy_plan.templates {
        let verdict = verdict("delete-repository-creation-template --prefix", prefix);
        printer.line(format!("creation template {prefix}: {verdict}"));
    }
    let gives = destroy_plan.keep_rules && !destroy_plan.templates.is_empty();
    let key = match destroy_plan.keep_key {
        true if gives => "keep: creation templates that stay give it to repositories",
        true => "keep: repositories that stay are encrypted with it",
        false => "delete",
    };
    printer.line(format!("KMS key ecr/{}-htc: {key}", context.settings.tag));
    printer.line("repositories that ECR's cache created (ecr-public/..., quay/...) are kept");
}

/// Asks for the grid's name, which cannot be typed by accident. `unattended` is the hint for runs without a terminal.
///
/// # Errors
/// Another answer, or no terminal to ask on.
pub fn confirm(context: &Context, unattended: &str) -> anyhow::Result<()> {
    let tag = &context.settings.tag;
    let question = format!("Type the grid's name ({tag}) to delete this:");
    let answer = question::ask(&context.printer, &question, &context.interrupt);
    context.interrupt.check()?;
    match answer {
        Some(answer) if answer == *tag => Ok(()),
        Some(_) => Err(failure(Kind::Refused, "not confirmed; nothing was changed")),
        None => Err(failure(
            Kind::Refused,
            "this needs a confirmation and there is no terminal; nothing was changed",
        ))
        .hint(Kind::Refused, unattended),
    }
}

/// Removes the kept resources from the state, destroys the rest with terraform, and then removes this grid's marks.
async fn apply(
    context: &Context,
    infrastructure: &Infrastructure<'_>,
    ecr: &Ecr,
    inventory: &Inventory,
    destroy_plan: &DestroyPlan,
) -> anyhow::Result<()> {
    let terraform = infrastructure.terraform().await?;
    let kept = kept_addresses(&terraform, destroy_plan).await?;
    if !kept.is_empty() {
        terraform.state().remove(&kept).await.kind(Kind::Terraform)?;
        context.printer.line(format!(
            "{} removed from the state and kept in the account",
            units::count(kept.len(), "resource")
        ));
    }
    let config = context.config()?;
    let variables = infrastructure.variables_without_deletions(&config, inventory);
    grid::planning::destroy(infrastructure, terraform, &variables).await?;
    for repository in destroy_plan.marked.iter().filter_map(|name| inventory.repositories.get(name)) {
        grids::remove_user(ecr, repository, &context.settings.tag).await?;
    }
    context.printer.line(format!("destroyed what the grid {} had created", context.settings.tag));
    Ok(())
}

/// The addresses of all kept resources in the state, including dependent ones (policies of a kept repository).
async fn kept_addresses(terraform: &Terraform, destroy_plan: &DestroyPlan) -> anyhow::Result<Vec<String>> {
    let kept: Vec<String> = destroy_plan
        .repositories
        .iter()
        .filter(|held| !held.is_free())
        .map(|held| format!("[\"{}\"]", held.repository))
        .collect();
    let stays = |address: &String| match ResourceKind::of(address).map(ResourceKind::stays_with) {
        Some(StaysWith::Repository) => kept.iter().any(|index| address.ends_with(index)),
        Some(StaysWith::Rules) => destroy_plan.keep_rules,
        Some(StaysWith::Key) => destroy_plan.keep_key,
        None => false,
    };
    Ok(terraform.state().list().await.kind(Kind::Terraform)?.into_iter().filter(stays).collect())
}
