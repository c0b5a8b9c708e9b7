//! One HTTP client for everything in the process: registries and AWS see the same proxies and company CAs.

use std::time::Duration;

use anyhow::Context as _;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use reqwest::{ClientBuilder, NoProxy, Proxy};

use crate::error::{Exit, FailWith as _, failure};

/// How long a connection may take to come up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The process's HTTP client: rustls on ring; HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE and AWS_CA_BUNDLE honoured.
///
/// # Errors
/// AWS_CA_BUNDLE names a file that cannot be read or holds no certificate, or a variable holds no proxy's address.
pub fn client() -> anyhow::Result<reqwest::Client> {
    builder()?
        .build()
        .context("could not set up TLS")
        .hint(Exit::Config, "do the files of AWS_CA_BUNDLE and SSL_CERT_FILE hold sound certificates?")
}

/// The settings of [`client`], for the registry client, which adds its own.
///
/// # Errors
/// As [`client`].
pub fn builder() -> anyhow::Result<ClientBuilder> {
    // Fails only where a provider is installed already, which is what is wanted.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder()
        .user_agent(concat!("htc-grid-images/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        // The registry client decides where Authorization may go; AWS APIs do not redirect.
        .redirect(reqwest::redirect::Policy::none());
    authorities(proxies(builder)?)
}

/// Trusts what AWS_CA_BUNDLE holds, beside the system's own authorities; SSL_CERT_FILE stands for those.
fn authorities(mut builder: ClientBuilder) -> anyhow::Result<ClientBuilder> {
    // macOS verifies by its keychain, which does not know the variable.
    let system = cfg!(target_vendor = "apple").then_some("SSL_CERT_FILE");
    for variable in ["AWS_CA_BUNDLE"].into_iter().chain(system) {
        let Some(bundle) = std::env::var_os(variable).filter(|path| !path.is_empty()) else { continue };
        let pem = std::fs::read(&bundle)
            .with_context(|| format!("could not read the file that {variable} names"))
            .exit(Exit::Config)?;
        let certificates = reqwest::Certificate::from_pem_bundle(&pem).unwrap_or_default();
        if certificates.is_empty() {
            return Err(failure(
                Exit::Config,
                format!("the file that {variable} names holds no PEM certificates"),
            ));
        }
        builder = builder.tls_certs_merge(certificates);
    }
    Ok(builder)
}

/// Where no proxy is asked: this machine itself, as docker and terraform have it
/// (<https://pkg.go.dev/golang.org/x/net/http/httpproxy#Config.ProxyFunc>), and the addresses where AWS's machines and
/// containers find their own credentials, which would be the proxy's there
/// (<https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html>).
const DIRECT: &str = "localhost,127.0.0.0/8,::1,169.254.0.0/16,fd00:ec2::/32";

/// The environment's proxies; where there are none, the system's settings.
fn proxies(mut builder: ClientBuilder) -> anyhow::Result<ClientBuilder> {
    let env = |name: &str| {
        let names = [name.to_owned(), name.to_ascii_lowercase()];
        names.iter().filter_map(|name| std::env::var(name).ok()).find(|value| !value.is_empty())
    };
    let direct = format!("{},{DIRECT}", env("NO_PROXY").unwrap_or_default());
    // Otherwise it would stand for every name and for no address.
    if direct.split(',').any(|host| host.trim() == "*") {
        return Ok(builder.no_proxy());
    }
    for (variable, proxy) in
        [("HTTP_PROXY", Proxy::http as fn(String) -> reqwest::Result<Proxy>), ("HTTPS_PROXY", Proxy::https)]
    {
        let Some(address) = env(variable).or_else(|| env("ALL_PROXY")) else { continue };
        // Not the address itself: it may hold a password.
        let proxy = proxy(address)
            .map_err(reqwest::Error::without_url)
            .with_context(|| format!("{variable} or ALL_PROXY is no proxy's address"))
            .exit(Exit::Config)?;
        builder = builder.proxy(proxy.no_proxy(NoProxy::from_string(&direct)));
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
