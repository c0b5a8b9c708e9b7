//! The bucket of the terraform state: what it must be, what is wrong with it, and making it so.

use std::time::Duration;

use anyhow::Context as _;
use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata as _, SdkError};
use aws_sdk_s3::types::{
    BucketLocationConstraint, BucketVersioningStatus, CreateBucketConfiguration,
    PublicAccessBlockConfiguration, ServerSideEncryption, ServerSideEncryptionByDefault,
    ServerSideEncryptionConfiguration, ServerSideEncryptionRule, VersioningConfiguration,
};

use failure::{FailWith as _, Kind, failure};
use serde_json::{Value, json};

use super::encryption::Encryption;
use super::new_bucket;
use super::store::Pauses;
use super::{Aws, errors::explain};

/// How long a new bucket may take to show.
const VISIBLE: Duration = Duration::from_secs(60);

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
    /// S3's own key encrypts, in a bucket whose creation was cut off.
    Unfinished,
    /// It may be opened to the public.
    Public,
    /// Requests without TLS are answered.
    Plain,
    /// Whether requests without TLS are answered may not be read.
    PolicyHidden,
}

impl Problem {
    /// Whether `--create-state-bucket` can mend it.
    pub fn mendable(&self) -> bool {
        !matches!(self, Self::Foreign | Self::Region(_) | Self::PolicyHidden)
    }

    /// The exit code that it ends a run with.
    fn exit(&self) -> Kind {
        match self {
            Self::Foreign | Self::PolicyHidden => Kind::Credentials,
            _ => Kind::Config,
        }
    }

    /// Whether the bucket serves all the same. All that this tool and terraform send goes over TLS anyway, and the bucket that
    /// HTC-Grid's CloudFormation makes has no policy.
    fn is_advice(&self) -> bool {
        matches!(self, Self::Plain | Self::PolicyHidden)
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing => f.write_str("it does not exist"),
            Self::Foreign => f.write_str(
                "it exists, but these credentials cannot read it: it belongs to another account, or s3:ListBucket is not allowed",
            ),
            Self::Region(region) => write!(f, "it stands in {region}"),
            Self::Unversioned => f.write_str("it is not versioned, so a lost state cannot be brought back"),
            Self::Unencrypted => f.write_str("it has no default encryption"),
            Self::Unfinished => {
                f.write_str("its creation was interrupted: it has neither versioning nor a KMS key")
            }
            Self::Public => f.write_str("public access is not blocked"),
            Self::Plain => f.write_str("its policy does not refuse requests without TLS (aws:SecureTransport)"),
            Self::PolicyHidden => {
                f.write_str("whether it refuses requests without TLS cannot be seen: s3:GetBucketPolicy is not allowed")
            }
        }
    }
}

/// What one look at the bucket shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// What is wrong with it.
    pub problems: Vec<Problem>,
    /// What new objects are encrypted with, where that could be read.
    pub encryption: Option<Encryption>,
}

/// The bucket of the terraform state.
#[derive(Clone, Debug)]
pub struct StateBucket {
    client: Client,
    /// The same for a bucket that was created just now.
    retrying: Client,
    name: String,
    region: String,
    partition: String,
}

impl StateBucket {
    /// The bucket `name` as `aws` sees it.
    pub fn new(aws: &Aws, name: &str) -> Self {
        Self {
            client: Client::new(aws.config()),
            retrying: new_bucket::client(aws),
            name: name.to_owned(),
            region: aws.region().to_owned(),
            partition: aws.identity().partition().to_owned(),
        }
    }

