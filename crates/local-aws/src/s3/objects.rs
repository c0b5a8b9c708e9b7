//! Objects and their versions, with atomic conditional changes.

use std::collections::BTreeMap;

use http::{Method, StatusCode};
use md5::{Digest as _, Md5};

use super::{Call, no_such_bucket};
use crate::fault::Fault;
use crate::http::{Answer, byte_range, empty, set, with_body};
use crate::store::disk;
use crate::store::model::{Bucket, Content, Version};
use crate::time::{http_date, now_millis};
use crate::xml::{self, element};

/// Headers that are stored with an object and returned with it.
const KEPT: &[&str] =
    &["cache-control", "content-disposition", "content-language", "content-type", "expires"];
const ENCRYPTION: &str = "x-amz-server-side-encryption";
const ENCRYPTION_KEY: &str = "x-amz-server-side-encryption-aws-kms-key-id";

fn versioned(bucket: &Bucket) -> bool {
    bucket.documents.get("versioning").and_then(|text| xml::text(text, "Status")).as_deref()
        == Some("Enabled")
}

/// Whether the bucket ever had versioning: only then do answers contain versions.
fn shows_versions(bucket: &Bucket) -> bool {
    bucket.documents.contains_key("versioning")
}

/// The object that a plain GET returns.
fn current(versions: &[Version]) -> Option<(&Version, &Content)> {
    versions.last().and_then(|version| Some((version, version.content.as_ref()?)))
}

pub(super) fn no_such_key() -> Fault {
    Fault::not_found("NoSuchKey", "The specified key does not exist.")
}

fn precondition() -> Fault {
    let message = "At least one of the pre-conditions you specified did not hold";
    Fault::new(StatusCode::PRECONDITION_FAILED, "PreconditionFailed", message)
}

/// Checks a change's conditions against the current state.
fn check_conditions(call: &Call<'_>, versions: &[Version]) -> Result<(), Fault> {
    let etag = current(versions).map(|(_, content)| content.etag.as_str());
    if let Some(unwanted) = call.header("if-none-match") {
        if unwanted != "*" {
            return Err(Fault::new(
                StatusCode::NOT_IMPLEMENTED,
                "NotImplemented",
                "A header you provided implies functionality that is not implemented: If-None-Match takes *",
            ));
        }
        if etag.is_some() {
            return Err(precondition());
        }
    }
    match (call.header("if-match"), etag) {
        (None, _) => Ok(()),
        (Some(_), None) => Err(no_such_key()),
        (Some("*"), Some(_)) => Ok(()),
        (Some(wanted), Some(etag)) if wanted.trim_matches('"') == etag.trim_matches('"') => Ok(()),
        (Some(_), Some(_)) => Err(precondition()),
    }
}

fn kept_headers(call: &Call<'_>, bucket: &Bucket) -> BTreeMap<String, String> {
    let mut headers: BTreeMap<String, String> = call
        .parts
        .headers
        .iter()
        .filter(|(name, _)| KEPT.contains(&name.as_str()) || name.as_str().starts_with("x-amz-meta-"))
        .filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())))
        .collect();
    headers.entry("content-type".to_owned()).or_insert_with(|| "binary/octet-stream".to_owned());
    // aws-chunked only applies to the transfer; the rest is the object's own encoding.
    let encoding: Vec<&str> = call
        .header("content-encoding")
        .unwrap_or_default()
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty() && *part != "aws-chunked")
        .collect();
    if !encoding.is_empty() {
        headers.insert("content-encoding".to_owned(), encoding.join(","));
    }
    let default = bucket.documents.get("encryption");
    let from_default = |name: &str| default.and_then(|text| xml::text(text, name));
    let asked = call.header(ENCRYPTION).map(str::to_owned);
    let algorithm = asked.or_else(|| from_default("SSEAlgorithm")).unwrap_or_else(|| "AES256".to_owned());
    if algorithm.starts_with("aws:kms") {
        let key = call.header(ENCRYPTION_KEY).map(str::to_owned).or_else(|| from_default("KMSMasterKeyID"));
        headers.extend(key.map(|key| (ENCRYPTION_KEY.to_owned(), key)));
    }
    headers.insert(ENCRYPTION.to_owned(), algorithm);
    headers
}

