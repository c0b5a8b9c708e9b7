//! The state that all requests share.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::journal::Journal;
use crate::policy::Identities;
use crate::quirks::{Quirk, Quirks};
use crate::store::Store;
use crate::traffic::Traffic;
use crate::uploads::Uploads;
use crate::upstreams::Upstreams;

/// How to run a server.
#[derive(Debug, Clone)]
pub struct Config {
    /// Everything that lasts lies here. One server at a time.
    pub data: PathBuf,
    /// The port on 127.0.0.1; 0 lets the kernel choose.
    pub port: u16,
    /// The account of callers whose access key does not say another.
    pub account: String,
    /// Where the upstreams of pull-through cache rules really are: registry host and base URL, which may carry a path prefix.
    pub upstreams: Vec<(String, String)>,
    /// Quirks that are on from the start.
    pub quirks: Vec<Quirk>,
    /// How long a registry token is good for; ECR's are for twelve hours.
    pub token_lifetime: Duration,
    /// How long a cached tag is served before the upstream is asked again; ECR's is a day.
    pub pull_through_refresh: Duration,
    /// Where what AWS's own services are asked and answer is written down, one JSON document a line.
    pub traffic: Option<PathBuf>,
}

impl Config {
    /// The defaults, with the data in `data`.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self {
            data: data.into(),
            port: 0,
            account: "123456789012".to_owned(),
            upstreams: Vec::new(),
            quirks: Vec::new(),
            token_lifetime: Duration::from_secs(12 * 3600),
            pull_through_refresh: Duration::from_secs(24 * 3600),
            traffic: None,
        }
    }
}

/// What every request sees.
pub(crate) struct App {
    pub(crate) config: Config,
    pub(crate) store: Store,
    pub(crate) quirks: Quirks,
    pub(crate) identities: Identities,
    pub(crate) journal: Journal,
    pub(crate) traffic: Traffic,
    pub(crate) uploads: Uploads,
    pub(crate) upstreams: Upstreams,
    pub(crate) address: SocketAddr,
    pub(crate) layer_address: SocketAddr,
}

impl App {
    /// The registry's host as image references name it.
    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    /// The layer bucket's origin. Another host name, not only another port: some clients take ports of one host for one host,
    /// and would carry the credentials over.
    pub(crate) fn layer_origin(&self) -> String {
        format!("http://localhost:{}", self.layer_address.port())
    }
}
