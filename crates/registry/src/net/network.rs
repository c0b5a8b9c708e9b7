//! The [`Transport`] of the network: reqwest. Its types are only used here and in [`Body`].

use std::collections::HashMap;
use std::error::Error as StdError;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{NoProxy, Proxy};
use rustls::{AlertDescription, CertificateError, InvalidMessage};
use url::Url;

use super::address_guard::{AddressGuard, Refused};
use super::http::{Body, Content, Http, Proxies, Request, Response, Transport};
use crate::BoxFuture;
use crate::error::{Error, ErrorKind, NoConnection};
use crate::size_limits;

/// The HTTP clients: one for all servers, and one for each that has its own certificates. They share neither connections nor
/// certificates.
pub(crate) struct Network {
    all: reqwest::Client,
    /// By host, with its port if it has one.
    own: HashMap<String, reqwest::Client>,
}

impl Network {
    /// Without redirects, because we are stricter about whom `Authorization` is sent to; and without HTTP/2, because one
    /// connection would carry all transfers and its stream limit stall them
    /// ([ocync's finding](https://github.com/clowdhaus/ocync/pull/104)).
    pub(crate) fn new(mut all: Http, connect: Duration, guard: &Arc<AddressGuard>) -> Result<Self, Error> {
        let client = |http| {
            let client = builder(http).map(|builder| {
                let builder = builder.dns_resolver(Guarded(Arc::clone(guard))).connect_timeout(connect);
                lenient(builder.redirect(reqwest::redirect::Policy::none()).http1_only())
            });
            let client = client.and_then(reqwest::ClientBuilder::build);
            client.map_err(|error| {
                // The address of a proxy may hold a password.
                let source = Arc::new(error.without_url());
                Error::new("", "HTTP client", ErrorKind::Setup { source })
            })
        };
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            // Another thread may have been faster; then there is one, too.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let own = std::mem::take(&mut all.own).into_iter().map(|(host, http)| Ok((host, client(http)?)));
        Ok(Self { own: own.collect::<Result<_, Error>>()?, all: client(all)? })
    }

    /// The client for a server.
    fn at(&self, url: &Url) -> &reqwest::Client {
        if self.own.is_empty() || url.scheme() != "https" {
            return &self.all;
        }
        let with_port = || {
            let (host, port) = (url.host_str()?, url.port_or_known_default()?);
            self.own.get(&format!("{host}:{port}"))
        };
        self.own.get(url.authority()).or_else(with_port).unwrap_or(&self.all)
    }
}

/// Accepts replies as other clients do: with many headers, folded ones, and those between which one is malformed.
fn lenient(builder: reqwest::ClientBuilder) -> reqwest::ClientBuilder {
    let builder = builder.http1_max_headers(size_limits::HEADERS);
    let builder = builder.http1_allow_obsolete_multiline_headers_in_responses(true);
    let builder = builder.http1_allow_spaces_after_header_name_in_responses(true);
    builder.http1_ignore_invalid_headers_in_responses(true)
}

fn builder(settings: Http) -> reqwest::Result<reqwest::ClientBuilder> {
    let Http { tls, user_agent, proxies, own: _ } = settings;
    let mut builder = reqwest::Client::builder();
    if let Some(tls) = tls {
        builder = builder.tls_backend_preconfigured(tls);
    }
    if let Some(user_agent) = user_agent {
        builder = builder.user_agent(user_agent);
    }
    let Proxies::Named { http, https, direct } = proxies else {
        return Ok(if matches!(proxies, Proxies::None) { builder.no_proxy() } else { builder });
    };
    for (address, proxy) in
        [(http, Proxy::http as fn(String) -> reqwest::Result<Proxy>), (https, Proxy::https)]
    {
        if let Some(address) = address {
            builder = builder.proxy(proxy(address)?.no_proxy(NoProxy::from_string(&direct)));
        }
    }
    Ok(builder)
}

impl Transport for Network {
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, ErrorKind>> {
        Box::pin(async move {
            let Request { method, url, headers, body } = request;
            let client = self.at(&url);
            let mut request = reqwest::Request::new(method, url);
            *request.headers_mut() = headers;
            *request.body_mut() = sent(body);
            let mut reply = client.execute(request).await.map_err(failure)?;
            let mut response = Response::default();
            *response.status_mut() = reply.status();
            *response.headers_mut() = std::mem::take(reply.headers_mut());
            *response.body_mut() = Body(Content::Reply(reply));
            Ok(response)
        })
    }
}

fn sent(body: Body) -> Option<reqwest::Body> {
    match body.0 {
        Content::Nothing => None,
        Content::Bytes(bytes) => Some(bytes.into()),
        Content::Stream { stream, .. } => Some(reqwest::Body::wrap_stream(stream)),
        Content::Reply(reply) => Some(reply.into()),
    }
}

/// The [`AddressGuard`] as the HTTP client's resolver.
struct Guarded(Arc<AddressGuard>);

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = Arc::clone(&self.0);
        Box::pin(async move {
            let found = guard.find(name.as_str()).await?;
            Ok(Box::new(found.into_iter().map(|address| SocketAddr::new(address, 0))) as Addrs)
        })
    }
}

/// A failure of the network, without the URL: after a redirect it has a signature in it.
pub(crate) fn failure(error: reqwest::Error) -> ErrorKind {
    if let Some(refused) = find::<Refused>(&error) {
        let reason = "it leads to a private address that the user did not name";
        return ErrorKind::UnsafeLocation { url: refused.host.clone(), reason };
    }
    let why = why(&error);
    let source = Arc::new(error.without_url());
    match why {
        Some(why) => ErrorKind::NoConnection { why, source: Some(source) },
        None => ErrorKind::Network { source },
    }
}

