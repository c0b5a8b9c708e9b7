//! Facts in a file: a sorted part, which is searched without reading all of it, and lines appended since. The cost of a write
//! depends only on what is new.
//!
//! A line is `kind TAB key TAB day TAB value;`. A line without its end was cut off by a kill and is ignored. Appending takes the
//! lock file in shared mode, sorting in exclusive mode, so that two simultaneous runs lose nothing.

mod lines;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::atomic;
use lines::{Fact, VERSION, find, from, line, name, parse, parts};

pub(super) use lines::Kind;

/// Days after which an unused fact is deleted.
pub(super) const KEPT: u32 = 90;

/// Days after which the use of a fact is recorded again, so that not every run writes.
const NOTED: u32 = 7;

/// Sort when the appended part exceeds this size in bytes and a quarter of the sorted part.
const LOOSE: usize = 256 << 10;

/// The open journal.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    today: u32,
    /// The sorted lines, as of the opening of the file.
    sorted: String,
    /// By `kind TAB key`: the appended facts, and those of this run.
    recent: HashMap<String, Fact>,
    /// Names of facts that are not in the file yet.
    unwritten: Vec<String>,
}

/// Why a file was not read.
#[derive(Debug)]
pub(super) enum Unread {
    /// It has another format; with its bytes.
    Form(Vec<u8>),
    /// It cannot be read.
    Io(io::Error),
}

impl Journal {
    /// Opens the file. If it cannot be read, the journal is empty and the first write replaces it.
    pub(super) fn open(path: PathBuf, today: u32) -> (Self, Option<Unread>) {
        let mut journal =
            Self { path, today, sorted: String::new(), recent: HashMap::new(), unwritten: Vec::new() };
        let bytes = match std::fs::read(&journal.path) {
            Ok(bytes) => bytes,
            Err(why) if why.kind() == io::ErrorKind::NotFound => return (journal, None),
            Err(why) => return (journal, Some(Unread::Io(why))),
        };
        match parts(bytes) {
            Ok(parts) => {
                for (name, fact) in parts.loose().lines().filter_map(parse) {
                    journal.recent.insert(name.to_owned(), fact.owned());
                }
                journal.sorted = parts.into_sorted();
                (journal, None)
            }
            Err(bytes) => (journal, Some(Unread::Form(bytes))),
        }
    }

    /// The value of a key. Records its use from time to time.
    pub(super) fn get(&mut self, kind: Kind, key: &str) -> Option<String> {
        let name = name(kind, key);
        let fact = match self.recent.get(&name) {
            Some(fact) => fact.clone(),
            None => find(&self.sorted, &name)?.owned(),
        };
        if fact.day.saturating_add(NOTED) <= self.today {
            self.note(name, fact.value.clone());
        }
        Some(fact.value)
    }

    /// Whether a key with the prefix `begin` has this value.
    pub(super) fn has_under(&self, kind: Kind, begin: &str, value: &str) -> bool {
        let begin = name(kind, begin);
        let lying = from(&self.sorted, &begin).lines().map_while(parse);
        let mut lying = lying.take_while(|(name, _)| name.starts_with(&begin));
        let mut recent = self.recent.iter();
        // Later facts override the sorted ones.
        lying.any(|(name, fact)| fact.value == value && !self.recent.contains_key(name))
            || recent.any(|(name, fact)| fact.value == value && name.starts_with(&begin))
    }

    /// Records a fact. Returns whether it is new.
    pub(super) fn put(&mut self, kind: Kind, key: &str, value: String) -> bool {
        if self.get(kind, key).as_deref() == Some(value.as_str()) {
            return false;
        }
        self.note(name(kind, key), value);
        true
    }

    fn note(&mut self, name: String, value: String) {
        self.unwritten.push(name.clone());
        self.recent.insert(name, Fact { day: self.today, value });
    }

    /// Whether there are facts to write.
    pub(super) fn is_dirty(&self) -> bool {
        !self.unwritten.is_empty()
    }

