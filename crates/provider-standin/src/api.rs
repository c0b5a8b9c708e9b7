//! Calls to the emulated AWS: ECR and KMS speak JSON, STS answers in XML.

use std::net::IpAddr;

use serde_json::{Value as Json, json};
use url::{Host, Url};

use crate::tags::TagRules;

/// Where the emulator listens.
const ENDPOINT: &str = "AWS_ENDPOINT_URL";

/// A service that the emulator has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    Ecr,
    Kms,
    Sts,
}

impl Service {
    /// The name in the real provider's messages.
    fn title(self) -> &'static str {
        match self {
            Self::Ecr => "ECR",
            Self::Kms => "KMS",
            Self::Sts => "STS",
        }
    }

    /// The name in a signature's scope.
    fn scope(self) -> &'static str {
        match self {
            Self::Ecr => "ecr",
            Self::Kms => "kms",
            Self::Sts => "sts",
        }
    }

    fn target(self) -> &'static str {
        match self {
            Self::Ecr => "AmazonEC2ContainerRegistry_V20150921",
            Self::Kms => "TrentService",
            Self::Sts => "",
        }
    }
}

/// What a service answered instead of a result, in the words of the AWS SDK that the real provider uses.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// The service refused.
    #[error(
        "operation error {}: {action}, https response error StatusCode: {status}, RequestID: {request_id}, \
         {code}: {message}",
        service.title()
    )]
    Refused {
        service: Service,
        action: String,
        status: u16,
        request_id: String,
        code: String,
        message: String,
    },
    /// There was no answer.
    #[error("operation error {}: {action}, request send failed, {}", service.title(), causes(source))]
    Unreachable { service: Service, action: String, source: reqwest::Error },
    /// The answer is none.
    #[error("operation error {}: {action}, the answer has no {missing}", service.title())]
    Incomplete { service: Service, action: String, missing: &'static str },
}

impl ApiError {
    /// Whether the service refused with one of these codes.
    pub(crate) fn is(&self, codes: &[&str]) -> bool {
        matches!(self, Self::Refused { code, .. } if codes.contains(&code.as_str()))
    }
}

fn causes(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

/// Why the provider does not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EndpointError {
    #[error(
        "{ENDPOINT} is not set: the stand-in provider works against an AWS emulated on this machine, never against AWS"
    )]
    Unset,
    #[error(
        "{ENDPOINT} is {0:?}: the stand-in provider takes a loopback address only, as in http://127.0.0.1:4566"
    )]
    NotLoopback(String),
    #[error("the HTTP client could not be built")]
    Client(#[source] reqwest::Error),
}

/// Who calls, as STS says.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) account: String,
    pub(crate) arn: String,
    pub(crate) user_id: String,
}

/// A client for one region.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    http: reqwest::Client,
    endpoint: Url,
    access_key: String,
    session_token: Option<String>,
    pub(crate) region: String,
    pub(crate) tags: TagRules,
}

impl Api {
    /// A client for the emulator that the environment names.
    pub(crate) fn from_env(region: String, tags: TagRules) -> Result<Self, EndpointError> {
        let endpoint = loopback(std::env::var(ENDPOINT).ok().as_deref())?;
        let access_key = std::env::var("AWS_ACCESS_KEY_ID").unwrap_or_else(|_| "local".to_owned());
        let session_token = std::env::var("AWS_SESSION_TOKEN").ok().filter(|token| !token.is_empty());
        // A proxy of the machine has no business between two programs on it.
        let http = reqwest::Client::builder().no_proxy().build().map_err(EndpointError::Client)?;
        Ok(Self { http, endpoint, access_key, session_token, region, tags })
    }

    /// A client that nobody answers.
    #[cfg(test)]
    pub(crate) fn for_tests(region: &str, tags: TagRules) -> Self {
        let endpoint = loopback(Some("http://127.0.0.1:9")).unwrap();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self {
            http,
            endpoint,
            access_key: "local".to_owned(),
            session_token: None,
            region: region.to_owned(),
            tags,
        }
    }

    /// The same client for a resource that names a region of its own.
    pub(crate) fn in_region(&self, region: Option<&str>) -> Self {
        let mut api = self.clone();
        if let Some(region) = region {
            region.clone_into(&mut api.region);
        }
        api
    }

    /// Calls ECR.
    pub(crate) async fn ecr(&self, action: &str, body: Json) -> Result<Json, ApiError> {
        self.json(Service::Ecr, action, body).await
    }

    /// Calls KMS.
    pub(crate) async fn kms(&self, action: &str, body: Json) -> Result<Json, ApiError> {
        self.json(Service::Kms, action, body).await
    }

