//! Facts in a file: a sorted part that is searched and not read, and what was learned since, line by line at its end. What a
//! run learns costs what is new, whatever is known.
//!
//! A line is `kind TAB key TAB day TAB value;`. A kill in the middle of one leaves a line without its end, which is no line. Who
//! appends holds the lock beside the file with others, who sorts anew holds it alone: two runs at once lose nothing.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::atomic;

/// The form of the file; another one is ignored.
const VERSION: u32 = 2;

/// Days after which a fact goes that no list has asked for.
pub(super) const KEPT: u32 = 90;

/// Days after which it is noted that a list has asked for a fact: not with each run.
const NOTED: u32 = 7;

/// What may be at the end before it is sorted in: as much, or a quarter of what is sorted.
const LOOSE: usize = 256 << 10;

/// What kind of fact a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// A manifest's blobs.
    Blobs,
    /// What a source's name meant.
    Meant,
    /// What was put at a target.
    Placed,
    /// What a source's digest comes to for some platforms.
    Wanted,
}

impl Kind {
    fn letter(self) -> &'static str {
        match self {
            Self::Blobs => "b",
            Self::Meant => "m",
            Self::Placed => "p",
            Self::Wanted => "w",
        }
    }
}

/// A fact as it was learned, and the day when a list last asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fact {
    day: u32,
    value: String,
}

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

fn name(kind: Kind, key: &str) -> String {
    format!("{}\t{key}", kind.letter())
}

fn line(name: &str, day: u32, value: &str) -> String {
    format!("{name}\t{day}\t{value};\n")
}

/// A fact where it lies.
struct Lying<'a> {
    day: u32,
    value: &'a str,
}

impl Lying<'_> {
    fn owned(&self) -> Fact {
        Fact { day: self.day, value: self.value.to_owned() }
    }
}

/// Name and fact of a line; none if it is not whole.
fn parse(line: &str) -> Option<(&str, Lying<'_>)> {
    let line = line.strip_suffix(';')?;
    let (rest, value) = line.rsplit_once('\t')?;
    let (name, day) = rest.rsplit_once('\t')?;
    Some((name, Lying { day: day.parse().ok()?, value }))
}

/// The fact of a name among sorted lines.
fn find<'a>(lines: &'a str, name: &str) -> Option<Lying<'a>> {
    let (found, fact) = parse(from(lines, name).lines().next()?)?;
    (found == name).then_some(fact)
}

/// The lines from the first one on whose name is `name` or comes after it, by bisection.
fn from<'a>(lines: &'a str, name: &str) -> &'a str {
    let lower = || {
        let (mut low, mut high) = (0, lines.len());
        while low < high {
            let middle = low + (high - low) / 2;
            let start = lines.get(low..middle)?.rfind('\n').map_or(low, |at| low + at + 1);
            let end = lines.get(start..high)?.find('\n').map_or(high, |at| start + at);
            let (found, _) = parse(lines.get(start..end)?)?;
            if found < name {
                low = end + 1;
            } else {
                high = start;
            }
        }
        lines.get(low..)
    };
    lower().unwrap_or_default()
}

/// What a file says: a sorted part, and what came behind it. It may be large, so it is kept once.
struct Parts {
    text: String,
    begin: usize,
    end: usize,
}

impl Parts {
    fn sorted(&self) -> &str {
        &self.text[self.begin..self.end]
    }

    fn loose(&self) -> &str {
        &self.text[self.end..]
    }

    fn into_sorted(self) -> String {
        let mut sorted = self.text;
        sorted.truncate(self.end);
        sorted.drain(..self.begin);
        sorted.shrink_to_fit();
        sorted
    }
}

/// The parts of a file; the bytes, if it has another form.
fn parts(bytes: Vec<u8>) -> Result<Parts, Vec<u8>> {
    #[derive(serde::Deserialize)]
    struct Head {
        version: u32,
        sorted: usize,
    }
    let text = match String::from_utf8(bytes) {
        Ok(text) if text.is_ascii() => text,
        Ok(text) => return Err(text.into_bytes()),
        Err(error) => return Err(error.into_bytes()),
    };
    let head = text.split_once('\n').and_then(|(head, _)| {
        let parsed: Head = serde_json::from_str(head).ok()?;
        (parsed.version == VERSION).then_some((head.len() + 1, parsed.sorted))
    });
    let bounds = head.and_then(|(begin, sorted)| {
        let end = begin.checked_add(sorted)?;
        (end <= text.len()).then_some((begin, end))
    });
    match bounds {
        Some((begin, end)) => Ok(Parts { text, begin, end }),
        None => Err(text.into_bytes()),
    }
}

