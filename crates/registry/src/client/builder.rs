//! Setting a client up.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use reqwest::dns::Resolve;

use super::clients::Clients;
use super::contact::Contacts;
use super::guard::{Guard, Guarded, System};
use super::pace::Pacer;
use super::route::Routes;
use super::{Client, Core, Quotas, RetryPolicy, Timeouts};
use crate::auth::{Anonymous, Broker, Credentials};
use crate::error::{Error, ErrorKind};

/// Settings of a [`Client`].
#[must_use]
#[derive(Default)]
pub struct Builder {
    http: Option<reqwest::ClientBuilder>,
    own_http: Vec<(String, reqwest::ClientBuilder)>,
    credentials: Option<Arc<dyn Credentials>>,
    routes: Vec<(String, String)>,
    counting: Vec<String>,
    blob_hosts: Vec<(String, String)>,
    quotas: HashMap<String, Quotas>,
    retry: RetryPolicy,
    timeouts: Timeouts,
    lookup: Option<Arc<dyn Resolve>>,
}

impl Builder {
    /// The HTTP client's own settings: proxies, root certificates, user agent. Redirects and HTTP's version are set here,
    /// whatever it says: the first because nobody else keeps an `Authorization` from another host as strictly, the second
    /// because one HTTP/2 connection would carry all transfers and its stream limit stall them
    /// ([ocync's finding](https://github.com/clowdhaus/ocync/pull/104)).
    pub fn http(mut self, http: reqwest::ClientBuilder) -> Self {
        self.http = Some(http);
        self
    }

    /// Settings of its own for `host` (with its port where it has one): its CA, a certificate of ours that is for it alone.
    pub fn http_for(mut self, host: &str, http: reqwest::ClientBuilder) -> Self {
        self.own_http.push((host.to_ascii_lowercase(), http));
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
    pub fn lookup(mut self, lookup: Arc<dyn Resolve>) -> Self {
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
        let finished = |http: reqwest::ClientBuilder| {
            let http = http.dns_resolver(Guarded(Arc::clone(&guard)));
            let http = http.redirect(reqwest::redirect::Policy::none()).http1_only();
            finish(http.connect_timeout(self.timeouts.connect))
        };
        let own = self.own_http.into_iter().map(|(host, http)| Ok((host, finished(http)?)));
        let own = own.collect::<Result<_, Error>>()?;
        let http = Clients { all: finished(self.http.unwrap_or_default())?, own };
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
        };
        Ok(Client { core: Arc::new(core), retry: self.retry, watcher: None })
    }
}

fn finish(http: reqwest::ClientBuilder) -> Result<reqwest::Client, Error> {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Somebody else may have been faster; then there is one, which is all that is wanted.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    http.build().map_err(|error| Error::new("", "HTTP client", ErrorKind::Setup { source: Arc::new(error) }))
}

#[cfg(test)]
pub(crate) fn test_http() -> reqwest::Client {
    finish(reqwest::Client::builder()).unwrap()
}