pub(super) fn put(call: &Call<'_>) -> Result<Answer, Fault> {
    let bucket = call.bucket()?;
    if call.header("x-amz-copy-source").is_some() {
        return Err(Fault::not_implemented("s3", "CopyObject"));
    }
    // A request that already fails need not wait for the disk; the decisive check follows below.
    check_conditions(call, bucket.objects.get(call.key).map_or(&[], Vec::as_slice))?;
    let content = Content {
        file: crate::store::new_id(),
        size: call.body.len() as u64,
        etag: format!("\"{}\"", hex::encode(Md5::digest(&call.body))),
        headers: kept_headers(call, &bucket),
    };
    let path = call.app.store.buckets().object_file(call.bucket, &content.file);
    disk::write_atomic(&path, &call.body)?;
    let stored = call
        .app
        .store
        .buckets()
        .change_object(call.bucket, call.key, |bucket, versions| {
            check_conditions(call, versions)?;
            let id = if versioned(bucket) { new_version() } else { "null".to_owned() };
            if id == "null" {
                versions.retain(|version| version.id != "null");
            }
            versions.push(Version { id: id.clone(), modified: now_millis(), content: Some(content.clone()) });
            Ok(shows_versions(bucket).then_some(id))
        })
        .unwrap_or_else(|| Err(no_such_bucket()));
    let version = match stored {
        Ok(version) => version,
        Err(fault) => {
            disk::remove(&path)?;
            return Err(fault);
        }
    };
    let mut answer = empty(StatusCode::OK);
    set(&mut answer, "etag", &content.etag);
    set(&mut answer, "content-length", "0");
    for name in [ENCRYPTION, ENCRYPTION_KEY] {
        if let Some(value) = content.headers.get(name) {
            set(&mut answer, name, value);
        }
    }
    if let Some(version) = version {
        set(&mut answer, "x-amz-version-id", version);
    }
    Ok(answer)
}

fn new_version() -> String {
    format!("{:032x}", fastrand::u128(..))
}

pub(super) fn get(call: &Call<'_>) -> Result<Answer, Fault> {
    let bucket = call.bucket()?;
    let versions = bucket.objects.get(call.key).map_or(&[][..], Vec::as_slice);
    let (version, content) = match call.value("versionId") {
        None => current(versions).ok_or_else(no_such_key)?,
        Some(id) => {
            let version = versions
                .iter()
                .find(|version| version.id == id)
                .ok_or_else(|| Fault::not_found("NoSuchVersion", "The specified version does not exist."))?;
            let content = version.content.as_ref().ok_or_else(|| {
                Fault::new(
                    StatusCode::METHOD_NOT_ALLOWED,
                    "MethodNotAllowed",
                    "The specified method is not allowed against this resource.",
                )
            })?;
            (version, content)
        }
    };
    let same = |etag: &str| etag == "*" || etag.trim_matches('"') == content.etag.trim_matches('"');
    if call.header("if-match").is_some_and(|etag| !same(etag)) {
        return Err(precondition());
    }
    let mut answer = if call.header("if-none-match").is_some_and(same) {
        empty(StatusCode::NOT_MODIFIED)
    } else {
        contents(call, content)?
    };
    set(&mut answer, "etag", &content.etag);
    set(&mut answer, "last-modified", http_date(version.modified));
    set(&mut answer, "accept-ranges", "bytes");
    for (name, value) in &content.headers {
        set(&mut answer, name, value);
    }
    if shows_versions(&bucket) {
        set(&mut answer, "x-amz-version-id", &version.id);
    }
    Ok(answer)
}

