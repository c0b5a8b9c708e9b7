//! Manifests in a repository: putting, finding, listing, deleting.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Call, manifest, repositories, settings};
use crate::account::Scope;
use crate::digest;
use crate::fault::Fault;
use crate::input::Input;
use crate::kms;
use crate::server::App;
use crate::store::model::{Image, Repository};
use crate::time::{epoch_seconds, now_millis};

/// A manifest on its way in.
pub(crate) struct Put<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) media_type: Option<&'a str>,
    pub(crate) tag: Option<&'a str>,
    /// What the sender says its digest is.
    pub(crate) digest: Option<&'a str>,
}

/// What became of it.
pub(crate) struct Stored {
    pub(crate) digest: String,
    pub(crate) subject: Option<String>,
    /// The same image under the same tag was there before.
    pub(crate) unchanged: bool,
}

pub(crate) fn is_valid_tag(tag: &str) -> bool {
    (1..=128).contains(&tag.len())
        && !tag.starts_with(['.', '-'])
        && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

/// Puts a manifest, after everything it refers to has been found in the same repository.
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
    // Before the bytes are written, so that a refused manifest leaves nothing; and again when nobody can come between.
    check(&repository)?;
    app.store.contents.put(put.bytes)?;
    repositories::change(app, scope, name, |repository| {
        check(repository)?;
        let known = repository.images.contains_key(&digest);
        let unchanged = known
            && match put.tag {
                Some(tag) => repository.tags.get(tag) == Some(&digest),
                None => true,
            };
        if !known {
            repository.images.insert(digest.clone(), parsed.image.clone());
        }
        if let Some(tag) = put.tag {
            repository.tags.insert(tag.to_owned(), digest.clone());
        }
        Ok(Stored { digest: digest.clone(), subject: parsed.image.subject.clone(), unchanged })
    })
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

/// An immutable tag cannot be put again, not even for the image that it already names (aws/containers-roadmap#2380).
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

/// The digest that a tag or a digest means, if its image is here.
pub(crate) fn resolve<'a>(repository: &'a Repository, reference: &str) -> Option<(&'a String, &'a Image)> {
    let digest = repository.tags.get(reference).map_or(reference, String::as_str);
    repository.images.get_key_value(digest)
}

/// ECR notes pulls, at most once a day.
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

fn tags_of<'a>(repository: &'a Repository, digest: &str) -> Vec<&'a str> {
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

pub(super) fn put(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let name = input.text("repositoryName")?;
    let text = input.text("imageManifest")?;
    let tag = input.opt("imageTag");
    if call.app.quirks.throttles_put_image() {
        return Err(Fault::client("ThrottlingException", "Rate exceeded"));
    }
    let put = Put {
        bytes: text.as_bytes(),
        media_type: input.opt("imageManifestMediaType"),
        tag,
        digest: input.opt("imageDigest"),
    };
    let stored = store(call.app, &call.scope, name, &put).map_err(|fault| match fault.code.as_str() {
        // 405 is the registry's way; the API has no such status.
        "UnsupportedImageTypeException" => Fault::invalid_parameter(format!(
            "Invalid parameter at 'ImageManifest' failed to satisfy constraint: '{}'",
            fault.message
        )),
        _ => fault,
    })?;
    if stored.unchanged {
        return Err(Fault::client(
            "ImageAlreadyExistsException",
            format!(
                "Image with digest '{}' and tag '{}' already exists in the repository with name '{name}' in registry with id '{}'",
                stored.digest,
                tag.unwrap_or("null"),
                call.scope.account
            ),
        ));
    }
    let repository = repositories::find(call.app, &call.scope, name)?;
    let media_type = repository.images.get(&stored.digest).map(|image| image.media_type.clone());
    Ok(json!({ "image": {
        "registryId": call.scope.account,
        "repositoryName": name,
        "imageId": image_id(&stored.digest, tag),
        "imageManifest": text,
        "imageManifestMediaType": media_type,
    } }))
}

fn image_id(digest: &str, tag: Option<&str>) -> Value {
    match tag {
        Some(tag) => json!({ "imageDigest": digest, "imageTag": tag }),
        None => json!({ "imageDigest": digest }),
    }
}

/// An `imageIds` member: a digest, a tag, or both.
struct Wanted<'a> {
    digest: Option<&'a str>,
    tag: Option<&'a str>,
}

impl<'a> Wanted<'a> {
    fn all(input: &'a Input) -> Vec<Self> {
        input
            .list("imageIds")
            .iter()
            .map(|id| Self { digest: id["imageDigest"].as_str(), tag: id["imageTag"].as_str() })
            .collect()
    }