    /// Everything that is wrong with it, in one pass.
    ///
    /// # Errors
    /// AWS does not answer, or refuses for another reason than those that are a [`Problem`].
    pub async fn look(&self) -> anyhow::Result<Findings> {
        if let Some(problem) = self.reachable().await? {
            return Ok(Findings { problems: vec![problem], encryption: None });
        }
        let (versioned, encryption, private, policy) = tokio::join!(
            self.versioned(),
            Encryption::of_bucket(&self.client, &self.name),
            self.private(),
            self.policy()
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

    /// Ends in an error that lists what is wrong, if anything is that matters; else gives what was found.
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
        let hint = if problems.iter().all(|p| p.mendable() || p.is_advice()) {
            "`cargo xtask init-images --create-state-bucket` makes it so".to_owned()
        } else {
            format!(
                "name another bucket with S3_IMAGE_TFSTATE_HTCGRID_BUCKET_NAME=, or the region with REGION= (now {})",
                self.region
            )
        };
        let exit = problems.iter().find(|p| !p.is_advice()).map_or(Kind::Config, Problem::exit);
        Err(failure(exit, format!("the state bucket {} cannot be used:{list}", self.name))).hint(exit, hint)
    }

    /// Creates it, or mends what is wrong with it.
    ///
    /// # Errors
    /// AWS refuses, or there is a problem that only a person can mend.
    pub async fn create(&self) -> anyhow::Result<Vec<Problem>> {
        Self { client: self.retrying.clone(), ..self.clone() }.create_patiently().await
    }

    /// What [`StateBucket::create`] would create and mend.
    ///
    /// # Errors
    /// AWS refuses, or there is a problem that only a person can mend.
    pub async fn mendable(&self) -> anyhow::Result<Findings> {
        let found = self.look().await?;
        if let Some(problem) = found.problems.iter().find(|p| !p.mendable()) {
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
        let mut found = self.mendable().await?;
        let is_new = found.problems == [Problem::Missing];
        if is_new {
            self.create_bucket().await?;
            found = self.look_at_new().await?;
        }
        let mut problems = found.problems;
        // S3 takes its own key by itself; only KMS says who read the state. Versions come last below: a bucket that has them was
        // finished, and its owner may have chosen S3's key since.
        if found.encryption == Some(Encryption::S3) && problems.contains(&Problem::Unversioned) {
            problems.push(Problem::Unfinished);
        }
        problems.sort_by_key(|problem| *problem == Problem::Unversioned);
        for problem in &problems {
            match problem {
                Problem::Unversioned => self.version().await?,
                Problem::Unencrypted | Problem::Unfinished => self.encrypt().await?,
                Problem::Public => self.block_public_access().await?,
                Problem::Plain => self.refuse_plain().await?,
                Problem::Missing | Problem::Foreign | Problem::Region(_) | Problem::PolicyHidden => {}
            }
        }
        self.check().await.context("AWS accepted every setting, but the bucket does not show them")?;
        Ok(if is_new { vec![Problem::Missing] } else { problems })
    }

    /// Looks at a bucket that was created just now, which may not show at once.
    async fn look_at_new(&self) -> anyhow::Result<Findings> {
        let mut pauses = Pauses::new(VISIBLE);
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

    async fn policy(&self) -> anyhow::Result<Policy> {
        let answer = self.client.get_bucket_policy().bucket(&self.name).send().await;
        match answer {
            // An account that was allowed what this tool needed before does not stop for a piece of advice.
            Err(error) if error.code() == Some("AccessDenied") => Ok(Policy::Hidden),
            answer => {
                let answer = if_set(answer, "NoSuchBucketPolicy", "s3:GetBucketPolicy")?;
                let text = answer.and_then(|answer| answer.policy);
                let document = text.map(|text| serde_json::from_str(&text));
                Ok(Policy::Document(
                    document.transpose().context("the bucket's policy is no JSON")?.unwrap_or_default(),
                ))
            }
        }
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

    async fn create_bucket(&self) -> anyhow::Result<()> {
        let mut request = self.client.create_bucket().bucket(&self.name);
        // us-east-1 is the one region that may not be named:
        // https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateBucket.html
        if self.region != "us-east-1" {
            let place = BucketLocationConstraint::from(self.region.as_str());
            let configuration = CreateBucketConfiguration::builder().location_constraint(place).build();
            request = request.create_bucket_configuration(configuration);
        }
        match request.send().await {
            // An earlier try created it, and its answer was lost.
            Err(error) if error.code() == Some("BucketAlreadyOwnedByYou") => Ok(()),
            other => other.map(drop).map_err(|e| explain(e, "s3:CreateBucket")),
        }
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

    /// Adds the refusal to the policy that is there.
    async fn refuse_plain(&self) -> anyhow::Result<()> {
        let Policy::Document(mut document) = self.policy().await? else { return Ok(()) };
        let statement = tls_only(&self.partition, &self.name);
        match &mut document["Statement"] {
            Value::Array(statements) => statements.push(statement),
            Value::Null => document = json!({ "Version": "2012-10-17", "Statement": [statement] }),
            one => *one = json!([one.take(), statement]),
        }
        let request = self.client.put_bucket_policy().bucket(&self.name).policy(document.to_string());
        request.send().await.map_err(|e| explain(e, "s3:PutBucketPolicy"))?;
        Ok(())
    }
}

/// A bucket's policy.
enum Policy {
    /// The caller may not read it.
    Hidden,
    /// `null` where there is none.
    Document(Value),
}

/// AWS's own words for it:
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/security-best-practices.html#transit>.
fn tls_only(partition: &str, bucket: &str) -> Value {
    let arn = format!("arn:{partition}:s3:::{bucket}");
    json!({
        "Sid": "TlsOnly",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [arn, format!("{arn}/*")],
        "Condition": { "Bool": { "aws:SecureTransport": "false" } },
    })
}

/// Whether a policy refuses everybody everything that comes without TLS.
fn refuses_plain(policy: &Value) -> bool {
    let one_of = |value: &Value, wanted: &dyn Fn(&str) -> bool| match value {
        Value::String(one) => wanted(one),
        Value::Array(all) => all.iter().filter_map(Value::as_str).any(wanted),
        _ => false,
    };
    let statements = match &policy["Statement"] {
        Value::Array(all) => all.as_slice(),
        one => std::slice::from_ref(one),
    };
    statements.iter().any(|statement| {
        let principal = &statement["Principal"];
        let conditions = statement["Condition"].as_object();
        statement["Effect"] == "Deny"
            && (principal == "*" || one_of(&principal["AWS"], &|who| who == "*"))
            && one_of(&statement["Action"], &|action| matches!(action, "*" | "s3:*"))
            && one_of(&statement["Resource"], &|resource| resource == "*" || resource.ends_with("/*"))
            // Another condition beside it would narrow the refusal.
            && conditions.is_some_and(|conditions| conditions.len() == 1)
            && statement["Condition"]["Bool"].as_object().is_some_and(|keys| {
                let insecure = keys.get("aws:SecureTransport");
                keys.len() == 1
                    && insecure.is_some_and(|value| *value == false || one_of(value, &|text| text == "false"))
            })
    })
}

/// S3 answers an error where a setting was never made.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_created_refuses_plain_requests_and_less_does_not() {
        let policy = |statement: Value| json!({ "Version": "2012-10-17", "Statement": statement });
        let ours = tls_only("aws-cn", "state");
        assert_eq!(ours["Resource"][1], "arn:aws-cn:s3:::state/*");
        assert!(refuses_plain(&policy(ours.clone())));
        assert!(refuses_plain(&policy(json!([{ "Effect": "Allow" }, ours]))));
        let mut other = ours.clone();
        other["Principal"] = json!({ "AWS": ["*"] });
        other["Action"] = json!(["s3:*"]);
        other["Condition"]["Bool"]["aws:SecureTransport"] = json!(false);
        assert!(refuses_plain(&policy(other)));

        assert!(!refuses_plain(&Value::Null));
        for (member, less) in [
            ("Effect", json!("Allow")),
            ("Principal", json!({ "AWS": "arn:aws:iam::123456789012:root" })),
            ("Action", json!("s3:GetObject")),
            ("Resource", json!("arn:aws:s3:::state")),
            ("Condition", json!({ "Bool": { "aws:SecureTransport": "true" } })),
            (
                "Condition",
                json!({ "Bool": { "aws:SecureTransport": "false" }, "StringEquals": { "aws:SourceVpc": "vpc-1" } }),
            ),
            ("Condition", Value::Null),
        ] {
            let mut weaker = ours.clone();
            weaker[member] = less;
            assert!(!refuses_plain(&policy(weaker.clone())), "{weaker}");
        }
    }
}
