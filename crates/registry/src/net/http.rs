//! What goes over the wire, and who carries it: [`Transport`] stands between the protocol and the network.

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
    /// What is asked for.
    pub method: Method,
    /// Where.
    pub url: Url,
    /// All headers but those that HTTP itself needs.
    pub headers: HeaderMap,
    /// What is sent.
    pub body: Body,
}

/// A reply: status and headers, and a body that is still on its way.
pub type Response = http::Response<Body>;

/// Where a reply came from that was redirected: what is relative in it is relative to this.
#[derive(Clone)]
pub(crate) struct AnsweredAt(pub(crate) Url);

/// The address that answered what was asked at `asked`.
pub(crate) fn answered_at<'a>(response: &'a Response, asked: &'a Url) -> &'a Url {
    response.extensions().get().map_or(asked, |AnsweredAt(url)| url)
}

/// Carries requests to servers. A redirect is a reply like any other: who may be sent on is decided above.
pub trait Transport: Send + Sync {
    /// Sends `request`, and gives the reply as soon as its headers are there. Dropping the future, or the reply's body, ends the
    /// exchange.
    ///
    /// # Errors
    /// [`ErrorKind::Network`] or [`ErrorKind::NoConnection`], where no reply came.
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, ErrorKind>>;
}

/// Looks up the names of servers.
pub trait Lookup: Send + Sync {
    /// The addresses of `host`.
    fn lookup<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, BoxError>>;
}

/// What a request or a reply carries: nothing, some bytes, or a stream of them.
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
    /// As the network's own client has it: a box around each layer's stream would be paid for by every piece.
    Reply(reqwest::Response),
}

impl Body {
    /// A stream. Of a reply, `length` is what its `Content-Length` says.
    pub fn stream<E: Into<BoxError>>(
        stream: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
        length: Option<u64>,
    ) -> Self {
        Self(Content::Stream { stream: stream.map(|piece| piece.map_err(Into::into)).fuse().boxed(), length })
    }

    /// The bytes that are still to come, where that is known.
    pub fn length(&self) -> Option<u64> {
        match &self.0 {
            Content::Nothing => Some(0),
            Content::Bytes(bytes) => Some(bytes.len() as u64),
            Content::Stream { length, .. } => *length,
            Content::Reply(reply) => reply.content_length(),
        }
    }

    /// The next piece, none at the end.
    ///
    /// # Errors
    /// [`ErrorKind::Network`], where the connection broke.
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

/// Settings of the client that the network is reached by.
#[must_use]
#[derive(Clone, Default)]
pub struct Http {
    pub(crate) tls: Option<rustls::ClientConfig>,
    pub(crate) user_agent: Option<String>,
    pub(crate) proxies: Proxies,
    pub(crate) own: Vec<(String, Http)>,
}

/// By which proxies servers are reached.
#[derive(Clone, Default)]
pub enum Proxies {
    /// As the system is set up.
    #[default]
    System,
    /// By none.
    None,
    /// By these.
    Named {
        /// The address of the proxy for plain http.
        http: Option<String>,
        /// The address of the proxy for https.
        https: Option<String>,
        /// What is reached without, in the form of `NO_PROXY`.
        direct: String,
    },
}

impl Http {
    /// How TLS is spoken: with which authorities, with which certificate of ours.
    pub fn tls(mut self, tls: rustls::ClientConfig) -> Self {
        self.tls = Some(tls);
        self
    }

    /// How we name ourselves.
    pub fn user_agent(mut self, name: &str) -> Self {
        self.user_agent = Some(name.to_owned());
        self
    }

    /// By which proxies servers are reached.
    pub fn proxies(mut self, proxies: Proxies) -> Self {
        self.proxies = proxies;
        self
    }

    /// Settings of its own for `host` (with its port where it has one): its CA, a certificate of ours that is for it alone.
    pub fn for_host(mut self, host: &str, http: Http) -> Self {
        self.own.push((host.to_ascii_lowercase(), http));
        self
    }
}
