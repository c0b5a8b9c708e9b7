//! Lists objects, by prefix and delimiter, and versions.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Call;
use super::buckets::document;
use crate::fault::Fault;
use crate::http::Answer;
use crate::store::model::{Bucket, Content, Version};
use crate::time::iso8601;
use crate::xml::element;

enum Row<'a> {
    Object(&'a str, &'a Version, &'a Content),
    Prefix(String),
}

impl Row<'_> {
    fn name(&self) -> &str {
        match self {
            Row::Object(key, _, _) => key,
            Row::Prefix(prefix) => prefix,
        }
    }
}

/// Rows after `after`, sorted, with common prefixes grouped.
fn rows<'a>(bucket: &'a Bucket, prefix: &str, delimiter: &str, after: &str) -> Vec<Row<'a>> {
    let mut rows: Vec<Row<'a>> = Vec::new();
    for (key, versions) in &bucket.objects {
        let Some(rest) = key.strip_prefix(prefix) else { continue };
        let Some((version, content)) = versions.last().and_then(|v| Some((v, v.content.as_ref()?))) else {
            continue;
        };
        let folded = if delimiter.is_empty() { None } else { rest.find(delimiter) }
            .map(|at| format!("{prefix}{}", &rest[..at + delimiter.len()]));
        match folded {
            Some(folded) => {
                let known = matches!(rows.last(), Some(Row::Prefix(last)) if *last == folded);
                if !known && folded.as_str() > after {
                    rows.push(Row::Prefix(folded));
                }
            }
            None if key.as_str() > after => rows.push(Row::Object(key, version, content)),
            None => {}
        }
    }
    rows
}

fn max_keys(call: &Call<'_>) -> Result<usize, Fault> {
    match call.value("max-keys") {
        None => Ok(1000),
        Some(text) => text.parse::<usize>().map(|most| most.min(1000)).map_err(|_| {
            Fault::client("InvalidArgument", "Provided max-keys not an integer or within integer range")
        }),
    }
}

/// `encoding-type=url`, which the aws CLI requests: names percent-encoded.
fn encode(call: &Call<'_>, text: &str) -> String {
    if call.value("encoding-type") != Some("url") {
        return text.to_owned();
    }
    text.bytes()
        .map(|b| match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                char::from(b).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

fn rendered(call: &Call<'_>, rows: &[Row<'_>]) -> String {
    rows.iter()
        .map(|row| match row {
            Row::Prefix(prefix) => {
                format!("<CommonPrefixes>{}</CommonPrefixes>", element("Prefix", &encode(call, prefix)))
            }
            Row::Object(key, version, content) => {
                let fields = element("Key", &encode(call, key))
                    + &element("LastModified", &iso8601(version.modified))
                    + &element("ETag", &content.etag)
                    + &element("Size", &content.size.to_string())
                    + &element("StorageClass", "STANDARD");
                format!("<Contents>{fields}</Contents>")
            }
        })
        .collect()
}

fn header(call: &Call<'_>, most: usize, truncated: bool) -> String {
    let mut text = element("Name", call.bucket)
        + &element("Prefix", &encode(call, call.value("prefix").unwrap_or_default()))
        + &element("MaxKeys", &most.to_string())
        + &element("IsTruncated", if truncated { "true" } else { "false" });
    for (name, element_name) in [("delimiter", "Delimiter"), ("encoding-type", "EncodingType")] {
        if let Some(value) = call.value(name).filter(|value| !value.is_empty()) {
            text += &element(element_name, value);
        }
    }
    text
}

pub(super) fn objects_v2(call: &Call<'_>) -> Result<Answer, Fault> {
    let bucket = call.bucket()?;
    let most = max_keys(call)?;
    let token = call.value("continuation-token");
    let after = match token {
        Some(token) => {
            STANDARD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(|| {
                Fault::client("InvalidArgument", "The continuation token provided is incorrect")
            })?
        }
        None => call.value("start-after").unwrap_or_default().to_owned(),
    };
    let all = rows(
        &bucket,
        call.value("prefix").unwrap_or_default(),
        call.value("delimiter").unwrap_or_default(),
        &after,
    );
    let page = &all[..most.min(all.len())];
    let truncated = page.len() < all.len();
    let mut inner = header(call, most, truncated) + &element("KeyCount", &page.len().to_string());
    if let Some(token) = token {
        inner += &element("ContinuationToken", token);
    }
    if let Some(last) = page.last().filter(|_| truncated) {
        inner += &element("NextContinuationToken", &STANDARD.encode(last.name()));
    }
    Ok(document("ListBucketResult", &(inner + &rendered(call, page))))
}

pub(super) fn objects_v1(call: &Call<'_>) -> Result<Answer, Fault> {
    let bucket = call.bucket()?;
    let most = max_keys(call)?;
    let marker = call.value("marker").unwrap_or_default();
    let all = rows(
        &bucket,
        call.value("prefix").unwrap_or_default(),
        call.value("delimiter").unwrap_or_default(),
        marker,
    );
    let page = &all[..most.min(all.len())];
    let truncated = page.len() < all.len();
    let mut inner = header(call, most, truncated) + &element("Marker", &encode(call, marker));
    if let Some(last) = page.last().filter(|_| truncated) {
        inner += &element("NextMarker", &encode(call, last.name()));
    }
    Ok(document("ListBucketResult", &(inner + &rendered(call, page))))
}

pub(super) fn versions(call: &Call<'_>) -> Result<Answer, Fault> {
    let bucket = call.bucket()?;
    let most = max_keys(call)?;
    let prefix = call.value("prefix").unwrap_or_default();
    let marker =
        (call.value("key-marker").unwrap_or_default(), call.value("version-id-marker").unwrap_or_default());
    // By key, and for each key the newest first.
    let all: Vec<(&String, &Version, bool)> = bucket
        .objects
        .iter()
        .filter(|(key, _)| key.starts_with(prefix))
        .flat_map(|(key, versions)| {
            versions.iter().rev().enumerate().map(move |(at, version)| (key, version, at == 0))
        })
        .collect();
    let start = match marker {
        ("", _) => 0,
        (key, "") => all.iter().position(|(known, ..)| known.as_str() > key).unwrap_or(all.len()),
        (key, id) => all
            .iter()
            .position(|(known, version, _)| known.as_str() == key && version.id == id)
            .map_or(all.len(), |at| at + 1),
    };
    let page = &all[start..all.len().min(start + most)];
    let truncated = start + page.len() < all.len();
    let mut inner = header(call, most, truncated)
        + &element("KeyMarker", &encode(call, marker.0))
        + &element("VersionIdMarker", marker.1);
    if let Some((key, version, _)) = page.last().filter(|_| truncated) {
        inner += &element("NextKeyMarker", &encode(call, key));
        inner += &element("NextVersionIdMarker", &version.id);
    }
    for (key, version, latest) in page {
        let fields = element("Key", &encode(call, key))
            + &element("VersionId", &version.id)
            + &element("IsLatest", if *latest { "true" } else { "false" })
            + &element("LastModified", &iso8601(version.modified));
        inner += &match &version.content {
            None => format!("<DeleteMarker>{fields}</DeleteMarker>"),
            Some(content) => format!(
                "<Version>{fields}{}{}{}</Version>",
                element("ETag", &content.etag),
                element("Size", &content.size.to_string()),
                element("StorageClass", "STANDARD")
            ),
        };
    }
    Ok(document("ListVersionsResult", &inner))
}
