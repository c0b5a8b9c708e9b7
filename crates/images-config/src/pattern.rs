//! Patterns of sources, in `[trust]` and `[min_age]`: a repository, or a prefix of its full name followed by `*`.

use registry::{Reference, registry_name};

use crate::names;
use crate::reader::Entry;

/// A repository name for the pattern of a whole registry.
const ANY: char = 'x';

/// The sources that a rule applies to. The greatest matching pattern counts: the longest, and a whole name before a prefix.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Pattern {
    /// The length of `begin`, which is compared first.
    length: usize,
    /// Whether `begin` is the whole name.
    exact: bool,
    /// The full name of a repository, or its prefix.
    begin: String,
}

impl Pattern {
    /// The pattern for every source.
    pub(crate) fn all() -> Self {
        Self::new(String::new(), false)
    }

    fn new(begin: String, exact: bool) -> Self {
        Self { length: begin.len(), exact, begin }
    }

    /// Whether it applies to `source`.
    pub(crate) fn is_for(&self, source: &Reference) -> bool {
        let name = format!("{}/{}", source.registry(), source.repository());
        if self.exact { self.begin == name } else { name.starts_with(&self.begin) }
    }

    /// Reads an entry's key.
    pub(crate) fn read(entry: &Entry<'_>) -> Option<Self> {
        let (begin, exact) = match entry.name.strip_suffix('*') {
            Some(begin) => (begin, false),
            None => (entry.name, true),
        };
        if begin.contains('*') {
            entry.key.fail("`*` can only be the last character");
            return None;
        }
        if begin.is_empty() && !exact {
            return Some(Self::all());
        }
        // A whole registry: no image has such a short name.
        if let Some(host) =
            begin.strip_suffix('/').filter(|host| !exact && names::registry_host(host).is_ok())
        {
            return Some(Self::new(format!("{}/", registry_name(host)), false));
        }
        let name = if exact { begin.to_owned() } else { format!("{begin}{ANY}") };
        match name.parse::<Reference>() {
            Ok(found) if found.tag().is_some() || found.digest().is_some() => {
                entry.key.fail("is for a repository, whatever the tag: leave tag and digest out");
                None
            }
            Ok(found) => {
                let mut full = format!("{}/{}", found.registry(), found.repository());
                full.truncate(full.len() - if exact { 0 } else { ANY.len_utf8() });
                Some(Self::new(full, exact))
            }
            Err(why) => {
                entry.key.fail(why.to_string());
                None
            }
        }
    }
}
