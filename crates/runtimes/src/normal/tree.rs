//! A file system as its layers make it, and what one layer changes of it.
//!
//! Builders write the same change in different ways: one lists each directory on the way to a file, one also files that were
//! opened and not changed, one takes a directory's content away by one mark and another name by name. What a layer changes of
//! the layers below is one thing, however it is written.

use std::collections::{BTreeMap, BTreeSet};

use super::entry::{Content, Entry, Kind, Layer, OPAQUE, Path, WHITEOUT, join, root, split};

/// Where builders mount files of their own while a step runs; podman's leaves empty ones there. Each container engine mounts its own
/// over them.
const STUBS: [&[u8]; 4] = [b"etc/hostname", b"etc/hosts", b"etc/resolv.conf", b"run/.containerenv"];

/// A file system.
#[derive(Debug)]
pub(super) struct Tree {
    entries: BTreeMap<Path, Entry>,
    /// Whether all of the layers could be read.
    is_whole: bool,
}

/// What stands in a layer under a name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item {
    Entry(Entry),
    /// Another name of a file that stands before it.
    Link(Path),
    /// The name says what it takes away.
    Whiteout,
}

impl Tree {
    pub(super) fn new() -> Self {
        Self { entries: BTreeMap::from([(Path::new(), root())]), is_whole: true }
    }

    /// A layer that cannot be read lies in between: what is not known to be there may be there.
    pub(super) fn put_unknown(&mut self) {
        self.is_whole = false;
        self.entries.clear();
    }

    /// Puts a layer on top, and gives the paths that it takes away or replaces by something else.
    pub(super) fn put(&mut self, layer: Layer) -> BTreeSet<Path> {
        let mut gone = BTreeSet::new();
        for path in &layer.opaque {
            self.remove_below(path, &mut gone);
        }
        for path in layer.whiteouts {
            self.remove_below(&path, &mut gone);
            self.entries.remove(&path);
            // Whether it was there or not: no mark is lost.
            gone.insert(path);
        }
        for (path, entry) in layer.entries {
            if entry.kind != Kind::Directory {
                self.remove_below(&path, &mut gone);
            }
            self.entries.insert(path, entry);
        }
        gone
    }

    fn remove_below(&mut self, path: &[u8], gone: &mut BTreeSet<Path>) {
        let above = if path.is_empty() { Path::new() } else { [path, b"/"].concat() };
        let below = self.entries.range(above.clone()..).map(|(path, _)| path);
        let below: Vec<Path> = below
            .take_while(|path| path.starts_with(&above))
            .filter(|path| !path.is_empty())
            .cloned()
            .collect();
        for path in below {
            self.entries.remove(&path);
            gone.insert(path);
        }
    }

    /// Puts a layer on top, and gives what it changes, by the names that stand in a layer for that, each directory before what is
    /// in it.
    pub(super) fn change(&mut self, mut layer: Layer) -> BTreeMap<Path, Item> {
        layer.entries.retain(|path, entry| {
            let is_empty = matches!(&entry.kind, Kind::File(content) if content.size == 0);
            let is_stub = is_empty && STUBS.contains(&path.as_slice()) && !self.entries.contains_key(path);
            !(is_stub && self.is_whole)
        });
        let same = self.unchanged(&layer);
        let mut items = BTreeMap::new();
        let mut first_names = BTreeMap::new();
        for (path, entry) in layer.entries.iter().filter(|(path, _)| !same.contains(*path)) {
            let item = match &entry.kind {
                Kind::File(content) => match first_names.get(&content.inode) {
                    Some(first) => Item::Link(Path::clone(first)),
                    None => {
                        first_names.insert(content.inode, path.clone());
                        Item::Entry(entry.clone())
                    }
                },
                _ => Item::Entry(entry.clone()),
            };
            items.insert(path.clone(), item);
        }
        if !self.is_whole {
            items.extend(layer.opaque.iter().map(|path| (join(path, OPAQUE), Item::Whiteout)));
        }
        let mut gone = self.put(layer);
        gone.retain(|path| !self.entries.contains_key(path));
        for path in &gone {
            let (parent, name) = split(path);
            let has_place = self.entries.get(parent).is_none_or(|parent| parent.kind == Kind::Directory);
            if !gone.contains(parent) && has_place {
                items.insert(join(parent, &[WHITEOUT, name].concat()), Item::Whiteout);
            }
        }
        items
    }

    /// What a layer lists and does not change. A file with several names goes with all of them or with none.
    fn unchanged(&self, layer: &Layer) -> BTreeSet<Path> {
        let is_same = |path: &Path, entry| self.entries.get(path).is_some_and(|below| same(below, entry));
        let same: BTreeSet<Path> = layer
            .entries
            .iter()
            .filter(|(path, entry)| is_same(path, entry))
            .map(|(path, _)| path.clone())
            .collect();
        let mut names: BTreeMap<(usize, u64), Vec<&Path>> = BTreeMap::new();
        for (path, entry) in &layer.entries {
            if let Kind::File(content) = &entry.kind {
                names.entry(content.inode).or_default().push(path);
            }
        }
        let inode = |path: &Path| match &self.entries.get(path)?.kind {
            Kind::File(content) => Some(content.inode),
            _ => None,
        };
        let is_kept = |names: &[&Path]| {
            names.iter().any(|path| !same.contains(*path))
                || names.windows(2).any(|two| inode(two[0]) != inode(two[1]))
        };
        let kept: BTreeSet<&Path> =
            names.values().filter(|names| is_kept(names)).flatten().copied().collect();
        same.iter().filter(|path| !kept.contains(path)).cloned().collect()
    }
}

/// Whether an entry is what is below. A directory's time changes with what is in it.
fn same(below: &Entry, entry: &Entry) -> bool {
    let kind = match (&below.kind, &entry.kind) {
        (Kind::File(one), Kind::File(other)) => is_content(one, other),
        (one, other) => one == other,
    };
    let time = entry.kind == Kind::Directory || below.time == entry.time;
    let attributes = |entry: &Entry| (entry.mode, entry.uid, entry.gid);
    kind && time && attributes(below) == attributes(entry) && below.xattrs == entry.xattrs
}

fn is_content(one: &Content, other: &Content) -> bool {
    one.size == other.size && one.digest.is_some() && one.digest == other.digest
}
