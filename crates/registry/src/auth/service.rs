//! Asking token services for tokens.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use http::header::LOCATION;
use url::Url;

use super::{Credential, Server, token};
use crate::error::ErrorKind;
use crate::net::address_guard::AddressGuard;
use crate::net::encoding;
use crate::net::http::Transport;
use crate::net::location;
use crate::net::reached_servers::ReachedServers;
use crate::net::response::{self, Failure};
use crate::net::wait_span::waiting;
use crate::size_limits;

/// What a token is requested with.
pub(super) struct Asked<'a> {
    pub(super) service: Option<&'a str>,
    pub(super) scopes: &'a [String],
    pub(super) credential: Option<&'a Credential>,
}

/// The client of all token services.
pub(crate) struct TokenServices {
    pub(crate) http: Arc<dyn Transport>,
    /// How long to wait for an answer.
    pub(crate) timeout: Duration,
    /// Our `client_id`.
    pub(crate) client_id: String,
    pub(crate) guard: Arc<AddressGuard>,
    pub(crate) reached: Arc<ReachedServers>,
}

impl TokenServices {
    /// A token from the service at `realm`.
    pub(super) async fn token(&self, realm: &Url, asked: &Asked<'_>) -> Result<token::Token, ErrorKind> {
        let (after, reached) = (self.timeout, &self.reached);
        let stalled = |_| ErrorKind::Stalled { what: "the token service", after };
        let _wait = waiting(Server::at(realm), "a token", after);
        let secrets = asked.credential.map(Credential::secrets).unwrap_or_default();
        let exchange = async {
            let mut realm = realm.clone();
            for _ in 0..=size_limits::REDIRECTS {
                let reply = self.http.send(token::request(&realm, asked, &self.client_id)).await;
                let reply = reply.map_err(|kind| reached.failure(&realm, kind))?;
                reached.answered(&realm);
                let status = reply.status();
                if status.is_redirection() {
                    realm = next_realm(&realm, reply.headers())?;
                    continue;
                }
                let gives =
                    |answer| ErrorKind::TokenService { service: Server::at(&realm).to_string(), answer };
                if !status.is_success() {
                    let failure = Failure::read(reply, &secrets).await;
                    let answer = failure.answer();
                    return Err(match failure.into_kind() {
                        kind if is_telling(&kind) => kind,
                        _ => gives(answer),
                    });
                }
                let headers = reply.headers().clone();
                let body =
                    response::read_bounded(reply, "the token service's reply", size_limits::TOKEN_BODY);
                let body = encoding::json(&headers, body.await?, size_limits::TOKEN_BODY);
                let is_page = response::is_page(&headers, &body);
                return token::read(&body).map_err(|answer| {
                    let answer = if is_page { "a web page" } else { answer };
                    gives(format!("it answers {answer} (HTTP {})", status.as_u16()))
                });
            }
            let message = format!("the token service sends us on more than {} times", size_limits::REDIRECTS);
            Err(ErrorKind::Protocol(message))
        };
        tokio::time::timeout(after, exchange).await.map_err(stalled)?
    }
}

/// Whether a refusal is reported as it is. All others are reported as the token service's: its 404 does not mean that the image
/// is not found.
fn is_telling(kind: &ErrorKind) -> bool {
    use ErrorKind::{Denied, NoConnection, TooManyRequests, Unauthorized, Unavailable};
    let is_login = matches!(kind, Denied { .. } | Unauthorized { .. });
    is_login || matches!(kind, NoConnection { .. } | TooManyRequests { .. } | Unavailable { .. })
}

/// Where a token service redirects us: a slash at the end, http to https. The same credential is sent there, so it has to be
/// the same server, or the same host by https. The query is ours and is set again.
fn next_realm(realm: &Url, headers: &HeaderMap) -> Result<Url, ErrorKind> {
    let missing = || ErrorKind::Protocol("the token service's redirect leads nowhere".to_owned());
    let text = response::header(headers, LOCATION.as_str()).ok_or_else(missing)?;
    let mut next = location::resolve(realm, text)?;
    let is_better = next.host() == realm.host() && (realm.scheme(), next.scheme()) == ("http", "https");
    if !location::same_origin(realm, &next) && !is_better {
        let reason = "a token service may send us to its own host only";
        return Err(ErrorKind::UnsafeLocation { url: location::shown(text), reason });
    }
    // A redirect may repeat our parameters, which would be there twice.
    next.set_query(realm.query());
    Ok(next)
}
