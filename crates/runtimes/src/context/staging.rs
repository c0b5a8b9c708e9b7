//! The copy of a context that a builder is given.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::{BuildContext, ContextError, Entry, IGNORE_FILE, hash_file};
use crate::key::{Mode, sha256};

/// What a Dockerfile from outside of its context is called in a tar file.
const OUTSIDE: &str = ".htc-grid.Dockerfile";

/// A context that a builder can be given.
#[derive(Clone, Debug)]
pub struct Staged {
    /// The context's directory.
    pub root: PathBuf,
    /// The Dockerfile, outside of the context, so that one that is ignored stays ignored.
    pub dockerfile: PathBuf,
    /// An ignore file that ignores nothing. It is called as BuildKit prefers it to the context's own, which has been applied
    /// (<https://docs.docker.com/build/concepts/context/#filename-and-location>).
    pub ignore: PathBuf,
}

impl Staged {
    /// The same files with another Dockerfile, whose name ends with `suffix`.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn with_dockerfile(&self, suffix: &str, bytes: &[u8]) -> Result<Self, ContextError> {
        let dockerfile = self.dockerfile.with_extension(suffix);
        let ignore = write_dockerfile(&dockerfile, bytes)?;
        Ok(Self { root: self.root.clone(), dockerfile, ignore })
    }

    /// Whether a builder would find an ignore file in the context.
    pub fn has_ignore_file(&self) -> bool {
        self.root.join(IGNORE_FILE).symlink_metadata().is_ok()
    }

    /// Writes the context and the Dockerfile, under `name`, as one tar file beside them; gives the file and the Dockerfile's name in
    /// it, which is another one where the Dockerfile stands outside of its context.
    ///
    /// For docker's legacy builder where the context has an ignore file. Of a directory its client leaves out what the file
    /// ignores, and then sends another one, which names the Dockerfile as well
    /// (<https://github.com/docker/cli/blob/v20.10.24/cli/command/image/build/context.go>, `AddDockerfileToBuildContext`); a tar
    /// file it sends as it is. What of it the engine then leaves out is the Dockerfile alone, if it is ignored.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn tar(&self, name: &str) -> Result<(PathBuf, String), ContextError> {
        let name = if Path::new(name).is_absolute() { OUTSIDE } else { name };
        let path = self.dockerfile.with_extension("tar");
        let own = std::fs::read(&self.dockerfile).ok();
        make(&path, || {
            let mut tar = tar::Builder::new(std::io::BufWriter::new(std::fs::File::create(&path)?));
            tar.follow_symlinks(false);
            tar.append_dir_all("", &self.root)?;
            // Of two files with one name the later one counts: a Dockerfile whose FROM is pinned takes the first one's place.
            let same = std::fs::read(self.root.join(name)).is_ok_and(|bytes| Some(bytes) == own);
            if !same {
                tar.append_path_with_name(&self.dockerfile, name)?;
            }
            std::io::Write::flush(&mut tar.into_inner()?)
        })?;
        Ok((path, name.to_owned()))
    }
}

/// Writes a Dockerfile, and an ignore file that belongs to it alone and ignores nothing; gives the latter.
fn write_dockerfile(path: &Path, bytes: &[u8]) -> Result<PathBuf, ContextError> {
    make(path, || std::fs::write(path, bytes))?;
    set_time(path, time_of(&sha256(bytes)))?;
    let mut ignore = path.as_os_str().to_owned();
    ignore.push(".dockerignore");
    let ignore = PathBuf::from(ignore);
    make(&ignore, || std::fs::write(&ignore, "# The context is complete: nothing of it is left out.\n"))?;
    Ok(ignore)
}

/// Lays contexts out for the builders of one run. A file that several contexts share is copied once and linked.
///
/// Each copy is new to any builder. BuildKit keeps what it was sent, by the directory's last name and the client, and then asks
/// for those files alone whose size or time differs (<https://github.com/tonistiigi/fsutil/blob/master/diff_containerd.go>,
/// `sameFile`): under one name and one time, an edit that keeps a file's size would be built as it was before. So a
/// directory's name occurs once, and a file's time follows from its content.
#[derive(Debug)]
pub struct Staging {
    store: PathBuf,
    pub(super) copied: Mutex<HashMap<(PathBuf, Mode, String), PathBuf>>,
}

impl Staging {
    /// A staging whose copies lie in `store`, a directory on the file system where the contexts are laid out.
    pub fn new(store: PathBuf) -> Self {
        Self { store, copied: Mutex::default() }
    }

    /// Lays a context out in `directory`, which is empty.
    ///
    /// # Errors
    /// The copy cannot be written, or a file is no longer what was hashed.
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

    /// The one copy of a file, with its mode and time.
    fn copy(&self, from: &Path, entry: &Entry) -> Result<PathBuf, ContextError> {
        // Held while a file is copied: whoever needs the same one waits for it.
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

/// The first of the times that staged files have: 1980-01-01, before which some archive formats know none.
const FIRST_TIME: i64 = 315_532_800;

/// A time that follows from the content: within 34 years of [`FIRST_TIME`].
fn time_of(sha256: &str) -> i64 {
    if cfg!(feature = "same-staging") {
        return FIRST_TIME;
    }
    // Of 64 hex digits the first 8 are a number.
    let number = sha256.get(..8).and_then(|digits| i64::from_str_radix(digits, 16).ok()).unwrap_or_default();
    FIRST_TIME + number % (1 << 30)
}

/// Makes a directory whose name no other context had or will have.
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
