//! The client: one per process, cheap to clone, shared by everything that talks to registries.

mod blobs;
mod builder;
mod clock;
mod lists;
mod manifests;
pub(crate) mod pace;
mod rate_limit;
mod retry;
mod route;
mod transport;
pub(crate) mod uploads;

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use url::Url;

use crate::auth::Broker;
use crate::error::{Error, ErrorKind};
use crate::net::contact::Contacts;
use crate::net::guard::Guard;
use crate::net::http::Transport;
use crate::profile::{Profile, Profiles};
use crate::reference::Reference;

pub use builder::Builder;
pub use rate_limit::RateLimit;
pub(crate) use retry::Tries;
pub use retry::{RetryPolicy, RetryWatcher};

/// A client of all registries.
#[derive(Clone)]
pub struct Client {
    pub(crate) core: Arc<Core>,
    retry: RetryPolicy,
    watcher: Option<RetryWatcher>,
}

/// How long nothing may happen.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// Until a connection stands.
    pub connect: Duration,
    /// Until a reply begins.
    pub reply: Duration,
    /// While a blob is transferred: in this time at least [`Timeouts::MIN_BYTES`] must move.
    pub idle: Duration,
    /// Until a source that can be done without has answered: it is asked for news only.
    pub news: Duration,
}

impl Timeouts {
    /// What must move in the `idle` time, so that a server that sends a byte now and then is not waited for forever.
    pub const MIN_BYTES: u64 = 1024;
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            // ECR takes its time to commit a layer of gigabytes.
            reply: Duration::from_secs(120),
            idle: Duration::from_secs(30),
            news: Duration::from_secs(5),
        }
    }
}

/// What all clones share.
pub(crate) struct Core {
    http: Arc<dyn Transport>,
    profiles: Arc<Profiles>,
    routes: route::Routes,
    auth: Broker,
    guard: Arc<Guard>,
    contacts: Arc<Contacts>,
    pacer: pace::Pacer,
    timeouts: Timeouts,
    rate_limits: Mutex<HashMap<String, RateLimit>>,
    /// How far each registry's clock is ahead of ours, in seconds.
    clocks: Mutex<HashMap<String, i64>>,
    jitter: retry::Jitter,
    /// Registries that are no servers.
    served: HashSet<String>,
    /// Registries that send readers of manifests to another server, and which.
    elsewhere: Mutex<HashMap<String, String>>,
}

impl Client {
    /// Begins a client.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The same client, whose retries are told to `watcher`.
    pub fn watched(&self, watcher: RetryWatcher) -> Self {
        Self { watcher: Some(watcher), ..self.clone() }
    }

    /// The same client, which tries at most twice: for what can be done without.
    pub(crate) fn hasty(&self) -> Self {
        let retry = RetryPolicy { attempts: self.retry.attempts.min(2), ..self.retry };
        Self { retry, ..self.clone() }
    }

    /// The pulls that `registry` still allows, as its last reply about a manifest showed them; none where it does not count. Believed
    /// of Docker Hub and of mirrors that are known to count ([`Builder::counts_pulls`]): other servers use the same headers for
    /// limits of their own.
    pub fn rate_limit(&self, registry: &str) -> Option<RateLimit> {
        self.core.rate_limits.lock().ok()?.get(registry).copied()
    }

    /// By how many seconds the clock of `registry` was ahead of ours when it last answered about a manifest (less than zero: behind);
    /// none where it does not say.
    pub fn clock_ahead(&self, registry: &str) -> Option<i64> {
        self.core.clocks.lock().ok()?.get(registry).copied()
    }

    /// The server that `registry`'s manifests were last read from, where that is another one: gateways redirect there.
    pub fn redirected_to(&self, registry: &str) -> Option<String> {
        self.core.elsewhere.lock().ok()?.get(registry).cloned()
    }

    /// Whether `registry` is no server but a part of this process.
    pub(crate) fn is_served(&self, registry: &str) -> bool {
        self.core.served.contains(registry)
    }

    pub(crate) fn timeouts(&self) -> Timeouts {
        self.core.timeouts
    }

    /// What is known of `registry` beyond the protocol.
    pub fn profile(&self, registry: &str) -> Profile {
        self.core.profiles.of(registry)
    }

    pub(crate) fn watcher(&self) -> Option<&RetryWatcher> {
        self.watcher.as_ref()
    }

    /// `/v2/<repository>/<tail>` of the reference's registry.
    fn url(&self, reference: &Reference, tail: &str) -> Result<Url, Error> {
        let route = self.core.routes.get(reference.registry()).map_err(|kind| Error::of(reference, kind))?;
        Ok(route.url(reference, tail))
    }

    pub(crate) async fn retry<T, F, Fut>(&self, operation: F) -> Result<T, Error>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, Error>>,
    {
        self.retry_if(Error::is_transient, operation).await
    }

    /// [`Client::retry`], where the registry was asked too often and everything else is somebody else's to repeat.
    pub(crate) async fn retry_throttled<T, F, Fut>(&self, operation: F) -> Result<T, Error>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, Error>>,
    {
        let is_throttled =
            |error: &Error| matches!(error.kind(), ErrorKind::TooManyRequests { .. }) && error.is_transient();
        self.retry_if(is_throttled, operation).await
    }

    async fn retry_if<T, F, Fut>(
        &self,
        is_transient: impl Fn(&Error) -> bool,
        operation: F,
    ) -> Result<T, Error>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, Error>>,
    {
        let pause = |attempt, error: &Error| self.pause(attempt, error);
        retry::retry(pause, self.watcher.as_ref(), is_transient, operation).await
    }

    /// The pause after so many tries, or none if that was the last one.
    pub(crate) fn pause(&self, attempt: u32, error: &Error) -> Option<Duration> {
        self.retry.pause(attempt, error, self.core.jitter.draw())
    }
}
