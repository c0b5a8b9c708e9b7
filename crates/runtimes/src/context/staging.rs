//! The copy of a context for the builder.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::{BuildContext, ContextError, Entry, IGNORE_FILE, hash_file};
use crate::key::{Mode, sha256};

/// The name in a tar file of a Dockerfile that is outside of its context.
const OUTSIDE: &str = ".htc-grid.Dockerfile";

/// A context in the form that builders read.
#[derive(Clone, Debug)]
pub struct Staged {
    /// The context's directory.
    pub root: PathBuf,
    /// The Dockerfile, outside of the context, so that an ignored Dockerfile stays ignored.
    pub dockerfile: PathBuf,
    /// An ignore file that ignores nothing. It has the name that BuildKit prefers to the context's own ignore file, which has been applied
    /// already (<https://docs.docker.com/build/concepts/context/#filename-and-location>).
    pub ignore: PathBuf,
}

impl Staged {
    /// The same files with another Dockerfile, whose name ends with `suffix`.
    ///
    /// # Errors
    /// The Dockerfile cannot be written.
    pub fn with_dockerfile(&self, suffix: &str, bytes: &[u8]) -> Result<Self, ContextError> {
        let dockerfile = self.dockerfile.with_extension(suffix);
        let ignore = write_dockerfile(&dockerfile, bytes)?;
        Ok(Self { root: self.root.clone(), dockerfile, ignore })
    }

    /// Whether a builder would find an ignore file in the context.
    pub fn has_ignore_file(&self) -> bool {
        self.root.join(IGNORE_FILE).symlink_metadata().is_ok()
    }

    /// Writes the context and the Dockerfile, as `name`, into one tar file next to them. Returns the tar file and the Dockerfile's name in
    /// it, which differs if the Dockerfile is outside of its context.
    ///
    /// This is for docker's legacy builder if the context has an ignore file. For a directory, its client leaves out the ignored files and
    /// sends another ignore file, which also names the Dockerfile
    /// (<https://github.com/docker/cli/blob/v20.10.24/cli/command/image/build/context.go>, `AddDockerfileToBuildContext`); it sends a tar
    /// file unchanged. The engine then leaves out only the Dockerfile, if it is ignored.
    ///
    /// # Errors
    /// The tar file cannot be written.
    pub fn tar(&self, name: &str) -> Result<(PathBuf, String), ContextError> {
        let name = if Path::new(name).is_absolute() { OUTSIDE } else { name };
        let path = self.dockerfile.with_extension("tar");
        let own = std::fs::read(&self.dockerfile).ok();
        make(&path, || {
            let mut tar = tar::Builder::new(std::io::BufWriter::new(std::fs::File::create(&path)?));
            tar.follow_symlinks(false);
            tar.append_dir_all("", &self.root)?;
            // If a tar file has two files of one name, the later one counts: a Dockerfile whose FROM is pinned replaces the first one.
            let same = std::fs::read(self.root.join(name)).is_ok_and(|bytes| Some(bytes) == own);
            if !same {
                tar.append_path_with_name(&self.dockerfile, name)?;
            }
            std::io::Write::flush(&mut tar.into_inner()?)
        })?;
        Ok((path, name.to_owned()))
    }
}

/// Writes a Dockerfile, and an ignore file for it that ignores nothing; returns the ignore file.
fn write_dockerfile(path: &Path, bytes: &[u8]) -> Result<PathBuf, ContextError> {
    make(path, || std::fs::write(path, bytes))?;
    set_time(path, time_of(&sha256(bytes)))?;
    let mut ignore = path.as_os_str().to_owned();
    ignore.push(".dockerignore");
    let ignore = PathBuf::from(ignore);
    make(&ignore, || std::fs::write(&ignore, "# The context is complete: nothing of it is left out.\n"))?;
    Ok(ignore)
}

/// Writes the contexts for the builders of one run. A file that several contexts share is copied once and hard-linked.
///
/// Each copy is new to every builder. BuildKit caches the files of a context by the directory's last name and the client, and then requests
/// only files whose size or time differs (<https://github.com/tonistiigi/fsutil/blob/master/diff_containerd.go>, `sameFile`): with the same
/// name and time, an edit that keeps a file's size would be missed. So each directory name is unique, and a file's time depends on its
/// content.
#[derive(Debug)]
pub struct Staging {
    store: PathBuf,
    pub(super) copied: Mutex<HashMap<(PathBuf, Mode, String), PathBuf>>,
}

