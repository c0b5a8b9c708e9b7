//! Starts and stops the server: two listeners with one state.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::watch;

use crate::app::{App, Config};
use crate::journal::Journal;
use crate::policy::Identities;
use crate::quirks::{Quirk, Quirks};
use crate::store::Store;
use crate::store::disk;
use crate::traffic::Traffic;
use crate::uploads::Uploads;
use crate::upstreams::Upstreams;

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be read or written, or is in use.
    #[error("data directory {0} cannot be used")]
    Data(PathBuf, #[source] io::Error),
    /// The port is probably in use.
    #[error("cannot listen on 127.0.0.1:{0}")]
    Listen(u16, #[source] io::Error),
    /// The log of requests cannot be written.
    #[error("the file for the traffic cannot be written")]
    Traffic(#[source] io::Error),
    /// An upstream's URL is invalid.
    #[error("upstream {0} is not a usable http or https URL")]
    Upstream(String),
    /// The thread or the runtime could not be created.
    #[error("cannot start the runtime")]
    Runtime(#[source] io::Error),
    /// The HTTP client for upstreams could not be created.
    #[error("cannot make the client for upstreams")]
    Client(#[source] reqwest::Error),
}

/// A server that runs until it is stopped or dropped.
pub struct Server {
    app: Arc<App>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts a server on its own threads, so that it can be used in any test, with or without a runtime. When this returns, it accepts
    /// connections, and `server.json` is in the data directory.
    ///
    /// # Errors
    /// The data directory, the port or an upstream's URL cannot be used.
    pub fn start(config: Config) -> Result<Self, StartError> {
        let store =
            Store::open(&config.data).map_err(|error| StartError::Data(config.data.clone(), error))?;
        let listen = |port| {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            io::Result::Ok((listener, address))
        };
        let (listener, address) =
            listen(config.port).map_err(|error| StartError::Listen(config.port, error))?;
        let (layer_listener, layer_address) = listen(0).map_err(|error| StartError::Listen(0, error))?;
        let upstreams = Upstreams::new(&config.upstreams).map_err(StartError::Upstream)?;
        let traffic = Traffic::to(config.traffic.as_deref()).map_err(StartError::Traffic)?;
        let app = Arc::new(App {
            quirks: Quirks::new(config.quirks.clone()),
            identities: Identities::default(),
            store,
            journal: Journal::default(),
            traffic,
            uploads: Uploads::default(),
            upstreams,
            address,
            layer_address,
            config,
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(4)
            .thread_name("local-aws")
            .enable_all()
            .build()
            .map_err(StartError::Runtime)?;
        let (stop, stopped) = watch::channel(false);
        let serving = Arc::clone(&app);
        let thread = std::thread::Builder::new()
            .name("local-aws".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::join!(
                        accept(Arc::clone(&serving), listener, stopped.clone(), Place::Front),
                        accept(Arc::clone(&serving), layer_listener, stopped, Place::LayerBucket),
                    );
                });
                // Answers in progress are cut off: clients of a stopped server have to handle that anyway.
                runtime.shutdown_timeout(Duration::from_millis(500));
            })
            .map_err(StartError::Runtime)?;
        let server = Self { app, stop, thread: Some(thread) };
        server.announce().map_err(|error| StartError::Data(server.app.config.data.clone(), error))?;
        Ok(server)
    }

    fn announce(&self) -> io::Result<()> {
        let description = serde_json::json!({
            "pid": std::process::id(),
            "port": self.app.address.port(),
            "version": env!("CARGO_PKG_VERSION"),
        });
        disk::write_json(&self.app.config.data.join("server.json"), &description)
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.app.address.port()
    }

    /// `http://127.0.0.1:PORT`, for `AWS_ENDPOINT_URL`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.app.host())
    }

    /// `127.0.0.1:PORT`, the registry's host in image references.
    #[must_use]
    pub fn registry_host(&self) -> String {
        self.app.host()
    }

    /// Sets the quirks, as `POST /_local/quirks` does.
    pub fn set_quirks(&self, quirks: Vec<Quirk>) {
        self.app.quirks.set(quirks);
    }

    /// Stops the server; afterwards its data directory is no longer in use.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the server's thread panicked");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

#[derive(Clone, Copy)]
enum Place {
    Front,
    LayerBucket,
}

async fn accept(app: Arc<App>, listener: TcpListener, mut stopped: watch::Receiver<bool>, place: Place) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "cannot take the listener over");
            return;
        }
    };
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.wait_for(|stopped| *stopped) => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Probably out of file descriptors: they are released when connections end.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot set nodelay");
        }
        let app = Arc::clone(&app);
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let app = Arc::clone(&app);
                async move {
                    match place {
                        Place::Front => crate::route::answer(app, request).await,
                        Place::LayerBucket => Ok(crate::oci::layer_bucket::answer(app, request).await),
                    }
                }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .half_close(false)
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection broke");
            }
        });
    }
}
