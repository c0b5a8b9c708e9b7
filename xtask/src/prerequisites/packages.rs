//! The operating system, and its packages.

use std::path::Path;

use process::{KillHandle, ProcessError, cmd};

use super::{PrerequisiteError, search_path};

/// The systems, by how packages can be installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum System {
    /// Debian, Ubuntu or a derivative, with apt.
    Debian {
        /// Whether this process may install packages.
        root: bool,
    },
    /// macOS, where Homebrew is common.
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

/// Whether this is Ubuntu, whose archive lacks some of Debian's packages.
pub(super) fn is_ubuntu() -> bool {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    release.lines().any(|line| line.trim() == "ID=ubuntu")
}

/// Packages of newer releases only, with the package that replaces each elsewhere. `None` if another requested one includes it.
const NEWER: &[(&str, Option<&str>)] = &[("docker-cli", Some("docker.io")), ("docker-buildx", None)];

/// Installs those of `packages` that are missing. Updates apt's lists only if needed.
pub(super) async fn install(packages: &[&str], say: &(dyn Fn(&str) + Sync)) -> Result<(), PrerequisiteError> {
    let mut chosen = choose(packages, &policy(packages)?);
    let mut updated = false;
    if chosen.is_none() {
        update(say).await?;
        updated = true;
        chosen = choose(packages, &policy(packages)?);
    }
    // apt itself reports packages that it still does not know.
    let chosen = chosen.unwrap_or_else(|| packages.to_vec());
    say(&format!("installing {}", chosen.join(", ")));
    match apt_get(&["install", "--no-install-recommends"], &chosen).await {
        // Outdated lists name files that the archive has replaced.
        Err(ProcessError::Failed { tail, .. })
            if !updated
                && tail.iter().any(|line| line.contains("404") || line.contains("apt-get update")) =>
        {
            update(say).await?;
            apt_get(&["install", "--no-install-recommends"], &chosen).await
        }
        result => result,
    }
    .map_err(|source| PrerequisiteError::Program { action: format!("install {}", chosen.join(", ")), source })
}

/// The packages to install, by apt's data. `None` if its lists are incomplete.
fn choose<'a>(packages: &[&'a str], policy: &str) -> Option<Vec<&'a str>> {
    let mut chosen = Vec::new();
    for package in packages {
        let newer = NEWER.iter().find(|(name, _)| name == package);
        match newer {
            _ if candidate(policy, package).is_some() => chosen.push(*package),
            Some((_, Some(other))) if candidate(policy, other).is_some() => chosen.push(*other),
            Some((_, None)) => {}
            _ => return None,
        }
    }
    chosen.sort_unstable();
    chosen.dedup();
    Some(chosen)
}

async fn update(say: &(dyn Fn(&str) + Sync)) -> Result<(), PrerequisiteError> {
    say("updating apt's package lists");
    let result = apt_get(&["update"], &[]).await;
    result
        .map_err(|source| PrerequisiteError::Program { action: "update apt's package lists".into(), source })
}

async fn apt_get(command: &[&str], packages: &[&str]) -> Result<(), ProcessError> {
    let command = cmd!(process::shell()?, "apt-get -q -y {command...} {packages...}");
    command
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("PATH", search_path())
        // Errors are recognised by their messages.
        .env("LC_ALL", "C.UTF-8")
        .stream(KillHandle::default(), |line| tracing::debug!("apt-get: {line}"))
        .await
}

/// apt's data about `packages` and their replacements.
fn policy(packages: &[&str]) -> Result<String, PrerequisiteError> {
    let others = NEWER.iter().filter(|(name, _)| packages.contains(name)).filter_map(|(_, other)| *other);
    let asked = process::shell().and_then(|sh| {
        cmd!(sh, "apt-cache policy {packages...} {others...}").env("LC_ALL", "C.UTF-8").read()
    });
    asked.map_err(|source| PrerequisiteError::Program { action: "ask apt for its packages".into(), source })
}

/// The version of a package that apt would install, from `apt-cache policy`.
pub(super) fn candidate<'a>(policy: &'a str, package: &str) -> Option<&'a str> {
    let heading = format!("{package}:");
    let of_package = policy.lines().skip_while(|line| **line != heading).skip(1);
    // The next heading starts another package.
    let mut lines = of_package.take_while(|line| line.starts_with(' '));
    let candidate = lines.find_map(|line| line.trim_start().strip_prefix("Candidate: "));
    candidate.filter(|candidate| *candidate != "(none)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_without_a_candidate_is_omitted() {
        assert_eq!(candidate(BOOKWORM, "docker.io"), Some("20.10.24"));
        assert_eq!(candidate(BOOKWORM, "old"), None);
        assert_eq!(candidate(BOOKWORM, "docker-buildx"), None);
    }

    const BOOKWORM: &str = "docker.io:\n  Installed: (none)\n  Candidate: 20.10.24\n  Version table:\n\
                            old:\n  Installed: (none)\n  Candidate: (none)\n  Version table:\n";
    const TRIXIE: &str = "docker-cli:\n  Candidate: 26.1.5\ndocker-buildx:\n  Candidate: 0.13.1\n\
                          docker.io:\n  Candidate: 26.1.5\n";

    #[test]
    fn the_client_is_in_the_package_of_its_release() {
        let client = ["docker-cli", "docker-buildx"];
        assert_eq!(choose(&client, TRIXIE), Some(vec!["docker-buildx", "docker-cli"]));
        assert_eq!(choose(&client, BOOKWORM), Some(vec!["docker.io"]));
        assert_eq!(choose(&["docker-cli", "docker-buildx", "docker.io"], BOOKWORM), Some(vec!["docker.io"]));
        // Empty lists must be updated first.
        assert_eq!(choose(&client, ""), None);
        assert_eq!(choose(&["docker.io"], ""), None);
    }
}
