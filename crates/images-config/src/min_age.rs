//! How long a digest must be known before it is used, and when that time starts.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use registry::Reference;

use crate::Config;
use crate::pattern::Pattern;

/// A rule of `min_age`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MinAge {
    /// The sources that it applies to.
    pub(crate) sources: Pattern,
    /// How long a digest must be known; zero for no wait.
    pub age: SignedDuration,
    /// The age as written in the file.
    pub text: String,
    /// Its line in images.toml.
    pub line: usize,
}

impl fmt::Display for MinAge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "min_age {} of images.toml, line {}", self.text, self.line)
    }
}

impl MinAge {
    /// When a digest first seen at `first_seen` is old enough. A time in the future counts as `now`, so that a wrong clock neither
    /// shortens the wait nor makes it endless.
    pub fn ends(&self, first_seen: Timestamp, now: Timestamp) -> Timestamp {
        first_seen.min(now).checked_add(self.age).unwrap_or(Timestamp::MAX)
    }

    /// The end of its wait. `None` if it has waited for long enough.
    pub fn waits_until(&self, first_seen: Timestamp, now: Timestamp) -> Option<Timestamp> {
        Some(self.ends(first_seen, now)).filter(|until| *until > now)
    }
}

impl Config {
    /// The rule for a source. `None` if no rule applies. The longest matching pattern counts.
    pub fn min_age(&self, source: &Reference) -> Option<&MinAge> {
        let rules = self.min_ages.iter().filter(|rule| rule.sources.is_for(source));
        rules.max_by_key(|rule| &rule.sources).filter(|rule| !rule.age.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_seen_time_in_the_future_counts_as_now() {
        let age = MinAge {
            sources: Pattern::all(),
            age: SignedDuration::from_hours(72),
            text: "3d".to_owned(),
            line: 1,
        };
        let day = |day: u8| format!("2026-11-{day:02}T12:00:00Z").parse::<Timestamp>().unwrap();
        assert_eq!(age.waits_until(day(1), day(1)), Some(day(4)));
        assert_eq!(age.waits_until(day(1), day(3)), Some(day(4)));
        assert_eq!(age.waits_until(day(1), day(4)), None, "to the second");
        assert_eq!(age.waits_until(day(20), day(4)), Some(day(7)));
        assert_eq!(age.waits_until(Timestamp::MAX, day(4)), Some(day(7)));
    }
}