    fn find<'r>(
        &self,
        repository: &'r Repository,
    ) -> Result<(&'r String, &'r Image), (&'static str, &'static str)> {
        match (self.digest, self.tag) {
            (None, None) => {
                Err(("MissingDigestAndTag", "Invalid request parameters: both tag and digest cannot be null"))
            }
            (Some(digest), _) if !digest::is_valid(digest) => Err((
                "InvalidImageDigest",
                "Invalid request parameters: image digest should satisfy the regex '[a-zA-Z0-9-_+.]+:[a-fA-F0-9]+'",
            )),
            (Some(digest), tag) => {
                let found = repository
                    .images
                    .get_key_value(digest)
                    .ok_or(("ImageNotFound", "Requested image not found"))?;
                match tag {
                    Some(tag) if repository.tags.get(tag).map(String::as_str) != Some(digest) => Err((
                        "ImageTagDoesNotMatchDigest",
                        "Requested image tag does not match the given digest",
                    )),
                    _ => Ok(found),
                }
            }
            (None, Some(tag)) => repository
                .tags
                .get(tag)
                .and_then(|digest| repository.images.get_key_value(digest))
                .ok_or(("ImageNotFound", "Requested image not found")),
        }
    }

    fn failure(&self, (code, reason): (&str, impl AsRef<str>)) -> Value {
        let mut id = json!({});
        if let Some(digest) = self.digest {
            id["imageDigest"] = json!(digest);
        }
        if let Some(tag) = self.tag {
            id["imageTag"] = json!(tag);
        }
        json!({ "imageId": id, "failureCode": code, "failureReason": reason.as_ref() })
    }
}

fn at_most_100(wanted: &[Wanted<'_>]) -> Result<(), Fault> {
    if (1..=100).contains(&wanted.len()) {
        return Ok(());
    }
    Err(Fault::invalid_parameter(
        "Invalid parameter at 'imageIds' failed to satisfy constraint: 'Member must have length between 1 and 100'",
    ))
}

pub(super) fn batch_get(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let name = input.text("repositoryName")?;
    let wanted = Wanted::all(input);
    at_most_100(&wanted)?;
    let repository = repositories::find(call.app, &call.scope, name)?;
    kms::check(call.app, &call.scope, repository.encryption.key.as_deref())?;
    let (mut images, mut failures) = (Vec::new(), Vec::new());
    for want in &wanted {
        match want.find(&repository) {
            Ok((digest, image)) => {
                let bytes = call.app.store.contents.read(digest)?;
                note_pull(call.app, &call.scope, name, digest, image)?;
                images.push(json!({
                    "registryId": call.scope.account,
                    "repositoryName": name,
                    "imageId": image_id(digest, want.tag),
                    "imageManifest": String::from_utf8_lossy(&bytes),
                    "imageManifestMediaType": image.media_type,
                }));
            }
            Err(failure) => failures.push(want.failure(failure)),
        }
    }
    Ok(json!({ "images": images, "failures": failures }))
}

fn status_filter(input: &Input) -> &str {
    input.value("filter").and_then(|filter| filter["tagStatus"].as_str()).unwrap_or("ANY")
}

fn passes(filter: &str, tagged: bool) -> bool {
    match filter {
        "TAGGED" => tagged,
        "UNTAGGED" => !tagged,
        _ => true,
    }
}

pub(super) fn list(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let repository = repositories::find(call.app, &call.scope, input.text("repositoryName")?)?;
    let filter = status_filter(input);
    let mut all = Vec::new();
    for digest in repository.images.keys() {
        let tags = tags_of(&repository, digest);
        if !passes(filter, !tags.is_empty()) {
            continue;
        }
        if tags.is_empty() {
            all.push(image_id(digest, None));
        }
        all.extend(tags.into_iter().map(|tag| image_id(digest, Some(tag))));
    }
    let (page, next) = input.page(&all, 1000)?;
    Ok(json!({ "imageIds": page, "nextToken": next }))
}

fn detail(call: &Call<'_>, repository: &Repository, digest: &str, image: &Image) -> Value {
    let size = if image.children.is_empty() {
        image.image_size
    } else {
        // Of an index: the largest of its images, as the API's reference says.
        image
            .children
            .iter()
            .filter_map(|child| repository.images.get(child))
            .map(|child| child.image_size)
            .max()
            .unwrap_or(0)
    };
    let mut view = json!({
        "registryId": call.scope.account,
        "repositoryName": repository.name,
        "imageDigest": digest,
        "imageSizeInBytes": size,
        "imagePushedAt": epoch_seconds(image.pushed),
        "imageManifestMediaType": image.media_type,
        "imageStatus": "ACTIVE",
    });
    let tags = tags_of(repository, digest);
    if !tags.is_empty() {
        view["imageTags"] = json!(tags);
    }
    if let Some(kind) = &image.artifact_type {
        view["artifactMediaType"] = json!(kind);
    }
    if let Some(pulled) = image.pulled {
        view["lastRecordedPullTime"] = epoch_seconds(pulled);
    }
    if let Some(subject) = &image.subject {
        view["subjectManifestDigest"] = json!(subject);
    }
    view
}

pub(super) fn describe(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let name = input.text("repositoryName")?;
    let repository = repositories::find(call.app, &call.scope, name)?;
    let wanted = Wanted::all(input);
    if !wanted.is_empty() {
        at_most_100(&wanted)?;
        let details: Vec<Value> = wanted
            .iter()
            .map(|want| match want.find(&repository) {
                Ok((digest, image)) => Ok(detail(call, &repository, digest, image)),
                Err(_) => Err(not_found(&call.scope, name, want.digest, want.tag)),
            })
            .collect::<Result<_, _>>()?;
        return Ok(json!({ "imageDetails": details }));
    }
    let filter = status_filter(input);
    let all: Vec<(&String, &Image)> = repository
        .images
        .iter()
        .filter(|(digest, _)| passes(filter, repository.tags.values().any(|tagged| tagged == *digest)))
        .collect();
    let (page, next) = input.page(&all, 1000)?;
    let details: Vec<Value> =
        page.iter().map(|(digest, image)| detail(call, &repository, digest, image)).collect();
    Ok(json!({ "imageDetails": details, "nextToken": next }))
}

/// Which indexes hold this image.
pub(super) fn referenced_by<'a>(repository: &'a Repository, digest: &str) -> Vec<&'a str> {
    repository
        .images
        .iter()
        .filter(|(_, image)| image.children.iter().any(|child| child == digest))
        .map(|(index, _)| index.as_str())
        .collect()
}

