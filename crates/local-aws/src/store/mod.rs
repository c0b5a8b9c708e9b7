//! The state: in memory for reading, on disk before any change is answered.
//!
//! Readers take a snapshot and never wait for the disk. Writers go one at a time: copy, change, write to disk, then show. A
//! process killed at any moment leaves the state before or after a change, never between: bytes are synced before the metadata
//! that names them.

pub(crate) mod content;
pub(crate) mod disk;
pub(crate) mod model;

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use serde::de::DeserializeOwned;

use crate::fault::Fault;
use crate::scope::Scope;
use content::Contents;
use model::{Bucket, Kms, Repository, Settings, Stack, Versions};

#[derive(Debug, Default)]
struct State {
    regions: BTreeMap<Scope, Region>,
    buckets: BTreeMap<String, Arc<Bucket>>,
    stacks: Arc<Vec<Stack>>,
}

#[derive(Debug, Default)]
struct Region {
    repositories: BTreeMap<String, Arc<Repository>>,
    settings: Arc<Settings>,
    kms: Arc<Kms>,
}

/// All that is kept.
#[derive(Debug)]
pub(crate) struct Store {
    root: PathBuf,
    state: RwLock<State>,
    writing: Mutex<()>,
    pub(crate) contents: Contents,
    /// Held while the process lives: two servers over one directory would lose each other's changes.
    _lock: File,
}

