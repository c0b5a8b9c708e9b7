//! `status`.

mod report;

use std::collections::BTreeMap;

use aws::ecr::Repository;
use aws::lease::holders::at_work;
use aws::scans::Scan;
use clap::Args;
use failure::{FailWith as _, Kind, failure};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use grid::ResourceKind;
use images_config::{Config, RUNTIMES_REPOSITORY};
use registry::Client;

use super::Context;
use crate::infrastructure;
use crate::target::{Account, Target};
use crate::transfer::{last_run, registry_failure, scan};
use crate::ui::{stdout_columns, units};
use report::{Findings, Presence, Report, Resources, Severity, in_words};

/// Images read in parallel.
const AT_ONCE: usize = 16;

/// Show the account's resources, who is running, the last run's result, and the findings of ECR's scans
///
/// Nothing is changed and no source is asked: `list-images` and `outdated` compare with the sources, `verify` reads the images back. The
/// last run is the last one that had something to do; all shards of a run are shown together.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo xtask status TAG=prod REGION=eu-west-1\n  cargo xtask status --fail-on high --format json"
)]
pub struct Status {
    /// Exit with 12 if ECR's scans have findings of this severity or a worse one
    #[arg(long, value_name = "SEVERITY", value_enum)]
    fail_on: Option<Severity>,
}

/// An image at the target.
struct Present {
    name: String,
    repository: String,
    digest: String,
}

impl Status {
    /// Runs the command.
    ///
    /// # Errors
    /// AWS or the registry does not answer, or there are findings that `--fail-on` names.
    pub async fn run(self, context: &Context) -> anyhow::Result<()> {
        let config = context.config()?;
        let target = context.interrupt.guard(context.target(&config)).await?;
        if let (Some(_), None) = (self.fail_on, &target.account) {
            return Err(failure(Kind::Usage, "--fail-on: only ECR scans images"))
                .hint(Kind::Usage, "leave --registry or --fail-on out");
        }
        let (client, _) = target.client(context.sources(), &config)?;
        let look = async {
            match &target.account {
                Some(account) => of_account(context, &config, &target, account, &client).await,
                None => of_registry(context, &config, &target, &client).await,
            }
        };
        let report = context.interrupt.guard(look).await?;
        context.printer.results().either(|| report.text(stdout_columns()), &report)?;
        let worst = |counts: &BTreeMap<String, u64>, severity: Severity| -> u64 {
            let worse = Severity::ALL.iter().filter(|other| **other >= severity);
            worse.filter_map(|other| counts.get(other.name())).sum()
        };
        let (Some(severity), Some(findings)) = (self.fail_on, &report.findings) else { return Ok(()) };
        let found: Vec<String> = findings
            .images
            .iter()
            .filter(|image| worst(&image.counts, severity) > 0)
            .map(|image| format!("\n  {}: {}", image.name, in_words(&image.counts)))
            .collect();
        if found.is_empty() {
            return Ok(());
        }
        let count = units::count(found.len(), "image");
        let severity = severity.name().to_lowercase();
        Err(failure(
            Kind::Findings,
            format!("{count} with findings of severity {severity} or worse:{}", found.concat()),
        ))
        .hint(
            Kind::Findings,
            "`aws ecr describe-image-scan-findings` lists them; `cargo xtask outdated` shows newer tags",
        )
    }
}

