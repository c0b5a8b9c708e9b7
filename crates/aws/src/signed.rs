//! Signed calls to AWS services without an SDK crate here: each crate would add more compile time than this whole file.

use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use aws_config::SdkConfig;
use aws_sdk_ecr::config::ProvideCredentials as _;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use failure::{Kind, ending};
use serde_json::Value;

use super::profile::Source;
use super::{Aws, endpoints, errors};

/// Attempts per call if the service or the connection fails, as in the SDK
/// (<https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html>).
const ATTEMPTS: u32 = 3;

/// Pause before the second attempt; then twice as long.
const PAUSE: Duration = Duration::from_millis(300);

/// A service with JSON requests and responses (<https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html>).
#[derive(Debug)]
pub(super) struct JsonService {
    /// Its name in signatures, and the prefix of its IAM actions.
    pub(super) name: &'static str,
    /// Its name in settings (`AWS_ENDPOINT_URL_<id>`).
    pub(super) id: &'static str,
    /// The prefix of the action in `X-Amz-Target`.
    pub(super) target: &'static str,
}

impl JsonService {
    /// Calls `action` in `region`, at `host` unless the user's settings name another address.
    ///
    /// # Errors
    /// AWS refuses or does not answer.
    pub(super) async fn call(
        &self,
        aws: &Aws,
        http: &reqwest::Client,
        (region, host): (&str, String),
        action: &str,
        input: &Value,
    ) -> anyhow::Result<Value> {
        let url = match endpoints::configured(aws.config(), self.id) {
            Some(url) => url.trim_end_matches('/').to_owned() + "/",
            None => format!("https://{host}/"),
        };
        let target = format!("{}.{action}", self.target);
        let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", target.as_str())];
        let mut attempt = 1;
        loop {
            let body = input.to_string();
            let request = signed(aws.config(), region, self.name, &url, &headers, body).await?;
            let answer = self.once(http, request, action).await;
            let is_passing = answer.as_ref().is_err_and(|error| error.is_passing);
            if !is_passing || attempt == ATTEMPTS {
                return answer.map_err(|failed| failed.error);
            }
            tokio::time::sleep(PAUSE * 2_u32.pow(attempt - 1)).await;
            attempt += 1;
        }
    }

    async fn once(
        &self,
        http: &reqwest::Client,
        request: reqwest::Request,
        action: &str,
    ) -> Result<Value, Failed> {
        let action = format!("{}:{action}", self.name);
        let away = |error: reqwest::Error| {
            let error = anyhow::Error::from(error).context(action.clone());
            Failed { is_passing: true, error: ending(Kind::Registry, None, error) }
        };
        let answer = http.execute(request).await.map_err(away)?;
        let status = answer.status();
        let text = answer.bytes().await.map_err(away)?;
        let body: Value = serde_json::from_slice(&text).unwrap_or_default();
        match status.is_success() {
            true => Ok(body),
            false => Err(refused(&action, status.as_u16(), &body)),
        }
    }
}

/// A call that failed.
struct Failed {
    /// Whether the same call may succeed if repeated.
    is_passing: bool,
    error: anyhow::Error,
}

/// A service's refusal: `{"__type": "namespace#Code", "message": "..."}`.
fn refused(action: &str, status: u16, body: &Value) -> Failed {
    let code = body["__type"].as_str().and_then(|code| code.rsplit('#').next()).unwrap_or_default();
    let words = body["message"].as_str().or(body["Message"].as_str()).unwrap_or_default();
    let (kind, hint) = errors::advice(code, Some(status), words, action);
    let said = match code {
        "" => format!("HTTP {status}: {words}"),
        code => format!("{code}: {words}"),
    };
    let error = anyhow::anyhow!("{action}: {}", said.trim_end_matches([':', ' ']));
    let is_passing = status >= 500 || status == 429 || code.starts_with("Throttling");
    Failed { is_passing, error: ending(kind, hint, error) }
}

/// A signed POST to a service.
///
/// # Errors
/// There are no credentials.
pub(super) async fn signed(
    config: &SdkConfig,
    region: &str,
    service: &str,
    url: &str,
    headers: &[(&str, &str)],
    body: String,
) -> anyhow::Result<reqwest::Request> {
    let provider = config.credentials_provider().context("no AWS credentials")?;
    let identity = provider
        .provide_credentials()
        .await
        .map_err(|error| errors::no_credentials(error, None, &Source::Other))?
        .into();
    let parameters = SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(service)
        .time(SystemTime::now())
        .settings(SigningSettings::default())
        .build()?
        .into();
    let body_bytes = SignableBody::Bytes(body.as_bytes());
    let signable = SignableRequest::new("POST", url, headers.iter().copied(), body_bytes)?;
    let (instructions, _) = sign(signable, &parameters)?.into_parts();
    let request =
        headers.iter().fold(http::Request::post(url), |request, (name, value)| request.header(*name, *value));
    let mut request = request.body(body)?;
    instructions.apply_to_request_http1x(&mut request);
    Ok(request.try_into()?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_refusal_has_the_hint_of_its_code_and_only_transient_errors_are_retried() {
        let of = |status, body: Value| {
            let failed = refused("kms:ListKeys", status, &body);
            let told = failure::error_parts(&failed.error);
            (told.message, failure::kind_of(&failed.error), told.hints.join(" "), failed.is_passing)
        };
        let (said, kind, hint, passes) =
            of(400, json!({ "__type": "com.amazonaws.kms#ExpiredTokenException", "message": "it is over" }));
        assert_eq!(
            (said.as_str(), kind, passes),
            ("kms:ListKeys: ExpiredTokenException: it is over", Kind::Credentials, false)
        );
        assert!(hint.contains("aws sso login"), "{hint}");
        let (said, kind, hint, passes) =
            of(400, json!({ "__type": "AccessDeniedException", "Message": "no" }));
        assert_eq!(
            (said.as_str(), kind, passes),
            ("kms:ListKeys: AccessDeniedException: no", Kind::Credentials, false)
        );
        assert!(hint.contains("the permission kms:ListKeys"), "{hint}");
        for (status, body) in [
            (503, Value::Null),
            (429, Value::Null),
            (400, json!({ "__type": "ThrottlingException", "message": "Rate exceeded" })),
        ] {
            let (said, kind, _, passes) = of(status, body);
            assert!(passes && kind == Kind::Registry, "{said}");
        }
    }
}
