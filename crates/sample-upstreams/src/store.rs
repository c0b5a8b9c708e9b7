//! The sample images on disk: blobs by digest, and one file with the content of each repository.

mod documents;
mod images;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Error;

/// Increase it when the same options would give other images: a store with an older number is built again.
const RECIPE: u32 = 5;

/// How large the images are.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Scale {
    /// 190 MiB for linux/amd64, and bases that can run.
    #[default]
    Full,
    /// 1/256 of that, and bases without a root file system: created in a second, without root or debootstrap.
    Small,
}

/// What to build.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// How large the images are.
    pub scale: Scale,
}

impl Options {
    fn recipe(&self) -> String {
        match self.scale {
            Scale::Full => format!("full-{RECIPE}"),
            Scale::Small => format!("small-{RECIPE}"),
        }
    }
}

/// The content of a repository.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Repository {
    /// Tag to digest.
    pub(crate) tags: BTreeMap<String, String>,
    /// Digest to media type.
    pub(crate) manifests: BTreeMap<String, String>,
    /// Digests of layers and configurations.
    pub(crate) blobs: BTreeSet<String>,
}

/// The file with the content of each `registry/repository`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Contents {
    /// How often [`Store::touch`] moved a tag; makes every version unique.
    pub(crate) touched: u64,
    pub(crate) repositories: BTreeMap<String, Repository>,
}

/// Sample images that have been built.
#[derive(Clone, Debug)]
pub struct Store {
    dir: PathBuf,
}

/// Builds the images into `data`, unless they exist.
///
/// The store is created by one rename: a killed build leaves only a directory, which the next one removes. The root file system is cached
/// next to it, so that a new recipe does not create it again. Concurrent builds wait for each other.
///
/// # Errors
/// debootstrap or root is missing, or a file cannot be written.
pub fn build(data: &Path, options: &Options) -> Result<Store, Error> {
    std::fs::create_dir_all(data).map_err(Error::file("create", data))?;
    let _lock = lock(data)?;
    let store = Store { dir: data.join("store") };
    let recipe = options.recipe();
    if std::fs::read_to_string(store.dir.join("recipe")).is_ok_and(|built| built == recipe) {
        return Ok(store);
    }
    let temporary = Temporary::new(data)?;
    std::fs::write(temporary.0.join("recipe"), &recipe).map_err(Error::file("write", &temporary.0))?;
    let contents = images::make(data, &temporary.0, options.scale)?;
    Store { dir: temporary.0.clone() }.write_contents(&contents)?;
    std::fs::copy(temporary.0.join("contents.json"), temporary.0.join("original.json"))
        .map_err(Error::file("write", temporary.0.join("original.json")))?;
    if store.dir.exists() {
        // A store of another recipe. Between the two renames there is no store, and a server answers 404 for every name.
        let old = temporary.0.with_extension("old");
        std::fs::rename(&store.dir, &old).map_err(Error::file("rename", &store.dir))?;
        std::fs::rename(&temporary.0, &store.dir).map_err(Error::file("rename", &temporary.0))?;
        std::fs::remove_dir_all(&old).map_err(Error::file("remove", old))?;
    } else {
        std::fs::rename(&temporary.0, &store.dir).map_err(Error::file("rename", &temporary.0))?;
    }
    Ok(store)
}

impl Store {
    /// The store in `data`.
    ///
    /// # Errors
    /// There is none.
    pub fn open(data: &Path) -> Result<Self, Error> {
        let dir = data.join("store");
        if dir.join("contents.json").is_file() {
            Ok(Self { dir })
        } else {
            Err(Error::NotBuilt { path: data.into() })
        }
    }

