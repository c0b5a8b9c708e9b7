//! The initial files of a grid (images.toml, the terraform module, `runtimes/`), included in a program.

use std::io::ErrorKind;
use std::path::Path;

use images_config::atomic::{Existing, put};
use sha2::{Digest as _, Sha256};

/// A file included in a program.
#[derive(Clone, Copy, Debug)]
pub struct ShippedFile {
    /// Its path from the project's top.
    pub path: &'static str,
    /// Its content.
    pub content: &'static [u8],
}

impl ShippedFile {
    /// The mode to write it with: scripts are executable, as in git. The mode is part of a runtime's build key.
    pub fn mode(&self) -> u32 {
        if self.content.starts_with(b"#!") { 0o777 } else { 0o666 }
    }
}

/// A unique name for this version of the files: the program's version, and a hash of paths and contents.
pub fn key(files: &[ShippedFile]) -> String {
    let mut hash = Sha256::new();
    for part in files.iter().flat_map(|file| [file.path.as_bytes(), file.content]) {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    format!("{}-{}", env!("CARGO_PKG_VERSION"), &hex::encode(hash.finalize())[..12])
}

/// Writes the files below `root`. Files that differ are replaced; other files stay.
///
/// # Errors
/// A file cannot be written.
pub fn unpack(files: &[ShippedFile], root: &Path) -> std::io::Result<()> {
    for file in files {
        let path = root.join(file.path);
        if std::fs::read(&path).is_ok_and(|content| content == file.content) {
            continue;
        }
        put(&path, file.content, file.mode(), Existing::Replaced)?;
    }
    Ok(())
}

/// The result of writing files into a folder, as paths from that folder.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct WriteResult {
    /// Files that were written.
    pub written: Vec<&'static str>,
    /// Files that existed already with the same content.
    pub unchanged: Vec<&'static str>,
}

/// Why files were not written into a folder.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Other files have the same paths.
    #[error("{folder} has files that differ from this program's: {}", names.join(", "))]
    Differ {
        /// The folder, as typed.
        folder: String,
        /// Their paths from the folder.
        names: Vec<String>,
    },
    /// A file cannot be written.
    #[error("could not write {path}")]
    Io {
        /// The file.
        path: String,
        /// The error of the operating system.
        #[source]
        source: std::io::Error,
    },
}

/// Writes all files into `folder`, or none: if an existing file differs, or one cannot be written, the folder stays unchanged.
///
/// # Errors
/// An existing file differs, or a file cannot be written.
pub fn write(files: &[ShippedFile], folder: &Path) -> Result<WriteResult, WriteError> {
    let differ = |names: Vec<String>| WriteError::Differ { folder: folder.display().to_string(), names };
    let io = |file: &ShippedFile, source| WriteError::Io {
        path: folder.join(file.path).display().to_string(),
        source,
    };
    let (mut missing, mut unchanged, mut others) = (Vec::new(), Vec::new(), Vec::new());
    for file in files {
        match std::fs::read(folder.join(file.path)) {
            Ok(content) if content == file.content => unchanged.push(file.path),
            Ok(_) => others.push(file.path.to_owned()),
            Err(error) if error.kind() == ErrorKind::IsADirectory => others.push(file.path.to_owned()),
            Err(error) if error.kind() == ErrorKind::NotFound => missing.push(file),
            Err(error) => return Err(io(file, error)),
        }
    }
    if !others.is_empty() {
        return Err(differ(others));
    }
    let mut written = Vec::new();
    for file in missing {
        let Err(error) = put(&folder.join(file.path), file.content, file.mode(), Existing::Kept) else {
            written.push(file.path);
            continue;
        };
        for path in written {
            // If a file cannot be removed, the next run finds it with the same content.
            let _ = std::fs::remove_file(folder.join(path));
        }
        return Err(match error.kind() {
            ErrorKind::AlreadyExists => differ(vec![file.path.to_owned()]),
            _ => io(file, error),
        });
    }
    Ok(WriteResult { written, unchanged })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const FILES: [ShippedFile; 2] = [
        ShippedFile { path: "a/list", content: b"one\n" },
        ShippedFile { path: "b/script", content: b"#!/bin/sh\n" },
    ];

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o111
    }

    #[test]
    fn files_are_written_once_and_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("new");
        let all = FILES.map(|file| file.path).to_vec();
        let first = write(&FILES, &folder).unwrap();
        assert_eq!(first, WriteResult { written: all.clone(), unchanged: vec![] });
        assert_eq!((mode(&folder.join("a/list")), mode(&folder.join("b/script"))), (0, 0o111));
        let again = write(&FILES, &folder).unwrap();
        assert_eq!(again, WriteResult { written: vec![], unchanged: all });

        std::fs::remove_file(folder.join("a/list")).unwrap();
        std::fs::write(folder.join("b/script"), "edited").unwrap();
        let error = write(&FILES, &folder).unwrap_err().to_string();
        assert!(error.ends_with(" has files that differ from this program's: b/script"), "{error}");
        assert!(!folder.join("a/list").exists(), "nothing is changed");
    }

    #[test]
    fn if_one_file_cannot_be_written_none_is() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("b"), "no folder").unwrap();
        // A dangling link is in the way like a file, and is noticed only when writing.
        for link in [false, true] {
            if link {
                std::fs::remove_file(dir.path().join("b")).unwrap();
                std::fs::create_dir(dir.path().join("b")).unwrap();
                std::os::unix::fs::symlink("nowhere", dir.path().join("b/script")).unwrap();
            }
            let error = write(&FILES, dir.path()).unwrap_err().to_string();
            assert!(error.contains("b/script"), "{error}");
            assert!(!dir.path().join("a/list").exists(), "{error}");
        }
        assert!(dir.path().join("b/script").is_symlink());
    }

    #[test]
    fn unpacked_files_always_match_the_program() {
        let dir = tempfile::tempdir().unwrap();
        unpack(&FILES, dir.path()).unwrap();
        std::fs::write(dir.path().join("b/script"), "edited").unwrap();
        std::fs::write(dir.path().join("b/other"), "kept").unwrap();
        unpack(&FILES, dir.path()).unwrap();
        assert_eq!(std::fs::read(dir.path().join("b/script")).unwrap(), FILES[1].content);
        assert_eq!(mode(&dir.path().join("b/script")), 0o111);
        assert!(dir.path().join("b/other").exists());
    }

    #[test]
    fn other_files_have_another_key() {
        let moved = [ShippedFile { path: "a/lis", content: b"tone\n" }, FILES[1]];
        assert_ne!(key(&FILES), key(&moved));
        assert!(key(&FILES).starts_with(concat!(env!("CARGO_PKG_VERSION"), "-")));
    }
}
