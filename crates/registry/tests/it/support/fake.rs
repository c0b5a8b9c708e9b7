//! A registry in this process, on real sockets: it counts requests, fails the test on unknown ones, and has ECR's behaviour if
//! configured.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use registry::Digest;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::faults::{self, Fault, Rule};
use super::log::{Log, Seen};
use super::protocol::{full, kind, reply, response};
use super::spoil::{Tail, Watched, read, read_some, spoil};
use super::store::Store;

pub type Body = UnsyncBoxBody<Bytes, io::Error>;

/// The authentication that a registry requires.
#[derive(Clone, Debug, Default)]
pub enum Auth {
    #[default]
    Open,
    /// Basic, with this password.
    Basic(String),
    /// Tokens from the same server; with this fixed scope, if any.
    Bearer(Option<&'static str>),
}

/// A registry's behaviour.
#[derive(Clone, Debug, Default)]
pub struct Quirks {
    pub auth: Auth,
    /// The password that the token service requires.
    pub token_password: Option<String>,
    /// The behaviour of Amazon ECR.
    pub ecr: bool,
    /// Mounts are accepted once a manifest refers to the blob (`ecr`), or at once.
    pub mounts: bool,
    /// A mount is answered with this error.
    pub mount_error: Option<u16>,
    /// Tags cannot be moved.
    pub immutable: bool,
    /// A manifest can refer to a blob only this long after it was stored.
    pub lag: Duration,
    /// Blobs are redirected to another host.
    pub elsewhere: bool,
    /// HEAD of a blob is not allowed (public.ecr.aws).
    pub head_blob_401: bool,
    /// HEAD of a manifest is a 400 without a body.
    pub bare_400: bool,
    /// Replies about manifests have this header and count down.
    pub pulls_left: Option<u64>,
    /// `Content-Range` is not supported.
    pub no_range: bool,
    /// The referrers API is supported.
    pub referrers: bool,
    /// Stored bytes are not compared with their digest, and manifests may refer to missing blobs.
    pub gullible: bool,
    /// The percentage of replies that are a 429.
    pub throttled: u8,
    /// Blobs larger than this are counted and discarded.
    pub discard_over: Option<u64>,
}

/// The server's state.
#[derive(Default)]
pub struct Inner {
    pub store: Store,
    pub quirks: Quirks,
    pub rules: Vec<Rule>,
    pub seen: Vec<Seen>,
    pub unknown: Vec<String>,
    pub tokens: HashSet<String>,
    pub next_token: usize,
    pub refuse: Option<Duration>,
    /// Decides which replies are throttled.
    pub random: Option<fastrand::Rng>,
    /// A blob of zero bytes, generated while it is read.
    pub zeros: HashMap<Digest, u64>,
}

/// The registry. It ends with the test, and fails the test if there was an unknown request.
pub struct Fake {
    pub address: SocketAddr,
    /// The requests.
    pub log: Log,
    inner: Arc<Shared>,
    stop: watch::Sender<bool>,
}

pub struct Shared {
    pub state: Mutex<Inner>,
    pub address: SocketAddr,
    pub elsewhere: Mutex<Option<SocketAddr>>,
    /// Changes when all connections are to end.
    cut: watch::Sender<u64>,
    /// Faults that have happened.
    pub fired: watch::Sender<u64>,
}

/// The end of a connection without a reply.
#[derive(Debug)]
pub struct Cut;

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cut")
    }
}

impl std::error::Error for Cut {}

impl Fake {
    pub async fn start(quirks: Quirks) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let random = Some(fastrand::Rng::with_seed(20_261_122));
        let state = Mutex::new(Inner { quirks, random, ..Inner::default() });
        let (stop, stopped) = watch::channel(false);
        let inner = Arc::new(Shared {
            state,
            address,
            elsewhere: Mutex::new(Some(elsewhere.local_addr().unwrap())),
            cut: watch::Sender::new(0),
            fired: watch::Sender::new(0),
        });
        tokio::spawn(accept(listener, Arc::clone(&inner), stopped.clone(), false));
        tokio::spawn(accept(elsewhere, Arc::clone(&inner), stopped, true));
        Self { address, log: Log(Arc::clone(&inner)), inner, stop }
    }

    /// A registry without quirks.
    pub async fn plain() -> Self {
        Self::start(Quirks { mounts: true, ..Quirks::default() }).await
    }

    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// `host/name`
    pub fn name(&self, name: &str) -> registry::Reference {
        super::reference(&format!("{}/{name}", self.address))
    }

    fn state(&self) -> MutexGuard<'_, Inner> {
        self.inner.state.lock().unwrap()
    }

    pub fn store<T>(&self, f: impl FnOnce(&mut Store) -> T) -> T {
        f(&mut self.state().store)
    }

    pub fn quirks(&self, f: impl FnOnce(&mut Quirks)) {
        f(&mut self.state().quirks);
    }

    pub fn on(&self, rule: Rule) {
        self.state().rules.push(rule);
    }

    pub fn zeros(&self, repository: &str, digest: Digest, length: u64) {
        let mut state = self.state();
        state.zeros.insert(digest, length);
        state.store.repository(repository).blobs.insert(digest, Instant::now());
    }

    /// All tokens issued so far become invalid.
    pub fn expire(&self) {
        self.state().tokens.clear();
    }

    pub fn broken_tag(&self) -> Option<String> {
        self.state().store.broken_tag()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        let unknown = self.inner.state.lock().map(|state| state.unknown.clone()).unwrap_or_default();
        if !std::thread::panicking() {
            assert!(unknown.is_empty(), "requests that no registry knows: {unknown:?}");
        }
    }
}

