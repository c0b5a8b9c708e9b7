//! S3, path-style and as a virtual host below `localhost`
//! (<https://docs.aws.amazon.com/AmazonS3/latest/API/Welcome.html>): what terraform's backend, the check of a state bucket and
//! the aws CLI use.

mod body;
mod buckets;
mod list;
mod objects;

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, StatusCode};
use hyper::body::Incoming;

use crate::account::{Caller, NoCaller};
use crate::fault::Fault;
use crate::http::{Answer, header, percent_decode, query, read, set, value, with_body, without_body};
use crate::journal::Entry;
use crate::route::note_caller;
use crate::server::App;
use crate::store::model::Bucket;
use crate::xml::element;

/// The largest object: a state, a plan, a proof; nobody keeps images here.
const MOST_BYTES: usize = 256 * 1024 * 1024;

/// One request, its body read.
struct Call<'a> {
    app: &'a App,
    parts: &'a Parts,
    caller: &'a Caller,
    bucket: &'a str,
    key: &'a str,
    query: &'a [(String, String)],
    body: Bytes,
}

impl Call<'_> {
    fn header(&self, name: &str) -> Option<&str> {
        header(self.parts, name)
    }

    fn value(&self, name: &str) -> Option<&str> {
        value(self.query, name)
    }

    /// The bucket, if it exists, is the caller's, and lies in the region that the request was signed for.
    fn bucket(&self) -> Result<Arc<Bucket>, Fault> {
        let bucket = self.app.store.bucket(self.bucket).ok_or_else(no_such_bucket)?;
        if bucket.account != self.caller.scope.account {
            return Err(Fault::new(StatusCode::FORBIDDEN, "AccessDenied", "Access Denied"));
        }
        if bucket.region != self.caller.scope.region {
            return Err(Fault::new(
                StatusCode::MOVED_PERMANENTLY,
                "PermanentRedirect",
                "The bucket you are attempting to access must be addressed using the specified endpoint. Please send all future \
                 requests to this endpoint.",
            ));
        }
        if let Some(expected) = self.header("x-amz-expected-bucket-owner")
            && expected != bucket.account
        {
            return Err(Fault::new(StatusCode::FORBIDDEN, "AccessDenied", "Access Denied"));
        }
        Ok(bucket)
    }
}

fn no_such_bucket() -> Fault {
    Fault::not_found("NoSuchBucket", "The specified bucket does not exist")
}

