//! What one account has in one region: repositories, the registry's settings, keys.

use std::path::PathBuf;
use std::sync::Arc;

use super::model::{Kms, Repository, Settings};
use super::{Store, disk};
use crate::fault::Fault;
use crate::scope::Scope;

/// The part of the [`Store`] that one account has in one region.
pub(crate) struct RegionStore<'a> {
    pub(super) store: &'a Store,
    pub(super) scope: &'a Scope,
}

impl RegionStore<'_> {
    fn dir(&self) -> PathBuf {
        self.store.root.join("accounts").join(&self.scope.account).join(&self.scope.region)
    }

    fn repository_file(&self, name: &str) -> PathBuf {
        self.dir().join("repositories").join(format!("{}.json", disk::file_name(name)))
    }

    pub(crate) fn repository(&self, name: &str) -> Option<Arc<Repository>> {
        self.store.read(|state| state.regions.get(self.scope)?.repositories.get(name).cloned())
    }

    pub(crate) fn repositories(&self) -> Vec<Arc<Repository>> {
        self.store.read(|state| {
            state
                .regions
                .get(self.scope)
                .map_or_else(Vec::new, |region| region.repositories.values().cloned().collect())
        })
    }

    /// Adds a repository; `Ok(false)`: the name is taken.
    pub(crate) fn add_repository(&self, repository: Repository) -> Result<bool, Fault> {
        let _writer = self.store.one_writer();
        if self.repository(&repository.name).is_some() {
            return Ok(false);
        }
        disk::write_json(&self.repository_file(&repository.name), &repository)?;
        self.store.show(|state| {
            let region = state.regions.entry(self.scope.clone()).or_default();
            region.repositories.insert(repository.name.clone(), Arc::new(repository));
        });
        Ok(true)
    }

    /// Changes a repository, or nothing if `change` refuses; `None`: there is no such repository.
    pub(crate) fn change_repository<T>(
        &self,
        name: &str,
        change: impl FnOnce(&mut Repository) -> Result<T, Fault>,
    ) -> Option<Result<T, Fault>> {
        let _writer = self.store.one_writer();
        let mut repository = (*self.repository(name)?).clone();
        Some(change(&mut repository).and_then(|outcome| {
            disk::write_json(&self.repository_file(name), &repository)?;
            self.store.show(|state| {
                let region = state.regions.entry(self.scope.clone()).or_default();
                region.repositories.insert(name.to_owned(), Arc::new(repository));
            });
            Ok(outcome)
        }))
    }

    /// Removes a repository if `allow` lets it go; `None`: there is no such repository.
    pub(crate) fn remove_repository(
        &self,
        name: &str,
        allow: impl FnOnce(&Repository) -> Result<(), Fault>,
    ) -> Option<Result<Arc<Repository>, Fault>> {
        let _writer = self.store.one_writer();
        let repository = self.repository(name)?;
        Some(allow(&repository).and_then(|()| {
            disk::remove(&self.repository_file(name))?;
            self.store.show(|state| {
                if let Some(region) = state.regions.get_mut(self.scope) {
                    region.repositories.remove(name);
                }
            });
            Ok(Arc::clone(&repository))
        }))
    }

    pub(crate) fn settings(&self) -> Arc<Settings> {
        self.store.read(|state| {
            state.regions.get(self.scope).map(|region| Arc::clone(&region.settings)).unwrap_or_default()
        })
    }

    pub(crate) fn change_settings<T>(
        &self,
        change: impl FnOnce(&mut Settings) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let _writer = self.store.one_writer();
        let mut settings = (*self.settings()).clone();
        let outcome = change(&mut settings)?;
        disk::write_json(&self.dir().join("registry.json"), &settings)?;
        self.store
            .show(|state| state.regions.entry(self.scope.clone()).or_default().settings = Arc::new(settings));
        Ok(outcome)
    }

    pub(crate) fn kms(&self) -> Arc<Kms> {
        self.store.read(|state| {
            state.regions.get(self.scope).map(|region| Arc::clone(&region.kms)).unwrap_or_default()
        })
    }

    pub(crate) fn change_kms<T>(
        &self,
        change: impl FnOnce(&mut Kms) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let _writer = self.store.one_writer();
        let mut kms = (*self.kms()).clone();
        let outcome = change(&mut kms)?;
        disk::write_json(&self.dir().join("kms.json"), &kms)?;
        self.store.show(|state| state.regions.entry(self.scope.clone()).or_default().kms = Arc::new(kms));
        Ok(outcome)
    }
}
