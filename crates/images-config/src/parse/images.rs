//! Reads `[images]` and checks the destinations.

use std::collections::BTreeMap;

use registry::Platform;

use crate::reader::{Entry, Fields, Place};
use crate::values::{dotted, reference, wanted_platforms};
use crate::{Image, Platforms, PullThrough, RUNTIMES_REPOSITORY, Runtime, names};

pub(super) fn images<'a>(table: &Fields<'a>, default_platforms: &[Platform]) -> Vec<(Image, Place<'a>)> {
    const FIELDS: [&str; 3] = ["source", "platforms", "artifacts"];
    let mut images = Vec::new();
    for entry in table.entries() {
        if dotted(&entry, &FIELDS) {
            continue;
        }
        images.extend(image(&entry, default_platforms).map(|image| (image, entry.key.clone())));
    }
    images
}

fn image(entry: &Entry<'_>, default_platforms: &[Platform]) -> Option<Image> {
    let mut wanted = Some(Platforms::Only(default_platforms.to_vec()));
    let mut artifacts = false;
    let source_node = if entry.value.is_string() {
        entry.value.clone()
    } else if entry.value.is_table() {
        let mut fields = entry.value.table()?;
        let source = fields.require("source");
        if let Some(given) = fields.take("platforms") {
            wanted = wanted_platforms(&given);
        }
        artifacts = fields.take("artifacts").and_then(|node| node.boolean()).unwrap_or_default();
        fields.finish();
        source?
    } else {
        return entry.value.expected("a source such as \"curlimages/curl:7.85.0\", or a table with one");
    };
    let source = reference(&source_node);
    let (repository, tag) = match entry.name.split_once(':') {
        Some((repository, tag)) => (repository, Some(tag)),
        None => (entry.name, None),
    };
    let mut named = true;
    if let Err(why) = names::repository(repository) {
        entry.key.fail_with(why, "the key is where the image goes, the value where it comes from");
        named = false;
    }
    if let Some(Err(why)) = tag.map(names::tag) {
        entry.key.fail(why);
        named = false;
    }
    let source = source?;
    if source.tag().is_none() && source.digest().is_none() {
        source_node.fail_with(
            format!("`{}` has neither tag nor digest", source_node.string().unwrap_or_default()),
            "name the version: a grid that runs on the newest version cannot be rebuilt",
        );
        return None;
    }
    let Some(tag) = tag.or_else(|| source.tag()).map(str::to_owned) else {
        entry.key.fail_with(
            "the source has a digest but no tag, so the destination needs one",
            format!("write it into the key: \"{repository}:TAG\""),
        );
        return None;
    };
    if repository == RUNTIMES_REPOSITORY && names::is_build_tag(&tag) {
        entry.key.fail(format!("`{repository}:{tag}` looks like the build of a runtime"));
    }
    let image = Image {
        source,
        repository: repository.to_owned(),
        tag,
        platforms: wanted?,
        artifacts,
        line: entry.key.line(),
    };
    named.then_some(image)
}

/// Refuses two images, or an image and a runtime, with the same destination.
pub(super) fn check_destinations(images: &[(Image, Place<'_>)], runtimes: &[(Runtime, Place<'_>)]) {
    let mut first: BTreeMap<(&str, &str), &Place<'_>> = BTreeMap::new();
    let mut by_line: Vec<_> = images.iter().collect();
    by_line.sort_by_key(|(image, _)| image.line);
    for (image, place) in by_line {
        let target = (image.repository.as_str(), image.tag.as_str());
        if let Some(other) = first.get(&target) {
            place.fail_with(
                format!("`{}:{}` is the destination of two images", target.0, target.1),
                format!("the other is {} on line {}", other.key(), other.line()),
            );
        } else {
            first.insert(target, place);
        }
    }
    for (runtime, place) in runtimes.iter().filter(|(runtime, _)| runtime.enabled) {
        if let Some(image) = first.get(&(RUNTIMES_REPOSITORY, runtime.name.as_str())) {
            place.fail_with(
                format!(
                    "`{RUNTIMES_REPOSITORY}:{}` is the destination of a runtime and of an image",
                    runtime.name
                ),
                format!(
                    "the image is {} on line {}: give it another tag, or the runtime `enabled = false`",
                    image.key(),
                    image.line()
                ),
            );
        }
    }
}

/// ECR itself writes below a pull-through prefix, and would replace our images with upstream's.
pub(super) fn check_prefix(repository: &str, place: &Place<'_>, rules: &[PullThrough]) {
    for rule in rules {
        if repository.strip_prefix(rule.prefix.as_str()).is_some_and(|rest| rest.starts_with('/')) {
            place.fail(format!(
                "`{repository}` lies under the pull-through prefix `{}`, where ECR puts images from {}",
                rule.prefix, rule.upstream
            ));
        }
    }
}
