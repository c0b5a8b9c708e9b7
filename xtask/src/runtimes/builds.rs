//! What the registry holds of a runtime: its builds, what changed since, and the way back.

use futures_util::StreamExt as _;
use jiff::Timestamp;
use registry::{Digest, Kind, Manifest, Reference};
use serde::{Deserialize, Serialize};

use super::decide::{Planned, tagged};
use super::key::{Change, INPUTS_LABEL, Inputs, KEY_LABEL};
use super::publish::move_tag;
use super::{Context, LOCAL_REPOSITORY, RuntimeError, key_tag};

/// How many builds are read side by side.
const PARALLEL: usize = 8;

/// One build of a runtime.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Build {
    /// `<runtime>-sha256-<digest12>`.
    pub tag: String,
    /// The manifest's or index's digest.
    pub digest: Digest,
    /// When it was built.
    pub created: Option<Timestamp>,
    /// Its build key.
    pub key: Option<String>,
    /// Its base's upstream name.
    pub base_name: Option<String>,
    /// Its base's digest.
    pub base_digest: Option<String>,
    /// Whether the grid runs it: the runtime tag means it.
    pub is_current: bool,
    /// Whether its key tag means it: of several builds of the same inputs, the one that is used.
    pub is_keyed: bool,
}

/// A runtime tag that was moved back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RolledBack {
    /// The runtime.
    pub name: String,
    /// What it was before.
    pub from: Option<Digest>,
    /// What it is now, and what `images.lock` has to hold it on.
    pub to: Digest,
    /// The build's tag.
    pub build_tag: String,
    /// Whether the tag was moved; it may have been there already.
    pub moved: bool,
}

#[derive(Debug, Default, Deserialize)]
struct Config {
    created: Option<String>,
    #[serde(default)]
    config: Inner,
}

#[derive(Debug, Default, Deserialize)]
struct Inner {
    #[serde(rename = "Labels", default)]
    labels: Option<std::collections::BTreeMap<String, String>>,
}

impl Config {
    fn label(&self, name: &str) -> Option<&String> {
        // A Dockerfile may set a label to nothing.
        self.config.labels.as_ref()?.get(name).filter(|value| !value.is_empty())
    }
}

/// Reads an image's configuration; of an index, that of its first image.
async fn config(context: &Context, image: &Reference, manifest: Manifest) -> Result<Config, RuntimeError> {
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
    let bytes = context.client.blob_bytes(image, &config).await?;
    serde_json::from_slice(&bytes).map_err(|error| unreadable(error.to_string()))
}

/// The builds of a runtime at the registry, newest first.
///
/// # Errors
/// The registry cannot be reached, or holds something under a build tag that is no image.
pub async fn builds(context: &Context, runtime: &str) -> Result<Vec<Build>, RuntimeError> {
    let Some(repository) = &context.repository else { return Ok(Vec::new()) };
    let prefix = format!("{runtime}-sha256-");
    let is_build = |tag: &String| {
        tag.strip_prefix(&prefix)
            .is_some_and(|rest| rest.len() == 12 && rest.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    let tags: Vec<String> = context.client.tags(repository).await?.into_iter().filter(is_build).collect();
    let current =
        context.client.head(&tagged(repository, runtime, runtime)?).await?.map(|found| found.digest);
    let each = tags.into_iter().map(|tag| async move {
        let image = tagged(repository, runtime, &tag)?;
        // A tag that went away since it was listed is not there.
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
            created: config.created.as_deref().and_then(|text| text.parse().ok()),
            key,
            base_name: config.label("org.opencontainers.image.base.name").cloned(),
            base_digest: config.label("org.opencontainers.image.base.digest").cloned(),
            is_current: current == Some(digest),
            is_keyed,
        }))
    });
    let found: Vec<_> = futures_util::stream::iter(each).buffered(PARALLEL).collect().await;
    let mut builds = found.into_iter().filter_map(Result::transpose).collect::<Result<Vec<_>, _>>()?;
    builds.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.tag.cmp(&b.tag)));
    Ok(builds)
}

