//! Images through the JSON API.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::images::{Put, not_found, note_pull, referrers, store, tags_of};
use super::{ON_REPOSITORY, repositories};
use crate::digest;
use crate::fault::Fault;
use crate::input::Input;
use crate::kms;
use crate::resource::{Call, Resource};
use crate::store::model::{Image, Repository};
use crate::time::{epoch_seconds, now_millis};

pub(super) const RESOURCE: Resource = Resource {
    actions: &[
        ("BatchDeleteImage", ON_REPOSITORY, batch_delete),
        ("BatchGetImage", ON_REPOSITORY, batch_get),
        ("DescribeImages", ON_REPOSITORY, describe),
        ("ListImageReferrers", ON_REPOSITORY, list_referrers),
        ("ListImages", ON_REPOSITORY, list),
        ("PutImage", ON_REPOSITORY, put),
        ("UpdateImageStorageClass", ON_REPOSITORY, update_storage_class),
    ],
    existing: None,
    scenarios: &[],
};

fn put(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let name = input.text("repositoryName")?;
    let text = input.text("imageManifest")?;
    let tag = input.opt("imageTag");
    if call.app.quirks.throttles.put_image() {
        return Err(Fault::client("ThrottlingException", "Rate exceeded"));
    }
    let put = Put {
        bytes: text.as_bytes(),
        media_type: input.opt("imageManifestMediaType"),
        tag,
        digest: input.opt("imageDigest"),
        by: &call.caller.principal(),
    };
    let stored = store(call.app, &call.scope, name, &put).map_err(|fault| match fault.code.as_str() {
        // 405 is the registry's status; the API does not use it.
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
pub(super) struct Wanted<'a> {
    pub(super) digest: Option<&'a str>,
    pub(super) tag: Option<&'a str>,
}

impl<'a> Wanted<'a> {
    fn all(input: &'a Input) -> Vec<Self> {
        input
            .list("imageIds")
            .iter()
            .map(|id| Self { digest: id["imageDigest"].as_str(), tag: id["imageTag"].as_str() })
            .collect()
    }

    pub(super) fn find<'r>(
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

fn batch_get(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let name = input.text("repositoryName")?;
    let wanted = Wanted::all(input);
    at_most_100(&wanted)?;
    let repository = repositories::find(call.app, &call.scope, name)?;
    // The request itself succeeds: each image has its own failure.
    let locked = kms::check(call.app, &call.scope, repository.encryption.key.as_deref()).err();
    let (mut images, mut failures) = (Vec::new(), Vec::new());
    for want in &wanted {
        match want.find(&repository) {
            Ok(_) if let Some(fault) = &locked => {
                failures.push(want.failure(("KmsError", fault.message.as_str())));
            }
            Ok((_, image)) if image.archived.is_some() => {
                failures.push(want.failure(("ImageNotFound", "Requested image not found")));
            }
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

/// Whether an image has the requested status, by default ACTIVE.
fn has_status(input: &Input, image: &Image) -> bool {
    let wanted = input.value("filter").and_then(|filter| filter["imageStatus"].as_str());
    match wanted.unwrap_or("ACTIVE") {
        "ANY" => true,
        wanted => wanted == status(image),
    }
}

fn status(image: &Image) -> &'static str {
    if image.archived.is_some() { "ARCHIVED" } else { "ACTIVE" }
}

/// Changes the storage class. ECR restores within minutes; here it is immediate
/// (<https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_UpdateImageStorageClass.html>).
fn update_storage_class(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let name = input.text("repositoryName")?;
    let id = input.value("imageId").cloned().unwrap_or_default();
    let want = Wanted { digest: id["imageDigest"].as_str(), tag: id["imageTag"].as_str() };
    let archived = match input.text("targetStorageClass")? {
        "ARCHIVE" => Some(now_millis()),
        "STANDARD" => None,
        _ => return Err(Fault::invalid_parameter("Invalid parameter at 'targetStorageClass'")),
    };
    repositories::change(call.app, &call.scope, name, |repository| {
        let found = want.find(repository).map(|(digest, _)| digest.clone());
        let digest = found.map_err(|_| not_found(&call.scope, name, want.digest, want.tag))?;
        if let Some(image) = repository.images.get_mut(&digest) {
            image.archived = archived;
        }
        Ok(json!({
            "registryId": call.scope.account,
            "repositoryName": name,
            "imageId": image_id(&digest, want.tag),
            "imageStatus": if archived.is_some() { "ARCHIVED" } else { "ACTIVE" },
        }))
    })
}

fn passes(filter: &str, tagged: bool) -> bool {
    match filter {
        "TAGGED" => tagged,
        "UNTAGGED" => !tagged,
        _ => true,
    }
}

fn list(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let repository = repositories::find(call.app, &call.scope, input.text("repositoryName")?)?;
    let filter = status_filter(input);
    let mut all = Vec::new();
    for (digest, image) in &repository.images {
        let tags = tags_of(&repository, digest);
        if !passes(filter, !tags.is_empty()) || !has_status(input, image) {
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
        // For an index: the largest of its images, as documented in the API reference.
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
        "imageStatus": status(image),
    });
    if let Some(archived) = image.archived {
        view["lastArchivedAt"] = epoch_seconds(archived);
    }
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

fn describe(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
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
        .filter(|(digest, image)| {
            passes(filter, repository.tags.values().any(|tagged| tagged == *digest))
                && has_status(input, image)
        })
        .collect();
    let (page, next) = input.page(&all, 1000)?;
    let details: Vec<Value> =
        page.iter().map(|(digest, image)| detail(call, &repository, digest, image)).collect();
    Ok(json!({ "imageDetails": details, "nextToken": next }))
}

/// The indexes that contain this image.
pub(super) fn referenced_by<'a>(repository: &'a Repository, digest: &str) -> Vec<&'a str> {
    repository
        .images
        .iter()
        .filter(|(_, image)| image.children.iter().any(|child| child == digest))
        .map(|(index, _)| index.as_str())
        .collect()
}

fn batch_delete(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let name = input.text("repositoryName")?;
    let wanted = Wanted::all(input);
    at_most_100(&wanted)?;
    repositories::change(call.app, &call.scope, name, |repository| {
        let (mut deleted, mut failures) = (Vec::new(), Vec::new());
        // Indexes are deleted before their images, whatever the order in the request.
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
    // A tag alone is only removed, unless it is the image's last one.
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

fn list_referrers(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
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
