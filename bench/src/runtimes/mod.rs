//! Four runtimes built cold: in parallel by ours, and sequentially by plain `docker build`.
//!
//! `cargo xtask bench` starts a current docker with buildx for it; there, `docker buildx bake`, which also builds in parallel, is compared
//! too. Otherwise the machine's own docker is used.
//!
//! All build the project's own Dockerfile on the same pinned bases with the same client, engine and flags (`--no-cache --pull`). Before
//! each turn everything is removed that an earlier one left in the engine, including the bases. A wrapper of docker's client records when
//! each `docker build` begins and ends: the part of ours' wall time without a build is its own overhead.

mod docker;
mod table;
mod turn;

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use anyhow::{Context as _, Result};
use sample_upstreams::Store as Samples;
use serde::Serialize;

use crate::process::check_interrupt;
use crate::registry::Registry;
use crate::store::Store;
use crate::{Options, say, tell};
use docker::Docker;
use table::table;
use turn::Site;

const ROUNDS: u32 = 5;

/// One turn: its wall time, and the part of it without a `docker build`, in seconds.
#[derive(Clone, Copy, Debug, Serialize)]
struct Turn {
    wall_s: f64,
    outside_s: f64,
}

/// The compared tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Contender {
    /// `docker build`, four times.
    Plain,
    /// `docker buildx bake`, once.
    Bake,
    /// `rebuild-runtimes`.
    Ours,
    /// `transfer-images`: built, pushed, read back and tagged.
    Pushed,
}

impl Contender {
    const ALL: [Self; 4] = [Self::Plain, Self::Bake, Self::Ours, Self::Pushed];

    fn title(self) -> &'static str {
        match self {
            Self::Plain => "`docker build`, one after another",
            Self::Bake => "`docker buildx bake` of the same targets",
            Self::Ours => "ours, `rebuild-runtimes`",
            Self::Pushed => "ours, `transfer-images`: with push, read back, tags",
        }
    }
}

/// Measures, prints the table and writes `runtimes.md` and `runtimes.json`.
///
/// # Errors
/// A build fails, or there is no engine, root or debootstrap to create the bases.
pub fn run(options: &Options, out: &Path, xtask: &Path) -> Result<()> {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace")?.to_owned();
    let samples = sample_upstreams::build(
        &out.parent().unwrap_or(out).join("local/sample-upstreams"),
        &sample_upstreams::Options::default(),
    )?;
    let store = Store::new(out.join("runtimes"));
    store.wipe()?;
    let site = Site {
        docker: Docker::new(out)?,
        upstream: serve(samples.clone())?,
        registry: Registry::start(
            "runtimes",
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            &store,
            &out.join("registries"),
        )?,
        out: out.to_owned(),
        xtask: xtask.to_owned(),
        project,
        samples,
    };
    site.images_toml()?;
    let contenders = Contender::ALL
        .into_iter()
        .filter(|contender| *contender != Contender::Bake || site.docker.has_buildx());
    let mut turns: Vec<(Contender, Vec<Turn>)> =
        contenders.map(|contender| (contender, Vec::new())).collect();
    let rounds = options.rounds.unwrap_or(ROUNDS);
    for round in 0..rounds {
        for (contender, done) in &mut turns {
            check_interrupt()?;
            site.forget();
            store.wipe()?;
            let turn = site.turn(*contender)?;
            tell(&format!("  round {}: {}: {:.1} s", round + 1, contender.title(), turn.wall_s));
            done.push(turn);
        }
    }
    site.forget();
    store.wipe()?;
    let table = table(&turns, &site.docker.versions()?);
    fs::write(out.join("runtimes.md"), &table)?;
    fs::write(out.join("runtimes.json"), serde_json::to_vec_pretty(&turns)?)?;
    say(&table);
    Ok(())
}

/// Serves the sample registries until this process ends.
fn serve(samples: Samples) -> Result<String> {
    let (sender, receiver) = std::sync::mpsc::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("samples".to_owned()).spawn(move || {
        runtime.block_on(async {
            let Ok(server) =
                sample_upstreams::Server::start(samples, sample_upstreams::Config::default()).await
            else {
                return;
            };
            let _ = sender.send(server.address().to_string());
            std::future::pending::<()>().await;
        });
    })?;
    receiver.recv().context("the sample registries did not start")
}
