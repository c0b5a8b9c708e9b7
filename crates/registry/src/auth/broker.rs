//! Authorises the requests to all registries. A token is refreshed once for all requests that wait for it.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;
use url::Url;

use super::challenge::{Challenge, unknown_schemes};
use super::registry::{Held, Registry, Root, Scheme};
use super::server::is_shown_to;
use super::service::{Asked, TokenServices};
use super::{Credential, Credentials, Scope, Server, token};
use crate::bugs::{self, Bug};
use crate::error::{Error, ErrorKind};
use crate::net::location;

/// Returns the `Authorization` headers for requests.
pub(crate) struct Broker {
    credentials: Arc<dyn Credentials>,
    services: TokenServices,
    registries: Mutex<HashMap<String, Arc<Registry>>>,
}

/// What a request was sent with, so that it is known whether its refusal came before the last refresh.
#[derive(Clone, Default)]
pub(crate) struct Grant {
    pub(crate) header: Option<HeaderValue>,
    pub(super) generation: u64,
    /// As [`Held::until`].
    pub(super) until: Option<Instant>,
}

impl Grant {
    /// Whether it has expired: then its refusal says nothing about the next one.
    pub(crate) fn has_run_out(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() >= until)
    }
}

/// Whether a registry's authentication scheme is known.
#[derive(Default)]
pub(crate) enum AuthProbe {
    /// The scheme is known, or this request must not be used to find it out.
    #[default]
    Known,
    /// The scheme is not known: this request finds it out.
    Ours(#[expect(dead_code, reason = "held until the scheme is known")] ProbeGuard),
    /// The scheme is not known: another request tried to find it out while this one waited, and got no answer.
    Failed,
}

/// Held by the first request to a registry, so that a hundred requests at once cost one challenge and not a hundred.
pub(crate) struct ProbeGuard {
    registry: Arc<Registry>,
    _guard: OwnedMutexGuard<()>,
}

impl Drop for ProbeGuard {
    fn drop(&mut self) {
        self.registry.finished_probes.fetch_add(1, Ordering::AcqRel);
    }
}

impl Broker {
    pub(crate) fn new(credentials: Arc<dyn Credentials>, services: TokenServices) -> Self {
        Self { credentials, services, registries: Mutex::default() }
    }

    /// Waits until the authentication scheme of `registry` is known, or until this request may find it out.
    pub(crate) async fn probe(&self, registry: &str, origin: &Url) -> AuthProbe {
        let registry = self.registry(registry, origin);
        if registry.scheme() != Scheme::Unknown {
            return AuthProbe::Known;
        }
        let finished_probes = registry.finished_probes.load(Ordering::Acquire);
        let guard = Arc::clone(&registry.probe).lock_owned().await;
        if registry.scheme() != Scheme::Unknown {
            return AuthProbe::Known;
        }
        // The first probe failed. Fail this one too; otherwise every request waits for the full timeout in turn.
        if registry.finished_probes.load(Ordering::Acquire) != finished_probes {
            return AuthProbe::Failed;
        }
        AuthProbe::Ours(ProbeGuard { registry, _guard: guard })
    }

    /// Notes that a request without authorisation was answered.
    pub(crate) fn answered(&self, registry: &str, origin: &Url) {
        let registry = self.registry(registry, origin);
        if registry.scheme() == Scheme::Unknown {
            registry.set_scheme(Scheme::Open);
        }
    }

    /// The header for a request, if it needs one.
    pub(crate) async fn grant(&self, registry: &str, origin: &Url, scope: &Scope) -> Result<Grant, Error> {
        let registry = self.registry(registry, origin);
        match registry.scheme() {
            Scheme::Unknown | Scheme::Open => Ok(Grant::default()),
            Scheme::Challenged(challenge) => self.fill(&registry, &challenge, scope, None).await,
        }
    }

    /// A new header after the registry refused `used`. `headers` are those of the refusal.
    pub(crate) async fn renew(
        &self,
        registry: &str,
        origin: &Url,
        scope: &Scope,
        used: &Grant,
        headers: &HeaderMap,
    ) -> Result<Option<Grant>, Error> {
        let registry = self.registry(registry, origin);
        if let Some(challenge) = Challenge::from_headers(headers) {
            registry.set_scheme(Scheme::Challenged(challenge));
        }
        let Scheme::Challenged(challenge) = registry.scheme() else { return Ok(None) };
        let grant = self.fill(&registry, &challenge, scope, Some(used)).await?;
        Ok(grant.header.is_some().then_some(grant))
    }

