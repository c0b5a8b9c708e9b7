//! One request: paced, authorised, redirected, and its failure classified.

use std::time::{Duration, SystemTime};

use http::header::{AUTHORIZATION, LOCATION};
use http::{HeaderMap, Method, StatusCode};
use tokio::time::Instant;
use url::Url;

use super::call::Call;
use super::clock;
use super::connection::Core;
use super::pace::{Action, GivenUp};
use super::rate_limit::RateLimit;
use crate::BoxFuture;
use crate::auth::{AuthProbe, Challenge, Grant, Scope, Server, mirror};
use crate::bugs::{self, Bug};
use crate::error::{Answerer, Error, ErrorKind, waited};
use crate::net::http::{AnsweredAt, Request, Response};
use crate::net::location;
use crate::net::redact::Secrets;
use crate::net::response::{self, Failure};
use crate::net::wait_span::waiting;
use crate::size_limits;

/// How often one request may meet an expired credential: with many requests waiting, the new one may expire before this
/// request's turn comes.
const EXPIRIES: u32 = 3;

impl Core {
    /// Sends `call` and returns its reply if that is a success; credentials that ran out are renewed once.
    ///
    /// Boxed: the future is kilobytes large, and those around it are moved often, a download's with each piece.
    pub(crate) fn send<'a>(&'a self, call: Call<'a>) -> BoxFuture<'a, Result<Response, Error>> {
        Box::pin(async move {
            let (began, mut queued) = (Instant::now(), Duration::ZERO);
            let is_watched = !call.body.is_repeatable();
            let sent = self.send_unboxed(call, &mut queued).await;
            // How long a transfer made no progress is not known here.
            sent.map_err(|error| {
                if is_watched { error } else { waited::after(error, began.elapsed().saturating_sub(queued)) }
            })
        })
    }

    /// [`Core::send`], which counts how long it waited for others' requests.
    async fn send_unboxed(&self, call: Call<'_>, queued: &mut Duration) -> Result<Response, Error> {
        let registry = call.reference.registry();
        let route = self.routes.get(registry).map_err(|kind| call.error(kind))?;
        self.guard.named(&route.origin);
        let scope = Scope {
            repository: route.repository(call.reference.repository()),
            push: call.push,
            mount_from: call.mount_from.map(|from| route.repository(from)),
        };
        // A body that can be sent once must not be lost to a challenge.
        let mut probe = AuthProbe::Known;
        if call.body.is_repeatable() {
            let since = Instant::now();
            probe = self.auth.probe(registry, &route.origin).await;
            // The time of another request's failed probe counts as waiting for the server, too.
            *queued += if matches!(probe, AuthProbe::Failed) { Duration::ZERO } else { since.elapsed() };
        }
        let mut grant = self.auth.grant(registry, &route.origin, &scope).await?;
        // Once for a challenge, and once more for a credential that has expired since it was stored.
        let (mut refusals, mut expiries) = (0, 0);
        let mut is_repeated = false;
        loop {
            self.turn(&call, &route.origin, queued).await?;
            let refusal = match self.exchange(&call, &route.origin, &grant).await? {
                Ok(response) => {
                    self.note_success(&call, &route.origin, &response);
                    return Ok(response);
                }
                Err(refusal) => refusal,
            };
            // Object stores say in many ways that an address has expired. The registry gives another one.
            if refusal.is_of_address(&call) && !std::mem::replace(&mut is_repeated, true) {
                continue;
            }
            if grant.header.is_none()
                && (refusal.may_hide() || refusal.lacks_challenge())
                && self.challenges_at_root(&call, &route.origin, &refusal, &scope).await?
            {
                grant = self.auth.grant(registry, &route.origin, &scope).await?;
                if grant.header.is_some() {
                    continue;
                }
            }
            let had_header = grant.header.is_some();
            if !refusal.is_for_want_of_credentials(had_header) {
                self.auth.answered(registry, &route.origin);
                return Err(self.refused(&call, refusal));
            }
            let (count, most) = if refusal.failure.is_expired_token() || grant.has_run_out() {
                (&mut expiries, EXPIRIES)
            } else {
                (&mut refusals, 1)
            };
            if had_header && *count >= most {
                return Err(self.refused(&call, refusal));
            }
            *count += u32::from(had_header);
            let headers = &refusal.failure.headers;
            let renewed = self.auth.renew(registry, &route.origin, &scope, &grant, headers).await?;
            drop(std::mem::take(&mut probe));
            match renewed {
                None => return Err(self.refused(&call, refusal)),
                Some(_) if !call.body.is_repeatable() => {
                    let message = refusal.failure.into_kind().to_string();
                    return Err(call.error(ErrorKind::Expired { message }));
                }
                Some(renewed) => grant = renewed,
            }
        }
    }

