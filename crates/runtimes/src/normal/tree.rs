//! A file system made of layers, and what one layer changes in it.
//!
//! Builders write the same change in different ways: some list each directory on the way to a file, some also list files that were opened
//! but not changed, some delete a directory's content with one whiteout and others name by name. The change to the layers below is the same
//! in each case.

use std::collections::{BTreeMap, BTreeSet};

use super::entry::{Content, Entry, Kind, Layer, OPAQUE, Path, WHITEOUT, join, root, split};

/// Where builders mount files of their own while a step runs; podman leaves empty files there. Each container engine mounts its own files
/// over them.
const STUBS: [&[u8]; 4] = [b"etc/hostname", b"etc/hosts", b"etc/resolv.conf", b"run/.containerenv"];

/// A file system.
#[derive(Debug)]
pub(super) struct Tree {
    entries: BTreeMap<Path, Entry>,
    /// Whether all of the layers could be read.
    is_whole: bool,
}

/// An entry of a layer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item {
    Entry(Entry),
    /// Another name of a file that precedes it.
    Link(Path),
    /// A whiteout: the name contains what is deleted.
    Whiteout,
}

impl Tree {
    pub(super) fn new() -> Self {
        Self { entries: BTreeMap::from([(Path::new(), root())]), is_whole: true }
    }

    /// Adds a layer that cannot be read: from now on, any file may exist.
    pub(super) fn put_unknown(&mut self) {
        self.is_whole = false;
        self.entries.clear();
    }

    /// Adds a layer on top; returns the paths that it deletes or replaces by something else.
    pub(super) fn put(&mut self, layer: Layer) -> BTreeSet<Path> {
        let mut gone = BTreeSet::new();
        for path in &layer.opaque {
            self.remove_below(path, &mut gone);
        }
        for path in layer.whiteouts {
            self.remove_below(&path, &mut gone);
            self.entries.remove(&path);
            // Even if the path was not there, so that no whiteout is lost.
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

    /// Adds a layer on top; returns its changes by their names in a layer, each directory before its content.
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

    /// Paths that a layer lists but does not change. A file with several names is included with all of them or not at all.
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

/// Whether an entry equals the one below. A directory's time is ignored: it changes with its content.
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