/// Moves a runtime back by one manifest PUT: to `build` (its tag, its digest or the digest's first characters), else to the
/// build before the present one. The caller writes the hold into `images.lock`.
///
/// # Errors
/// There is no such build, somebody else moved the tag meanwhile, or the registry cannot be reached.
pub async fn rollback(
    context: &Context,
    runtime: &str,
    build: Option<&str>,
) -> Result<RolledBack, RuntimeError> {
    let no_build =
        |wanted: &str| RuntimeError::NoBuild { runtime: runtime.to_owned(), wanted: wanted.to_owned() };
    let Some(repository) = &context.repository else { return Err(no_build("without a registry")) };
    let seen = context.client.head(&tagged(repository, runtime, runtime)?).await?.map(|found| found.digest);
    let builds = builds(context, runtime).await?;
    let chosen =
        choose(&builds, seen, build).ok_or_else(|| no_build(build.unwrap_or("before the present one")))?;
    let manifest = context.client.manifest(&repository.with_digest(chosen.digest)).await?;
    let manifest = manifest.ok_or_else(|| no_build(&chosen.tag))?;
    let moved = move_tag(context, repository, runtime, seen, &manifest).await?;
    Ok(RolledBack {
        name: runtime.to_owned(),
        from: seen,
        to: chosen.digest,
        build_tag: chosen.tag.clone(),
        moved,
    })
}

/// `builds` are newest first.
fn choose<'a>(builds: &'a [Build], current: Option<Digest>, wanted: Option<&str>) -> Option<&'a Build> {
    match wanted {
        Some(wanted) => {
            let hex = wanted.strip_prefix("sha256:").unwrap_or(wanted);
            let is_it = |build: &&Build| {
                build.tag == wanted || (hex.len() >= 4 && build.digest.hex().starts_with(hex))
            };
            let mut found = builds.iter().filter(is_it);
            // Two builds that begin alike are no answer.
            found.next().filter(|_| found.next().is_none())
        }
        None => {
            let at = builds.iter().position(|build| Some(build.digest) == current);
            builds.get(at.map_or(0, |at| at + 1))
        }
    }
}

/// Why a runtime is not what it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// There is nothing to compare with.
    Absent,
    /// What is there was not built by this tool, or by another version of it.
    Foreign,
    /// What changed; nothing if the inputs are the same.
    Changes(Vec<Change>),
}

/// Compares the inputs of a plan with those of what the runtime tag means: at the registry, else in the container client's
/// store.
///
/// # Errors
/// The registry or the engine cannot be reached, or what is there cannot be read.
pub async fn why(context: &Context, planned: &Planned) -> Result<Why, RuntimeError> {
    let label = match &context.repository {
        Some(repository) => {
            let image = tagged(repository, &planned.name, &planned.name)?;
            let Some(manifest) = context.client.manifest(&image).await? else { return Ok(Why::Absent) };
            config(context, &image, manifest).await?.label(INPUTS_LABEL).cloned()
        }
        None => {
            let name = format!("{LOCAL_REPOSITORY}:{}", planned.name);
            let Some(image) = context.docker().await?.image(&name).await? else { return Ok(Why::Absent) };
            image.labels.get(INPUTS_LABEL).cloned()
        }
    };
    let before = label.as_deref().and_then(Inputs::from_label);
    Ok(before.map_or(Why::Foreign, |before| Why::Changes(planned.inputs.changes_since(&before))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(content: &str, created: i64) -> Build {
        let digest = Digest::of(content.as_bytes());
        Build {
            tag: format!("x-sha256-{}", digest.short()),
            digest,
            created: Timestamp::from_second(created).ok(),
            key: None,
            base_name: None,
            base_digest: None,
            is_current: false,
            is_keyed: false,
        }
    }

    #[test]
    fn the_way_back_goes_to_the_build_before_or_to_the_named_one() {
        let builds = [build("c", 3), build("b", 2), build("a", 1)];
        let pick = |current: Option<usize>, wanted: Option<&str>| {
            choose(&builds, current.map(|at| builds[at].digest), wanted)
                .map(|build| build.created.unwrap().as_second())
        };
        assert_eq!(pick(Some(0), None), Some(2));
        assert_eq!(pick(Some(1), None), Some(1));
        assert_eq!(pick(Some(2), None), None);
        assert_eq!(pick(None, None), Some(3), "the present one is no build of ours");
        assert_eq!(pick(Some(0), Some(&builds[2].tag)), Some(1));
        assert_eq!(pick(Some(0), Some(&builds[2].digest.to_string())), Some(1));
        assert_eq!(pick(Some(0), Some(&builds[2].digest.short())), Some(1));
        assert_eq!(pick(Some(0), Some("")), None);
        assert_eq!(pick(Some(0), Some("0000")), None);
    }
}