    /// Appends new facts to the file.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub(super) fn append(&mut self) -> io::Result<()> {
        // Tried once, so that a folder that cannot be written to causes one warning.
        let names = std::mem::take(&mut self.unwritten);
        if names.is_empty() {
            return Ok(());
        }
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let lock = self.lock()?;
        lock.lock_shared()?;
        if !has_our_form(&self.path) {
            // Without a file yet: no other run may create it at the same time.
            lock.unlock()?;
            lock.lock()?;
            if !has_our_form(&self.path) {
                return self.write_whole(&[]);
            }
        }
        // Ends a line that a kill cut off, so that ours starts on its own line.
        let mut text = String::from("\n");
        for name in names {
            if let Some(fact) = self.recent.get(&name) {
                text += &line(&name, fact.day, &fact.value);
            }
        }
        // Opened each time, because another run may have replaced the file by a sorted one. One write keeps lines whole.
        File::options().append(true).open(&self.path)?.write_all(text.as_bytes())
    }

    /// Sorts the appended lines into the file if there are many, and deletes old facts.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub(super) fn compact(&mut self) -> io::Result<()> {
        let length = std::fs::metadata(&self.path).map_or(0, |data| data.len());
        let loose = usize::try_from(length).unwrap_or(usize::MAX).saturating_sub(self.sorted.len());
        if loose < LOOSE.max(self.sorted.len() / 4) {
            return Ok(());
        }
        let lock = self.lock()?;
        lock.lock()?;
        // Read again: another run may have sorted the file since it was opened.
        let Ok(parts) = parts(std::fs::read(&self.path)?) else { return Ok(()) };
        if parts.loose().len() < LOOSE.max(parts.sorted().len() / 4) {
            return Ok(());
        }
        // All facts of this run are in the file, except those that could not be written. Free the memory.
        self.sorted = String::new();
        if self.unwritten.is_empty() {
            self.recent = HashMap::new();
        }
        let written = self.write_whole(&[parts.sorted(), parts.loose()]);
        drop(parts);
        *self = Self::open(std::mem::take(&mut self.path), self.today).0;
        written
    }

    /// Writes the whole file: these lines, then the facts in memory. The caller holds the lock.
    fn write_whole(&self, texts: &[&str]) -> io::Result<()> {
        let known = self.recent.iter().map(|(name, fact)| (name.as_str(), fact.day, fact.value.as_str()));
        let mut facts: Vec<_> = known.collect();
        let lines = texts.iter().flat_map(|text| text.lines()).filter_map(parse);
        facts.extend(lines.map(|(name, fact)| (name, fact.day, fact.value)));
        // If two runs recorded the same name, the last fact counts, as when the file is read.
        facts.sort_by_key(|(name, ..)| *name);
        facts.reverse();
        facts.dedup_by_key(|(name, ..)| *name);
        facts.reverse();
        facts.retain(|(_, day, _)| day.saturating_add(KEPT) >= self.today);
        // Blobs of manifests that are at no target any more are not needed.
        let placed = facts.iter().filter(|(name, ..)| name.starts_with("p\t")).map(|(.., value)| *value);
        let placed: HashSet<&str> = placed.collect();
        facts.retain(|(name, ..)| name.strip_prefix("b\t").is_none_or(|manifest| placed.contains(manifest)));
        let length: usize = facts.iter().map(|(name, day, value)| line(name, *day, value).len()).sum();
        atomic::write_soon(&self.path, |file| {
            writeln!(file, "{{\"version\":{VERSION},\"sorted\":{length}}}")?;
            facts.iter().try_for_each(|(name, day, value)| file.write_all(line(name, *day, value).as_bytes()))
        })
    }

    fn lock(&self) -> io::Result<File> {
        File::options().create(true).truncate(false).write(true).open(self.path.with_extension("lock"))
    }
}

/// Whether the file has our format, so that lines can be appended.
fn has_our_form(path: &Path) -> bool {
    let begin = format!("{{\"version\":{VERSION},");
    let mut found = vec![0; begin.len()];
    let read = File::open(path).and_then(|mut file| io::Read::read_exact(&mut file, &mut found));
    read.is_ok() && found == begin.as_bytes()
}
