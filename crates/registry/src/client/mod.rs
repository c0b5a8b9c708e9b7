//! The client: one per process, cheap to clone, shared by everything that talks to registries.

pub(crate) mod blobs;
mod builder;
mod call;
mod clock;
mod connection;
mod manifests;
mod pace;
mod rate_limit;
mod retry;
mod route;
mod timeouts;
mod transport;
pub(crate) mod uploads;

pub use builder::Builder;
pub(crate) use call::Call;
pub(crate) use connection::Connection;
pub(crate) use manifests::{absent_as_none, find_uncounted, tagged};
pub(crate) use pace::Action;
pub use rate_limit::RateLimit;
pub(crate) use rate_limit::{counts_pulls, pulled};
pub(crate) use retry::Tries;
pub use retry::{RetryPolicy, RetryWatcher};
pub use route::Route;
pub use timeouts::Timeouts;

/// A client of all registries: finds, reads and puts manifests. [`blobs`](crate::blobs) and [`lists`](crate::lists) have its
/// functions for blobs and for lists of tags and referrers.
#[derive(Clone)]
pub struct Client {
    pub(crate) connection: Connection,
}

impl Client {
    /// The settings of a new client.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The same client; `watcher` is called before each retry.
    pub fn watched(&self, watcher: RetryWatcher) -> Self {
        Self { connection: Connection { watcher: Some(watcher), ..self.connection.clone() } }
    }

    /// The pulls that `registry` still allows, as its last reply about a manifest said; `None` if it does not count. Only read
    /// of Docker Hub and of mirrors that are known to count ([`Route::counts_pulls`]): other servers use the same headers for
    /// their own limits.
    pub fn rate_limit(&self, registry: &str) -> Option<RateLimit> {
        self.connection.core.rate_limits.lock().ok()?.get(registry).copied()
    }

    /// By how many seconds the clock of `registry` was ahead of ours when it last answered about a manifest (less than zero:
    /// behind); `None` if it does not say.
    pub fn clock_ahead(&self, registry: &str) -> Option<i64> {
        self.connection.core.clocks.lock().ok()?.get(registry).copied()
    }

    /// The server that `registry` last redirected a read of a manifest to, as gateways do.
    pub fn redirected_to(&self, registry: &str) -> Option<String> {
        self.connection.core.elsewhere.lock().ok()?.get(registry).cloned()
    }
}
