//! The bucket of the terraform state: what it must be, what is wrong with it, and making it so.

use anyhow::Context as _;
use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata as _, SdkError};
use aws_sdk_s3::types::{
    BucketLocationConstraint, BucketVersioningStatus, CreateBucketConfiguration,
    PublicAccessBlockConfiguration, ServerSideEncryption, ServerSideEncryptionByDefault,
    ServerSideEncryptionConfiguration, ServerSideEncryptionRule, VersioningConfiguration,
};

use super::{Aws, errors::explain};
use crate::error::{Exit, FailWith as _, failure};

/// One thing that is wrong with the bucket, and what it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// It does not exist.
    Missing,
    /// It belongs to somebody else.
    Foreign,
    /// It stands in this region instead.
    Region(String),
    /// Old states are not kept.
    Unversioned,
    /// Nothing is said about encryption.
    Unencrypted,
    /// It may be opened to the public.
    Public,
}

impl Problem {
    /// Whether `--create-state-bucket` can mend it.
    pub fn mendable(&self) -> bool {
        !matches!(self, Self::Foreign | Self::Region(_))
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing => f.write_str("it does not exist"),
            Self::Foreign => f.write_str(
                "it exists and these credentials may not use it: somebody else's, or a permission is missing",
            ),
            Self::Region(region) => write!(f, "it stands in {region}"),
            Self::Unversioned => f.write_str("it is not versioned, so a lost state cannot be brought back"),
            Self::Unencrypted => f.write_str("it has no default encryption"),
            Self::Public => f.write_str("public access is not blocked"),
        }
    }
}

/// The bucket of the terraform state.
#[derive(Clone, Debug)]
pub struct StateBucket {
    client: Client,
    name: String,
    region: String,
}

impl StateBucket {
    /// The bucket `name` as `aws` sees it.
    pub fn new(aws: &Aws, name: &str) -> Self {
        Self { client: Client::new(aws.config()), name: name.to_owned(), region: aws.region().to_owned() }
    }

    /// Everything that is wrong with it, in one pass.
    ///
    /// # Errors
    /// AWS does not answer, or refuses for another reason than those that are a [`Problem`].
    pub async fn problems(&self) -> anyhow::Result<Vec<Problem>> {
        if let Some(problem) = self.reachable().await? {
            return Ok(vec![problem]);
        }
        let (versioned, encrypted, private) =
            tokio::join!(self.versioned(), self.encrypted(), self.private());
        let checks = [
            (versioned?, Problem::Unversioned),
            (encrypted?, Problem::Unencrypted),
            (private?, Problem::Public),
        ];
        Ok(checks.into_iter().filter(|(sound, _)| !sound).map(|(_, problem)| problem).collect())
    }

    /// Ends in an error that lists what is wrong, if anything is.
    ///
    /// # Errors
    /// As [`StateBucket::problems`], or there are problems.
    pub async fn check(&self) -> anyhow::Result<()> {
        let problems = self.problems().await?;
        if problems.is_empty() {
            return Ok(());
        }
        let list = problems.iter().map(|p| format!("\n  - {p}")).collect::<String>();
        let hint = if problems.iter().all(Problem::mendable) {
            "`cargo xtask init-images --create-state-bucket` makes it so".to_owned()
        } else {
            format!(
                "name another bucket with S3_IMAGE_TFSTATE_HTCGRID_BUCKET_NAME=, or the region with REGION= (now {})",
                self.region
            )
        };
        Err(failure(Exit::Config, format!("the state bucket {} will not do:{list}", self.name)))
            .hint(Exit::Config, hint)
    }

    /// Creates it, or mends what is wrong with it.
    ///
    /// # Errors
    /// AWS refuses, or there is a problem that only a person can mend.
    pub async fn create(&self) -> anyhow::Result<Vec<Problem>> {
        let mut problems = self.problems().await?;
        if let Some(problem) = problems.iter().find(|p| !p.mendable()) {
            let message = format!("the state bucket {} cannot be made fit: {problem}", self.name);
            return Err(failure(Exit::Config, message)).hint(Exit::Config, "name another bucket or region");
        }
        if problems.contains(&Problem::Missing) {
            self.create_bucket().await?;
            problems.extend(self.problems().await?);
        }
        for problem in &problems {
            match problem {
                Problem::Unversioned => self.version().await?,
                Problem::Unencrypted => self.encrypt().await?,
                Problem::Public => self.block_public_access().await?,
                Problem::Missing | Problem::Foreign | Problem::Region(_) => {}
            }
        }
        self.check().await.context("AWS accepted every setting, but the bucket does not show them")?;
        Ok(problems)
    }

