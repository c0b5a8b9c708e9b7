//! `outdated`.

use clap::Args;
use failure::{Kind, failure};
use futures_util::stream::{self, StreamExt as _};
use images_config::lock::waiting::Waiting;
use images_config::{Config, support, versions};
use jiff::Timestamp;
use registry::{Client, Manifest, Reference};
use serde::Serialize;

use super::Context;
use crate::exit_codes::Ending;
use crate::min_age;
use crate::target::Target;
use crate::transfer::{not_compared, only};
use crate::ui::{Table, units};

/// Repositories read in parallel.
const AT_ONCE: usize = 16;
/// Maximum number of newer tags in the document, the newest ones.
const NAMED: usize = 20;

/// Show for each image the newer tags that its source has, its age, and when the support of a runtime's base ends
///
/// Tags of the same form are compared: v1.2.3 with v1.10.0, 7.0.12-alpine with 7.2.1-alpine, 2023-01-01 with 2023-02-01; an -rc is only
/// compared with an -rc. Listing tags does not count as a pull. The age is that of the image in your registry, if that can be asked.
/// Nothing is changed: to use a newer tag, write it into images.toml and run `lock --update NAME`. `lock --check` shows tags whose digest
/// has changed.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo xtask outdated REGION=eu-west-1\n  cargo xtask outdated curl lambda:python3.12\n  cargo xtask outdated --exit-code --format json"
)]
pub struct Outdated {
    /// Only these images and runtimes: repository, repository:tag or runtime
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Exit with 11 if there is a newer tag, or if a base's support has ended
    #[arg(long)]
    exit_code: bool,
}

/// An image or a runtime's base, in `--format json`.
#[derive(Debug, Serialize)]
struct CheckedImage {
    /// `repository:tag`, or `lambda:runtime`.
    name: String,
    /// The source, or the base.
    source: String,
    /// The newest tag of the same form.
    newest: Option<String>,
    /// The newest one with the same first number.
    compatible: Option<String>,
    /// Number of newer tags.
    newer: usize,
    /// The newest of them, the newest last.
    tags: Vec<String>,
    /// Whether its tag contains a version, so that other tags can be newer.
    versioned: bool,
    /// Seconds since the image was created, if your registry has it and the image contains the time.
    age: Option<u64>,
    /// The day on which a base's support ends.
    support_ends: Option<String>,
    /// Whether that day is in the past.
    unsupported: bool,
    /// Why the source could not be read.
    error: Option<String>,
    /// The present digest of its tag, if it is too new to use.
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting: Option<Waiting>,
}

/// An image to check.
struct ImageToCheck {
    name: String,
    source: Reference,
    /// The copy in the target registry.
    copy: Option<Reference>,
    is_base: bool,
}

impl Outdated {
    /// Runs the command.
    ///
    /// # Errors
    /// A name is unknown, or a source does not answer. The results of the others are shown first.
    pub async fn run(self, context: &Context) -> anyhow::Result<Ending> {
        let config = only(context.config()?, &self.names)?;
        let target = match context.interrupt.guard(context.target(&config)).await {
            Ok(target) => Some(target),
            Err(error) => {
                context.interrupt.check()?;
                context.printer.warn(format!("ages are not shown: {error:#}"));
                None
            }
        };
        let client = match &target {
            Some(target) => target.client(context.sources(), &config)?.0,
            None => context.sources().client(&config)?,
        };
        let asked = asked(&config, target.as_ref())?;
        let lane = context.printer.progress().lane("asking for tags");
        let looks = stream::iter(&asked).map(|asked| check(&client, asked)).buffered(AT_ONCE).collect();
        let looked: Vec<(CheckedImage, Option<registry::Error>)> =
            context.interrupt.guard(async { Ok(looks.await) }).await?;
        drop(lane);
        let names = looked.iter().filter_map(|(known, error)| Some((error.as_ref()?, known.name.clone())));
        let silent = not_compared(names);
        let mut known: Vec<CheckedImage> = looked.into_iter().map(|(known, _)| known).collect();
        let waiting = min_age::waiting(&config, context.lock()?.as_ref());
        for (known, asked) in known.iter_mut().zip(&asked) {
            known.waiting = waiting.get(&asked.source).cloned();
        }
        context.printer.results().data(&table(&known), &serde_json::json!({ "images": known }))?;
        waiting.values().for_each(|waiting| context.printer.line(waiting.to_string()));
        if !silent.is_empty() {
            return Err(failure(Kind::Upstream, silent.join("\n")));
        }
        let outdated = known.iter().filter(|known| known.newer > 0).count();
        let unsupported = known.iter().filter(|known| known.unsupported).count();
        context.printer.line(match (outdated, unsupported) {
            (0, 0) => "no source has a newer tag of the same form".to_owned(),
            (newer, 0) => format!("{} with a newer tag", units::count(newer, "image")),
            (newer, ended) => format!(
                "{} with a newer tag, {} whose support has ended",
                units::count(newer, "image"),
                units::count(ended, "base")
            ),
        });
        let changes = self.exit_code && outdated + unsupported > 0;
        Ok(if changes { Ending::Changes } else { Ending::Done })
    }
}

