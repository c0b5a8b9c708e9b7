//! Writes and reads the text of images.lock.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use registry::{Digest, Platform, Reference};

use super::{Hold, Lock, Locked, LockedPlatform, PlatformSet, Seen};
use crate::problem::{Sink, quoted};
use crate::reader::{Entry, Fields, Node, document, time};
use crate::{Platforms, Problems, SCHEMA_VERSION, names, parse};

const HEADER: &str = "\
# Which digests the names of images.toml mean. Written by `cargo xtask lock`, not by hand; commit it: with it every copy
# is by digest. `cargo xtask lock --update [NAME...]` takes what the names mean by now and shows what moved.
";

impl fmt::Display for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{HEADER}\nschema_version = {SCHEMA_VERSION}\n")?;
        for (source, locked) in &self.sources {
            writeln!(f, "\n[sources.{}]", quoted(&source.to_string()))?;
            writeln!(f, "digest = \"{}\"", locked.digest)?;
            writeln!(f, "media_type = {}", quoted(&locked.media_type))?;
            writeln!(f, "resolved_at = {}", seconds(locked.resolved_at))?;
            if let Some(first_seen) = locked.first_seen {
                writeln!(f, "first_seen = {}", seconds(first_seen))?;
            }
            if locked.allow_fresh {
                writeln!(f, "allow_fresh = true")?;
            }
            let mut platforms: Vec<&LockedPlatform> = locked.platforms.iter().collect();
            platforms.sort_unstable();
            for LockedPlatform { platform, digest, size } in platforms {
                let key = quoted(&platform.to_string());
                writeln!(f, "platforms.{key} = {{ digest = \"{digest}\", size = {size} }}")?;
            }
            for (set, digest) in &locked.targets {
                writeln!(f, "targets.{} = \"{digest}\"", quoted(&set.0))?;
            }
        }
        for (source, Seen { digest, first_seen }) in &self.waiting {
            let (source, first_seen) = (quoted(&source.to_string()), seconds(*first_seen));
            write!(f, "\n[waiting.{source}]\ndigest = \"{digest}\"\nfirst_seen = {first_seen}\n")?;
        }
        for (runtime, hold) in &self.holds {
            write!(f, "\n{}", Self::hold_text(runtime, hold))?;
        }
        Ok(())
    }
}

impl Lock {
    /// The lines that hold a runtime at a build.
    pub fn hold_text(runtime: &str, hold: &Hold) -> String {
        let Hold { build, since, by } = hold;
        let (runtime, since, by) = (quoted(runtime), seconds(*since), quoted(by));
        format!("[holds.{runtime}]\nbuild = \"{build}\"\nsince = {since}\nby = {by}\n")
    }
}

/// A time in whole seconds: the fraction is not needed and would not read back equal.
fn seconds(moment: jiff::Timestamp) -> jiff::Timestamp {
    jiff::Timestamp::from_second(moment.as_second()).unwrap_or(moment)
}

pub(super) fn parse(text: &str, shown: &Path) -> Result<Lock, Problems> {
    let sink = Sink::new(text);
    let lock = document(text, &sink).and_then(|document| lock(Fields::root(&document, &sink)));
    sink.finish(shown, lock)
}

fn lock(mut root: Fields<'_>) -> Option<Lock> {
    parse::version(&mut root, "images.lock")?;
    let mut lock = Lock::default();
    for entry in entries(&mut root, "sources") {
        lock.sources.extend(source(&entry).zip(locked(&entry)));
    }
    for entry in entries(&mut root, "waiting") {
        lock.waiting.extend(source(&entry).zip(seen(&entry)));
    }
    for entry in entries(&mut root, "holds") {
        if let Err(why) = names::runtime(entry.name) {
            entry.key.fail(why);
        }
        lock.holds.extend(hold(&entry).map(|hold| (entry.name.to_owned(), hold)));
    }
    root.finish();
    Some(lock)
}

