//! `list-images`.

mod listed;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws::signing::{self, Signing};
use clap::Args;
use failure::Kind;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use images_config::lock::Lock;
use images_config::{Config, RUNTIMES_REPOSITORY, support};
use registry::mirror::{Action, Mirror, Plan};
use registry::{Client, Reference};

use self::listed::Listed;
use super::Context;
use crate::min_age;
use crate::target::Target;
use crate::transfer::{held, hold, jobs, not_compared, registry_failure, short, why_unsigned};
use crate::trust::Trust;
use crate::ui::{Table, units};

/// Images checked in parallel.
const AT_ONCE: usize = 16;

/// The upstream column of a runtime, which has no upstream.
const BUILT_HERE: &str = "built here";
/// The upstream column of an image that is not at the target.
const ABSENT: &str = "absent";

/// The upstream column of an image whose upstream does not answer.
const UNKNOWN: &str = "unknown";
/// The upstream column of an image copied for other platforms than images.toml names.
const OTHER_PLATFORMS: &str = "other platforms";

/// List every repository and image with digest, size and age, and whether it still equals upstream
#[derive(Debug, Default, Args)]
#[command(
    after_help = "Examples:\n  cargo xtask list-images REGION=eu-west-1\n  cargo xtask list-images --uris\n  cargo xtask list-images --format json"
)]
pub struct ListImages {
    /// Only the repositories' URIs, as `aws ecr describe-repositories --query "repositories[*].repositoryUri"`
    #[arg(long)]
    uris: bool,
    /// Show every tag of every repository, not only those in images.toml
    #[arg(long)]
    all: bool,
}

impl ListImages {
    /// Runs the command.
    ///
    /// # Errors
    /// The registry or AWS does not answer.
    pub async fn run(self, context: &Context) -> anyhow::Result<()> {
        let config = context.config()?;
        let target = context.target(&config).await?;
        if self.uris {
            return uris(context, &config, &target).await;
        }
        let upstream = context.interrupt.guard(compare(context, &config, &target)).await?;
        let mut listed = match &target.account {
            Some(_) => in_account(context, &config, &target, &upstream, self.all).await?,
            None => in_registry(context, &config, &target, &upstream).await?,
        };
        note_signers(context, &target, &upstream, &mut listed)?;
        context.interrupt.guard(ask_signing(&config, &target, &mut listed)).await?;
        for image in &listed {
            if let (Some(tag), Some(signing @ Signing::Failed { .. })) = (&image.tag, &image.signing) {
                why_unsigned(tag, signing).into_iter().for_each(|why| context.printer.warn(why));
            }
        }
        let lock = context.lock()?;
        note_runtimes(&config, lock.as_ref(), &mut listed);
        let waiting = min_age::waiting(&config, lock.as_ref());
        for image in listed.iter_mut().filter(|_| !waiting.is_empty()) {
            image.waiting = source(&config, image).and_then(|source| waiting.get(source)).cloned();
        }
        let mut table = Table::new(["REPOSITORY", "TAG", "SIZE", "AGE", "UPSTREAM", "DIGEST"]);
        let dash = || "-".to_owned();
        for image in &listed {
            table.row([
                image.uri.clone(),
                image.tag.clone().unwrap_or_else(dash),
                image.size.map_or_else(dash, units::bytes),
                image.age.map_or_else(dash, |age| units::age(Duration::from_secs(age))),
                image.notes(),
                image.digest.clone().unwrap_or_else(dash),
            ]);
        }
        context.printer.results().data(&table, &serde_json::json!({ "images": listed }))?;
        for (image, hold) in
            listed.iter().filter_map(|image| Some((image.tag.as_ref()?, image.held.as_ref()?)))
        {
            context.printer.line(held(image, hold));
        }
        waiting.values().for_each(|waiting| context.printer.line(waiting.to_string()));
        Ok(())
    }
}

/// Records the signer of each image's source, and warns if a required signature is missing.
fn note_signers(
    context: &Context,
    target: &Target,
    upstream: &BTreeMap<String, Compared>,
    listed: &mut [Listed],
) -> anyhow::Result<()> {
    for image in listed {
        let tag = image.tag.as_deref().unwrap_or_default();
        let name = format!("{}:{tag}", target.repository(&image.repository)?.repository());
        let Some(signed) = upstream.get(&name).and_then(|found| found.signed.as_ref()) else { continue };
        image.signed = Some(signed.is_ok());
        image.signed_by = signed.as_ref().ok().cloned();
        if let Err(error) = signed {
            context.printer.warn(format!("{name}: {error}"));
        }
    }
    Ok(())
}

/// Records for each runtime whether its base is still supported, and at which build it is held.
fn note_runtimes(config: &Config, lock: Option<&Lock>, listed: &mut [Listed]) {
    let today = support::today();
    for image in listed.iter_mut().filter(|image| image.repository == RUNTIMES_REPOSITORY) {
        let runtime = config.runtimes.iter().find(|runtime| Some(&runtime.name) == image.tag.as_ref());
        let day = runtime.and_then(|runtime| support::ended(&runtime.base, today));
        image.base_support_ended = day.map(|day| day.to_string());
        if image.upstream == BUILT_HERE {
            image.held = image.tag.as_ref().and_then(|tag| hold(lock, tag));
        }
    }
}

