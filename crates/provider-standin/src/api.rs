//! Calls to the emulated AWS: ECR and KMS use JSON, STS and IAM answer in XML.

mod error;
mod retries;

use std::net::IpAddr;

use serde_json::{Value as Json, json};
use url::{Host, Url};

use crate::keys::Keys;
use crate::tags::TagRules;
use error::EndpointError;
pub(crate) use error::{ApiError, Service};
use retries::{Retries, is_transient};

/// The variable with the emulator's address.
const ENDPOINT: &str = "AWS_ENDPOINT_URL";

/// Identifies the provider in the emulator's log.
const USER_AGENT: &str = concat!("provider-standin/", env!("CARGO_PKG_VERSION"));

/// The caller, from STS.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) account: String,
    pub(crate) arn: String,
    pub(crate) user_id: String,
}

/// A role, from IAM.
#[derive(Clone, Debug)]
pub(crate) struct Role {
    pub(crate) arn: String,
    pub(crate) path: String,
    pub(crate) id: String,
}

/// The answer of a service with form requests.
struct QueryAnswer {
    service: &'static Service,
    action: &'static str,
    text: String,
}

impl QueryAnswer {
    fn get(&self, name: &'static str) -> Result<String, ApiError> {
        element(&self.text, name).ok_or_else(|| ApiError::Incomplete {
            service: self.service,
            action: self.action.to_owned(),
            missing: name,
        })
    }
}

/// A client for one region.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    http: reqwest::Client,
    endpoint: Url,
    keys: Keys,
    retries: Retries,
    pub(crate) region: String,
    pub(crate) tags: TagRules,
}

impl Api {
    /// A client for the emulator in the environment.
    pub(crate) fn from_env(region: String, tags: TagRules) -> Result<Self, EndpointError> {
        let endpoint = loopback(std::env::var(ENDPOINT).ok().as_deref())?;
        let keys = Keys::from_env();
        // Without the machine's proxy, as both programs run on this machine.
        let http = reqwest::Client::builder().no_proxy().user_agent(USER_AGENT);
        let http = http.build().map_err(EndpointError::Client)?;
        Ok(Self { http, endpoint, keys, retries: Retries::REAL, region, tags })
    }

    /// A client with an address that does not answer.
    #[cfg(test)]
    pub(crate) fn for_tests(region: &str, tags: TagRules) -> Self {
        let endpoint = loopback(Some("http://127.0.0.1:9")).unwrap();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self {
            http,
            endpoint,
            keys: Keys::Static { access_key: "local".to_owned(), session_token: None },
            retries: Retries::REAL,
            region: region.to_owned(),
            tags,
        }
    }

    /// The same client for a resource with its own region.
    pub(crate) fn in_region(&self, region: Option<&str>) -> Self {
        let mut api = self.clone();
        if let Some(region) = region {
            region.clone_into(&mut api.region);
        }
        api
    }

    /// Calls ECR.
    pub(crate) async fn ecr(&self, action: &str, body: Json) -> Result<Json, ApiError> {
        self.json(Service::ECR, action, body).await
    }

    /// Calls KMS.
    pub(crate) async fn kms(&self, action: &str, body: Json) -> Result<Json, ApiError> {
        self.json(Service::KMS, action, body).await
    }

    /// Gets the caller's identity from STS.
    pub(crate) async fn identity(&self) -> Result<Identity, ApiError> {
        let answer = self.query(Service::STS, "GetCallerIdentity", "&Version=2011-06-15").await?;
        let get = |name| answer.get(name);
        Ok(Identity { account: get("Account")?, arn: get("Arn")?, user_id: get("UserId")? })
    }

    /// Gets a role from IAM.
    pub(crate) async fn role(&self, name: &str) -> Result<Role, ApiError> {
        let name: String = url::form_urlencoded::byte_serialize(name.as_bytes()).collect();
        let more = format!("&Version=2010-05-08&RoleName={name}");
        let answer = self.query(Service::IAM, "GetRole", &more).await?;
        Ok(Role { arn: answer.get("Arn")?, path: answer.get("Path")?, id: answer.get("RoleId")? })
    }

    /// Calls an action of a service with form requests; `more` is added to the form.
    async fn query(
        &self,
        service: &'static Service,
        action: &'static str,
        more: &str,
    ) -> Result<QueryAnswer, ApiError> {
        let body = format!("Action={action}{more}");
        let text = self
            .send(service, action, |request| {
                request.header("content-type", "application/x-www-form-urlencoded").body(body.clone())
            })
            .await?;
        Ok(QueryAnswer { service, action, text })
    }

    /// Calls a service with JSON requests.
    pub(crate) async fn json(
        &self,
        service: &'static Service,
        action: &str,
        body: Json,
    ) -> Result<Json, ApiError> {
        let (target, body) = (format!("{}.{action}", service.target), without_null(body).to_string());
        let text = self
            .send(service, action, |request| {
                let request = request.header("content-type", "application/x-amz-json-1.1");
                request.header("x-amz-target", &target).body(body.clone())
            })
            .await?;
        Ok(serde_json::from_str(&text).unwrap_or(Json::Null))
    }