impl Staging {
    /// A staging whose copies are in `store`, a directory on the same file system as the contexts.
    pub fn new(store: PathBuf) -> Self {
        Self { store, copied: Mutex::default() }
    }

    /// Writes a context into `directory`, which is empty.
    ///
    /// # Errors
    /// The copy cannot be written, or a file has changed since it was hashed.
    pub fn stage(&self, context: &BuildContext, directory: &Path) -> Result<Staged, ContextError> {
        let root = new_directory(directory)?;
        let mut directories = vec![root.clone()];
        for (name, entry) in &context.entries {
            let path = root.join(name);
            if let Some(parent) = path.parent()
                && !parent.is_dir()
            {
                make(parent, || std::fs::create_dir_all(parent))?;
                directories.extend(
                    parent.ancestors().take_while(|ancestor| *ancestor != root).map(Path::to_path_buf),
                );
            }
            if entry.mode == Mode::Symlink {
                make(&path, || {
                    std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(&entry.target), &path)
                })?;
                set_time(&path, time_of(&entry.sha256))?;
            } else {
                let copy = self.copy(&context.root.join(name), entry)?;
                make(&path, || std::fs::hard_link(&copy, &path))?;
            }
        }
        for path in directories {
            make(&path, || std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)))?;
            set_time(&path, FIRST_TIME)?;
        }
        let dockerfile = directory.join("Dockerfile");
        let ignore = write_dockerfile(&dockerfile, &context.dockerfile)?;
        Ok(Staged { root, dockerfile, ignore })
    }

    /// The only copy of a file, with its mode and time.
    fn copy(&self, from: &Path, entry: &Entry) -> Result<PathBuf, ContextError> {
        // Held while a file is copied, so that the same file is not copied twice.
        let mut copied = self.copied.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (from.to_owned(), entry.mode, entry.sha256.clone());
        if let Some(known) = copied.get(&key) {
            return Ok(known.clone());
        }
        make(&self.store, || std::fs::create_dir_all(&self.store))?;
        let path = self.store.join(copied.len().to_string());
        let mut out = make(&path, || std::fs::File::create(&path))?;
        let found = hash_file(from, |piece| make(&path, || std::io::Write::write_all(&mut out, piece)))?;
        if found != entry.sha256 {
            return Err(ContextError::Changed { path: from.display().to_string() });
        }
        let bits = if entry.mode == Mode::Executable { 0o755 } else { 0o644 };
        make(&path, || std::fs::set_permissions(&path, std::fs::Permissions::from_mode(bits)))?;
        set_time(&path, time_of(&entry.sha256))?;
        copied.insert(key, path.clone());
        Ok(path)
    }
}

/// Earliest time of staged files: 1980-01-01, the first that some archive formats support.
const FIRST_TIME: i64 = 315_532_800;

/// A time derived from the content: within 34 years after [`FIRST_TIME`].
fn time_of(sha256: &str) -> i64 {
    if cfg!(feature = "same-staging") {
        return FIRST_TIME;
    }
    // The first 8 hex digits as a number.
    let number = sha256.get(..8).and_then(|digits| i64::from_str_radix(digits, 16).ok()).unwrap_or_default();
    FIRST_TIME + number % (1 << 30)
}

/// Creates a directory with a name that is unique across contexts and runs.
fn new_directory(within: &Path) -> Result<PathBuf, ContextError> {
    if cfg!(feature = "same-staging") {
        let root = within.join("context");
        return make(&root, || std::fs::create_dir(&root)).map(|()| root);
    }
    let new = || tempfile::Builder::new().prefix("context-").rand_bytes(24).tempdir_in(within);
    make(within, new).map(tempfile::TempDir::keep)
}

fn make<T>(path: &Path, step: impl FnOnce() -> std::io::Result<T>) -> Result<T, ContextError> {
    step().map_err(|source| ContextError::Write { path: path.display().to_string(), source })
}

fn set_time(path: &Path, seconds: i64) -> Result<(), ContextError> {
    let time = rustix::fs::Timespec { tv_sec: seconds, tv_nsec: 0 };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    make(path, || {
        rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
            .map_err(Into::into)
    })
}
