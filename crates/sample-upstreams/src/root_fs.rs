//! A real Debian root file system, created by debootstrap from the archive that this machine's apt uses.
//!
//! The archive is not configured here: its address, its key and its connection settings (such as a proxy) are read from apt when the root
//! file system is created. For `apt-get` in a container, there is a separate archive with the packages that runtimes install
//! ([`packages`]).

mod packages;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::{Error, program};

/// The directory with debootstrap's scripts, one per release.
const DEBOOTSTRAP_SCRIPTS: &str = "/usr/share/debootstrap/scripts";

/// What is left out of the layer: lists that the first `apt-get update` downloads again, and files that are not needed in a container.
const EMPTIED: [&str; 8] = [
    "var/lib/apt/lists",
    "var/cache/apt",
    "var/log",
    "usr/share/doc",
    "usr/share/man",
    "usr/share/info",
    "usr/share/locale",
    "tmp",
];

/// One archive of apt's configuration.
#[derive(Debug, PartialEq)]
struct Archive {
    uri: String,
    release: String,
    components: Vec<String>,
    origin: String,
    entry: PathBuf,
}

/// Checks that a root file system can be created here, before anything slow starts.
///
/// # Errors
/// Names what is missing.
pub(crate) fn check() -> Result<(), Error> {
    for (name, package) in [
        ("debootstrap", "debootstrap"),
        ("apt-get", "apt"),
        ("unshare", "util-linux"),
        ("setpriv", "util-linux"),
    ] {
        which::which(name).map_err(|_| Error::ProgramMissing { program: name, package })?;
    }
    if rustix::process::geteuid().is_root() { Ok(()) } else { Err(Error::NotRoot) }
}

/// Creates a root file system in `dir`, which must not exist yet.
///
/// # Errors
/// debootstrap or root is missing, apt has no usable archive, or debootstrap fails.
pub(crate) fn make(dir: &Path) -> Result<(), Error> {
    check()?;
    let archives = archives()?;
    let main = archives.iter().find(|archive| is_main(archive)).ok_or(Error::NoArchive)?;
    let keyring = keyring(&main.entry);

    let mut debootstrap = vec!["debootstrap".to_owned(), "--variant=minbase".into()];
    if archives.iter().any(|archive| archive.uri.starts_with("https:")) {
        debootstrap.push("--include=ca-certificates".into());
    }
    if let Some(keyring) = &keyring {
        debootstrap.push(format!("--keyring={}", keyring.display()));
    }
    let root = dir.display().to_string();
    debootstrap.extend([main.release.clone(), root.clone(), main.uri.clone()]);
    confined("--mount-proc", debootstrap)?;

    configure_apt(dir, &archives, keyring.as_deref())?;
    // Updated like most upstream images, so that a runtime's build only adds the packages that it requests.
    let [first, second] = packages::WANTED;
    for apt in [
        &["update"][..],
        &["-y", "--no-install-recommends", "upgrade"],
        &["clean"],
        &["-y", "--no-install-recommends", "--download-only", "install", first, second],
    ] {
        let chroot = ["chroot", root.as_str(), "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q"];
        let words = chroot.iter().chain(apt).map(|word| (*word).to_owned()).collect();
        confined(&format!("--mount-proc={root}/proc"), words)?;
    }
    packages::keep(dir)?;
    clean(dir)
}

/// Runs a program in its own namespaces: its mounts below the root file system end with it, and it is killed when this process ends in any
/// way. So an unfinished root file system can always be removed.
fn confined(proc: &str, words: Vec<String>) -> Result<(), Error> {
    let around = ["--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child", proc];
    let words = around.iter().map(|word| (*word).to_owned()).chain(words);
    program::read("setpriv", "util-linux", words).map(|_| ())
}

fn archives() -> Result<Vec<Archive>, Error> {
    let format = "$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(ORIGIN)|$(SOURCESENTRY)";
    let targets =
        program::read("apt-get", "apt", ["indextargets", "--format", format, "Created-By: Packages"])?;
    let mut archives = parse_targets(&targets);
    for archive in &mut archives {
        // Cloud images have a list of mirrors in a file; its first line is sufficient.
        if let Some(list) = archive.uri.strip_prefix("mirror+file:") {
            let list = Path::new(list.trim_end_matches('/'));
            let text = std::fs::read_to_string(list).map_err(Error::file("read", list))?;
            let mut words = text.lines().filter_map(|line| line.split_whitespace().next());
            let first = words.find(|word| word.starts_with("http"));
            archive.uri = first.ok_or(Error::NoArchive)?.to_owned();
        }
    }
    Ok(archives)
}

