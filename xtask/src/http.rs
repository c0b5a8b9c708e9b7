//! HTTP for the whole process: registries and AWS use the same proxies and company CAs.

mod certs_d;
mod server_trust;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use registry::Proxies;
use reqwest::{ClientBuilder, NoProxy, Proxy};
use rustls::client::WantsClientCert;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, ConfigBuilder};
use rustls_platform_verifier::Verifier;

use failure::{FailWith as _, Kind, failure};

/// Our name in requests.
const USER_AGENT: &str = concat!("htc-grid-images/", env!("CARGO_PKG_VERSION"));

/// The timeout for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The TLS settings of every client in the process.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The settings for all servers without their own.
    pub config: ClientConfig,
    verifier: Arc<server_trust::NamedCertificates>,
    provider: Arc<CryptoProvider>,
}

/// The TLS settings of every client in the process: rustls on ring, with the system's CAs and those of AWS_CA_BUNDLE. SSL_CERT_FILE
/// replaces the system's. Loaded once, because reading the CAs takes longer than the rest of the start.
///
/// # Errors
/// A variable names a file that cannot be read or has no valid certificate.
pub fn tls() -> anyhow::Result<Tls> {
    let mut named = authorities()?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let variables = ["AWS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"];
    let verifier = match Verifier::new_with_extra_roots(named.clone(), Arc::clone(&provider)) {
        Ok(verifier) => Some(Arc::new(verifier) as Arc<dyn ServerCertVerifier>),
        // A fresh machine may have no CAs. Commands without TLS work nevertheless: everything with `--local`, and `demo`.
        Err(_) if variables.iter().all(|name| std::env::var_os(name).is_none()) => None,
        Err(error) => Err(error).context("could not set up TLS").hint(
            Kind::Config,
            "do the files of AWS_CA_BUNDLE and SSL_CERT_FILE contain valid certificates?",
        )?,
    };
    match certificates("SSL_CERT_FILE") {
        Ok(own) => named.extend(own),
        // A wrong variable, perhaps set by an installer long ago, must not stop the run.
        Err(why) => tracing::warn!("{why:#}: no server's certificate is believed for its sake"),
    }
    let verifier = Arc::new(server_trust::NamedCertificates::new(Arc::clone(&provider), verifier, named));
    let config = tls_config(&provider, Arc::clone(&verifier))?.with_no_client_auth();
    Ok(Tls { config, verifier, provider })
}

fn tls_config(
    provider: &Arc<CryptoProvider>,
    verifier: Arc<server_trust::NamedCertificates>,
) -> anyhow::Result<ConfigBuilder<ClientConfig, WantsClientCert>> {
    let builder = ClientConfig::builder_with_provider(Arc::clone(provider));
    let builder = builder.with_safe_default_protocol_versions()?;
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier))
}

/// The TLS settings for hosts with certificates in docker's or podman's directories. An unusable one is a warning, because the run
/// may not need its host.
pub fn own_certificates(tls: &Tls) -> Vec<(String, ClientConfig)> {
    let mut all = Vec::new();
    for own in certs_d::read(&certs_d::directories()) {
        let host = own.host.clone();
        match own_config(tls, own) {
            Ok(config) => all.push((host, config)),
            Err(why) => tracing::warn!("the certificates for {host} are not used: {why:#}"),
        }
    }
    all
}

fn own_config(tls: &Tls, own: certs_d::HostCertificates) -> anyhow::Result<ClientConfig> {
    let certs_d::HostCertificates { authorities, identity, problem, .. } = own;
    if let Some(problem) = problem {
        anyhow::bail!(problem);
    }
    let verifier = Arc::new(tls.verifier.with(authorities)?);
    let config = tls_config(&tls.provider, verifier)?;
    Ok(match identity {
        Some((chain, key)) => config.with_client_auth_cert(chain, key)?,
        None => config.with_no_client_auth(),
    })
}