    /// Waits until `call` may be sent, and adds to `queued` what was not because of refusals of others.
    async fn turn(&self, call: &Call<'_>, origin: &Url, queued: &mut Duration) -> Result<(), Error> {
        let (since, registry) = (Instant::now(), call.reference.registry());
        let turn = self.pacer.wait(registry, call.action).await;
        let (Ok(in_vain) | Err(GivenUp { in_vain, .. })) = &turn;
        *queued += since.elapsed().saturating_sub(*in_vain);
        turn.map(drop).map_err(|given_up| given_up.into_error(call.reference, origin))
    }

    /// Whether the registry sends a challenge only at `/v2/`, or requires a login without a challenge.
    async fn challenges_at_root(
        &self,
        call: &Call<'_>,
        origin: &Url,
        refusal: &Refusal,
        scope: &Scope,
    ) -> Result<bool, Error> {
        let mut url = origin.clone();
        url.set_path("/v2/");
        let root = Call::read(call.reference, Action::List, Method::GET, url);
        let root = async {
            self.turn(&root, origin, &mut Duration::default()).await?;
            let Err(refusal) = self.exchange(&root, origin, &Grant::default()).await? else {
                return Ok(None);
            };
            if refusal.is_for_want_of_credentials(false) {
                return Ok(Some(refusal.failure.headers));
            }
            let error = self.refused(&root, refusal);
            if error.is_transient() { Err(error) } else { Ok(None) }
        };
        if !call.body.is_repeatable() {
            return Ok(false);
        }
        let refused = refusal.lacks_challenge().then_some(&refusal.failure.headers);
        self.auth.is_challenged_at_root(call.reference.registry(), origin, refused, scope, root).await
    }

    fn note_success(&self, call: &Call<'_>, origin: &Url, response: &Response) {
        let registry = call.reference.registry();
        self.auth.answered(registry, origin);
        self.pacer.went_well(registry, call.action);
        if call.action == Action::ManifestRead {
            self.note_rate_limit(registry, response.headers(), true);
            if call.method == Method::GET
                && self.routes.counts_pulls(registry)
                && let Ok(mut pulled) = self.pulled.lock()
            {
                *pulled.entry(registry.to_owned()).or_default() += 1;
            }
            if let (Some(ahead), Ok(mut clocks)) =
                (clock::ahead(response.headers(), SystemTime::now()), self.clocks.lock())
            {
                clocks.insert(registry.to_owned(), ahead);
            }
        }
    }

    /// Keeps what the last reply says: a success without a limit means that there is none.
    fn note_rate_limit(&self, registry: &str, headers: &HeaderMap, is_success: bool) {
        if !self.routes.counts_pulls(registry) {
            return;
        }
        let Ok(mut limits) = self.rate_limits.lock() else { return };
        match RateLimit::from_headers(headers) {
            Some(limit) => drop(limits.insert(registry.to_owned(), limit)),
            None if is_success => drop(limits.remove(registry)),
            None => {}
        }
    }

