//! Removes superseded local builds: each edit gives a new key, and with it a new name in the local store.

use std::collections::{BTreeMap, BTreeSet};

use docker::{Docker, DockerError, LocalName};
use jiff::{SignedDuration, Timestamp};
use process::blocking;

use super::key::KEY_LABEL;
use super::outcome::Outcome;
use super::{Context, LOCAL_REPOSITORY, Planned};

/// How many builds of each runtime stay in the local store, including the current one: going back to one of the last two edits builds
/// nothing.
const KEPT: usize = 3;

/// After this time, the provisional name of an unchecked image was left by a killed run.
const UNCHECKED: SignedDuration = SignedDuration::from_hours(24);

/// The current key of each runtime.
pub(super) fn current(planned: &[Planned]) -> BTreeMap<String, String> {
    planned.iter().map(|planned| (planned.name.clone(), planned.key.clone())).collect()
}

/// Whether a runtime's builds have more names than are kept, or one that a killed run may have left.
fn may_be_old(built: &[&str], names: &[&str]) -> bool {
    let tags = || names.iter().filter_map(|name| tag(name));
    built.iter().any(|runtime| {
        let left = format!("{runtime}-unchecked-");
        tags().filter(|tag| key_of(runtime, tag).is_some()).count() > KEPT
            || tags().any(|tag| tag.starts_with(&left))
    })
}

/// Removes the names of superseded builds of the runtimes that were just built. Errors are ignored: no run fails because of this.
pub(super) async fn tidy(context: &Context, current: &BTreeMap<String, String>, outcomes: &[Outcome]) {
    let built = |outcome: &&Outcome| outcome.result.as_ref().is_ok_and(|done| done.built);
    let built: Vec<&str> = outcomes.iter().filter(built).map(|outcome| outcome.name.as_str()).collect();
    if built.is_empty() {
        return;
    }
    let Ok(engine) = context.engine().await else { return };
    let ours = |name: &str| tag(name).is_some_and(|tag| built.iter().any(|runtime| tag.starts_with(runtime)));
    let names = engine.docker.store().names_with(KEY_LABEL, ours, |names| may_be_old(&built, names)).await;
    let names = match names {
        Ok(names) => names,
        Err(error) => return tracing::debug!("older local builds cannot be listed: {error}"),
    };
    for runtime in &built {
        let Some(key) = current.get(*runtime) else { continue };
        let mut removed = 0;
        for name in superseded(runtime, key, &names, Timestamp::now()) {
            match remove(&engine.docker, &name).await {
                Ok(true) => removed += 1,
                Ok(false) => {}
                Err(error) => tracing::debug!("{name} stays: {error}"),
            }
        }
        if removed > 0 {
            let builds = if removed == 1 { "build" } else { "builds" };
            let line = format!("{removed} older {builds} removed from the local engine");
            context.progress.line(runtime, &line);
        }
    }
}

/// The IDs of the images with these names. A build without the cache has the same names, so these images lose them.
pub(super) async fn named(docker: &Docker, names: &[String]) -> Result<Vec<String>, DockerError> {
    let mut ids = Vec::new();
    for name in names {
        let image = docker.store().image(name).await?;
        ids.extend(image.filter(|image| image.labels.contains_key(KEY_LABEL)).map(|image| image.id));
    }
    Ok(ids)
}

/// Removes those of these images that have no name left; images that a container uses stay.
pub(super) async fn remove_nameless(docker: &Docker, ids: Vec<String>) {
    for id in ids {
        let is_nameless =
            matches!(docker.store().image(&id).await, Ok(Some(image)) if image.names.is_empty());
        if is_nameless && let Err(error) = docker.store().remove(&id).await {
            tracing::debug!("a build without a name stays: {error}");
        }
    }
}

/// Removes a name, unless a container uses its image.
async fn remove(docker: &Docker, name: &str) -> Result<bool, DockerError> {
    if docker.store().has_container(name).await? {
        return Ok(false);
    }
    let (docker, name) = (docker.clone(), name.to_owned());
    blocking(move || docker.store().untag(&name)).await.map(|()| true)
}

