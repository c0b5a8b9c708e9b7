//! `doctor`: checks this machine and the account, with one fix for each problem.

use std::path::Path;
use std::time::Duration;

use aws::Aws;
use aws::bucket::StateBucket;
use aws::ecr::Ecr;
use clap::Args;
use docker::{Docker, DockerError};
use failure::{Kind, ending, failure, kind_of, render};
use futures_util::future::join_all;
use grid::StateObject;
use registry::{Client, Reference};
use runtimes::RuntimeError;
use terraform::Program;

use super::Context;
use crate::infrastructure::state_object;
use crate::target::Target;
use crate::transfer::registry_failure;
use crate::ui::{units, wrap};

/// Check tools, credentials, account, state bucket, source registries and disk; one fix for each problem
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  cargo xtask doctor REGION=eu-west-1\n\nThe exit code is that of the first problem: what the next command would end with."
)]
pub struct Doctor {}

/// The result of one check.
#[derive(Clone, serde::Serialize)]
struct Check {
    subject: String,
    ok: bool,
    found: String,
    fix: Option<String>,
    /// The kind of failure that a command would end with.
    #[serde(skip)]
    kind: Kind,
}

/// The time limit of one check. All checks end within 15 s, even if a server does not answer.
pub const BOUND: Duration = Duration::from_secs(12);

/// A terminal width that every user has.
const COLUMNS: usize = 80;

impl Check {
    fn good(subject: &str, found: impl Into<String>) -> Self {
        Self { subject: subject.into(), ok: true, found: found.into(), fix: None, kind: Kind::Unexpected }
    }

    fn bad(subject: &str, found: impl Into<String>, fix: impl Into<String>, kind: Kind) -> Self {
        Self { subject: subject.into(), ok: false, found: found.into(), fix: Some(fix.into()), kind }
    }

    /// A check from an error: its message with causes is the finding, its hint the fix. `kind` is used if it has none.
    fn from_error(subject: &str, error: &anyhow::Error, kind: Kind) -> Self {
        let text = render(error);
        let (found, hint) = text.split_once("\nhint: ").unwrap_or((&text, ""));
        let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let found = one_line(found.trim_start_matches("error: ")).replace(" caused by: ", ": ");
        let fix = match one_line(hint) {
            none if none.is_empty() && kind == Kind::Docker => {
                "start the engine, or set DOCKER_HOST to where it listens; only builds and logins need it"
                    .to_owned()
            }
            none if none.is_empty() => format!("put right what this says of {subject}"),
            fix => fix,
        };
        let kind = Some(kind_of(error)).filter(|own| *own != Kind::Unexpected).unwrap_or(kind);
        Self::bad(subject, found, fix, kind)
    }

    /// The lines to show: the finding, and the fix below it.
    fn lines(&self, subjects: usize) -> String {
        let sign = if self.ok { "ok" } else { "PROBLEM" };
        let text = wrap(&format!("{sign:<7}  {:<subjects$}  ", self.subject), &self.found, COLUMNS);
        match &self.fix {
            Some(fix) => format!("{text}{}", wrap("         fix: ", fix, COLUMNS)),
            None => text,
        }
    }
}

impl Doctor {
    /// Runs the command.
    ///
    /// # Errors
    /// There is at least one problem.
    pub async fn run(self, context: &Context) -> anyhow::Result<()> {
        let mut checks = vec![configuration(context)];
        let target = async {
            match &context.settings.registry {
                // Terraform and AWS are not checked, as a transfer does not use them.
                Some(registry) => {
                    let look = async { vec![other(context, registry).await] };
                    within(context, registry, Kind::Registry, look).await
                }
                None => {
                    let mut checks = vec![terraform()];
                    checks.extend(within(context, "AWS", Kind::Credentials, amazon(context)).await);
                    checks
                }
            }
        };
        let engine = async { vec![docker(context).await] };
        let engine = within(context, "container engine", Kind::Docker, engine);
        // In parallel, because each may use its full time limit.
        let (engine, target, upstreams) = tokio::join!(engine, target, upstreams(context));
        checks.extend(engine.into_iter().chain(target).chain(upstreams));
        checks.push(disk(context.paths.target()));

        let subjects = checks.iter().map(|check| check.subject.chars().count()).max().unwrap_or_default();
        let report = serde_json::json!({ "checks": checks });
        context
            .printer
            .results()
            .either(|| checks.iter().map(|check| check.lines(subjects)).collect(), &report)?;
        let problems: Vec<&Check> = checks.iter().filter(|check| !check.ok).collect();
        match problems.first() {
            None => Ok(()),
            Some(first) => {
                let count = units::count(problems.len(), "problem");
                Err(failure(first.kind, format!("{count} found, the first with {}", first.subject)))
            }
        }
    }
}

/// The result of `look`, or that there was no answer. Time spent waiting for the user does not count.
async fn within(
    context: &Context,
    subject: &str,
    kind: Kind,
    look: impl Future<Output = Vec<Check>>,
) -> Vec<Check> {
    let mut look = std::pin::pin!(look);
    loop {
        let began = std::time::Instant::now();
        match tokio::time::timeout(BOUND, &mut look).await {
            Ok(checks) => return checks,
            Err(_) if context.printer.progress().has_asked_since(began) => {}
            Err(_) => {
                let found = format!("no answer within {}", units::about(BOUND));
                let fix = "is the network up? a proxy is named by HTTPS_PROXY, a mirror by [upstream] in images.toml";
                return vec![Check::bad(subject, found, fix, kind)];
            }
        }
    }
}