    /// Returns the text of a successful answer; repeats calls with transient errors.
    async fn send(
        &self,
        service: &'static Service,
        action: &str,
        fill: impl Fn(reqwest::RequestBuilder) -> reqwest::RequestBuilder,
    ) -> Result<String, ApiError> {
        let unreachable = |source| ApiError::Unreachable { service, action: action.to_owned(), source };
        let mut attempts = 1;
        loop {
            let (access_key, session_token) = self.keys.current(&self.http).await.map_err(unreachable)?;
            let request = self.request(service, &access_key, session_token.as_deref());
            let response = fill(request).send().await.map_err(unreachable)?;
            let status = response.status().as_u16();
            let request_id = response.headers().get("x-amzn-requestid").and_then(|id| id.to_str().ok());
            let request_id = request_id.unwrap_or_default().to_owned();
            let text = response.text().await.map_err(unreachable)?;
            if status < 400 {
                return Ok(text);
            }
            let (code, message) = refusal(&text);
            let again = is_transient(status, &code);
            if !again || attempts == self.retries.attempts {
                let action = action.to_owned();
                return Err(ApiError::Refused {
                    service,
                    action,
                    status,
                    request_id,
                    code,
                    message,
                    attempts,
                });
            }
            tokio::time::sleep(self.retries.pause(attempts)).await;
            attempts += 1;
        }
    }

    /// A request with a header in the form of a signature, but without one: the emulator reads region and service from its scope.
    fn request(
        &self,
        service: &'static Service,
        access_key: &str,
        session_token: Option<&str>,
    ) -> reqwest::RequestBuilder {
        let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={}/{}/{}/{}/aws4_request, SignedHeaders=host;x-amz-date, Signature={:064}",
            access_key,
            &now[..8],
            self.region,
            service.scope,
            0
        );
        let mut request = self.http.post(self.endpoint.clone());
        if let Some(token) = session_token {
            request = request.header("x-amz-security-token", token);
        }
        request
            .header("authorization", authorization)
            .header("x-amz-date", now)
            .header("user-agent", concat!("provider-standin/", env!("CARGO_PKG_VERSION")))
    }
}

/// Code and message of an error, in JSON or XML.
fn refusal(text: &str) -> (String, String) {
    let unknown = || "UnknownError".to_owned();
    match serde_json::from_str::<Json>(text) {
        Ok(answer) => {
            let code = answer["__type"]
                .as_str()
                .map_or_else(unknown, |code| code.rsplit('#').next().unwrap_or(code).to_owned());
            let message = answer["message"].as_str().or_else(|| answer["Message"].as_str()).unwrap_or(text);
            (code, message.to_owned())
        }
        Err(_) => {
            (element(text, "Code").unwrap_or_else(unknown), element(text, "Message").unwrap_or_default())
        }
    }
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

/// Leaves out members that are not set.
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

/// The text of the first element of this name; in these answers, names are unique and texts are not escaped.
fn element(xml: &str, name: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    Some(text.trim().to_owned())
}

/// A list of tags in ECR's format.
pub(crate) fn ecr_tags(tags: &crate::tags::Tags) -> Json {
    tags.iter().map(|(key, value)| json!({ "Key": key, "Value": value })).collect()
}

/// A list of tags in KMS's format.
pub(crate) fn kms_tags(tags: &crate::tags::Tags) -> Json {
    tags.iter().map(|(key, value)| json!({ "TagKey": key, "TagValue": value })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_endpoints_are_called() {
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
    fn a_request_only_has_the_fields_that_are_set() {
        let body = json!({ "a": null, "b": { "c": null, "d": false } });
        assert_eq!(without_null(body), json!({ "b": { "d": false } }));
    }

    #[tokio::test]
    async fn a_throttled_call_is_retried_up_to_a_limit() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let data = tempfile::tempdir().unwrap();
        let server = local_aws::Server::start(local_aws::Config::new(data.path())).unwrap();
        let mut api = Api::for_tests("eu-west-1", TagRules::default());
        api.endpoint = server.url().parse().unwrap();
        let throttle = |permille: u32| {
            server.set_quirks(vec![format!("throttle-random=7:{permille}").parse().unwrap()]);
        };
        throttle(500);
        for _ in 0..10 {
            api.ecr("DescribeRepositories", json!({})).await.unwrap();
            api.identity().await.unwrap();
        }

        throttle(1000);
        api.retries.attempts = 3;
        let error = api.kms("ListAliases", json!({})).await.unwrap_err();
        let words = "operation error KMS: ListAliases, exceeded maximum number of attempts, 3, https response error \
                     StatusCode: 400, RequestID: ";
        assert!(error.to_string().starts_with(words), "{error}");
        assert!(error.to_string().ends_with("ThrottlingException: Rate exceeded"), "{error}");
        // Permanent errors are not retried.
        throttle(0);
        let missing = api.ecr("DeleteRepository", json!({ "repositoryName": "none" })).await.unwrap_err();
        assert!(!missing.to_string().contains("attempts"), "{missing}");
    }
}
