//! Sample images under the upstreams' own names, for the demo and the tests.
//!
//! [`build`] makes a [`Store`] once: the images that an HTC-Grid mirrors and the bases of its Lambda runtimes, all of
//! them indexes over four platforms with layers that they share. [`Server`] serves it as the upstreams would, read-only,
//! every registry under a path of its own (`/v2/docker.io/curlimages/curl/manifests/7.85.0`), with the token exchange and
//! the pull limit of Docker Hub.
//!
//! The bases hold a real Debian root file system where the machine can make one (`debootstrap`, root), so that a runtime
//! built on them installs real packages and runs. Everything else is pseudo-random and the same on every machine.

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

/// Why the sample images could not be made or served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program is not installed.
    #[error(
        "{program} is not installed; on Debian and Ubuntu: apt-get install {package} (or build with --small, which needs no root file system)"
    )]
    ProgramMissing {
        /// The program.
        program: &'static str,
        /// The Debian package that holds it.
        package: &'static str,
    },
    /// A root file system belongs to root.
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
        /// The last lines it printed.
        tail: String,
    },
    /// apt names no archive that a root file system could be made of.
    #[error(
        "apt's configuration names no Debian or Ubuntu archive with a `main` component that debootstrap knows; see `apt-get indextargets`"
    )]
    NoArchive,
    /// The file system refused something.
    #[error("could not {action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file of the store is not what it should be.
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
    /// No image of this name.
    #[error("no sample image {0}")]
    UnknownImage(String),
    /// The address to listen on is taken or forbidden.
    #[error("could not listen on {address}")]
    Listen {
        /// The address.
        address: String,
        /// What the operating system said.
        source: std::io::Error,
    },
}

impl Error {
    fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }
}
