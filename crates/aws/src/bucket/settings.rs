//! The settings of a new state bucket, one function each.

use aws_sdk_s3::Client;
use aws_sdk_s3::error::ProvideErrorMetadata as _;
use aws_sdk_s3::types::{
    BucketLocationConstraint, BucketVersioningStatus, CreateBucketConfiguration,
    PublicAccessBlockConfiguration, ServerSideEncryption, ServerSideEncryptionByDefault,
    ServerSideEncryptionConfiguration, ServerSideEncryptionRule, VersioningConfiguration,
};

use crate::errors::explain;

pub(super) async fn create_bucket(client: &Client, name: &str, region: &str) -> anyhow::Result<()> {
    let mut request = client.create_bucket().bucket(name);
    // us-east-1 must not be named as a location: https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateBucket.html
    if region != "us-east-1" {
        let place = BucketLocationConstraint::from(region);
        let configuration = CreateBucketConfiguration::builder().location_constraint(place).build();
        request = request.create_bucket_configuration(configuration);
    }
    match request.send().await {
        // An earlier attempt created it, but the response was lost.
        Err(error) if error.code() == Some("BucketAlreadyOwnedByYou") => Ok(()),
        other => other.map(drop).map_err(|e| explain(e, "s3:CreateBucket")),
    }
}

pub(super) async fn version(client: &Client, name: &str) -> anyhow::Result<()> {
    let configuration = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
    let request = client.put_bucket_versioning().bucket(name).versioning_configuration(configuration);
    request.send().await.map_err(|e| explain(e, "s3:PutBucketVersioning"))?;
    Ok(())
}

pub(super) async fn encrypt(client: &Client, name: &str) -> anyhow::Result<()> {
    let algorithm =
        ServerSideEncryptionByDefault::builder().sse_algorithm(ServerSideEncryption::AwsKms).build()?;
    let rule = ServerSideEncryptionRule::builder()
        .apply_server_side_encryption_by_default(algorithm)
        .bucket_key_enabled(true)
        .build();
    let configuration = ServerSideEncryptionConfiguration::builder().rules(rule).build()?;
    let request =
        client.put_bucket_encryption().bucket(name).server_side_encryption_configuration(configuration);
    request.send().await.map_err(|e| explain(e, "s3:PutEncryptionConfiguration"))?;
    Ok(())
}

pub(super) async fn block_public_access(client: &Client, name: &str) -> anyhow::Result<()> {
    let configuration = PublicAccessBlockConfiguration::builder()
        .block_public_acls(true)
        .ignore_public_acls(true)
        .block_public_policy(true)
        .restrict_public_buckets(true)
        .build();
    let request =
        client.put_public_access_block().bucket(name).public_access_block_configuration(configuration);
    request.send().await.map_err(|e| explain(e, "s3:PutBucketPublicAccessBlock"))?;
    Ok(())
}
