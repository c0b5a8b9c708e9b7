//! A layout's blobs: each in its own file, or all in one tar file.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use registry::Digest;

use crate::place::{Place, hash};
use crate::{INDEX, LayoutError, MARK, archive, failed, shown};

/// Most bytes that are read into memory: manifests, and the layout's own files. An index of 10,000 images has 4 MiB.
const IN_MEMORY: u64 = 64 << 20;

enum Form {
    /// `blobs/sha256/<hex>` below this directory.
    Directory(PathBuf),
    /// In this tar file.
    Archive(PathBuf),
}

/// Blobs, and where new ones are written.
pub(crate) struct Blobs {
    form: Form,
    places: Mutex<HashMap<Digest, Place>>,
    /// Other files of a tar file.
    files: HashMap<String, Place>,
    incoming: Option<Incoming>,
}

/// The state for writing.
struct Incoming {
    /// Directory of blobs until they are complete and verified.
    directory: PathBuf,
    /// Locked, so that no other process writes.
    _lock: File,
    /// The tar file, positioned at its end, and its final name.
    archive: Option<(Mutex<File>, PathBuf)>,
    count: AtomicU64,
}

/// Writes a file whole or not at all.
pub(crate) fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    let mut file = File::create(&new)?;
    file.write_all(text)?;
    file.sync_all()?;
    std::fs::rename(new, path)
}

fn blob_file(directory: &Path, digest: Digest) -> PathBuf {
    directory.join("blobs/sha256").join(digest.hex())
}

/// `path` with a suffix.
fn with_suffix(path: &Path, more: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(more);
    path.with_file_name(name)
}

impl Blobs {
    /// Opens existing blobs for reading.
    pub(crate) fn open(path: &Path) -> Result<Self, LayoutError> {
        let is_directory = std::fs::metadata(path).map_err(|source| failed(path, source))?.is_dir();
        let (form, places, files) = if is_directory {
            let places = listed(path).map_err(|source| failed(path, source))?;
            (Form::Directory(path.to_owned()), places, HashMap::new())
        } else {
            let file = File::open(path).map_err(|source| failed(path, source))?;
            let found = archive::find(&file).map_err(|error| LayoutError::Malformed {
                path: shown(path),
                reason: format!("it cannot be read as a tar file that is not compressed: {error}"),
            })?;
            (Form::Archive(path.to_owned()), found.blobs, found.files)
        };
        Ok(Self { form, places: Mutex::new(places), files, incoming: None })
    }

    /// Opens blobs for writing and verifies the existing ones; also returns the path of the index during that time.
    pub(crate) fn create(path: &Path) -> Result<(Self, PathBuf), LayoutError> {
        let io = |source| failed(path, source);
        if path.extension().is_some_and(|extension| extension == "tar") {
            if path.exists() {
                return Err(LayoutError::Exists { path: shown(path) });
            }
            let incoming = Incoming::begin(path, &with_suffix(path, ".incoming"))?;
            let partial = with_suffix(path, ".partial");
            let mut options = File::options();
            let mut file =
                options.read(true).write(true).create(true).truncate(false).open(&partial).map_err(io)?;
            let places = archive::recover(&mut file).map_err(io)?;
            let kept = incoming.directory.join(INDEX);
            let incoming = Incoming { archive: Some((Mutex::new(file), path.to_owned())), ..incoming };
            let blobs = Self {
                form: Form::Archive(partial),
                places: Mutex::new(places),
                files: HashMap::new(),
                incoming: Some(incoming),
            };
            return Ok((blobs, kept));
        }
        if path.exists() && !is_ours(path).map_err(io)? {
            return Err(LayoutError::Foreign { path: shown(path) });
        }
        std::fs::create_dir_all(path.join("blobs/sha256")).map_err(io)?;
        let incoming = Incoming::begin(path, &path.join(".incoming"))?;
        let places = verified(path).map_err(io)?;
        let blobs = Self {
            form: Form::Directory(path.to_owned()),
            places: Mutex::new(places),
            files: HashMap::new(),
            incoming: Some(incoming),
        };
        Ok((blobs, path.join(INDEX)))
    }

    pub(crate) fn digests(&self) -> Vec<Digest> {
        lock(&self.places).keys().copied().collect()
    }

    /// Treats a blob as missing, so that its file is written again.
    pub(crate) fn forget(&self, digest: Digest) {
        lock(&self.places).remove(&digest);
    }

    pub(crate) fn size(&self, digest: Digest) -> Option<u64> {
        lock(&self.places).get(&digest).map(|place| place.size)
    }

    pub(crate) fn bytes(&self) -> u64 {
        lock(&self.places).values().fold(0, |sum, place| sum.saturating_add(place.size))
    }

    /// The file with the blob, and the blob's position in it.
    pub(crate) fn find(&self, digest: Digest) -> Option<(PathBuf, Place)> {
        let place = *lock(&self.places).get(&digest)?;
        let file = match &self.form {
            Form::Directory(directory) => blob_file(directory, digest),
            Form::Archive(file) => file.clone(),
        };
        Some((file, place))
    }

    /// A manifest's blob, in memory.
    pub(crate) fn read(&self, digest: Digest) -> io::Result<Option<Vec<u8>>> {
        let Some((file, place)) = self.find(digest) else { return Ok(None) };
        if place.size > registry::size_limits::MANIFEST as u64 {
            return Ok(None);
        }
        archive::read(&file, place).map(Some)
    }

