//! An archive inside the root file system with the packages that runtimes install.
//!
//! A build then needs no network, and apt reads a short list instead of the whole release's. The installed packages and programs are the
//! same.

use std::path::Path;

use super::{create_directory, write};
use crate::layer::digest_of;
use crate::{Error, program};

/// The packages that `runtimes/Dockerfile` installs.
pub(super) const WANTED: [&str; 2] = ["jq", "procps"];

/// apt's directory of downloaded packages.
const DOWNLOADED: &str = "var/cache/apt/archives";

/// The directory of the archive.
const ARCHIVE: &str = "usr/local/share/packages";

/// Moves the packages that apt has downloaded in `root` to an archive, which becomes the only one of apt there.
///
/// # Errors
/// A package cannot be read, or a file cannot be written.
pub(super) fn keep(root: &Path) -> Result<(), Error> {
    let (from, to) = (root.join(DOWNLOADED), root.join(ARCHIVE));
    create_directory(&to)?;
    let mut packages = Vec::new();
    for entry in from.read_dir().map_err(Error::file("read", &from))? {
        let path = entry.map_err(Error::file("read", &from))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let Some(stem) = name.strip_suffix(".deb") {
            packages.push((stem.replace('%', "_"), path));
        }
    }
    packages.sort();
    let mut list = String::new();
    for (stem, path) in packages {
        let fields = program::read("dpkg-deb", "dpkg", [Path::new("--field"), &path])?;
        let bytes = std::fs::read(&path).map_err(Error::file("read", &path))?;
        let (name, digest) = (format!("{stem}.deb"), digest_of(&bytes));
        write(&to.join(&name), &bytes)?;
        list += &entry(&fields, &name, bytes.len(), digest.trim_start_matches("sha256:"));
    }
    write(&to.join("Packages"), list.as_bytes())?;
    // No signature: a package in the image is as trustworthy as the image.
    write(&root.join("etc/apt/sources.list"), format!("deb [trusted=yes] file:/{ARCHIVE} ./\n").as_bytes())
}

/// A package's entry in the list (<https://wiki.debian.org/DebianRepository/Format#A.22Packages.22_Indices>).
fn entry(fields: &str, name: &str, size: usize, sha256: &str) -> String {
    format!("{}\nFilename: ./{name}\nSize: {size}\nSHA256: {sha256}\n\n", fields.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_has_the_package_and_its_file() {
        assert_eq!(
            entry("Package: jq\nVersion: 1.6-2.1\n", "jq_1.6-2.1_amd64.deb", 7, "00ff"),
            "Package: jq\nVersion: 1.6-2.1\nFilename: ./jq_1.6-2.1_amd64.deb\nSize: 7\nSHA256: 00ff\n\n"
        );
    }
}