async fn accept(
    listener: TcpListener,
    shared: Arc<Shared>,
    mut stopped: watch::Receiver<bool>,
    is_elsewhere: bool,
) {
    let address = listener.local_addr().unwrap();
    let mut listener = Some(listener);
    loop {
        let refuse = shared.state.lock().unwrap().refuse.take().filter(|_| !is_elsewhere);
        if let Some(pause) = refuse {
            drop(listener.take());
            shared.cut.send_modify(|count| *count += 1);
            tokio::time::sleep(pause).await;
            listener = Some(TcpListener::bind(address).await.unwrap());
        }
        let accepted = tokio::select! {
            accepted = listener.as_ref().unwrap().accept() => accepted,
            _ = stopped.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(Duration::from_millis(5)) => continue,
        };
        let Ok((socket, _)) = accepted else { continue };
        let shared = Arc::clone(&shared);
        let mut cut = shared.cut.subscribe();
        let mut stopped = stopped.clone();
        tokio::spawn(async move {
            let tail = Tail::new(Vec::new());
            let socket = TokioIo::new(Watched { socket, tail: tail.clone() });
            let service =
                service_fn(|request| handle(Arc::clone(&shared), request, is_elsewhere, tail.clone()));
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(socket, service);
            tokio::select! {
                _ = connection => {}
                _ = cut.changed() => {}
                _ = stopped.wait_for(|stop| *stop) => {}
            }
        });
    }
}

async fn handle(
    shared: Arc<Shared>,
    request: Request<Incoming>,
    is_elsewhere: bool,
    tail: Tail,
) -> Result<Response<Body>, Cut> {
    let mut number = 0;
    let reply = handle_numbered(&shared, request, is_elsewhere, &mut number, &tail).await?;
    // A test may have cleared the requests meanwhile.
    if let Some(seen) = shared.state.lock().unwrap().seen.get_mut(number) {
        seen.status = Some(reply.status().as_u16());
    }
    Ok(reply)
}

async fn handle_numbered(
    shared: &Shared,
    request: Request<Incoming>,
    is_elsewhere: bool,
    number: &mut usize,
    tail: &Tail,
) -> Result<Response<Body>, Cut> {
    let method = request.method().to_string();
    let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    let kind = if is_elsewhere { "elsewhere" } else { kind(request.uri().path()) };
    let fault = {
        let mut state = shared.state.lock().unwrap();
        let headers = request.headers().clone();
        state.seen.push(Seen {
            method: method.clone(),
            path: path.clone(),
            kind,
            at: Instant::now(),
            headers,
            status: None,
        });
        *number = state.seen.len() - 1;
        let Inner { quirks, random, rules, .. } = &mut *state;
        let hundredth = random.as_mut().map_or(100, |random| random.u8(0..100));
        if hundredth < quirks.throttled {
            Some(Fault::too_many(None))
        } else {
            faults::next(rules, &method, &path)
        }
    };
    if fault.is_some() {
        shared.fired.send_modify(|count| *count += 1);
    }
    let (parts, body) = request.into_parts();
    match fault {
        None => reply(shared, &parts, read(body, shared, None).await?, kind),
        Some(Fault::CutRequest(after)) => {
            let length =
                parts.headers.get("content-length").and_then(|length| length.to_str().ok()?.parse().ok());
            read_some(body, after % length.unwrap_or(usize::MAX).max(1)).await;
            Err(Cut)
        }
        Some(Fault::Delay(by)) => {
            tokio::time::sleep(by).await;
            reply(shared, &parts, read(body, shared, None).await?, kind)
        }
        Some(Fault::CorruptRequest(at)) => reply(shared, &parts, read(body, shared, Some(at)).await?, kind),
        Some(Fault::Hang) => {
            tokio::time::sleep(Duration::from_secs(60)).await;
            Err(Cut)
        }
        Some(Fault::Refuse(pause)) => {
            shared.state.lock().unwrap().refuse = Some(pause);
            Err(Cut)
        }
        Some(Fault::LoseReply) => {
            let body = read(body, shared, None).await?;
            reply(shared, &parts, body, kind)?;
            Err(Cut)
        }
        Some(Fault::Reply { status, headers, body }) => {
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            Ok(response.body(full(body)).unwrap())
        }
        Some(Fault::Expire) => {
            {
                let mut state = shared.state.lock().unwrap();
                state.tokens.clear();
                if let Auth::Basic(password) = &mut state.quirks.auth {
                    password.push('+');
                }
            }
            reply(shared, &parts, read(body, shared, None).await?, kind)
        }
        Some(Fault::Elsewhere) => {
            let address = shared.elsewhere.lock().unwrap().unwrap();
            let there = format!("http://{address}{}", parts.uri.path());
            Ok(response(307, &[("location", &there)], ""))
        }
        Some(Fault::SentOn { status, elsewhere }) => {
            let address = shared.elsewhere.lock().unwrap().filter(|_| elsewhere);
            let host = address.map(|address| format!("http://{address}")).unwrap_or_default();
            Ok(response(status, &[("location", &format!("{host}{path}"))], ""))
        }
        Some(fault) => {
            let body = read(body, shared, None).await?;
            let reply = reply(shared, &parts, body, kind)?;
            Ok(spoil(reply, &fault, tail).await)
        }
    }
}
