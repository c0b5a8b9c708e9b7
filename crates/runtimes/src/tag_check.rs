//! Compares the build under a runtime's tag with its labels, its other tags and images.lock.

use std::collections::BTreeMap;

use registry::{Digest, Kind, Manifest, Reference};

use super::builds::config;
use super::key::{INPUTS_LABEL, Inputs, KEY_LABEL};
use super::planned::tagged;
use super::{Context, Runtime, RuntimeError, build_tag, key_tag};

/// The labels with a build's base.
const BASE_NAME: &str = "org.opencontainers.image.base.name";
const BASE_DIGEST: &str = "org.opencontainers.image.base.digest";

/// What a runtime's labels are compared with.
struct Wanted<'a> {
    base: Option<&'a Reference>,
    /// The base's digest in images.lock.
    locked: Option<Digest>,
}

/// The digest that the runtime's tag refers to; `None` if there is no such tag.
///
/// # Errors
/// The registry cannot be reached.
pub async fn current(context: &Context, runtime: &Runtime) -> Result<Option<Digest>, RuntimeError> {
    let Some(repository) = &context.repository else { return Ok(None) };
    let tag = tagged(repository, &runtime.name, &runtime.name)?;
    Ok(context.client.head(&tag).await?.map(|found| found.digest))
}

/// The build that `images.lock` holds the runtime on.
pub fn held(context: &Context, runtime: &Runtime) -> Option<Digest> {
    context.grid_settings.hold(&runtime.name).map(|hold| hold.build)
}

/// The tags of the build `digest` besides the runtime's own: the build tag and the key tag. With them, another registry finds the build by
/// its inputs and does not build it again.
///
/// # Errors
/// The registry cannot be reached, or its data cannot be read.
pub async fn tags(context: &Context, runtime: &Runtime, digest: Digest) -> Result<Vec<String>, RuntimeError> {
    let Some(repository) = &context.repository else { return Ok(Vec::new()) };
    let by_digest = tagged(repository, &runtime.name, &runtime.name)?.with_digest(digest);
    let Some(top) = context.client.manifest(&by_digest).await? else { return Ok(Vec::new()) };
    let key = config(context, &by_digest, top).await?.labels().get(KEY_LABEL).cloned();
    let tags = std::iter::once(build_tag(&runtime.name, &digest));
    let mut found = Vec::new();
    for tag in tags.chain(key.map(|key| key_tag(&runtime.name, &key))) {
        // A label that is not a valid tag was not written by this tool.
        let Ok(by_tag) = repository.with_tag(&tag) else { continue };
        if context.client.head(&by_tag).await?.is_some_and(|found| found.digest == digest) {
            found.push(tag);
        }
    }
    Ok(found)
}

/// Compares the build `digest`, which the runtime's tag refers to, with its labels: its key with its inputs, its base with images.toml and
/// images.lock, its other tags with the build. Returns a line for each difference.
///
/// # Errors
/// The registry cannot be reached, or its data cannot be read.
pub async fn differences(
    context: &Context,
    runtime: &Runtime,
    digest: Digest,
) -> Result<Vec<String>, RuntimeError> {
    let Some(repository) = &context.repository else { return Ok(Vec::new()) };
    let by_digest = tagged(repository, &runtime.name, &runtime.name)?.with_digest(digest);
    let Some(top) = context.client.manifest(&by_digest).await? else {
        return Ok(vec![format!("manifest {digest} is missing")]);
    };
    let wanted = Wanted {
        base: runtime.base.as_ref(),
        locked: runtime.base.as_ref().and_then(|base| context.grid_settings.locked_base(base)),
    };
    let held = held(context, runtime);
    let mut said = Vec::new();
    let mut key = None;
    for image in images(context, &by_digest, top).await? {
        let labels = config(context, &by_digest, image).await?.labels();
        // A held build may be older than the lock.
        let wanted = Wanted { locked: wanted.locked.filter(|_| held.is_none()), ..wanted };
        for line in disagreements(&labels, &wanted) {
            if !said.contains(&line) {
                said.push(line);
            }
        }
        key = labels.get(KEY_LABEL).cloned().or(key);
    }
    let mut tags = vec![build_tag(&runtime.name, &digest)];
    // A forced rebuild moves the key tag to the new build, while a hold keeps the runtime's tag.
    if let Some(key) = key.filter(|_| held.is_none()) {
        tags.push(key_tag(&runtime.name, &key));
    }
    for tag in tags {
        let found = context.client.head(&tagged(repository, &runtime.name, &tag)?).await?;
        match found.map(|found| found.digest) {
            Some(found) if found == digest => {}
            Some(found) => said.push(format!("its tag {tag} names {found}")),
            None => said.push(format!("its tag {tag} is absent")),
        }
    }
    Ok(said)
}

