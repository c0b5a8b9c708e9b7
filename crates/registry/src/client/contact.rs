//! Why there is no connection, and which servers were heard of.

use std::collections::HashSet;
use std::error::Error as StdError;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::{AlertDescription, CertificateError, InvalidMessage};
use url::Url;

use super::guard::Refused;
use crate::error::{ErrorKind, NoConnection};

/// The servers that have answered: one that is away for a moment is waited for longer than one that was never there.
#[derive(Debug, Default)]
pub(crate) struct Contacts(Mutex<HashSet<String>>);

impl Contacts {
    /// Notes that the server at `url` answered.
    pub(crate) fn answered(&self, url: &Url) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.contains(url.authority()) {
            known.insert(url.authority().to_owned());
        }
    }

    /// A failure to reach `url`.
    pub(crate) fn failure(&self, url: &Url, error: reqwest::Error) -> ErrorKind {
        let kind = network(error);
        let is_known = || self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(url.authority());
        match kind {
            ErrorKind::NoConnection { why, source: Some(source) } if is_lost(why) && is_known() => {
                ErrorKind::Network { source }
            }
            kind => kind,
        }
    }
}

fn is_lost(why: NoConnection) -> bool {
    matches!(why, NoConnection::Refused | NoConnection::UnknownName)
}

/// A failure of the network, without the URL: a redirect's has a signature in it.
pub(crate) fn network(error: reqwest::Error) -> ErrorKind {
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
    if !error.is_connect() {
        return None;
    }
    if let Some(why) = tunnel(error) {
        return Some(why);
    }
    let is_refused = find_where(error, &|error| {
        error
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    });
    if is_refused {
        return Some(NoConnection::Refused);
    }
    error.is_dns().then_some(NoConnection::UnknownName)
}

/// Of TLS's errors, those that the next try meets again. Others are a connection that was disturbed.
fn tls(error: &rustls::Error) -> Option<NoConnection> {
    use rustls::Error as Tls;
    match error {
        Tls::InvalidCertificate(error) => Some(certificate(error)),
        // A verifier that knows no authorities.
        Tls::General(_) => Some(NoConnection::UnknownCa),
        Tls::AlertReceived(alert) => alert_of(*alert),
        // A reply in plain text begins with no record's type.
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

/// What a proxy said to CONNECT. The connector's type is not public, its words are
/// ([hyper-util](https://github.com/hyperium/hyper-util/blob/master/src/client/legacy/connect/proxy/tunnel.rs)).
fn tunnel(error: &reqwest::Error) -> Option<NoConnection> {
    let says = |words: &str| find_where(error, &|error| error.to_string() == words);
    if says("tunnel error: proxy authorization required") {
        return Some(NoConnection::ProxyLogin);
    }
    says("tunnel error: unsuccessful").then_some(NoConnection::ProxyRefuses)
}

/// An error of this type among the causes, however deep.
fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        cause = below(error);
    }
    None
}

fn find_where(error: &(dyn StdError + 'static), is_it: &dyn Fn(&(dyn StdError + 'static)) -> bool) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if is_it(error) {
            return true;
        }
        cause = below(error);
    }
    false
}

/// The next cause. An [`io::Error`] around another error gives that one's cause as its own and hides the error itself.
fn below<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
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
    fn what_stays_wrong_is_told_from_what_was_disturbed() {
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
