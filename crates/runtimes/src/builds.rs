//! The builds of a runtime at the registry, what changed since, and rollbacks.

use futures_util::StreamExt as _;
use jiff::Timestamp;
use registry::{Digest, Kind, Manifest, Reference};
use serde::{Deserialize, Serialize};

use super::history::{Cause, History};
use super::key::{Change, INPUTS_LABEL, Input, Inputs, KEY_LABEL};
use super::planned::{Planned, tagged};
use super::publish::move_tag;
use super::{Context, LOCAL_REPOSITORY, RuntimeError, build_tag, key_tag};

/// How many builds are read in parallel.
const PARALLEL: usize = 8;

/// One build of a runtime.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Build {
    /// `<runtime>-sha256-<digest12>`.
    pub tag: String,
    /// The manifest's or index's digest.
    pub digest: Digest,
    /// When the runtime's tag first moved to it; `None` before [`dated`] or if no such move is recorded.
    pub first_run: Option<Timestamp>,
    /// Its build key.
    pub key: Option<String>,
    /// Its base's upstream name.
    pub base_name: Option<String>,
    /// Its base's digest.
    pub base_digest: Option<String>,
    /// Whether the grid runs it: the runtime tag refers to it.
    pub is_current: bool,
    /// Whether its key tag refers to it: of several builds of the same inputs, the one that is used.
    pub is_keyed: bool,
}

/// A move of a runtime tag back to an earlier build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rollback {
    /// The runtime.
    pub name: String,
    /// The build that its tag refers to now.
    pub from: Option<Digest>,
    /// The build to go back to, on which `images.lock` has to hold the runtime.
    pub to: Digest,
    /// The tag of that build.
    pub build_tag: String,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Config {
    #[serde(default)]
    config: Inner,
}

#[derive(Debug, Default, Deserialize)]
struct Inner {
    #[serde(rename = "Labels", default)]
    labels: Option<std::collections::BTreeMap<String, String>>,
}

impl Config {
    /// All labels.
    pub(super) fn labels(self) -> std::collections::BTreeMap<String, String> {
        self.config.labels.unwrap_or_default()
    }

    fn label(&self, name: &str) -> Option<&String> {
        // A Dockerfile may set a label to the empty string.
        self.config.labels.as_ref()?.get(name).filter(|value| !value.is_empty())
    }
}

/// Reads an image's configuration; for an index, that of its first image.
pub(super) async fn config(
    context: &Context,
    image: &Reference,
    manifest: Manifest,
) -> Result<Config, RuntimeError> {
    let unreadable = |reason: String| RuntimeError::Unreadable { image: image.to_string(), reason };
    let mut manifest = manifest;
    if manifest.kind() == Kind::Index {
        let index = manifest.index().map_err(|error| unreadable(error.to_string()))?;
        let child = index.manifests.first().ok_or_else(|| unreadable("an empty index".to_owned()))?;
        let child = image.with_digest(child.digest);
        let found = context.client.manifest(&child).await?;
        manifest = found.ok_or_else(|| unreadable(format!("it has no manifest {child}")))?;
    }
    let parsed = manifest.image().map_err(|error| unreadable(error.to_string()))?;
    let config = parsed.config.ok_or_else(|| unreadable("it has no configuration".to_owned()))?;
    let bytes = registry::blobs::bytes(&context.client, image, &config).await?;
    serde_json::from_slice(&bytes).map_err(|error| unreadable(error.to_string()))
}