/// The source of an image, or the base of a runtime, in images.toml.
fn source<'a>(config: &'a Config, listed: &Listed) -> Option<&'a Reference> {
    let tag = listed.tag.as_ref()?;
    let image = |image: &&images_config::Image| image.repository == listed.repository && image.tag == *tag;
    let runtime = config.enabled_runtimes().find(|runtime| runtime.name == *tag);
    let runtime = runtime.filter(|_| listed.repository == RUNTIMES_REPOSITORY);
    config.images.iter().find(image).map(|image| &image.source).or(runtime.map(|runtime| &runtime.base))
}

/// Reads the status of ECR's signature for each runtime.
async fn ask_signing(config: &Config, target: &Target, listed: &mut [Listed]) -> anyhow::Result<()> {
    let (Some(account), Some(profile)) = (&target.account, &config.registry.sign_runtimes) else {
        return Ok(());
    };
    let runtimes = listed.iter_mut().filter(|image| image.upstream == BUILT_HERE);
    let asked = runtimes.filter_map(|image| {
        let digest = image.digest.clone()?;
        Some(async move {
            let found = signing::signing(&account.aws, &image.repository, &digest, &profile.arn).await?;
            image.signing = Some(found);
            anyhow::Ok(())
        })
    });
    let asked: Vec<_> = asked.collect();
    stream::iter(asked).buffer_unordered(AT_ONCE).try_collect().await
}

async fn uris(context: &Context, config: &Config, target: &Target) -> anyhow::Result<()> {
    let uris: Vec<String> = match &target.account {
        Some(account) => {
            account.ecr.repositories().await?.into_values().map(|repository| repository.uri).collect()
        }
        None => config.repositories.iter().map(|name| target.name(name)).collect::<Result<_, _>>()?,
    };
    let report = serde_json::json!({ "uris": uris });
    context.printer.results().either(|| uris.iter().map(|uri| format!("{uri}\n")).collect(), &report)
}

/// The comparison of a mirrored image with its source.
struct Compared {
    upstream: String,
    /// The signer of its source, or why a required signature is missing.
    signed: Option<Result<String, registry::Error>>,
}

/// `repository:tag` of each mirrored image, compared with upstream.
async fn compare(
    context: &Context,
    config: &Config,
    target: &Target,
) -> anyhow::Result<BTreeMap<String, Compared>> {
    let (client, _) = target.client(context.sources(), config)?;
    let jobs = jobs(config, None, target)?;
    let mapping = context.mapping();
    let trust = Trust::new(context, config, &client, &mapping)?;
    let plan = Mirror::new(client).mapping(mapping).plan(jobs).await;
    let signed = plan.images.iter().map(|planned| {
        let trust = trust.as_ref();
        async move {
            match trust {
                Some(trust) => trust.signer_of(planned).await,
                None => None,
            }
        }
    });
    let signed: Vec<_> = signed.collect();
    let signed: Vec<_> = stream::iter(signed).buffered(AT_ONCE).collect().await;
    for warning in unknown(&plan) {
        context.printer.warn(warning);
    }
    let compared = plan.images.iter().zip(signed).map(|(planned, signed)| {
        let upstream = match &planned.action {
            // As of the last run: upstream could not be read since.
            Action::UpToDate { .. } if planned.unanswered.is_some() => UNKNOWN,
            Action::UpToDate { .. } | Action::Complete { .. } => "same",
            Action::Copy(_) => ABSENT,
            Action::Replace { same_source: true, .. } => OTHER_PLATFORMS,
            Action::Replace { .. } => "behind",
            Action::Failed(_) => UNKNOWN,
        };
        (short(&planned.job), Compared { upstream: upstream.to_owned(), signed })
    });
    Ok(compared.collect())
}

/// Why some images were not compared, one line per registry.
fn unknown(plan: &Plan) -> Vec<String> {
    let failed = plan.images.iter().filter_map(|planned| {
        let error = match &planned.action {
            Action::Failed(error) => error,
            _ => planned.unanswered.as_ref()?,
        };
        Some((error, short(&planned.job)))
    });
    not_compared(failed)
}

