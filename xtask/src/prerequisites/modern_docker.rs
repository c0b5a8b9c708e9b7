//! A recent docker for the tests: dockerd, client, containerd and buildx, unpacked below the target directory and never installed.
//!
//! Debian's stable releases have an older one, so the packages come from later suites: with the machine's own archive and key, but
//! with package lists separate from the system's. On Ubuntu the release's own packages are new enough.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use process::{Cmd, KillHandle, ProcessError, cmd};

use super::PrerequisiteError;
use super::packages::{System, candidate};

/// The oldest supported release.
const LEAST: u32 = 28;

/// The packages. Some archives have the client in the engine's package.
const PACKAGES: [&str; 4] = ["docker.io", "docker-buildx", "containerd", "docker-cli"];

/// Debian's suites after stable, in the order of preference: earlier ones need fewer new libraries.
const SUITES: [&str; 2] = ["testing", "unstable"];

/// Debian's key: its file names before and since trixie.
const KEYRINGS: [&str; 2] =
    ["/usr/share/keyrings/debian-archive-keyring.gpg", "/usr/share/keyrings/debian-archive-keyring.pgp"];

/// The directories of programs in the packages, by release.
const PLACES: [&str; 4] = ["usr/sbin", "usr/bin", "usr/libexec/docker", "usr/libexec/docker/cli-plugins"];

/// The programs that the engine starts by name. runc is the machine's own, because a newer one may not run here.
const ENGINE: [&str; 4] = ["dockerd", "docker-proxy", "containerd", "containerd-shim-runc-v2"];

/// Why there is no recent docker.
#[derive(Debug, thiserror::Error)]
pub enum ModernDockerError {
    /// The system has no apt.
    #[error("docker {LEAST} is unpacked from the packages of Debian or Ubuntu, and this system has none")]
    System,
    /// Starting an engine requires root.
    #[error("only root can start a docker engine")]
    Root,
    /// apt's sources have no address of Debian's archive.
    #[error("apt's sources name no archive of Debian")]
    NoArchive,
    /// No suite has the required version.
    #[error("the package archive has no docker {LEAST} or newer with buildx: {}", tried.join(", "))]
    TooOld {
        /// The version in each suite.
        tried: Vec<String>,
    },
    /// The packages lack a program.
    #[error("the packages of docker have no {program}")]
    Lacks {
        /// The program.
        program: &'static str,
    },
    /// A program does not run on this system.
    #[error("{program} of the packages does not run here")]
    DoesNotRun {
        /// The program.
        program: &'static str,
        /// The program's error.
        source: ProcessError,
    },
}

/// The unpacked programs.
#[derive(Clone, Debug)]
pub struct ModernDocker {
    dir: PathBuf,
}

impl ModernDocker {
    /// Unpacks it below `target`, unless it is there already.
    ///
    /// # Errors
    /// It is not available for this machine, or apt failed.
    pub async fn unpack(target: &Path, say: &(dyn Fn(&str) + Sync)) -> Result<Self, PrerequisiteError> {
        let found = Self::in_target(target);
        match System::detect() {
            System::Debian { root: true } => {}
            System::Debian { root: false } => return Err(ModernDockerError::Root.into()),
            System::MacOs | System::Other => return Err(ModernDockerError::System.into()),
        }
        if found.dir.exists() {
            return Ok(found);
        }
        say(&format!(
            "unpacking docker {LEAST} with buildx in {} (once; nothing is installed)",
            found.dir.display()
        ));
        // Unpacked to a new directory and renamed, so that an interrupted run leaves no incomplete docker.
        let room = found.dir.with_extension("new");
        remove(&room)?;
        let archive = Archive::find(&room).await?;
        archive.unpack(&room.join("root")).await?;
        Self { dir: room.clone() }.link()?;
        for used in ["debs", "apt"] {
            remove(&room.join(used))?;
        }
        std::fs::rename(&room, &found.dir).map_err(|source| file(&found.dir, source))?;
        Ok(found)
    }

    /// Its directory, whether unpacked or not. Each minimum release has its own directory.
    pub(super) fn in_target(target: &Path) -> Self {
        Self { dir: target.join(format!("docker-{LEAST}")) }
    }