    async fn reachable(&self) -> anyhow::Result<Option<Problem>> {
        let error = match self.client.head_bucket().bucket(&self.name).send().await {
            Ok(answer) => {
                let region = answer.bucket_region().unwrap_or(&self.region);
                return Ok((region != self.region).then(|| Problem::Region(region.to_owned())));
            }
            Err(error) => error,
        };
        let response = error.raw_response();
        let region = response.and_then(|r| r.headers().get("x-amz-bucket-region")).map(str::to_owned);
        match (response.map(|r| r.status().as_u16()), region) {
            (Some(404), _) => Ok(Some(Problem::Missing)),
            // A bucket in another region answers 301 or 400, and says which in a header.
            (Some(301 | 400 | 403), Some(region)) if region != self.region => {
                Ok(Some(Problem::Region(region)))
            }
            (Some(403), _)
                if error.code().is_none_or(|code| code == "Forbidden" || code == "AccessDenied") =>
            {
                Ok(Some(Problem::Foreign))
            }
            _ => Err(explain(error, "s3:ListBucket")),
        }
    }

    async fn versioned(&self) -> anyhow::Result<bool> {
        let request = self.client.get_bucket_versioning().bucket(&self.name);
        let answer = request.send().await.map_err(|e| explain(e, "s3:GetBucketVersioning"))?;
        Ok(answer.status == Some(BucketVersioningStatus::Enabled))
    }

    async fn encrypted(&self) -> anyhow::Result<bool> {
        let answer = self.client.get_bucket_encryption().bucket(&self.name).send().await;
        absent_is_false(
            answer,
            "ServerSideEncryptionConfigurationNotFoundError",
            "s3:GetEncryptionConfiguration",
            |answer| answer.server_side_encryption_configuration.is_some_and(|c| !c.rules.is_empty()),
        )
    }

    async fn private(&self) -> anyhow::Result<bool> {
        let answer = self.client.get_public_access_block().bucket(&self.name).send().await;
        absent_is_false(
            answer,
            "NoSuchPublicAccessBlockConfiguration",
            "s3:GetBucketPublicAccessBlock",
            |answer| {
                answer.public_access_block_configuration.is_some_and(|c| {
                    [
                        c.block_public_acls,
                        c.ignore_public_acls,
                        c.block_public_policy,
                        c.restrict_public_buckets,
                    ]
                    .iter()
                    .all(|on| *on == Some(true))
                })
            },
        )
    }

    async fn create_bucket(&self) -> anyhow::Result<()> {
        let mut request = self.client.create_bucket().bucket(&self.name);
        // us-east-1 is the one region that may not be named:
        // https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateBucket.html
        if self.region != "us-east-1" {
            let place = BucketLocationConstraint::from(self.region.as_str());
            let configuration = CreateBucketConfiguration::builder().location_constraint(place).build();
            request = request.create_bucket_configuration(configuration);
        }
        request.send().await.map_err(|e| explain(e, "s3:CreateBucket"))?;
        Ok(())
    }

    async fn version(&self) -> anyhow::Result<()> {
        let configuration =
            VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
        let request =
            self.client.put_bucket_versioning().bucket(&self.name).versioning_configuration(configuration);
        request.send().await.map_err(|e| explain(e, "s3:PutBucketVersioning"))?;
        Ok(())
    }

    async fn encrypt(&self) -> anyhow::Result<()> {
        let algorithm =
            ServerSideEncryptionByDefault::builder().sse_algorithm(ServerSideEncryption::AwsKms).build()?;
        let rule = ServerSideEncryptionRule::builder()
            .apply_server_side_encryption_by_default(algorithm)
            .bucket_key_enabled(true)
            .build();
        let configuration = ServerSideEncryptionConfiguration::builder().rules(rule).build()?;
        let request = self
            .client
            .put_bucket_encryption()
            .bucket(&self.name)
            .server_side_encryption_configuration(configuration);
        request.send().await.map_err(|e| explain(e, "s3:PutEncryptionConfiguration"))?;
        Ok(())
    }

    async fn block_public_access(&self) -> anyhow::Result<()> {
        let configuration = PublicAccessBlockConfiguration::builder()
            .block_public_acls(true)
            .ignore_public_acls(true)
            .block_public_policy(true)
            .restrict_public_buckets(true)
            .build();
        let request = self
            .client
            .put_public_access_block()
            .bucket(&self.name)
            .public_access_block_configuration(configuration);
        request.send().await.map_err(|e| explain(e, "s3:PutBucketPublicAccessBlock"))?;
        Ok(())
    }
}

/// S3 answers an error where a setting was never made.
fn absent_is_false<T, E>(
    answer: Result<T, SdkError<E, aws_smithy_runtime_api::client::orchestrator::HttpResponse>>,
    absent: &str,
    action: &str,
    sound: impl FnOnce(T) -> bool,
) -> anyhow::Result<bool>
where
    E: aws_sdk_s3::error::ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    match answer {
        Ok(answer) => Ok(sound(answer)),
        Err(error) if error.code() == Some(absent) => Ok(false),
        Err(error) => Err(explain(error, action)),
    }
}
