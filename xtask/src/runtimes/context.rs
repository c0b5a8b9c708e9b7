//! The build context: which files a build sees, and a copy of exactly those.
//!
//! What was hashed is what is built. The files are read once, hashed, and laid out in a private directory with git's two
//! modes and one fixed time, and the builder gets that directory. An edit during the build, the umask of a checkout and the
//! differences between docker's builders in reading `.dockerignore` then change neither the image nor the key's truth.
//! Empty directories, which git does not know, are no part of it.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::dockerfile::{self, DockerfileError};
use super::ignore::{Ignore, IgnoreError};
use super::key::{ContextFile, Mode, sha256};

/// The time that every file of a staged context carries, in seconds since 1970: not 0, which some tools take for "none".
const STAGED_TIME: i64 = 1;

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
    /// The ignore file is wrong.
    #[error(transparent)]
    Ignore(#[from] IgnoreError),
    /// The Dockerfile is missing or names an image that the key would not see.
    #[error(transparent)]
    Dockerfile(#[from] DockerfileError),
}

/// A context as it was at one moment.
#[derive(Clone, Debug)]
pub struct BuildContext {
    /// The Dockerfile's bytes.
    pub dockerfile: Vec<u8>,
    entries: BTreeMap<String, (Mode, Vec<u8>)>,
}

impl BuildContext {
    /// Reads the context at `root`, built by `dockerfile` (relative to `root`).
    ///
    /// `<dockerfile>.dockerignore` is preferred to `.dockerignore`, as BuildKit prefers it.
    ///
    /// # Errors
    /// Something cannot be read, is neither file, directory nor symlink, or the ignore file or the Dockerfile is wrong.
    pub fn read(root: &Path, dockerfile: &str) -> Result<Self, ContextError> {
        let path = root.join(dockerfile);
        let bytes = read_file(&path)?;
        dockerfile::check(&path, &bytes)?;
        let own = root.join(format!("{dockerfile}.dockerignore"));
        let ignore = Ignore::read(&if own.is_file() { own } else { root.join(".dockerignore") })?;
        let mut context = Self { dockerfile: bytes, entries: BTreeMap::new() };
        context.walk(root, "", &ignore)?;
        Ok(context)
    }

    fn walk(&mut self, root: &Path, below: &str, ignore: &Ignore) -> Result<(), ContextError> {
        let directory = root.join(below);
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
                    self.walk(root, &name, ignore)?;
                }
            } else if excluded {
            } else if file_type.is_symlink() {
                let target = std::fs::read_link(&path).map_err(read)?;
                self.entries.insert(name, (Mode::Symlink, target.as_os_str().as_bytes().to_vec()));
            } else if file_type.is_file() {
                let executable = entry.metadata().map_err(read)?.permissions().mode() & 0o100 != 0;
                let mode = if executable { Mode::Executable } else { Mode::File };
                self.entries.insert(name, (mode, read_file(&path)?));
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
        let entry = |(path, (mode, content)): (&String, &(Mode, Vec<u8>))| ContextFile {
            path: path.clone(),
            mode: *mode,
            sha256: sha256(content),
        };
        self.entries.iter().map(entry).collect()
    }

    /// Whether a symlink is among them.
    pub fn has_symlinks(&self) -> bool {
        self.entries.values().any(|(mode, _)| *mode == Mode::Symlink)
    }

    /// Writes the context into `directory`, which is empty, and the Dockerfile beside it; gives (context, Dockerfile).
    ///
    /// The Dockerfile lies outside of the context's copy, so that one that is ignored stays ignored.
    ///
    /// # Errors
    /// The copy cannot be written.
    pub fn stage(&self, directory: &Path) -> Result<(PathBuf, PathBuf), ContextError> {
        let root = directory.join("context");
        let mut directories = vec![root.clone()];
        make(&root, || std::fs::create_dir(&root))?;
        for (name, (mode, content)) in &self.entries {
            let path = root.join(name);
            if let Some(parent) = path.parent()
                && !parent.is_dir()
            {
                make(parent, || std::fs::create_dir_all(parent))?;
                directories.extend(
                    parent.ancestors().take_while(|ancestor| *ancestor != root).map(Path::to_path_buf),
                );
            }
            match mode {
                Mode::Symlink => {
                    make(&path, || std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(content), &path))?;
                }
                Mode::File | Mode::Executable => {
                    make(&path, || std::fs::write(&path, content))?;
                    let bits = if *mode == Mode::Executable { 0o755 } else { 0o644 };
                    make(&path, || std::fs::set_permissions(&path, std::fs::Permissions::from_mode(bits)))?;
                }
            }
            set_time(&path)?;
        }
        for path in directories {
            make(&path, || std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)))?;
            set_time(&path)?;
        }
        let dockerfile = directory.join("Dockerfile");
        make(&dockerfile, || std::fs::write(&dockerfile, &self.dockerfile))?;
        Ok((root, dockerfile))
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, ContextError> {
    std::fs::read(path).map_err(|source| ContextError::Read { path: path.display().to_string(), source })
}

fn make(path: &Path, step: impl FnOnce() -> std::io::Result<()>) -> Result<(), ContextError> {
    step().map_err(|source| ContextError::Write { path: path.display().to_string(), source })
}

fn set_time(path: &Path) -> Result<(), ContextError> {
    let time = rustix::fs::Timespec { tv_sec: STAGED_TIME, tv_nsec: 0 };
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
        let context = BuildContext::read(root.path(), "Dockerfile").unwrap();
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
        let (staged, dockerfile) = context.stage(copy.path()).unwrap();
        assert_eq!(std::fs::read(dockerfile).unwrap(), context.dockerfile);
        assert!(!staged.join("Dockerfile").exists() && !staged.join("empty").exists());
        for (path, mode) in [("a/b/run.sh", 0o755), ("keep.md", 0o644), ("a", 0o755), ("a/link", 0o777)] {
            let metadata = std::fs::symlink_metadata(staged.join(path)).unwrap();
            assert_eq!(metadata.permissions().mode() & 0o7777, mode, "{path}");
            assert_eq!(std::os::unix::fs::MetadataExt::mtime(&metadata), STAGED_TIME, "{path}");
        }
    }

    #[test]
    fn a_socket_is_named() {
        let root = directory(&[("Dockerfile", "FROM scratch\n")]);
        let _listener = std::os::unix::net::UnixListener::bind(root.path().join("s")).unwrap();
        let error = BuildContext::read(root.path(), "Dockerfile").unwrap_err().to_string();
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
        let context = BuildContext::read(root.path(), "Dockerfile").unwrap();
        assert_eq!(context.files().into_iter().map(|file| file.path).collect::<Vec<_>>(), ["a"]);
    }
}