/// Whether lines can be appended.
fn has_our_form(path: &Path) -> bool {
    let begin = format!("{{\"version\":{VERSION},");
    let mut found = vec![0; begin.len()];
    let read = File::open(path).and_then(|mut file| io::Read::read_exact(&mut file, &mut found));
    read.is_ok() && found == begin.as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TODAY: u32 = 20_000;

    fn open(path: &Path, today: u32) -> Journal {
        let (journal, unread) = Journal::open(path.to_owned(), today);
        assert!(unread.is_none(), "{unread:?}");
        journal
    }

    fn key(number: usize) -> String {
        format!("h:1/repository-{number}:tag")
    }

    /// Enough that it is sorted.
    fn fill(path: &Path, range: std::ops::Range<usize>, today: u32) {
        let mut journal = open(path, today);
        for number in range {
            assert!(journal.put(Kind::Placed, &key(number), format!("value-{number}-{}", "x".repeat(60))));
        }
        journal.append().unwrap();
        journal.tidy().unwrap();
    }

    fn has(path: &Path, number: usize, today: u32) -> bool {
        let value = open(path, today).get(Kind::Placed, &key(number));
        value.is_some_and(|value| value.starts_with(&format!("value-{number}-")))
    }

    #[test]
    fn what_is_sorted_is_found_and_what_is_not_there_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mapping.json");
        fill(&path, 0..3_000, TODAY);
        let journal = open(&path, TODAY);
        assert!(journal.recent.is_empty() && journal.sorted.len() > LOOSE, "it was sorted");
        assert!((0..3_000).step_by(7).chain([2_999]).all(|number| has(&path, number, TODAY)));
        for absent in ["", "a", "h:1/repository-3000:tag", "h:1/repository-1:tag2", "z"] {
            assert_eq!(open(&path, TODAY).get(Kind::Placed, absent), None, "{absent}");
            assert_eq!(open(&path, TODAY).get(Kind::Meant, absent), None, "{absent}");
        }
        // What came later counts, before and after it is sorted in.
        for number in [5, 1_500] {
            let mut journal = open(&path, TODAY);
            assert!(journal.put(Kind::Placed, &key(number), "new".to_owned()));
            assert!(!journal.put(Kind::Placed, &key(number), "new".to_owned()));
            journal.append().unwrap();
            assert_eq!(open(&path, TODAY).get(Kind::Placed, &key(number)).unwrap(), "new");
        }
        fill(&path, 3_000..9_000, TODAY);
        assert_eq!(open(&path, TODAY).get(Kind::Placed, &key(1_500)).unwrap(), "new");
        assert!(has(&path, 8_999, TODAY) && has(&path, 2_999, TODAY));
    }

    #[test]
    fn what_is_new_is_appended_and_nothing_else_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mapping.json");
        fill(&path, 0..3_000, TODAY);
        let before = std::fs::read(&path).unwrap();
        fill(&path, 3_000..3_001, TODAY);
        let after = std::fs::read(&path).unwrap();
        assert!(after.starts_with(&before) && after.len() < before.len() + 200);
    }

    #[test]
    fn what_no_list_asks_for_goes_and_what_one_asks_for_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mapping.json");
        fill(&path, 0..3_000, TODAY);
        let later = TODAY + KEPT - 1;
        let mut journal = open(&path, later);
        journal.get(Kind::Placed, &key(7)).unwrap();
        assert!(journal.is_dirty(), "that it was asked for is noted");
        journal.append().unwrap();
        let mut journal = open(&path, later + 1);
        journal.get(Kind::Placed, &key(7)).unwrap();
        assert!(!journal.is_dirty(), "not each time");
        fill(&path, 3_000..6_000, later + 2);
        assert!(has(&path, 7, later + 2) && has(&path, 5_999, later + 2));
        assert!(!has(&path, 8, later + 2) && !has(&path, 2_999, later + 2));
    }

    #[test]
    fn a_kill_at_any_byte_loses_that_line_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mapping.json");
        let mut journal = open(&path, TODAY);
        journal.put(Kind::Meant, "first", "one,two".to_owned());
        journal.append().unwrap();
        let whole = std::fs::read(&path).unwrap();
        journal.put(Kind::Meant, "second", "three,four".to_owned());
        journal.append().unwrap();
        let longer = std::fs::read(&path).unwrap();
        for end in whole.len()..longer.len() {
            std::fs::write(&path, &longer[..end]).unwrap();
            let mut journal = open(&path, TODAY);
            assert_eq!(journal.get(Kind::Meant, "first").unwrap(), "one,two");
            let second = journal.get(Kind::Meant, "second");
            assert!(second.is_none() || second.as_deref() == Some("three,four"), "{end}: {second:?}");
            journal.put(Kind::Meant, "third", "five".to_owned());
            journal.append().unwrap();
            let mut journal = open(&path, TODAY);
            assert_eq!(journal.get(Kind::Meant, "third").unwrap(), "five", "{end}");
            assert_eq!(journal.get(Kind::Meant, "first").unwrap(), "one,two");
        }
    }

    #[test]
    fn runs_at_once_lose_nothing_even_while_one_sorts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mapping.json");
        std::thread::scope(|scope| {
            for run in 0..4 {
                let path = &path;
                scope.spawn(move || {
                    let mut journal = open(path, TODAY);
                    for number in 0..1_500 {
                        let number = run * 1_500 + number;
                        journal.put(Kind::Placed, &key(number), format!("value-{number}-{}", "x".repeat(60)));
                        if number % 50 == 0 {
                            journal.append().unwrap();
                            journal.tidy().unwrap();
                        }
                    }
                    journal.append().unwrap();
                    journal.tidy().unwrap();
                });
            }
        });
        let mut journal = open(&path, TODAY);
        assert!(!journal.sorted.is_empty(), "somebody sorted");
        for number in 0..6_000 {
            assert!(journal.get(Kind::Placed, &key(number)).is_some(), "{number}");
        }
    }
}
