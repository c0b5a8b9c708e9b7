//! Why a command cannot start on this machine.

use process::ProcessError;

use super::modern_docker::ModernDockerError;

/// Why a command cannot start on this machine.
#[derive(Debug, thiserror::Error)]
pub enum PrerequisiteError {
    /// Things that only a person can bring, one step each.
    #[error("this machine lacks what is needed:{}", steps_text(steps))]
    Missing {
        /// What to do, one thing at a time.
        steps: Vec<String>,
    },
    /// The question was answered no.
    #[error("nothing was installed or started; to do it yourself:{}", steps_text(steps))]
    Refused {
        /// What to do, one thing at a time.
        steps: Vec<String>,
    },
    /// The user's own engine is the one to use, and does not answer.
    #[error("the docker engine at {address} does not answer: {reason}")]
    EngineSilent {
        /// Where the environment says it is.
        address: String,
        /// What the client said.
        reason: String,
    },
    /// The engine is there for others only.
    #[error(
        "this user may not use the docker engine; add the user to its group (usermod -aG docker USER), log in again, or run this as root"
    )]
    EngineForbidden,
    /// Two engines on one network would take each other's bridge and firewall rules.
    #[error("{}", other_text(*pid, address.as_deref()))]
    OtherEngine {
        /// The other engine's process.
        pid: u32,
        /// Where it listens, if its command line says so.
        address: Option<String>,
    },
    /// An engine was started and gave up.
    #[error("the docker engine ended while it started; the end of {log}:{}", steps_text(tail))]
    EngineFailed {
        /// Its log.
        log: String,
        /// The log's last lines.
        tail: Vec<String>,
    },
    /// An engine was started or told to end, and did neither in time.
    #[error("the docker engine did not {what} within {seconds} s; its log is {log}")]
    EngineSlow {
        /// What it was to do.
        what: &'static str,
        /// How long it had.
        seconds: u64,
        /// Its log.
        log: String,
    },
    /// apt or another program failed.
    #[error("could not {action}")]
    Program {
        /// What it was to do.
        action: String,
        /// How it failed.
        source: ProcessError,
    },
    /// No docker for the tests' own engines.
    #[error("could not set up docker for the tests")]
    ModernDocker(#[from] ModernDockerError),
    /// A file of the engine's could not be written.
    #[error("could not write {path}")]
    File {
        /// The file or directory.
        path: String,
        /// What the operating system said.
        source: std::io::Error,
    },
}

fn steps_text(steps: &[String]) -> String {
    steps.iter().map(|step| format!("\n  - {step}")).collect()
}

fn other_text(pid: u32, address: Option<&str>) -> String {
    let told =
        format!("a docker engine runs here already (process {pid}), but not where docker looks for it; ");
    match address {
        Some(address) => format!("{told}use it: export DOCKER_HOST={address}"),
        None => format!("{told}set DOCKER_HOST to its address, or end it"),
    }
}
