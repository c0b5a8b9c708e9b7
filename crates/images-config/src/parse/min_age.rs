//! Reads `min_age`: how long a digest must be known before it is used, for all sources or by source.

use jiff::{SignedDuration, Span, SpanRelativeTo};

use crate::min_age::MinAge;
use crate::pattern::Pattern;
use crate::reader::Node;
use crate::values::dotted;

/// The longest useful wait.
const LONGEST: SignedDuration = SignedDuration::from_hours(366 * 24);

/// One rule for all sources, or a table of rules.
pub(super) fn min_age(node: &Node<'_>) -> Vec<MinAge> {
    if !node.is_table() {
        let age = age(node);
        return age.map(|age| rule(Pattern::all(), age, node.place().line())).into_iter().collect();
    }
    let mut rules: Vec<MinAge> = Vec::new();
    for entry in node.table().map(|table| table.entries()).unwrap_or_default() {
        if dotted(&entry, &[]) {
            continue;
        }
        let (sources, age) = (Pattern::read(&entry), age(&entry.value));
        let (Some(sources), Some(age)) = (sources, age) else { continue };
        match rules.iter().find(|other| other.sources == sources) {
            Some(other) => entry.key.fail(format!("is the same as the pattern on line {}", other.line)),
            None => rules.push(rule(sources, age, entry.key.line())),
        }
    }
    rules
}

fn rule(sources: Pattern, (age, text): (SignedDuration, &str), line: usize) -> MinAge {
    MinAge { sources, age, text: text.to_owned(), line }
}

/// A duration such as `3d`, with days of 24 hours.
fn age<'a>(node: &Node<'a>) -> Option<(SignedDuration, &'a str)> {
    let text = node.text()?;
    let read = text.parse::<Span>().and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()));
    match read {
        Ok(age) if age.is_negative() || age > LONGEST => {
            node.fail(format!("`{text}` is not between 0 and a year"));
            None
        }
        Ok(age) => Some((age, text)),
        Err(_) => {
            node.fail_with(
                format!("`{text}` is not a time"),
                "weeks, days, hours or minutes, as in \"3d\" or \"36h\"",
            );
            None
        }
    }
}