    /// Another file of the layout.
    pub(crate) fn file(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let found = match &self.form {
            Form::Directory(directory) => match std::fs::metadata(directory.join(name)) {
                Ok(file) => Some((directory.join(name), Place { at: 0, size: file.len() })),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(error),
            },
            Form::Archive(file) => self.files.get(name).map(|place| (file.clone(), *place)),
        };
        match found {
            Some((_, place)) if place.size > IN_MEMORY => {
                Err(io::Error::other(format!("{name} is larger than {IN_MEMORY} bytes")))
            }
            Some((file, place)) => archive::read(&file, place).map(Some),
            None => Ok(None),
        }
    }

    /// A name for a new blob's file.
    pub(crate) fn new_file(&self) -> io::Result<PathBuf> {
        let incoming =
            self.incoming.as_ref().ok_or_else(|| io::Error::other("it is open for reading only"))?;
        let count = incoming.count.fetch_add(1, Ordering::Relaxed);
        Ok(incoming.directory.join(format!("{count}.part")))
    }

    /// Adds a file whose digest is verified and that has been synced to disk.
    pub(crate) fn take(&self, digest: Digest, file: &Path) -> io::Result<()> {
        let size = std::fs::metadata(file)?.len();
        if self.size(digest) == Some(size) {
            return std::fs::remove_file(file);
        }
        let archive = self.incoming.as_ref().and_then(|incoming| incoming.archive.as_ref());
        let place = match (&self.form, archive) {
            (Form::Directory(directory), _) => {
                std::fs::rename(file, blob_file(directory, digest))?;
                Place { at: 0, size }
            }
            (Form::Archive(_), Some((archive, _))) => {
                let mut archive = archive.lock().unwrap_or_else(PoisonError::into_inner);
                let name = format!("blobs/sha256/{}", digest.hex());
                let place = archive::append(&mut archive, &name, size, &mut File::open(file)?)?;
                std::fs::remove_file(file)?;
                place
            }
            (Form::Archive(_), None) => return Err(io::Error::other("it is open for reading only")),
        };
        lock(&self.places).insert(digest, place);
        Ok(())
    }

    /// Writes the layout's own files, and renames a tar file to its final name.
    pub(crate) fn finish(&self, files: &[(&str, &[u8])]) -> Result<(), LayoutError> {
        let Some(incoming) = &self.incoming else { return Ok(()) };
        match &self.form {
            Form::Directory(directory) => {
                for (name, text) in files {
                    let path = directory.join(name);
                    replace(&path, text).map_err(|source| failed(&path, source))?;
                }
            }
            Form::Archive(partial) => {
                let Some((archive, path)) = &incoming.archive else { return Ok(()) };
                let mut archive = archive.lock().unwrap_or_else(PoisonError::into_inner);
                let io = |source| failed(path, source);
                for (name, text) in files {
                    let mut content = *text;
                    archive::append(&mut archive, name, text.len() as u64, &mut content).map_err(io)?;
                }
                archive::end(&mut archive).map_err(io)?;
                std::fs::rename(partial, path).map_err(io)?;
            }
        }
        std::fs::remove_dir_all(&incoming.directory).map_err(|source| failed(&incoming.directory, source))
    }
}

fn lock(places: &Mutex<HashMap<Digest, Place>>) -> MutexGuard<'_, HashMap<Digest, Place>> {
    places.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Incoming {
    /// Locks the directory for new blobs and removes files that a killed process left there.
    fn begin(path: &Path, directory: &Path) -> Result<Self, LayoutError> {
        let io = |source| failed(directory, source);
        std::fs::create_dir_all(directory).map_err(io)?;
        let lock = File::create(directory.join("lock")).map_err(io)?;
        if let Err(error) = lock.try_lock() {
            return Err(match error {
                std::fs::TryLockError::WouldBlock => LayoutError::Busy { path: shown(path) },
                std::fs::TryLockError::Error(source) => io(source),
            });
        }
        for entry in std::fs::read_dir(directory).map_err(io)? {
            let file = entry.map_err(io)?.path();
            if file.extension().is_some_and(|extension| extension == "part") {
                std::fs::remove_file(file).map_err(io)?;
            }
        }
        Ok(Self { directory: directory.to_owned(), _lock: lock, archive: None, count: AtomicU64::default() })
    }
}

/// Whether a directory is a layout, complete or not, or empty.
fn is_ours(path: &Path) -> io::Result<bool> {
    if !path.is_dir() {
        return Ok(false);
    }
    if path.join(MARK).is_file() || path.join(".incoming").is_dir() {
        return Ok(true);
    }
    Ok(std::fs::read_dir(path)?.next().is_none())
}

/// The blobs of a directory by their file names.
fn listed(directory: &Path) -> io::Result<HashMap<Digest, Place>> {
    let mut places = HashMap::new();
    let entries = match std::fs::read_dir(directory.join("blobs/sha256")) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(places),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let digest = name.to_str().and_then(|hex| format!("sha256:{hex}").parse().ok());
        if let Some(digest) = digest {
            places.insert(digest, Place { at: 0, size: entry.metadata()?.len() });
        }
    }
    Ok(places)
}

/// Like [`listed`], but reads each blob and removes those that do not match their names.
fn verified(directory: &Path) -> io::Result<HashMap<Digest, Place>> {
    let mut places = listed(directory)?;
    let mut wrong = Vec::new();
    for digest in places.keys() {
        let file = blob_file(directory, *digest);
        if hash(&mut File::open(&file)?)? != *digest {
            std::fs::remove_file(file)?;
            wrong.push(*digest);
        }
    }
    for digest in wrong {
        places.remove(&digest);
    }
    Ok(places)
}

/// Opens a blob at its `offset`.
pub(crate) fn open_at(file: &Path, place: Place, offset: u64) -> io::Result<tokio::fs::File> {
    let mut file = File::open(file)?;
    file.seek(SeekFrom::Start(place.at + offset))?;
    Ok(tokio::fs::File::from_std(file))
}
