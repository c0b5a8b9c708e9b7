//! Setting a client up.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::connection::{Connection, Core};
use super::pace::Pacer;
use super::retry::Jitter;
use super::route::{Route, Routes};
use super::{Client, RetryPolicy, Timeouts};
use crate::auth::{Anonymous, Broker, Credentials, TokenServices};
use crate::error::Error;
use crate::net::address_guard::{AddressGuard, System};
use crate::net::http::{Http, Lookup, Transport};
use crate::net::network::Network;
use crate::net::reached_servers::ReachedServers;
use crate::net::served::Served;
use crate::profile::{Profile, Profiles};
use crate::reference::registry_name;

/// The default of [`Builder::client_id`].
const CLIENT_ID: &str = "registry";

/// Settings of a [`Client`].
#[must_use]
#[derive(Default)]
pub struct Builder {
    http: Http,
    transport: Option<Arc<dyn Transport>>,
    served: HashMap<String, Arc<dyn Transport>>,
    credentials: Option<Arc<dyn Credentials>>,
    routes: Vec<(String, Route)>,
    profiles: Profiles,
    client_id: Option<String>,
    retry: RetryPolicy,
    timeouts: Timeouts,
    lookup: Option<Arc<dyn Lookup>>,
    jitter: Jitter,
}

impl Builder {
    /// How servers are reached: proxies, certificates, user agent.
    pub fn http(mut self, http: Http) -> Self {
        self.http = http;
        self
    }

    /// Sends all requests by `transport` instead of the network. Then the transport has to check which addresses a name leads
    /// to.
    pub fn transport(mut self, transport: Arc<dyn Transport>) -> Self {
        self.transport = Some(transport);
        self
    }

    /// Sends the requests for `host` by `transport`, all others as before: an in-process registry.
    pub fn serve(mut self, host: &str, transport: Arc<dyn Transport>) -> Self {
        self.served.insert(registry_name(host), transport);
        self
    }

    /// Draws the length of pauses from `seed`, so that a run can be repeated.
    pub fn seed(mut self, seed: u64) -> Self {
        self.jitter = Jitter::from_seed(seed);
        self
    }

    /// Where credentials come from. Without it, all requests are anonymous.
    pub fn credentials(mut self, credentials: Arc<dyn Credentials>) -> Self {
        self.credentials = Some(credentials);
        self
    }

    /// Where `registry` is reached: an address, or a [`Route`] with more settings.
    pub fn route(mut self, registry: &str, route: impl Into<Route>) -> Self {
        self.routes.push((registry_name(registry), route.into()));
        self
    }

    /// Tells by a registry's host what is known of it beyond the protocol.
    pub fn profiles(mut self, known: impl Fn(&str) -> Option<Profile> + Send + Sync + 'static) -> Self {
        self.profiles = Profiles::new(known);
        self
    }

    /// Our name for token services ([`client_id`](https://distribution.github.io/distribution/spec/auth/oauth/)).
    pub fn client_id(mut self, name: &str) -> Self {
        self.client_id = Some(name.to_owned());
        self
    }

    /// How often and how long requests are retried.
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// How long servers are waited for.
    pub fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// Resolves names instead of the system. Names that a registry redirects to are checked in either case: not every address
    /// that they lead to is connected to.
    pub fn lookup(mut self, lookup: Arc<dyn Lookup>) -> Self {
        self.lookup = Some(lookup);
        self
    }

    /// The client.
    ///
    /// # Errors
    /// When a route is not an address, or the HTTP client cannot be set up.
    pub fn build(self) -> Result<Client, Error> {
        let mut routes = Routes::default();
        for (registry, route) in self.routes {
            routes.insert(&registry, route).map_err(|kind| Error::new(&registry, &registry, kind))?;
        }
        let profiles = Arc::new(self.profiles);
        let guard = AddressGuard::new(self.lookup.unwrap_or_else(|| Arc::new(System)), Arc::clone(&profiles));
        let http: Arc<dyn Transport> = match self.transport {
            Some(transport) => transport,
            None => Arc::new(Network::new(self.http, self.timeouts.connect, &guard)?),
        };
        let served = self.served.keys().cloned().collect();
        let http = if self.served.is_empty() { http } else { Arc::new(Served::new(self.served, http)) };
        let credentials = self.credentials.unwrap_or_else(|| Arc::new(Anonymous));
        let reached = Arc::new(ReachedServers::default());
        let services = TokenServices {
            http: Arc::clone(&http),
            timeout: self.timeouts.reply,
            client_id: self.client_id.unwrap_or_else(|| CLIENT_ID.to_owned()),
            guard: Arc::clone(&guard),
            reached: Arc::clone(&reached),
        };
        let core = Core {
            http,
            routes,
            auth: Broker::new(credentials, services),
            guard,
            reached,
            pacer: Pacer::new(Arc::clone(&profiles), self.retry.give_up_after),
            profiles,
            timeouts: self.timeouts,
            rate_limits: Mutex::default(),
            pulled: Mutex::default(),
            clocks: Mutex::default(),
            jitter: self.jitter,
            served,
            elsewhere: Mutex::default(),
        };
        let connection = Connection { core: Arc::new(core), retry: self.retry, watcher: None, doubts: false };
        Ok(Client { connection })
    }
}
