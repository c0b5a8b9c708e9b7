//! Reads a TOML document value by value, with the position of each.
//!
//! Serde's `deny_unknown_fields` stops at the first error, but users need all of them. So values are read from toml's own spanned
//! tree: a wrong type, a missing key or an unknown key is reported to the [`Sink`], and reading continues.

mod document;

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::problem::{Sink, key_part, nearest};

pub(super) use document::document;

/// A value with its key and position.
#[derive(Clone)]
pub(super) struct Node<'a> {
    value: &'a DeValue<'a>,
    span: Range<usize>,
    key: String,
    sink: &'a Sink<'a>,
}

/// A table with known keys. Keys that were not requested are unknown.
pub(super) struct Fields<'a> {
    table: &'a DeTable<'a>,
    span: Range<usize>,
    key: String,
    sink: &'a Sink<'a>,
    asked: Vec<&'static str>,
}

/// An entry of a table whose keys the user chooses.
pub(super) struct Entry<'a> {
    /// The key.
    pub(super) name: &'a str,
    /// The key's position, without a value.
    pub(super) key: Place<'a>,
    /// The value.
    pub(super) value: Node<'a>,
}

/// A position in the document.
#[derive(Clone)]
pub(super) struct Place<'a> {
    span: Range<usize>,
    key: String,
    sink: &'a Sink<'a>,
}

impl Place<'_> {
    /// Reports a problem here.
    pub(super) fn fail(&self, message: impl Into<String>) {
        self.sink.report(&self.span, &self.key, message, None);
    }

    /// Reports a problem here, with a hint.
    pub(super) fn fail_with(&self, message: impl Into<String>, help: impl Into<String>) {
        self.sink.report(&self.span, &self.key, message, Some(help.into()));
    }

    /// The dotted key.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// The position in the text, in bytes.
    pub(super) fn range(&self) -> Range<usize> {
        self.span.clone()
    }

    /// The line, from 1.
    pub(super) fn line(&self) -> usize {
        self.sink.line(self.span.start)
    }
}

impl<'a> Node<'a> {
    /// The position.
    pub(super) fn place(&self) -> Place<'a> {
        Place { span: self.span.clone(), key: self.key.clone(), sink: self.sink }
    }

    /// Reports a problem with this value.
    pub(super) fn fail(&self, message: impl Into<String>) {
        self.place().fail(message);
    }

    /// Reports a problem with this value, with a hint.
    pub(super) fn fail_with(&self, message: impl Into<String>, help: impl Into<String>) {
        self.place().fail_with(message, help);
    }

    /// Whether this is a string.
    pub(super) fn is_string(&self) -> bool {
        matches!(self.value, DeValue::String(_))
    }

    /// Whether this is a table.
    pub(super) fn is_table(&self) -> bool {
        matches!(self.value, DeValue::Table(_))
    }

    /// The text. Reports other types as a problem.
    pub(super) fn string(&self) -> Option<&'a str> {
        match self.value {
            DeValue::String(text) => Some(text),
            _ => self.expected("a string"),
        }
    }

    /// A non-empty string.
    pub(super) fn text(&self) -> Option<&'a str> {
        let text = self.string()?;
        if text.trim().is_empty() {
            self.fail("is empty");
            return None;
        }
        Some(text)
    }

    /// `true` or `false`. Reports other types as a problem.
    pub(super) fn boolean(&self) -> Option<bool> {
        match self.value {
            DeValue::Boolean(value) => Some(*value),
            _ => self.expected("true or false"),
        }
    }

    /// An integer within the range. Reports anything else as a problem.
    pub(super) fn integer(&self, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
        let wanted = match (range.start(), range.end()) {
            (low, &u64::MAX) => format!("a whole number of {low} or more"),
            (low, high) => format!("a whole number from {low} to {high}"),
        };
        let DeValue::Integer(number) = self.value else { return self.expected(&wanted) };
        match u64::from_str_radix(number.as_str(), number.radix()) {
            Ok(value) if range.contains(&value) => Some(value),
            _ => {
                self.fail(format!("is {number}, but must be {wanted}"));
                None
            }
        }
    }

    /// The elements of a list. Reports other types as a problem.
    pub(super) fn list(&self) -> Option<Vec<Node<'a>>> {
        let DeValue::Array(array) = self.value else { return self.expected("a list") };
        let element = |(index, value): (usize, &'a Spanned<DeValue<'a>>)| Node {
            value: value.get_ref(),
            span: value.span(),
            key: format!("{}[{index}]", self.key),
            sink: self.sink,
        };
        Some(array.iter().enumerate().map(element).collect())
    }

    /// The fields of a table. Reports other types as a problem.
    pub(super) fn table(&self) -> Option<Fields<'a>> {
        match self.value {
            DeValue::Table(table) => Some(Fields {
                table,
                span: self.span.clone(),
                key: self.key.clone(),
                sink: self.sink,
                asked: Vec::new(),
            }),
            _ => self.expected("a table"),
        }
    }

    /// Reports that another type was expected here.
    pub(super) fn expected<T>(&self, wanted: &str) -> Option<T> {
        let found = match self.value {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.fail(format!("is {found}, but must be {wanted}"));
        None
    }
}