    /// Notes where a manifest was read, if not at its registry.
    fn note_elsewhere(&self, call: &Call<'_>, there: Option<&Url>) {
        let Ok(mut elsewhere) = self.elsewhere.lock() else { return };
        let registry = call.reference.registry();
        match there {
            Some(there) if call.action == Action::ManifestRead => {
                elsewhere.insert(registry.to_owned(), Server::at(there).to_string());
            }
            None if call.action == Action::ManifestRead => drop(elsewhere.remove(registry)),
            _ => {}
        }
    }

    fn refused(&self, call: &Call<'_>, refusal: Refusal) -> Error {
        let registry = call.reference.registry();
        let Refusal { failure, is_foreign, server } = refusal;
        if !is_foreign {
            self.note_rate_limit(registry, &failure.headers, false);
        }
        let kind = match failure.into_kind() {
            // A presigned address that expired while we waited: the next try gets a new one.
            ErrorKind::Denied { message }
                if is_foreign && message.to_ascii_lowercase().contains("expired") =>
            {
                ErrorKind::Unavailable { status: 403, retry_after: None, message }
            }
            kind => kind,
        };
        if let ErrorKind::TooManyRequests { retry_after, .. } = &kind {
            self.pacer.slow_down(registry, call.action, *retry_after);
        }
        Error::answered(registry, call.reference, server, kind)
    }

    /// One round trip, or one for each redirect.
    async fn exchange(
        &self,
        call: &Call<'_>,
        asked: &Url,
        grant: &Grant,
    ) -> Result<Result<Response, Refusal>, Error> {
        let mut url = call.url.clone();
        let mut redirected: Option<Grant> = None;
        for _ in 0..=size_limits::REDIRECTS {
            let own = location::same_origin(asked, &url);
            if !own {
                self.guard.sent(asked, &url);
            }
            let mut headers = call.headers.clone();
            // Never to another host: S3 refuses a presigned request that has one (opa#6580), and any other host would learn our
            // credentials.
            let header = match (own, &redirected) {
                (true, _) => grant.header.clone(),
                (false, None) if bugs::is_in(Bug::TokenAbroad) => grant.header.clone(),
                (false, Some(redirected)) => redirected.header.clone(),
                (false, None) => None,
            };
            headers.extend(header.clone().map(|header| (AUTHORIZATION, header)));
            let body = call.body.take();
            let request = Request { method: call.method.clone(), url: url.clone(), headers, body };
            let mut response = self.send_in_time(call, &url, request).await?;
            self.reached.answered(&url);
            let status = response.status();
            if let Some(next) = redirect(call, &response) {
                url = self.next(call, &url, &next)?;
                redirected = None;
                if call.is_read() && !location::same_origin(asked, &url) {
                    let registry = call.reference.registry();
                    redirected = Some(self.auth.redirect_grant(registry, &url, None).await?);
                }
                continue;
            }
            // A body that can be sent once is sent on by the caller, who can make it again.
            if status.is_success() || (!call.body.is_repeatable() && moves(&response).is_some()) {
                self.note_elsewhere(call, (!own).then_some(&url));
                if url != call.url {
                    response.extensions_mut().insert(AnsweredAt(url));
                }
                return Ok(Ok(response));
            }
            if status.is_redirection() {
                let message = format!("a redirect (HTTP {status}) that cannot be followed");
                return Err(call.error(ErrorKind::Protocol(message)));
            }
            let failure = Failure::read(response, &Secrets::of(header.as_ref())).await;
            if !own && status == StatusCode::UNAUTHORIZED && call.is_read() {
                let used = redirected.take().unwrap_or_default();
                let registry = call.reference.registry();
                let refused = Some((&used, &failure.headers));
                let granted = self.auth.redirect_grant(registry, &url, refused).await?;
                if granted.header.is_some() && used.header.is_none() {
                    redirected = Some(granted);
                    continue;
                }
            }
            let server = if own {
                mirror(asked, call.reference.registry())
            } else {
                Some(Answerer::Redirected(Server::at(&url).to_string()))
            };
            return Ok(Err(Refusal { failure, is_foreign: !own, server }));
        }
        Err(call.error(ErrorKind::Protocol(format!("more than {} redirects", size_limits::REDIRECTS))))
    }

