//! How a client sends requests: what all its clones know of registries, and how this one retries.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use url::Url;

use super::call::Call;
use super::{RateLimit, RetryPolicy, RetryWatcher, Timeouts, pace, retry, route};
use crate::BoxFuture;
use crate::auth::Broker;
use crate::error::{Error, ErrorKind};
use crate::net::address_guard::AddressGuard;
use crate::net::http::{Response, Transport};
use crate::net::reached_servers::ReachedServers;
use crate::profile::{Profile, Profiles};
use crate::reference::Reference;

/// Sends requests to registries, and retries transient failures.
#[derive(Clone)]
pub(crate) struct Connection {
    pub(super) core: Arc<Core>,
    pub(super) retry: RetryPolicy,
    pub(super) watcher: Option<RetryWatcher>,
    /// Whether blobs are sent although the target claims to have them.
    pub(crate) doubts: bool,
}

/// What all clones share.
pub(super) struct Core {
    pub(super) http: Arc<dyn Transport>,
    pub(super) profiles: Arc<Profiles>,
    pub(super) routes: route::Routes,
    pub(super) auth: Broker,
    pub(super) guard: Arc<AddressGuard>,
    pub(super) reached: Arc<ReachedServers>,
    pub(super) pacer: pace::Pacer,
    pub(super) timeouts: Timeouts,
    pub(super) rate_limits: Mutex<HashMap<String, RateLimit>>,
    /// How many manifests were read, by registry that counts them.
    pub(super) pulled: Mutex<HashMap<String, u64>>,
    /// How far each registry's clock is ahead of ours, in seconds.
    pub(super) clocks: Mutex<HashMap<String, i64>>,
    pub(super) jitter: retry::Jitter,
    /// In-process registries (an OCI layout), reached without the network.
    pub(super) served: HashSet<String>,
    /// The servers that registries redirect readers of manifests to.
    pub(super) elsewhere: Mutex<HashMap<String, String>>,
}

impl Connection {
    /// The same connection with at most two tries: for what the run can do without.
    pub(crate) fn hasty(&self) -> Self {
        let retry = RetryPolicy { attempts: self.retry.attempts.min(2), ..self.retry };
        Self { retry, ..self.clone() }
    }

    /// Whether `registry` is in this process.
    pub(crate) fn is_served(&self, registry: &str) -> bool {
        self.core.served.contains(registry)
    }

    pub(crate) fn timeouts(&self) -> Timeouts {
        self.core.timeouts
    }

    /// What is known of `registry` beyond the protocol.
    pub(crate) fn profile(&self, registry: &str) -> Profile {
        self.core.profiles.of(registry)
    }

    pub(crate) fn watcher(&self) -> Option<&RetryWatcher> {
        self.watcher.as_ref()
    }

    /// `/v2/<repository>/<tail>` of the reference's registry.
    pub(crate) fn url(&self, reference: &Reference, tail: &str) -> Result<Url, Error> {
        let route = self.core.routes.get(reference.registry()).map_err(|kind| Error::of(reference, kind))?;
        Ok(route.url(reference, tail))
    }

    /// Sends `call` once, and returns its reply if that is a success.
    pub(crate) fn send<'a>(&'a self, call: Call<'a>) -> BoxFuture<'a, Result<Response, Error>> {
        self.core.send(call)
    }

    pub(crate) async fn retry<T, F, Fut>(&self, operation: F) -> Result<T, Error>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, Error>>,
    {
        self.retry_if(Error::is_transient, operation).await
    }

    /// [`Connection::retry`], only after a 429: the caller retries everything else.
    pub(crate) async fn retry_throttled<T, F, Fut>(&self, operation: F) -> Result<T, Error>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, Error>>,
    {
        let is_throttled =
            |error: &Error| matches!(error.kind(), ErrorKind::TooManyRequests { .. }) && error.is_transient();
        self.retry_if(is_throttled, operation).await
    }

    pub(crate) async fn retry_if<T, F, Fut>(
        &self,
        is_transient: impl Fn(&Error) -> bool,
        operation: F,
    ) -> Result<T, Error>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, Error>>,
    {
        let pause = |attempt, error: &Error| self.pause(attempt, error);
        retry::retry(pause, self.give_up_after(), self.watcher.as_ref(), is_transient, operation).await
    }

    /// After this much waiting without success, no further try begins.
    pub(crate) fn give_up_after(&self) -> Duration {
        self.retry.give_up_after
    }

    /// The pause after so many tries; `None` after the last one.
    pub(crate) fn pause(&self, attempt: u32, error: &Error) -> Option<Duration> {
        self.retry.pause(attempt, error, self.core.jitter.draw())
    }
}
