//! `doctor`: what this machine and this account have, and one fix for each thing that they lack.

use std::path::Path;

use aws::Aws;
use aws::bucket::StateBucket;
use aws::ecr::Ecr;
use clap::Args;
use docker::Docker;
use failure::{Kind, failure, render};
use terraform::Terraform;

use super::Context;
use crate::infrastructure::{StateBucketName, state_bucket};
use crate::ui::{Table, units};

/// Check tools, credentials, account, state bucket, source registries and disk; one fix for each problem
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  cargo xtask doctor REGION=eu-west-1")]
pub struct Doctor {}

/// One thing that was looked at.
#[derive(serde::Serialize)]
struct Check {
    subject: String,
    ok: bool,
    found: String,
    fix: Option<String>,
}

impl Check {
    fn good(subject: &str, found: impl Into<String>) -> Self {
        Self { subject: subject.into(), ok: true, found: found.into(), fix: None }
    }

    fn bad(subject: &str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { subject: subject.into(), ok: false, found: found.into(), fix: Some(fix.into()) }
    }

    /// An error's first line is what was found, its hint the fix.
    fn from_error(subject: &str, error: &anyhow::Error) -> Self {
        let text = render(error);
        let found = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        let fix =
            text.lines().find_map(|line| line.strip_prefix("hint: ")).unwrap_or("see the message").to_owned();
        Self::bad(subject, found, fix)
    }
}

impl Doctor {
    /// Runs the command.
    ///
    /// # Errors
    /// There is at least one problem.
    pub async fn run(self, context: &Context) -> anyhow::Result<()> {
        let mut checks = vec![configuration(context), terraform(), docker(context).await];
        match context.aws(None).await {
            Ok(aws) => {
                checks
                    .push(Check::good("credentials", format!("{} in {}", aws.identity().arn, aws.region())));
                checks.extend(account(context, &aws).await);
            }
            Err(error) => checks.push(Check::from_error("credentials", &error)),
        }
        checks.extend(upstreams(context).await);
        checks.push(disk(context.paths.target()));

        let mut table = Table::new(["CHECK", "", "FOUND", "FIX"]);
        for check in &checks {
            let sign = if check.ok { "ok" } else { "PROBLEM" };
            table.row([
                check.subject.clone(),
                sign.into(),
                check.found.clone(),
                check.fix.clone().unwrap_or_default(),
            ]);
        }
        context.printer.data(&table, &checks)?;
        match checks.iter().filter(|check| !check.ok).count() {
            0 => Ok(()),
            problems => {
                Err(failure(Kind::Unexpected, format!("{} found", units::count(problems, "problem"))))
            }
        }
    }
}

fn configuration(context: &Context) -> Check {
    match context.config() {
        Ok(config) => Check::good(
            "images.toml",
            format!(
                "{}, {}",
                units::count(config.images.len(), "image"),
                units::count(config.runtimes.len(), "runtime")
            ),
        ),
        Err(error) => Check::from_error("images.toml", &error),
    }
}

fn terraform() -> Check {
    match Terraform::find() {
        Ok(found) => Check::good("terraform", found.to_string()),
        Err(error) => Check::from_error("terraform", &error.into()),
    }
}

async fn docker(context: &Context) -> Check {
    let engine = async {
        let docker = Docker::find(context.settings.container_cli.as_deref()).await?;
        let platform = docker.engine_platform().await?;
        anyhow::Ok(format!("{}, engine {platform}, {:?} builder", docker.name(), docker.builder()))
    };
    match engine.await {
        Ok(found) => Check::good("container engine", found),
        Err(error) => Check::from_error("container engine", &error),
    }
}

async fn account(context: &Context, aws: &Aws) -> Vec<Check> {
    let ecr = Ecr::new(aws);
    let mut checks = Vec::new();
    checks.push(match ecr.repositories().await {
        Ok(repositories) => Check::good("ECR", units::count(repositories.len(), "repository")),
        Err(error) => Check::from_error("ECR", &error),
    });
    checks.push(match ecr.account_setting("BLOB_MOUNTING").await {
        Ok(value) if value == "ENABLED" => Check::good("blob mounting", "on: shared layers are sent once"),
        Ok(_) => Check::good(
            "blob mounting",
            "off: shared layers are sent once for each repository (blob_mounting in images.toml)",
        ),
        Err(error) => Check::from_error("blob mounting", &error),
    });
    checks.push(match state_bucket(context, aws).await {
        Ok(StateBucketName { bucket, .. }) => match StateBucket::new(aws, &bucket).check().await {
            Ok(found) => {
                let encryption = found.encryption.map(|key| format!(", encrypted with {key}"));
                let advice = found.problems.iter().map(|problem| format!("; {problem}")).collect::<String>();
                Check::good("state bucket", format!("{bucket}{}{advice}", encryption.unwrap_or_default()))
            }
            Err(error) => Check::from_error("state bucket", &error),
        },
        Err(error) => Check::from_error("state bucket", &error),
    });
    checks
}

/// One HEAD at each source registry: is it reachable, and how many pulls does Docker Hub leave?
async fn upstreams(context: &Context) -> Vec<Check> {
    let Ok(config) = context.config() else { return Vec::new() };
    let Ok(client) = context.sources().client(&config) else { return Vec::new() };
    let mut checks: Vec<Check> = Vec::new();
    let sources =
        config.images.iter().map(|image| &image.source).chain(config.runtimes.iter().map(|r| &r.base));
    for source in sources {
        let subject = source.registry().to_owned();
        if checks.iter().any(|check| check.subject == subject) {
            continue;
        }
        checks.push(match client.find(source).await {
            Ok(Some(_)) => match client.rate_limit(source.registry()) {
                Some(limit) => Check::good(
                    &subject,
                    format!("reachable, {} of {} pulls left", limit.remaining, limit.limit),
                ),
                None => Check::good(&subject, "reachable"),
            },
            Ok(None) => Check::bad(&subject, format!("{source} does not exist"), "correct images.toml"),
            Err(error) => Check::from_error(&subject, &error.into()),
        });
    }
    checks
}

/// Docker builds need room; mirrored images do not touch the disk.
fn disk(dir: &Path) -> Check {
    const WANTED: u64 = 5 << 30;
    let existing = dir.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/"));
    match rustix::fs::statvfs(existing) {
        Ok(stat) if stat.f_bavail.saturating_mul(stat.f_frsize) >= WANTED => {
            Check::good("disk", format!("{} free", units::bytes(stat.f_bavail.saturating_mul(stat.f_frsize))))
        }
        Ok(stat) => {
            let free = units::bytes(stat.f_bavail.saturating_mul(stat.f_frsize));
            Check::bad(
                "disk",
                format!("{free} free"),
                "builds of runtimes need about 5 GiB: `docker system prune` frees some",
            )
        }
        Err(error) => Check::bad("disk", error.to_string(), "is the disk mounted?"),
    }
}
