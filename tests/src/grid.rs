//! A small grid for the tests of interrupted and concurrent runs.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::{ACCOUNT, Aws, Images, REGION, World, programs, root};

/// The state's bucket.
pub const BUCKET: &str = "htc-grid-local-state";
/// The state's key.
pub const STATE: &str = ".terraform/terraform.tfstate";
/// The alias of the key that HTC-Grid's template encrypts the bucket with.
pub const STATE_ALIAS: &str = "alias/htc/mainline-htc-state-s3";
/// The exit code of a run that was interrupted.
pub const INTERRUPTED: i32 = 130;
/// The exit code if terraform or a lock prevents the run.
pub const TERRAFORM: i32 = 9;
/// Creates the bucket, and configures terraform with it.
pub const INIT: &str = "init-images --create-state-bucket";

/// Two images, one of them an index; four repositories, one rule.
const IMAGES: &str = r#"schema_version = 1
[images]
curl = "curlimages/curl:7.85.0"
"kedacore/keda" = { source = "ghcr.io/kedacore/keda:2.11.2", platforms = "all" }
[pull_through]
ecr-public = "public.ecr.aws"
[repositories]
extra = ["awshpc", "submitter"]
"#;

impl World {
    /// A world with this images.toml and an account without any of its resources; `None` without terraform.
    pub fn grid(images: &str) -> Option<Self> {
        if !programs(&["terraform"]) {
            return None;
        }
        let world = Self::new(Images::Small)?;
        world.write("images.toml", images);
        Some(world)
    }

    /// A world with a small grid's images.toml.
    pub fn small_grid() -> Option<Self> {
        Self::grid(IMAGES)
    }
}

/// Configures the state's bucket like HTC-Grid's CloudFormation template: encrypted with its own key, referred to by its alias, versioned,
/// and rejecting objects whose request does not have aws:kms.
pub fn set_as_cloudformation_does(aws: &Aws) {
    let key = aws.kms("CreateKey", &json!({}))["KeyMetadata"]["KeyId"].clone();
    aws.kms("CreateAlias", &json!({ "AliasName": STATE_ALIAS, "TargetKeyId": key }));
    let encryption = format!(
        "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>aws:kms</SSEAlgorithm>\
         <KMSMasterKeyID>arn:aws:kms:{REGION}:{ACCOUNT}:{STATE_ALIAS}</KMSMasterKeyID></ApplyServerSideEncryptionByDefault>\
         <BucketKeyEnabled>true</BucketKeyEnabled></Rule></ServerSideEncryptionConfiguration>"
    );
    aws.s3.bucket(ACCOUNT, "PUT", &format!("{BUCKET}?encryption"), &encryption);
    let versioning = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    aws.s3.bucket(ACCOUNT, "PUT", &format!("{BUCKET}?versioning"), versioning);
    let objects = format!("arn:aws:s3:::{BUCKET}/*");
    let deny = |sid: &str, condition: Value| {
        json!({
            "Sid": sid, "Effect": "Deny", "Principal": "*", "Action": "s3:PutObject", "Resource": objects,
            "Condition": condition,
        })
    };
    let policy = json!({ "Statement": [
        deny("WithoutAnyEncryption", json!({ "Null": { "s3:x-amz-server-side-encryption": true } })),
        deny("WithAnotherEncryption", json!({ "StringNotEquals": { "s3:x-amz-server-side-encryption": "aws:kms" } })),
        deny("WithoutTls", json!({ "Bool": { "aws:SecureTransport": false } })),
        deny("ForEverybody", json!({ "StringEquals": { "s3:x-amz-acl": ["public-read", "public-read-write"] } })),
    ] });
    aws.s3.bucket(ACCOUNT, "PUT", &format!("{BUCKET}?policy"), &policy.to_string());
}

/// A checkout of this project in the world, without terraform's lock file; returns the directory of its module.
pub fn checkout(world: &World) -> PathBuf {
    let module = world.path("project/deployment/image_repository/terraform");
    for directory in [&module, &world.path("project/xtask"), &world.path("project/runtimes")] {
        std::fs::create_dir_all(directory).unwrap();
    }
    for file in root().join("deployment/image_repository/terraform").read_dir().unwrap() {
        let file = file.unwrap().path();
        if file.extension().is_some_and(|extension| extension == "tf") {
            std::fs::copy(&file, module.join(file.file_name().unwrap())).unwrap();
        }
    }
    module
}
