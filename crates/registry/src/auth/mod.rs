//! Who we are: credentials from the caller, and what a registry makes of them.
//!
//! Whether a credential is sent to a host is decided in these places:
//! - `server::is_shown_to`: a token service that a registry names.
//! - `client/transport.rs`, by `location::same_origin`: a redirect to another host gets no header of the registry's.
//! - `registry::Registry`: the target of a redirect gets no credential at all.
//! - `docker-credentials/src/file.rs`: over plain http only a login that is stored for exactly this address.
//! - `xtask/src/target.rs`: ECR's token only for the account's own registry, and not over plain http.

mod broker;
mod challenge;
mod credential;
mod registry;
mod server;
mod service;
mod token;

use futures_util::future::BoxFuture;

use crate::error::BoxError;

pub(crate) use broker::{AuthProbe, Broker, Grant};
pub(crate) use challenge::Challenge;
pub use credential::Credential;
pub use server::Server;
pub(crate) use server::mirror;
pub(crate) use service::TokenServices;

/// Where credentials come from: docker's configuration, an AWS call, a test.
pub trait Credentials: Send + Sync {
    /// The credential for `server`, or `None` to be anonymous. A credential belongs to the address that is reached, not to the
    /// image's name: behind a mirror, `server` is the mirror.
    ///
    /// Called once per registry, or per [namespace](Self::namespaces) of it, and kept. `stale` is a credential that the server
    /// refuses by now: return a new one. The same one again means that there is no other. Never called twice at the same time
    /// for one registry.
    fn get<'a>(
        &'a self,
        server: &'a Server,
        stale: Option<&'a Credential>,
    ) -> BoxFuture<'a, Result<Option<Credential>, BoxError>>;

    /// The namespaces and repositories of `server` that have a login of their own: [`get`](Self::get) is asked for
    /// [these](Server::within), too. Called once per registry.
    fn namespaces<'a>(&'a self, _server: &'a Server) -> BoxFuture<'a, Result<Vec<String>, BoxError>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

/// No credentials.
#[derive(Clone, Copy, Debug, Default)]
pub struct Anonymous;

impl Credentials for Anonymous {
    fn get<'a>(
        &'a self,
        _server: &'a Server,
        _stale: Option<&'a Credential>,
    ) -> BoxFuture<'a, Result<Option<Credential>, BoxError>> {
        Box::pin(async { Ok(None) })
    }
}

/// What a request needs access to, in the words of token services.
///
/// Kept per repository: [docker's token specification](https://distribution.github.io/distribution/spec/auth/scope/).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scope {
    /// The repository's path at the server, a route's prefix included.
    pub(crate) repository: String,
    pub(crate) push: bool,
    /// The repository that a blob is mounted from.
    pub(crate) mount_from: Option<String>,
}

impl Scope {
    fn parameters(&self) -> Vec<String> {
        let actions = if self.push { "pull,push" } else { "pull" };
        let own = format!("repository:{}:{actions}", self.repository);
        let from = self.mount_from.as_ref().filter(|from| **from != self.repository);
        std::iter::once(own).chain(from.map(|from| format!("repository:{from}:pull"))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_requests_the_scope_of_both_repositories_once() {
        let scope = |from: &str| Scope {
            repository: "a/b".to_owned(),
            push: true,
            mount_from: Some(from.to_owned()),
        };
        assert_eq!(scope("c").parameters(), ["repository:a/b:pull,push", "repository:c:pull"]);
        assert_eq!(scope("a/b").parameters(), ["repository:a/b:pull,push"]);
    }
}
