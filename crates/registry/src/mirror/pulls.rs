//! Manifests of registries that count how often they are read: how many a plan needs, and each of them read once.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::job::Pulls;
use super::mapping::Mapping;
use crate::client::{Client, RateLimit, pulled};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind};
use crate::manifest::Manifest;
use crate::platform::Platform;
use crate::reference::Reference;

/// The manifest that `name` points to, `digest` as far as is known; `None` if it does not exist. If its registry counts pulls,
/// it is read once and kept for later runs.
///
/// # Errors
/// As [`Client::manifest`].
pub async fn read_once(
    client: &Client,
    mapping: &dyn Mapping,
    name: &Reference,
    digest: Digest,
) -> Result<Option<Manifest>, Error> {
    if let Some(kept) = kept(client, mapping, name.registry(), digest) {
        return Ok(Some(kept));
    }
    let read = client.manifest(name).await?;
    if let Some(manifest) = &read {
        keep(client, mapping, name.registry(), manifest);
    }
    Ok(read)
}

/// What an earlier run read from a registry that counts pulls.
pub(super) fn kept(
    client: &Client,
    mapping: &dyn Mapping,
    registry: &str,
    digest: Digest,
) -> Option<Manifest> {
    client.rate_limit(registry)?;
    mapping.manifest(digest).filter(|manifest| manifest.digest() == digest)
}

/// Keeps what was read, if its registry counts pulls.
pub(super) fn keep(client: &Client, mapping: &dyn Mapping, registry: &str, manifest: &Manifest) {
    if client.rate_limit(registry).is_some() {
        mapping.record_manifest(manifest);
    }
}

/// A manifest that is read from a source.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Read {
    pub(super) registry: String,
    pub(super) repository: String,
    pub(super) digest: Digest,
    /// The image for this in the index `digest`, whose own digest is not known yet.
    pub(super) platform: Option<Platform>,
}

impl Read {
    /// `digest` of the source's repository.
    pub(super) fn of(source: &Reference, digest: Digest, platform: Option<Platform>) -> Self {
        let (registry, repository) = (source.registry().to_owned(), source.repository().to_owned());
        Self { registry, repository, digest, platform }
    }
}

/// The pulls that were counted.
pub(super) struct Reserved {
    needed: BTreeMap<String, Pulls>,
    reads: HashSet<Read>,
    /// What was left before anything was read.
    before: BTreeMap<String, RateLimit>,
    /// What the client had read before.
    pulled: HashMap<String, u64>,
}

impl Reserved {
    /// Nothing counted yet of these registries.
    pub(super) fn new<'a>(client: &Client, registries: impl Iterator<Item = &'a str>) -> Self {
        let mut before = BTreeMap::new();
        for registry in registries {
            if let Some(limit) = client.rate_limit(registry).filter(|_| !before.contains_key(registry)) {
                before.insert(registry.to_owned(), limit);
            }
        }
        Self { needed: BTreeMap::new(), reads: HashSet::new(), before, pulled: pulled(client) }
    }

    /// Counts what the client has read since this was made: signatures.
    pub(super) fn count_read(&mut self, client: &Client) {
        for (registry, now) in pulled(client) {
            let before = self.pulled.get(&registry).copied().unwrap_or_default();
            if now > before {
                self.need(client, &registry, now - before);
            }
        }
    }

    fn need(&mut self, client: &Client, registry: &str, pulls: u64) {
        let limit = self.before.get(registry).copied().or_else(|| client.rate_limit(registry));
        let none = || Pulls { registry: registry.to_owned(), needed: 0, limit };
        self.needed.entry(registry.to_owned()).or_insert_with(none).needed += pulls;
    }

    /// Counts what each of several images reads, each manifest once. Returns an error for each image whose registry does not
    /// allow so many.
    pub(super) fn reserve<'a>(
        &mut self,
        client: &Client,
        images: impl Iterator<Item = (&'a Reference, Vec<Read>)>,
    ) -> Vec<Option<Error>> {
        let mut now: BTreeMap<String, HashSet<Read>> = BTreeMap::new();
        let mut all = Vec::new();
        for (source, mut reads) in images {
            reads.retain(|read| !self.reads.contains(read));
            all.push((!reads.is_empty()).then_some(source));
            for read in reads {
                now.entry(source.registry().to_owned()).or_default().insert(read);
            }
        }
        let mut exceeded = BTreeMap::new();
        for (registry, reads) in now {
            let needed = reads.len() as u64;
            self.need(client, &registry, needed);
            if let Some(limit) = client.rate_limit(&registry).filter(|limit| needed > limit.remaining) {
                exceeded.insert(registry, (needed, limit));
            }
            self.reads.extend(reads);
        }
        let refused = |source: &Reference| {
            let (needed, RateLimit { limit, remaining, window }) = *exceeded.get(source.registry())?;
            Some(Error::of(source, ErrorKind::PullsExhausted { needed, remaining, limit, window }))
        };
        all.into_iter().map(|source| source.and_then(refused)).collect()
    }

    /// What is needed of each registry.
    pub(super) fn into_pulls(self) -> Vec<Pulls> {
        self.needed.into_values().collect()
    }
}