/// A string, or an integer as it is written.
pub(super) fn word(node: &Node<'_>) -> Option<String> {
    match node.value {
        DeValue::Integer(number) => Some(number.to_string()),
        _ => node.text().map(str::to_owned),
    }
}

/// A time with its offset. Reports anything else as a problem.
pub(super) fn time(node: &Node<'_>) -> Option<jiff::Timestamp> {
    let moment = match node.value {
        DeValue::Datetime(moment) => moment.to_string().parse().ok(),
        _ => None,
    };
    if moment.is_none() {
        node.fail("must be a time such as 2026-11-22T12:00:00Z");
    }
    moment
}

impl<'a> Fields<'a> {
    /// The fields of the whole document.
    pub(super) fn root(document: &'a Spanned<DeTable<'a>>, sink: &'a Sink<'a>) -> Self {
        Self { table: document.get_ref(), span: 0..0, key: String::new(), sink, asked: Vec::new() }
    }

    /// The position of the table.
    pub(super) fn place(&self) -> Place<'a> {
        Place { span: self.span.clone(), key: self.key.clone(), sink: self.sink }
    }

    /// The value of `name`, if present.
    pub(super) fn take(&mut self, name: &'static str) -> Option<Node<'a>> {
        self.asked.push(name);
        let (key, value) = self.table.get_key_value(name)?;
        Some(self.node(key, value))
    }

    /// The value of `name`. Reports a missing one as a problem.
    pub(super) fn require(&mut self, name: &'static str) -> Option<Node<'a>> {
        let found = self.take(name);
        if found.is_none() {
            self.place().fail(format!("`{name}` is missing"));
        }
        found
    }

    /// The table `name`, if present.
    pub(super) fn table(&mut self, name: &'static str) -> Option<Fields<'a>> {
        self.take(name)?.table()
    }

    /// The texts in the list `name`, with their positions. Empty if not present.
    pub(super) fn texts(&mut self, name: &'static str) -> Vec<(&'a str, Node<'a>)> {
        let nodes = self.take(name).and_then(|node| node.list()).unwrap_or_default();
        nodes.into_iter().filter_map(|node| Some((node.text()?, node))).collect()
    }

    /// All entries, for tables whose keys the user chooses.
    pub(super) fn entries(&self) -> Vec<Entry<'a>> {
        let entry = |(key, value): (&'a Spanned<_>, &'a Spanned<_>)| {
            let value = self.node(key, value);
            let place = Place { span: key.span(), key: value.key.clone(), sink: self.sink };
            let name: &'a std::borrow::Cow<'a, str> = key.get_ref();
            Entry { name, key: place, value }
        };
        self.table.iter().map(entry).collect()
    }

    /// Reports every key that was not requested.
    pub(super) fn finish(self) {
        for entry in self.entries() {
            if self.asked.contains(&entry.name) {
                continue;
            }
            match nearest(entry.name, self.asked.iter().copied()) {
                Some(known) => entry.key.fail_with("unknown key", format!("did you mean `{known}`?")),
                None => {
                    let mut known = self.asked.clone();
                    known.sort_unstable();
                    entry.key.fail_with("unknown key", format!("known here: {}", known.join(", ")));
                }
            }
        }
    }

    fn node(&self, key: &'a Spanned<std::borrow::Cow<'a, str>>, value: &'a Spanned<DeValue<'a>>) -> Node<'a> {
        let part = key_part(key.get_ref());
        let key = if self.key.is_empty() { part } else { format!("{}.{part}", self.key) };
        Node { value: value.get_ref(), span: value.span(), key, sink: self.sink }
    }
}

