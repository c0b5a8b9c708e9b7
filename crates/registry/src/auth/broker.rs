//! One place that knows, for each registry, how to authorise a request; it refreshes once for all who wait.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use http::header::LOCATION;
use http::{HeaderMap, HeaderValue};
use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;
use url::Url;

use super::challenge::Challenge;
use super::server::is_shown_to;
use super::{Credential, Credentials, Scope, Server, token};
use crate::bugs::{self, Bug};
use crate::client::contact::Contacts;
use crate::client::guard::Guard;
use crate::client::http::{Request, Transport};
use crate::client::location;
use crate::client::response::{self, Failure};
use crate::client::waits::waiting;
use crate::error::{Answerer, Error, ErrorKind};
use crate::limits;

/// Hands out `Authorization` headers.
pub(crate) struct Broker {
    credentials: Arc<dyn Credentials>,
    /// A token service that does not answer for this long is taken for dead.
    timeout: Duration,
    guard: Arc<Guard>,
    contacts: Arc<Contacts>,
    registries: Mutex<HashMap<String, Arc<Registry>>>,
}

/// What a request was sent with, so that its refusal can be told from one that is older than the last refresh.
#[derive(Clone, Default)]
pub(crate) struct Grant {
    pub(crate) header: Option<HeaderValue>,
    generation: u64,
}

/// Held by the first request to a registry, so that a hundred requests at once cost one challenge and not a hundred.
pub(crate) struct FirstContact {
    registry: Arc<Registry>,
    _guard: OwnedMutexGuard<()>,
}

impl Drop for FirstContact {
    fn drop(&mut self) {
        self.registry.contacts.fetch_add(1, Ordering::AcqRel);
    }
}

/// How a registry wants to be spoken to, as far as we know.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Scheme {
    Unknown,
    Open,
    Challenged(Challenge),
}

struct Registry {
    name: String,
    /// Whether a registry sent us there: then nobody there learns who we are.
    is_stranger: bool,
    origin: Url,
    scheme: RwLock<Scheme>,
    first_contact: Arc<tokio::sync::Mutex<()>>,
    /// Counts first contacts that have ended, well or not.
    contacts: AtomicU64,
    credential: tokio::sync::Mutex<Option<Option<Credential>>>,
    slots: Mutex<HashMap<String, Arc<Slot>>>,
}

/// One header, shared by all requests of a scope.
#[derive(Default)]
struct Slot {
    state: tokio::sync::Mutex<Held>,
    /// Counts finished attempts to fill the slot, readable without waiting for the one under way.
    attempts: AtomicU64,
}

#[derive(Default)]
struct Held {
    header: Option<HeaderValue>,
    generation: u64,
    /// When the header should no longer be used; none: until it is refused.
    until: Option<Instant>,
    failure: Option<Error>,
}

impl Held {
    fn usable(&self) -> bool {
        self.header.is_some() && self.until.is_none_or(|until| Instant::now() < until)
    }

    fn grant(&self) -> Grant {
        Grant { header: self.header.clone(), generation: self.generation }
    }
}

impl Broker {
    pub(crate) fn new(
        credentials: Arc<dyn Credentials>,
        timeout: Duration,
        guard: Arc<Guard>,
        contacts: Arc<Contacts>,
    ) -> Self {
        Self { credentials, timeout, guard, contacts, registries: Mutex::default() }
    }

    /// Waits until it is known how `registry` wants to be spoken to, or returns the right to be the one who finds out.
    pub(crate) async fn first_contact(&self, registry: &str, origin: &Url) -> Option<FirstContact> {
        let registry = self.registry(registry, origin);
        if registry.scheme() != Scheme::Unknown {
            return None;
        }
        let contacts = registry.contacts.load(Ordering::Acquire);
        let guard = Arc::clone(&registry.first_contact).lock_owned().await;
        // Whoever was first got no answer: one after the other, all would wait for as long as a dead registry lets them.
        let in_vain = registry.contacts.load(Ordering::Acquire) != contacts;
        (registry.scheme() == Scheme::Unknown && !in_vain)
            .then(|| FirstContact { registry: Arc::clone(&registry), _guard: guard })
    }

