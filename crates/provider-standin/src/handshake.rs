//! The handshake between terraform and a plugin: a line on stdout, then gRPC over TLS with a certificate for each side.
//!
//! Source: hashicorp/go-plugin, docs/internals.md and `AutoMTLS`.

use anyhow::{Context, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use tokio::sync::watch;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

use crate::crypto;
use crate::protocol::plugin::Empty;
use crate::protocol::plugin::grpc_controller_server::{GrpcController, GrpcControllerServer};
use crate::protocol::tfplugin6::provider_server::ProviderServer;
use crate::server::StandIn;

/// Shows that terraform started the plugin, and not a user.
const COOKIE: &str = "TF_PLUGIN_MAGIC_COOKIE";
/// The variable with terraform's certificate.
const CLIENT_CERTIFICATE: &str = "PLUGIN_CLIENT_CERT";

/// Serves until terraform sends the shutdown.
pub(crate) async fn serve() -> anyhow::Result<()> {
    if std::env::var_os(COOKIE).is_none() {
        bail!("this is a terraform provider ({}): terraform starts it", crate::VERSION);
    }
    // Ctrl-C reaches the whole process group, and terraform decides when the plugin ends: if it ended during a creation, the resource would
    // be lost.
    let mut interrupts = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
    tokio::spawn(async move { while interrupts.recv().await.is_some() {} });

    crypto::choose_ring();
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let mut tls =
        ServerTlsConfig::new().identity(Identity::from_pem(own.cert.pem(), own.signing_key.serialize_pem()));
    if let Ok(client) = std::env::var(CLIENT_CERTIFICATE) {
        // Optional: go-plugin sends its certificate only if it is requested by name.
        tls = tls.client_ca_root(Certificate::from_pem(client)).client_auth_optional(true);
    }

    let listener =
        tokio::net::TcpListener::bind("127.0.0.1:0").await.context("could not listen on loopback")?;
    let address = listener.local_addr()?;
    let (end, mut ended) = watch::channel(false);
    announce(&format!("1|6|tcp|{address}|grpc|{}\n", STANDARD_NO_PAD.encode(own.cert.der())))?;
    Server::builder()
        .tls_config(tls)?
        .add_service(GrpcControllerServer::new(Controller { end }))
        .add_service(ProviderServer::new(StandIn::new()?))
        .serve_with_incoming_shutdown(tokio_stream::wrappers::TcpListenerStream::new(listener), async move {
            // An error means that the sender is gone, so the server ends too.
            let _ = ended.wait_for(|over| *over).await;
        })
        .await?;
    Ok(())
}

/// Stdout is used by the protocol: one line, flushed immediately.
fn announce(line: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(line.as_bytes())?;
    stdout.flush()
}

struct Controller {
    end: watch::Sender<bool>,
}

#[tonic::async_trait]
impl GrpcController for Controller {
    async fn shutdown(&self, _: tonic::Request<Empty>) -> Result<tonic::Response<Empty>, tonic::Status> {
        // Without a receiver the server has already ended.
        let _ = self.end.send(true);
        Ok(tonic::Response::new(Empty {}))
    }
}
