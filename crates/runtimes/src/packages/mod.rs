//! The packages of an image, read from the saved image: the databases of dpkg, rpm and apk.
//!
//! No program is run and nothing is guessed: a database that cannot be read is listed in [`Installed::unread`].

mod files;
mod rpm;
mod text;

use files::{Content, Files};

use super::archive::{Archive, ArchiveError};

/// dpkg's database.
const DPKG: &str = "var/lib/dpkg/status";
/// Images that were built without dpkg have a file per package here
/// (<https://github.com/GoogleContainerTools/distroless/blob/main/PACKAGE_METADATA.md>).
const DPKG_PARTS: &str = "var/lib/dpkg/status.d/";
/// apk's database.
const APK: [&str; 2] = ["lib/apk/db/installed", "usr/lib/apk/db/installed"];
/// The directories of rpm's database; Fedora and SUSE moved it to the second one.
const RPM: [&str; 2] = ["var/lib/rpm/", "usr/lib/sysimage/rpm/"];
/// Identifies the system (<https://www.freedesktop.org/software/systemd/man/latest/os-release.html>).
const OS_RELEASE: [&str; 2] = ["etc/os-release", "usr/lib/os-release"];

/// The package manager that installed a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Manager {
    /// Debian's and Ubuntu's.
    Dpkg,
    /// Amazon Linux's, Fedora's, Red Hat's and SUSE's.
    Rpm,
    /// Alpine's.
    Apk,
}

/// An installed package.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    /// Its package manager.
    pub manager: Manager,
    /// Its name.
    pub name: String,
    /// Its version with its release; for dpkg also with its epoch.
    pub version: String,
    /// Its epoch, if rpm has one.
    pub epoch: Option<u32>,
    /// Its architecture.
    pub arch: Option<String>,
    /// The source package that it was built from, if the database has it.
    pub source: Option<String>,
}

/// The system of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct System {
    /// `ID`, for example debian or amzn.
    pub id: String,
    /// `VERSION_ID`.
    pub version: Option<String>,
}

/// The packages of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Installed {
    /// The packages, sorted, each once.
    pub packages: Vec<Package>,
    /// The image's system; `None` without os-release.
    pub system: Option<System>,
    /// Whether the image has a package manager's database.
    pub has_database: bool,
    /// What could not be read: one sentence each, without a full stop.
    pub unread: Vec<String>,
}

/// Reads the packages of a saved image.
///
/// # Errors
/// A layer cannot be read.
pub fn read(archive: &Archive) -> Result<Installed, ArchiveError> {
    let wanted = |path: &str| {
        path == DPKG
            || path.starts_with(DPKG_PARTS)
            || APK.contains(&path)
            || OS_RELEASE.contains(&path)
            || RPM.iter().any(|directory| path.strip_prefix(directory).is_some_and(rpm::is_database))
    };
    Ok(installed(&Files::read(archive, wanted)?))
}

fn installed(files: &Files) -> Installed {
    let mut found = Installed::default();
    for (path, content) in files.iter() {
        let read: Result<Vec<Package>, String> = match content {
            Content::Unread(why) => Err(why.clone()),
            Content::Bytes(_) if OS_RELEASE.contains(&path) => Ok(Vec::new()),
            Content::Bytes(bytes) if path == DPKG => Ok(text::dpkg(bytes)),
            // Next to each package's file is one with its files' digests.
            Content::Bytes(_) if path.ends_with(".md5sums") => continue,
            Content::Bytes(bytes) if path.starts_with(DPKG_PARTS) => Ok(text::dpkg(bytes)),
            Content::Bytes(bytes) if APK.contains(&path) => Ok(text::apk(bytes)),
            Content::Bytes(bytes) => rpm::packages(path, bytes),
        };
        match read {
            Ok(packages) => found.packages.extend(packages),
            Err(why) => found.unread.push(format!("/{path} is not listed: {why}")),
        }
        found.has_database |= !OS_RELEASE.contains(&path);
    }
    if !files.is_whole() && !found.has_database {
        let why = "some of its layers are compressed by zstd, and are not looked into";
        found.unread.push(format!("what is installed in it is not listed: {why}"));
    }
    found.system = OS_RELEASE.iter().find_map(|path| match files.get(path)? {
        Content::Bytes(bytes) => text::os_release(bytes),
        Content::Unread(_) => None,
    });
    found.packages.sort();
    found.packages.dedup();
    found
}

#[cfg(test)]
mod tests;