fn contents(call: &Call<'_>, content: &Content) -> Result<Answer, Fault> {
    let range = byte_range(call.header("range"), content.size).map_err(|()| {
        Fault::new(
            StatusCode::RANGE_NOT_SATISFIABLE,
            "InvalidRange",
            "The requested range is not satisfiable",
        )
    })?;
    // HEAD returns the size without the bytes; the caller removes the body.
    if call.parts.method == Method::HEAD {
        let mut answer = empty(StatusCode::OK);
        set(&mut answer, "content-length", content.size.to_string());
        return Ok(answer);
    }
    let bytes = std::fs::read(call.app.store.buckets().object_file(call.bucket, &content.file))?;
    match range {
        None => Ok(with_body(StatusCode::OK, "", bytes)),
        Some((first, last)) => {
            let slice = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
            let part = bytes.get(slice(first)..=slice(last)).unwrap_or_default().to_vec();
            let mut answer = with_body(StatusCode::PARTIAL_CONTENT, "", part);
            set(&mut answer, "content-range", format!("bytes {first}-{last}/{}", content.size));
            Ok(answer)
        }
    }
}

/// The result of a deletion.
struct Deleted {
    version: Option<String>,
    marker: bool,
}

fn delete_one(
    call: &Call<'_>,
    key: &str,
    version: Option<&str>,
    conditional: bool,
) -> Result<Deleted, Fault> {
    call.app
        .store
        .buckets()
        .change_object(call.bucket, key, |bucket, versions| {
            if conditional {
                check_conditions(call, versions)?;
            }
            if let Some(id) = version {
                let marker = versions.iter().any(|known| known.id == id && known.content.is_none());
                versions.retain(|known| known.id != id);
                return Ok(Deleted { version: Some(id.to_owned()), marker });
            }
            if !shows_versions(bucket) {
                versions.clear();
                return Ok(Deleted { version: None, marker: false });
            }
            let id = if versioned(bucket) { new_version() } else { "null".to_owned() };
            if id == "null" {
                versions.retain(|known| known.id != "null");
            }
            versions.push(Version { id: id.clone(), modified: now_millis(), content: None });
            Ok(Deleted { version: Some(id), marker: true })
        })
        .unwrap_or_else(|| Err(no_such_bucket()))
}

pub(super) fn delete(call: &Call<'_>) -> Result<Answer, Fault> {
    call.bucket()?;
    let deleted = delete_one(call, call.key, call.value("versionId"), true)?;
    let mut answer = empty(StatusCode::NO_CONTENT);
    if let Some(version) = &deleted.version {
        set(&mut answer, "x-amz-version-id", version);
    }
    if deleted.marker {
        set(&mut answer, "x-amz-delete-marker", "true");
    }
    Ok(answer)
}

pub(super) fn delete_many(call: &Call<'_>) -> Result<Answer, Fault> {
    call.bucket()?;
    let text = String::from_utf8_lossy(&call.body);
    let quiet = xml::text(&text, "Quiet").is_some_and(|text| text == "true");
    let mut results = String::new();
    for object in xml::elements(&text, "Object") {
        let key = xml::text(object, "Key").unwrap_or_default();
        let version = xml::text(object, "VersionId").filter(|id| !id.is_empty());
        match delete_one(call, &key, version.as_deref(), false) {
            Ok(_) if quiet => {}
            Ok(deleted) => {
                let mut fields = element("Key", &key);
                if let Some(version) = &version {
                    fields += &element("VersionId", version);
                }
                if deleted.marker {
                    fields += &element("DeleteMarker", "true");
                    fields += &element("DeleteMarkerVersionId", deleted.version.as_deref().unwrap_or("null"));
                }
                results += &format!("<Deleted>{fields}</Deleted>");
            }
            Err(fault) => {
                let fields = element("Key", &key)
                    + &element("Code", &fault.code)
                    + &element("Message", &fault.message);
                results += &format!("<Error>{fields}</Error>");
            }
        }
    }
    Ok(super::buckets::document("DeleteResult", &results))
}