/// Whether `tag` is a build tag of this runtime.
pub fn is_build_of(runtime: &str, tag: &str) -> bool {
    let rest = tag.strip_prefix(runtime).and_then(|rest| rest.strip_prefix("-sha256-"));
    rest.is_some_and(|rest| rest.len() == 12 && rest.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// The builds of a runtime at the registry. An image does not contain its build time: that would change its digest each time.
///
/// # Errors
/// The registry cannot be reached, or a build tag refers to something other than an image.
pub async fn builds(context: &Context, runtime: &str) -> Result<Vec<Build>, RuntimeError> {
    let Some(repository) = &context.repository else { return Ok(Vec::new()) };
    let mut tags = registry::lists::tags(&context.client, repository).await?;
    tags.retain(|tag| is_build_of(runtime, tag));
    let current =
        context.client.head(&tagged(repository, runtime, runtime)?).await?.map(|found| found.digest);
    let each = tags.into_iter().map(|tag| async move {
        let image = tagged(repository, runtime, &tag)?;
        // The tag was deleted after it was listed.
        let Some(manifest) = context.client.manifest(&image).await? else { return Ok(None) };
        let digest = manifest.digest();
        let config = config(context, &image, manifest).await?;
        let key = config.label(KEY_LABEL).cloned();
        let is_keyed = match &key {
            Some(key) => {
                let by_key = tagged(repository, runtime, &key_tag(runtime, key))?;
                context.client.head(&by_key).await?.is_some_and(|found| found.digest == digest)
            }
            None => false,
        };
        Ok::<_, RuntimeError>(Some(Build {
            tag,
            digest,
            first_run: None,
            key,
            base_name: config.label("org.opencontainers.image.base.name").cloned(),
            base_digest: config.label("org.opencontainers.image.base.digest").cloned(),
            is_current: current == Some(digest),
            is_keyed,
        }))
    });
    let found: Vec<_> = futures_util::stream::iter(each).buffered(PARALLEL).collect().await;
    let mut builds = found.into_iter().filter_map(Result::transpose).collect::<Result<Vec<_>, _>>()?;
    builds.sort_by(|a, b| a.tag.cmp(&b.tag));
    Ok(builds)
}

/// Adds to each build when the runtime's tag first moved to it. The newest comes first, builds that never ran come last.
pub fn dated(mut builds: Vec<Build>, history: &History) -> Vec<Build> {
    for build in &mut builds {
        let moves = history.moves().iter().filter(|made| made.to == Some(build.digest));
        build.first_run = moves.map(|made| made.at).min();
    }
    builds.sort_by(|a, b| b.first_run.cmp(&a.first_run).then_with(|| a.tag.cmp(&b.tag)));
    builds
}

/// How a runtime's tag moved, as far as it is recorded or visible.
///
/// # Errors
/// The registry cannot be reached, or the record cannot be read.
pub async fn history(context: &Context, runtime: &str) -> Result<History, RuntimeError> {
    let Some(repository) = &context.repository else { return Ok(History::default()) };
    let by_name = tagged(repository, runtime, runtime)?;
    let (found, recorded) =
        tokio::join!(context.client.head(&by_name), History::read(context, repository, runtime));
    Ok(recorded?.now(found?.map(|found| found.digest)))
}

/// The build to roll back to: `build` (its tag, its digest or the digest's first characters), else the build that the tag referred to
/// before its last move.
///
/// # Errors
/// There is no such build, no move is recorded, or the registry cannot be reached.
pub async fn plan_rollback(
    context: &Context,
    runtime: &str,
    build: Option<&str>,
) -> Result<Rollback, RuntimeError> {
    let no_build =
        |wanted: &str| RuntimeError::NoBuild { runtime: runtime.to_owned(), wanted: wanted.to_owned() };
    let Some(repository) = &context.repository else { return Err(no_build("without a registry")) };
    let rollback = |from, to: Digest, build_tag| Rollback { name: runtime.to_owned(), from, to, build_tag };
    let Some(wanted) = build else {
        let history = history(context, runtime).await?;
        let from = history.moves().last().and_then(|last| last.to);
        let to =
            history.before().ok_or_else(|| RuntimeError::NoEarlierBuild { runtime: runtime.to_owned() })?;
        return Ok(rollback(from, to, build_tag(runtime, &to)));
    };
    let by_name = tagged(repository, runtime, runtime)?;
    let from = context.client.head(&by_name).await?.map(|found| found.digest);
    let builds = builds(context, runtime).await?;
    let chosen = choose(&builds, wanted).ok_or_else(|| no_build(wanted))?;
    Ok(rollback(from, chosen.digest, chosen.tag.clone()))
}

/// Moves a runtime back with one manifest PUT; returns `false` if nothing had to be moved. The caller writes the hold into `images.lock`.
///
/// # Errors
/// The build no longer exists, the tag was moved by another user or run in the meantime, or the registry cannot be reached.
pub async fn roll_back(context: &Context, rollback: &Rollback) -> Result<bool, RuntimeError> {
    let Some(repository) = &context.repository else { return Ok(false) };
    let Some(manifest) = context.client.manifest(&repository.with_digest(rollback.to)).await? else {
        let image = tagged(repository, &rollback.name, &rollback.name)?.to_string();
        return Err(RuntimeError::Gone { image, digest: rollback.to });
    };
    move_tag(context, repository, &rollback.name, rollback.from, &manifest, Cause::RolledBack).await
}

/// The build that `wanted` identifies; `None` if the characters match two builds.
fn choose<'a>(builds: &'a [Build], wanted: &str) -> Option<&'a Build> {
    let hex = wanted.strip_prefix("sha256:").unwrap_or(wanted);
    let is_it =
        |build: &&Build| build.tag == wanted || (hex.len() >= 4 && build.digest.hex().starts_with(hex));
    let mut found = builds.iter().filter(is_it);
    found.next().filter(|_| found.next().is_none())
}

/// How a plan differs from the current build of a runtime.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// There is no build to compare with.
    Absent,
    /// The current image was not built by this tool, or was built by another version of it.
    Foreign,
    /// What changed; empty if the inputs are the same.
    Changes(Vec<Change>),
}

/// How many changes are named in a reason.
const NAMED: usize = 3;

