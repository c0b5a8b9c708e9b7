//! Errors in a file with their positions: all at once, in the order of the lines.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::redact_logins::without_logins;

/// An error in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The line, counted from 1.
    pub line: usize,
    /// The column in characters, counted from 1.
    pub column: usize,
    /// The key written in one line, such as `images."kedacore/keda".source`. Empty for the whole file.
    pub key: String,
    /// The error, as a lowercase fragment.
    pub message: String,
    /// What the user can do.
    pub help: Option<String>,
}

/// All errors in one file.
#[derive(Clone, Debug, thiserror::Error)]
pub struct Problems {
    file: PathBuf,
    problems: Vec<Problem>,
}

impl Problems {
    #[cfg(test)]
    pub(super) fn all(&self) -> &[Problem] {
        &self.problems
    }

    /// One error about the whole file.
    pub(super) fn of_file(file: &Path, message: impl Into<String>) -> Self {
        let problem = Problem { line: 1, column: 1, key: String::new(), message: message.into(), help: None };
        Self { file: file.into(), problems: vec![problem] }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        match self.problems.len() {
            1 => write!(f, "{file} has an error")?,
            many => write!(f, "{file} has {many} errors")?,
        }
        for Problem { line, column, key, message, help } in &self.problems {
            write!(f, "\n  {file}:{line}:{column}: ")?;
            if !key.is_empty() {
                write!(f, "{key}: ")?;
            }
            write!(f, "{message}")?;
            if let Some(help) = help {
                write!(f, "\n      help: {help}")?;
            }
        }
        Ok(())
    }
}

/// Collects the errors of one text.
pub(super) struct Sink<'a> {
    text: &'a str,
    /// The offsets of all lines except the first.
    starts: Vec<usize>,
    found: RefCell<Vec<Problem>>,
}

impl<'a> Sink<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let starts = text.match_indices('\n').map(|(at, _)| at + 1).collect();
        Self { text, starts, found: RefCell::default() }
    }

    pub(super) fn text(&self) -> &'a str {
        self.text
    }

    /// The line of a byte offset, from 1. Called for each entry, so it does not count all lines each time.
    pub(super) fn line(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset) + 1
    }

    /// Adds a problem at a byte range of the text. Logins in the wrong place are not repeated in the message.
    pub(super) fn report(
        &self,
        span: &Range<usize>,
        key: &str,
        message: impl Into<String>,
        help: Option<String>,
    ) {
        let (line, column) = position(self.text, span.start);
        let message = without_logins(&message.into());
        let help = help.as_deref().map(without_logins);
        let problem = Problem { line, column, key: without_logins(key), message, help };
        self.found.borrow_mut().push(problem);
    }

    /// Returns `value` if there are no problems, otherwise the problems.
    pub(super) fn finish<T>(self, file: &Path, value: Option<T>) -> Result<T, Problems> {
        let mut problems = self.found.into_inner();
        problems.sort_by(|a, b| (a.line, a.column, &a.key).cmp(&(b.line, b.column, &b.key)));
        problems.dedup();
        match value {
            Some(value) if problems.is_empty() => Ok(value),
            _ if problems.is_empty() => Err(Problems::of_file(file, "it could not be read")),
            _ => Err(Problems { file: file.into(), problems }),
        }
    }
}

/// Line and column, both from 1, of a byte offset.
pub(super) fn position(text: &str, offset: usize) -> (usize, usize) {
    let mut end = offset.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let before = &text[..end];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

/// The known word that is most similar to `word`.
pub(super) fn nearest<'w>(word: &str, known: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    let limit = word.chars().count().div_ceil(3).min(3);
    known
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|&(distance, candidate)| distance <= limit || (word.len() > 2 && candidate.starts_with(word)))
        .min()
        .map(|(_, candidate)| candidate)
}

/// Edit distance in which a swap of two neighbours counts once.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let first_row = (0..=b.len()).collect::<Vec<_>>();
    let mut rows = vec![first_row; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let same = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + same);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

/// `name` as a part of a dotted TOML key, quoted if TOML requires it.
pub(super) fn key_part(name: &str) -> String {
    let bare = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    if bare { name.to_owned() } else { quoted(name) }
}

/// `text` as a TOML basic string.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_lines_and_characters_from_one() {
        assert_eq!(position("ab\ncd", 0), (1, 1));
        assert_eq!(position("ab\ncd", 4), (2, 2));
        assert_eq!(position("é = 1", 2), (1, 2));
        assert_eq!(position("é", 1), (1, 1), "an offset inside of a character is that character");
        assert_eq!(position("a\n", 99), (2, 1), "past the end is the end");
    }

    #[test]
    fn nearest_only_finds_typing_mistakes() {
        let known = ["source", "platforms", "artifacts"];
        assert_eq!(nearest("sorce", known), Some("source"));
        assert_eq!(nearest("soruce", known), Some("source"));
        assert_eq!(nearest("platform", known), Some("platforms"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest("x", known), None);
    }

    #[test]
    fn quoted_text_reads_back() {
        for text in ["plain", "with \"quotes\" and \\", "line\nfeed\ttab\r", "\u{1}\u{7f}", "é"] {
            let line = format!("key = {}", quoted(text));
            let table: toml::Table = toml::from_str(&line).unwrap();
            assert_eq!(table["key"].as_str(), Some(text));
        }
        assert_eq!(key_part("a-b_1"), "a-b_1");
        assert_eq!(key_part("kedacore/keda"), "\"kedacore/keda\"");
        assert_eq!(key_part(""), "\"\"");
    }
}
