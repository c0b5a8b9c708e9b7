//! The data of one account in one region: repositories, the registry's settings, keys, and other resources.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use super::model::{Kms, Repository, Settings, Shown};
use super::{Region, Store, disk};
use crate::fault::Fault;
use crate::scope::Scope;

/// The part of the [`Store`] of one account in one region.
pub(crate) struct RegionStore<'a> {
    pub(super) store: &'a Store,
    pub(super) scope: &'a Scope,
}

impl RegionStore<'_> {
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

    /// Adds a repository; `Ok(false)`: the name is in use.
    pub(crate) fn add_repository(&self, repository: Repository) -> Result<bool, Fault> {
        let _writer = self.store.one_writer();
        if self.repository(&repository.name).is_some() {
            return Ok(false);
        }
        disk::write_json(&repository_file(self, &repository.name), &repository)?;
        self.store.show(|state| {
            let region = state.regions.entry(self.scope.clone()).or_default();
            region.repositories.insert(repository.name.clone(), Arc::new(repository));
        });
        Ok(true)
    }

    /// Changes a repository, unless `change` fails; `None`: there is no such repository.
    pub(crate) fn change_repository<T>(
        &self,
        name: &str,
        change: impl FnOnce(&mut Repository) -> Result<T, Fault>,
    ) -> Option<Result<T, Fault>> {
        let _writer = self.store.one_writer();
        let mut repository = (*self.repository(name)?).clone();
        Some(change(&mut repository).and_then(|outcome| {
            disk::write_json(&repository_file(self, name), &repository)?;
            self.store.show(|state| {
                let region = state.regions.entry(self.scope.clone()).or_default();
                region.repositories.insert(name.to_owned(), Arc::new(repository));
            });
            Ok(outcome)
        }))
    }

    /// Removes a repository if `allow` permits it; `None`: there is no such repository.
    pub(crate) fn remove_repository(
        &self,
        name: &str,
        allow: impl FnOnce(&Repository) -> Result<(), Fault>,
    ) -> Option<Result<Arc<Repository>, Fault>> {
        let _writer = self.store.one_writer();
        let repository = self.repository(name)?;
        Some(allow(&repository).and_then(|()| {
            disk::remove(&repository_file(self, name))?;
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
        change_file(self, "registry.json", |region| &mut region.settings, change)
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
        change_file(self, "kms.json", |region| &mut region.kms, change)
    }

    /// The resources of a kind without a type of its own, by name.
    pub(crate) fn shown(&self, kind: &str) -> BTreeMap<String, Value> {
        self.store.read(|state| state.regions.get(self.scope)?.shown.get(kind).cloned()).unwrap_or_default()
    }

    pub(crate) fn change_shown<T>(
        &self,
        kind: &str,
        change: impl FnOnce(&mut BTreeMap<String, Value>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let change = |shown: &mut Shown| change(shown.entry(kind.to_owned()).or_default());
        change_file(self, "shown.json", |region| &mut region.shown, change)
    }
}

fn directory(region: &RegionStore<'_>) -> PathBuf {
    region.store.root.join("accounts").join(&region.scope.account).join(&region.scope.region)
}

fn repository_file(region: &RegionStore<'_>, name: &str) -> PathBuf {
    directory(region).join("repositories").join(format!("{}.json", disk::file_name(name)))
}

/// Changes the data of one file, unless `change` fails.
fn change_file<D: Clone + Default + Serialize, T>(
    region: &RegionStore<'_>,
    file: &str,
    part: fn(&mut Region) -> &mut Arc<D>,
    change: impl FnOnce(&mut D) -> Result<T, Fault>,
) -> Result<T, Fault> {
    let _writer = region.store.one_writer();
    let mut document = D::default();
    region.store.show(|state| {
        document = D::clone(part(state.regions.entry(region.scope.clone()).or_default()));
    });
    let outcome = change(&mut document)?;
    disk::write_json(&directory(region).join(file), &document)?;
    region.store.show(|state| {
        *part(state.regions.entry(region.scope.clone()).or_default()) = Arc::new(document);
    });
    Ok(outcome)
}
