//! Shared code of the end-to-end tests: a separate world for each test, the real programs, and clients that check the result.
//!
//! A [`World`] has its own emulated AWS, cargo target directory (with the tool's cache), home, docker configuration and sample registries,
//! and ends what was started in it. The programs are compiled once and are in the test program's directory. A test that needs a missing
//! program reports it and does nothing; with [`COMPLETE`] set it fails.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a harness of tests: whatever goes wrong here ends the test with its place"
)]

mod after_kill;
mod authority;
mod aws;
mod background;
mod base;
mod browser;
mod builders;
mod container;
mod emulator;
mod engine;
pub mod faulty_servers;
mod gate;
mod grid;
mod http;
mod machine;
mod project;
mod recording;
mod registry;
mod relay;
mod released;
mod run;
mod s3;
mod saved;
pub mod schema;
mod signing;
mod slow_link;
mod sources;
mod terminal;
mod traffic;
mod world;

pub use after_kill::{completes, orphans, wait_for_terraform};
pub use authority::{Authority, request_head};
pub use aws::Aws;
pub use base::{Base, File, files};
pub use browser::Browser;
pub use builders::{Builder, Engine};
pub use container::{Container, LocalBuilds, engine};
pub use emulator::Emulator;
pub use engine::SeparateEngine;
pub use gate::{BOUND, Gate};
pub use grid::{
    BUCKET, INIT, INTERRUPTED, STATE, STATE_ALIAS, TERRAFORM, checkout, set_as_cloudformation_does,
};
pub use http::{MANIFESTS, Response, get, request};
pub use machine::{Docker, Machine};
pub use project::{DOCKERFILE, Project};
pub use recording::Recording;
pub use registry::DebianRegistry;
pub use relay::Relay;
pub use released::{RELEASED, outside, outside_at_aws, released};
pub use run::{Ended, Run, Running, write_cargo};
pub use s3::S3;
pub use saved::Saved;
pub use signing::{CERTIFIED, KeyHolder, Signature, Sigstore, TestRepository, of_rekor_2};
pub use slow_link::SlowLink;
pub use sources::{Images, REGISTRIES, Sources};
pub use terminal::Terminal;
pub use traffic::aws_cli;
pub use world::World;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use sha2::{Digest as _, Sha256};

/// Set by `cargo xtask test`: a test fails if a program that it needs is missing.
pub const COMPLETE: &str = "HTC_GRID_TEST_COMPLETE";

/// The ID of the emulated account.
pub const ACCOUNT: &str = "123456789012";
/// The default region.
pub const REGION: &str = "eu-west-1";

/// Prints a test's result directly to stderr, past the test harness.
pub fn say(words: &str) {
    let _ = writeln!(std::io::stderr(), "{words}");
}

/// The number of a loop's rounds: `few`, or `all` with `cargo xtask test --soak`.
pub fn rounds(few: usize, all: usize) -> usize {
    if std::env::var_os("SOAK").is_some() { all } else { few }
}

/// The seed of a randomized test: `E2E_SEED`, or a new one that is printed.
pub fn seed() -> u64 {
    let given = std::env::var("E2E_SEED").ok().and_then(|seed| seed.parse().ok());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let seed = given.unwrap_or(now);
    say(&format!("E2E_SEED={seed}"));
    seed
}

/// A random number below `bound`, by a generator (<https://prng.di.unimi.it/splitmix64.c>) with this `state`.
pub fn random(state: &mut u64, bound: usize) -> usize {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    usize::try_from((z ^ (z >> 31)) % u64::try_from(bound).unwrap()).unwrap()
}

/// The workspace.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// `sha256:...` of `bytes`.
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// Reports that something is missing, directly to stderr: the test harness does not show the output of a passing test.
pub fn skip(missing: &str) {
    assert!(std::env::var_os(COMPLETE).is_none(), "{missing}");
    let _ = writeln!(std::io::stderr(), "SKIPPED: {missing}");
}

/// A program by its name in PATH; reports if it is missing.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file());
    if found.is_none() {
        skip(&format!("{name} is not in PATH"));
    }
    found
}

/// Whether all of `names` are in PATH.
pub fn programs(names: &[&str]) -> bool {
    names.iter().all(|name| program(name).is_some())
}