    /// Asks STS who calls.
    pub(crate) async fn identity(&self) -> Result<Identity, ApiError> {
        let (service, action) = (Service::Sts, "GetCallerIdentity");
        let request = self
            .request(service)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(format!("Action={action}&Version=2011-06-15"));
        let (status, request_id, text) = send(service, action, request).await?;
        if status >= 400 {
            let code = element(&text, "Code").unwrap_or_else(|| "UnknownError".to_owned());
            let message = element(&text, "Message").unwrap_or_default();
            return Err(ApiError::Refused {
                service,
                action: action.to_owned(),
                status,
                request_id,
                code,
                message,
            });
        }
        let get = |missing: &'static str| {
            element(&text, missing).ok_or(ApiError::Incomplete {
                service,
                action: action.to_owned(),
                missing,
            })
        };
        Ok(Identity { account: get("Account")?, arn: get("Arn")?, user_id: get("UserId")? })
    }

    async fn json(&self, service: Service, action: &str, body: Json) -> Result<Json, ApiError> {
        let request = self
            .request(service)
            .header("content-type", "application/x-amz-json-1.1")
            .header("x-amz-target", format!("{}.{action}", service.target()))
            .body(without_null(body).to_string());
        let (status, request_id, text) = send(service, action, request).await?;
        let answer: Json = serde_json::from_str(&text).unwrap_or(Json::Null);
        if status < 400 {
            return Ok(answer);
        }
        let code = answer["__type"].as_str().unwrap_or("UnknownError");
        let code = code.rsplit('#').next().unwrap_or(code).to_owned();
        let message = answer["message"].as_str().or_else(|| answer["Message"].as_str()).unwrap_or(&text);
        Err(ApiError::Refused {
            service,
            action: action.to_owned(),
            status,
            request_id,
            code,
            message: message.to_owned(),
        })
    }

    /// A request with a signature's shape and no signature: the emulator reads region and service from its scope.
    fn request(&self, service: Service) -> reqwest::RequestBuilder {
        let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={}/{}/{}/{}/aws4_request, SignedHeaders=host;x-amz-date, Signature={:064}",
            self.access_key,
            &now[..8],
            self.region,
            service.scope(),
            0
        );
        let mut request = self.http.post(self.endpoint.clone());
        if let Some(token) = &self.session_token {
            request = request.header("x-amz-security-token", token);
        }
        request
            .header("authorization", authorization)
            .header("x-amz-date", now)
            .header("user-agent", concat!("provider-standin/", env!("CARGO_PKG_VERSION")))
    }
}

async fn send(
    service: Service,
    action: &str,
    request: reqwest::RequestBuilder,
) -> Result<(u16, String, String), ApiError> {
    let unreachable = |source| ApiError::Unreachable { service, action: action.to_owned(), source };
    let response = request.send().await.map_err(unreachable)?;
    let status = response.status().as_u16();
    let request_id = response.headers().get("x-amzn-requestid").and_then(|value| value.to_str().ok());
    let request_id = request_id.unwrap_or_default().to_owned();
    Ok((status, request_id, response.text().await.map_err(unreachable)?))
}

/// The endpoint, if it is on this machine.
fn loopback(endpoint: Option<&str>) -> Result<Url, EndpointError> {
    let text = endpoint.filter(|text| !text.is_empty()).ok_or(EndpointError::Unset)?;
    let refuse = || EndpointError::NotLoopback(text.to_owned());
    let url = Url::parse(text).map_err(|_| refuse())?;
    let local = match url.host() {
        Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    if local && url.scheme() == "http" { Ok(url) } else { Err(refuse()) }
}

/// A request has no member for what is not set.
fn without_null(body: Json) -> Json {
    match body {
        Json::Object(members) => Json::Object(
            members
                .into_iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(name, value)| (name, without_null(value)))
                .collect(),
        ),
        other => other,
    }
}

/// The text of the first element of this name; STS's answers have no two of one name and no escapes in these.
fn element(xml: &str, name: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    Some(text.trim().to_owned())
}

/// A list of tags as ECR writes it.
pub(crate) fn ecr_tags(tags: &crate::tags::Tags) -> Json {
    tags.iter().map(|(key, value)| json!({ "Key": key, "Value": value })).collect()
}

/// A list of tags as KMS writes it.
pub(crate) fn kms_tags(tags: &crate::tags::Tags) -> Json {
    tags.iter().map(|(key, value)| json!({ "TagKey": key, "TagValue": value })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_talked_to() {
        for good in ["http://127.0.0.1:4566", "http://[::1]:1/", "http://localhost:80", "http://127.8.9.1"] {
            assert!(loopback(Some(good)).is_ok(), "{good}");
        }
        for bad in [
            "https://ecr.eu-west-1.amazonaws.com",
            "http://127.0.0.1.example.com",
            "http://localhost.example.com",
            "http://10.0.0.1",
            "http://0.0.0.0:1",
            "http://user@evil.example:80",
            "https://127.0.0.1",
            "127.0.0.1:4566",
        ] {
            assert!(matches!(loopback(Some(bad)), Err(EndpointError::NotLoopback(_))), "{bad}");
        }
        assert!(matches!(loopback(None), Err(EndpointError::Unset)));
        assert!(matches!(loopback(Some("")), Err(EndpointError::Unset)));
    }

    #[test]
    fn a_refusal_reads_as_the_real_provider_prints_it() {
        let error = ApiError::Refused {
            service: Service::Ecr,
            action: "CreateRepository".to_owned(),
            status: 400,
            request_id: "7d2c".to_owned(),
            code: "RepositoryAlreadyExistsException".to_owned(),
            message: "The repository with name 'curl' already exists".to_owned(),
        };
        assert_eq!(
            error.to_string(),
            "operation error ECR: CreateRepository, https response error StatusCode: 400, RequestID: 7d2c, \
             RepositoryAlreadyExistsException: The repository with name 'curl' already exists"
        );
    }

    #[test]
    fn a_request_names_only_what_is_set() {
        let body = json!({ "a": null, "b": { "c": null, "d": false } });
        assert_eq!(without_null(body), json!({ "b": { "d": false } }));
    }
}
