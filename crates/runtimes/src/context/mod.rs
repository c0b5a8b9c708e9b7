//! The build context: which files a build gets, and an exact copy of them.
//!
//! What was hashed is what is built. The files are hashed while they are read, piece by piece, and copied into a private directory with
//! git's two modes ([`Staging`]). The copy is hashed again while it is written, so an edit since the plan is detected and reported. So
//! neither the umask of a checkout nor the differences between docker's builders in reading `.dockerignore` affect the image or the key.
//! Empty directories are not included, as in git.

mod staging;
#[cfg(test)]
pub(super) mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use sha2::{Digest as _, Sha256};

use crate::ignore::{Ignore, IgnoreError};
use crate::key::{ContextFile, Mode, sha256};

pub use staging::{Staged, Staging};

/// The ignore file at a context's root.
const IGNORE_FILE: &str = ".dockerignore";

/// Read size of a file, in bytes.
const PIECE: usize = 256 * 1024;

/// How many of a file's first bytes show whether `ADD` unpacks it: the length of a tar header.
const MAGIC: usize = 512;

/// Why a context cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// A file or directory cannot be read.
    #[error("could not read {path}")]
    Read {
        /// The file or directory.
        path: String,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The copy cannot be written.
    #[error("could not write the build context's copy at {path}")]
    Write {
        /// The file or directory.
        path: String,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// A path that cannot be part of a key.
    #[error("{path} cannot be part of a build context: {reason}")]
    Kind {
        /// The path.
        path: String,
        /// Why it cannot.
        reason: &'static str,
    },
    /// A file has changed since it was hashed.
    #[error("{path} has changed since it was hashed")]
    Changed {
        /// The file.
        path: String,
    },
    /// The ignore file is invalid.
    #[error(transparent)]
    Ignore(#[from] IgnoreError),
}

/// A file or symlink of a context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// git's mode.
    pub mode: Mode,
    /// SHA-256 of the content, or of a symlink's target, in hex.
    pub sha256: String,
    /// A symlink's target as written; empty for a file.
    pub target: Vec<u8>,
    /// Whether its first bytes are those of a file that `ADD` unpacks (a tar file, or something compressed).
    pub may_unpack: bool,
}

/// The files read so far: a file that several contexts share is read once.
#[derive(Debug, Default)]
pub struct Reads(Mutex<HashMap<PathBuf, Hashed>>);

#[derive(Clone, Debug)]
struct Hashed {
    sha256: String,
    may_unpack: bool,
}

impl Reads {
    fn hash(&self, path: &Path) -> Result<Hashed, ContextError> {
        // Held while a file is read: other readers of the same file wait for it, and the disk has one reader at a time.
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = files.get(path) {
            return Ok(known.clone());
        }
        let mut head = Vec::new();
        let found = hash_file(path, |piece| {
            head.extend_from_slice(&piece[..piece.len().min(MAGIC - head.len())]);
            Ok(())
        })?;
        let hashed = Hashed { sha256: found, may_unpack: may_unpack(&head) };
        files.insert(path.to_owned(), hashed.clone());
        Ok(hashed)
    }
}

/// A context as it was when it was read.
#[derive(Clone, Debug)]
pub struct BuildContext {
    /// The Dockerfile's bytes.
    pub dockerfile: Vec<u8>,
    /// The files by path.
    pub(super) entries: BTreeMap<String, Entry>,
    root: PathBuf,
}

impl BuildContext {
    /// Reads the context at `root`, built by `dockerfile` (relative to `root`).
    ///
    /// `<dockerfile>.dockerignore` has precedence over `.dockerignore`, as in BuildKit.
    ///
    /// # Errors
    /// A path cannot be read or is not a file, directory or symlink, or the ignore file is invalid.
    pub fn read(root: &Path, dockerfile: &str, reads: &Reads) -> Result<Self, ContextError> {
        let path = root.join(dockerfile);
        let bytes = std::fs::read(&path)
            .map_err(|source| ContextError::Read { path: path.display().to_string(), source })?;
        let own = root.join(format!("{dockerfile}.dockerignore"));
        let ignore = Ignore::read(&if own.is_file() { own } else { root.join(IGNORE_FILE) })?;
        let mut context = Self { dockerfile: bytes, entries: BTreeMap::new(), root: root.to_owned() };
        context.walk("", &ignore, reads)?;
        Ok(context)
    }

    fn walk(&mut self, below: &str, ignore: &Ignore, reads: &Reads) -> Result<(), ContextError> {
        let directory = self.root.join(below);
        let unreadable = |source| ContextError::Read { path: directory.display().to_string(), source };
        for entry in std::fs::read_dir(&directory).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let path = entry.path();
            let kind = |reason| ContextError::Kind { path: path.display().to_string(), reason };
            let read = |source| ContextError::Read { path: path.display().to_string(), source };
            let name = entry.file_name().into_string().map_err(|_| kind("its name is not UTF-8"))?;
            let name = if below.is_empty() { name } else { format!("{below}/{name}") };
            let excluded = ignore.excludes(&name);
            let file_type = entry.file_type().map_err(read)?;
            if file_type.is_dir() {
                if !(excluded && ignore.prunes(&name)) {
                    self.walk(&name, ignore, reads)?;
                }
            } else if excluded {
            } else if file_type.is_symlink() {
                let target = std::fs::read_link(&path).map_err(read)?.as_os_str().as_bytes().to_vec();
                let entry = Entry { mode: Mode::Symlink, sha256: sha256(&target), target, may_unpack: false };
                self.entries.insert(name, entry);
            } else if file_type.is_file() {
                let executable = entry.metadata().map_err(read)?.permissions().mode() & 0o100 != 0;
                let mode = if executable { Mode::Executable } else { Mode::File };
                let Hashed { sha256, may_unpack } = reads.hash(&path)?;
                self.entries.insert(name, Entry { mode, sha256, target: Vec::new(), may_unpack });
            } else {
                return Err(kind("it is neither a file, a directory nor a symlink"));
            }
        }
        Ok(())
    }

    /// Removes files that do not belong to this build, and everything below them if they are directories.
    pub fn exclude(&mut self, paths: &BTreeSet<String>) {
        let is_below = |path: &str, above: &str| {
            path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.entries.retain(|path, _| !paths.iter().any(|above| is_below(path, above)));
    }

    /// The files as they are hashed into the key, by path.
    pub fn files(&self) -> Vec<ContextFile> {
        let file = |(path, entry): (&String, &Entry)| ContextFile {
            path: path.clone(),
            mode: entry.mode,
            sha256: entry.sha256.clone(),
        };
        self.entries.iter().map(file).collect()
    }

    /// Whether the context contains a symlink.
    pub fn has_symlinks(&self) -> bool {
        self.entries.values().any(|entry| entry.mode == Mode::Symlink)
    }
}

/// Hashes a file piece by piece, in hex.
fn hash_file(
    path: &Path,
    mut on_piece: impl FnMut(&[u8]) -> Result<(), ContextError>,
) -> Result<String, ContextError> {
    let read = |source| ContextError::Read { path: path.display().to_string(), source };
    let mut file = std::fs::File::open(path).map_err(read)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; PIECE];
    loop {
        match file.read(&mut buffer).map_err(read)? {
            0 => return Ok(hex::encode(hasher.finalize())),
            length => {
                hasher.update(&buffer[..length]);
                on_piece(&buffer[..length])?;
            }
        }
    }
}

/// Whether a file looks like one that `ADD` unpacks (<https://docs.docker.com/reference/dockerfile/#adding-local-tar-archives>).
fn may_unpack(head: &[u8]) -> bool {
    const COMPRESSED: [&[u8]; 4] = [b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"];
    // A tar header has `ustar` at its 257th byte; older ones begin with a name and NULs, which do not occur in text.
    COMPRESSED.iter().any(|magic| head.starts_with(magic)) || (head.len() == MAGIC && head.contains(&0))
}