    /// Copies the store to `data`: the blobs are hard links if the file system supports them. A test can then move tags without affecting
    /// other tests.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn copy_to(&self, data: &Path) -> Result<Self, Error> {
        std::fs::create_dir_all(data).map_err(Error::file("create", data))?;
        let _lock = lock(data)?;
        let store = Self { dir: data.join("store") };
        if store.dir.join("contents.json").is_file() {
            return Ok(store);
        }
        let temporary = Temporary::new(data)?;
        for name in ["recipe", "original.json"] {
            std::fs::copy(self.dir.join(name), temporary.0.join(name))
                .map_err(Error::file("copy", self.dir.join(name)))?;
        }
        std::fs::copy(self.dir.join("original.json"), temporary.0.join("contents.json"))
            .map_err(Error::file("copy", self.dir.join("original.json")))?;
        let blobs = self.dir.join("blobs");
        std::fs::create_dir(temporary.0.join("blobs"))
            .map_err(Error::file("create", temporary.0.join("blobs")))?;
        for entry in blobs.read_dir().map_err(Error::file("read", &blobs))? {
            let entry = entry.map_err(Error::file("read", &blobs))?;
            let target = temporary.0.join("blobs").join(entry.file_name());
            if std::fs::hard_link(entry.path(), &target).is_err() {
                std::fs::copy(entry.path(), &target).map_err(Error::file("copy", entry.path()))?;
            }
        }
        std::fs::rename(&temporary.0, &store.dir).map_err(Error::file("rename", &temporary.0))?;
        Ok(store)
    }

    /// Publishes a changed version of `image` (`docker.io/curlimages/curl:7.85.0`; Docker Hub's name is optional): every platform gets one
    /// more layer, and the tag moves to the new index. Returns the old and the new digest.
    ///
    /// # Errors
    /// There is no such image, or a file cannot be written.
    pub fn touch(&self, image: &str) -> Result<(String, String), Error> {
        let _lock = lock(self.data())?;
        let unknown = || Error::UnknownImage(image.to_owned());
        let (name, tag) = image.rsplit_once(':').ok_or_else(unknown)?;
        let mut contents = self.contents()?;
        let path = [name.to_owned(), format!("docker.io/{name}"), format!("docker.io/library/{name}")]
            .into_iter()
            .find(|path| contents.repositories.contains_key(path))
            .ok_or_else(unknown)?;
        contents.touched += 1;
        let touched = contents.touched;
        let repository = contents.repositories.get_mut(&path).ok_or_else(unknown)?;
        let old = repository.tags.get(tag).cloned().ok_or_else(unknown)?;
        let new = images::changed(&self.dir, repository, &old, &format!("{path}:{tag} change {touched}"))?;
        repository.tags.insert(tag.to_owned(), new.clone());
        self.write_contents(&contents)?;
        Ok((old, new))
    }

    /// Moves every tag back to its digest after the build.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn reset(&self) -> Result<(), Error> {
        let _lock = lock(self.data())?;
        let original = read_contents(&self.dir.join("original.json"))?;
        self.write_contents(&original)
    }

    /// The current digest of a tag; `path` is `registry/repository`.
    ///
    /// # Errors
    /// The store is damaged.
    pub fn digest(&self, path: &str, tag: &str) -> Result<Option<String>, Error> {
        Ok(self.contents()?.repositories.get(path).and_then(|repository| repository.tags.get(tag).cloned()))
    }

    pub(crate) fn contents(&self) -> Result<Contents, Error> {
        read_contents(&self.dir.join("contents.json"))
    }

    /// The file of a blob or manifest; `digest` must be in [`Contents`].
    pub(crate) fn blob(&self, digest: &str) -> PathBuf {
        blob_path(&self.dir, digest)
    }

    fn data(&self) -> &Path {
        self.dir.parent().unwrap_or(&self.dir)
    }

    fn write_contents(&self, contents: &Contents) -> Result<(), Error> {
        let path = self.dir.join("contents.json");
        let json = serde_json::to_vec_pretty(contents)
            .map_err(|source| Error::Damaged { path: path.clone(), source })?;
        write_atomically(&path, &json)
    }
}

fn blob_path(dir: &Path, digest: &str) -> PathBuf {
    dir.join("blobs").join(digest.trim_start_matches("sha256:"))
}

fn read_contents(path: &Path) -> Result<Contents, Error> {
    let json = std::fs::read(path).map_err(Error::file("read", path))?;
    serde_json::from_slice(&json).map_err(|source| Error::Damaged { path: path.into(), source })
}

/// Writes a file atomically for readers. It is not synced to disk: after a power loss, everything here can be built again.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let write = || {
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        std::io::Write::write_all(&mut file, bytes)?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(Error::file("write", path))
}

fn lock(data: &Path) -> Result<std::fs::File, Error> {
    let path = data.join("lock");
    let file = std::fs::File::create(&path).map_err(Error::file("create", &path))?;
    file.lock().map_err(Error::file("lock", path))?;
    Ok(file)
}

/// A directory for one build, removed unless it was renamed. First removes those of killed builds: the lock is held.
struct Temporary(PathBuf);

impl Temporary {
    fn new(data: &Path) -> Result<Self, Error> {
        for entry in data.read_dir().map_err(Error::file("read", data))?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(".building-") {
                std::fs::remove_dir_all(entry.path()).map_err(Error::file("remove", entry.path()))?;
            }
        }
        let dir = data.join(format!(".building-{}", std::process::id()));
        std::fs::create_dir(&dir).map_err(Error::file("create", &dir))?;
        Ok(Self(dir))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After the rename it no longer exists; after an error the next build removes it.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
