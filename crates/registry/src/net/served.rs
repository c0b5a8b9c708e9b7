//! In-process registries (an OCI layout), reached without the network.

use std::collections::HashMap;
use std::sync::Arc;

use super::http::{Request, Response, Transport};
use crate::BoxFuture;
use crate::error::ErrorKind;

/// Transports by host, and the one for all others.
pub(crate) struct Served {
    by_host: HashMap<String, Arc<dyn Transport>>,
    rest: Arc<dyn Transport>,
}

impl Served {
    pub(crate) fn new(by_host: HashMap<String, Arc<dyn Transport>>, rest: Arc<dyn Transport>) -> Self {
        Self { by_host, rest }
    }
}

impl Transport for Served {
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, ErrorKind>> {
        let own = request.url.host_str().and_then(|host| self.by_host.get(host));
        own.unwrap_or(&self.rest).send(request)
    }
}
