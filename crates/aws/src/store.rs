//! The bucket of the terraform state: all its objects are read, written and deleted here.
//!
//! A bucket's policy may refuse writes without an explicit encryption header, even if the bucket has a default
//! (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingKMSEncryption.html#require-sse-kms>). HTC-Grid's own bucket has
//! such a policy, so each write states the bucket's default.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata as _, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use failure::{Kind, ending, failure, kind_of};
use tokio::sync::OnceCell;

use super::encryption::Encryption;
use super::{Aws, Waiting, errors::explain};

/// How long to wait for an object that S3 lists but does not return. After versioning is enabled for the first time, S3 may answer
/// NoSuchKey for up to 15 minutes (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/manage-versioning-examples.html>), which
/// is too long to wait by default.
pub const PROPAGATION: Duration = Duration::from_secs(120);
/// Attempts to delete if another conditional request conflicts.
const CONFLICTS: u32 = 8;

/// The bucket and the key of the terraform state.
#[derive(Clone, Debug)]
pub struct StateStore {
    client: Client,
    bucket: String,
    key: String,
    /// The key that HTC-Grid's stack names.
    stack_key: Option<String>,
    /// How long to retry while S3's answers contradict each other.
    retry_for: Duration,
    encryption: Arc<OnceCell<Option<Encryption>>>,
}

/// An object with its metadata.
#[derive(Clone, Debug)]
pub struct Object {
    /// Its content.
    pub bytes: Vec<u8>,
    /// Its ETag, for conditional requests.
    pub etag: String,
    /// When it was written, in seconds since 1970 by S3's clock.
    pub modified: Option<i64>,
}

/// The condition of a write.
#[derive(Clone, Copy, Debug)]
pub enum WriteCondition<'a> {
    /// No condition.
    Always,
    /// The object does not exist.
    Absent,
    /// The object has this ETag.
    Is(&'a str),
}

/// A write was not made because its condition was not met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConditionFailed {
    /// The time of the refusal, in seconds since 1970 by S3's clock.
    pub at: Option<i64>,
}

impl StateStore {
    /// The state `key` in `bucket`.
    pub fn new(aws: &Aws, bucket: &str, key: &str, stack_key: Option<String>) -> Self {
        Self {
            client: Client::new(aws.config()),
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            stack_key,
            retry_for: PROPAGATION,
            encryption: Arc::default(),
        }
    }

    /// The bucket.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// The state's key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The key of an object next to the state.
    pub fn sidecar(&self, suffix: &str) -> String {
        format!("{}.{suffix}", self.key)
    }

    /// The encryption of each object: the bucket's default, with the key of HTC-Grid's stack if the bucket has no key. `None` if
    /// the caller may not read it and S3 decides. Read once.
    ///
    /// # Errors
    /// S3 does not answer, or refuses for another reason.
    pub async fn encryption(&self) -> anyhow::Result<Option<&Encryption>> {
        let ask = || async {
            let found = match Encryption::of_bucket(&self.client, &self.bucket).await {
                // Earlier versions did not need this permission, so users may not have it.
                Err(error) if kind_of(&error) == Kind::Credentials => None,
                found => found?,
            };
            anyhow::Ok(match (found, &self.stack_key) {
                (None | Some(Encryption::S3), Some(key)) => Some(Encryption::Kms(Some(key.clone()))),
                (found, _) => found,
            })
        };
        Ok(self.encryption.get_or_try_init(ask).await?.as_ref())
    }

    /// The object `key`. `None` if it does not exist.
    ///
    /// # Errors
    /// S3 refuses or does not answer, or lists the object but does not return it.
    pub async fn get(&self, key: &str) -> anyhow::Result<Option<Object>> {
        let mut pauses = Pauses::new(self.retry_for, "to give an object that it lists");
        loop {
            let answer = match self.client.get_object().bucket(&self.bucket).key(key).send().await {
                Err(error) if error.code() == Some("NoSuchKey") => {
                    if !self.lists(key).await? {
                        return Ok(None);
                    }
                    if pauses.next().await { continue } else { return Err(hidden(key)) }
                }
                other => other.map_err(|e| explain(e, "s3:GetObject"))?,
            };
            let etag = answer.e_tag.clone().context("S3 gave no ETag")?;
            let modified = answer.last_modified.map(|time| time.secs());
            let read = answer.body.collect().await.with_context(|| format!("could not read {key}"))?;
            return Ok(Some(Object { bytes: read.to_vec(), etag, modified }));
        }
    }

    /// Whether S3 lists an object with exactly this key.
    async fn lists(&self, key: &str) -> anyhow::Result<bool> {
        let request = self.client.list_objects_v2().bucket(&self.bucket).prefix(key).max_keys(1);
        let listed = request.send().await.map_err(|e| explain(e, "s3:ListBucket"))?;
        Ok(listed.contents().iter().any(|object| object.key() == Some(key)))
    }