fn parse_targets(targets: &str) -> Vec<Archive> {
    let mut found: Vec<Archive> = Vec::new();
    for line in targets.lines() {
        let fields: Vec<&str> = line.split('|').collect();
        let [uri, release, component, origin, entry] = fields[..] else { continue };
        // A variable that apt does not know is left unexpanded; archives of third parties are not used.
        let origin = if origin.starts_with("$(") { "" } else { origin };
        if !matches!(origin, "" | "Debian" | "Ubuntu") {
            continue;
        }
        match found.iter_mut().find(|archive| archive.uri == uri && archive.release == release) {
            Some(archive) => {
                if !archive.components.iter().any(|known| known == component) {
                    archive.components.push(component.to_owned());
                }
            }
            None => found.push(Archive {
                uri: uri.to_owned(),
                release: release.to_owned(),
                components: vec![component.to_owned()],
                origin: origin.to_owned(),
                entry: entry.rsplit_once(':').map_or(entry, |(path, _)| path).into(),
            }),
        }
    }
    found
}

/// Whether debootstrap can start with it: a release, not its updates.
fn is_main(archive: &Archive) -> bool {
    archive.components.iter().any(|component| component == "main")
        && Path::new(DEBOOTSTRAP_SCRIPTS).join(&archive.release).exists()
}

/// The keyring in the archive's entry in apt's sources: `Signed-By: FILE` or `[signed-by=FILE]`.
fn keyring(entry: &Path) -> Option<PathBuf> {
    signed_by(&std::fs::read_to_string(entry).ok()?).filter(|path| path.is_file())
}

fn signed_by(sources: &str) -> Option<PathBuf> {
    let lines = sources.lines().filter(|line| !line.trim_start().starts_with('#'));
    for line in lines {
        let lower = line.to_ascii_lowercase();
        let Some(start) = lower.find("signed-by") else { continue };
        let value = line[start + "signed-by".len()..].trim_start_matches([':', '=', ' ']);
        let end = value.find(|c: char| c.is_whitespace() || matches!(c, ']' | ',')).unwrap_or(value.len());
        if value[..end].starts_with('/') {
            return Some(value[..end].into());
        }
    }
    None
}

fn configure_apt(root: &Path, archives: &[Archive], keyring: Option<&Path>) -> Result<(), Error> {
    let sources: String = archives
        .iter()
        .map(|archive| format!("deb {} {} {}\n", archive.uri, archive.release, archive.components.join(" ")))
        .collect();
    write(&root.join("etc/apt/sources.list"), sources.as_bytes())?;
    if let Some(keyring) = keyring
        && let Some(name) = keyring.file_name()
    {
        copy(keyring, &root.join("etc/apt/trusted.gpg.d").join(name))?;
    }

    let dump = program::read("apt-config", "apt", ["dump"])?;
    let mut settings = acquire_settings(&dump);
    for scheme in ["http", "https"] {
        let key = format!("Acquire::{scheme}::Proxy");
        if !settings.contains_key(&key)
            && let Ok(proxy) = std::env::var(format!("{scheme}_proxy"))
            && !proxy.is_empty()
        {
            settings.insert(key, proxy);
        }
    }
    for value in settings.values() {
        // For example a certificate authority's file, which needs the same path in the container.
        let file = Path::new(value);
        if file.is_absolute() && file.is_file() {
            copy(file, &root.join(value.trim_start_matches('/')))?;
        }
    }
    let conf: String = settings.iter().map(|(key, value)| format!("{key} \"{value}\";\n")).collect();
    write(&root.join("etc/apt/apt.conf.d/90machine"), conf.as_bytes())?;

    // As in Debian's container images: dpkg need not wait for the disk, and a package must not start its service.
    write(&root.join("etc/dpkg/dpkg.cfg.d/docker-apt-speedup"), b"force-unsafe-io\n")?;
    let policy = root.join("usr/sbin/policy-rc.d");
    write(&policy, b"#!/bin/sh\nexit 101\n")?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&policy, mode).map_err(Error::file("set the mode of", &policy))
}