/// Checks the credentials, and what they give access to.
async fn amazon(context: &Context) -> Vec<Check> {
    match context.aws(None).await {
        Ok(aws) => {
            let who = format!("{} in {}", aws.identity().arn, aws.region());
            let mut checks = vec![Check::good("credentials", who)];
            checks.extend(account(context, &aws).await);
            checks
        }
        Err(error) => vec![Check::from_error("credentials", &error, Kind::Credentials)],
    }
}

/// Checks whether the registry of `--registry` answers.
async fn other(context: &Context, registry: &str) -> Check {
    let asked = async {
        let target = Target::other(registry)?;
        let config = context.config()?;
        let (client, _) = target.client(context.sources(), &config)?;
        let name = config.repositories.first().map_or("lambda", String::as_str);
        let found = client.find(&target.repository(name)?.with_tag("latest")?).await;
        found.map(|_| ()).map_err(|error| registry_failure(error, Kind::Registry))
    };
    match asked.await {
        Ok(()) => Check::good(registry, "reachable"),
        Err(error) => Check::from_error(registry, &error, Kind::Registry),
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
        Err(error) => Check::from_error("images.toml", &error, Kind::Config),
    }
}

fn terraform() -> Check {
    match Program::find() {
        Ok(found) => Check::good("terraform", found.to_string()),
        Err(error) => Check::from_error("terraform", &error.into(), Kind::MissingTool),
    }
}

async fn docker(context: &Context) -> Check {
    let engine = async {
        let docker = Docker::find(context.settings.container_cli.as_deref()).await?;
        let platform = docker.engine_platform().await?;
        Ok(format!("{}, engine {platform}, {:?} builder", docker.name(), docker.builder()))
    };
    let error: DockerError = match engine.await {
        Ok(found) => return Check::good("container engine", found),
        Err(error) => error,
    };
    let error = RuntimeError::from(error);
    let (kind, hint) = (error.kind(), error.hint().map(str::to_owned));
    Check::from_error("container engine", &ending(kind, hint, error), Kind::Docker)
}

async fn account(context: &Context, aws: &Aws) -> Vec<Check> {
    let ecr = Ecr::new(aws);
    let mut checks = Vec::new();
    checks.push(match ecr.repositories().await {
        Ok(repositories) => Check::good("ECR", units::count(repositories.len(), "repository")),
        Err(error) => Check::from_error("ECR", &error, Kind::Registry),
    });
    checks.push(match ecr.account_setting("BLOB_MOUNTING").await {
        Ok(value) if value == "ENABLED" => Check::good("blob mounting", "on: shared layers are sent once"),
        Ok(_) => Check::good(
            "blob mounting",
            "off: shared layers are sent once for each repository (blob_mounting in images.toml)",
        ),
        Err(error) => Check::from_error("blob mounting", &error, Kind::Registry),
    });
    checks.push(match state_object(context, aws).await {
        Ok(StateObject { bucket, .. }) => match StateBucket::new(aws, &bucket).check().await {
            Ok(found) => {
                let encryption = found.encryption.map(|key| format!(", encrypted with {key}"));
                let advice = found.problems.iter().map(|problem| format!("; {problem}")).collect::<String>();
                Check::good("state bucket", format!("{bucket}{}{advice}", encryption.unwrap_or_default()))
            }
            Err(error) => Check::from_error("state bucket", &error, Kind::Config),
        },
        Err(error) => Check::from_error("state bucket", &error, Kind::Config),
    });
    checks
}

/// Sends one HEAD to each source registry, to see whether it can be reached and how many pulls Docker Hub has left.
async fn upstreams(context: &Context) -> Vec<Check> {
    let Ok(config) = context.config() else { return Vec::new() };
    let Ok(client) = context.sources().client(&config) else { return Vec::new() };
    let images = config.images.iter().map(|image| &image.source);
    let mut sources: Vec<&Reference> = Vec::new();
    for source in images.chain(config.runtimes.iter().map(|runtime| &runtime.base)) {
        if sources.iter().all(|known| known.registry() != source.registry()) {
            sources.push(source);
        }
    }
    let looks = sources.into_iter().map(|source| {
        let look = async { vec![upstream(&client, source).await] };
        within(context, source.registry(), Kind::Upstream, look)
    });
    join_all(looks).await.concat()
}

async fn upstream(client: &Client, source: &Reference) -> Check {
    let subject = source.registry();
    match client.find(source).await {
        Ok(Some(_)) => match client.rate_limit(subject) {
            Some(limit) => {
                let left = format!("reachable, {} of {} pulls left", limit.remaining, limit.limit);
                Check::good(subject, left)
            }
            None => Check::good(subject, "reachable"),
        },
        Ok(None) => {
            Check::bad(subject, format!("{source} does not exist"), "correct images.toml", Kind::Config)
        }
        Err(error) => Check::from_error(subject, &registry_failure(error, Kind::Upstream), Kind::Upstream),
    }
}

/// Docker builds need disk space. Mirrored images are not stored on disk.
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
                Kind::Docker,
            )
        }
        Err(error) => Check::bad("disk", error.to_string(), "is the disk mounted?", Kind::Docker),
    }
}
