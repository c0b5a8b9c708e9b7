//! Sample images under the upstreams' own names, for the demo and the tests.
//!
//! [`build`] creates a [`Store`] once: the images that an HTC-Grid mirrors and the bases of its Lambda runtimes, all of them indexes for
//! four platforms with shared layers. [`Server`] serves it like the upstreams, read-only, every registry under its own path
//! (`/v2/docker.io/curlimages/curl/manifests/7.85.0`), with the token exchange and the pull limit of Docker Hub.
//!
//! The bases contain a real Debian root file system if the machine can create one (`debootstrap`, root), so that a runtime built on them
//! installs real packages and runs. Everything else is pseudo-random and the same on every machine.

mod catalogue;
mod layer;
mod program;
mod root_fs;
mod server;
mod store;

pub use catalogue::{CHARTS, Image, MIRRORED, RUNTIME_BASES, images};
pub use server::{Config, Server};
pub use store::{Options, Scale, Store, build};

use std::path::PathBuf;

/// Why the sample images could not be created or served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program is not installed.
    #[error(
        "{program} is not installed; on Debian and Ubuntu: apt-get install {package} (or build with --small, which needs no root file system)"
    )]
    ProgramMissing {
        /// The program.
        program: &'static str,
        /// The Debian package with the program.
        package: &'static str,
    },
    /// Only root can create a root file system.
    #[error(
        "a Debian root file system can only be made by root: start this as root (or build with --small, which needs none)"
    )]
    NotRoot,
    /// A program failed.
    #[error("{program} ended with {status}:\n{tail}")]
    Program {
        /// The program.
        program: &'static str,
        /// Its exit status.
        status: String,
        /// The last lines of its output.
        tail: String,
    },
    /// apt has no archive from which a root file system can be created.
    #[error(
        "apt's configuration names no Debian or Ubuntu archive with a `main` component that debootstrap knows; see `apt-get indextargets`"
    )]
    NoArchive,
    /// A file operation failed.
    #[error("could not {action} {}", path.display())]
    File {
        /// The operation.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// A file of the store is invalid.
    #[error("{} is damaged; remove the directory and build again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// There is no store yet.
    #[error("no sample images in {}; run `sample-upstreams build --data {}` first", path.display(), path.display())]
    NotBuilt {
        /// The data directory.
        path: PathBuf,
    },
    /// There is no image with this name.
    #[error("no sample image {0}")]
    UnknownImage(String),
    /// The address is in use or forbidden.
    #[error("could not listen on {address}")]
    Listen {
        /// The address.
        address: String,
        /// The error of the operating system.
        source: std::io::Error,
    },
}

impl Error {
    fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }
}
