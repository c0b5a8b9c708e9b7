//! The state: in memory for reading, and written to disk before a change is answered.
//!
//! Readers take a snapshot and never wait for the disk. Writers run one at a time: copy, change, write to disk, then publish. If the
//! process is killed, the state is the one before or after a change, never between: bytes are synced before the metadata that refers to
//! them.

mod buckets;
pub(crate) mod content;
pub(crate) mod disk;
pub(crate) mod model;
mod region;

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use serde::de::DeserializeOwned;

use crate::fault::Fault;
use crate::scope::Scope;
use buckets::{BucketStore, files};
use content::Contents;
use model::{Bucket, Kms, Repository, Settings, Shown, Stack, Versions};
use region::RegionStore;

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
    shown: Arc<Shown>,
}

/// All persistent data.
#[derive(Debug)]
pub(crate) struct Store {
    root: PathBuf,
    state: RwLock<State>,
    writing: Mutex<()>,
    pub(crate) contents: Contents,
    /// Held while the process runs: two servers with one directory would lose each other's changes.
    _lock: File,
}

impl Store {
    /// Opens `root`, reads the metadata and removes contents that no repository refers to.
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

    /// The data of one account in one region.
    pub(crate) fn region<'a>(&'a self, scope: &'a Scope) -> RegionStore<'a> {
        RegionStore { store: self, scope }
    }

    /// The buckets and their objects.
    pub(crate) fn buckets(&self) -> BucketStore<'_> {
        BucketStore { store: self }
    }

    pub(crate) fn stacks(&self) -> Arc<Vec<Stack>> {
        self.read(|state| Arc::clone(&state.stacks))
    }

    /// Declares a stack; replaces one with the same name.
    pub(crate) fn put_stack(&self, stack: Stack) -> Result<(), Fault> {
        let _writer = self.one_writer();
        let mut stacks = (*self.stacks()).clone();
        stacks.retain(|known| known.scope != stack.scope || known.name != stack.name);
        stacks.push(stack);
        disk::write_json(&self.root.join("stacks.json"), &stacks)?;
        self.show(|state| state.stacks = Arc::new(stacks));
        Ok(())
    }
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
                shown: Arc::new(disk::read_json(&directory.join("shown.json"))?.unwrap_or_default()),
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

/// Removes content whose version was not written, or was deleted, because the process was killed in between.
fn remove_orphans(directory: &Path, bucket: &Bucket) -> io::Result<()> {
    let held: HashSet<String> = bucket.objects.values().flat_map(|versions| files(versions)).collect();
    for name in disk::names(directory)? {
        if !held.contains(&name) {
            std::fs::remove_file(directory.join(name))?;
        }
    }
    Ok(())
}

/// A random ID in the form of a UUID: for keys, uploads, requests and versions.
pub(crate) fn new_id() -> String {
    let hex = format!("{:032x}", fastrand::u128(..));
    format!("{}-{}-4{}-a{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
}