type Handler = fn(&Call<'_>) -> Result<Answer, Fault>;

/// One action: its name, the IAM action it needs, and what it does.
struct Action {
    name: &'static str,
    iam: &'static str,
    handler: Handler,
}

/// Every action that is implemented: method, whether there is a key, the sub-resource of the query, and the action.
const ACTIONS: &[(&str, Place, &str, Action)] = &[
    (
        "GET",
        Place::Service,
        "",
        Action { name: "ListBuckets", iam: "s3:ListAllMyBuckets", handler: buckets::list },
    ),
    (
        "PUT",
        Place::Bucket,
        "",
        Action { name: "CreateBucket", iam: "s3:CreateBucket", handler: buckets::create },
    ),
    ("HEAD", Place::Bucket, "", Action { name: "HeadBucket", iam: "s3:ListBucket", handler: buckets::head }),
    (
        "DELETE",
        Place::Bucket,
        "",
        Action { name: "DeleteBucket", iam: "s3:DeleteBucket", handler: buckets::delete },
    ),
    (
        "GET",
        Place::Bucket,
        "",
        Action { name: "ListObjects", iam: "s3:ListBucket", handler: list::objects_v1 },
    ),
    (
        "GET",
        Place::Bucket,
        "list-type",
        Action { name: "ListObjectsV2", iam: "s3:ListBucket", handler: list::objects_v2 },
    ),
    (
        "GET",
        Place::Bucket,
        "versions",
        Action { name: "ListObjectVersions", iam: "s3:ListBucketVersions", handler: list::versions },
    ),
    (
        "POST",
        Place::Bucket,
        "delete",
        Action { name: "DeleteObjects", iam: "s3:DeleteObject", handler: objects::delete_many },
    ),
    (
        "GET",
        Place::Bucket,
        "location",
        Action { name: "GetBucketLocation", iam: "s3:GetBucketLocation", handler: buckets::location },
    ),
    (
        "GET",
        Place::Bucket,
        "policyStatus",
        Action {
            name: "GetBucketPolicyStatus",
            iam: "s3:GetBucketPolicyStatus",
            handler: buckets::policy_status,
        },
    ),
    (
        "GET",
        Place::Bucket,
        "versioning",
        Action {
            name: "GetBucketVersioning",
            iam: "s3:GetBucketVersioning",
            handler: |call| buckets::get_document(call, "versioning"),
        },
    ),
    (
        "PUT",
        Place::Bucket,
        "versioning",
        Action {
            name: "PutBucketVersioning",
            iam: "s3:PutBucketVersioning",
            handler: |call| buckets::put_document(call, "versioning"),
        },
    ),
    (
        "GET",
        Place::Bucket,
        "encryption",
        Action {
            name: "GetBucketEncryption",
            iam: "s3:GetEncryptionConfiguration",
            handler: |call| buckets::get_document(call, "encryption"),
        },
    ),
    (
        "PUT",
        Place::Bucket,
        "encryption",
        Action {
            name: "PutBucketEncryption",
            iam: "s3:PutEncryptionConfiguration",
            handler: |call| buckets::put_document(call, "encryption"),
        },
    ),
    (
        "DELETE",
        Place::Bucket,
        "encryption",
        Action {
            name: "DeleteBucketEncryption",
            iam: "s3:PutEncryptionConfiguration",
            handler: |call| buckets::delete_document(call, "encryption"),
        },
    ),
    (
        "GET",
        Place::Bucket,
        "publicAccessBlock",
        Action {
            name: "GetPublicAccessBlock",
            iam: "s3:GetBucketPublicAccessBlock",
            handler: |call| buckets::get_document(call, "publicAccessBlock"),
        },
    ),
    (
        "PUT",
        Place::Bucket,
        "publicAccessBlock",
        Action {
            name: "PutPublicAccessBlock",
            iam: "s3:PutBucketPublicAccessBlock",
            handler: |call| buckets::put_document(call, "publicAccessBlock"),
        },
    ),
    (
        "DELETE",
        Place::Bucket,
        "publicAccessBlock",
        Action {
            name: "DeletePublicAccessBlock",
            iam: "s3:PutBucketPublicAccessBlock",
            handler: |call| buckets::delete_document(call, "publicAccessBlock"),
        },
    ),
    (
        "GET",
        Place::Bucket,
        "policy",
        Action {
            name: "GetBucketPolicy",
            iam: "s3:GetBucketPolicy",
            handler: |call| buckets::get_document(call, "policy"),
        },
    ),
    (
        "PUT",
        Place::Bucket,
        "policy",
        Action {
            name: "PutBucketPolicy",
            iam: "s3:PutBucketPolicy",
            handler: |call| buckets::put_document(call, "policy"),
        },
    ),
    (
        "DELETE",
        Place::Bucket,
        "policy",
        Action {
            name: "DeleteBucketPolicy",
            iam: "s3:DeleteBucketPolicy",
            handler: |call| buckets::delete_document(call, "policy"),
        },
    ),
    (
        "GET",
        Place::Bucket,
        "tagging",
        Action {
            name: "GetBucketTagging",
            iam: "s3:GetBucketTagging",
            handler: |call| buckets::get_document(call, "tagging"),
        },
    ),
    (
        "PUT",
        Place::Bucket,
        "tagging",
        Action {
            name: "PutBucketTagging",
            iam: "s3:PutBucketTagging",
            handler: |call| buckets::put_document(call, "tagging"),
        },
    ),
    (
        "DELETE",
        Place::Bucket,
        "tagging",
        Action {
            name: "DeleteBucketTagging",
            iam: "s3:PutBucketTagging",
            handler: |call| buckets::delete_document(call, "tagging"),
        },
    ),
    (
        "GET",
        Place::Bucket,
        "ownershipControls",
        Action {
            name: "GetBucketOwnershipControls",
            iam: "s3:GetBucketOwnershipControls",
            handler: |call| buckets::get_document(call, "ownershipControls"),
        },
    ),
    (
        "PUT",
        Place::Bucket,
        "ownershipControls",
        Action {
            name: "PutBucketOwnershipControls",
            iam: "s3:PutBucketOwnershipControls",
            handler: |call| buckets::put_document(call, "ownershipControls"),
        },
    ),
    ("GET", Place::Object, "", Action { name: "GetObject", iam: "s3:GetObject", handler: objects::get }),
    ("HEAD", Place::Object, "", Action { name: "HeadObject", iam: "s3:GetObject", handler: objects::get }),
    ("PUT", Place::Object, "", Action { name: "PutObject", iam: "s3:PutObject", handler: objects::put }),
    (
        "DELETE",
        Place::Object,
        "",
        Action { name: "DeleteObject", iam: "s3:DeleteObject", handler: objects::delete },
    ),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Service,
    Bucket,
    Object,
}

/// Query names that choose another action. One that is not in the table is one that is not implemented.
const SUB_RESOURCES: &[&str] = &[
    "accelerate",
    "acl",
    "analytics",
    "attributes",
    "cors",
    "delete",
    "encryption",
    "intelligent-tiering",
    "inventory",
    "legal-hold",
    "lifecycle",
    "list-type",
    "location",
    "logging",
    "metrics",
    "notification",
    "object-lock",
    "ownershipControls",
    "policy",
    "policyStatus",
    "publicAccessBlock",
    "replication",
    "requestPayment",
    "restore",
    "retention",
    "select",
    "tagging",
    "torrent",
    "uploadId",
    "uploads",
    "versioning",
    "versions",
    "website",
];

/// Bucket and key: from the path, or the bucket from a host name below `localhost`.
fn address(parts: &Parts) -> (String, String) {
    let host = header(parts, "host").unwrap_or_default().split(':').next().unwrap_or_default();
    let path = parts.uri.path().trim_start_matches('/');
    let virtual_bucket = host.strip_suffix(".localhost").map(|name| name.strip_suffix(".s3").unwrap_or(name));
    match virtual_bucket.filter(|name| *name != "s3") {
        Some(bucket) => (bucket.to_owned(), percent_decode(path)),
        None => {
            let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
            (percent_decode(bucket), percent_decode(key))
        }
    }
}

pub(crate) async fn answer(app: &Arc<App>, parts: &Parts, mut body: Incoming, entry: &mut Entry) -> Answer {
    let (bucket, key) = address(parts);
    "s3".clone_into(&mut entry.service);
    entry.resource = match (bucket.as_str(), key.as_str()) {
        ("", _) => "*".to_owned(),
        (bucket, "") => format!("arn:aws:s3:::{bucket}"),
        (bucket, key) => format!("arn:aws:s3:::{bucket}/{key}"),
    };
    let outcome = outcome(app, parts, &mut body, &bucket, &key, entry).await;
    if outcome.is_err() {
        crate::http::drain(&mut body).await;
    }
    let mut answer = outcome.unwrap_or_else(|fault| {
        entry.error.clone_from(&fault.code);
        let details = element("Code", &fault.code)
            + &element("Message", &fault.message)
            + &element("BucketName", &bucket)
            + &element("Resource", parts.uri.path())
            + &element("RequestId", &entry.number.to_string());
        let document = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error>{details}</Error>");
        with_body(fault.status, "application/xml", document)
    });
    // Also with refusals: that is how a client finds the right region.
    if let Some(bucket) = app.store.bucket(&bucket) {
        set(&mut answer, "x-amz-bucket-region", &bucket.region);
    }
    set(&mut answer, "x-amz-request-id", crate::store::new_id());
    if parts.method == Method::HEAD { without_body(answer) } else { answer }
}

async fn outcome(
    app: &Arc<App>,
    parts: &Parts,
    body: &mut Incoming,
    bucket: &str,
    key: &str,
    entry: &mut Entry,
) -> Result<Answer, Fault> {
    let pairs = query(parts);
    let place = match (bucket, key) {
        ("", _) => Place::Service,
        (_, "") => Place::Bucket,
        _ => Place::Object,
    };
    let sub =
        pairs.iter().map(|(name, _)| name.as_str()).find(|name| SUB_RESOURCES.contains(name)).unwrap_or("");
    let method = parts.method.as_str();
    let found = ACTIONS.iter().find(|(m, p, s, _)| *m == method && *p == place && *s == sub);
    let Some((_, _, _, action)) = found else {
        entry.action = format!("{method} {}{sub}", if place == Place::Object { "object " } else { "" });
        return Err(Fault::not_implemented("s3", &entry.action));
    };
    action.name.clone_into(&mut entry.action);
    entry.iam = vec![action.iam.to_owned()];
    // With a version AWS asks for another permission.
    if value(&pairs, "versionId").is_some() && place == Place::Object {
        entry.iam = vec![format!("{}Version", action.iam)];
    }
    let bytes = read(body, MOST_BYTES).await?;
    let caller = Caller::of(parts, &app.config.account).map_err(|none| match none {
        NoCaller::Expired => Fault::client("ExpiredToken", "The provided token has expired."),
        NoCaller::Unsigned => Fault::new(StatusCode::FORBIDDEN, "AccessDenied", "Access Denied"),
        NoCaller::Malformed => Fault::client(
            "AuthorizationHeaderMalformed",
            "The authorization header that you provided is not valid.",
        ),
    })?;
    note_caller(entry, &caller);
    entry.iam.extend(key_permission(app, parts, action.name, bucket, key).map(str::to_owned));
    if let Some(denied) = entry.iam.iter().find(|action| app.quirks.denies(action)) {
        let message = format!(
            "User: {} is not authorized to perform: {denied} on resource: \"{}\" because no identity-based policy allows the \
             {denied} action",
            caller.principal, entry.resource
        );
        return Err(Fault::new(StatusCode::FORBIDDEN, "AccessDenied", message));
    }
    if app.quirks.throttles_at_random() {
        return Err(Fault::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "SlowDown",
            "Please reduce your request rate.",
        ));
    }
    let body = body::decode(parts, bytes)?;
    let (app, parts, bucket, key) = (Arc::clone(app), parts.clone(), bucket.to_owned(), key.to_owned());
    let handler = action.handler;
    tokio::task::spawn_blocking(move || {
        let call = Call {
            app: &app,
            parts: &parts,
            caller: &caller,
            bucket: &bucket,
            key: &key,
            query: &pairs,
            body,
        };
        handler(&call)
    })
    .await
    .unwrap_or_else(|error| Err(Fault::from(std::io::Error::other(error))))
}

