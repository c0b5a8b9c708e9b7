//! The container client for all builds, which records them.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::process::read;

/// The client for all builds.
pub(super) struct Docker {
    /// Records when builds begin and end.
    pub(super) client: PathBuf,
    /// `DOCKER_CONFIG`, if the client's buildx is in a separate directory.
    pub(super) config: Option<PathBuf>,
}

impl Docker {
    pub(super) fn new(out: &Path) -> Result<Self> {
        let dir = out.join("client");
        fs::create_dir_all(&dir)?;
        let given = |name: &str| std::env::var_os(name).map(PathBuf::from);
        // Set by `cargo xtask bench`, like for the tests.
        let present = given("HTC_GRID_TEST_DOCKER")
            .zip(given("HTC_GRID_TEST_BUILDX"))
            .zip(given("HTC_GRID_TEST_CLASSIC"));
        let Some(((programs, plugin), host)) = present else {
            let docker = which::which("docker").context("docker is not in PATH")?;
            return Ok(Self { client: recorder(&dir, &docker, "")?, config: None });
        };
        let config = out.join("docker");
        match fs::remove_dir_all(&config) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => fs::create_dir_all(config.join("cli-plugins"))?,
        }
        symlink(plugin, config.join("cli-plugins/docker-buildx"))?;
        // Ours has its own configuration for each run.
        let environment = format!(
            "export DOCKER_HOST='{}' DOCKER_CONFIG=\"${{DOCKER_CONFIG:-{}}}\"\n",
            host.display(),
            config.display()
        );
        let client = recorder(&dir, &programs.join("docker"), &environment)?;
        Ok(Self { client, config: Some(config) })
    }

    pub(super) fn has_buildx(&self) -> bool {
        self.config.is_some()
    }

    pub(super) fn name(&self) -> String {
        self.client.display().to_string()
    }

    pub(super) fn versions(&self) -> Result<String> {
        let client = self.name();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim().to_owned();
        let format = "client {{.Client.Version}}, engine {{.Server.Version}}";
        let mut versions = text(read(&client, &["version", "--format", format])?);
        if self.has_buildx() {
            let buildx = text(read(&client, &["buildx", "version"])?);
            write!(versions, ", buildx {}", buildx.split(' ').nth(1).unwrap_or_default())?;
        }
        Ok(versions)
    }
}

/// A docker client that records when builds begin and end.
fn recorder(dir: &Path, docker: &Path, environment: &str) -> Result<PathBuf> {
    let script = format!(
        "#!/bin/sh\n{environment}build=\nfor word; do case \"$word\" in build) build=1; break;; -*) ;; *) break;; esac; done\n\
         [ \"$1 $2\" != 'buildx bake' ] || build=1\n\
         case \"$*\" in *--help*) build=;; esac\nbegan=$(date +%s%N)\n'{}' \"$@\"\nstatus=$?\n\
         [ -z \"$build\" ] || echo \"$began $(date +%s%N)\" >>'{}'\nexit $status\n",
        docker.display(),
        dir.join("builds").display()
    );
    let client = dir.join("docker");
    fs::write(&client, script)?;
    fs::set_permissions(&client, fs::Permissions::from_mode(0o755))?;
    Ok(client)
}

/// Start and end of each build, in nanoseconds since 1970.
pub(super) fn intervals(log: &str) -> Result<Vec<(u128, u128)>> {
    let parse = |line: &str| {
        let (begin, end) = line.split_once(' ').context("a line of the client's")?;
        anyhow::Ok((begin.parse()?, end.parse()?))
    };
    log.lines().map(parse).collect()
}

/// For how many seconds at least one interval is active.
pub(super) fn covered(mut intervals: Vec<(u128, u128)>) -> f64 {
    intervals.sort_unstable();
    let (mut covered, mut until) = (0, 0);
    for (begin, end) in intervals {
        covered += end.saturating_sub(begin.max(until));
        until = until.max(end);
    }
    covered as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_side_by_side_cover_their_union() {
        let log =
            "1000000000 3000000000\n2000000000 4000000000\n6000000000 7000000000\n6100000000 6200000000\n";
        assert!((covered(intervals(log).unwrap()) - 4.0).abs() < 1e-9);
        assert!(intervals("1").is_err());
        assert!(covered(Vec::new()).abs() < 1e-9);
    }
}
