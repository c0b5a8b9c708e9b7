//! Finds a request's action in one table, from which the 501s follow.

use super::{Call, buckets, list, objects};
use crate::fault::Fault;
use crate::http::Answer;

pub(super) type Handler = fn(&Call<'_>) -> Result<Answer, Fault>;

/// One action: its name, the IAM action that it needs, and its handler.
pub(super) struct Action {
    pub(super) name: &'static str,
    pub(super) iam: &'static str,
    pub(super) handler: Handler,
}

/// All implemented actions: method, whether there is a key, the sub-resource in the query, and the action.
pub(super) const ACTIONS: &[(&str, Place, &str, Action)] = &[
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
pub(super) enum Place {
    Service,
    Bucket,
    Object,
}

/// Query names that select another action. One that is not in the table is not implemented.
pub(super) const SUB_RESOURCES: &[&str] = &[
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
