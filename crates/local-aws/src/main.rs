//! The emulated AWS as a program.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use local_aws::{Config, Quirk, Server};

/// ECR, S3, STS, KMS and an OCI registry on loopback, with ECR's quirks
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until SIGTERM or Ctrl-C; DIR/server.json says where
    Serve(Serve),
}

#[derive(Args)]
struct Serve {
    /// Everything that lasts lies here
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Port on 127.0.0.1; 0 lets the kernel choose
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Account of callers whose access key is not an account's number itself
    #[arg(long, default_value = "123456789012", value_parser = account)]
    account: String,
    /// Where a pull-through upstream really is, e.g. public.ecr.aws=http://127.0.0.1:5000/public.ecr.aws
    #[arg(long = "upstream", value_name = "HOST=URL", value_parser = upstream)]
    upstreams: Vec<(String, String)>,
    /// A quirk to switch on, e.g. throttle-put-image
    #[arg(long = "quirk", value_name = "NAME")]
    quirks: Vec<Quirk>,
    /// How long a registry token is good for
    #[arg(long, value_name = "SECONDS", default_value_t = 12 * 3600)]
    token_lifetime: u64,
    /// How long a cached tag is served before the upstream is asked again
    #[arg(long, value_name = "SECONDS", default_value_t = 24 * 3600)]
    pull_through_refresh: u64,
    /// Where all requests to AWS's own services are written down with their answers, secrets included: for tests
    #[arg(long, value_name = "FILE", env = "LOCAL_AWS_TRAFFIC")]
    traffic: Option<PathBuf>,
}

fn upstream(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .filter(|(host, url)| !host.is_empty() && !url.is_empty())
        .map(|(host, url)| (host.to_owned(), url.to_owned()))
        .ok_or_else(|| "expected HOST=URL".to_owned())
}

fn account(text: &str) -> Result<String, String> {
    if text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(text.to_owned());
    }
    Err("an account has twelve digits".to_owned())
}

fn main() -> anyhow::Result<()> {
    let Command::Serve(serve) = Cli::parse().command;
    let mut config = Config::new(serve.data);
    config.port = serve.port;
    config.account = serve.account;
    config.upstreams = serve.upstreams;
    config.quirks = serve.quirks;
    config.token_lifetime = Duration::from_secs(serve.token_lifetime);
    config.pull_through_refresh = Duration::from_secs(serve.pull_through_refresh);
    config.traffic = serve.traffic;
    // Before the server starts, so that no signal is lost.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
        let server = Server::start(config)?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        server.stop();
        Ok(())
    })
}
