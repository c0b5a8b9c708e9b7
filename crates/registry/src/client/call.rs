//! A request to a repository, before it is sent.

use std::sync::Mutex;

use http::{HeaderMap, Method};
use url::Url;

use super::pace::Action;
use crate::error::{Error, ErrorKind};
use crate::net::http::Body;
use crate::reference::Reference;

/// A request to a repository.
pub(crate) struct Call<'a> {
    pub(crate) reference: &'a Reference,
    pub(crate) action: Action,
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) push: bool,
    pub(crate) mount_from: Option<&'a str>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Payload,
}

/// What a request carries.
pub(crate) enum Payload {
    Empty,
    /// Can be sent again.
    Bytes(bytes::Bytes),
    /// Can be sent once: the body of a transfer. The caller watches its progress, so there is no time limit here.
    Stream(Mutex<Option<Body>>),
}

impl Payload {
    pub(crate) fn stream(body: Body) -> Self {
        Self::Stream(Mutex::new(Some(body)))
    }

    pub(super) fn is_repeatable(&self) -> bool {
        !matches!(self, Self::Stream(_))
    }

    pub(super) fn take(&self) -> Body {
        match self {
            Self::Empty => Body::default(),
            Self::Bytes(bytes) => bytes.clone().into(),
            Self::Stream(body) => body.lock().ok().and_then(|mut body| body.take()).unwrap_or_default(),
        }
    }
}

impl<'a> Call<'a> {
    /// A request that only reads.
    pub(crate) fn read(reference: &'a Reference, action: Action, method: Method, url: Url) -> Self {
        Self {
            reference,
            action,
            method,
            url,
            push: false,
            mount_from: None,
            headers: HeaderMap::new(),
            body: Payload::Empty,
        }
    }

    pub(super) fn error(&self, kind: ErrorKind) -> Error {
        Error::of(self.reference, kind)
    }

    pub(super) fn is_read(&self) -> bool {
        matches!(self.method, Method::GET | Method::HEAD)
    }
}