async fn in_account(
    context: &Context,
    config: &Config,
    target: &Target,
    upstream: &BTreeMap<String, Compared>,
    all: bool,
) -> anyhow::Result<Vec<Listed>> {
    let Some(account) = &target.account else { return Ok(Vec::new()) };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let (client, _) = target.client(context.sources(), config)?;
    let repositories = account.ecr.repositories().await?;
    let images =
        futures_util::future::try_join_all(repositories.keys().map(|name| account.ecr.images(name))).await?;
    let mut listed = Vec::new();
    for (repository, images) in repositories.values().zip(images) {
        let before = listed.len();
        let mut referrers: BTreeMap<&str, usize> = BTreeMap::new();
        for subject in images.iter().filter_map(|image| image.subject.as_deref()) {
            *referrers.entry(subject).or_default() += 1;
        }
        let platforms = platforms(&client, &target.repository(&repository.name)?, &images).await?;
        for image in &images {
            let below = platforms.get(&image.digest).into_iter().flatten();
            let about = below.chain([&image.digest]).filter_map(|digest| referrers.get(digest.as_str()));
            let about: usize = about.sum();
            for tag in &image.tags {
                let full = format!("{}:{tag}", repository.name);
                let runtime =
                    repository.name == RUNTIMES_REPOSITORY && config.runtimes.iter().any(|r| r.name == *tag);
                let verdict = match upstream.get(&full) {
                    Some(compared) => compared.upstream.clone(),
                    None if runtime => BUILT_HERE.to_owned(),
                    None => String::new(),
                };
                if verdict.is_empty() && !all && repository.name == RUNTIMES_REPOSITORY {
                    continue; // A tag of the build itself.
                }
                listed.push(Listed {
                    repository: repository.name.clone(),
                    uri: repository.uri.clone(),
                    tag: Some(tag.clone()),
                    digest: Some(image.digest.clone()),
                    size: Some(image.size),
                    age: u64::try_from(image.pushed).ok().map(|pushed| now.saturating_sub(pushed)),
                    // The comparison with upstream does not see archived images.
                    upstream: if image.archived && verdict == ABSENT { String::new() } else { verdict },
                    referrers: Some(about),
                    archived: image.archived,
                    ..Listed::default()
                });
            }
        }
        if listed.len() == before {
            listed.push(Listed {
                repository: repository.name.clone(),
                uri: repository.uri.clone(),
                ..Listed::default()
            });
        }
        listed[before..].sort_by(|a, b| a.tag.cmp(&b.tag));
    }
    Ok(listed)
}

/// The images in each tagged index, for counting their referrers. Indexes are read only if a referrer's subject has no tag.
async fn platforms(
    client: &Client,
    repository: &Reference,
    images: &[aws::ecr::Image],
) -> anyhow::Result<BTreeMap<String, Vec<String>>> {
    let tagged = || images.iter().filter(|image| !image.tags.is_empty());
    let known = |subject: &String| tagged().any(|image| image.digest == *subject);
    if images.iter().filter_map(|image| image.subject.as_ref()).all(known) {
        return Ok(BTreeMap::new());
    }
    let reads = tagged().filter_map(|image| Some((image, image.digest.parse().ok()?)));
    let reads = reads.map(|(image, digest)| async move {
        let found = client.manifest(&repository.with_digest(digest)).await;
        let index = found.map_err(|error| registry_failure(error, Kind::Registry))?;
        let index = index.and_then(|manifest| manifest.index().ok());
        let children = index.into_iter().flat_map(|index| index.manifests);
        anyhow::Ok((image.digest.clone(), children.map(|child| child.digest.to_string()).collect()))
    });
    let reads: Vec<_> = reads.collect();
    stream::iter(reads).buffered(AT_ONCE).try_collect().await
}

/// Registries other than ECR report neither sizes nor ages.
async fn in_registry(
    context: &Context,
    config: &Config,
    target: &Target,
    upstream: &BTreeMap<String, Compared>,
) -> anyhow::Result<Vec<Listed>> {
    let (client, _) = target.client(context.sources(), config)?;
    let failed = |error| registry_failure(error, Kind::Registry);
    let mut looks = Vec::new();
    for name in &config.repositories {
        let repository = target.repository(name)?;
        let wanted =
            config.images.iter().filter(|image| image.repository == *name).map(|image| image.tag.clone());
        let runtimes =
            config.enabled_runtimes().filter(|_| name == RUNTIMES_REPOSITORY).map(|r| r.name.clone());
        for tag in wanted.chain(runtimes) {
            let (client, image) = (&client, repository.with_tag(&tag)?);
            looks.push(async move {
                let found = client.head(&image).await.map_err(failed)?.map(|found| found.digest);
                let referrers = match found {
                    Some(digest) => {
                        let found = registry::lists::referrers_of_all(client, &image, digest).await;
                        Some(found.map_err(failed)?.len())
                    }
                    None => None,
                };
                let verdict = upstream.get(&format!("{}:{tag}", image.repository()));
                let verdict = verdict.map(|compared| compared.upstream.clone());
                anyhow::Ok(Listed {
                    repository: name.clone(),
                    uri: target.name(name)?,
                    digest: found.map(|digest| digest.to_string()),
                    tag: Some(tag),
                    upstream: verdict.unwrap_or_else(|| BUILT_HERE.to_owned()),
                    referrers,
                    ..Listed::default()
                })
            });
        }
    }
    stream::iter(looks).buffered(AT_ONCE).try_collect().await
}
