//! Requests and replies, and what sends them: [`Transport`] is between the protocol and the network.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{BoxStream, Stream, StreamExt as _};
use http::{HeaderMap, Method};
use url::Url;

use super::network;
use crate::BoxFuture;
use crate::error::{BoxError, ErrorKind};

/// A request. Its address is a [`Url`], which is parsed once and not again for each request.
pub struct Request {
    /// `GET`, for instance.
    pub method: Method,
    /// Scheme, host, port, path and query.
    pub url: Url,
    /// All headers but those that HTTP itself needs.
    pub headers: HeaderMap,
    /// The body; of a transfer it is a stream.
    pub body: Body,
}

/// A reply: status and headers, and a body that is still on its way.
pub type Response = http::Response<Body>;

/// The address that answered after a redirect: URLs in the reply are relative to it.
#[derive(Clone)]
pub(crate) struct AnsweredAt(pub(crate) Url);

/// The address that answered the request to `asked`.
pub(crate) fn answered_at<'a>(response: &'a Response, asked: &'a Url) -> &'a Url {
    response.extensions().get().map_or(asked, |AnsweredAt(url)| url)
}

/// Sends requests to servers. A redirect is a reply like any other: the caller decides whether to follow it.
pub trait Transport: Send + Sync {
    /// Sends `request`, and returns the reply as soon as its headers are there. Dropping the future, or the reply's body, ends
    /// the exchange.
    ///
    /// # Errors
    /// [`ErrorKind::Network`] or [`ErrorKind::NoConnection`], if no reply came.
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, ErrorKind>>;
}

/// Resolves the names of servers.
pub trait Lookup: Send + Sync {
    /// The addresses of `host`.
    fn lookup<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, BoxError>>;
}

/// The body of a request or a reply: nothing, some bytes, or a stream of them.
#[derive(Default)]
pub struct Body(pub(crate) Content);

#[derive(Default)]
pub(crate) enum Content {
    #[default]
    Nothing,
    Bytes(Bytes),
    Stream {
        stream: BoxStream<'static, Result<Bytes, BoxError>>,
        length: Option<u64>,
    },
    /// The HTTP library's own reply: a boxed stream would cost time for each piece of a layer.
    Reply(reqwest::Response),
}

impl Body {
    /// A stream. For a reply, `length` is its `Content-Length`.
    pub fn stream<E: Into<BoxError>>(
        stream: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
        length: Option<u64>,
    ) -> Self {
        Self(Content::Stream { stream: stream.map(|piece| piece.map_err(Into::into)).fuse().boxed(), length })
    }

    /// The bytes that are still to come, if that is known.
    pub fn length(&self) -> Option<u64> {
        match &self.0 {
            Content::Nothing => Some(0),
            Content::Bytes(bytes) => Some(bytes.len() as u64),
            Content::Stream { length, .. } => *length,
            Content::Reply(reply) => reply.content_length(),
        }
    }

    /// The next piece, `None` at the end.
    ///
    /// # Errors
    /// [`ErrorKind::Network`], if the connection broke.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, ErrorKind> {
        match &mut self.0 {
            Content::Nothing => Ok(None),
            Content::Bytes(bytes) => {
                let bytes = std::mem::take(bytes);
                Ok((!bytes.is_empty()).then_some(bytes))
            }
            Content::Stream { stream, .. } => match stream.next().await.transpose() {
                Ok(piece) => Ok(piece),
                Err(error) => Err(ErrorKind::Network { source: Arc::from(error) }),
            },
            Content::Reply(reply) => reply.chunk().await.map_err(network::failure),
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self(Content::Bytes(bytes))
    }
}

/// Settings of the HTTP client.
#[must_use]
#[derive(Clone, Default)]
pub struct Http {
    pub(crate) tls: Option<rustls::ClientConfig>,
    pub(crate) user_agent: Option<String>,
    pub(crate) proxies: Proxies,
    pub(crate) own: Vec<(String, Http)>,
}

/// The proxies in use.
#[derive(Clone, Default)]
pub enum Proxies {
    /// Those of the environment.
    #[default]
    System,
    /// No proxy.
    None,
    /// These proxies.
    Named {
        /// The address of the proxy for plain http.
        http: Option<String>,
        /// The address of the proxy for https.
        https: Option<String>,
        /// The hosts to reach without a proxy, in the form of `NO_PROXY`.
        direct: String,
    },
}

impl Http {
    /// The settings of TLS: trusted CAs, a client certificate.
    pub fn tls(mut self, tls: rustls::ClientConfig) -> Self {
        self.tls = Some(tls);
        self
    }

    /// The `User-Agent` header.
    pub fn user_agent(mut self, name: &str) -> Self {
        self.user_agent = Some(name.to_owned());
        self
    }

    /// The proxies in use.
    pub fn proxies(mut self, proxies: Proxies) -> Self {
        self.proxies = proxies;
        self
    }

    /// Separate settings for `host` (with its port, if any): its CA, a client certificate only for it.
    pub fn for_host(mut self, host: &str, http: Http) -> Self {
        self.own.push((host.to_ascii_lowercase(), http));
        self
    }
}
