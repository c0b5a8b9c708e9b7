//! How a bucket encrypts its objects.

use aws_sdk_s3::Client;
use aws_sdk_s3::error::ProvideErrorMetadata as _;
use aws_sdk_s3::types::ServerSideEncryption;

use super::errors::explain;

/// The AWS managed key that S3 uses if a bucket names no other:
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingKMSEncryption.html#aws-managed-customer-managed-keys>.
const AWS_MANAGED: &str = "alias/aws/s3";

/// The encryption of a bucket's new objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// S3's own keys.
    S3,
    /// A KMS key by ID, ARN or alias. `None` for the account's `aws/s3`.
    Kms(Option<String>),
    /// Two layers of encryption with a KMS key (DSSE-KMS).
    KmsTwice(Option<String>),
}

impl std::fmt::Display for Encryption {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::S3 => f.write_str("S3's own key"),
            Self::Kms(None) | Self::KmsTwice(None) => f.write_str("the KMS key aws/s3"),
            Self::Kms(Some(key)) | Self::KmsTwice(Some(key)) => write!(f, "the KMS key {key}"),
        }
    }
}

impl Encryption {
    /// The default of `bucket`, if it has one.
    ///
    /// # Errors
    /// S3 refuses or does not answer.
    pub(super) async fn of_bucket(client: &Client, bucket: &str) -> anyhow::Result<Option<Self>> {
        let answer = match client.get_bucket_encryption().bucket(bucket).send().await {
            Err(error) if error.code() == Some("ServerSideEncryptionConfigurationNotFoundError") => {
                return Ok(None);
            }
            other => other.map_err(|e| explain(e, "s3:GetEncryptionConfiguration"))?,
        };
        let rules = answer.server_side_encryption_configuration.map(|configuration| configuration.rules);
        let first = rules.into_iter().flatten().next();
        let default = first.and_then(|rule| rule.apply_server_side_encryption_by_default);
        Ok(default.map(|default| match default.sse_algorithm {
            ServerSideEncryption::Aes256 => Self::S3,
            ServerSideEncryption::AwsKmsDsse => Self::KmsTwice(default.kms_master_key_id),
            _ => Self::Kms(default.kms_master_key_id),
        }))
    }

    /// `x-amz-server-side-encryption`.
    pub(super) fn algorithm(&self) -> ServerSideEncryption {
        match self {
            Self::S3 => ServerSideEncryption::Aes256,
            Self::Kms(_) => ServerSideEncryption::AwsKms,
            Self::KmsTwice(_) => ServerSideEncryption::AwsKmsDsse,
        }
    }

    /// The KMS key to name in a request, by any name that KMS knows. `None` for S3's own keys, or if S3 chooses the key.
    pub(super) fn key(&self) -> Option<&str> {
        match self {
            Self::S3 => None,
            Self::Kms(key) | Self::KmsTwice(key) => key.as_deref(),
        }
    }

    /// terraform's `kms_key_id`. Without one it would send AES256.
    pub fn terraform_key(&self) -> Option<&str> {
        match self {
            Self::S3 => None,
            Self::Kms(key) | Self::KmsTwice(key) => Some(key.as_deref().unwrap_or(AWS_MANAGED)),
        }
    }
}