/// Whether a docker engine answers.
pub fn docker() -> bool {
    static ANSWERS: OnceLock<bool> = OnceLock::new();
    let Some(docker) = program("docker") else { return false };
    let answers =
        *ANSWERS.get_or_init(|| command(docker).arg("info").output().is_ok_and(|out| out.status.success()));
    if !answers {
        skip("no docker engine answers (see DOCKER_HOST)");
    }
    answers
}

/// A program that inherits this process's environment.
pub fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    #[expect(
        clippy::disallowed_methods,
        reason = "the tests are no part of xtask, whose crate `process` starts its programs"
    )]
    let mut command = Command::new(program);
    command.stdin(std::process::Stdio::null());
    command
}

/// The stdout of a command that succeeds.
pub fn read(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} ended with {}:\n{text}", output.status);
    output.stdout
}

/// [`read`], as trimmed text.
pub fn text(command: &mut Command) -> String {
    String::from_utf8(read(command)).unwrap().trim().to_owned()
}

/// All files at and below these paths whose content contains `words`.
pub fn files_with(paths: impl Into<Vec<PathBuf>>, words: &str) -> Vec<PathBuf> {
    let (mut paths, mut found) = (paths.into(), Vec::new());
    while let Some(path) = paths.pop() {
        let Ok(kind) = path.symlink_metadata() else { continue };
        if kind.is_dir() {
            paths.extend(path.read_dir().unwrap().map(|entry| entry.unwrap().path()));
        } else if kind.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            if bytes.windows(words.len()).any(|window| window == words.as_bytes()) {
                found.push(path);
            }
        }
    }
    found
}

/// The tool with something disabled whose absence a test must detect, by features of its package that no released program has. Only the
/// tool itself is compiled again, not its dependencies.
pub fn control(features: &str) -> PathBuf {
    let mut cargo = cargo();
    cargo.args(["build", "--features", features]).env("CARGO_BUILD_BUILD_DIR", target());
    compile(cargo, &["xtask"], &target().join(format!("control-{features}")))
}

/// cargo's target directory in which these tests were built: the nearest parent directory with cargo's tag file.
pub fn target() -> &'static Path {
    static TARGET: OnceLock<PathBuf> = OnceLock::new();
    TARGET.get_or_init(|| {
        let test = std::env::current_exe().unwrap();
        // target/debug/deps/NAME, or target/TRIPLE/debug/deps/NAME.
        let marked = test.ancestors().skip(3).take(2).find(|dir| dir.join("CACHEDIR.TAG").is_file());
        marked.or(test.ancestors().nth(3)).unwrap().to_owned()
    })
}

/// cargo in this workspace, without the variables for this package, which would make cargo compile crates that read them (ring) again.
pub fn cargo() -> Command {
    let mut cargo = command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|about| name.to_string_lossy().starts_with(about)) {
            cargo.env_remove(name);
        }
    }
    cargo.current_dir(root());
    cargo
}

/// cargo's directory of programs; they are compiled on the first call, unless `cargo xtask test` has done it.
pub fn built() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        if let Some(place) = std::env::var_os("HTC_GRID_TEST_BUILT") {
            return place.into();
        }
        let mut program = PathBuf::new();
        // The selections of packages that the tool itself compiles: another one would compile all dependencies again.
        for packages in [&["xtask"][..], &["local-aws", "provider-standin", "sample-upstreams"]] {
            let mut cargo = cargo();
            cargo.arg("build");
            program = compile(cargo, packages, target());
        }
        program.parent().unwrap().to_owned()
    })
}

/// Compiles `packages` into `target` and returns the last one's program, with the path from cargo's output.
fn compile(mut cargo: Command, packages: &[&str], target: &Path) -> PathBuf {
    cargo.args(["--quiet", "--message-format", "json", "--target-dir"]).arg(target);
    let said = text(cargo.args(packages.iter().flat_map(|package| ["--package", package])));
    let messages = said.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let mut programs = messages.filter(|message| message["target"]["name"] == **packages.last().unwrap());
    let program = programs.find_map(|message| Some(PathBuf::from(message["executable"].as_str()?)));
    program.unwrap_or_else(|| panic!("cargo says nothing of a program of {packages:?}"))
}
