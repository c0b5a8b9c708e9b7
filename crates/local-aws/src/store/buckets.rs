//! Buckets and their objects.

use std::path::PathBuf;
use std::sync::Arc;

use super::model::{Bucket, Version, Versions};
use super::{Store, disk};
use crate::fault::Fault;

/// The part of the [`Store`] with the buckets: their names are global.
pub(crate) struct BucketStore<'a> {
    pub(super) store: &'a Store,
}

impl BucketStore<'_> {
    fn dir(&self, name: &str) -> PathBuf {
        self.store.root.join("buckets").join(name)
    }

    pub(crate) fn get(&self, name: &str) -> Option<Arc<Bucket>> {
        self.store.read(|state| state.buckets.get(name).cloned())
    }

    pub(crate) fn all(&self) -> Vec<Arc<Bucket>> {
        self.store.read(|state| state.buckets.values().cloned().collect())
    }

    /// Creates a bucket, or changes its settings but not its objects.
    pub(crate) fn change<T>(
        &self,
        name: &str,
        change: impl FnOnce(Option<&Bucket>) -> Result<(T, Bucket), Fault>,
    ) -> Result<T, Fault> {
        let _writer = self.store.one_writer();
        let (outcome, bucket) = change(self.get(name).as_deref())?;
        let directory = self.dir(name);
        std::fs::create_dir_all(directory.join("objects"))?;
        disk::write_json(&directory.join("bucket.json"), &bucket)?;
        disk::sync_directory(&self.store.root.join("buckets"))?;
        self.store.show(|state| {
            state.buckets.insert(name.to_owned(), Arc::new(bucket));
        });
        Ok(outcome)
    }

    pub(crate) fn remove(&self, name: &str) -> Result<(), Fault> {
        let _writer = self.store.one_writer();
        match self.get(name) {
            None => Ok(()),
            Some(bucket) if !bucket.objects.is_empty() => Err(Fault::new(
                http::StatusCode::CONFLICT,
                "BucketNotEmpty",
                "The bucket you tried to delete is not empty. You must delete all versions in the bucket.",
            )),
            Some(_) => {
                // bucket.json is removed first: a bucket without it is not loaded, and is removed at the next start.
                disk::remove(&self.dir(name).join("bucket.json"))?;
                std::fs::remove_dir_all(self.dir(name))?;
                self.store.show(|state| {
                    state.buckets.remove(name);
                });
                Ok(())
            }
        }
    }

    pub(crate) fn object_file(&self, bucket: &str, file: &str) -> PathBuf {
        self.dir(bucket).join("objects").join(file)
    }

    /// Changes the versions of one key. Condition and change are atomic.
    pub(crate) fn change_object<T>(
        &self,
        bucket: &str,
        key: &str,
        change: impl FnOnce(&Bucket, &mut Vec<Version>) -> Result<T, Fault>,
    ) -> Option<Result<T, Fault>> {
        let _writer = self.store.one_writer();
        let known = self.get(bucket)?;
        let mut versions = known.objects.get(key).cloned().unwrap_or_default();
        let before: Vec<String> = files(&versions);
        Some(change(&known, &mut versions).and_then(|outcome| {
            let index = self
                .dir(bucket)
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
            self.store.show(|state| {
                state.buckets.insert(bucket.to_owned(), Arc::new(changed));
            });
            for gone in before.iter().filter(|file| !after.contains(file)) {
                disk::remove(&self.object_file(bucket, gone))?;
            }
            Ok(outcome)
        }))
    }
}

/// The files of the versions with content.
pub(super) fn files(versions: &[Version]) -> Vec<String> {
    versions
        .iter()
        .filter_map(|version| version.content.as_ref().map(|content| content.file.clone()))
        .collect()
}
