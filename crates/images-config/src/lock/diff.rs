//! The differences between two locks: as data, and as lines for a reviewer.

use std::collections::BTreeMap;

use registry::{Digest, Platform, Reference};

use super::{Hold, Lock, Locked, LockedPlatform, Seen};

/// All differences between two locks, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LockDiff {
    /// The differences.
    pub changes: Vec<Change>,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new name.
    Added {
        /// The name.
        source: Reference,
        /// Its digest and details.
        new: Locked,
    },
    /// A name that is no longer in images.toml.
    Removed {
        /// The name.
        source: Reference,
        /// Its last digest and details.
        old: Locked,
    },
    /// A name with a new digest.
    Moved {
        /// The name.
        source: Reference,
        /// The old digest and details.
        old: Locked,
        /// The new digest and details.
        new: Locked,
    },
    /// A tag was replaced by another one of the same repository.
    Version {
        /// The old name.
        from: Reference,
        /// The new name.
        to: Reference,
        /// The old digest and details.
        old: Locked,
        /// The new digest and details.
        new: Locked,
    },
    /// The same source, copied or known for other platforms.
    Platforms {
        /// The name.
        source: Reference,
        /// The old details.
        old: Locked,
        /// The new details.
        new: Locked,
    },
    /// A name has a new digest that must wait.
    Waits {
        /// The name.
        source: Reference,
        /// The digest in use until then.
        old: Option<Digest>,
        /// The waiting digest.
        seen: Seen,
    },
    /// A waiting digest is no longer under the name.
    Vanished {
        /// The name.
        source: Reference,
        /// The digest that was waiting.
        seen: Seen,
    },
    /// A name with a waiting digest is no longer in images.toml.
    Dropped {
        /// The name.
        source: Reference,
        /// The digest that was waiting.
        seen: Seen,
    },
    /// The same digest with another first time, or locked before it was old enough.
    Age {
        /// The name.
        source: Reference,
        /// The new details.
        new: Locked,
    },
    /// A runtime is now held at a build, or at another one.
    Held {
        /// The runtime.
        runtime: String,
        /// The build.
        hold: Hold,
    },
    /// A runtime is no longer held.
    Released {
        /// The runtime.
        runtime: String,
        /// The previous hold.
        hold: Hold,
    },
}

impl Change {
    /// The name for sorting and display.
    fn name(&self) -> String {
        match self {
            Self::Added { source, .. }
            | Self::Removed { source, .. }
            | Self::Moved { source, .. }
            | Self::Platforms { source, .. }
            | Self::Waits { source, .. }
            | Self::Vanished { source, .. }
            | Self::Dropped { source, .. }
            | Self::Age { source, .. }
            | Self::Version { to: source, .. } => source.to_string(),
            Self::Held { runtime, .. } | Self::Released { runtime, .. } => runtime.clone(),
        }
    }
}