async fn of_account(
    context: &Context,
    config: &Config,
    target: &Target,
    account: &Account,
    client: &Client,
) -> anyhow::Result<Report> {
    let infrastructure = infrastructure::open(context, &account.aws).await?;
    let store = infrastructure.store();
    let (inventory, at_work, last_run) =
        tokio::try_join!(infrastructure.inventory(), at_work(store), last_run(store))?;
    let (present, missing): (Vec<_>, Vec<_>) =
        config.repositories.iter().partition(|name| inventory.repositories.contains_key(*name));
    let (rules, missing_rules): (Vec<_>, Vec<_>) =
        config.pull_through.iter().partition(|rule| inventory.rules.contains_key(&rule.prefix));
    let missing = missing.iter().map(|name| format!("repository {name}"));
    let missing_rules = missing_rules.iter().map(|rule| format!("pull-through rule {}", rule.prefix));
    let resources = Resources {
        state: format!("s3://{}/{}", store.bucket(), store.key()),
        repositories: present.len(),
        rules: rules.len(),
        key: !inventory.owned(ResourceKind::Key).is_empty(),
        missing: missing.chain(missing_rules).collect(),
    };
    let present: Vec<&Repository> =
        present.into_iter().filter_map(|name| inventory.repositories.get(name)).collect();
    let listed = stream::iter(present).map(|repository| async move {
        anyhow::Ok((&repository.name, account.ecr.images(&repository.name).await?))
    });
    let listed: BTreeMap<&String, _> =
        listed.buffered(AT_ONCE).try_collect::<Vec<_>>().await?.into_iter().collect();
    let find = |repository: &String, tag: &str| {
        let mut images = listed.get(repository).into_iter().flatten();
        let found = images.find(|image| !image.archived && image.tags.iter().any(|known| known == tag))?;
        Some(Present {
            name: format!("{repository}:{tag}"),
            repository: repository.clone(),
            digest: found.digest.clone(),
        })
    };
    let [images, runtimes] = wanted(config);
    let images: Vec<_> =
        images.iter().map(|(repository, tag)| (repository, tag, find(repository, tag))).collect();
    let runtimes: Vec<_> =
        runtimes.iter().map(|(repository, tag)| (repository, tag, find(repository, tag))).collect();
    let present = images.iter().chain(&runtimes).filter_map(|(.., present)| present.as_ref());
    let scans = stream::iter(present).map(|present| async move {
        let image = target.repository(&present.repository)?.with_digest(present.digest.parse()?);
        anyhow::Ok((present.name.as_str(), scan(&account.aws, client, &image).await?))
    });
    let scans: Vec<(&str, Option<Scan>)> = scans.buffered(AT_ONCE).try_collect::<Vec<_>>().await?;
    let count = |all: &[(&String, &String, Option<Present>)]| Presence {
        wanted: all.len(),
        present: all.iter().filter(|(.., present)| present.is_some()).count(),
        absent: all
            .iter()
            .filter(|(.., present)| present.is_none())
            .map(|(repository, tag, _)| format!("{repository}:{tag}"))
            .collect(),
    };
    Ok(Report {
        account: Some(account.aws.identity().account.clone()),
        region: Some(account.aws.region().to_owned()),
        tag: context.settings.tag.clone(),
        registry: target.host().to_owned(),
        resources: Some(resources),
        images: count(&images),
        runtimes: count(&runtimes),
        at_work,
        last_run,
        findings: Some(Findings::of(&scans)),
    })
}

/// Repository and tag of each image and of each enabled runtime.
fn wanted(config: &Config) -> [Vec<(String, String)>; 2] {
    let images = config.images.iter().map(|image| (image.repository.clone(), image.tag.clone()));
    let runtimes =
        config.enabled_runtimes().map(|runtime| (RUNTIMES_REPOSITORY.to_owned(), runtime.name.clone()));
    [images.collect(), runtimes.collect()]
}

async fn of_registry(
    context: &Context,
    config: &Config,
    target: &Target,
    client: &Client,
) -> anyhow::Result<Report> {
    let look = async |wanted: Vec<(String, String)>| {
        let mut present = Presence { wanted: wanted.len(), ..Presence::default() };
        for (repository, tag) in wanted {
            let found = client.head(&target.repository(&repository)?.with_tag(&tag)?).await;
            match found.map_err(|error| registry_failure(error, Kind::Registry))? {
                Some(_) => present.present += 1,
                None => present.absent.push(format!("{repository}:{tag}")),
            }
        }
        anyhow::Ok(present)
    };
    let [images, runtimes] = wanted(config);
    Ok(Report {
        account: None,
        region: None,
        tag: context.settings.tag.clone(),
        registry: target.host().to_owned(),
        resources: None,
        images: look(images).await?,
        runtimes: look(runtimes).await?,
        at_work: Vec::new(),
        last_run: None,
        findings: None,
    })
}