fn why(error: &reqwest::Error) -> Option<NoConnection> {
    if let Some(error) = find::<rustls::Error>(error) {
        return tls(error);
    }
    if find::<hyper::Error>(error).is_some_and(is_no_http) {
        return Some(NoConnection::NotHttp);
    }
    if !error.is_connect() {
        return None;
    }
    if let Some(why) = tunnel(error) {
        return Some(why);
    }
    let is_refused = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    if causes(error).filter_map(|error| error.downcast_ref()).any(is_refused) {
        return Some(NoConnection::Refused);
    }
    error.is_dns().then_some(NoConnection::UnknownName)
}

/// Whether what came is not HTTP, after a request or before one. The latter has no type of its own, only this message.
fn is_no_http(error: &hyper::Error) -> bool {
    let is_unasked = |error: Cause<'_>| {
        error.is::<hyper::Error>() && error.to_string() == "received unexpected message from connection"
    };
    error.is_parse() || causes(error).any(is_unasked)
}

/// The TLS errors that a retry would meet again. The others are transient.
fn tls(error: &rustls::Error) -> Option<NoConnection> {
    use rustls::Error as Tls;
    match error {
        Tls::InvalidCertificate(error) => Some(certificate(error)),
        // A verifier without CAs.
        Tls::General(_) => Some(NoConnection::UnknownCa),
        Tls::AlertReceived(alert) => alert_of(*alert),
        // Plain text does not begin with the type of a record.
        Tls::InvalidMessage(InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion) => {
            Some(NoConnection::PlainHttp)
        }
        Tls::PeerIncompatible(_) | Tls::NoCertificatesPresented | Tls::UnsupportedNameType => {
            Some(NoConnection::Tls)
        }
        _ => None,
    }
}

fn certificate(error: &CertificateError) -> NoConnection {
    match error {
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            NoConnection::WrongName
        }
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => NoConnection::NotValidNow,
        _ => NoConnection::UnknownCa,
    }
}

fn alert_of(alert: AlertDescription) -> Option<NoConnection> {
    match alert {
        AlertDescription::CertificateRequired
        | AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnknownCA
        | AlertDescription::AccessDenied => Some(NoConnection::ClientCertificate),
        AlertDescription::HandshakeFailure
        | AlertDescription::ProtocolVersion
        | AlertDescription::InsufficientSecurity
        | AlertDescription::UnrecognisedName
        | AlertDescription::NoApplicationProtocol => Some(NoConnection::Tls),
        _ => None,
    }
}

/// A proxy's refusal of CONNECT. The type of the error is not public, its message is
/// ([hyper-util](https://github.com/hyperium/hyper-util/blob/master/src/client/legacy/connect/proxy/tunnel.rs)).
fn tunnel(error: &reqwest::Error) -> Option<NoConnection> {
    let says = |words: &str| causes(error).any(|error| error.to_string() == words);
    if says("tunnel error: proxy authorization required") {
        return Some(NoConnection::ProxyLogin);
    }
    says("tunnel error: unsuccessful").then_some(NoConnection::ProxyRefuses)
}

type Cause<'a> = &'a (dyn StdError + 'static);

/// The error and its causes.
fn causes<'a>(error: Cause<'a>) -> impl Iterator<Item = Cause<'a>> {
    std::iter::successors(Some(error), |error| below(*error))
}

/// The first error of this type among the causes.
fn find<T: StdError + 'static>(error: Cause<'_>) -> Option<&T> {
    causes(error).find_map(|error| error.downcast_ref())
}

/// The next cause. An [`io::Error`] around another error returns that one's cause as its own and hides the error itself.
fn below(error: Cause<'_>) -> Option<Cause<'_>> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_found_however_often_it_is_wrapped() {
        let mut error: Box<dyn StdError + Send + Sync> =
            Box::new(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer));
        for _ in 0..4 {
            assert!(find::<rustls::Error>(&*error as &(dyn StdError + 'static)).is_some());
            error = Box::new(io::Error::other(error));
        }
        assert!(find::<Refused>(&*error as &(dyn StdError + 'static)).is_none());
    }

    #[test]
    fn permanent_errors_are_distinguished_from_transient_ones() {
        use rustls::Error as Tls;
        for (error, why) in [
            (Tls::InvalidCertificate(CertificateError::UnknownIssuer), Some(NoConnection::UnknownCa)),
            (Tls::InvalidCertificate(CertificateError::NotValidForName), Some(NoConnection::WrongName)),
            (Tls::InvalidCertificate(CertificateError::Expired), Some(NoConnection::NotValidNow)),
            (Tls::InvalidMessage(InvalidMessage::InvalidContentType), Some(NoConnection::PlainHttp)),
            (
                Tls::AlertReceived(AlertDescription::CertificateRequired),
                Some(NoConnection::ClientCertificate),
            ),
            (Tls::AlertReceived(AlertDescription::HandshakeFailure), Some(NoConnection::Tls)),
            (Tls::AlertReceived(AlertDescription::InternalError), None),
            (Tls::AlertReceived(AlertDescription::BadRecordMac), None),
            (Tls::DecryptError, None),
        ] {
            assert_eq!(tls(&error), why, "{error}");
        }
    }
}