/// The names of a runtime's builds that are neither current nor among the newest, nor the image of the runtime's own name; and names that
/// killed runs left.
fn superseded(runtime: &str, current: &str, names: &[LocalName], now: Timestamp) -> Vec<String> {
    let mut builds: BTreeMap<&str, (Timestamp, Vec<&LocalName>)> = BTreeMap::new();
    let in_use: BTreeSet<&str> = names
        .iter()
        .filter(|found| tag(&found.name) == Some(runtime))
        .map(|found| found.id.as_str())
        .collect();
    for found in names {
        let Some(key) = tag(&found.name).and_then(|tag| key_of(runtime, tag)) else { continue };
        let (newest, all) = builds.entry(key).or_insert((Timestamp::MIN, Vec::new()));
        *newest = found.since.max(*newest);
        all.push(found);
    }
    builds.remove(current);
    let mut builds: Vec<_> = builds.into_values().collect();
    builds.sort_by_key(|(newest, _)| std::cmp::Reverse(*newest));
    let old = builds.into_iter().skip(KEPT - 1).flat_map(|(_, all)| all);
    let unchecked = format!("{runtime}-unchecked-");
    let left = names.iter().filter(|found| {
        tag(&found.name).is_some_and(|tag| tag.starts_with(&unchecked))
            && now.duration_since(found.since) > UNCHECKED
    });
    old.chain(left)
        .filter(|found| !in_use.contains(found.id.as_str()))
        .map(|found| found.name.clone())
        .collect()
}

/// The tag of a name in the local repository; podman puts `localhost/` before it.
fn tag(name: &str) -> Option<&str> {
    name.strip_prefix("localhost/").unwrap_or(name).strip_prefix(LOCAL_REPOSITORY)?.strip_prefix(':')
}

/// The key in `<runtime>-k2-<key>` or `<runtime>-k2-<key>-linux-arm64`, of any version.
fn key_of<'a>(runtime: &str, tag: &'a str) -> Option<&'a str> {
    let (version, rest) = tag.strip_prefix(runtime)?.strip_prefix("-k")?.split_once('-')?;
    let key = rest.split('-').next()?;
    let is_key = key.len() == 64 && key.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_key && version.parse::<u32>().is_ok()).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_image_is_inspected_if_none_can_be_old() {
        let named = |letter: char| format!("lambda:java17-k2-{}", letter.to_string().repeat(64));
        let few = ['a', 'b', 'c'].map(named);
        let mut names: Vec<&str> = few.iter().map(String::as_str).chain(["lambda:java17"]).collect();
        assert!(!may_be_old(&["java17"], &names));
        let more = named('d');
        names.push(&more);
        assert!(may_be_old(&["java17"], &names) && !may_be_old(&["java21"], &names));
        assert!(may_be_old(&["java21"], &["lambda:java21-unchecked-7-linux-amd64"]));
    }

    #[test]
    fn only_our_own_older_images_are_superseded() {
        let key = |letter: char| letter.to_string().repeat(64);
        let second = |second: i64| Timestamp::from_second(second).unwrap();
        let named = |tag: String, id: &str, at: i64| LocalName {
            name: format!("lambda:{tag}"),
            id: id.to_owned(),
            since: second(at),
        };
        let names = [
            named(format!("java17-k1-{}", key('a')), "1", 1),
            named(format!("java17-k2-{}-linux-amd64", key('b')), "2", 2),
            named(format!("java17-k2-{}-linux-arm64", key('b')), "3", 2),
            named(format!("java17-k2-{}", key('c')), "4", 3),
            named(format!("java17-k2-{}", key('d')), "5", 4),
            named(format!("java17-k2-{}", key('e')), "6", 5),
            // The current build, cached and therefore the oldest by its date.
            named(format!("java17-k2-{}", key('f')), "7", 0),
            // The image of the contributor's own name, another runtime's, and names that are not ours.
            named("java17".into(), "4", 3),
            named(format!("java17-al2023-k2-{}", key('a')), "8", 0),
            named("java17-k2-mine".into(), "9", 0),
            named(format!("java17-kx-{}", key('a')), "10", 0),
            named("java17-unchecked-7-linux-amd64".into(), "12", 1),
            named("java17-unchecked-8-linux-amd64".into(), "13", 90_000),
            LocalName { name: format!("other:java17-k2-{}", key('0')), id: "11".into(), since: second(0) },
        ];
        let old = superseded("java17", &key('f'), &names, second(100_000));
        let wanted = [
            format!("lambda:java17-k2-{}-linux-amd64", key('b')),
            format!("lambda:java17-k2-{}-linux-arm64", key('b')),
            format!("lambda:java17-k1-{}", key('a')),
            "lambda:java17-unchecked-7-linux-amd64".to_owned(),
        ];
        assert_eq!(old, wanted);
        assert!(superseded("java21", &key('f'), &names, second(100_000)).is_empty());
    }
}
