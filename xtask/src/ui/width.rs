//! Cuts texts to a terminal's columns.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// The replacement for cut text.
const GAP: &str = "...";

/// The width of a text, in columns.
pub fn of(text: &str) -> usize {
    text.width()
}

/// The first columns of a text.
fn head(text: &str, columns: usize) -> &str {
    let mut taken = 0;
    let end = text.char_indices().find(|(_, c)| {
        taken += c.width().unwrap_or(0);
        taken > columns
    });
    end.map_or(text, |(at, _)| &text[..at])
}

/// The last columns of a text.
fn tail(text: &str, columns: usize) -> &str {
    let mut taken = 0;
    let start = text.char_indices().rev().find(|(_, c)| {
        taken += c.width().unwrap_or(0);
        taken > columns
    });
    start.map_or(text, |(at, c)| &text[at + c.len_utf8()..])
}

/// `text` cut to this many columns at the end.
pub fn cut(text: &str, columns: usize) -> String {
    if of(text) <= columns {
        return text.to_owned();
    }
    match columns.checked_sub(GAP.len()) {
        Some(left) => format!("{}{GAP}", head(text, left)),
        None => head(text, columns).to_owned(),
    }
}

/// `text` cut to this many columns in the middle: names often start alike and differ at the end.
pub fn cut_middle(text: &str, columns: usize) -> String {
    if of(text) <= columns {
        return text.to_owned();
    }
    let Some(left) = columns.checked_sub(GAP.len()) else { return tail(text, columns).to_owned() };
    let before = left * 2 / 5;
    format!("{}{GAP}{}", head(text, before), tail(text, left - before))
}

/// `text` padded with spaces to this many columns.
pub fn padded(text: &str, columns: usize) -> String {
    format!("{text}{}", " ".repeat(columns.saturating_sub(of(text))))
}

/// `text` with long lines wrapped between words, where a terminal would break them inside a word. A longer word is not broken, so
/// that it can be copied.
pub fn folded(text: &str, columns: usize) -> String {
    text.split('\n').map(|line| folded_line(line, columns)).collect::<Vec<_>>().join("\n")
}

fn folded_line(line: &str, columns: usize) -> String {
    if of(line) <= columns {
        return line.to_owned();
    }
    let words = line.trim_start();
    let indent = " ".repeat(line.len() - words.len() + 2);
    let mut lines = vec![line[..line.len() - words.len()].to_owned()];
    let mut is_new = true;
    for word in words.split(' ') {
        let last = lines.last().map_or(0, |last| of(last));
        if !is_new && last + 1 + of(word) > columns {
            lines.push(indent.clone());
            is_new = true;
        }
        if let Some(last) = lines.last_mut() {
            *last += if is_new { "" } else { " " };
            *last += word;
        }
        is_new = false;
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_between_words_and_keep_their_indentation() {
        assert_eq!(folded("one two three", 13), "one two three");
        assert_eq!(folded("one two three", 12), "one two\n  three");
        assert_eq!(folded("  caused by: x\nhint: a  b c", 10), "  caused\n    by: x\nhint: a  b\n  c");
        assert_eq!(folded("a/very/long/word it", 8), "a/very/long/word\n  it");
    }

    #[test]
    fn fitting_text_is_unchanged_and_nothing_exceeds_the_columns() {
        assert_eq!(cut("curl:7.85.0", 11), "curl:7.85.0");
        assert_eq!(cut("curl:7.85.0", 10), "curl:7....");
        assert_eq!(cut_middle("kedacore/keda-metrics-apiserver:2.11.2", 24), "kedacore...server:2.11.2");
        assert_eq!(padded("ab", 4), "ab  ");
        for text in ["kedacore/keda:2.11.2", "日本語のとても長い名前", "é", ""] {
            for columns in 0..30 {
                assert!(of(&cut(text, columns)) <= columns, "{text} {columns}");
                assert!(of(&cut_middle(text, columns)) <= columns, "{text} {columns}");
            }
        }
    }
}
