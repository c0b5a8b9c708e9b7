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
    /// The directory for all persistent data. Only one server may use it at a time.
    pub data: PathBuf,
    /// The port on 127.0.0.1; 0 lets the kernel choose.
    pub port: u16,
    /// The account of callers whose access key does not contain one.
    pub account: String,
    /// The real addresses of pull-through upstreams: registry host and base URL, which may have a path prefix.
    pub upstreams: Vec<(String, String)>,
    /// Quirks that are enabled from the start.
    pub quirks: Vec<Quirk>,
    /// Lifetime of a registry token; in ECR it is twelve hours.
    pub token_lifetime: Duration,
    /// How long a cached tag is served before the upstream is queried again; in ECR it is a day.
    pub pull_through_refresh: Duration,
    /// The log of all requests to AWS's own services with their answers, one JSON document per line.
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

/// The state that every request uses.
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
    /// The registry's host in image references.
    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    /// The layer bucket's origin. It has another host name, not only another port: some clients treat ports of one host as one host, and
    /// would send the credentials along.
    pub(crate) fn layer_origin(&self) -> String {
        format!("http://localhost:{}", self.layer_address.port())
    }
}
