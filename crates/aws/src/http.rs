//! The AWS SDK's HTTP client, which is this process's own.

use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;

use crate::Waiting;

/// The hint for a certificate of an unknown CA.
pub const UNKNOWN_CA: &str = "where a company's proxy opens TLS, or the server has a CA of its own, AWS_CA_BUNDLE or \
                              SSL_CERT_FILE names the file (PEM) with that CA";

/// The proxy that may be in use: its address without the password.
pub fn proxy() -> Option<String> {
    let named = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "HTTP_PROXY", "http_proxy"];
    let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let (name, address) = named.into_iter().find_map(|name| Some((name, set(name)?)))?;
    let host = address.rsplit_once('@').map_or(address.as_str(), |(_, host)| host);
    Some(format!("{name} names the proxy {host}"))
}

/// The proxy, or how to set one.
pub fn behind_a_proxy() -> String {
    proxy().unwrap_or_else(|| "Behind a proxy, HTTPS_PROXY names the proxy".to_owned())
}

/// The timeout of a request to AWS if the SDK sets none. The SDK has no limit by default and tries three times (AWS_MAX_ATTEMPTS).
pub const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Adapts `client` to the AWS SDK.
pub(crate) fn for_sdk(client: reqwest::Client) -> SharedHttpClient {
    http_client_fn(move |settings, _| {
        SharedHttpConnector::new(Connector { client: client.clone(), read_timeout: settings.read_timeout() })
    })
}

#[derive(Debug)]
struct Connector {
    client: reqwest::Client,
    read_timeout: Option<Duration>,
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let client = self.client.clone();
        let read_timeout = self.read_timeout;
        HttpConnectorFuture::new(async move {
            let request = request.try_into_http1x().map_err(|e| ConnectorError::user(e.into()))?;
            let request = request.map(reqwest::Body::wrap);
            let mut request =
                reqwest::Request::try_from(request).map_err(|e| ConnectorError::user(e.into()))?;
            let most = read_timeout.unwrap_or(READ_TIMEOUT);
            *request.timeout_mut() = Some(most);
            let host = request.url().host_str().unwrap_or_default().to_owned();
            let _wait = Waiting::new(&host, "its reply", most);
            let response = client.execute(request).await.map_err(|error| connector_error(host, error))?;
            let response = http::Response::<reqwest::Body>::from(response).map(SdkBody::from_body_1_x);
            HttpResponse::try_from(response).map_err(|e| ConnectorError::other(e.into(), None))
        })
    }
}

/// A request without a response, with the host, which the SDK does not show.
#[derive(Debug, thiserror::Error)]
#[error("{host} gives no answer")]
pub(crate) struct NoAnswer {
    /// The host of the request.
    pub(crate) host: String,
    source: reqwest::Error,
}

fn connector_error(host: String, source: reqwest::Error) -> ConnectorError {
    let (is_timeout, is_builder) = (source.is_timeout(), source.is_builder());
    let error = Box::new(NoAnswer { host, source });
    if is_timeout {
        ConnectorError::timeout(error)
    } else if is_builder {
        ConnectorError::user(error)
    } else {
        ConnectorError::io(error)
    }
}