/// apt's settings for connecting to an archive, without apt's defaults and programs of this machine.
fn acquire_settings(dump: &str) -> BTreeMap<String, String> {
    const LEFT_OUT: [&str; 6] = [
        "Acquire::IndexTargets",
        "Acquire::Changelogs",
        "Acquire::CompressionTypes",
        "Acquire::Languages",
        "Acquire::cdrom",
        "Acquire::GzipIndexes",
    ];
    let settings = dump.lines().filter_map(|line| line.strip_suffix("\";")?.split_once(" \""));
    settings
        .filter(|(key, value)| key.starts_with("Acquire::") && !value.is_empty())
        .filter(|(key, _)| !LEFT_OUT.iter().any(|left_out| key.starts_with(left_out)))
        // A client's private key must not be in an image, and programs of this machine do not exist there.
        .filter(|(key, _)| {
            let last = key.rsplit("::").next().unwrap_or_default().to_ascii_lowercase();
            !matches!(last.as_str(), "sslkey" | "sslcert" | "proxy-auto-detect" | "proxyautodetect")
        })
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

fn clean(root: &Path) -> Result<(), Error> {
    for name in EMPTIED {
        let dir = root.join(name);
        let Ok(entries) = std::fs::read_dir(&dir) else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            let removed = if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                std::fs::remove_dir_all(&path)
            } else {
                std::fs::remove_file(&path)
            };
            removed.map_err(Error::file("remove", path))?;
        }
    }
    for name in ["var/lib/apt/lists/partial", "var/cache/apt/archives/partial"] {
        let dir = root.join(name);
        std::fs::create_dir_all(&dir).map_err(Error::file("create", dir))?;
    }
    // Copied from this machine by debootstrap; the container engine brings its own.
    for name in ["etc/resolv.conf", "etc/hostname"] {
        write(&root.join(name), b"")?;
    }
    Ok(())
}

fn write(path: &Path, content: &[u8]) -> Result<(), Error> {
    std::fs::write(path, content).map_err(Error::file("write", path))
}

fn create_directory(path: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(path).map_err(Error::file("create", path))
}

fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    if let Some(dir) = to.parent() {
        std::fs::create_dir_all(dir).map_err(Error::file("create", dir))?;
    }
    std::fs::copy(from, to).map(|_| ()).map_err(Error::file("write", to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apts_archives_are_merged_and_third_parties_omitted() {
        let targets = "http://a/debian/|trixie|main|Debian|/etc/apt/sources.list.d/debian.sources:1\n\
                       http://a/debian/|trixie|contrib|Debian|/etc/apt/sources.list.d/debian.sources:1\n\
                       http://b/apt/|stable|main|Somebody|/etc/apt/sources.list.d/b.list:3\n\
                       http://c/|trixie-updates|main|$(ORIGIN)|/etc/apt/sources.list:9\n";
        let archives = parse_targets(targets);
        let seen: Vec<_> =
            archives.iter().map(|a| (a.uri.as_str(), a.release.as_str(), a.components.join(" "))).collect();
        assert_eq!(
            seen,
            [
                ("http://a/debian/", "trixie", "main contrib".to_owned()),
                ("http://c/", "trixie-updates", "main".into())
            ]
        );
        assert_eq!(archives[0].entry, Path::new("/etc/apt/sources.list.d/debian.sources"));
    }

    #[test]
    fn the_keyring_is_read_from_both_forms_of_sources() {
        let deb822 = "# Signed-By: /commented\nTypes: deb\nSigned-By: /usr/share/keyrings/a.gpg\n";
        assert_eq!(signed_by(deb822), Some("/usr/share/keyrings/a.gpg".into()));
        let line = "deb [arch=amd64 signed-by=/etc/apt/keyrings/b.asc] http://x y main\n";
        assert_eq!(signed_by(line), Some("/etc/apt/keyrings/b.asc".into()));
        assert_eq!(signed_by("deb http://x y main\n"), None);
    }

    #[test]
    fn only_settings_for_reaching_an_archive_are_copied() {
        let dump = "APT::Architecture \"amd64\";\nAcquire \"\";\nAcquire::cdrom::mount \"/media/cdrom/\";\n\
                    Acquire::http::Proxy \"http://proxy:3128\";\nAcquire::Check-Date \"false\";\n\
                    Acquire::https::SslKey \"/etc/key\";\nAcquire::Languages:: \"none\";\n";
        let settings = acquire_settings(dump);
        let keys: Vec<&str> = settings.keys().map(String::as_str).collect();
        assert_eq!(keys, ["Acquire::Check-Date", "Acquire::http::Proxy"]);
    }
}
