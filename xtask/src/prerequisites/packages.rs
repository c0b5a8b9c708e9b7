//! The system, and its packages.

use std::path::Path;

use super::PrerequisiteError;
use crate::process::{Cmd, Killer, ProcessError};

/// What can be installed here, and by whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum System {
    /// Debian, Ubuntu or one of their children, with apt.
    Debian {
        /// Whether this process may install.
        root: bool,
    },
    /// macOS, where Homebrew is what people have.
    MacOs,
    /// Anything else.
    Other,
}

impl System {
    /// This machine.
    pub(super) fn detect() -> Self {
        if cfg!(target_os = "macos") {
            Self::MacOs
        } else if Path::new("/etc/debian_version").exists() && which::which("apt-get").is_ok() {
            Self::Debian { root: rustix::process::geteuid().is_root() }
        } else {
            Self::Other
        }
    }
}

/// Installs those of `packages` that apt knows and that are not there yet; its lists are only brought up to date where that is needed.
pub(super) async fn install(packages: &[&str], say: &(dyn Fn(&str) + Sync)) -> Result<(), PrerequisiteError> {
    let mut known = candidates(packages)?;
    // The first of a need's packages is the one that every release has.
    let mut updated = false;
    if packages.iter().any(|package| is_everywhere(package) && !known.contains(package)) {
        update(say).await?;
        updated = true;
        known = candidates(packages)?;
    }
    say(&format!("installing {}", known.join(", ")));
    match apt_get(&["install", "--no-install-recommends"], &known).await {
        // Lists that are too old name files that the archive has replaced.
        Err(ProcessError::Failed { tail, .. })
            if !updated
                && tail.iter().any(|line| line.contains("404") || line.contains("apt-get update")) =>
        {
            update(say).await?;
            apt_get(&["install", "--no-install-recommends"], &known).await
        }
        result => result,
    }
    .map_err(|source| PrerequisiteError::Program { action: format!("install {}", known.join(", ")), source })
}

/// Packages that only newer releases have are taken where they are.
fn is_everywhere(package: &str) -> bool {
    !matches!(package, "docker-cli" | "docker-buildx")
}

async fn update(say: &(dyn Fn(&str) + Sync)) -> Result<(), PrerequisiteError> {
    say("updating apt's package lists");
    let result = apt_get(&["update"], &[]).await;
    result
        .map_err(|source| PrerequisiteError::Program { action: "update apt's package lists".into(), source })
}

async fn apt_get(command: &[&str], packages: &[&str]) -> Result<(), ProcessError> {
    Cmd::new("apt-get")
        .args(["-q", "-y"])
        .args(command)
        .args(packages)
        .env("DEBIAN_FRONTEND", "noninteractive")
        // Errors are recognised by their words.
        .env("LC_ALL", "C.UTF-8")
        .stream(Killer::default(), |line| tracing::debug!("apt-get: {line}"))
        .await
}

/// Those of `packages` that apt could install.
fn candidates<'a>(packages: &[&'a str]) -> Result<Vec<&'a str>, PrerequisiteError> {
    let policy = Cmd::new("apt-cache").arg("policy").args(packages).env("LC_ALL", "C.UTF-8").read();
    let policy = policy
        .map_err(|source| PrerequisiteError::Program { action: "ask apt for its packages".into(), source })?;
    Ok(packages.iter().copied().filter(|package| has_candidate(&policy, package)).collect())
}

fn has_candidate(policy: &str, package: &str) -> bool {
    let heading = format!("{package}:");
    let mut lines = policy.lines().skip_while(|line| **line != heading).skip(1);
    let candidate = lines.find_map(|line| line.trim_start().strip_prefix("Candidate: "));
    candidate.is_some_and(|candidate| candidate != "(none)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_without_a_candidate_is_left_out() {
        let policy = "docker.io:\n  Installed: (none)\n  Candidate: 20.10.24\n  Version table:\n\
                      old:\n  Installed: (none)\n  Candidate: (none)\n  Version table:\n";
        assert!(has_candidate(policy, "docker.io"));
        assert!(!has_candidate(policy, "old"));
        assert!(!has_candidate(policy, "docker-buildx"));
    }
}
