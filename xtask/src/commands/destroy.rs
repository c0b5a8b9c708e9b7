//! `destroy-images` and `auto-destroy-images`.

use std::collections::BTreeSet;

use clap::Args;
use futures_util::future::try_join_all;

use super::Context;
use crate::aws::Aws;
use crate::aws::ecr::{Ecr, Repository};
use crate::aws::registry_settings::SettingsPlan;
use crate::error::{Exit, FailWith as _, failure};
use crate::infrastructure::{Infrastructure, REPOSITORY, RULE, Survey};
use crate::terraform::Terraform;
use crate::ui::{Table, units};

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
pub struct AutoDestroyImages {}

impl DestroyImages {
    /// Runs the command.
    ///
    /// # Errors
    /// The user says no, AWS refuses, or terraform fails.
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
        destroy(context, false, false).await
    }
}

/// A repository of the state, and what becomes of it.
#[derive(serde::Serialize)]
struct Fate {
    repository: String,
    images: usize,
    bytes: u64,
    /// The other grids that mark it as used: it is kept for them.
    used_by: BTreeSet<String>,
}

/// What becomes of everything that the state owns.
#[derive(serde::Serialize)]
struct Fates {
    repositories: Vec<Fate>,
    rules: Vec<String>,
    /// Whether the rules are kept: any other grid may pull through them, and nothing on them says which does.
    keep_rules: bool,
    /// Whether the key is kept: a repository that stays is encrypted with it.
    keep_key: bool,
}

async fn destroy(context: &Context, dry_run: bool, ask: bool) -> anyhow::Result<()> {
    let config = context.config()?;
    let aws = context.aws(config.account.as_deref()).await?;
    let ecr = Ecr::new(&aws);
    let infrastructure = Infrastructure::open(context, &aws).await?;
    let mut survey = infrastructure.survey().await?;
    if !dry_run {
        survey = infrastructure.adopt(&config, survey, false).await?;
    }
    let fates = fates(context, &ecr, &survey).await?;
    if survey.state.owned.is_empty() {
        context.printer.line(format!(
            "the grid {} owns nothing in {}: nothing to destroy",
            context.settings.tag,
            aws.region()
        ));
        return Ok(());
    }
    show(context, &aws, &fates);
    // Another grid's repositories may be replicated by this one's rule.
    let settings = if fates.keep_rules {
        SettingsPlan::default()
    } else {
        SettingsPlan::end(&aws, infrastructure.bucket(), infrastructure.key()).await?
    };
    settings.lines.iter().for_each(|line| context.printer.line(line));
    if dry_run {
        return context.printer.data(&Table::default(), &fates);
    }
    if ask {
        confirm(context)?;
    }
    let lease = infrastructure.lease().await?;
    let result = async {
        carry_out(context, &infrastructure, &ecr, &survey, &fates).await?;
        settings.apply(&aws).await
    };
    let result = result.await;
    infrastructure.release(lease).await;
    result?;
    context.printer.data(&Table::default(), &fates)
}

/// Whether any repository of the account is marked by another grid than `tag`.
///
/// # Errors
/// AWS refuses or does not answer.
pub async fn others_anywhere(ecr: &Ecr, survey: &Survey, tag: &str) -> anyhow::Result<bool> {
    let marks = try_join_all(survey.repositories.values().map(|repository| ecr.marks(repository))).await?;
    Ok(marks.iter().flatten().any(|grid| grid != tag))
}

async fn fates(context: &Context, ecr: &Ecr, survey: &Survey) -> anyhow::Result<Fates> {
    let keep_rules = others_anywhere(ecr, survey, &context.settings.tag).await?;
    let mut repositories = Vec::new();
    for repository in survey.repositories.values() {
        if survey.state.owns(REPOSITORY, &repository.name) {
            let mut used_by = ecr.marks(repository).await?;
            used_by.remove(&context.settings.tag);
            let images = ecr.images(&repository.name).await?;
            let bytes = images.iter().map(|image| image.size).sum();
            repositories.push(Fate {
                repository: repository.name.clone(),
                images: images.len(),
                bytes,
                used_by,
            });
        }
    }
    let deleted =
        |r: &Repository| repositories.iter().any(|fate| fate.repository == r.name && fate.used_by.is_empty());
    let own_keys = survey.state.owned.get("aws_kms_key").cloned().unwrap_or_default();
    let keep_key = survey
        .repositories
        .values()
        .filter(|repository| !deleted(repository))
        .filter_map(|repository| repository.kms_key.as_ref())
        .any(|key| own_keys.iter().any(|own| key == own || key.ends_with(&format!("/{own}"))));
    let rules = survey.state.owned.get(RULE).cloned().unwrap_or_default();
    Ok(Fates { repositories, rules, keep_rules, keep_key })
}