    /// The keys that begin with `prefix`.
    ///
    /// # Errors
    /// S3 refuses or does not answer.
    pub async fn list(&self, prefix: &str) -> anyhow::Result<Vec<String>> {
        let request = self.client.list_objects_v2().bucket(&self.bucket).prefix(prefix);
        let mut pages = request.into_paginator().send();
        let mut keys = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|e| explain(e, "s3:ListBucket"))?;
            keys.extend(page.contents.unwrap_or_default().into_iter().filter_map(|object| object.key));
        }
        Ok(keys)
    }

    /// Writes the object `key` and returns its ETag, or writes nothing because `condition` is not met.
    ///
    /// # Errors
    /// S3 refuses or does not answer.
    pub async fn put(
        &self,
        key: &str,
        body: Vec<u8>,
        condition: WriteCondition<'_>,
    ) -> anyhow::Result<Result<String, ConditionFailed>> {
        let mut request = self.client.put_object().bucket(&self.bucket).key(key).body(body.into());
        if let Some(encryption) = self.encryption().await? {
            request = request
                .server_side_encryption(encryption.algorithm())
                .set_ssekms_key_id(encryption.key().map(str::to_owned));
        }
        request = match condition {
            WriteCondition::Always => request,
            WriteCondition::Absent => request.if_none_match("*"),
            WriteCondition::Is(etag) => request.if_match(etag),
        };
        match request.send().await {
            Ok(answer) => Ok(Ok(answer.e_tag.context("S3 gave no ETag")?)),
            // 409: another conditional write was in progress; 404: the object of `If-Match` no longer exists.
            Err(error)
                if !matches!(condition, WriteCondition::Always)
                    && matches!(
                        error.code(),
                        Some("PreconditionFailed" | "ConditionalRequestConflict" | "NoSuchKey")
                    ) =>
            {
                Ok(Err(ConditionFailed { at: date(&error) }))
            }
            Err(error) => Err(explain(error, "s3:PutObject")),
        }
    }

    /// Deletes the object `key`, if it still has this `etag`.
    ///
    /// # Errors
    /// S3 refuses or does not answer.
    pub async fn delete(&self, key: &str, etag: Option<&str>) -> anyhow::Result<()> {
        let mut pauses = Pauses::new(self.retry_for, "to delete an object that another run is writing");
        for round in 1.. {
            let request = self.client.delete_object().bucket(&self.bucket).key(key);
            match request.set_if_match(etag.map(str::to_owned)).send().await {
                Err(error) if matches!(error.code(), Some("PreconditionFailed" | "NoSuchKey")) => break,
                // Another conditional request was in progress.
                Err(error)
                    if round < CONFLICTS
                        && matches!(
                            error.code(),
                            Some("ConditionalRequestConflict" | "OperationAborted")
                        )
                        && pauses.next().await => {}
                other => return other.map(drop).map_err(|e| explain(e, "s3:DeleteObject")),
            }
        }
        Ok(())
    }
}

fn hidden(key: &str) -> anyhow::Error {
    let hint = "if versioning was enabled just now, S3 may need up to 15 minutes: run the command again then"
        .to_owned();
    let error =
        failure(Kind::Registry, format!("S3 lists {key} and answers NoSuchKey when it is asked for it"));
    ending(Kind::Registry, Some(hint), error)
}

/// The time of a response, by the service's clock.
fn date<E>(error: &SdkError<E, HttpResponse>) -> Option<i64> {
    use aws_smithy_types::date_time::{DateTime, Format};
    let date = error.raw_response()?.headers().get("date")?;
    DateTime::from_str(date, Format::HttpDate).ok().map(|time| time.secs())
}

/// Growing pauses within a time limit.
#[derive(Debug)]
pub(super) struct Pauses {
    until: tokio::time::Instant,
    pause: Duration,
    /// The event to wait for.
    what: &'static str,
    told: Option<Waiting>,
}

impl Pauses {
    pub(super) fn new(bound: Duration, what: &'static str) -> Self {
        let until = tokio::time::Instant::now() + bound;
        Self { until, pause: Duration::from_millis(100), what, told: None }
    }

