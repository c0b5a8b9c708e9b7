//! Facts in a file: a sorted part that is searched and not read, and what was learned since, line by line at its end. What a
//! run learns costs what is new, whatever is known.
//!
//! A line is `kind TAB key TAB day TAB value;`. A kill in the middle of one leaves a line without its end, which is no line. Who
//! appends holds the lock beside the file with others, who sorts anew holds it alone: two runs at once lose nothing.

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

/// Days after which a fact goes that no list has asked for.
pub(super) const KEPT: u32 = 90;

/// Days after which it is noted that a list has asked for a fact: not with each run.
const NOTED: u32 = 7;

/// What may be at the end before it is sorted in: as much, or a quarter of what is sorted.
const LOOSE: usize = 256 << 10;

/// The facts.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    today: u32,
    /// The sorted lines, as they were when the file was opened.
    sorted: String,
    /// By `kind TAB key`: what came after them, and what this run learned.
    recent: HashMap<String, Fact>,
    /// Names of what is not in the file yet.
    unwritten: Vec<String>,
}

/// Why a file is not read.
#[derive(Debug)]
pub(super) enum Unread {
    /// It has another form: the bytes.
    Form(Vec<u8>),
    /// It cannot be read.
    Io(io::Error),
}

impl Journal {
    /// Opens the file. Where it is not read, the journal is empty and the first write replaces it.
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

    /// What is known. That it was asked for is noted now and then.
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

    /// Whether a key that begins with `begin` has this value.
    pub(super) fn has_under(&self, kind: Kind, begin: &str, value: &str) -> bool {
        let begin = name(kind, begin);
        let lying = from(&self.sorted, &begin).lines().map_while(parse);
        let mut lying = lying.take_while(|(name, _)| name.starts_with(&begin));
        let mut recent = self.recent.iter();
        // What came later counts.
        lying.any(|(name, fact)| fact.value == value && !self.recent.contains_key(name))
            || recent.any(|(name, fact)| fact.value == value && name.starts_with(&begin))
    }

    /// Learns; whether that is news.
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

    /// Whether there is something to write.
    pub(super) fn is_dirty(&self) -> bool {
        !self.unwritten.is_empty()
    }

    /// Writes what is new to the end of the file.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub(super) fn append(&mut self) -> io::Result<()> {
        // Tried once: a folder that cannot be written to is warned of once.
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
            // The first one: nobody else may make the file at the same time.
            lock.unlock()?;
            lock.lock()?;
            if !has_our_form(&self.path) {
                return self.write_whole(&[]);
            }
        }
        // A line that a kill cut off is ended, so that ours begins as one.
        let mut text = String::from("\n");
        for name in names {
            if let Some(fact) = self.recent.get(&name) {
                text += &line(&name, fact.day, &fact.value);
            }
        }
        // Opened anew each time: another run may have put a sorted file in its place. One write, so that lines stay whole.
        File::options().append(true).open(&self.path)?.write_all(text.as_bytes())
    }

    /// Sorts in what came to the end of the file, if that has become much; old facts go.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub(super) fn tidy(&mut self) -> io::Result<()> {
        let length = std::fs::metadata(&self.path).map_or(0, |data| data.len());
        let loose = usize::try_from(length).unwrap_or(usize::MAX).saturating_sub(self.sorted.len());
        if loose < LOOSE.max(self.sorted.len() / 4) {
            return Ok(());
        }
        let lock = self.lock()?;
        lock.lock()?;
        // Not ours of the beginning: another run may have sorted since.
        let Ok(parts) = parts(std::fs::read(&self.path)?) else { return Ok(()) };
        if parts.loose().len() < LOOSE.max(parts.sorted().len() / 4) {
            return Ok(());
        }
        // What this run knows lies in the file, but for what could not be written: no need to have it twice.
        self.sorted = String::new();
        if self.unwritten.is_empty() {
            self.recent = HashMap::new();
        }
        let written = self.write_whole(&[parts.sorted(), parts.loose()]);
        drop(parts);
        *self = Self::open(std::mem::take(&mut self.path), self.today).0;
        written
    }

    /// The whole file: these lines, then what is in memory. The lock is held.
    fn write_whole(&self, texts: &[&str]) -> io::Result<()> {
        let known = self.recent.iter().map(|(name, fact)| (name.as_str(), fact.day, fact.value.as_str()));
        let mut facts: Vec<_> = known.collect();
        let lines = texts.iter().flat_map(|text| text.lines()).filter_map(parse);
        facts.extend(lines.map(|(name, fact)| (name, fact.day, fact.value)));
        // Of two runs' words for one thing the last one counts, as it does when the file is read.
        facts.sort_by_key(|(name, ..)| *name);
        facts.reverse();
        facts.dedup_by_key(|(name, ..)| *name);
        facts.reverse();
        facts.retain(|(_, day, _)| day.saturating_add(KEPT) >= self.today);
        // The blobs of what stands nowhere any more help nobody.
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

/// Whether lines can be appended.
fn has_our_form(path: &Path) -> bool {
    let begin = format!("{{\"version\":{VERSION},");
    let mut found = vec![0; begin.len()];
    let read = File::open(path).and_then(|mut file| io::Read::read_exact(&mut file, &mut found));
    read.is_ok() && found == begin.as_bytes()
}
