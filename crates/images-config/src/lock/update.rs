//! The sources that `lock` must resolve, and the new lock made from the results.

use std::collections::{BTreeMap, BTreeSet};

use registry::{Platform, Reference};

use super::{Lock, Locked, PlatformSet, covers};
use crate::problem::nearest;
use crate::{Config, MinAge, Platforms, RUNTIMES_REPOSITORY};

/// A source that the lock must contain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// The name.
    pub source: Reference,
    /// The platforms of its copies, whose resulting digests must be known.
    pub targets: BTreeSet<PlatformSet>,
    /// The same, in the registry crate's type.
    pub copies: Vec<Platforms>,
    /// The platforms whose own digest must be known, for runtimes built on it.
    pub platforms: Vec<Platform>,
    /// Its names on the command line: repositories, with and without tags, runtimes, and the source itself.
    pub names: BTreeSet<String>,
    /// How long its digests must be known before they are used.
    pub min_age: Option<MinAge>,
    /// Use its digest even if it is not old enough.
    pub allow_fresh: bool,
}

impl Want {
    /// Whether `locked` has everything that is wanted.
    pub fn is_covered_by(&self, locked: &Locked) -> bool {
        let has = |platform: &Platform| locked.platforms.iter().any(|image| image.platform.matches(platform));
        self.targets.iter().all(|set| locked.targets.contains_key(set)) && self.platforms.iter().all(has)
    }

    /// Whether `name` refers to it. A source may be named as in images.toml, without Docker Hub's defaults.
    fn is_called(&self, name: &str) -> bool {
        self.names.contains(name) || name.parse::<Reference>().is_ok_and(|source| source == self.source)
    }

    /// All wanted platforms, without duplicates. `None` if all platforms are wanted.
    pub(super) fn wanted_platforms(&self) -> Option<Vec<&Platform>> {
        let mut wanted: Vec<&Platform> = self.platforms.iter().collect();
        for copy in &self.copies {
            match copy {
                Platforms::All => return None,
                Platforms::Only(platforms) => wanted.extend(platforms),
            }
        }
        let mut each: Vec<&Platform> = Vec::new();
        for platform in wanted {
            if !each.iter().any(|known| known.matches(platform)) {
                each.push(platform);
            }
        }
        Some(each)
    }
}

/// The names to resolve again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Select {
    /// Only those missing in the lock: `lock`.
    Missing,
    /// All names: `lock --update`.
    All,
    /// These and those missing in the lock: `lock --update NAME...`.
    Named(Vec<String>),
}

/// Names that are not in images.toml, each with the most similar one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("images.toml has no {}", describe(names))]
pub struct UnknownNames {
    /// The names.
    pub names: Vec<(String, Option<String>)>,
}

fn describe(names: &[(String, Option<String>)]) -> String {
    let one = |(name, meant): &(String, Option<String>)| match meant {
        Some(meant) => format!("`{name}` (did you mean `{meant}`?)"),
        None => format!("`{name}`"),
    };
    names.iter().map(one).collect::<Vec<_>>().join(", no ")
}

impl Config {
    /// Every source that the lock must contain, sorted, without duplicates.
    pub fn wants(&self) -> Vec<Want> {
        let mut wants: BTreeMap<Reference, Want> = BTreeMap::new();
        for image in &self.images {
            let entry = entry(&mut wants, &image.source);
            if entry.targets.insert(PlatformSet::from(&image.platforms)) {
                entry.copies.push(image.platforms.clone());
            }
            entry.names.extend([image.repository.clone(), format!("{}:{}", image.repository, image.tag)]);
        }
        for runtime in self.enabled_runtimes() {
            let entry = entry(&mut wants, &runtime.base);
            for platform in &runtime.platforms {
                if !entry.platforms.iter().any(|known| known.matches(platform)) {
                    entry.platforms.push(platform.clone());
                }
            }
            entry.names.extend([runtime.name.clone(), format!("{RUNTIMES_REPOSITORY}:{}", runtime.name)]);
        }
        for prime in &self.prime {
            let entry = entry(&mut wants, &prime.upstream);
            entry.names.extend([prime.repository.clone(), format!("{}:{}", prime.repository, prime.tag)]);
        }
        for want in wants.values_mut() {
            want.min_age = self.min_age(&want.source).cloned();
        }
        wants.into_values().collect()
    }

