//! The bucket of the terraform state: its requirements, checks and corrections.

mod policy;
mod problem;
mod settings;

use std::time::Duration;

use anyhow::Context as _;
use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata as _, SdkError};
use aws_sdk_s3::types::BucketVersioningStatus;

use failure::{FailWith as _, Kind, failure};

use crate::encryption::Encryption;
use crate::new_bucket_retries;
use crate::store::Pauses;
use crate::{Aws, errors::explain};

use policy::{Policy, refuses_plain};

pub use problem::Problem;

/// How long AWS may take to show a new bucket.
pub const VISIBLE: Duration = Duration::from_secs(60);

/// The result of checking the bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// The problems found.
    pub problems: Vec<Problem>,
    /// The encryption of new objects. `None` if it could not be read.
    pub encryption: Option<Encryption>,
}

/// The bucket of the terraform state.
#[derive(Clone, Debug)]
pub struct StateBucket {
    client: Client,
    /// The client for a bucket that was just created.
    retrying: Client,
    name: String,
    region: String,
    partition: String,
}

impl StateBucket {
    /// The bucket `name`, with the credentials and region of `aws`.
    pub fn new(aws: &Aws, name: &str) -> Self {
        Self {
            client: Client::new(aws.config()),
            retrying: new_bucket_retries::client(aws),
            name: name.to_owned(),
            region: aws.region().to_owned(),
            partition: aws.identity().partition().to_owned(),
        }
    }

    /// Checks the bucket and returns all problems at once.
    ///
    /// # Errors
    /// AWS does not answer, or refuses for a reason that is not a [`Problem`].
    pub async fn look(&self) -> anyhow::Result<Findings> {
        if let Some(problem) = self.reachable().await? {
            return Ok(Findings { problems: vec![problem], encryption: None });
        }
        let (versioned, encryption, private, policy) = tokio::join!(
            self.versioned(),
            Encryption::of_bucket(&self.client, &self.name),
            self.private(),
            policy::read(&self.client, &self.name)
        );
        let encryption = encryption?;
        let policy = match policy? {
            Policy::Hidden => Some(Problem::PolicyHidden),
            Policy::Document(document) => (!refuses_plain(&document)).then_some(Problem::Plain),
        };
        let checks = [
            (!versioned?).then_some(Problem::Unversioned),
            encryption.is_none().then_some(Problem::Unencrypted),
            (!private?).then_some(Problem::Public),
            policy,
        ];
        Ok(Findings { problems: checks.into_iter().flatten().collect(), encryption })
    }

    /// Fails with a list of all problems, unless they are only advice. Returns what was found.
    ///
    /// # Errors
    /// As [`StateBucket::look`], or there are problems.
    pub async fn check(&self) -> anyhow::Result<Findings> {
        let findings = self.look().await?;
        let problems = &findings.problems;
        if problems.iter().all(Problem::is_advice) {
            return Ok(findings);
        }
        let list = problems.iter().map(|p| format!("\n  - {p}")).collect::<String>();
        let hint = if problems.iter().all(|p| p.fixable() || p.is_advice()) {
            let does = if *problems == [Problem::Missing] { "creates it" } else { "corrects that" };
            format!("`cargo xtask init-images --create-state-bucket` {does}")
        } else {
            format!(
                "name another bucket with S3_IMAGE_TFSTATE_HTCGRID_BUCKET_NAME=, or the region with REGION= (now {})",
                self.region
            )
        };
        let exit = problems.iter().find(|p| !p.is_advice()).map_or(Kind::Config, Problem::exit);
        Err(failure(exit, format!("the state bucket {} cannot be used:{list}", self.name))).hint(exit, hint)
    }

    /// Creates the bucket, or corrects its problems.
    ///
    /// # Errors
    /// AWS refuses, or there is a problem that this cannot correct.
    pub async fn create(&self) -> anyhow::Result<Vec<Problem>> {
        Self { client: self.retrying.clone(), ..self.clone() }.create_patiently().await
    }

    /// What [`StateBucket::create`] would create and correct.
    ///
    /// # Errors
    /// AWS refuses, or there is a problem that this cannot correct.
    pub async fn fixable(&self) -> anyhow::Result<Findings> {
        let found = self.look().await?;
        if let Some(problem) = found.problems.iter().find(|p| !p.fixable()) {
            let message = format!("the state bucket {} cannot be corrected: {problem}", self.name);
            let hint = match problem {
                Problem::PolicyHidden => {
                    "allow s3:GetBucketPolicy and s3:PutBucketPolicy (docs/iam-policy.json)"
                }
                Problem::Foreign => {
                    "allow s3:ListBucket (docs/iam-policy.json), or name another bucket if it is not yours"
                }
                _ => "name another bucket or region",
            };
            return Err(failure(problem.exit(), message)).hint(problem.exit(), hint);
        }
        Ok(found)
    }

    async fn create_patiently(&self) -> anyhow::Result<Vec<Problem>> {
        let (client, name) = (&self.client, self.name.as_str());
        let mut found = self.fixable().await?;
        let is_new = found.problems == [Problem::Missing];
        if is_new {
            settings::create_bucket(client, name, &self.region).await?;
            found = self.look_at_new().await?;
        }
        let mut problems = found.problems;
        // S3 uses its own key by default, but only KMS logs who read the state. Versioning is set last below: a bucket with
        // versioning was complete, so its owner may have chosen S3's key later.
        if found.encryption == Some(Encryption::S3) && problems.contains(&Problem::Unversioned) {
            problems.push(Problem::Unfinished);
        }
        problems.sort_by_key(|problem| *problem == Problem::Unversioned);
        for problem in &problems {
            match problem {
                Problem::Unversioned => settings::version(client, name).await?,
                Problem::Unencrypted | Problem::Unfinished => settings::encrypt(client, name).await?,
                Problem::Public => settings::block_public_access(client, name).await?,
                Problem::Plain => policy::refuse_plain(client, name, &self.partition).await?,
                Problem::Missing | Problem::Foreign | Problem::Region(_) | Problem::PolicyHidden => {}
            }
        }
        self.check().await.context("AWS accepted every setting, but the bucket does not show them")?;
        Ok(if is_new { vec![Problem::Missing] } else { problems })
    }

    /// Checks a bucket that was just created and may not be visible yet.
    async fn look_at_new(&self) -> anyhow::Result<Findings> {
        let mut pauses = Pauses::new(VISIBLE, "to show the new bucket");
        loop {
            let found = self.look().await?;
            if found.problems != [Problem::Missing] || !pauses.next().await {
                return Ok(found);
            }
        }
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
            // A bucket in another region answers 301 or 400, with its region in a header.
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

    async fn private(&self) -> anyhow::Result<bool> {
        let answer = self.client.get_public_access_block().bucket(&self.name).send().await;
        let answer = if_set(answer, "NoSuchPublicAccessBlockConfiguration", "s3:GetBucketPublicAccessBlock")?;
        Ok(answer.and_then(|answer| answer.public_access_block_configuration).is_some_and(|c| {
            [c.block_public_acls, c.ignore_public_acls, c.block_public_policy, c.restrict_public_buckets]
                .iter()
                .all(|on| *on == Some(true))
        }))
    }
}

/// S3 returns an error for a setting that was never made.
fn if_set<T, E>(
    answer: Result<T, SdkError<E, aws_smithy_runtime_api::client::orchestrator::HttpResponse>>,
    absent: &str,
    action: &str,
) -> anyhow::Result<Option<T>>
where
    E: aws_sdk_s3::error::ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.code() == Some(absent) => Ok(None),
        Err(error) => Err(explain(error, action)),
    }
}
