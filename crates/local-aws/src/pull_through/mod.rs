//! Pull-through cache: a pull from a prefix with a rule imports repository, manifest and layers from the upstream
//! (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/pull-through-cache.html>).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::app::App;
use crate::digest;
use crate::ecr::{repositories, templates};
use crate::fault::Fault;
use crate::iam;
use crate::journal::Entry;
use crate::manifest;
use crate::policy::{Need, Principal};
use crate::scope::Scope;
use crate::store::model::{Layer, PullThrough, Repository, Rule};
use crate::time::now_millis;
use crate::upstreams::{Source, UpstreamError};

/// The source of a repository's images, if there is a rule for it. The longest prefix wins.
fn source(app: &App, scope: &Scope, name: &str) -> Option<Source> {
    let settings = app.store.region(scope).settings();
    let below = |rule: &Rule| match rule.prefix.as_str() {
        "ROOT" => Some(name.to_owned()),
        prefix => name.strip_prefix(prefix)?.strip_prefix('/').map(str::to_owned),
    };
    let (rule, rest) = settings.rules.values().filter_map(|rule| Some((rule, below(rule)?))).max_by_key(
        |(rule, rest)| {
            // The shorter the rest of the name, the longer the prefix.
            (std::cmp::Reverse(rest.len()), rule.prefix != "ROOT")
        },
    )?;
    let repository = match rule.upstream_prefix.as_str() {
        "ROOT" => rest,
        prefix => format!("{prefix}/{rest}"),
    };
    Some(Source { host: rule.host.clone(), repository })
}

fn unavailable(source: &Source, error: &UpstreamError) -> Fault {
    Fault::client(
        "UnableToGetUpstreamImageException",
        format!("The image could not be retrieved from the upstream registry {}: {error}", source.host),
    )
}

/// Imports the manifest of `reference` if there is a rule for it and the stored one is missing or too old. Does nothing without a rule: the
/// caller then returns the error if the repository is missing. The permissions that the caller needs for an import are added to the
/// journal's entry (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/pull-through-cache-iam.html>).
pub(crate) async fn manifest(
    app: &Arc<App>,
    scope: &Scope,
    name: &str,
    reference: &str,
    (principal, entry): (&Principal, &mut Entry),
) -> Result<(), Fault> {
    let Some(source) = source(app, scope, name) else { return Ok(()) };
    let key = format!("manifest {}/{} {name} {reference}", scope.account, scope.region);
    let flight = app.upstreams.flight(&key);
    let _alone = flight.lock().await;
    let repository = app.store.region(scope).repository(name);
    let by_digest = digest::is_valid(reference);
    let here = repository.as_ref().and_then(|repository| {
        let digest = if by_digest { reference } else { repository.tags.get(reference)? };
        repository.images.contains_key(digest).then(|| digest.to_owned())
    });
    if by_digest {
        // The first pull has to be by tag: nothing is created for a digest (aws/containers-roadmap#2837).
        if here.is_some() || repository.is_none() {
            return Ok(());
        }
    } else if let (Some(digest), Some(repository)) = (&here, &repository) {
        let checked =
            repository.pull_through.as_ref().and_then(|through| through.checked.get(reference)).copied();
        let refresh = i64::try_from(app.config.pull_through_refresh.as_millis()).unwrap_or(i64::MAX);
        if checked.is_none_or(|checked| now_millis().saturating_sub(checked) < refresh) {
            // Also images that were pushed here directly: they are never compared with the upstream.
            return Ok(());
        }
        match app.upstreams.digest(&source, reference).await {
            Ok(Some(upstream)) if upstream != *digest => {}
            Ok(Some(_)) => return note_checked(app, scope, name, reference),
            // The cached image is served while the upstream is not reachable, or has deleted the tag.
            Ok(None) => return Ok(()),
            Err(error) => {
                tracing::warn!(%error, upstream = source.host, "the cached image is served unchecked");
                return Ok(());
            }
        }
    }
    let mut needed = vec!["ecr:BatchImportUpstreamImage"];
    if repository.is_none() {
        needed.push("ecr:CreateRepository");
    }
    for permission in needed {
        entry.iam.push(permission.to_owned());
        iam::authorize(app, principal, &[Need::new(permission, repositories::arn(scope, name))])?;
    }
    let (bytes, media_type) = match app.upstreams.manifest(&source, reference).await {
        Ok(Some(found)) => found,
        // Repository or image not found: the caller returns its own error.
        Ok(None) => return Ok(()),
        Err(error) => return Err(unavailable(&source, &error)),
    };
    store(app, scope, name, &source, (!by_digest).then_some(reference), (&bytes, &media_type))
}

