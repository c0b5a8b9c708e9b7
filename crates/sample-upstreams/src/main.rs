//! `sample-upstreams`: builds and serves sample images under the upstreams' own names.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};
use sample_upstreams::{Config, Options, Scale, Server, Store, build, images};
use serde_json::json;

#[derive(Parser)]
#[command(version, about, long_about = None)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make the images, unless they are there already
    Build {
        /// Where they are kept
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// Tiny images, and bases without a root file system: needs neither root nor debootstrap
        #[arg(long)]
        small: bool,
        /// Take the images that another data directory holds, its tags as they were built
        #[arg(long, value_name = "DIR", conflicts_with = "small")]
        from: Option<PathBuf>,
    },
    /// Serve them on 127.0.0.1 until SIGTERM; DIR/server.json says where
    Serve {
        /// Where the images are
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// Port; 0 lets the kernel choose
        #[arg(long, default_value_t = 0)]
        port: u16,
        /// Registries that want an anonymous token, as Docker Hub does
        #[arg(long, value_name = "HOST", default_value = "docker.io")]
        token: Vec<String>,
        /// No registry wants a token
        #[arg(long, conflicts_with = "token")]
        no_token: bool,
        /// Seconds until a token expires
        #[arg(long, value_name = "SECONDS", default_value_t = 300)]
        token_lifetime: u64,
        /// Manifest GETs that Docker Hub allows
        #[arg(long, value_name = "N", default_value_t = 100)]
        pull_limit: u64,
    },
    /// Publish a changed version of an image: its tag moves, as an upstream's does
    Touch {
        /// Where the images are
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// For example docker.io/curlimages/curl:7.85.0
        image: String,
    },
    /// Move all tags back to what was built
    Reset {
        /// Where the images are
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
    },
    /// List the images with their digests
    List {
        /// Where the images are
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse().command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // If stderr is closed, the error cannot be shown.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    match command {
        Command::Build { data, small, from } => {
            if let Some(from) = from {
                Store::open(&from)?.copy_to(&data)?;
            } else {
                let scale = if small { Scale::Small } else { Scale::Full };
                build(&data, &Options { scale })?;
            }
        }
        Command::Serve { data, port, token, no_token, token_lifetime, pull_limit } => {
            let config = Config {
                port,
                token_registries: if no_token { BTreeSet::new() } else { token.into_iter().collect() },
                token_lifetime: Duration::from_secs(token_lifetime),
                pull_limit,
            };
            serve(&data, config).await?;
        }
        Command::Touch { data, image } => {
            let (old, new) = Store::open(&data)?.touch(&image)?;
            writeln!(out, "{image} {old} -> {new}")?;
        }
        Command::Reset { data } => Store::open(&data)?.reset()?,
        Command::List { data } => {
            let store = Store::open(&data)?;
            for image in images() {
                let path = format!("{}/{}", image.registry(), image.repository());
                let digest = store.digest(&path, image.tag())?.unwrap_or_default();
                writeln!(out, "{path}:{} {digest}", image.tag())?;
            }
        }
    }
    Ok(())
}

async fn serve(data: &Path, config: Config) -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("could not wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("could not wait for SIGINT")?;
    let server = Server::start(Store::open(data)?, config).await?;
    let path = data.join("server.json");
    let description = json!({
        "pid": std::process::id(),
        "port": server.address().port(),
        "version": env!("CARGO_PKG_VERSION"),
    });
    let mut file = tempfile::NamedTempFile::new_in(data).context("could not write server.json")?;
    writeln!(file, "{description}").context("could not write server.json")?;
    file.persist(&path).context("could not write server.json")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    // The file exists only while the server runs; after a kill, its PID shows that it is outdated.
    std::fs::remove_file(&path).context("could not remove server.json")
}
