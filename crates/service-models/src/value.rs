//! A value and the shape that it is to have.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use regex::Regex;
use serde_json::{Map, Value};

use crate::model::{Ref, Service, Shape};

/// The patterns that were met, compiled.
#[derive(Debug, Default)]
pub(crate) struct Patterns(Mutex<HashMap<String, Option<Arc<Regex>>>>);

impl Patterns {
    /// A pattern of the models has to fit the whole text, whether it says so or not: they are Java's, for `matches`. None for
    /// one that cannot be read here.
    pub(crate) fn get(&self, pattern: &str) -> Option<Arc<Regex>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let compiled = || Regex::new(&format!("^(?:{pattern})$")).ok().map(Arc::new);
        known.entry(pattern.to_owned()).or_insert_with(compiled).clone()
    }
}

/// Looks at values of one service, and collects what is wrong with them.
pub(crate) struct Checker<'m> {
    pub(crate) service: &'m Service,
    pub(crate) patterns: &'m Patterns,
    /// Whether it is an answer that is looked at.
    pub(crate) answered: bool,
    pub(crate) problems: Vec<String>,
}

/// Lists whose lengths are those of requests, though answers have them, too: ECR's ListImages gives up to 1000 ids, or none.
const OF_REQUESTS: &[&str] = &["ImageIdentifierList"];

impl<'m> Checker<'m> {
    pub(crate) fn new(service: &'m Service, patterns: &'m Patterns) -> Self {
        Self { service, patterns, answered: false, problems: Vec::new() }
    }

    pub(crate) fn note(&mut self, at: &str, problem: impl std::fmt::Display) {
        let at = if at.is_empty() { "the document" } else { at };
        self.problems.push(format!("{at}: {problem}"));
    }

    /// Checks `value`, which stands at `at`, against the shape of this name.
    pub(crate) fn value(&mut self, name: &str, value: &Value, at: &str) {
        let shape = self.service.shape(name);
        match (shape.kind.as_str(), value) {
            ("structure", Value::Object(members)) => self.structure(shape, members, at),
            ("list", Value::Array(items)) => {
                if !(self.answered && OF_REQUESTS.contains(&name)) {
                    self.length(shape, items.len(), at);
                }
                let member = shape.member.as_ref().map_or("", |member| member.shape.as_str());
                for item in items {
                    self.value(member, item, &format!("{at}[]"));
                }
            }
            ("map", Value::Object(entries)) => {
                self.length(shape, entries.len(), at);
                let name = |of: &'m Option<Ref>| of.as_ref().map_or("", |of| of.shape.as_str());
                for (key, value) in entries {
                    self.value(name(&shape.key), &Value::String(key.clone()), &format!("{at}{{}}"));
                    self.value(name(&shape.value), value, &format!("{at}{{}}"));
                }
            }
            ("string", Value::String(text)) => self.text(shape, text, at),
            ("integer" | "long", Value::Number(number)) if number.is_i64() || number.is_u64() => {
                self.range(shape, number.as_f64(), at);
            }
            ("float" | "double", Value::Number(number)) => self.range(shape, number.as_f64(), at),
            ("blob", Value::String(text)) => match STANDARD.decode(text) {
                Ok(bytes) => self.length(shape, bytes.len(), at),
                Err(_) => self.note(at, "is no base64"),
            },
            ("boolean", Value::Bool(_)) | ("timestamp", Value::Number(_)) | ("", _) => {}
            (kind, other) => self.note(at, format!("a {kind} is wanted, this is {}", kind_of(other))),
        }
    }

    fn structure(&mut self, shape: &'m Shape, members: &Map<String, Value>, at: &str) {
        for name in shape.required.iter().filter(|name| !members.contains_key(*name)) {
            self.note(at, format!("the required member {name} is missing"));
        }
        if shape.union && members.len() != 1 {
            self.note(at, format!("one member is wanted, there are {}", members.len()));
        }
        for (name, value) in members {
            match shape.members.get(name) {
                Some(member) => self.value(&member.shape, value, &format!("{at}/{name}")),
                None => self.note(at, format!("the model has no member {name}")),
            }
        }
    }

    fn text(&mut self, shape: &Shape, text: &str, at: &str) {
        self.length(shape, text.chars().count(), at);
        if !shape.words.is_empty() && !shape.words.iter().any(|word| word == text) {
            self.note(at, format!("{text:?} is none of {}", shape.words.join(", ")));
        }
        if let Some(pattern) = &shape.pattern {
            match self.patterns.get(pattern) {
                Some(regex) if regex.is_match(text) => {}
                Some(_) => self.note(at, format!("{text:?} does not fit the pattern {pattern}")),
                None => self.note(at, format!("the pattern {pattern} cannot be read")),
            }
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "no length of a test comes near 2^53")]
    fn length(&mut self, shape: &Shape, length: usize, at: &str) {
        if shape.min.is_some_and(|min| (length as f64) < min) {
            self.note(at, format!("is shorter ({length}) than {}", shape.min.unwrap_or_default()));
        }
        if shape.max.is_some_and(|max| (length as f64) > max) {
            self.note(at, format!("is longer ({length}) than {}", shape.max.unwrap_or_default()));
        }
    }

    fn range(&mut self, shape: &Shape, number: Option<f64>, at: &str) {
        let Some(number) = number else { return };
        if shape.min.is_some_and(|min| number < min) || shape.max.is_some_and(|max| number > max) {
            self.note(at, format!("{number} is out of range"));
        }
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Reads the text of a header, of an XML element or of a form's field as the value that its shape is of.
pub(crate) fn scalar(shape: &Shape, format: &str, text: &str) -> Result<Value, String> {
    let wrong = || format!("a {} is wanted, this is {text:?}", shape.kind);
    match shape.kind.as_str() {
        "integer" | "long" => text.parse::<i64>().map(Value::from).map_err(|_| wrong()),
        "float" | "double" => text.parse::<f64>().map(Value::from).map_err(|_| wrong()),
        "boolean" => text.parse::<bool>().map(Value::from).map_err(|_| wrong()),
        "timestamp" if is_time(format, text) => Ok(Value::from(0)),
        "timestamp" => Err(format!("a time as {format} is wanted, this is {text:?}")),
        _ => Ok(Value::from(text)),
    }
}

/// Whether `text` has the form of a time: digits stand for digits, letters for letters.
fn is_time(format: &str, text: &str) -> bool {
    let fits = |form: &str| {
        form.len() == text.len()
            && form.bytes().zip(text.bytes()).all(|(form, b)| match form {
                b'0' => b.is_ascii_digit(),
                b'a' => b.is_ascii_alphabetic(),
                other => other == b,
            })
    };
    match format {
        "iso8601" => fits("0000-00-00T00:00:00Z") || fits("0000-00-00T00:00:00.000Z"),
        _ => fits("aaa, 00 aaa 0000 00:00:00 GMT"),
    }
}