/// The images of a build: itself, or those of its index.
async fn images(
    context: &Context,
    by_digest: &Reference,
    top: Manifest,
) -> Result<Vec<Manifest>, RuntimeError> {
    if top.kind() != Kind::Index {
        return Ok(vec![top]);
    }
    let unreadable = |reason: String| RuntimeError::Unreadable { image: by_digest.to_string(), reason };
    let index = top.index().map_err(|error| unreadable(error.to_string()))?;
    let mut images = Vec::new();
    for child in index.manifests.iter().filter(|child| child.attests().is_none()) {
        let found = context.client.manifest(&by_digest.with_digest(child.digest)).await?;
        images.push(found.ok_or_else(|| unreadable(format!("it has no manifest {}", child.digest)))?);
    }
    Ok(images)
}

/// Differences among an image's labels, or between them and `wanted`.
fn disagreements(labels: &BTreeMap<String, String>, wanted: &Wanted<'_>) -> Vec<String> {
    let label = |name: &str| labels.get(name).filter(|value| !value.is_empty());
    let Some(key) = label(KEY_LABEL) else {
        return vec![format!("it has no label {KEY_LABEL}: this tool did not build it")];
    };
    let Some(inputs) = label(INPUTS_LABEL).and_then(|text| Inputs::from_label(text)) else {
        return vec![format!("its label {INPUTS_LABEL} cannot be read")];
    };
    let mut said = Vec::new();
    if inputs.key() != *key {
        said.push(format!(
            "its label {KEY_LABEL} is {key}, and the inputs in its labels give {}",
            inputs.key()
        ));
    }
    if let Some(files) = &inputs.files
        && Inputs::new(b"", files.clone()).context != inputs.context
    {
        said.push(format!("the files in its label {INPUTS_LABEL} are not those of its build key"));
    }
    let base = label(BASE_DIGEST);
    if base != inputs.base.as_ref() {
        let or_none = |digest: Option<&String>| digest.map_or("nothing", String::as_str).to_owned();
        said.push(format!(
            "its label {BASE_DIGEST} is {}, and its build key has {}",
            or_none(base),
            or_none(inputs.base.as_ref())
        ));
    }
    let name = wanted.base.map(ToString::to_string);
    if label(BASE_NAME) != name.as_ref() {
        let or_scratch = |name: Option<&String>| name.map_or("scratch", String::as_str).to_owned();
        said.push(format!(
            "it is built on {}, and images.toml says {}",
            or_scratch(label(BASE_NAME)),
            or_scratch(name.as_ref())
        ));
    } else if let Some(locked) = wanted.locked.map(|digest| digest.to_string())
        && inputs.base.as_ref() != Some(&locked)
    {
        let built = inputs.base.as_deref().unwrap_or("nothing");
        said.push(format!("its base is {built}, and images.lock says {locked}"));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{ContextFile, Mode};

    fn labels(change: impl Fn(&mut Inputs, &mut BTreeMap<String, String>)) -> Vec<String> {
        let base: Reference = "public.ecr.aws/lambda/python:3.12".parse().unwrap();
        let locked = Digest::of(b"base");
        let file = ContextFile { path: "start".to_owned(), mode: Mode::File, sha256: "0".repeat(64) };
        let mut inputs = Inputs::new(b"FROM x", vec![file]);
        inputs.base = Some(locked.to_string());
        let mut labels = BTreeMap::from([
            (KEY_LABEL.to_owned(), inputs.key()),
            (BASE_NAME.to_owned(), base.to_string()),
            (BASE_DIGEST.to_owned(), locked.to_string()),
        ]);
        change(&mut inputs, &mut labels);
        labels.entry(INPUTS_LABEL.to_owned()).or_insert_with(|| inputs.to_label());
        disagreements(&labels, &Wanted { base: Some(&base), locked: Some(locked) })
    }

    #[test]
    fn inconsistent_labels_are_named() {
        assert_eq!(labels(|_, _| {}), Vec::<String>::new());
        let other = Digest::of(b"other").to_string();
        let set = |name: &str, value: &str| {
            labels(|_, labels| {
                labels.insert(name.to_owned(), value.to_owned());
            })
        };
        assert!(set(KEY_LABEL, "")[0].contains("this tool did not build it"));
        assert!(set(KEY_LABEL, "abc")[0].contains("is abc, and the inputs in its labels give "));
        assert!(set(INPUTS_LABEL, "{}")[0].contains("cannot be read"));
        assert!(set(BASE_DIGEST, &other)[0].contains("its build key has sha256:"));
        assert_eq!(
            set(BASE_NAME, "x")[0],
            "it is built on x, and images.toml says public.ecr.aws/lambda/python:3.12"
        );
        let swapped = labels(|inputs, labels| {
            inputs.files.as_mut().unwrap()[0].sha256 = "1".repeat(64);
            labels.insert(KEY_LABEL.to_owned(), inputs.key());
        });
        assert!(swapped[0].contains("are not those of its build key"), "{swapped:?}");
        let rebased = labels(|inputs, labels| {
            inputs.base = Some(other.clone());
            labels.insert(KEY_LABEL.to_owned(), inputs.key());
            labels.insert(BASE_DIGEST.to_owned(), other.clone());
        });
        assert_eq!(rebased, [format!("its base is {other}, and images.lock says {}", Digest::of(b"base"))]);
    }
}