fn asked(config: &Config, target: Option<&Target>) -> anyhow::Result<Vec<ImageToCheck>> {
    let mut asked = Vec::new();
    for image in &config.images {
        let copy = target.map(|target| {
            target.repository(&image.repository)?.with_tag(&image.tag).map_err(anyhow::Error::from)
        });
        asked.push(ImageToCheck {
            name: format!("{}:{}", image.repository, image.tag),
            source: image.source.clone(),
            copy: copy.transpose()?,
            is_base: false,
        });
    }
    for runtime in config.enabled_runtimes() {
        asked.push(ImageToCheck {
            name: format!("{}:{}", images_config::RUNTIMES_REPOSITORY, runtime.name),
            source: runtime.base.clone(),
            copy: None,
            is_base: true,
        });
    }
    Ok(asked)
}

/// The data about an image, and why its source could not be read.
async fn check(client: &Client, asked: &ImageToCheck) -> (CheckedImage, Option<registry::Error>) {
    let age = async {
        match &asked.copy {
            Some(copy) => age(client, copy).await,
            None => None,
        }
    };
    let (tags, age) = tokio::join!(registry::lists::tags(client, &asked.source), age);
    let (tags, error) = match tags {
        Ok(tags) => (tags, None),
        Err(error) => (Vec::new(), Some(error)),
    };
    let newer = asked.source.tag().and_then(|tag| versions::newer(tag, tags.iter().map(String::as_str)));
    let ends = asked.is_base.then(|| support::ends(&asked.source)).flatten();
    let versioned = newer.is_some();
    let newer = newer.unwrap_or_default();
    let known = CheckedImage {
        name: asked.name.clone(),
        source: asked.source.to_string(),
        newest: newer.newest().map(str::to_owned),
        newer: newer.tags.len(),
        tags: newer.tags[newer.tags.len().saturating_sub(NAMED)..].to_vec(),
        compatible: newer.compatible,
        versioned,
        age,
        support_ends: ends.map(|day| day.to_string()),
        unsupported: ends.is_some_and(|day| day < support::today()),
        error: error.as_ref().map(ToString::to_string),
        waiting: None,
    };
    (known, error)
}

/// Seconds since an image was created, by its configuration. `None` if it does not exist or contains no time. For an index, by its
/// image for the grid's own platform, otherwise by its first one.
async fn age(client: &Client, copy: &Reference) -> Option<u64> {
    let mut manifest: Manifest = client.manifest(copy).await.ok()??;
    if let Ok(index) = manifest.index() {
        let child = match manifest.select(&images_config::default_platform()) {
            Ok(child) => child.digest,
            Err(_) => index.manifests.first()?.digest,
        };
        manifest = client.manifest(&copy.with_digest(child)).await.ok()??;
    }
    let config = manifest.image().ok()?.config?;
    let bytes = registry::blobs::bytes(client, copy, &config).await.ok()?;
    let made = serde_json::from_slice::<serde_json::Value>(&bytes).ok()?;
    let made: Timestamp = made["created"].as_str()?.parse().ok()?;
    // Some builders write 1970, so that equal inputs give equal images.
    let age = Timestamp::now().duration_since(made);
    (made.as_second() > 0).then(|| u64::try_from(age.as_secs()).ok()).flatten()
}

fn table(known: &[CheckedImage]) -> Table {
    let mut table = Table::new(["IMAGE", "SOURCE", "COMPATIBLE", "NEWEST", "AGE", "SUPPORT"]);
    let dash = || "-".to_owned();
    for image in known {
        let newest = match (&image.newest, &image.error, image.versioned) {
            (Some(tag), ..) => tag.clone(),
            (None, Some(_), _) => "unknown".to_owned(),
            (None, None, true) => dash(),
            (None, None, false) => "no version".to_owned(),
        };
        let support = match (&image.support_ends, image.unsupported) {
            (Some(day), true) => format!("ended {day}"),
            (Some(day), false) => format!("until {day}"),
            (None, _) => dash(),
        };
        table.row([
            image.name.clone(),
            image.source.clone(),
            image.compatible.clone().unwrap_or_else(dash),
            newest,
            image.age.map_or_else(dash, |age| units::age(std::time::Duration::from_secs(age))),
            support,
        ]);
    }
    table
}
