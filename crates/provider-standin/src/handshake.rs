//! How terraform and a plugin find each other: a line on stdout, then gRPC over TLS with a certificate for each side.
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

/// Tells terraform's plugins from programs that somebody starts by hand.
const COOKIE: &str = "TF_PLUGIN_MAGIC_COOKIE";
/// The certificate that terraform will show.
const CLIENT_CERTIFICATE: &str = "PLUGIN_CLIENT_CERT";

/// Serves until terraform says that it is done.
pub(crate) async fn serve() -> anyhow::Result<()> {
    if std::env::var_os(COOKIE).is_none() {
        bail!("this is a terraform provider ({}): terraform starts it", crate::VERSION);
    }
    // Ctrl-C reaches the whole process group. Terraform decides what becomes of it: a plugin that ends in the middle of
    // a creation loses the resource.
    let mut interrupts = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
    tokio::spawn(async move { while interrupts.recv().await.is_some() {} });

    crypto::choose_ring();
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let mut tls =
        ServerTlsConfig::new().identity(Identity::from_pem(own.cert.pem(), own.signing_key.serialize_pem()));
    if let Ok(client) = std::env::var(CLIENT_CERTIFICATE) {
        // Optional: go-plugin shows its certificate only when it is asked for one by name.
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
            // An error means that the sender is gone, and then it is over too.
            let _ = ended.wait_for(|over| *over).await;
        })
        .await?;
    Ok(())
}

/// Stdout belongs to the protocol: one line, at once.
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
        // Without a receiver the server has ended already.
        let _ = self.end.send(true);
        Ok(tonic::Response::new(Empty {}))
    }
}
