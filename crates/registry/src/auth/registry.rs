//! What is known of one registry: its authentication scheme, and the headers that it accepted.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use http::HeaderValue;
use tokio::time::Instant;
use url::Url;

use super::broker::Grant;
use super::challenge::Challenge;
use super::{Credential, Credentials, Server};
use crate::error::{Answerer, BoxError, Error, ErrorKind};

/// A registry's authentication scheme, as far as we know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Unknown,
    Open,
    Challenged(Challenge),
}

pub(super) struct Registry {
    pub(super) name: String,
    /// Never send credentials: a registry redirected us here.
    pub(super) is_redirect_target: bool,
    pub(super) origin: Url,
    pub(super) scheme: RwLock<Scheme>,
    pub(super) probe: Arc<tokio::sync::Mutex<()>>,
    /// Counts the probes that have ended, with an answer or without.
    pub(super) finished_probes: AtomicU64,
    /// By namespace.
    credential: tokio::sync::Mutex<HashMap<String, Option<Credential>>>,
    namespaces: tokio::sync::OnceCell<Vec<String>>,
    pub(super) slots: Mutex<HashMap<String, Arc<Slot>>>,
    /// What `/v2/` answered, once it was asked.
    pub(super) root: tokio::sync::OnceCell<Root>,
}

/// What a registry answers to an anonymous request for `/v2/`.
pub(super) struct Root {
    pub(super) is_challenged: bool,
    /// The schemes of its challenges that are not supported.
    pub(super) schemes: Vec<String>,
}

/// One header, shared by all requests of a scope.
#[derive(Default)]
pub(super) struct Slot {
    pub(super) state: tokio::sync::Mutex<Held>,
    /// Counts finished attempts to fill the slot, readable without waiting for the one under way.
    pub(super) attempts: AtomicU64,
}

#[derive(Default)]
pub(super) struct Held {
    pub(super) header: Option<HeaderValue>,
    pub(super) generation: u64,
    /// When the header expires; `None`: it is used until it is refused.
    pub(super) until: Option<Instant>,
    pub(super) failure: Option<Error>,
    /// A scope that the registry named when it refused the header for ours.
    pub(super) also: Option<String>,
}

impl Held {
    pub(super) fn usable(&self) -> bool {
        self.header.is_some() && self.until.is_none_or(|until| Instant::now() < until)
    }

    pub(super) fn grant(&self) -> Grant {
        Grant { header: self.header.clone(), generation: self.generation, until: self.until }
    }
}

impl Registry {
    pub(super) fn new(name: &str, origin: &Url, is_redirect_target: bool) -> Self {
        Self {
            name: name.to_owned(),
            is_redirect_target,
            origin: origin.clone(),
            scheme: RwLock::new(Scheme::Unknown),
            probe: Arc::default(),
            finished_probes: AtomicU64::new(0),
            credential: tokio::sync::Mutex::default(),
            namespaces: tokio::sync::OnceCell::new(),
            slots: Mutex::default(),
            root: tokio::sync::OnceCell::new(),
        }
    }

    pub(super) fn scheme(&self) -> Scheme {
        self.scheme.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_scheme(&self, scheme: Scheme) {
        *self.scheme.write().unwrap_or_else(PoisonError::into_inner) = scheme;
    }

    pub(super) fn slot(&self, key: &str) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(key.to_owned()).or_default())
    }

    pub(super) fn error(&self, kind: ErrorKind) -> Error {
        self.error_at(&self.origin, kind)
    }

    /// An error about the server at `url`.
    pub(super) fn error_at(&self, url: &Url, kind: ErrorKind) -> Error {
        let host = Server::at(url).in_place_of(&self.name);
        let server = host.map(if self.is_redirect_target { Answerer::Redirected } else { Answerer::Mirror });
        Error::answered(&self.name, &self.name, server, kind)
    }

    /// The part of the registry that `repository` is in, by the logins that are stored.
    pub(super) async fn server(
        &self,
        credentials: &dyn Credentials,
        repository: &str,
    ) -> Result<Server, Error> {
        let server = Server::at(&self.origin);
        if self.is_redirect_target {
            return Ok(server);
        }
        let namespaces = self.namespaces.get_or_try_init(|| credentials.namespaces(&server)).await;
        let namespaces = namespaces.map_err(|error| self.unknown(error))?;
        Ok(server.around(repository, namespaces))
    }

    /// The credentials cannot be read.
    fn unknown(&self, error: BoxError) -> Error {
        self.error(ErrorKind::Credentials { source: error.into() })
    }

    /// The caller's credential, and never `refused` again. Tokens for several repositories are requested at once: the first
    /// whose credential is refused fetches the new one for all.
    pub(super) async fn credential(
        &self,
        credentials: &dyn Credentials,
        server: &Server,
        refused: Option<&Credential>,
    ) -> Result<Option<Credential>, Error> {
        if self.is_redirect_target {
            return Ok(None);
        }
        let mut held = self.credential.lock().await;
        let stale = match held.get(server.namespace()) {
            Some(known) if refused.is_none() || known.as_ref() != refused => return Ok(known.clone()),
            Some(known) => known.clone(),
            None => None,
        };
        let fetched = credentials.get(server, stale.as_ref()).await.map_err(|error| self.unknown(error))?;
        if stale.is_some() && (fetched.is_none() || fetched == stale) {
            let message = "the credential was refused, and there is no other one".to_owned();
            return Err(self.error(ErrorKind::Unauthorized { message }));
        }
        held.insert(server.namespace().to_owned(), fetched.clone());
        Ok(fetched)
    }
}
