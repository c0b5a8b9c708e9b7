//! `images.lock`: which digests the names of images.toml mean, and which runtimes are held at a build.
//!
//! It is written by `cargo xtask lock` and checked in; with it, copies are by digest. Its text is sorted and changes only
//! where something moved, so that a reviewer reads it as a diff.

pub mod diff;
pub mod resolve;
mod text;
pub mod update;
pub mod waiting;

use std::collections::BTreeMap;
use std::path::Path;

use registry::{Digest, Platform, Reference};

use super::{Config, Platforms, Problems};
use update::Want;

/// The whole of images.lock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lock {
    /// What each source means: images, the bases of runtimes, and what is primed.
    pub sources: BTreeMap<Reference, Locked>,
    /// What sources mean by now that has not been known for long enough (`min_age` in images.toml).
    pub waiting: BTreeMap<Reference, Seen>,
    /// Runtimes whose tag stays where `--rollback` put it.
    pub holds: BTreeMap<String, Hold>,
}

/// What a name meant when it was resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Locked {
    /// What the registry answers for the name: the digest of an index, often, or of a single manifest.
    pub digest: Digest,
    /// The media type of that.
    pub media_type: String,
    /// When it began to mean this.
    pub resolved_at: jiff::Timestamp,
    /// When it was first seen under the name, where that counts: it has a `min_age`.
    pub first_seen: Option<jiff::Timestamp>,
    /// Whether it was locked before it was old enough, because somebody said so (`--allow-fresh`).
    pub allow_fresh: bool,
    /// The images in it; the only one, where it is a single manifest. Attestations are left out.
    pub platforms: Vec<LockedPlatform>,
    /// What a copy has at its target: the wanted platforms to the digest of the result. Empty for bases.
    pub targets: BTreeMap<PlatformSet, Digest>,
}

impl Locked {
    /// Since when it is known. What is locked without a `first_seen` was seen by then.
    pub fn seen_since(&self) -> jiff::Timestamp {
        self.first_seen.unwrap_or(self.resolved_at)
    }
}

/// A digest that was seen under a name and is not locked yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The digest.
    pub digest: Digest,
    /// When `lock` saw it there for the first time.
    pub first_seen: jiff::Timestamp,
}

/// One platform's image.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LockedPlatform {
    /// The platform.
    pub platform: Platform,
    /// The digest of its manifest.
    pub digest: Digest,
    /// Bytes of its manifest, configuration and layers together.
    pub size: u64,
}

/// A runtime that stays at a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// The build's manifest.
    pub build: Digest,
    /// Since when.
    pub since: jiff::Timestamp,
    /// Who put it there.
    pub by: String,
}

/// Wanted platforms as a key: `all`, or the platforms sorted and joined by commas.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlatformSet(String);

impl From<&Platforms> for PlatformSet {
    fn from(platforms: &Platforms) -> Self {
        match platforms {
            Platforms::All => Self("all".to_owned()),
            Platforms::Only(list) => {
                let mut names: Vec<String> = list.iter().map(ToString::to_string).collect();
                names.sort_unstable();
                names.dedup();
                Self(names.join(","))
            }
        }
    }
}

impl std::fmt::Display for PlatformSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Lock {
    /// Reads images.lock; none where there is no such file. `shown` is the file's name in errors.
    ///
    /// # Errors
    /// The file cannot be read, or everything that is wrong with it.
    pub fn load(path: &Path, shown: &Path) -> Result<Option<Self>, Problems> {
        match path.try_exists() {
            Ok(false) => Ok(None),
            _ => Self::parse(&super::read_text(path, shown)?, shown).map(Some),
        }
    }

    /// Reads the text of images.lock.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(text: &str, shown: &Path) -> Result<Self, Problems> {
        text::parse(text, shown)
    }

    /// Writes images.lock, whole or not at all.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: &Path) -> std::io::Result<()> {
        super::atomic::write(path, self.to_string().as_bytes())
    }

    /// What the name means.
    pub fn source_digest(&self, source: &Reference) -> Option<Digest> {
        self.sources.get(source).map(|locked| locked.digest)
    }

    /// What a copy of these platforms has at its target.
    pub fn expected(&self, source: &Reference, platforms: &Platforms) -> Option<Digest> {
        self.sources.get(source)?.targets.get(&PlatformSet::from(platforms)).copied()
    }

    /// The build that a runtime is held at.
    pub fn hold(&self, runtime: &str) -> Option<&Hold> {
        self.holds.get(runtime)
    }

    /// Holds a runtime at a build; gives what held it before.
    pub fn set_hold(&mut self, runtime: &str, hold: Hold) -> Option<Hold> {
        self.holds.insert(runtime.to_owned(), hold)
    }

    /// Checks that everything that `config` names is in the lock, which is what `--locked` works with.
    ///
    /// # Errors
    /// Something that `config` names is not in the lock.
    pub fn check_complete(&self, config: &Config) -> Result<(), Incomplete> {
        let missing: Vec<String> = config
            .wants()
            .into_iter()
            .filter(|want| !covers(self, want))
            .map(|want| want.source.to_string())
            .collect();
        if missing.is_empty() { Ok(()) } else { Err(Incomplete { missing }) }
    }
}

fn covers(lock: &Lock, want: &Want) -> bool {
    lock.sources.get(&want.source).is_some_and(|locked| want.is_covered_by(locked))
}

/// Names of images.toml that images.lock does not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("images.lock does not know {}: `cargo xtask lock` adds what is missing", missing.join(", "))]
pub struct Incomplete {
    /// The sources.
    pub missing: Vec<String>,
}

#[cfg(test)]
mod tests;