    /// Notes that a request without authorisation was answered.
    pub(crate) fn answered(&self, registry: &str, origin: &Url) {
        let registry = self.registry(registry, origin);
        if registry.scheme() == Scheme::Unknown {
            registry.set_scheme(Scheme::Open);
        }
    }

    /// The header for a request, as far as one is needed.
    pub(crate) async fn grant(
        &self,
        http: &dyn Transport,
        registry: &str,
        origin: &Url,
        scope: &Scope,
    ) -> Result<Grant, Error> {
        let registry = self.registry(registry, origin);
        match registry.scheme() {
            Scheme::Unknown | Scheme::Open => Ok(Grant::default()),
            Scheme::Challenged(challenge) => self.fill(http, &registry, &challenge, scope, None).await,
        }
    }

    /// A new header after the registry refused `used`. `headers` are those of the refusal.
    pub(crate) async fn renew(
        &self,
        http: &dyn Transport,
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
        let grant = self.fill(http, &registry, &challenge, scope, Some(used)).await?;
        Ok(grant.header.is_some().then_some(grant))
    }

    /// A header for another registry that `name` sent us to, and that wants a token of its own: one that anybody gets
    /// ([ggcr#2333](https://github.com/google/go-containerregistry/issues/2333)). Without `refused`, only what is known of it.
    pub(crate) async fn stranger(
        &self,
        http: &dyn Transport,
        name: &str,
        url: &Url,
        refused: Option<(&Grant, &HeaderMap)>,
    ) -> Result<Grant, Error> {
        let mut origin = url.clone();
        origin.set_path("/");
        origin.set_query(None);
        let key = format!("{name} {}", origin.as_str());
        if refused.is_none() && !self.knows(&key) {
            return Ok(Grant::default());
        }
        let registry = self.entry(key, name, &origin, true);
        let challenge = refused.and_then(|(_, headers)| Challenge::from_headers(headers));
        if let Some(challenge) = challenge {
            registry.set_scheme(Scheme::Challenged(challenge));
        }
        let Scheme::Challenged(challenge) = registry.scheme() else { return Ok(Grant::default()) };
        let scope = Scope { repository: repository_of(url), push: false, mount_from: None };
        self.fill(http, &registry, &challenge, &scope, refused.map(|(used, _)| used)).await
    }

    fn knows(&self, key: &str) -> bool {
        self.registries.lock().unwrap_or_else(PoisonError::into_inner).contains_key(key)
    }

