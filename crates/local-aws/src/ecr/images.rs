//! Manifests in a repository: putting, finding, listing, deleting.

use std::time::Duration;

use super::{replication, repositories, settings, signing};
use crate::app::App;
use crate::digest;
use crate::fault::Fault;
use crate::kms;
use crate::manifest;
use crate::policy::{Need, Principal};
use crate::scope::Scope;
use crate::store::model::{Image, Repository};
use crate::time::now_millis;

/// A manifest to store.
pub(crate) struct Put<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) media_type: Option<&'a str>,
    pub(crate) tag: Option<&'a str>,
    /// The digest that the client declares.
    pub(crate) digest: Option<&'a str>,
    /// The client's principal.
    pub(crate) by: &'a Principal,
}

/// The result.
pub(crate) struct Stored {
    pub(crate) digest: String,
    pub(crate) subject: Option<String>,
    /// Whether the same image was already stored under the same tag.
    pub(crate) unchanged: bool,
    /// The permissions that the client needed for its signatures, whether it had them or not.
    pub(crate) signing: Vec<Need>,
}

pub(crate) fn is_valid_tag(tag: &str) -> bool {
    (1..=128).contains(&tag.len())
        && !tag.starts_with(['.', '-'])
        && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

/// Stores a manifest, after checking that everything it refers to is in the same repository.
pub(crate) fn store(app: &App, scope: &Scope, name: &str, put: &Put<'_>) -> Result<Stored, Fault> {
    let repository = repositories::find(app, scope, name)?;
    kms::check(app, scope, repository.encryption.key.as_deref())?;
    if put.tag.is_some_and(|tag| !is_valid_tag(tag)) {
        return Err(Fault::invalid_parameter(
            "Invalid parameter at 'imageTag' failed to satisfy constraint: 'must satisfy regular expression \
             '[a-zA-Z0-9-_.]+''",
        ));
    }
    let digest = digest::sha256(put.bytes);
    if let Some(claimed) = put.digest.filter(|claimed| *claimed != digest) {
        return Err(Fault::client(
            "ImageDigestDoesNotMatchException",
            format!(
                "The specified image digest '{claimed}' does not match the digest of the image manifest '{digest}'"
            ),
        ));
    }
    let parsed = manifest::parse(put.bytes, put.media_type)?;
    let check = |repository: &Repository| {
        check_references(app, scope, repository, &parsed)?;
        check_tag(repository, put.tag)
    };
    // Before the bytes are written, so that a rejected manifest leaves nothing; and again while other changes are locked out.
    check(&repository)?;
    app.store.contents.put(put.bytes)?;
    let (known, mut stored) = repositories::change(app, scope, name, |repository| {
        check(repository)?;
        let known = repository.images.contains_key(&digest);
        let archived = repository.images.get(&digest).is_some_and(|image| image.archived.is_some());
        let unchanged = known
            && !archived
            && match put.tag {
                Some(tag) => repository.tags.get(tag) == Some(&digest),
                None => true,
            };
        // A push restores an archived image.
        if let Some(image) = repository.images.get_mut(&digest) {
            image.archived = None;
        } else {
            repository.images.insert(digest.clone(), parsed.image.clone());
        }
        if let Some(tag) = put.tag {
            repository.tags.insert(tag.to_owned(), digest.clone());
        }
        let (digest, subject) = (digest.clone(), parsed.image.subject.clone());
        Ok((known, Stored { digest, subject, unchanged, signing: Vec::new() }))
    })?;
    replication::replicate(app, scope, name, &stored.digest, put.tag)?;
    if !known {
        stored.signing = signing::sign(app, scope, name, &stored.digest, put.by)?;
    }
    Ok(stored)
}

fn check_references(
    app: &App,
    scope: &Scope,
    repository: &Repository,
    parsed: &manifest::Parsed,
) -> Result<(), Fault> {
    let lag = app.quirks.blob_lag().unwrap_or(Duration::ZERO).as_millis();
    let lag = i64::try_from(lag).unwrap_or(i64::MAX);
    let visible = |digest: &&String| {
        repository.layers.get(*digest).is_some_and(|layer| lag == 0 || now_millis() - layer.completed >= lag)
    };
    let place = |kind: &str, missing: &[&String]| {
        let list: Vec<&str> = missing.iter().map(|digest| digest.as_str()).collect();
        format!(
            "{kind} with digests '[{}]' required for pushing image into repository with name '{}' in the registry with id '{}' \
             do not exist",
            list.join(", "),
            repository.name,
            scope.account
        )
    };
    let missing: Vec<&String> = parsed.needed.iter().filter(|digest| !visible(digest)).collect();
    if !missing.is_empty() {
        return Err(Fault::client("LayersNotFoundException", place("Layers", &missing)));
    }
    let missing: Vec<&String> =
        parsed.image.children.iter().filter(|digest| !repository.images.contains_key(*digest)).collect();
    if !missing.is_empty() {
        return Err(Fault::client("ReferencedImagesNotFoundException", place("Images", &missing)));
    }
    Ok(())
}

/// An immutable tag cannot be put again, not even for the same image (aws/containers-roadmap#2380).
fn check_tag(repository: &Repository, tag: Option<&str>) -> Result<(), Fault> {
    match tag {
        Some(tag) if repository.tags.contains_key(tag) && settings::tag_is_immutable(repository, tag) => {
            Err(Fault::client(
                "ImageTagAlreadyExistsException",
                format!(
                    "The image tag '{tag}' already exists in the '{}' repository and cannot be overwritten because the repository \
                 is immutable.",
                    repository.name
                ),
            ))
        }
        _ => Ok(()),
    }
}

/// The digest that a tag or a digest refers to, if its image is in the repository.
pub(crate) fn resolve<'a>(repository: &'a Repository, reference: &str) -> Option<(&'a String, &'a Image)> {
    let digest = repository.tags.get(reference).map_or(reference, String::as_str);
    repository.images.get_key_value(digest).filter(|(_, image)| image.archived.is_none())
}

/// ECR records pulls, at most once a day.
pub(crate) fn note_pull(
    app: &App,
    scope: &Scope,
    name: &str,
    digest: &str,
    image: &Image,
) -> Result<(), Fault> {
    const DAY: i64 = 24 * 3600 * 1000;
    let now = now_millis();
    if image.pulled.is_some_and(|pulled| now - pulled < DAY) {
        return Ok(());
    }
    repositories::change(app, scope, name, |repository| {
        if let Some(image) = repository.images.get_mut(digest) {
            image.pulled = Some(now);
        }
        Ok(())
    })
}

pub(super) fn tags_of<'a>(repository: &'a Repository, digest: &str) -> Vec<&'a str> {
    repository.tags.iter().filter(|(_, tagged)| *tagged == digest).map(|(tag, _)| tag.as_str()).collect()
}

pub(crate) fn not_found(scope: &Scope, name: &str, digest: Option<&str>, tag: Option<&str>) -> Fault {
    Fault::client(
        "ImageNotFoundException",
        format!(
            "The image with imageId {{imageDigest:'{}', imageTag:'{}'}} does not exist within the repository with name '{name}' \
             in the registry with id '{}'",
            digest.unwrap_or("null"),
            tag.unwrap_or("null"),
            scope.account
        ),
    )
}

/// The manifests whose subject is `digest`, each with its digest.
pub(crate) fn referrers<'a>(repository: &'a Repository, digest: &str) -> Vec<(&'a String, &'a Image)> {
    repository.images.iter().filter(|(_, image)| image.subject.as_deref() == Some(digest)).collect()
}