impl Entry<'_> {
    /// Whether the key is followed by a dot, as in `python3.8 = ...`, which TOML reads as the table `python3` with the key `8`.
    pub(super) fn is_dotted(&self) -> bool {
        let rest = self.key.sink.text().get(self.key.span.end..).unwrap_or_default();
        rest.trim_start_matches([' ', '\t']).starts_with('.')
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn errors_of(text: &str) -> String {
        let sink = Sink::new(text);
        let read = document(text, &sink).map(|document| {
            let mut root = Fields::root(&document, &sink);
            root.require("name").and_then(|node| node.text());
            root.take("count").and_then(|node| node.integer(1..=9));
            if let Some(mut inner) = root.table("inner") {
                inner.take("flag").and_then(|node| node.boolean());
                inner.texts("words");
                inner.finish();
            }
            root.finish();
        });
        sink.finish(Path::new("f"), read).map_or_else(|problems| problems.to_string(), |()| String::new())
    }

    #[test]
    fn all_mistakes_are_reported_at_once_and_in_order() {
        let text =
            "count = 12\nnmae = \"x\"\n[inner]\nflag = \"yes\"\nwords = [\"a\", 1, \" \"]\n\"od d\" = 1\n";
        assert_eq!(
            errors_of(text),
            "f has 7 errors
  f:1:1: `name` is missing
  f:1:9: count: is 12, but must be a whole number from 1 to 9
  f:2:1: nmae: unknown key
      help: did you mean `name`?
  f:4:8: inner.flag: is a string, but must be true or false
  f:5:15: inner.words[1]: is a whole number, but must be a string
  f:5:18: inner.words[2]: is empty
  f:6:1: inner.\"od d\": unknown key
      help: known here: flag, words"
        );
        assert_eq!(errors_of("name = \"x\"\ncount = 0x9\n"), "");
    }

    #[test]
    fn a_duplicate_refers_to_the_first_and_does_not_hide_the_rest() {
        assert_eq!(
            errors_of("name = \"x\"\n[inner]\nflag = true\n\"flag\" = false\n[iner]\n"),
            "f has 2 errors
  f:4:1: inner.flag: is given twice
      help: it is already on line 3
  f:5:2: iner: unknown key
      help: did you mean `inner`?"
        );
        assert_eq!(
            errors_of("name = \"x\"\n[inner]\nflag = true\n[inner]\nwords = []\n"),
            "f has an error
  f:4:2: inner: is given twice
      help: put both parts under one header"
        );
    }

    #[test]
    fn broken_syntax_is_reported_without_other_mistakes() {
        let text = errors_of("name = \nother = = 1\n");
        assert!(text.starts_with("f has "), "{text}");
        assert!(text.contains("f:1:") && text.contains("f:2:") && !text.contains("missing"), "{text}");
    }
}