/// The settings of every HTTP client in the process, with the proxies from HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY.
///
/// # Errors
/// A variable does not contain a proxy's address.
pub fn builder(tls: &ClientConfig) -> anyhow::Result<ClientBuilder> {
    let mut builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls.clone())
        .user_agent(USER_AGENT)
        .connect_timeout(CONNECT_TIMEOUT)
        // AWS APIs do not redirect.
        .redirect(reqwest::redirect::Policy::none());
    let Proxies::Named { http, https, direct } = proxies() else {
        return Ok(if matches!(proxies(), Proxies::None) { builder.no_proxy() } else { builder });
    };
    for (variable, address, proxy) in [
        ("HTTP_PROXY", http, Proxy::http as fn(String) -> reqwest::Result<Proxy>),
        ("HTTPS_PROXY", https, Proxy::https),
    ] {
        let Some(address) = address else { continue };
        // Without the address, which is in the error and in its cause and may contain a password.
        let proxy = proxy(address)
            .map_err(|error| anyhow::Error::msg(anyhow::Error::new(error).root_cause().to_string()))
            .with_context(|| format!("{variable} or ALL_PROXY is not the address of a proxy"))
            .kind(Kind::Config)?;
        builder = builder.proxy(proxy.no_proxy(NoProxy::from_string(&direct)));
    }
    Ok(builder)
}

/// The same settings for the registry client, which decides itself where to send an `Authorization` header.
pub fn for_registries(tls: &ClientConfig) -> registry::Http {
    registry::Http::default().tls(tls.clone()).user_agent(USER_AGENT).proxies(proxies())
}

/// The CAs in AWS_CA_BUNDLE; on macOS also those in SSL_CERT_FILE, which the system's verifier does not read.
fn authorities() -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let system = cfg!(target_vendor = "apple").then_some("SSL_CERT_FILE");
    let mut authorities = Vec::new();
    for variable in ["AWS_CA_BUNDLE"].into_iter().chain(system) {
        authorities.extend(certificates(variable)?);
    }
    Ok(authorities)
}

/// The certificates in the file that a variable names. Empty if the variable is not set.
fn certificates(variable: &str) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let Some(bundle) = std::env::var_os(variable).filter(|path| !path.is_empty()) else {
        return Ok(Vec::new());
    };
    let pem = std::fs::read(&bundle)
        .with_context(|| format!("could not read the file that {variable} names"))
        .kind(Kind::Config)?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().unwrap_or_default();
    if found.is_empty() {
        let message = format!("the file of {variable} contains no PEM certificates");
        return Err(failure(Kind::Config, message));
    }
    Ok(found)
}

/// Addresses that are reached without a proxy: this machine, as in docker and terraform
/// (<https://pkg.go.dev/golang.org/x/net/http/httpproxy#Config.ProxyFunc>), and the addresses where AWS's machines and containers
/// get their credentials, because behind a proxy these would be the proxy's
/// (<https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html>).
const DIRECT: &str = "localhost,127.0.0.0/8,::1,169.254.0.0/16,fd00:ec2::/32";

/// The environment's proxies, otherwise the system's settings.
fn proxies() -> Proxies {
    let env = |name: &str| {
        let names = [name.to_owned(), name.to_ascii_lowercase()];
        names.iter().filter_map(|name| std::env::var(name).ok()).find(|value| !value.is_empty())
    };
    let direct = format!("{},{DIRECT}", env("NO_PROXY").unwrap_or_default());
    // Otherwise `*` would match every name but no address.
    if direct.split(',').any(|host| host.trim() == "*") {
        return Proxies::None;
    }
    let [http, https] = ["HTTP_PROXY", "HTTPS_PROXY"].map(|name| env(name).or_else(|| env("ALL_PROXY")));
    if http.is_none() && https.is_none() {
        return Proxies::System;
    }
    Proxies::Named { http, https, direct }
}