pub(super) fn batch_delete(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let name = input.text("repositoryName")?;
    let wanted = Wanted::all(input);
    at_most_100(&wanted)?;
    repositories::change(call.app, &call.scope, name, |repository| {
        let (mut deleted, mut failures) = (Vec::new(), Vec::new());
        // Indexes go before the images they hold, in whatever order they were named.
        let (indexes, others): (Vec<_>, Vec<_>) = wanted
            .iter()
            .partition(|want| want.find(repository).is_ok_and(|(_, image)| !image.children.is_empty()));
        for want in indexes.into_iter().chain(others) {
            match delete_one(repository, want) {
                Ok(ids) => deleted.extend(ids),
                Err((code, reason)) => failures.push(want.failure((code, reason))),
            }
        }
        Ok(json!({ "imageIds": deleted, "failures": failures }))
    })
}

fn delete_one(repository: &mut Repository, want: &Wanted<'_>) -> Result<Vec<Value>, (&'static str, String)> {
    let (digest, _) = want.find(repository).map_err(|(code, reason)| (code, reason.to_owned()))?;
    let digest = digest.clone();
    let tags: Vec<String> = tags_of(repository, &digest).into_iter().map(str::to_owned).collect();
    // A tag by itself is only taken off, unless it is the image's last.
    if let (None, Some(tag)) = (want.digest, want.tag)
        && tags.len() > 1
    {
        repository.tags.remove(tag);
        return Ok(vec![image_id(&digest, Some(tag))]);
    }
    let holders = referenced_by(repository, &digest);
    if !holders.is_empty() {
        let reason = format!("Requested image referenced by manifest list: [{}]", holders.join(", "));
        return Err(("ImageReferencedByManifestList", reason));
    }
    repository.images.remove(&digest);
    repository.tags.retain(|_, tagged| *tagged != digest);
    if tags.is_empty() {
        return Ok(vec![image_id(&digest, None)]);
    }
    Ok(tags.iter().map(|tag| image_id(&digest, Some(tag))).collect())
}

/// The manifests whose subject is `digest`, with the digest of each.
pub(crate) fn referrers<'a>(repository: &'a Repository, digest: &str) -> Vec<(&'a String, &'a Image)> {
    repository.images.iter().filter(|(_, image)| image.subject.as_deref() == Some(digest)).collect()
}

pub(super) fn list_referrers(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let repository = repositories::find(call.app, &call.scope, input.text("repositoryName")?)?;
    let subject =
        input.value("subjectId").and_then(|subject| subject["imageDigest"].as_str()).unwrap_or_default();
    let all = referrers(&repository, subject);
    let (page, next) = input.page(&all, 50)?;
    let views: Vec<Value> = page
        .iter()
        .map(|(digest, image)| {
            let annotations: &BTreeMap<String, String> = &image.annotations;
            json!({
                "digest": digest,
                "mediaType": image.media_type,
                "artifactType": image.artifact_type,
                "size": image.manifest_size,
                "annotations": annotations,
                "artifactStatus": "ACTIVE",
            })
        })
        .collect();
    Ok(json!({ "referrers": views, "nextToken": next }))
}