    /// Waits until the next attempt. `false` if the time limit is reached.
    pub(super) async fn next(&mut self) -> bool {
        if tokio::time::Instant::now() >= self.until {
            return false;
        }
        let left = self.until.saturating_duration_since(tokio::time::Instant::now());
        Waiting::renew(&mut self.told, "S3", self.what, left);
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(Duration::from_secs(5));
        true
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use aws_config::{BehaviorVersion, Region, SdkConfig};
    use aws_sdk_ecr::config::{Credentials, SharedCredentialsProvider};
    use aws_smithy_runtime_api::client::http::{
        HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
    };
    use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
    use aws_smithy_types::body::SdkBody;

    use super::*;

    /// A response of S3: status, headers, body.
    pub(crate) type Answer = (u16, &'static [(&'static str, &'static str)], String);

    /// An S3 that returns these responses, in this order.
    #[derive(Clone, Debug)]
    struct Script(Arc<Mutex<(VecDeque<Answer>, Vec<String>)>>);

    impl HttpConnector for Script {
        fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
            let mut script = self.0.lock().unwrap();
            let path =
                request.uri().split('?').next().unwrap_or_default().rsplit('/').next().unwrap_or_default();
            let on = ["if-match", "if-none-match"].iter().find_map(|name| request.headers().get(*name));
            script.1.push(
                format!("{} {path} {}", request.method(), on.unwrap_or("-"))
                    .trim_end_matches(" -")
                    .to_owned(),
            );
            let (status, headers, body) = script.0.pop_front().expect("no more requests");
            let mut answer = HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body));
            for (name, value) in headers {
                answer.headers_mut().insert(*name, *value);
            }
            HttpConnectorFuture::ready(Ok(answer))
        }
    }

    /// A store whose bucket returns these responses, and the requests that it received.
    pub(crate) fn scripted(answers: Vec<Answer>) -> (StateStore, impl Fn() -> Vec<String>) {
        let script = Script(Arc::new(Mutex::new((answers.into(), Vec::new()))));
        let connector = SharedHttpConnector::new(script.clone());
        let config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-west-1"))
            .credentials_provider(SharedCredentialsProvider::new(Credentials::new(
                "k", "s", None, None, "test",
            )))
            .http_client(http_client_fn(move |_, _| connector.clone()))
            .build();
        let store = StateStore {
            client: Client::new(&config),
            bucket: "state".to_owned(),
            key: "t".to_owned(),
            stack_key: None,
            retry_for: Duration::from_millis(400),
            encryption: Arc::new(OnceCell::new_with(Some(Some(Encryption::Kms(None))))),
        };
        (store, move || script.0.lock().unwrap().1.clone())
    }

    pub(crate) fn refused(status: u16, code: &str) -> Answer {
        let date = &[("date", "Fri, 27 Nov 2026 08:00:00 GMT")];
        (status, date, format!("<Error><Code>{code}</Code><Message>x</Message></Error>"))
    }

    pub(crate) fn listed(key: &str) -> Answer {
        let contents = format!("<Contents><Key>{key}</Key><Size>1</Size></Contents>");
        (200, &[], format!("<ListBucketResult><KeyCount>1</KeyCount>{contents}</ListBucketResult>"))
    }

    pub(crate) fn given(body: &str) -> Answer {
        (200, &[("etag", "\"e1\""), ("last-modified", "Fri, 27 Nov 2026 07:59:00 GMT")], body.to_owned())
    }

    #[tokio::test]
    async fn a_listed_object_is_requested_until_s3_returns_it() {
        let answers =
            vec![refused(404, "NoSuchKey"), listed("t"), refused(404, "NoSuchKey"), listed("t"), given("x")];
        let (store, _) = scripted(answers);
        let object = store.get("t").await.unwrap().unwrap();
        assert_eq!((object.bytes.as_slice(), object.modified), (&b"x"[..], Some(1_795_766_340)));

        // Another key with the same prefix does not count.
        let (store, _) = scripted(vec![refused(404, "NoSuchKey"), listed("t.proof.json")]);
        assert!(store.get("t").await.unwrap().is_none());

        let ever = || [refused(404, "NoSuchKey"), listed("t")];
        let (store, _) = scripted((0..100).flat_map(|_| ever()).collect());
        let error = failure::render(&store.get("t").await.unwrap_err());
        assert!(
            error.contains("S3 lists t and answers NoSuchKey") && error.contains("15 minutes"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_deletion_with_a_conflict_is_retried() {
        let conflict = || refused(409, "ConditionalRequestConflict");
        let (store, asked) = scripted(vec![conflict(), conflict(), (204, &[], String::new())]);
        store.delete("t.lock", Some("e1")).await.unwrap();
        assert_eq!(asked(), ["DELETE t.lock e1"; 3]);
        let (store, _) = scripted((0..100).map(|_| conflict()).collect());
        assert!(store.delete("t.lock", Some("e1")).await.is_err());
    }

    #[tokio::test]
    async fn a_failed_condition_is_an_answer_with_the_services_time() {
        let (store, asked) = scripted(vec![refused(412, "PreconditionFailed"), refused(404, "NoSuchBucket")]);
        let refusal = store.put("t.lock", b"x".to_vec(), WriteCondition::Absent).await.unwrap().unwrap_err();
        assert_eq!(refusal, ConditionFailed { at: Some(1_795_766_400) });
        assert!(store.put("t.lock", b"x".to_vec(), WriteCondition::Absent).await.is_err());
        assert_eq!(asked(), ["PUT t.lock *"; 2]);
    }
}
