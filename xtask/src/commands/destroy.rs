//! `destroy-images` and `auto-destroy-images`.

use clap::Args;

use super::Context;
use crate::aws::Aws;
use crate::aws::ecr::Ecr;
use crate::aws::registry_settings::SettingsPlan;
use crate::error::{Exit, FailWith as _, failure};
use crate::infrastructure::{Holding, Holdings, Infrastructure, REPOSITORY, RULE, Survey, holdings_table};
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
pub struct AutoDestroyImages {
    /// Show what would be deleted and kept, and stop
    #[arg(long)]
    dry_run: bool,
}

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
        destroy(context, self.dry_run, false).await
    }
}

/// What becomes of everything that the state owns.
#[derive(PartialEq, Eq, serde::Serialize)]
struct Fates {
    repositories: Vec<Holding>,
    /// The repositories that stay and bear this grid's mark.
    #[serde(skip)]
    marked: Vec<String>,
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
    let survey = infrastructure.with_unrecorded(&config, infrastructure.survey().await?).await?;
    let shown = fates(context, &infrastructure, &survey).await?;
    if survey.state.owned.is_empty() {
        context.printer.line(format!(
            "the grid {} owns nothing in {}: nothing to destroy",
            context.settings.tag,
            aws.region()
        ));
        return context.printer.data(&Table::default(), &shown);
    }
    show(context, &aws, &shown);
    survey.unrecorded.iter().for_each(|found| context.printer.line(format!("terraform: {found}")));
    // Another grid's repositories may be replicated by this one's rule.
    let settings = if shown.keep_rules {
        SettingsPlan::default()
    } else {
        SettingsPlan::end(&aws, infrastructure.store()).await?
    };
    settings.lines.iter().for_each(|line| context.printer.line(line));
    if dry_run {
        return context.printer.data(&Table::default(), &shown);
    }
    if ask {
        confirm(context, "`auto-destroy-images` does not ask: it deletes the grid's images")?;
    }
    let lease = infrastructure.lease().await?;
    let result = async {
        let mut survey = infrastructure.with_unrecorded(&config, infrastructure.survey().await?).await?;
        unchanged(&fates(context, &infrastructure, &survey).await?, &shown)?;
        if !survey.unrecorded.is_empty() {
            survey = infrastructure.put_right(&config, &survey, &[]).await?;
        }
        carry_out(context, &infrastructure, &ecr, &survey, &shown).await?;
        settings.apply(&aws).await
    };
    let result = result.await;
    infrastructure.release(lease).await;
    result?;
    context.printer.data(&Table::default(), &shown)
}

/// Holds what is deleted against what was shown: only that was agreed to.
///
/// # Errors
/// They differ.
pub fn unchanged<T: PartialEq>(now: &T, shown: &T) -> anyhow::Result<()> {
    if now == shown {
        return Ok(());
    }
    Err(failure(Exit::Refused, "what would be deleted has changed since it was shown; nothing was deleted"))
        .hint(Exit::Refused, "run it again")
}

async fn fates(
    context: &Context,
    infrastructure: &Infrastructure<'_>,
    survey: &Survey,
) -> anyhow::Result<Fates> {
    let owned = |name: &str| survey.state.owns(REPOSITORY, name);
    let Holdings { repositories, marks, others } = infrastructure.holdings(survey, owned).await?;
    let stays = |name: &str| !repositories.iter().any(|held| held.repository == name && held.is_free());
    let own_keys = survey.state.owned.get("aws_kms_key").cloned().unwrap_or_default();
    let keep_key = survey
        .repositories
        .values()
        .filter(|repository| stays(&repository.name))
        .filter_map(|repository| repository.kms_key.as_ref())
        .any(|key| own_keys.iter().any(|own| key == own || key.ends_with(&format!("/{own}"))));
    let marked = marks
        .into_iter()
        .filter(|(name, grids)| stays(name) && grids.contains(&context.settings.tag))
        .map(|(name, _)| name)
        .collect();
    let rules = survey.state.owned.get(RULE).cloned().unwrap_or_default();
    Ok(Fates { repositories, marked, rules, keep_rules: others, keep_key })
}

fn show(context: &Context, aws: &Aws, fates: &Fates) {
    let printer = &context.printer;
    printer.line(format!(
        "account {}, region {}, grid {}",
        aws.identity().account,
        aws.region(),
        context.settings.tag
    ));
    printer.table(&holdings_table(&fates.repositories));
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

/// Asks for the grid's name, which nobody types by accident. `unattended` says how to run this where nobody can answer.
///
/// # Errors
/// Another answer, or no terminal to ask on.
pub fn confirm(context: &Context, unattended: &str) -> anyhow::Result<()> {
    let tag = &context.settings.tag;
    let question = format!("Type the grid's name ({tag}) to delete this:");
    let answer = context.printer.ask(&question, &context.interrupt);
    context.interrupt.check()?;
    match answer {
        Some(answer) if answer == *tag => Ok(()),
        Some(_) => Err(failure(Exit::Refused, "not confirmed; nothing was changed")),
        None => Err(failure(Exit::Refused, "nobody there to confirm; nothing was changed"))
            .hint(Exit::Refused, unattended),
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
    let variables = infrastructure.sparing_variables(&config, survey);
    infrastructure.destroy(terraform, &variables).await?;
    for repository in fates.marked.iter().filter_map(|name| survey.repositories.get(name)) {
        ecr.unmark(repository, &context.settings.tag).await?;
    }
    context.printer.line(format!("destroyed what the grid {} had created", context.settings.tag));
    Ok(())
}

/// The state's addresses of everything that stays, with what hangs on it (policies of a kept repository).
async fn kept_addresses(terraform: &Terraform, fates: &Fates) -> anyhow::Result<Vec<String>> {
    let kept: Vec<String> = fates
        .repositories
        .iter()
        .filter(|held| !held.is_free())
        .map(|held| format!("[\"{}\"]", held.repository))
        .collect();
    let stays = |address: &String| {
        (address.starts_with("aws_ecr_repository") || address.starts_with("aws_ecr_lifecycle_policy"))
            && kept.iter().any(|index| address.ends_with(index))
            || fates.keep_rules && address.starts_with(RULE)
            || fates.keep_key && address.starts_with("aws_kms_")
    };
    Ok(terraform.state_list().await.exit(Exit::Terraform)?.into_iter().filter(stays).collect())
}
