//! Parses the text of a document.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::problem::{Sink, key_part, position};

/// Reads `text` as TOML. Syntax errors are reported like other problems. After a duplicate key, reading continues with the first
/// value; after other errors it stops, because the rest would only cause further errors.
pub(crate) fn document<'t>(text: &'t str, sink: &Sink<'_>) -> Option<Spanned<DeTable<'t>>> {
    if let Some(start) =
        text.match_indices("<<<<<<< ").map(|(at, _)| at).find(|&at| position(text, at).1 == 1)
    {
        let help = "take either side; `cargo xtask lock` adds what is missing then";
        sink.report(&(start..start), "", "has a merge conflict", Some(help.to_owned()));
        return None;
    }
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut readable = true;
    for error in &errors {
        let span = error.span().unwrap_or(0..0);
        let message = error.message();
        if message == "duplicate key" {
            let name = text.get(span.clone()).unwrap_or_default().trim_matches(['"', '\'']);
            let mut first = None;
            find_before(document.get_ref(), "", name, span.start, &mut first);
            let (key, help) = match first {
                Some((start, key)) => {
                    (key, Some(format!("it is already on line {}", position(text, start).0)))
                }
                // A second `[header]` replaces the first one in the tree, so half of the file would seem to be missing.
                None => {
                    readable = false;
                    (key_part(name), Some("put both parts under one header".to_owned()))
                }
            };
            sink.report(&span, &key, "is given twice", help);
        } else {
            readable = false;
            sink.report(&span, "", format!("not TOML: {}", message.replace('\n', ", ")), None);
        }
    }
    readable.then_some(document)
}

/// The last key `name` before `offset`, with its position and dotted path.
fn find_before(
    table: &DeTable<'_>,
    path: &str,
    name: &str,
    offset: usize,
    found: &mut Option<(usize, String)>,
) {
    for (key, value) in table {
        let part = key_part(key.get_ref());
        let path = if path.is_empty() { part } else { format!("{path}.{part}") };
        let start = key.span().start;
        if key.get_ref() == name && start < offset && found.as_ref().is_none_or(|(best, _)| *best < start) {
            *found = Some((start, path.clone()));
        }
        if let DeValue::Table(inner) = value.get_ref() {
            find_before(inner, &path, name, offset, found);
        }
    }
}