fn show(context: &Context, aws: &Aws, fates: &Fates) {
    let printer = &context.printer;
    printer.line(format!(
        "account {}, region {}, grid {}",
        aws.identity().account,
        aws.region(),
        context.settings.tag
    ));
    let mut table = Table::new(["REPOSITORY", "IMAGES", "SIZE", ""]);
    for fate in &fates.repositories {
        let verdict = if fate.used_by.is_empty() {
            "delete".to_owned()
        } else {
            let grids = fate.used_by.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            format!(
                "keep: used by {grids}; `aws ecr delete-repository --force --repository-name {}` deletes it",
                fate.repository
            )
        };
        table.row([fate.repository.clone(), fate.images.to_string(), units::bytes(fate.bytes), verdict]);
    }
    printer.table(&table);
    for rule in &fates.rules {
        let verdict = if fates.keep_rules {
            format!(
                "keep: other grids are in this account; `aws ecr delete-pull-through-cache-rule --ecr-repository-prefix {rule}` deletes it"
            )
        } else {
            "delete".to_owned()
        };
        printer.line(format!("pull-through rule {rule}: {verdict}"));
    }
    let key = if fates.keep_key { "keep: repositories that stay are encrypted with it" } else { "delete" };
    printer.line(format!("KMS key ecr/{}-htc: {key}", context.settings.tag));
    printer.line("repositories that ECR's cache made by itself (ecr-public/..., quay/...) stay");
}

/// Asks for the grid's name, which nobody types by accident.
///
/// # Errors
/// Another answer, or nobody there to give one.
pub fn confirm(context: &Context) -> anyhow::Result<()> {
    let tag = &context.settings.tag;
    let question = format!("Type the grid's name ({tag}) to delete this:");
    let answer = context.printer.ask(&question, &context.interrupt);
    context.interrupt.check()?;
    match answer {
        Some(answer) if answer == *tag => Ok(()),
        Some(_) => Err(failure(Exit::Refused, "not confirmed; nothing was changed")),
        None => Err(failure(Exit::Refused, "nobody there to confirm; nothing was changed"))
            .hint(Exit::Refused, "auto-destroy-images does not ask"),
    }
}

/// First what stays leaves the state, then terraform destroys what is left in it, then this grid's marks go.
async fn carry_out(
    context: &Context,
    infrastructure: &Infrastructure<'_>,
    ecr: &Ecr,
    survey: &Survey,
    fates: &Fates,
) -> anyhow::Result<()> {
    let terraform = infrastructure.terraform().await?;
    let kept = kept_addresses(&terraform, fates).await?;
    if !kept.is_empty() {
        terraform.state_rm(&kept).await.exit(Exit::Terraform)?;
        context
            .printer
            .line(format!("{} left the state and stay in the account", units::count(kept.len(), "resource")));
    }
    let config = context.config()?;
    let variables = infrastructure.variables(&config, survey);
    infrastructure.destroy(terraform, &variables).await?;
    for repository in survey.repositories.values() {
        let deleted =
            fates.repositories.iter().any(|f| f.repository == repository.name && f.used_by.is_empty());
        if !deleted && ecr.marks(repository).await?.contains(&context.settings.tag) {
            ecr.unmark(repository, &context.settings.tag).await?;
        }
    }
    context.printer.line(format!("destroyed what the grid {} had created", context.settings.tag));
    Ok(())
}

/// The state's addresses of everything that stays, with what hangs on it (policies of a kept repository).
async fn kept_addresses(terraform: &Terraform, fates: &Fates) -> anyhow::Result<Vec<String>> {
    let kept: Vec<String> = fates
        .repositories
        .iter()
        .filter(|f| !f.used_by.is_empty())
        .map(|f| format!("[\"{}\"]", f.repository))
        .collect();
    let stays = |address: &String| {
        (address.starts_with("aws_ecr_repository") || address.starts_with("aws_ecr_lifecycle_policy"))
            && kept.iter().any(|index| address.ends_with(index))
            || fates.keep_rules && address.starts_with(RULE)
            || fates.keep_key && address.starts_with("aws_kms_")
    };
    Ok(terraform.state_list().await.exit(Exit::Terraform)?.into_iter().filter(stays).collect())
}