    /// Whether the registry, which refused an anonymous request, requires a login at `/v2/`. Some send a challenge only there,
    /// where docker asks first (Artifactory, which hides what is not public). `root` sends that request.
    ///
    /// `unexplained` are the headers of a 401 that has no challenge. If `/v2/` has none either, a login that is stored for the
    /// registry is sent as Basic.
    ///
    /// # Errors
    /// For an unexplained 401: if only unsupported schemes are offered, or `/v2/` or the login cannot be read.
    pub(crate) async fn is_challenged_at_root(
        &self,
        registry: &str,
        origin: &Url,
        unexplained: Option<&HeaderMap>,
        scope: &Scope,
        root: impl Future<Output = Result<Option<HeaderMap>, Error>>,
    ) -> Result<bool, Error> {
        let registry = self.registry(registry, origin);
        // Without a login, the answer to the anonymous request is final, unless it is a 401.
        let login = match registry.server(&*self.credentials, &scope.repository).await {
            Ok(server) => registry.credential(&*self.credentials, &server, None).await,
            Err(error) => Err(error),
        };
        let has_login = matches!(login, Ok(Some(_)));
        if !has_login && unexplained.is_none() {
            return Ok(false);
        }
        let asked = registry.root.get_or_try_init(|| async {
            let headers = root.await?.unwrap_or_default();
            let challenge = Challenge::from_headers(&headers);
            let is_challenged = challenge.is_some();
            challenge.into_iter().for_each(|challenge| registry.set_scheme(Scheme::Challenged(challenge)));
            Ok::<_, Error>(Root { is_challenged, schemes: unknown_schemes(&headers) })
        });
        let (asked, headers) = match (asked.await, unexplained) {
            (asked, None) => return Ok(asked.is_ok_and(|root| root.is_challenged)),
            (asked, Some(headers)) => (asked?, headers),
        };
        let mut schemes = unknown_schemes(headers);
        if schemes.is_empty() {
            schemes.clone_from(&asked.schemes);
        }
        if !asked.is_challenged && !schemes.is_empty() {
            return Err(registry.error(ErrorKind::UnknownLogin { schemes: schemes.join(", ") }));
        }
        if !asked.is_challenged && login?.is_some() {
            registry.set_scheme(Scheme::Challenged(Challenge::Basic));
        }
        Ok(asked.is_challenged || has_login)
    }

    /// A header for another registry that `name` redirected us to and that requires its own, anonymous token
    /// ([ggcr#2333](https://github.com/google/go-containerregistry/issues/2333)). Without `refused`, only a token that is there
    /// already.
    pub(crate) async fn redirect_grant(
        &self,
        name: &str,
        url: &Url,
        refused: Option<(&Grant, &HeaderMap)>,
    ) -> Result<Grant, Error> {
        let mut origin = url.clone();
        origin.set_path("/");
        origin.set_query(None);
        let key = format!("{name} {}", origin.as_str());
        let is_known = self.registries.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&key);
        if refused.is_none() && !is_known {
            return Ok(Grant::default());
        }
        let registry = self.entry(key, name, &origin, true);
        let challenge = refused.and_then(|(_, headers)| Challenge::from_headers(headers));
        if let Some(challenge) = challenge {
            registry.set_scheme(Scheme::Challenged(challenge));
        }
        let Scheme::Challenged(challenge) = registry.scheme() else { return Ok(Grant::default()) };
        let scope = Scope { repository: repository_of(url), push: false, mount_from: None };
        self.fill(&registry, &challenge, &scope, refused.map(|(used, _)| used)).await
    }

    /// Fills the scope's slot if it is empty, expired, or still holds what was refused.
    async fn fill(
        &self,
        registry: &Registry,
        challenge: &Challenge,
        scope: &Scope,
        refused: Option<&Grant>,
    ) -> Result<Grant, Error> {
        let mut scopes = scopes_for(challenge, scope);
        let server = registry.server(&*self.credentials, &scope.repository).await?;
        let slot = registry.slot(&format!("{} {}", server.namespace(), scopes.join(" ")));
        let attempts = slot.attempts.load(Ordering::Acquire);
        let mut held = slot.state.lock().await;
        let is_refused = refused.is_some_and(|grant| grant.generation == held.generation);
        let is_stale = held.header.is_some() && bugs::is_in(Bug::StaleToken);
        if (held.usable() && !is_refused) || is_stale {
            return Ok(held.grant());
        }
        // Another request tried and failed while this one waited. If each waiter tried again, it would be a stampede.
        if slot.attempts.load(Ordering::Acquire) != attempts
            && let Some(failure) = &held.failure
        {
            return Err(failure.clone());
        }
        let had_header = held.header.is_some();
        if let Challenge::Bearer { scope: Some(named), .. } = challenge
            && is_refused
            && had_header
            && !scopes.contains(named)
        {
            held.also = Some(named.clone());
        }
        scopes.extend(held.also.clone());
        let result = self.fetch(registry, &server, challenge, &scopes, is_refused && had_header).await;
        slot.attempts.fetch_add(1, Ordering::AcqRel);
        match result {
            Ok((header, until)) => {
                let also = held.also.take();
                *held = Held { header, generation: held.generation + 1, until, failure: None, also };
                Ok(held.grant())
            }
            Err(error) => {
                held.failure = Some(error.clone());
                Err(error)
            }
        }
    }