impl Lock {
    /// The differences from this lock to `new`.
    pub fn diff(&self, new: &Self) -> LockDiff {
        let mut changes = Vec::new();
        let removed: Vec<_> =
            self.sources.iter().filter(|(source, _)| !new.sources.contains_key(*source)).collect();
        let added: Vec<_> =
            new.sources.iter().filter(|(source, _)| !self.sources.contains_key(*source)).collect();
        let same_place =
            |a: &Reference, b: &Reference| a.registry() == b.registry() && a.repository() == b.repository();
        // Only if it is unambiguous: one tag removed, one added.
        let partner = |of: &Reference, among: &[(&Reference, &Locked)]| {
            let mut found = among.iter().filter(|(other, _)| same_place(of, other));
            found.next().filter(|_| found.next().is_none()).map(|(source, _)| (*source).clone())
        };
        let replaced_by: BTreeMap<Reference, Reference> = removed
            .iter()
            .filter_map(|(old, _)| {
                let new = partner(old, &added)?;
                (partner(&new, &removed)? == **old).then(|| ((*old).clone(), new))
            })
            .collect();
        for (source, old) in removed {
            let new = replaced_by.get(source).and_then(|to| Some((to.clone(), new.sources.get(to)?.clone())));
            changes.push(match new {
                Some((to, new)) => Change::Version { from: source.clone(), to, old: old.clone(), new },
                None => Change::Removed { source: source.clone(), old: old.clone() },
            });
        }
        for (source, new) in added {
            if !replaced_by.values().any(|to| to == source) {
                changes.push(Change::Added { source: source.clone(), new: new.clone() });
            }
        }
        for (source, old) in &self.sources {
            let Some(new) = new.sources.get(source) else { continue };
            let (source, old, new) = (source.clone(), old.clone(), new.clone());
            if old.digest != new.digest {
                changes.push(Change::Moved { source, old, new });
            } else if (&old.platforms, &old.targets) != (&new.platforms, &new.targets) {
                changes.push(Change::Platforms { source, old, new });
            } else if (old.first_seen, old.allow_fresh) != (new.first_seen, new.allow_fresh) {
                changes.push(Change::Age { source, new });
            }
        }
        changes.extend(waiting_changes(self, new));
        for (runtime, hold) in &new.holds {
            if self.hold(runtime).is_none_or(|old| old.build != hold.build) {
                changes.push(Change::Held { runtime: runtime.clone(), hold: hold.clone() });
            }
        }
        for (runtime, hold) in &self.holds {
            if new.hold(runtime).is_none() {
                changes.push(Change::Released { runtime: runtime.clone(), hold: hold.clone() });
            }
        }
        changes.sort_by_key(Change::name);
        LockDiff { changes }
    }
}

/// Digests that wait only in `new`, and those that waited only in `old`.
fn waiting_changes(old: &Lock, new: &Lock) -> Vec<Change> {
    let mut changes = Vec::new();
    for (source, seen) in &old.waiting {
        let (source, seen) = (source.clone(), *seen);
        let means = |digest| new.source_digest(&source) == Some(digest);
        match new.waiting.get(&source) {
            Some(now) if now.digest == seen.digest => {}
            Some(_) => changes.push(Change::Vanished { source, seen }),
            None if means(seen.digest) => {}
            None if new.sources.contains_key(&source) => changes.push(Change::Vanished { source, seen }),
            None => changes.push(Change::Dropped { source, seen }),
        }
    }
    for (source, seen) in new.waiting.iter().filter(|(source, seen)| old.waiting.get(source) != Some(seen)) {
        let (source, before) = (source.clone(), new.source_digest(source));
        changes.push(Change::Waits { source, old: before, seen: *seen });
    }
    changes
}

impl LockDiff {
    /// Whether there are no differences.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Lines to show: `+` added, `-` removed, `~` changed, `?` waits, `!` vanished. Digests are cut to 12 digits; the file has all.
    pub fn lines(&self) -> Vec<String> {
        self.changes.iter().flat_map(lines).collect()
    }
}