    /// Where a redirect leads.
    fn next(&self, call: &Call<'_>, url: &Url, next: &str) -> Result<Url, Error> {
        let next = if call.action == Action::BlobGet {
            let plain = self.routes.plain_hosts(call.reference.registry());
            let next = location::resolve_blob(url, next, &plain);
            if let Some(next) = next.as_ref().ok().filter(|next| plain.names(next)) {
                self.guard.named(next);
            }
            next
        } else {
            location::resolve(url, next)
        };
        next.map_err(|kind| call.error(kind))
    }

    async fn send_in_time(&self, call: &Call<'_>, url: &Url, request: Request) -> Result<Response, Error> {
        let network = |error| {
            let registry = call.reference.registry();
            let failure = self.reached.failure(url, error);
            Error::answered(registry, call.reference, mirror(url, registry), failure)
        };
        if !call.body.is_repeatable() {
            return self.http.send(request).await.map_err(network);
        }
        let after: Duration = self.timeouts.reply;
        let _wait = waiting(Server::at(url), "its reply", after);
        match tokio::time::timeout(after, self.http.send(request)).await {
            Ok(result) => result.map_err(network),
            Err(_) => Err(network(ErrorKind::Stalled { what: "the registry's reply", after })),
        }
    }
}

/// An error reply, and whether it came from another host than the registry.
struct Refusal {
    failure: Failure,
    is_foreign: bool,
    /// The server, if it is not the registry under its own name.
    server: Option<Answerer>,
}

impl Refusal {
    /// Whether the registry itself (not the target of a redirect) requires other credentials. So does a 403 with a challenge,
    /// unless a password was sent.
    fn is_for_want_of_credentials(&self, had_header: bool) -> bool {
        let is_unauthorized = self.failure.status == StatusCode::UNAUTHORIZED;
        let is_challenge = match Challenge::from_headers(&self.failure.headers) {
            Some(challenge) if self.failure.status == StatusCode::FORBIDDEN => {
                !had_header || challenge != Challenge::Basic
            }
            _ => false,
        };
        !self.is_foreign && (is_unauthorized || is_challenge || self.failure.is_expired_token())
    }

    /// Whether the address that the registry gave for a blob may be what is refused.
    fn is_of_address(&self, call: &Call<'_>) -> bool {
        let is_get = call.action == Action::BlobGet && call.method == Method::GET;
        is_get && self.is_foreign && matches!(self.failure.status.as_u16(), 400 | 401 | 403)
    }

    /// Whether the registry may hide what it has from anonymous requests.
    fn may_hide(&self) -> bool {
        let is_hiding = matches!(self.failure.status, StatusCode::FORBIDDEN | StatusCode::NOT_FOUND);
        !self.is_foreign && is_hiding && !self.is_for_want_of_credentials(false)
    }

    /// Whether the registry requires a login and sends no challenge that is supported.
    fn lacks_challenge(&self) -> bool {
        let is_unauthorized = self.failure.status == StatusCode::UNAUTHORIZED;
        !self.is_foreign && is_unauthorized && Challenge::from_headers(&self.failure.headers).is_none()
    }
}

/// The target of a redirect that may be followed: not with a body that can be sent once, and 303 only for reading.
fn redirect(call: &Call<'_>, response: &Response) -> Option<String> {
    let there = match response.status() {
        StatusCode::SEE_OTHER if call.is_read() => response::header(response.headers(), LOCATION.as_str()),
        _ if call.body.is_repeatable() => moves(response),
        _ => None,
    };
    there.map(str::to_owned)
}

/// Where the same request is to be made instead. By 301 and 302 a proxy sends uploads from http to https, too: a GET there, as
/// of a browser, would be none.
fn moves(response: &Response) -> Option<&str> {
    let moves = matches!(response.status().as_u16(), 301 | 302 | 307 | 308);
    response::header(response.headers(), LOCATION.as_str()).filter(|_| moves)
}