    async fn fetch(
        &self,
        registry: &Registry,
        server: &Server,
        challenge: &Challenge,
        scopes: &[String],
        refused: bool,
    ) -> Result<(Option<HeaderValue>, Option<Instant>), Error> {
        let held = registry.credential(&*self.credentials, server, None).await?;
        let client_id = &self.services.client_id;
        let (realm, service) = match challenge {
            Challenge::Bearer { realm, service, .. }
                if held.as_ref().is_none_or(|held| held.at_token_service(client_id).is_some()) =>
            {
                (realm, service)
            }
            Challenge::Bearer { .. } | Challenge::Basic => {
                let used = held.as_ref().filter(|_| refused);
                let credential = registry.credential(&*self.credentials, server, used).await?;
                return Ok((credential.as_ref().and_then(Credential::at_registry), None));
            }
        };
        let realm = location::realm(&registry.origin, realm).map_err(|kind| registry.error(kind))?;
        self.services.guard.sent(&registry.origin, &realm);
        let token = self.token(registry, server, &realm, service.as_deref(), scopes).await?;
        // Docker Hub's tokens live for 300 s: a fixed margin of minutes would make them useless at once.
        let margin = (token.lifetime / 4).min(Duration::from_secs(30));
        Ok((Some(token.header), Some(Instant::now() + token.lifetime.saturating_sub(margin))))
    }

    /// A token. There is one more try with a newer credential if the service refuses it, and one more if its reply is
    /// malformed.
    async fn token(
        &self,
        registry: &Registry,
        server: &Server,
        realm: &Url,
        service: Option<&str>,
        scopes: &[String],
    ) -> Result<token::Token, Error> {
        let is_shown = is_shown_to(&registry.origin, realm);
        let mut credential =
            if is_shown { registry.credential(&*self.credentials, server, None).await? } else { None };
        let (mut is_renewed, mut is_repeated) = (false, false);
        loop {
            let asked = Asked { service, scopes, credential: credential.as_ref() };
            match self.services.token(realm, &asked).await {
                Ok(token) => return Ok(token),
                Err(ErrorKind::Unauthorized { .. } | ErrorKind::Denied { .. })
                    if !is_renewed && credential.is_some() =>
                {
                    is_renewed = true;
                    credential = registry.credential(&*self.credentials, server, credential.as_ref()).await?;
                }
                // The reply may have been damaged on its way.
                Err(ErrorKind::TokenService { .. }) if !is_repeated => is_repeated = true,
                Err(kind) if is_unanswered(&kind) => return Err(registry.error_at(realm, kind)),
                // All other errors are about the login, which is stored for the registry.
                Err(kind) => return Err(registry.error(kind)),
            }
        }
    }

    fn registry(&self, name: &str, origin: &Url) -> Arc<Registry> {
        let known = self.registries.lock().unwrap_or_else(PoisonError::into_inner).get(name).map(Arc::clone);
        known.unwrap_or_else(|| self.entry(name.to_owned(), name, origin, false))
    }

    fn entry(&self, key: String, name: &str, origin: &Url, is_redirect_target: bool) -> Arc<Registry> {
        let mut registries = self.registries.lock().unwrap_or_else(PoisonError::into_inner);
        let registry = registries
            .entry(key)
            .or_insert_with(|| Arc::new(Registry::new(name, origin, is_redirect_target)));
        Arc::clone(registry)
    }
}

/// Whether no token service answered.
fn is_unanswered(kind: &ErrorKind) -> bool {
    use ErrorKind::{Network, NoConnection, Stalled, Unavailable};
    matches!(kind, Network { .. } | NoConnection { .. } | Stalled { .. } | Unavailable { .. })
}

/// The repository in `/v2/<repository>/manifests/...` or `.../blobs/...`.
fn repository_of(url: &Url) -> String {
    let path = url.path().strip_prefix("/v2/").unwrap_or_default();
    let end = ["/manifests/", "/blobs/"].iter().filter_map(|part| path.rfind(part)).max();
    path.get(..end.unwrap_or_default()).unwrap_or_default().to_owned()
}

/// What to ask a token for. A registry whose challenge names no repository (public.ecr.aws: `aws`) has one token for all; Basic
/// has one header for all.
fn scopes_for(challenge: &Challenge, scope: &Scope) -> Vec<String> {
    match challenge {
        Challenge::Basic => Vec::new(),
        Challenge::Bearer { scope: Some(fixed), .. } if !fixed.starts_with("repository:") => {
            vec![fixed.clone()]
        }
        Challenge::Bearer { .. } => scope.parameters(),
    }
}
