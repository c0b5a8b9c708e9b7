//! BuildKit's `--progress=plain`: each line begins with `#` and the step's number; a step's first line is its name.

use std::collections::BTreeMap;

use super::{Event, Step};

#[derive(Debug, Default)]
pub(super) struct Parser {
    /// Each step's name, from its first line.
    names: BTreeMap<usize, String>,
}

impl Parser {
    pub(super) fn line(&mut self, line: &str) -> Vec<Event> {
        let Some((id, text)) = numbered(line) else { return vec![Event::Said(line.to_owned())] };
        // `#0 building with "default" instance using docker driver`.
        if id == 0 {
            return vec![Event::Said(text.to_owned())];
        }
        let Some(name) = self.names.get(&id) else {
            self.names.insert(id, text.to_owned());
            return vec![Event::Began { id, step: Step::named(text) }];
        };
        // The name is repeated when the output returns to a step, and `...` ends a part of it. Client 20.10 adds the digest.
        if text == name || text == "..." || text.starts_with("sha256:") && !text.contains(' ') {
            return Vec::new();
        }
        let event = match text.split_once(' ').unwrap_or((text, "")) {
            ("DONE", _) => Event::Ended { id, cached: false },
            ("CACHED", "") => Event::Ended { id, cached: true },
            ("ERROR:", reason) => Event::Failed { id, reason: reason.to_owned() },
            ("CANCELED", "") => Event::Failed { id, reason: super::failure::CANCELED.to_owned() },
            ("WARN:", warning) => Event::Said(format!("warning: {warning}")),
            (seconds, said) if is_seconds(seconds) => Event::Line { id, text: said.to_owned() },
            _ => Event::Line { id, text: text.to_owned() },
        };
        vec![event]
    }
}

fn numbered(line: &str) -> Option<(usize, &str)> {
    let (number, text) = line.strip_prefix('#')?.split_once(' ')?;
    Some((number.parse().ok()?, text))
}

/// `0.142`, the time of a program's line.
fn is_seconds(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.split_once('.').is_some_and(|(whole, part)| digits(whole) && digits(part))
}
