//! The HTTP clients: one for all servers, and one for each that has certificates of its own.

use std::collections::HashMap;

use url::Url;

/// The clients. A connection is never shared between two of them, nor is a certificate.
#[derive(Debug)]
pub(crate) struct Clients {
    pub(super) all: reqwest::Client,
    /// By host, with its port where it has one.
    pub(super) own: HashMap<String, reqwest::Client>,
}

impl Clients {
    /// The client for a server.
    pub(crate) fn at(&self, url: &Url) -> &reqwest::Client {
        if self.own.is_empty() || url.scheme() != "https" {
            return &self.all;
        }
        let with_port = || {
            let (host, port) = (url.host_str()?, url.port_or_known_default()?);
            self.own.get(&format!("{host}:{port}"))
        };
        self.own.get(url.authority()).or_else(with_port).unwrap_or(&self.all)
    }
}
