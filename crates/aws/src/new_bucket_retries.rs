//! Retries for a bucket that was just created.

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_sdk_s3::Client;
use aws_smithy_runtime_api::client::interceptors::context::InterceptorContext;
use aws_smithy_runtime_api::client::retries::classifiers::{ClassifyRetry, RetryAction};

use super::Aws;

/// Attempts per request: about a minute, with the pauses.
const ATTEMPTS: u32 = 12;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// A client that tries again if S3 does not know a new bucket yet, or is still changing it
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html#ErrorCodeList>).
pub(super) fn client(aws: &Aws) -> Client {
    let retries = RetryConfig::standard()
        .with_max_attempts(ATTEMPTS)
        .with_initial_backoff(FIRST_PAUSE)
        .with_max_backoff(LONGEST_PAUSE);
    let config = aws_sdk_s3::config::Builder::from(aws.config()).retry_config(retries);
    Client::from_conf(config.retry_classifier(NewBucket).build())
}

#[derive(Debug)]
struct NewBucket;

impl ClassifyRetry for NewBucket {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let Some(body) = context.response().and_then(|response| response.body().bytes()) else {
            return RetryAction::NoActionIndicated;
        };
        let body = String::from_utf8_lossy(body);
        let fleeting = ["<Code>OperationAborted</Code>", "<Code>NoSuchBucket</Code>"];
        if fleeting.iter().any(|code| body.contains(code)) {
            RetryAction::transient_error()
        } else {
            RetryAction::NoActionIndicated
        }
    }

    fn name(&self) -> &'static str {
        "a new bucket"
    }
}