    /// The path of the client.
    pub fn client(&self) -> PathBuf {
        self.dir.join("client/docker")
    }

    /// The path of the client's plugin.
    pub fn buildx(&self) -> PathBuf {
        self.dir.join("cli-plugins/docker-buildx")
    }

    /// The directory of the engine's programs, for its PATH.
    pub fn engine(&self) -> PathBuf {
        self.dir.join("engine")
    }

    /// Links the programs to where PATH and the client expect them, and tests them.
    fn link(&self) -> Result<(), PrerequisiteError> {
        let programs = ENGINE.map(|name| ("engine", name)).into_iter();
        for (dir, program) in programs.chain([("client", "docker"), ("cli-plugins", "docker-buildx")]) {
            let place = PLACES.iter().find(|place| self.dir.join("root").join(place).join(program).exists());
            let place = place.ok_or(ModernDockerError::Lacks { program })?;
            let (dir, target) = (self.dir.join(dir), Path::new("../root").join(place).join(program));
            std::fs::create_dir_all(&dir).map_err(|source| file(&dir, source))?;
            symlink(target, dir.join(program)).map_err(|source| file(&dir, source))?;
            let arguments: &[&str] = match program {
                // These two have no option that prints something and ends.
                "docker-proxy" | "containerd-shim-runc-v2" => continue,
                "docker-buildx" => &["version"],
                _ => &["--version"],
            };
            let tried = Cmd::new(dir.join(program)).args(arguments).read();
            tried.map_err(|source| ModernDockerError::DoesNotRun { program, source })?;
        }
        Ok(())
    }
}

/// The source of packages, and the directory of apt's data about them.
struct Archive {
    room: PathBuf,
    /// The [`PACKAGES`] that it has.
    packages: Vec<&'static str>,
}

impl Archive {
    /// The first suite with all packages in a recent version.
    async fn find(room: &Path) -> Result<Self, PrerequisiteError> {
        let sources = sources()?;
        let mut tried = Vec::new();
        for (suite, line) in sources {
            let mut archive = Self { room: room.to_owned(), packages: Vec::new() };
            for dir in ["apt/lists/partial", "apt/cache/archives/partial", "debs"] {
                let dir = room.join(dir);
                std::fs::create_dir_all(&dir).map_err(|source| file(&dir, source))?;
            }
            let list = room.join("apt/sources.list");
            if let Some(line) = &line {
                std::fs::write(&list, line).map_err(|source| file(&list, source))?;
            }
            let update = archive.apt("apt-get").args(["-q", "update"]);
            let updated = archive.run("update apt's package lists", update).await;
            let policy = archive.apt("apt-cache").arg("policy").args(PACKAGES).read();
            let policy = policy.map_err(|source| failed("ask apt for its packages", source))?;
            let version = candidate(&policy, "docker.io");
            archive.packages =
                PACKAGES.into_iter().filter(|package| candidate(&policy, package).is_some()).collect();
            if version.and_then(release).is_some_and(|release| release >= LEAST)
                && ["docker-buildx", "containerd"].iter().all(|package| archive.packages.contains(package))
            {
                return Ok(archive);
            }
            // Another source of the system may be broken, which only matters if the packages are not found.
            updated?;
            tried.push(format!("{suite} has {}", version.unwrap_or("none")));
        }
        Err(ModernDockerError::TooOld { tried }.into())
    }

    /// apt without the system's lists, installed packages and preferences.
    fn apt(&self, program: &str) -> Cmd {
        let (apt, list) = (self.room.join("apt"), self.room.join("apt/sources.list"));
        let option = |name: &str, value: &Path| format!("-o{name}={}", value.display());
        let mut command = Cmd::new(program)
            .arg(option("Dir::State::Lists", &apt.join("lists")))
            .arg(option("Dir::State::Status", Path::new("/dev/null")))
            .arg(option("Dir::Cache", &apt.join("cache")))
            .arg("-oDir::Etc::Preferences=/dev/null")
            .arg("-oDir::Etc::PreferencesParts=/dev/null")
            // apt's own user cannot write here.
            .arg("-oAPT::Sandbox::User=root")
            .arg("-oAcquire::Languages=none")
            .arg("-oAcquire::IndexTargets::deb::DEP-11::DefaultEnabled=false")
            .env("LC_ALL", "C.UTF-8");
        if list.exists() {
            command = command
                .arg(option("Dir::Etc::SourceList", &list))
                .arg(option("Dir::Etc::SourceParts", Path::new("/dev/null")));
        }
        command
    }

