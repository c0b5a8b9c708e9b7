//! `cargo xtask bench`: compares the mirror with other tools, over two real registries.
//!
//! All files are below `target/bench/`; all started programs end with the run.

mod accesslog;
mod catalog;
mod cells;
mod content;
mod copies;
mod delay;
mod floor;
mod link;
mod measure;
mod process;
mod registry;
mod report;
mod run;
mod runtimes;
mod sets;
mod static_source;
mod stats;
mod store;
mod tools;

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

/// Measure `transfer-images` side by side with every other copier in PATH
#[derive(Debug, Parser)]
#[command(name = "bench", args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    part: Option<Part>,
}

/// What is measured.
#[derive(Debug, Args)]
pub struct Options {
    /// Every set, variant, link and peer, 9 rounds, without a limit of time (the default ends within 20 minutes)
    #[arg(long)]
    pub full: bool,
    /// Only how the cost of an image grows with their number (`--only scale`); fails where it is more than is asked
    #[arg(long, conflicts_with_all = ["only", "full"])]
    pub soak: bool,
    /// Rounds of each comparison [default: 5; 9 for single manifests on loopback and with --full; docker and scale 3; the 4 GiB layer 2]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: Option<u32>,
    /// Only these image sets; `runtimes` builds four runtimes beside plain `docker build` instead, and cannot be combined
    #[arg(long, value_name = "SET", value_enum)]
    pub only: Vec<catalog::Set>,
    /// Only these links
    #[arg(long, value_name = "LINK", value_enum)]
    pub link: Vec<link::Kind>,
    /// Only these tools
    #[arg(long, value_name = "TOOL", value_enum)]
    pub tool: Vec<tools::Tool>,
    /// The xtask to measure: what the alias runs [default: beside this program]
    #[arg(long, value_name = "FILE")]
    pub xtask: Option<PathBuf>,
    /// Where everything goes [default: target/bench]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Large uploads at once for the floor: as many as ours does
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub floor_jobs: usize,
}

/// Parts that run as processes of their own.
#[derive(Debug, Subcommand)]
enum Part {
    /// Run the programs of one measurement
    #[command(hide = true)]
    Measure { spec: PathBuf },
    /// Become a program that ends when the caller does
    #[command(hide = true)]
    Tether {
        #[arg(last = true)]
        argv: Vec<String>,
    },
    /// Relay with a delay
    #[command(hide = true)]
    DelayLine {
        #[arg(long)]
        to: SocketAddr,
        #[arg(long)]
        delay_ms: u64,
    },
    /// Hand out the images of a store
    #[command(hide = true)]
    Serve {
        #[arg(long)]
        addr: SocketAddr,
        #[arg(long)]
        store: PathBuf,
    },
    /// Upload a set and nothing else
    #[command(hide = true)]
    Floor {
        #[arg(long)]
        catalog: PathBuf,
        #[arg(long)]
        store: PathBuf,
        #[arg(long)]
        target: String,
        #[arg(long, value_enum)]
        variant: catalog::Variant,
        #[arg(long)]
        jobs: usize,
    },
}

/// Prints a line on stdout. A closed stdout does not stop the measurement.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Prints a line of progress on stderr.
fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.part {
        None => run::run(&cli.options),
        Some(Part::Measure { spec }) => measure::run(&spec),
        Some(Part::Tether { argv }) => process::run_with_parent(&argv),
        Some(Part::DelayLine { to, delay_ms }) => delay::run(to, Duration::from_millis(delay_ms)),
        Some(Part::Serve { addr, store }) => static_source::run(addr, &store),
        Some(Part::Floor { catalog, store, target, variant, jobs }) => {
            floor::run(&catalog, &store, &target, variant, jobs)
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&format!("bench: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