fn note_checked(app: &App, scope: &Scope, name: &str, tag: &str) -> Result<(), Fault> {
    repositories::change(app, scope, name, |repository| {
        if let Some(through) = &mut repository.pull_through {
            through.checked.insert(tag.to_owned(), now_millis());
        }
        Ok(())
    })
}

fn store(
    app: &Arc<App>,
    scope: &Scope,
    name: &str,
    source: &Source,
    tag: Option<&str>,
    (bytes, media_type): (&[u8], &str),
) -> Result<(), Fault> {
    let parsed = manifest::parse(bytes, Some(media_type))?;
    let digest = app.store.contents.put(bytes)?;
    if app.store.region(scope).repository(name).is_none() {
        let repository = Repository {
            pull_through: Some(PullThrough {
                host: source.host.clone(),
                repository: source.repository.clone(),
                checked: BTreeMap::new(),
            }),
            ..templates::for_cache(app, scope, name)?
        };
        // With two first pulls at the same time, the other one's repository is equivalent.
        app.store.region(scope).add_repository(repository)?;
    }
    let blobs = parsed.needed.clone();
    repositories::change(app, scope, name, |repository| {
        repository.images.entry(digest.clone()).or_insert(parsed.image);
        if let Some(tag) = tag {
            repository.tags.insert(tag.to_owned(), digest.clone());
            let through = repository.pull_through.get_or_insert_with(|| PullThrough {
                host: source.host.clone(),
                repository: source.repository.clone(),
                checked: BTreeMap::new(),
            });
            through.checked.insert(tag.to_owned(), now_millis());
        }
        Ok(())
    })?;
    // As in ECR, the layers arrive after the manifest; a request for one of them waits for it.
    let (app, scope, name) = (Arc::clone(app), scope.clone(), name.to_owned());
    tokio::spawn(async move {
        for blob_digest in blobs {
            if let Err(error) = blob(&app, &scope, &name, &blob_digest).await {
                tracing::warn!(%error, %name, digest = blob_digest, "a layer could not be cached yet");
            }
        }
    });
    Ok(())
}

/// Imports a layer that an image of the repository refers to. `Ok(false)`: it does not belong to a pull-through repository.
pub(crate) async fn blob(app: &Arc<App>, scope: &Scope, name: &str, wanted: &str) -> Result<bool, Fault> {
    let Some(source) = source(app, scope, name) else { return Ok(false) };
    let belongs = |repository: &Repository| {
        repository.images.values().any(|image| image.blobs.iter().any(|blob| blob == wanted))
    };
    if !app.store.region(scope).repository(name).is_some_and(|repository| belongs(&repository)) {
        return Ok(false);
    }
    let flight = app.upstreams.flight(&format!("blob {wanted}"));
    let _alone = flight.lock().await;
    if app
        .store
        .region(scope)
        .repository(name)
        .is_some_and(|repository| repository.layers.contains_key(wanted))
    {
        return Ok(true);
    }
    let size = match app.store.contents.size(wanted) {
        // Another repository has it: the bytes need not be downloaded again.
        Some(size) => size,
        None => app
            .upstreams
            .blob(&source, wanted, &app.store.contents)
            .await
            .map_err(|error| unavailable(&source, &error))?,
    };
    repositories::change(app, scope, name, |repository| {
        repository.layers.insert(wanted.to_owned(), Layer { size, completed: now_millis() });
        Ok(true)
    })
}