    /// Downloads the packages, which apt verifies with the archive's signature, and unpacks them.
    async fn unpack(&self, root: &Path) -> Result<(), PrerequisiteError> {
        let debs = self.room.join("debs");
        let download = self.apt("apt-get").args(["-q", "download"]).args(self.packages.iter().copied());
        self.run("fetch the packages of docker", download.cwd(&debs)).await?;
        for deb in std::fs::read_dir(&debs).map_err(|source| file(&debs, source))? {
            let deb = deb.map_err(|source| file(&debs, source))?.path();
            let action = "unpack the packages of docker";
            let unpack = process::shell().map(|sh| cmd!(sh, "dpkg-deb -x {deb} {root}"));
            self.run(action, unpack.map_err(|source| failed(action, source))?).await?;
        }
        Ok(())
    }

    async fn run(&self, action: &str, command: Cmd) -> Result<(), PrerequisiteError> {
        let log = |line: &str| tracing::debug!("{line}");
        command.stream(KillHandle::default(), log).await.map_err(|source| failed(action, source))
    }
}

/// The suites to try, each with its line for apt. `None` uses the system's own sources.
fn sources() -> Result<Vec<(String, Option<String>)>, PrerequisiteError> {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    if !release.lines().any(|line| line.trim() == "ID=debian") {
        return Ok(vec![("this release".to_owned(), None)]);
    }
    let targets = process::shell().and_then(|sh| {
        cmd!(sh, "apt-get indextargets --format '$(REPO_URI)|$(ORIGIN)' 'Created-By: Packages'").read()
    });
    let targets = targets.map_err(|source| failed("ask apt for its sources", source))?;
    let archive = archive(&targets).ok_or(ModernDockerError::NoArchive)?;
    let key = KEYRINGS.iter().find(|path| Path::new(path).exists());
    let key = key.map_or_else(String::new, |path| format!("[signed-by={path}] "));
    let line = |suite: &str| (suite.to_owned(), Some(format!("deb {key}{archive} {suite} main\n")));
    Ok(SUITES.iter().map(|suite| line(suite)).collect())
}

/// The address of Debian's archive in lines of `address|origin`. Without downloaded lists there are no origins.
fn archive(targets: &str) -> Option<&str> {
    let pairs = || {
        let pairs = targets.lines().filter_map(|line| line.split_once('|'));
        // The security archive has no suites after stable.
        pairs.filter(|(address, _)| !address.trim_end_matches('/').ends_with("security"))
    };
    let debian = pairs().find(|(_, origin)| *origin == "Debian");
    debian.or_else(|| pairs().next()).map(|(address, _)| address.trim_end_matches('/'))
}

/// The 28 in `28.5.2+dfsg4-5`, with or without an epoch.
fn release(version: &str) -> Option<u32> {
    let version = version.split_once(':').map_or(version, |(_, version)| version);
    version.split('.').next()?.parse().ok()
}

fn remove(dir: &Path) -> Result<(), PrerequisiteError> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(file(dir, error)),
        _ => Ok(()),
    }
}

fn file(path: &Path, source: std::io::Error) -> PrerequisiteError {
    PrerequisiteError::File { path: path.display().to_string(), source }
}

fn failed(action: &str, source: ProcessError) -> PrerequisiteError {
    PrerequisiteError::Program { action: action.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debians_archive_is_found_among_the_sources() {
        let known = "http://a/debian-security/|Debian\nhttp://b/stable|Other\nhttp://c/debian/|Debian\n";
        assert_eq!(archive(known), Some("http://c/debian"));
        assert_eq!(archive("http://a/debian-security|\nhttp://c/debian/|\n"), Some("http://c/debian"));
        assert_eq!(archive(""), None);
    }

    #[test]
    fn a_release_is_read_from_a_packages_version() {
        assert_eq!(release("28.5.2+dfsg4-5"), Some(28));
        assert_eq!(release("5:29.0.1-1~ubuntu.24.04~noble"), Some(29));
        assert_eq!(release("none"), None);
    }
}
