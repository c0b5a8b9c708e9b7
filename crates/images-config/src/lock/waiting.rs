//! The digests that have not been known for long enough: how long they wait, and what is used meanwhile.

use std::fmt;

use jiff::Timestamp;
use registry::{Digest, Reference};
use serde::Serialize;

use super::{Lock, Seen};
use crate::{Config, MinAge};

/// A digest that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Waiting {
    /// The source with this digest.
    #[serde(rename = "name", serialize_with = "as_text")]
    pub source: Reference,
    /// The digest.
    pub digest: Digest,
    /// When it was first seen there.
    pub first_seen: Timestamp,
    /// When it is old enough.
    pub until: Timestamp,
    /// The digest in images.lock that is used meanwhile, if any.
    pub using: Option<Digest>,
    /// Whether it is old enough now and only needs to be locked.
    pub ready: bool,
    /// The rule that it waits for, as text.
    #[serde(skip)]
    pub rule: String,
}

fn as_text<S: serde::Serializer>(source: &Reference, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(source)
}

impl Waiting {
    /// Digest and time in short form, for a table.
    pub fn in_short(&self) -> String {
        let (digest, until) = (self.digest.short(), self.until);
        if self.ready { format!("{digest} can be locked") } else { format!("{digest} waits until {until}") }
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, digest, first_seen, until, using, ready, rule } = self;
        if *ready {
            return write!(
                f,
                "{source}: {digest} has waited since {first_seen}; `cargo xtask lock --update` takes it"
            );
        }
        write!(f, "{source}: {digest}, first seen {first_seen}, waits until {until} ({rule})")?;
        match using {
            Some(using) => write!(f, "; until then it is {using}"),
            None => Ok(()),
        }
    }
}

/// The digests of `config` that wait at `now` according to `lock`: newer digests than the locked ones, and locked ones that are too
/// new themselves. Sorted by source.
pub fn waits(lock: &Lock, config: &Config, now: Timestamp) -> Vec<Waiting> {
    let wants = config.wants().into_iter();
    wants.filter_map(|want| waits_for(lock, want.source, want.min_age.as_ref(), now)).collect()
}

fn waits_for(lock: &Lock, source: Reference, rule: Option<&MinAge>, now: Timestamp) -> Option<Waiting> {
    let (seen, using) = match (lock.waiting.get(&source), lock.sources.get(&source)) {
        (Some(seen), locked) => (*seen, locked.map(|locked| locked.digest)),
        (None, Some(locked)) if !locked.allow_fresh => {
            let first_seen = locked.seen_since();
            rule?.waits_until(first_seen, now)?;
            (Seen { digest: locked.digest, first_seen }, None)
        }
        (None, _) => return None,
    };
    let until = rule.map_or(now, |rule| rule.ends(seen.first_seen, now));
    Some(Waiting {
        source,
        digest: seen.digest,
        first_seen: seen.first_seen,
        until,
        using,
        ready: until <= now,
        rule: rule.map(ToString::to_string).unwrap_or_default(),
    })
}