fn entries<'a>(fields: &mut Fields<'a>, name: &'static str) -> Vec<Entry<'a>> {
    fields.table(name).map(|table| table.entries()).unwrap_or_default()
}

fn source(entry: &Entry<'_>) -> Option<Reference> {
    match entry.name.parse::<Reference>() {
        // The same name in two spellings would be two entries, and one would never be found.
        Ok(source) if source.to_string() != entry.name => {
            entry.key.fail(format!("must be written in full: `{source}`"));
            None
        }
        Ok(source) => Some(source),
        Err(why) => {
            entry.key.fail(why.to_string());
            None
        }
    }
}

fn seen(entry: &Entry<'_>) -> Option<Seen> {
    let mut fields = entry.value.table()?;
    let digest = fields.require("digest").and_then(|node| digest(&node));
    let first_seen = fields.require("first_seen").and_then(|node| time(&node));
    fields.finish();
    Some(Seen { digest: digest?, first_seen: first_seen? })
}

fn locked(entry: &Entry<'_>) -> Option<Locked> {
    let mut fields = entry.value.table()?;
    let digest = fields.require("digest").and_then(|node| digest(&node));
    let media_type = fields.require("media_type").and_then(|node| node.text());
    let resolved_at = fields.require("resolved_at").and_then(|node| time(&node));
    let first_seen = fields.take("first_seen").and_then(|node| time(&node));
    let allow_fresh = fields.take("allow_fresh").and_then(|node| node.boolean()).unwrap_or_default();
    let mut platforms: Vec<LockedPlatform> =
        entries(&mut fields, "platforms").iter().filter_map(platform).collect();
    platforms.sort_unstable();
    let mut targets = BTreeMap::new();
    for entry in entries(&mut fields, "targets") {
        targets.extend(set(&entry).and_then(|set| self::digest(&entry.value).map(|digest| (set, digest))));
    }
    fields.finish();
    Some(Locked {
        digest: digest?,
        media_type: media_type?.to_owned(),
        resolved_at: resolved_at?,
        first_seen,
        allow_fresh,
        platforms,
        targets,
    })
}

fn platform(entry: &Entry<'_>) -> Option<LockedPlatform> {
    let platform = platform_name(entry, entry.name);
    let mut fields = entry.value.table()?;
    let digest = fields.require("digest").and_then(|node| digest(&node));
    let size = fields.require("size").and_then(|node| node.integer(0..=u64::MAX));
    fields.finish();
    Some(LockedPlatform { platform: platform?, digest: digest?, size: size? })
}

fn platform_name(entry: &Entry<'_>, name: &str) -> Option<Platform> {
    match name.parse() {
        Ok(platform) => Some(platform),
        Err(why) => {
            entry.key.fail(format!("{why}"));
            None
        }
    }
}

fn set(entry: &Entry<'_>) -> Option<PlatformSet> {
    let platforms = match entry.name {
        "all" => Platforms::All,
        list => {
            let platforms: Option<Vec<Platform>> =
                list.split(',').map(|name| platform_name(entry, name)).collect();
            Platforms::Only(platforms?)
        }
    };
    let set = PlatformSet::from(&platforms);
    if set.0 != entry.name {
        entry.key.fail(format!("must be sorted: `{set}`"));
        return None;
    }
    Some(set)
}

fn hold(entry: &Entry<'_>) -> Option<Hold> {
    let mut fields = entry.value.table()?;
    let build = fields.require("build").and_then(|node| digest(&node));
    let since = fields.require("since").and_then(|node| time(&node));
    let by = fields.require("by").and_then(|node| node.string());
    fields.finish();
    Some(Hold { build: build?, since: since?, by: by?.to_owned() })
}

fn digest(node: &Node<'_>) -> Option<Digest> {
    match node.text()?.parse() {
        Ok(digest) => Some(digest),
        Err(why) => {
            node.fail(format!("{why}"));
            None
        }
    }
}
