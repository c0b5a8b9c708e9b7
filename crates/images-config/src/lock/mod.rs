//! `images.lock`: the digests of the names in images.toml, and the runtimes held at a build.
//!
//! `cargo xtask lock` writes it, and it is committed. With it, images are copied by digest. Its text is sorted and changes only if
//! a digest changes, so that a diff can be reviewed.

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

/// The content of images.lock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lock {
    /// The digests of all sources: images, bases of runtimes, and primed images.
    pub sources: BTreeMap<Reference, Locked>,
    /// New digests of sources that have not been known for long enough (`min_age` in images.toml).
    pub waiting: BTreeMap<Reference, Seen>,
    /// Runtimes whose tag stays at the build chosen with `--rollback`.
    pub holds: BTreeMap<String, Hold>,
}

/// The digest and details of a name when it was resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Locked {
    /// The digest that the registry returns for the name; often of an index, otherwise of a single manifest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// When this digest was first locked.
    pub resolved_at: jiff::Timestamp,
    /// When it was first seen under the name. Only for sources with a `min_age`.
    pub first_seen: Option<jiff::Timestamp>,
    /// Whether it was locked with `--allow-fresh` before it was old enough.
    pub allow_fresh: bool,
    /// The images in it, or the only one of a single manifest. Without attestations.
    pub platforms: Vec<LockedPlatform>,
    /// The digests of copies at their targets, by platforms. Empty for bases.
    pub targets: BTreeMap<PlatformSet, Digest>,
}

impl Locked {
    /// When it was first known. Without a `first_seen` this is the time of locking.
    pub fn seen_since(&self) -> jiff::Timestamp {
        self.first_seen.unwrap_or(self.resolved_at)
    }
}

/// A digest seen under a name and not locked yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The digest.
    pub digest: Digest,
    /// When `lock` first saw it there.
    pub first_seen: jiff::Timestamp,
}

/// One platform's image.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LockedPlatform {
    /// The platform.
    pub platform: Platform,
    /// The digest of its manifest.
    pub digest: Digest,
    /// Size of its manifest, configuration and layers together, in bytes.
    pub size: u64,
}

/// A runtime held at a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// The digest of the build's manifest.
    pub build: Digest,
    /// When it was held.
    pub since: jiff::Timestamp,
    /// The user who did it.
    pub by: String,
}

/// A set of platforms as a key: `all`, or the platforms sorted and joined by commas.
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
    /// Reads images.lock. `None` if the file does not exist. `shown` is its name in errors.
    ///
    /// # Errors
    /// The file cannot be read, or all its errors.
    pub fn load(path: &Path, shown: &Path) -> Result<Option<Self>, Problems> {
        match path.try_exists() {
            Ok(false) => Ok(None),
            _ => Self::parse(&super::read_text(path, shown)?, shown).map(Some),
        }
    }

    /// Reads the text of images.lock.
    ///
    /// # Errors
    /// All its errors.
    pub fn parse(text: &str, shown: &Path) -> Result<Self, Problems> {
        text::parse(text, shown)
    }

    /// Writes images.lock atomically.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: &Path) -> std::io::Result<()> {
        super::atomic::write(path, self.to_string().as_bytes())
    }

    /// The digest of a name.
    pub fn source_digest(&self, source: &Reference) -> Option<Digest> {
        self.sources.get(source).map(|locked| locked.digest)
    }

    /// The digest that a copy of these platforms has at its target.
    pub fn expected(&self, source: &Reference, platforms: &Platforms) -> Option<Digest> {
        self.sources.get(source)?.targets.get(&PlatformSet::from(platforms)).copied()
    }

    /// The build that a runtime is held at.
    pub fn hold(&self, runtime: &str) -> Option<&Hold> {
        self.holds.get(runtime)
    }

    /// Holds a runtime at a build. Returns the previous hold.
    pub fn set_hold(&mut self, runtime: &str, hold: Hold) -> Option<Hold> {
        self.holds.insert(runtime.to_owned(), hold)
    }

    /// Checks that everything named in `config` is in the lock, as `--locked` requires.
    ///
    /// # Errors
    /// Something in `config` is not in the lock.
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

/// Names of images.toml that are not in images.lock.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("images.lock does not know {}: `cargo xtask lock` adds what is missing", missing.join(", "))]
pub struct Incomplete {
    /// The sources.
    pub missing: Vec<String>,
}

#[cfg(test)]
mod tests;
