//! Atomic file writes: written to a temporary file in the same folder, flushed, then renamed.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// Writes `bytes` to `path`. Readers see the old or the new file, even after a power failure.
///
/// # Errors
/// The folder cannot be created or written to. The old file then stays unchanged.
pub fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let (path, file) = written_temporary(path, 0o666, |file| file.write_all(bytes))?;
    file.as_file().sync_all()?;
    file.persist(&path)?;
    // The rename is recorded in the folder, so that must be flushed too.
    std::fs::File::open(folder(&path))?.sync_all()
}

/// Like [`write`], but without waiting for the disk: safe if the process ends, not if power fails. `fill` writes the content.
///
/// # Errors
/// Errors of [`write`] and of `fill`.
pub fn write_soon(
    path: &Path,
    fill: impl FnOnce(&mut dyn std::io::Write) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let (path, file) = written_temporary(path, 0o666, |file| {
        let mut buffered = std::io::BufWriter::new(file);
        fill(&mut buffered)?;
        buffered.flush()
    })?;
    file.persist(path)?;
    Ok(())
}

/// Whether [`write`] can write to `path`, in an existing folder. Leaves no file.
///
/// # Errors
/// The folder does not exist, or cannot be written to.
pub fn check(path: &Path) -> std::io::Result<()> {
    new_temporary(&real(path), 0o666).map(drop)
}

/// How to handle an existing file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Keep it and fail.
    Kept,
    /// Replace it.
    Replaced,
}

/// Writes `bytes` to `path` with this mode, reduced by the umask. Does not wait for the disk.
///
/// # Errors
/// Errors of [`write`], and [`std::io::ErrorKind::AlreadyExists`] if an existing file is kept.
pub fn put(path: &Path, bytes: &[u8], mode: u32, existing: Existing) -> std::io::Result<()> {
    let (path, file) = written_temporary(path, mode, |file| file.write_all(bytes))?;
    match existing {
        Existing::Kept => file.persist_noclobber(&path)?,
        Existing::Replaced => file.persist(&path)?,
    };
    Ok(())
}

/// A file in the folder of `path`, written by `fill`, and the path to rename it to.
fn written_temporary(
    path: &Path,
    mode: u32,
    fill: impl FnOnce(&mut NamedTempFile) -> std::io::Result<()>,
) -> std::io::Result<(PathBuf, NamedTempFile)> {
    let path = real(path);
    std::fs::create_dir_all(folder(&path))?;
    let mut file = new_temporary(&path, mode)?;
    fill(&mut file)?;
    Ok((path, file))
}

/// The target of `path` if it is a link, so that a link (to a lock stored elsewhere) stays a link.
fn real(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// A new file in the folder of `path`.
fn new_temporary(path: &Path, mode: u32) -> std::io::Result<NamedTempFile> {
    // The umask applies, as for any file that a program creates. The tempfile crate's default is 0600.
    let permissions = std::fs::Permissions::from_mode(mode);
    tempfile::Builder::new().prefix(".xtask-").permissions(permissions).tempfile_in(folder(path))
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_atomically_without_temporary_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/images.lock");
        write_soon(&path, |file| file.write_all(b"one")).unwrap();
        write(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_ne!(mode & 0o600, 0, "{mode:o}");
        assert_eq!(mode & 0o111, 0, "{mode:o}");
    }

    #[test]
    fn a_symlink_stays_a_symlink() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        std::fs::write(&real, "one").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        write(&link, b"two").unwrap();
        assert_eq!(std::fs::read(&real).unwrap(), b"two");
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_an_error_and_the_old_file_stays() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "old").unwrap();
        assert!(write(&file.join("below"), b"x").is_err());
        assert_eq!(std::fs::read(&file).unwrap(), b"old");
    }
}
