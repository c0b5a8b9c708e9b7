//! The paths of a run's files: in the workspace, in a folder made by `write-files`, or in this program itself.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use failure::{FailWith as _, Kind, failure};
use sha2::{Digest as _, Sha256};

use crate::cargo;
use crate::settings::Global;
use crate::shipped::{self, ShippedFile};

/// The path of images.toml from the project's top.
const IMAGES: &str = "deployment/image_repository/images.toml";

/// This tool's folder in the user's cache directory.
const OWN_CACHE: &str = "htc-grid-images";

/// The origin of a run's files.
#[derive(Clone, Copy, Debug)]
pub enum Home {
    /// The workspace that this tool was compiled from.
    Workspace,
    /// A folder with a grid's files: of this version, of an older one, or edited.
    Folder,
    /// The files included in this program.
    Program(&'static [ShippedFile]),
}

impl Home {
    /// The variable that sets another location for data kept between runs.
    pub fn variable(self) -> &'static str {
        if matches!(self, Self::Workspace) { "CARGO_TARGET_DIR" } else { "XDG_CACHE_HOME" }
    }

    /// Writes the files below `root` if they are included in this program.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn unpack(self, root: &Path) -> anyhow::Result<()> {
        let Self::Program(files) = self else { return Ok(()) };
        shipped::unpack(files, root)
            .with_context(|| format!("could not unpack this program's files into {}", root.display()))
            .hint(Kind::Config, format!("make it writable, or name another place with {}", self.variable()))
    }

    /// # Errors
    /// This is not the workspace, which has the programs that `what` would compile.
    pub fn compiles(self, what: &str) -> anyhow::Result<()> {
        if matches!(self, Self::Workspace) {
            return Ok(());
        }
        let message = format!("{what} compiles programs of this tool's source code, which is not here");
        let hint = "run it in a checkout of the source code, with Rust installed; `cargo xtask demo` is a good beginning";
        Err(failure(Kind::MissingTool, message)).hint(Kind::MissingTool, hint)
    }
}

/// The paths of this run's files.
#[derive(Clone, Debug)]
pub struct Paths {
    home: Home,
    root: PathBuf,
    images: PathBuf,
    target: PathBuf,
    cache: PathBuf,
    local: PathBuf,
}

impl Paths {
    /// Finds the files: in the workspace that cargo names as the xtask's; otherwise in the nearest folder, from the working
    /// directory upwards, that is a workspace or has a grid's files; otherwise in this program.
    ///
    /// # Errors
    /// There are none, or no location for data kept between runs.
    pub fn find(global: &Global, shipped: &'static [ShippedFile]) -> anyhow::Result<Self> {
        let cwd = std::env::current_dir().context("could not read the working directory")?;
        let by_cargo = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).unwrap_or_default();
        let workspace = by_cargo.ancestors().skip(1).find(|dir| is_workspace(dir));
        let found = workspace.or_else(|| cwd.ancestors().find(|dir| is_workspace(dir) || is_folder(dir)));
        let (home, root, target, cache) = match found {
            Some(root) if is_workspace(root) => {
                let target = cargo::target_directory(root);
                let cache = target.join("xtask");
                (Home::Workspace, root.to_owned(), target, cache)
            }
            Some(root) => {
                let name = Sha256::digest(root.as_os_str().as_encoded_bytes());
                let cache = own_cache()?.join(format!("folder-{}", &hex::encode(name)[..12]));
                (Home::Folder, root.to_owned(), cache.clone(), cache)
            }
            None if shipped.is_empty() => {
                return Err(failure(
                    Kind::Usage,
                    "there is no deployment/image_repository here or in a parent directory",
                ))
                .hint(Kind::Usage, "run this command in the project");
            }
            None => {
                let cache = own_cache()?.join(shipped::key(shipped));
                (Home::Program(shipped), cache.join("files"), cache.clone(), cache)
            }
        };
        let images = match &global.images {
            Some(file) => cwd.join(file),
            None => root.join(IMAGES),
        };
        let local = global.local_dir.as_ref().map_or_else(|| target.join("local"), |dir| cwd.join(dir));
        Ok(Self { home, root, images, target, cache, local })
    }

    /// The origin of these files.
    pub fn home(&self) -> Home {
        self.home
    }
    /// The top of the project.
    pub fn root(&self) -> &Path {
        &self.root
    }
    /// images.toml.
    pub fn images(&self) -> &Path {
        &self.images
    }
    /// images.lock, next to images.toml.
    pub fn lock(&self) -> PathBuf {
        self.images.with_extension("lock")
    }
    /// The terraform module.
    pub fn module(&self) -> PathBuf {
        self.root.join("deployment/image_repository/terraform")
    }
    /// cargo's target directory; outside of the workspace the same as [`Paths::cache`].
    pub fn target(&self) -> &Path {
        &self.target
    }
    /// Data kept between runs that can be lost without harm.
    pub fn cache(&self) -> PathBuf {
        self.cache.clone()
    }
    /// The durations of the last runs.
    pub fn timings(&self) -> PathBuf {
        self.cache().join("timings.json")
    }
    /// The data of the emulated AWS.
    pub fn local(&self) -> &Path {
        &self.local
    }
    /// `path` relative to the project's top if it is inside, for errors, which never show the project's own path.
    pub fn relative(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.root).unwrap_or(path).to_owned()
    }
    /// `path` for output: relative to the project's top if it is inside.
    pub fn show<'a>(&self, path: &'a Path) -> std::path::Display<'a> {
        path.strip_prefix(&self.root).unwrap_or(path).display()
    }
}

fn is_workspace(dir: &Path) -> bool {
    dir.join("deployment/image_repository").is_dir() && dir.join("xtask").is_dir()
}

fn is_folder(dir: &Path) -> bool {
    dir.join(IMAGES).is_file()
}

/// This tool's folder in the user's cache directory (<https://specifications.freedesktop.org/basedir-spec/0.8/>).
fn own_cache() -> anyhow::Result<PathBuf> {
    let named = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let at_home = || std::env::home_dir().filter(|home| home.is_absolute()).map(|home| home.join(".cache"));
    let caches = named.filter(|dir| dir.is_absolute()).or_else(at_home);
    caches
        .map(|dir| dir.join(OWN_CACHE))
        .ok_or_else(|| failure(Kind::Config, "no home directory was found to keep files in between runs"))
        .hint(Kind::Config, "set HOME, or XDG_CACHE_HOME")
}