/// What an object under a KMS key needs beside S3's own permission.
fn key_permission(app: &App, parts: &Parts, action: &str, bucket: &str, key: &str) -> Option<&'static str> {
    let bucket = app.store.bucket(bucket)?;
    match action {
        "PutObject" => {
            let asked = header(parts, "x-amz-server-side-encryption").map(str::to_owned);
            let default = || crate::xml::text(bucket.documents.get("encryption")?, "SSEAlgorithm");
            asked.or_else(default)?.starts_with("aws:kms").then_some("kms:GenerateDataKey")
        }
        "GetObject" => {
            let content = bucket.objects.get(key)?.last()?.content.as_ref()?;
            let algorithm = content.headers.get("x-amz-server-side-encryption")?;
            algorithm.starts_with("aws:kms").then_some("kms:Decrypt")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(host: &str, uri: &str) -> (String, String) {
        address(&http::Request::builder().uri(uri).header("host", host).body(()).unwrap().into_parts().0)
    }

    #[test]
    fn buckets_in_the_path_and_in_the_host() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            of("127.0.0.1:80", "/state/.terraform/terraform.tfstate"),
            pair("state", ".terraform/terraform.tfstate")
        );
        assert_eq!(of("127.0.0.1:80", "/state"), pair("state", ""));
        assert_eq!(of("state.localhost:80", "/a%20b"), pair("state", "a b"));
        assert_eq!(of("state.s3.localhost", "/"), pair("state", ""));
    }
}