impl Store {
    /// Opens `root`, reads the metadata and removes what no repository holds any more.
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(root)?;
        let lock = File::create(root.join("lock"))?;
        lock.try_lock().map_err(|_| {
            io::Error::new(
                io::ErrorKind::ResourceBusy,
                format!("{} is in use by another local-aws", root.display()),
            )
        })?;
        let contents = Contents::open(root)?;
        let state = load(root)?;
        let held: HashSet<&str> = state
            .regions
            .values()
            .flat_map(|region| region.repositories.values())
            .flat_map(|repository| repository.images.keys().chain(repository.layers.keys()))
            .filter_map(|digest| digest.strip_prefix("sha256:"))
            .collect();
        contents.sweep(&held)?;
        Ok(Self {
            root: root.to_owned(),
            state: RwLock::new(state),
            writing: Mutex::new(()),
            contents,
            _lock: lock,
        })
    }

    fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn show(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.write().unwrap_or_else(PoisonError::into_inner));
    }

    fn one_writer(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn region_dir(&self, scope: &Scope) -> PathBuf {
        self.root.join("accounts").join(&scope.account).join(&scope.region)
    }

    fn repository_file(&self, scope: &Scope, name: &str) -> PathBuf {
        self.region_dir(scope).join("repositories").join(format!("{}.json", disk::file_name(name)))
    }

    pub(crate) fn repository(&self, scope: &Scope, name: &str) -> Option<Arc<Repository>> {
        self.read(|state| state.regions.get(scope)?.repositories.get(name).cloned())
    }

    pub(crate) fn repositories(&self, scope: &Scope) -> Vec<Arc<Repository>> {
        self.read(|state| {
            state
                .regions
                .get(scope)
                .map_or_else(Vec::new, |region| region.repositories.values().cloned().collect())
        })
    }

    /// Adds a repository; `Ok(false)`: the name is taken.
    pub(crate) fn add_repository(&self, scope: &Scope, repository: Repository) -> Result<bool, Fault> {
        let _writer = self.one_writer();
        if self.repository(scope, &repository.name).is_some() {
            return Ok(false);
        }
        disk::write_json(&self.repository_file(scope, &repository.name), &repository)?;
        self.show(|state| {
            let region = state.regions.entry(scope.clone()).or_default();
            region.repositories.insert(repository.name.clone(), Arc::new(repository));
        });
        Ok(true)
    }

    /// Changes a repository, or nothing if `change` refuses; `None`: there is no such repository.
    pub(crate) fn change_repository<T>(
        &self,
        scope: &Scope,
        name: &str,
        change: impl FnOnce(&mut Repository) -> Result<T, Fault>,
    ) -> Option<Result<T, Fault>> {
        let _writer = self.one_writer();
        let mut repository = (*self.repository(scope, name)?).clone();
        Some(change(&mut repository).and_then(|outcome| {
            disk::write_json(&self.repository_file(scope, name), &repository)?;
            self.show(|state| {
                let region = state.regions.entry(scope.clone()).or_default();
                region.repositories.insert(name.to_owned(), Arc::new(repository));
            });
            Ok(outcome)
        }))
    }

    /// Removes a repository if `allow` lets it go; `None`: there is no such repository.
    pub(crate) fn remove_repository(
        &self,
        scope: &Scope,
        name: &str,
        allow: impl FnOnce(&Repository) -> Result<(), Fault>,
    ) -> Option<Result<Arc<Repository>, Fault>> {
        let _writer = self.one_writer();
        let repository = self.repository(scope, name)?;
        Some(allow(&repository).and_then(|()| {
            disk::remove(&self.repository_file(scope, name))?;
            self.show(|state| {
                if let Some(region) = state.regions.get_mut(scope) {
                    region.repositories.remove(name);
                }
            });
            Ok(Arc::clone(&repository))
        }))
    }

    pub(crate) fn settings(&self, scope: &Scope) -> Arc<Settings> {
        self.read(|state| {
            state.regions.get(scope).map(|region| Arc::clone(&region.settings)).unwrap_or_default()
        })
    }

    pub(crate) fn change_settings<T>(
        &self,
        scope: &Scope,
        change: impl FnOnce(&mut Settings) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let _writer = self.one_writer();
        let mut settings = (*self.settings(scope)).clone();
        let outcome = change(&mut settings)?;
        disk::write_json(&self.region_dir(scope).join("registry.json"), &settings)?;
        self.show(|state| state.regions.entry(scope.clone()).or_default().settings = Arc::new(settings));
        Ok(outcome)
    }

    pub(crate) fn kms(&self, scope: &Scope) -> Arc<Kms> {
        self.read(|state| state.regions.get(scope).map(|region| Arc::clone(&region.kms)).unwrap_or_default())
    }

    pub(crate) fn change_kms<T>(
        &self,
        scope: &Scope,
        change: impl FnOnce(&mut Kms) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let _writer = self.one_writer();
        let mut kms = (*self.kms(scope)).clone();
        let outcome = change(&mut kms)?;
        disk::write_json(&self.region_dir(scope).join("kms.json"), &kms)?;
        self.show(|state| state.regions.entry(scope.clone()).or_default().kms = Arc::new(kms));
        Ok(outcome)
    }

    pub(crate) fn stacks(&self) -> Arc<Vec<Stack>> {
        self.read(|state| Arc::clone(&state.stacks))
    }

    /// Declares a stack, in the place of one of the same name.
    pub(crate) fn put_stack(&self, stack: Stack) -> Result<(), Fault> {
        let _writer = self.one_writer();
        let mut stacks = (*self.stacks()).clone();
        stacks.retain(|known| known.scope != stack.scope || known.name != stack.name);
        stacks.push(stack);
        disk::write_json(&self.root.join("stacks.json"), &stacks)?;
        self.show(|state| state.stacks = Arc::new(stacks));
        Ok(())
    }

    fn bucket_dir(&self, name: &str) -> PathBuf {
        self.root.join("buckets").join(name)
    }

    pub(crate) fn bucket(&self, name: &str) -> Option<Arc<Bucket>> {
        self.read(|state| state.buckets.get(name).cloned())
    }

    pub(crate) fn buckets(&self) -> Vec<Arc<Bucket>> {
        self.read(|state| state.buckets.values().cloned().collect())
    }

    /// Creates or changes a bucket's own settings, not its objects.
    pub(crate) fn change_bucket<T>(
        &self,
        name: &str,
        change: impl FnOnce(Option<&Bucket>) -> Result<(T, Bucket), Fault>,
    ) -> Result<T, Fault> {
        let _writer = self.one_writer();
        let (outcome, bucket) = change(self.bucket(name).as_deref())?;
        let directory = self.bucket_dir(name);
        std::fs::create_dir_all(directory.join("objects"))?;
        disk::write_json(&directory.join("bucket.json"), &bucket)?;
        disk::sync_directory(&self.root.join("buckets"))?;
        self.show(|state| {
            state.buckets.insert(name.to_owned(), Arc::new(bucket));
        });
        Ok(outcome)
    }

    pub(crate) fn remove_bucket(&self, name: &str) -> Result<(), Fault> {
        let _writer = self.one_writer();
        match self.bucket(name) {
            None => Ok(()),
            Some(bucket) if !bucket.objects.is_empty() => Err(Fault::new(
                http::StatusCode::CONFLICT,
                "BucketNotEmpty",
                "The bucket you tried to delete is not empty. You must delete all versions in the bucket.",
            )),
            Some(_) => {
                // The name goes first: a bucket without bucket.json is not loaded, and is removed at the next start.
                disk::remove(&self.bucket_dir(name).join("bucket.json"))?;
                std::fs::remove_dir_all(self.bucket_dir(name))?;
                self.show(|state| {
                    state.buckets.remove(name);
                });
                Ok(())
            }
        }
    }

    pub(crate) fn object_file(&self, bucket: &str, file: &str) -> PathBuf {
        self.bucket_dir(bucket).join("objects").join(file)
    }

    /// Changes the versions of one key. Condition and change are one step: nobody comes between them.
    pub(crate) fn change_object<T>(
        &self,
        bucket: &str,
        key: &str,
        change: impl FnOnce(&Bucket, &mut Vec<model::Version>) -> Result<T, Fault>,
    ) -> Option<Result<T, Fault>> {
        let _writer = self.one_writer();
        let known = self.bucket(bucket)?;
        let mut versions = known.objects.get(key).cloned().unwrap_or_default();
        let before: Vec<String> = files(&versions);
        Some(change(&known, &mut versions).and_then(|outcome| {
            let index = self
                .bucket_dir(bucket)
                .join("keys")
                .join(format!("{}.json", &crate::digest::sha256(key.as_bytes())["sha256:".len()..]));
            if versions.is_empty() {
                disk::remove(&index)?;
            } else {
                disk::write_json(&index, &Versions { key: key.to_owned(), versions: versions.clone() })?;
            }
            let after = files(&versions);
            let mut changed = (*known).clone();
            if versions.is_empty() {
                changed.objects.remove(key);
            } else {
                changed.objects.insert(key.to_owned(), versions);
            }
            self.show(|state| {
                state.buckets.insert(bucket.to_owned(), Arc::new(changed));
            });
            for gone in before.iter().filter(|file| !after.contains(file)) {
                disk::remove(&self.object_file(bucket, gone))?;
            }
            Ok(outcome)
        }))
    }
}

