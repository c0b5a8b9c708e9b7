//! What can go wrong between this crate and a registry.

mod kind;
mod transient;
pub(crate) mod waited;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::reference::Reference;

pub use kind::{ErrorKind, NoConnection};

/// Any error of an implementation of one of this crate's traits.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A failed operation: what it was about, and why it failed. Cheap to clone, because one failed transfer may fail many
/// images.
#[derive(Clone)]
pub struct Error {
    inner: Arc<Inner>,
    /// How long its request, and the tries before it, waited without success.
    waited: Duration,
}

struct Inner {
    registry: String,
    subject: String,
    /// The server that answered, if it is not the registry under its own name.
    server: Option<Answerer>,
    kind: ErrorKind,
}

/// A server that answered instead of the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answerer {
    /// The server by which the user says that the registry is reached.
    Mirror(String),
    /// The server that the registry redirected us to.
    Redirected(String),
}

impl Error {
    pub(crate) fn new(registry: &str, subject: impl fmt::Display, kind: ErrorKind) -> Self {
        Self::answered(registry, subject, None, kind)
    }

    /// [`Error::new`] of an answer by `server`: a mirror, or the target of a redirect.
    pub(crate) fn answered(
        registry: &str,
        subject: impl fmt::Display,
        server: Option<Answerer>,
        kind: ErrorKind,
    ) -> Self {
        let (registry, subject) = (registry.to_owned(), subject.to_string());
        Self { inner: Arc::new(Inner { registry, subject, server, kind }), waited: Duration::ZERO }
    }

    pub(crate) fn of(reference: &Reference, kind: ErrorKind) -> Self {
        Self::new(reference.registry(), reference, kind)
    }

    /// Why it failed.
    pub fn kind(&self) -> &ErrorKind {
        &self.inner.kind
    }

    /// The registry that it failed at.
    pub fn registry(&self) -> &str {
        &self.inner.registry
    }

    /// The host that answered: the mirror, the target of a redirect, or the registry. A missing login is missing there.
    pub fn server(&self) -> &str {
        match &self.inner.server {
            Some(Answerer::Mirror(host) | Answerer::Redirected(host)) => host,
            None => &self.inner.registry,
        }
    }

    /// Whether the answer came from the target of a redirect.
    pub fn is_redirected(&self) -> bool {
        matches!(self.inner.server, Some(Answerer::Redirected(_)))
    }

    /// What it was about: an image's name, or the registry itself.
    pub fn subject(&self) -> &str {
        &self.inner.subject
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.inner.server {
            Some(Answerer::Mirror(host)) => {
                write!(f, "{} at {host}: {}", self.inner.subject, self.inner.kind)
            }
            Some(Answerer::Redirected(host)) => {
                write!(f, "{}, redirected to {host}: {}", self.inner.subject, self.inner.kind)
            }
            None => write!(f, "{}: {}", self.inner.subject, self.inner.kind),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error({}: {:?})", self.inner.subject, self.inner.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let mut cause = std::error::Error::source(&self.inner.kind)?;
        // The HTTP library wraps the network's failures in four layers: the innermost cause says why.
        if matches!(self.kind(), ErrorKind::NoConnection { .. } | ErrorKind::Network { .. }) {
            while let Some(below) = cause.source() {
                cause = below;
            }
        }
        Some(cause)
    }
}