/// The first changes, for the plan's line, with digests shortened to 12 digits. `--why` shows all.
pub(super) fn brief(changes: &[Change]) -> String {
    let short = |value: &Option<String>| {
        let digest = value.as_deref().and_then(|value| value.parse::<Digest>().ok());
        digest.map(|digest| format!("sha256:{}", digest.short())).or_else(|| value.clone())
    };
    // The Dockerfile is also a file of its context.
    let dockerfile = changes.iter().find(|change| change.what == Input::Dockerfile);
    let is_again = |change: &&Change| match (&change.what, &change.new, dockerfile.map(|change| &change.new))
    {
        (Input::File(_), Some(file), Some(Some(dockerfile))) => file.ends_with(dockerfile.as_str()),
        _ => false,
    };
    let changes: Vec<&Change> = changes.iter().filter(|change| !is_again(change)).collect();
    let said = changes.iter().take(NAMED).map(|change| {
        Change { old: short(&change.old), new: short(&change.new), what: change.what.clone() }.to_string()
    });
    let mut said: Vec<String> = said.collect();
    match changes.len().saturating_sub(NAMED) {
        0 if changes.is_empty() => "the tag of its build key is gone".to_owned(),
        0 => said.join("; "),
        more => {
            said.push(format!("and {more} more"));
            said.join("; ")
        }
    }
}

/// The digest of the current build's base, if it was built on `base`: what the last run resolved that name to.
///
/// # Errors
/// The registry cannot be reached, or its data cannot be read.
pub(super) async fn last_base(
    context: &Context,
    runtime: &str,
    base: &Reference,
) -> Result<Option<Digest>, RuntimeError> {
    let Some(repository) = &context.repository else { return Ok(None) };
    let image = tagged(repository, runtime, runtime)?;
    let Some(manifest) = context.client.manifest(&image).await? else { return Ok(None) };
    let config = config(context, &image, manifest).await?;
    if config.label("org.opencontainers.image.base.name") != Some(&base.to_string()) {
        return Ok(None);
    }
    Ok(config.label("org.opencontainers.image.base.digest").and_then(|digest| digest.parse().ok()))
}

/// Compares the inputs of a plan with those of the build that the runtime tag refers to: at the registry, else in the container client's
/// store.
///
/// # Errors
/// The registry or the engine cannot be reached, or its data cannot be read.
pub async fn why(context: &Context, planned: &Planned) -> Result<Why, RuntimeError> {
    let label = match &context.repository {
        Some(repository) => {
            let image = tagged(repository, &planned.name, &planned.name)?;
            let Some(manifest) = context.client.manifest(&image).await? else { return Ok(Why::Absent) };
            config(context, &image, manifest).await?.label(INPUTS_LABEL).cloned()
        }
        None => {
            let name = format!("{LOCAL_REPOSITORY}:{}", planned.name);
            let Some(image) = context.docker().await?.store().image(&name).await? else {
                return Ok(Why::Absent);
            };
            image.labels.get(INPUTS_LABEL).cloned()
        }
    };
    let before = label.as_deref().and_then(Inputs::from_label);
    Ok(before.map_or(Why::Foreign, |before| Why::Changes(planned.inputs.changes_since(&before))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(content: &str, first_run: i64) -> Build {
        let digest = Digest::of(content.as_bytes());
        Build {
            tag: format!("x-sha256-{}", digest.short()),
            digest,
            first_run: Timestamp::from_second(first_run).ok(),
            key: None,
            base_name: None,
            base_digest: None,
            is_current: false,
            is_keyed: false,
        }
    }

    #[test]
    fn a_build_is_selected_by_its_tag_or_a_prefix_of_its_digest() {
        let builds = [build("c", 3), build("b", 2), build("a", 1)];
        let pick = |wanted: &str| choose(&builds, wanted).map(|build| build.first_run.unwrap().as_second());
        assert_eq!(pick(&builds[2].tag), Some(1));
        assert_eq!(pick(&builds[2].digest.to_string()), Some(1));
        assert_eq!(pick(&builds[2].digest.short()), Some(1));
        assert_eq!((pick(""), pick("0000")), (None, None));
    }

    #[test]
    fn a_reason_has_what_changed_in_at_most_one_line() {
        let change = |what, old: Option<&str>, new: Option<&str>| Change {
            what,
            old: old.map(str::to_owned),
            new: new.map(str::to_owned),
        };
        let (old, new) = (Digest::of(b"a").to_string(), Digest::of(b"b").to_string());
        let base = change(Input::Base, Some(&old), Some(&new));
        assert_eq!(
            brief(std::slice::from_ref(&base)),
            format!("base moved from {} to {}", &old[..19], &new[..19])
        );
        let file = |name: &str| change(Input::File(name.to_owned()), Some("100644 x"), Some("100644 y"));
        assert_eq!(
            brief(&[base, file("a"), file("b"), file("c"), file("d")]),
            format!(
                "base moved from {} to {}; file a changed; file b changed; and 2 more",
                &old[..19],
                &new[..19]
            )
        );
        assert_eq!(brief(&[]), "the tag of its build key is gone");
    }
}