fn files(versions: &[model::Version]) -> Vec<String> {
    versions
        .iter()
        .filter_map(|version| version.content.as_ref().map(|content| content.file.clone()))
        .collect()
}

fn load(root: &Path) -> io::Result<State> {
    let mut state = State::default();
    let accounts = root.join("accounts");
    for account in disk::names(&accounts)? {
        for region in disk::names(&accounts.join(&account))? {
            let directory = accounts.join(&account).join(&region);
            let loaded = Region {
                repositories: load_all(&directory.join("repositories"))?
                    .into_iter()
                    .map(|repository: Repository| (repository.name.clone(), Arc::new(repository)))
                    .collect(),
                settings: Arc::new(disk::read_json(&directory.join("registry.json"))?.unwrap_or_default()),
                kms: Arc::new(disk::read_json(&directory.join("kms.json"))?.unwrap_or_default()),
            };
            disk::names(&directory)?;
            state.regions.insert(Scope { account: account.clone(), region }, loaded);
        }
    }
    for name in disk::names(&root.join("buckets"))? {
        let directory = root.join("buckets").join(&name);
        let Some(mut bucket) = disk::read_json::<Bucket>(&directory.join("bucket.json"))? else {
            std::fs::remove_dir_all(&directory)?;
            continue;
        };
        for versions in load_all::<Versions>(&directory.join("keys"))? {
            bucket.objects.insert(versions.key, versions.versions);
        }
        remove_orphans(&directory.join("objects"), &bucket)?;
        disk::names(&directory)?;
        state.buckets.insert(name, Arc::new(bucket));
    }
    state.stacks = Arc::new(disk::read_json(&root.join("stacks.json"))?.unwrap_or_default());
    disk::names(root)?;
    Ok(state)
}

fn load_all<T: DeserializeOwned>(directory: &Path) -> io::Result<Vec<T>> {
    let mut all = Vec::new();
    for name in disk::names(directory)? {
        all.extend(disk::read_json(&directory.join(name))?);
    }
    Ok(all)
}

/// Content whose version never came to be, or is gone: the process was killed between the two.
fn remove_orphans(directory: &Path, bucket: &Bucket) -> io::Result<()> {
    let held: HashSet<String> = bucket.objects.values().flat_map(|versions| files(versions)).collect();
    for name in disk::names(directory)? {
        if !held.contains(&name) {
            std::fs::remove_file(directory.join(name))?;
        }
    }
    Ok(())
}

/// A random id in the form of a UUID: of keys, uploads, requests and versions.
pub(crate) fn new_id() -> String {
    let hex = format!("{:032x}", fastrand::u128(..));
    format!("{}-{}-4{}-a{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
}
