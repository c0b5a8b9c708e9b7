//! Why a command cannot start on this machine.

use process::ProcessError;

use super::modern_docker::ModernDockerError;

/// Why a command cannot start on this machine.
#[derive(Debug, thiserror::Error)]
pub enum PrerequisiteError {
    /// Things that only the user can install, one step each.
    #[error("this machine lacks what is needed:{}", steps_text(steps))]
    Missing {
        /// The steps.
        steps: Vec<String>,
    },
    /// The user answered no.
    #[error("nothing was installed or started; to do it yourself:{}", steps_text(steps))]
    Refused {
        /// The steps to do it by hand.
        steps: Vec<String>,
    },
    /// The user's chosen engine does not answer.
    #[error("the docker engine at {address} does not answer: {reason}")]
    EngineSilent {
        /// Its address in the environment.
        address: String,
        /// The client's message.
        reason: String,
    },
    /// The user has no access to the engine.
    #[error(
        "this user may not use the docker engine; add the user to its group (usermod -aG docker USER), log in again, or run this as root"
    )]
    EngineForbidden,
    /// Two engines on one network would overwrite each other's bridge and firewall rules.
    #[error("{}", other_text(*pid, address.as_deref()))]
    OtherEngine {
        /// The other engine's process ID.
        pid: u32,
        /// Its address, if it is on its command line.
        address: Option<String>,
    },
    /// An engine ended while starting.
    #[error("the docker engine ended while it started; the end of {log}:{}", steps_text(tail))]
    EngineFailed {
        /// Its log.
        log: String,
        /// The log's last lines.
        tail: Vec<String>,
    },
    /// An engine did not start or end in time.
    #[error("the docker engine did not {what} within {seconds} s; its log is {log}")]
    EngineSlow {
        /// `answer` or `end`.
        what: &'static str,
        /// The time limit.
        seconds: u64,
        /// Its log.
        log: String,
    },
    /// apt or another program failed.
    #[error("could not {action}")]
    Program {
        /// What it should have done, as a phrase after "could not".
        action: String,
        /// The program's error.
        source: ProcessError,
    },
    /// There is no docker for the tests' own engines.
    #[error("could not set up docker for the tests")]
    ModernDocker(#[from] ModernDockerError),
    /// A file of the engine could not be written.
    #[error("could not write {path}")]
    File {
        /// The file or directory.
        path: String,
        /// The error of the operating system.
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
        None => format!("{told}set DOCKER_HOST to its address, or stop it"),
    }
}