fn lines(change: &Change) -> Vec<String> {
    match change {
        Change::Added { source, new } => {
            let mut lines = vec![format!("+ {source}  {}{}", new.digest.short(), fresh(new))];
            lines.extend(new.platforms.iter().map(|image| platform_line(&image.platform, None, Some(image))));
            lines
        }
        Change::Removed { source, old } => vec![format!("- {source}  {}", old.digest.short())],
        Change::Moved { source, old, new } => with_platforms(
            format!(
                "~ {source}  {} -> {}  (since {}){}",
                old.digest.short(),
                new.digest.short(),
                day(old.resolved_at),
                fresh(new)
            ),
            old,
            new,
        ),
        Change::Version { from, to, old, new } => {
            let heading = format!(
                "~ {}/{}  {} -> {}  {} -> {}",
                to.registry(),
                to.repository(),
                version(from),
                version(to),
                old.digest.short(),
                new.digest.short()
            );
            with_platforms(heading, old, new)
        }
        Change::Platforms { source, old, new } => {
            let mut lines = with_platforms(format!("~ {source}  {}", new.digest.short()), old, new);
            for (set, digest) in &new.targets {
                if old.targets.get(set) != Some(digest) {
                    lines.push(format!("    copies for {set} become {}", digest.short()));
                }
            }
            for set in old.targets.keys().filter(|set| !new.targets.contains_key(*set)) {
                lines.push(format!("    no more copies for {set}"));
            }
            lines
        }
        Change::Waits { source, old, seen } => {
            let old = old.map_or_else(String::new, |old| format!("{} -> ", old.short()));
            vec![format!(
                "? {source}  {old}{} waits  (first seen {})",
                seen.digest.short(),
                day(seen.first_seen)
            )]
        }
        Change::Vanished { source, seen } => {
            let (digest, day) = (seen.digest.short(), day(seen.first_seen));
            vec![format!("! {source}  {digest} has vanished upstream  (first seen {day})")]
        }
        Change::Dropped { source, seen } => vec![format!("- {source}  {} waited", seen.digest.short())],
        Change::Age { source, new } => {
            let (digest, day) = (new.digest.short(), day(new.seen_since()));
            vec![format!("~ {source}  {digest}  (first seen {day}){}", fresh(new))]
        }
        Change::Held { runtime, hold } => {
            vec![format!("~ {runtime}  held at {} by {}", hold.build.short(), hold.by)]
        }
        Change::Released { runtime, hold } => {
            vec![format!("~ {runtime}  no longer held at {}", hold.build.short())]
        }
    }
}

/// A note for the reviewer on a digest that did not wait.
fn fresh(new: &Locked) -> &'static str {
    if new.allow_fresh { "  before it is old enough (--allow-fresh)" } else { "" }
}

fn with_platforms(heading: String, old: &Locked, new: &Locked) -> Vec<String> {
    let mut lines = vec![heading];
    let find = |among: &'_ Locked, platform: &Platform| {
        among.platforms.iter().find(|image| image.platform.matches(platform)).cloned()
    };
    for image in &new.platforms {
        let before = find(old, &image.platform);
        if before.as_ref().is_none_or(|before| before.digest != image.digest) {
            lines.push(platform_line(&image.platform, before.as_ref(), Some(image)));
        }
    }
    for image in &old.platforms {
        if find(new, &image.platform).is_none() {
            lines.push(platform_line(&image.platform, Some(image), None));
        }
    }
    lines
}

fn platform_line(platform: &Platform, old: Option<&LockedPlatform>, new: Option<&LockedPlatform>) -> String {
    let short = |image: &LockedPlatform| image.digest.short();
    let size = |image: &LockedPlatform| size(image.size);
    match (old, new) {
        (Some(old), Some(new)) if old.size == new.size => {
            format!("    {platform}  {} -> {}  {}", short(old), short(new), size(new))
        }
        (Some(old), Some(new)) => {
            format!("    {platform}  {} -> {}  {} -> {}", short(old), short(new), size(old), size(new))
        }
        (None, Some(new)) => format!("    {platform}  {}  {}", short(new), size(new)),
        (Some(old), None) => format!("    {platform}  {} is gone", short(old)),
        (None, None) => format!("    {platform}"),
    }
}

fn day(moment: jiff::Timestamp) -> String {
    let text = moment.to_string();
    text.split('T').next().unwrap_or_default().to_owned()
}

/// Bytes in binary units with one decimal.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut tenths = bytes.saturating_mul(10) / 1024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS.get(unit).copied().unwrap_or_default())
}

/// Tag and digest to show, in the format of a name.
fn version(source: &Reference) -> String {
    match (source.tag(), source.digest()) {
        (Some(tag), Some(digest)) => format!("{tag}@{}", digest.short()),
        (Some(tag), None) => tag.to_owned(),
        (None, Some(digest)) => digest.short(),
        (None, None) => "latest".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_binary() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_048_575, "1023.9 KiB"),
            (5 * 1_048_576 + 524_288, "5.5 MiB"),
            (u64::MAX, "1677721.5 TiB"),
        ] {
            assert_eq!(size(bytes), text, "{bytes}");
        }
    }
}
