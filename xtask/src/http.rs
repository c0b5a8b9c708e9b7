//! One HTTP client for everything in the process: registries and AWS see the same proxies and company CAs.

use std::time::Duration;

use anyhow::Context as _;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;

/// How long a connection may take to come up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The process's HTTP client: rustls on ring; HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE and AWS_CA_BUNDLE honoured.
///
/// # Errors
/// AWS_CA_BUNDLE names a file that cannot be read or holds no certificate.
pub fn client() -> anyhow::Result<reqwest::Client> {
    builder()?.build().context("could not set up TLS")
}

/// The settings of [`client`], for the registry client, which adds its own.
///
/// # Errors
/// As [`client`].
pub fn builder() -> anyhow::Result<reqwest::ClientBuilder> {
    // Fails only where a provider is installed already, which is what is wanted.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("htc-grid-images/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        // The registry client decides where Authorization may go; AWS APIs do not redirect.
        .redirect(reqwest::redirect::Policy::none());
    if let Some(bundle) = std::env::var_os("AWS_CA_BUNDLE").filter(|path| !path.is_empty()) {
        let pem = std::fs::read(&bundle).context("could not read the file that AWS_CA_BUNDLE names")?;
        let certificates =
            reqwest::Certificate::from_pem_bundle(&pem).context("AWS_CA_BUNDLE holds no PEM certificates")?;
        builder = builder.tls_certs_merge(certificates);
    }
    Ok(builder)
}

/// The same client for the AWS SDK.
pub fn for_sdk(client: reqwest::Client) -> SharedHttpClient {
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
            *request.timeout_mut() = read_timeout;
            let response = client.execute(request).await.map_err(connector_error)?;
            let response = http::Response::<reqwest::Body>::from(response).map(SdkBody::from_body_1_x);
            HttpResponse::try_from(response).map_err(|e| ConnectorError::other(e.into(), None))
        })
    }
}

fn connector_error(error: reqwest::Error) -> ConnectorError {
    if error.is_timeout() {
        ConnectorError::timeout(error.into())
    } else if error.is_builder() {
        ConnectorError::user(error.into())
    } else {
        ConnectorError::io(error.into())
    }
}
