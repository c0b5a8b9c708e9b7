//! Setting a client up.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::contact::Contacts;
use super::guard::{Guard, System};
use super::http::{Http, Lookup, Transport};
use super::network::Network;
use super::pace::Pacer;
use super::retry::Jitter;
use super::route::Routes;
use super::served::Served;
use super::{Client, Core, Quotas, RetryPolicy, Timeouts};
use crate::auth::{Anonymous, Broker, Credentials};
use crate::error::Error;

/// Settings of a [`Client`].
#[must_use]
#[derive(Default)]
pub struct Builder {
    http: Http,
    own_http: Vec<(String, Http)>,
    transport: Option<Arc<dyn Transport>>,
    served: HashMap<String, Arc<dyn Transport>>,
    credentials: Option<Arc<dyn Credentials>>,
    routes: Vec<(String, String)>,
    counting: Vec<String>,
    blob_hosts: Vec<(String, String)>,
    quotas: HashMap<String, Quotas>,
    retry: RetryPolicy,
    timeouts: Timeouts,
    lookup: Option<Arc<dyn Lookup>>,
    jitter: Jitter,
}

impl Builder {
    /// How servers are reached: proxies, root certificates, user agent.
    pub fn http(mut self, http: Http) -> Self {
        self.http = http;
        self
    }

    /// Settings of its own for `host` (with its port where it has one): its CA, a certificate of ours that is for it alone.
    pub fn http_for(mut self, host: &str, http: Http) -> Self {
        self.own_http.push((host.to_ascii_lowercase(), http));
        self
    }

    /// Sends all requests by `transport` instead of the network. Then it is the transport's to look at where a name leads.
    pub fn transport(mut self, transport: Arc<dyn Transport>) -> Self {
        self.transport = Some(transport);
        self
    }

    /// Sends what is for `host` by `transport`, and the rest as before: a registry that is no server.
    pub fn serve(mut self, host: &str, transport: Arc<dyn Transport>) -> Self {
        self.served.insert(host.to_ascii_lowercase(), transport);
        self
    }

    /// Draws the length of pauses from `seed`, so that a run can be repeated.
    pub fn seed(mut self, seed: u64) -> Self {
        self.jitter = Jitter::from_seed(seed);
        self
    }

    /// Where credentials come from. Without: nowhere.
    pub fn credentials(mut self, credentials: Arc<dyn Credentials>) -> Self {
        self.credentials = Some(credentials);
        self
    }

    /// Reaches `registry` at `url`, which may carry a path: with `https://mirror.example/hub`, repository `a/b` is
    /// `/v2/hub/a/b` there. The only way to plain http for another machine than this one.
    pub fn route(mut self, registry: &str, url: &str) -> Self {
        self.routes.push((registry.to_owned(), url.to_owned()));
        self
    }

    /// Asks `registry` by `quotas`, where its name does not tell whose they are.
    pub fn quotas(mut self, registry: &str, quotas: Quotas) -> Self {
        self.quotas.insert(registry.to_owned(), quotas);
        self
    }

    /// Believes what `registry`, a mirror of Docker Hub, says of the pulls that are left.
    pub fn counts_pulls(mut self, registry: &str) -> Self {
        self.counting.push(registry.to_owned());
        self
    }

    /// Takes blobs of `registry` from `host` (with its port where it has one) by plain http too: an object store in the same network.
    pub fn blob_host(mut self, registry: &str, host: &str) -> Self {
        self.blob_hosts.push((registry.to_owned(), host.to_ascii_lowercase()));
        self
    }

    /// How often and how patiently is tried.
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// How long nothing may happen.
    pub fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// How names are looked up, instead of the system's way. Where a registry sends us is looked at either way: not every address
    /// that such a name leads to is connected to.
    pub fn lookup(mut self, lookup: Arc<dyn Lookup>) -> Self {
        self.lookup = Some(lookup);
        self
    }

    /// The client.
    ///
    /// # Errors
    /// When a route is no address, or the HTTP client cannot be set up.
    pub fn build(self) -> Result<Client, Error> {
        let mut routes = Routes::default();
        for (registry, url) in &self.routes {
            routes.insert(registry, url).map_err(|kind| Error::new(registry, registry, kind))?;
        }
        routes.counting(self.counting);
        routes.blob_hosts(self.blob_hosts);
        let guard = Guard::new(self.lookup.unwrap_or_else(|| Arc::new(System)));
        let http: Arc<dyn Transport> = match self.transport {
            Some(transport) => transport,
            None => Arc::new(Network::new(self.http, self.own_http, self.timeouts.connect, &guard)?),
        };
        let http = if self.served.is_empty() { http } else { Arc::new(Served::new(self.served, http)) };
        let credentials = self.credentials.unwrap_or_else(|| Arc::new(Anonymous));
        let contacts = Arc::new(Contacts::default());
        let core = Core {
            http,
            routes,
            auth: Broker::new(credentials, self.timeouts.reply, Arc::clone(&guard), Arc::clone(&contacts)),
            guard,
            contacts,
            pacer: Pacer::new(self.quotas),
            timeouts: self.timeouts,
            rate_limits: Mutex::default(),
            jitter: self.jitter,
            elsewhere: Mutex::default(),
        };
        Ok(Client { core: Arc::new(core), retry: self.retry, watcher: None })
    }
}
