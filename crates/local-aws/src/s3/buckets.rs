//! Buckets and their settings.

use std::collections::BTreeMap;

use http::StatusCode;

use super::{Call, no_such_bucket};
use crate::fault::Fault;
use crate::http::{Answer, empty, set, with_body};
use crate::policy::{Kind, Policy, PolicyError};
use crate::quirks::Delay;
use crate::store::model::Bucket;
use crate::time::{iso8601, now_millis};
use crate::xml::{self, element};

const NAMESPACE: &str = "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"";

/// An XML answer.
pub(super) fn document(root: &str, inner: &str) -> Answer {
    let text = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{root} {NAMESPACE}>{inner}</{root}>");
    with_body(StatusCode::OK, "application/xml", text)
}

pub(super) fn list(call: &Call<'_>) -> Result<Answer, Fault> {
    let buckets: String = call
        .app
        .store
        .buckets()
        .all()
        .iter()
        .filter(|bucket| bucket.account == call.caller.scope.account)
        .map(|bucket| {
            let fields = element("Name", &bucket.name)
                + &element("CreationDate", &iso8601(bucket.created))
                + &element("BucketRegion", &bucket.region);
            format!("<Bucket>{fields}</Bucket>")
        })
        .collect();
    let owner = element("ID", &call.caller.scope.account);
    Ok(document("ListAllMyBucketsResult", &format!("<Owner>{owner}</Owner><Buckets>{buckets}</Buckets>")))
}

fn is_valid_name(name: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    (3..=63).contains(&name.len())
        && edge(name.as_bytes().first())
        && edge(name.as_bytes().last())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b))
        && !name.contains("..")
}

/// AWS's settings for every new bucket since 2023.
fn new_documents() -> BTreeMap<String, String> {
    let mut documents = BTreeMap::new();
    let mut put = |name: &str, text: String| documents.insert(name.to_owned(), text);
    put("encryption", default_encryption());
    put(
        "publicAccessBlock",
        format!(
            "<PublicAccessBlockConfiguration {NAMESPACE}><BlockPublicAcls>true</BlockPublicAcls><IgnorePublicAcls>true\
             </IgnorePublicAcls><BlockPublicPolicy>true</BlockPublicPolicy><RestrictPublicBuckets>true</RestrictPublicBuckets>\
             </PublicAccessBlockConfiguration>"
        ),
    );
    put(
        "ownershipControls",
        format!(
            "<OwnershipControls {NAMESPACE}><Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule></OwnershipControls>"
        ),
    );
    documents
}

fn default_encryption() -> String {
    format!(
        "<ServerSideEncryptionConfiguration {NAMESPACE}><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>AES256\
         </SSEAlgorithm></ApplyServerSideEncryptionByDefault><BucketKeyEnabled>false</BucketKeyEnabled></Rule>\
         </ServerSideEncryptionConfiguration>"
    )
}

pub(super) fn create(call: &Call<'_>) -> Result<Answer, Fault> {
    if !is_valid_name(call.bucket) {
        return Err(Fault::client("InvalidBucketName", "The specified bucket is not valid."));
    }
    let text = String::from_utf8_lossy(&call.body);
    let constraint = xml::text(&text, "LocationConstraint").filter(|text| !text.is_empty());
    let region = &call.caller.scope.region;
    match constraint.as_deref() {
        None if region != "us-east-1" => {
            return Err(Fault::client(
                "IllegalLocationConstraintException",
                "The unspecified location constraint is incompatible for the region specific endpoint this request was sent to.",
            ));
        }
        Some("us-east-1") => {
            return Err(Fault::client(
                "InvalidLocationConstraint",
                "The specified location-constraint is not valid",
            ));
        }
        Some(wanted) if wanted != region => {
            return Err(Fault::client(
                "IllegalLocationConstraintException",
                format!(
                    "The {wanted} location constraint is incompatible for the region specific endpoint this request was sent to."
                ),
            ));
        }
        _ => {}
    }
    call.app.store.buckets().change(call.bucket, |known| match known {
        Some(known) if known.account != call.caller.scope.account => Err(Fault::new(
            StatusCode::CONFLICT,
            "BucketAlreadyExists",
            "The requested bucket name is not available. The bucket namespace is shared by all users of the system. Please \
             select a different name and try again.",
        )),
        // In us-east-1, creating one's own bucket again is not an error.
        Some(known) if known.region == "us-east-1" && region == "us-east-1" => Ok(((), known.clone())),
        Some(_) => Err(Fault::new(
            StatusCode::CONFLICT,
            "BucketAlreadyOwnedByYou",
            "Your previous request to create the named bucket succeeded and you already own it.",
        )),
        None => Ok((
            (),
            Bucket {
                name: call.bucket.to_owned(),
                account: call.caller.scope.account.clone(),
                region: region.clone(),
                created: now_millis(),
                documents: new_documents(),
                objects: BTreeMap::new(),
            },
        )),
    })?;
    call.app.quirks.delays.begin(Delay::Bucket, call.bucket);
    let mut answer = empty(StatusCode::OK);
    set(&mut answer, "location", format!("/{}", call.bucket));
    set(&mut answer, "content-length", "0");
    Ok(answer)
}

pub(super) fn head(call: &Call<'_>) -> Result<Answer, Fault> {
    call.bucket()?;
    Ok(with_body(StatusCode::OK, "application/xml", ""))
}