    /// Fills the scope's slot where it is empty, too old, or still holds what was refused.
    async fn fill(
        &self,
        http: &dyn Transport,
        registry: &Registry,
        challenge: &Challenge,
        scope: &Scope,
        refused: Option<&Grant>,
    ) -> Result<Grant, Error> {
        let scopes = scopes_for(challenge, scope);
        let slot = registry.slot(&scopes.join(" "));
        let attempts = slot.attempts.load(Ordering::Acquire);
        let mut held = slot.state.lock().await;
        let is_refused = refused.is_some_and(|grant| grant.generation == held.generation);
        let is_stale = held.header.is_some() && bugs::is_in(Bug::StaleToken);
        if (held.usable() && !is_refused) || is_stale {
            return Ok(held.grant());
        }
        // Somebody tried while we waited and failed: trying again for each waiter would be a stampede.
        if slot.attempts.load(Ordering::Acquire) != attempts
            && let Some(failure) = &held.failure
        {
            return Err(failure.clone());
        }
        let had_header = held.header.is_some();
        let result = self.fetch(http, registry, challenge, &scopes, is_refused && had_header).await;
        slot.attempts.fetch_add(1, Ordering::AcqRel);
        match result {
            Ok((header, until)) => {
                *held = Held { header, generation: held.generation + 1, until, failure: None };
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
        http: &dyn Transport,
        registry: &Registry,
        challenge: &Challenge,
        scopes: &[String],
        refused: bool,
    ) -> Result<(Option<HeaderValue>, Option<Instant>), Error> {
        match challenge {
            Challenge::Basic => {
                let used = if refused { registry.credential.lock().await.clone().flatten() } else { None };
                let credential = self.credential(registry, used.as_ref()).await?;
                Ok((credential.as_ref().and_then(token::basic_header), None))
            }
            Challenge::Bearer { realm, service, .. } => {
                let realm = location::realm(&registry.origin, realm).map_err(|kind| registry.error(kind))?;
                self.guard.sent(&registry.origin, &realm);
                let token = self.token(http, registry, &realm, service.as_deref(), scopes).await?;
                // A token of Docker Hub's lives for 300 s: a fixed margin of minutes would make each one useless at once.
                let margin = (token.lifetime / 4).min(Duration::from_secs(30));
                Ok((Some(token.header), Some(Instant::now() + token.lifetime.saturating_sub(margin))))
            }
        }
    }

    /// A token; if the token service refuses the credential, one more try with a newer one, and one more if it talks nonsense.
    async fn token(
        &self,
        http: &dyn Transport,
        registry: &Registry,
        realm: &Url,
        service: Option<&str>,
        scopes: &[String],
    ) -> Result<token::Token, Error> {
        let is_shown = is_shown_to(&registry.origin, realm);
        let mut credential = if is_shown { self.credential(registry, None).await? } else { None };
        for last in [false, true] {
            let request = |realm: &Url| token::request(realm, service, scopes, credential.as_ref());
            match self.request_token(http, realm, request).await {
                Ok(token) => return Ok(token),
                Err(ErrorKind::Unauthorized { .. } | ErrorKind::Denied { .. })
                    if !last && credential.is_some() =>
                {
                    credential = self.credential(registry, credential.as_ref()).await?;
                }
                // Broken on its way; whole the next time.
                Err(ErrorKind::Protocol(_)) if !last => {}
                Err(kind) => return Err(registry.error(kind)),
            }
        }
        Err(registry.error(ErrorKind::Unauthorized { message: String::new() }))
    }

    async fn request_token(
        &self,
        http: &dyn Transport,
        realm: &Url,
        request: impl Fn(&Url) -> Request,
    ) -> Result<token::Token, ErrorKind> {
        let (after, contacts) = (self.timeout, &self.contacts);
        let stalled = |_| ErrorKind::Stalled { what: "the token service", after };
        let _wait = waiting(Server::at(realm), "a token", after);
        let exchange = async {
            let mut realm = realm.clone();
            for _ in 0..=limits::REDIRECTS {
                let reply = http.send(request(&realm)).await;
                let reply = reply.map_err(|kind| contacts.failure(&realm, kind))?;
                contacts.answered(&realm);
                let status = reply.status();
                if status.is_redirection() {
                    realm = next_realm(&realm, reply.headers())?;
                    continue;
                }
                if !status.is_success() {
                    return Err(Failure::read(reply).await.into_kind());
                }
                let body = response::read_bounded(reply, "the token service's reply", limits::TOKEN_BODY);
                return token::read(&body.await?);
            }
            let message = format!("the token service sends us on more than {} times", limits::REDIRECTS);
            Err(ErrorKind::Protocol(message))
        };
        tokio::time::timeout(after, exchange).await.map_err(stalled)?
    }

    /// The caller's credential; another one than `refused`. Tokens for several repositories are asked for at once: the first whose
    /// credential is refused gets the new one for all.
    async fn credential(
        &self,
        registry: &Registry,
        refused: Option<&Credential>,
    ) -> Result<Option<Credential>, Error> {
        if registry.is_stranger {
            return Ok(None);
        }
        let mut held = registry.credential.lock().await;
        let stale = match held.as_ref() {
            Some(known) if refused.is_none() || known.as_ref() != refused => return Ok(known.clone()),
            Some(known) => known.clone(),
            None => None,
        };
        let server = Server::at(&registry.origin);
        let fetched = self.credentials.get(&server, stale.as_ref()).await;
        let fetched =
            fetched.map_err(|error| registry.error(ErrorKind::Credentials { source: error.into() }))?;
        if stale.is_some() && (fetched.is_none() || fetched == stale) {
            let message = "the credential is refused and there is no other".to_owned();
            return Err(registry.error(ErrorKind::Unauthorized { message }));
        }
        *held = Some(fetched.clone());
        Ok(fetched)
    }

    fn registry(&self, name: &str, origin: &Url) -> Arc<Registry> {
        self.entry(name.to_owned(), name, origin, false)
    }

    fn entry(&self, key: String, name: &str, origin: &Url, is_stranger: bool) -> Arc<Registry> {
        let mut registries = self.registries.lock().unwrap_or_else(PoisonError::into_inner);
        let registry = registries.entry(key).or_insert_with(|| {
            Arc::new(Registry {
                name: name.to_owned(),
                is_stranger,
                origin: origin.clone(),
                scheme: RwLock::new(Scheme::Unknown),
                first_contact: Arc::default(),
                contacts: AtomicU64::new(0),
                credential: tokio::sync::Mutex::default(),
                slots: Mutex::default(),
            })
        });
        Arc::clone(registry)
    }
}

impl Registry {
    fn scheme(&self) -> Scheme {
        self.scheme.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_scheme(&self, scheme: Scheme) {
        *self.scheme.write().unwrap_or_else(PoisonError::into_inner) = scheme;
    }

    fn slot(&self, key: &str) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(key.to_owned()).or_default())
    }

    fn error(&self, kind: ErrorKind) -> Error {
        let host = Server::at(&self.origin).in_place_of(&self.name);
        let server = host.map(if self.is_stranger { Answerer::Redirected } else { Answerer::Mirror });
        Error::answered(&self.name, &self.name, server, kind)
    }
}

/// The repository in `/v2/<repository>/manifests/...` or `.../blobs/...`.
fn repository_of(url: &Url) -> String {
    let path = url.path().strip_prefix("/v2/").unwrap_or_default();
    let end = ["/manifests/", "/blobs/"].iter().filter_map(|part| path.rfind(part)).max();
    path.get(..end.unwrap_or_default()).unwrap_or_default().to_owned()
}

/// What to ask a token for. A registry whose challenge names something other than a repository (public.ecr.aws: `aws`) has one
/// token for all; Basic has one header for all.
fn scopes_for(challenge: &Challenge, scope: &Scope) -> Vec<String> {
    match challenge {
        Challenge::Basic => Vec::new(),
        Challenge::Bearer { scope: Some(fixed), .. } if !fixed.starts_with("repository:") => {
            vec![fixed.clone()]
        }
        Challenge::Bearer { .. } => scope.parameters(),
    }
}

/// Where a token service sends us on: a slash at the end, http to https. It is shown the same credential, so it has to be the same
/// server, or the same host by https. The query is ours and is put there anew.
fn next_realm(realm: &Url, headers: &HeaderMap) -> Result<Url, ErrorKind> {
    let missing = || ErrorKind::Protocol("the token service's redirect leads nowhere".to_owned());
    let text = response::header(headers, LOCATION.as_str()).ok_or_else(missing)?;
    let mut next = location::resolve(realm, text)?;
    let is_better = next.host() == realm.host() && (realm.scheme(), next.scheme()) == ("http", "https");
    if !location::same_origin(realm, &next) && !is_better {
        let reason = "a token service may send us to its own host only";
        return Err(ErrorKind::UnsafeLocation { url: location::shown(text), reason });
    }
    // What the redirect repeats of our own parameters would be there twice.
    next.set_query(realm.query());
    Ok(next)
}
