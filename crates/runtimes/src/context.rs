//! The build context: which files a build sees, and a copy of exactly those.
//!
//! What was hashed is what is built. The files are hashed as they are read, piece by piece, and copied into a private directory
//! with git's two modes ([`Staging`]); the copy is hashed again on its way, so that an edit since the plan is found and named.
//! The umask of a checkout and the differences between docker's builders in reading `.dockerignore` then change neither the
//! image nor the key's truth. Empty directories, which git does not know, are no part of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use sha2::{Digest as _, Sha256};

use super::ignore::{Ignore, IgnoreError};
use super::key::{ContextFile, Mode, sha256};

/// The ignore file at a context's root.
const IGNORE_FILE: &str = ".dockerignore";

/// How much of a file is in memory at a time, in bytes.
const PIECE: usize = 256 * 1024;

/// How many of a file's first bytes say whether `ADD` unpacks it: a tar header is as long.
const MAGIC: usize = 512;

/// What a Dockerfile from outside of its context is called in a tar file.
const OUTSIDE: &str = ".htc-grid.Dockerfile";

/// Why a context cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// A file or directory cannot be read.
    #[error("could not read {path}")]
    Read {
        /// What could not be read.
        path: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The copy cannot be written.
    #[error("could not write the build context's copy at {path}")]
    Write {
        /// What could not be written.
        path: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A path that cannot be part of a key.
    #[error("{path} cannot be part of a build context: {reason}")]
    Kind {
        /// The path.
        path: String,
        /// What is in the way.
        reason: &'static str,
    },
    /// A file is no longer what was hashed.
    #[error("{path} has changed since it was hashed")]
    Changed {
        /// The file.
        path: String,
    },
    /// The ignore file is wrong.
    #[error(transparent)]
    Ignore(#[from] IgnoreError),
}

/// A file or symlink of a context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// git's mode.
    pub mode: Mode,
    /// Of the content, or of a symlink's target, in hex.
    pub sha256: String,
    /// A symlink's target as written; empty for a file.
    pub target: Vec<u8>,
    /// Whether it begins as what `ADD` unpacks (a tar file, or something compressed).
    pub may_unpack: bool,
}

/// What was read so far: a file that several contexts share is read once.
#[derive(Debug, Default)]
pub struct Reads(Mutex<HashMap<PathBuf, Hashed>>);

#[derive(Clone, Debug)]
struct Hashed {
    sha256: String,
    may_unpack: bool,
}

impl Reads {
    fn hash(&self, path: &Path) -> Result<Hashed, ContextError> {
        // Held while a file is read: whoever needs the same one waits for it, and the disk has one reader anyway.
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

/// A context as it was at one moment.
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
    /// `<dockerfile>.dockerignore` is preferred to `.dockerignore`, as BuildKit prefers it.
    ///
    /// # Errors
    /// Something cannot be read, is neither file, directory nor symlink, or the ignore file is wrong.
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

    /// Drops files that do not belong to this build, with what is below them if they are directories.
    pub fn leave_out(&mut self, paths: &BTreeSet<String>) {
        let is_below = |path: &str, above: &str| {
            path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.entries.retain(|path, _| !paths.iter().any(|above| is_below(path, above)));
    }

    /// The files as the key sees them, by path.
    pub fn files(&self) -> Vec<ContextFile> {
        let file = |(path, entry): (&String, &Entry)| ContextFile {
            path: path.clone(),
            mode: entry.mode,
            sha256: entry.sha256.clone(),
        };
        self.entries.iter().map(file).collect()
    }

    /// Whether a symlink is among them.
    pub fn has_symlinks(&self) -> bool {
        self.entries.values().any(|entry| entry.mode == Mode::Symlink)
    }
}

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
    copied: Mutex<HashMap<(PathBuf, Mode, String), PathBuf>>,
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

/// Whether a file begins as one that `ADD` unpacks (<https://docs.docker.com/reference/dockerfile/#adding-local-tar-archives>).
fn may_unpack(head: &[u8]) -> bool {
    const COMPRESSED: [&[u8]; 4] = [b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"];
    // A tar header says `ustar` at its 257th byte; older ones begin with a name and NULs, which no text has.
    COMPRESSED.iter().any(|magic| head.starts_with(magic)) || (head.len() == MAGIC && head.contains(&0))
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A context directory with these files.
    pub(crate) fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        root
    }

    #[test]
    fn the_copy_holds_what_the_key_saw_with_two_modes_and_one_time() {
        let root = directory(&[
            ("Dockerfile", "FROM scratch\nCOPY . /\n"),
            (".dockerignore", "Dockerfile\n*.md\n!keep.md\n"),
            ("a/b/run.sh", "#!/bin/sh\n"),
            ("notes.md", "x"),
            ("keep.md", "y"),
        ]);
        std::fs::create_dir(root.path().join("empty")).unwrap();
        std::fs::set_permissions(root.path().join("a/b/run.sh"), std::fs::Permissions::from_mode(0o740))
            .unwrap();
        std::os::unix::fs::symlink("../gone", root.path().join("a/link")).unwrap();
        let context = BuildContext::read(root.path(), "Dockerfile", &Reads::default()).unwrap();
        let seen: Vec<_> = context.files().into_iter().map(|file| (file.path, file.mode)).collect();
        assert_eq!(
            seen,
            [
                (".dockerignore".to_owned(), Mode::File),
                ("a/b/run.sh".to_owned(), Mode::Executable),
                ("a/link".to_owned(), Mode::Symlink),
                ("keep.md".to_owned(), Mode::File),
            ]
        );
        let copy = tempfile::tempdir().unwrap();
        let staging = Staging::new(copy.path().join("store"));
        let rooms = ["one", "two"].map(|name| copy.path().join(name));
        let staged = rooms.each_ref().map(|room| {
            std::fs::create_dir(room).unwrap();
            staging.stage(&context, room).unwrap()
        });
        assert_ne!(staged[0].root.file_name(), staged[1].root.file_name(), "a builder would know it again");
        assert_eq!(staging.copied.lock().unwrap().len(), 3, "each file is copied once");
        for Staged { root, dockerfile, .. } in &staged {
            assert_eq!(std::fs::read(dockerfile).unwrap(), context.dockerfile);
            assert!(!root.join("Dockerfile").exists() && !root.join("empty").exists());
            let times: BTreeSet<i64> = [("a/b/run.sh", 0o755), ("keep.md", 0o644), ("a/link", 0o777)]
                .into_iter()
                .map(|(path, mode)| {
                    let metadata = std::fs::symlink_metadata(root.join(path)).unwrap();
                    assert_eq!(metadata.permissions().mode() & 0o7777, mode, "{path}");
                    std::os::unix::fs::MetadataExt::mtime(&metadata)
                })
                .collect();
            assert_eq!(times.len(), 3, "a time follows from the content");
            let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
            assert_eq!((mode(root), mode(&root.join("a"))), (0o755, 0o755));
        }
    }

    #[test]
    fn a_file_that_changed_since_it_was_hashed_is_named() {
        let root = directory(&[("Dockerfile", "FROM scratch\n"), ("f", "one")]);
        let context = BuildContext::read(root.path(), "Dockerfile", &Reads::default()).unwrap();
        std::fs::write(root.path().join("f"), "two").unwrap();
        let copy = tempfile::tempdir().unwrap();
        let error = Staging::new(copy.path().join("store")).stage(&context, copy.path()).unwrap_err();
        assert!(error.to_string().ends_with("/f has changed since it was hashed"), "{error}");
    }

    #[test]
    fn what_begins_as_an_archive_may_be_unpacked() {
        let tar = || {
            let mut tar = tar::Builder::new(Vec::new());
            let mut header = tar::Header::new_old();
            tar.append_data(&mut header, "name", &b""[..]).unwrap();
            tar.into_inner().unwrap()
        };
        for (content, wanted) in [(&b"#!/bin/sh\n"[..], false), (b"", false), (b"BZh9", true), (&tar(), true)]
        {
            assert_eq!(may_unpack(&content[..content.len().min(MAGIC)]), wanted, "{content:?}");
        }
    }

    #[test]
    fn a_socket_is_named() {
        let root = directory(&[("Dockerfile", "FROM scratch\n")]);
        let _listener = std::os::unix::net::UnixListener::bind(root.path().join("s")).unwrap();
        let error = BuildContext::read(root.path(), "Dockerfile", &Reads::default()).unwrap_err().to_string();
        assert!(
            error.ends_with(
                "/s cannot be part of a build context: it is neither a file, a directory nor a symlink"
            ),
            "{error}"
        );
    }

    #[test]
    fn a_dockerfile_may_bring_its_own_ignore_file() {
        let root = directory(&[
            ("Dockerfile", "FROM scratch\n"),
            (".dockerignore", "a\n"),
            ("Dockerfile.dockerignore", "*\n!a\n"),
            ("a", ""),
            ("b", ""),
        ]);
        let context = BuildContext::read(root.path(), "Dockerfile", &Reads::default()).unwrap();
        assert_eq!(context.files().into_iter().map(|file| file.path).collect::<Vec<_>>(), ["a"]);
    }
}