pub(super) fn delete(call: &Call<'_>) -> Result<Answer, Fault> {
    call.bucket()?;
    call.app.store.buckets().remove(call.bucket)?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// The only request about a bucket that every region answers.
pub(super) fn location(call: &Call<'_>) -> Result<Answer, Fault> {
    let bucket = call.app.store.buckets().get(call.bucket).ok_or_else(no_such_bucket)?;
    let region = if bucket.region == "us-east-1" { "" } else { &bucket.region };
    Ok(document("LocationConstraint", &xml::escape(region)))
}

/// The error for a document that was never put.
fn missing(name: &str) -> Fault {
    let (code, message) = match name {
        "policy" => ("NoSuchBucketPolicy", "The bucket policy does not exist"),
        "tagging" => ("NoSuchTagSet", "The TagSet does not exist"),
        "publicAccessBlock" => {
            ("NoSuchPublicAccessBlockConfiguration", "The public access block configuration was not found")
        }
        "ownershipControls" => {
            ("OwnershipControlsNotFoundError", "The bucket ownership controls were not found")
        }
        _ => ("NoSuchConfiguration", "The specified configuration does not exist."),
    };
    Fault::not_found(code, message)
}

pub(super) fn get_document(call: &Call<'_>, name: &str) -> Result<Answer, Fault> {
    let bucket = call.bucket()?;
    match bucket.documents.get(name) {
        Some(text) if name == "policy" => Ok(with_body(StatusCode::OK, "application/json", text.clone())),
        Some(text) => Ok(with_body(StatusCode::OK, "application/xml", text.clone())),
        None if name == "versioning" => Ok(document("VersioningConfiguration", "")),
        None => Err(missing(name)),
    }
}

pub(super) fn put_document(call: &Call<'_>, name: &str) -> Result<Answer, Fault> {
    let bucket = call.bucket()?;
    let text = String::from_utf8_lossy(&call.body).into_owned();
    check_document(&bucket, name, &text)?;
    if name == "versioning" && !bucket.documents.contains_key(name) {
        call.app.quirks.delays.begin(Delay::Versions, call.bucket);
    }
    change_documents(call, |documents| {
        documents.insert(name.to_owned(), text);
    })?;
    // PutBucketPolicy and PutBucketTagging answer 204, the others 200; clients accept both.
    Ok(empty(if name == "policy" || name == "tagging" { StatusCode::NO_CONTENT } else { StatusCode::OK }))
}

fn check_document(bucket: &Bucket, name: &str, text: &str) -> Result<(), Fault> {
    let malformed = || {
        Fault::client(
            "MalformedXML",
            "The XML you provided was not well-formed or did not validate against our published schema",
        )
    };
    match name {
        "policy" => {
            let policy = Policy::parse(text, Kind::Resource).map_err(|error| match error {
                PolicyError::Malformed(words) => Fault::client("MalformedPolicy", words),
                unknown @ PolicyError::Unknown(_) => {
                    Fault::not_implemented("s3", &format!("PutBucketPolicy: {unknown}"))
                }
            })?;
            let blocked = bucket
                .documents
                .get("publicAccessBlock")
                .and_then(|text| xml::text(text, "BlockPublicPolicy"))
                .is_some_and(|text| text == "true");
            if blocked && policy.is_public() {
                return Err(Fault::new(
                    StatusCode::FORBIDDEN,
                    "AccessDenied",
                    "Access Denied: BlockPublicPolicy is set",
                ));
            }
            Ok(())
        }
        "versioning" => match xml::text(text, "Status").as_deref() {
            Some("Enabled" | "Suspended") => Ok(()),
            _ => Err(malformed()),
        },
        "encryption" => match xml::text(text, "SSEAlgorithm").as_deref() {
            Some("AES256" | "aws:kms" | "aws:kms:dsse") => Ok(()),
            _ => Err(malformed()),
        },
        "publicAccessBlock" if !text.contains("PublicAccessBlockConfiguration") => Err(malformed()),
        "tagging" if !text.contains("TagSet") => Err(malformed()),
        _ => Ok(()),
    }
}

pub(super) fn policy_status(call: &Call<'_>) -> Result<Answer, Fault> {
    let bucket = call.bucket()?;
    let policy = bucket.documents.get("policy").ok_or_else(|| missing("policy"))?;
    let public = Policy::parse(policy, Kind::Resource).is_ok_and(|policy| policy.is_public());
    Ok(document("PolicyStatus", &element("IsPublic", if public { "true" } else { "false" })))
}

pub(super) fn delete_document(call: &Call<'_>, name: &str) -> Result<Answer, Fault> {
    call.bucket()?;
    change_documents(call, |documents| {
        documents.remove(name);
        // Since 2023, no bucket is without encryption: it gets the default again.
        if name == "encryption" {
            documents.insert(name.to_owned(), default_encryption());
        }
    })?;
    Ok(empty(StatusCode::NO_CONTENT))
}

fn change_documents(
    call: &Call<'_>,
    change: impl FnOnce(&mut BTreeMap<String, String>),
) -> Result<(), Fault> {
    call.app.store.buckets().change(call.bucket, |known| {
        let mut bucket = known.cloned().ok_or_else(no_such_bucket)?;
        change(&mut bucket.documents);
        Ok(((), bucket))
    })
}