    /// The sources that `names` refer to.
    ///
    /// # Errors
    /// All names that are not in images.toml.
    pub fn sources_called(&self, names: &[String]) -> Result<BTreeSet<Reference>, UnknownNames> {
        let wants = self.wants();
        check_names(&wants, names)?;
        let called = |want: &Want| names.iter().any(|name| want.is_called(name));
        Ok(wants.into_iter().filter(called).map(|want| want.source).collect())
    }
}

fn check_names(wants: &[Want], names: &[String]) -> Result<(), UnknownNames> {
    let unknown: Vec<(String, Option<String>)> = names
        .iter()
        .filter(|name| !wants.iter().any(|want| want.is_called(name)))
        .map(|name| {
            let known = wants.iter().flat_map(|want| &want.names).map(String::as_str);
            (name.clone(), nearest(name, known).map(str::to_owned))
        })
        .collect();
    if unknown.is_empty() { Ok(()) } else { Err(UnknownNames { names: unknown }) }
}

fn entry<'m>(wants: &'m mut BTreeMap<Reference, Want>, source: &Reference) -> &'m mut Want {
    wants.entry(source.clone()).or_insert_with(|| Want {
        source: source.clone(),
        targets: BTreeSet::new(),
        copies: Vec::new(),
        platforms: Vec::new(),
        names: BTreeSet::from([source.to_string()]),
        min_age: None,
        allow_fresh: false,
    })
}

impl Lock {
    /// The sources to resolve at the registries.
    ///
    /// # Errors
    /// All names that are not in images.toml.
    pub fn to_resolve(&self, config: &Config, select: &Select) -> Result<Vec<Want>, UnknownNames> {
        let wants = config.wants();
        let named: &[String] = if let Select::Named(names) = select { names } else { &[] };
        check_names(&wants, named)?;
        let asked = |want: &Want| match select {
            Select::All => true,
            Select::Missing | Select::Named(_) => {
                !covers(self, want) || named.iter().any(|name| want.is_called(name))
            }
        };
        Ok(wants.into_iter().filter(asked).collect())
    }

    /// The new lock: resolved names replace the old ones, other names in `config` stay, and the rest is removed. A source with an
    /// unchanged digest keeps its time. Waiting digests continue to wait unless their source was resolved. Holds stay unless their
    /// runtime is named.
    pub fn merged(
        &self,
        config: &Config,
        select: &Select,
        resolved: impl IntoIterator<Item = (Reference, Locked)>,
    ) -> Self {
        let mut resolved: BTreeMap<Reference, Locked> = resolved.into_iter().collect();
        let mut lock = Self::default();
        for want in config.wants() {
            let known = self.sources.get(&want.source);
            let now = resolved.remove(&want.source);
            if let (None, Some(seen)) = (&now, self.waiting.get(&want.source)) {
                lock.waiting.insert(want.source.clone(), *seen);
            }
            let Some(mut locked) = now.or_else(|| known.cloned()) else { continue };
            locked.targets.retain(|set, _| want.targets.contains(set));
            locked.platforms.sort_unstable();
            if let Some(known) = known.filter(|known| known.digest == locked.digest) {
                locked.resolved_at = known.resolved_at;
            }
            lock.sources.insert(want.source, locked);
        }
        let named = |runtime: &str| match select {
            Select::Named(names) => names.iter().any(|name| {
                name == runtime || name.strip_prefix(RUNTIMES_REPOSITORY) == Some(&format!(":{runtime}"))
            }),
            Select::Missing | Select::All => false,
        };
        let listed = |name: &str| config.runtimes.iter().any(|runtime| runtime.name == name);
        let holds = self.holds.iter().filter(|(runtime, _)| listed(runtime) && !named(runtime));
        lock.holds = holds.map(|(runtime, hold)| (runtime.clone(), hold.clone())).collect();
        lock
    }
}
