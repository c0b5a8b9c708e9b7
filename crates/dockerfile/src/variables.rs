//! The variables of a Dockerfile: those of `ARG` and `ENV`, and BuildKit's own.

use std::collections::BTreeMap;

use registry::Platform;

use super::expand::{NoValue, Value, expand};
use super::lines::{self, Fault, Instruction, excerpt};
use super::{Dockerfile, Given};

/// BuildKit's variables for the build machine: not part of a key.
pub(super) const OF_THE_BUILDER: [&str; 5] =
    ["BUILDPLATFORM", "BUILDOS", "BUILDOSVERSION", "BUILDARCH", "BUILDVARIANT"];

/// Variables that a stage's instructions see.
pub(super) struct Scope<'a> {
    pub(super) arguments: BTreeMap<String, Value>,
    pub(super) env: BTreeMap<String, Value>,
    /// The value that `ARG NAME` without a default inherits.
    global: &'a dyn Fn(&str) -> Value,
    given: &'a BTreeMap<String, String>,
}

impl<'a> Scope<'a> {
    /// The scope before the first instruction.
    pub(super) fn new(given: &'a BTreeMap<String, String>, global: &'a dyn Fn(&str) -> Value) -> Self {
        Self { arguments: BTreeMap::new(), env: BTreeMap::new(), global, given }
    }

    pub(super) fn lookup(&self, name: &str) -> Value {
        let known = self.env.get(name).or_else(|| self.arguments.get(name));
        // A variable that is not set here may be one of the base.
        known.cloned().unwrap_or(Value::Unknown)
    }

    /// `ARG NAME[=default] ...`
    pub(super) fn declare(&mut self, found: &Instruction, file: &Dockerfile) -> Result<(), Fault> {
        let line = found.line;
        let all = pairs(found)?;
        for (name, default) in all.clone() {
            let lookup = |other: &str| match is_sibling(other, &name, &all) {
                true => Value::Unknown,
                false => self.lookup(other),
            };
            let value = match (self.given.get(&name), default) {
                (Some(value), _) => Value::Known(value.clone()),
                (None, Some(default)) => value(&default, file, &lookup, line)?,
                (None, None) => match (self.global)(&name) {
                    // No value is given, so the base's variable of that name may be used.
                    Value::Unset => Value::Unknown,
                    other => other,
                },
            };
            self.arguments.insert(name, value);
        }
        Ok(())
    }

    /// `ENV NAME=value ...`
    pub(super) fn set(&mut self, found: &Instruction, file: &Dockerfile) -> Result<(), Fault> {
        let line = found.line;
        // All values of one instruction use the variables from before it.
        let set = |(name, text): (String, Option<String>)| {
            let value = value(&text.unwrap_or_default(), file, &|name| self.lookup(name), line)?;
            Ok((name, value))
        };
        let set = pairs(found)?.into_iter().map(set).collect::<Result<Vec<_>, Fault>>()?;
        self.env.extend(set);
        Ok(())
    }
}

/// An argument overrides one of BuildKit's own variables.
pub(super) fn given_or(name: &str, given: &Given<'_>, value: Value) -> Value {
    given.args.get(name).map_or(value, |given| Value::Known(given.clone()))
}

/// Whether a variable is set by the same instruction: builders disagree on which of its values is used there.
pub(super) fn is_sibling(name: &str, own: &str, all: &[(String, Option<String>)]) -> bool {
    name != own && all.iter().any(|(other, _)| other == name)
}

/// BuildKit's variables for the target platform.
pub(super) fn of_the_target(name: &str, platform: &Platform, given: &Given<'_>) -> Option<String> {
    Some(match name {
        "TARGETPLATFORM" => platform.to_string(),
        "TARGETOS" => platform.os.clone(),
        "TARGETARCH" => platform.architecture.clone(),
        "TARGETVARIANT" => platform.variant.clone().unwrap_or_default(),
        "TARGETSTAGE" => given.target.unwrap_or("default").to_owned(),
        "TARGETOSVERSION" => String::new(),
        _ => return None,
    })
}

/// The value of a word. It may be unknown, which matters only if it is used.
pub(super) fn value(
    word: &str,
    file: &Dockerfile,
    lookup: &dyn Fn(&str) -> Value,
    line: usize,
) -> Result<Value, Fault> {
    match expand(word, file.escape, lookup) {
        Ok(value) => Ok(Value::Known(value)),
        Err(NoValue::Variable(_)) => Ok(Value::Unknown),
        // A form that newer builders support: a value that is not used may have it.
        Err(NoValue::Form(_)) if !word.contains(['\'', '"']) => Ok(Value::Unknown),
        Err(stuck) => Err(explain(&stuck, line)),
    }
}

/// The names and values of `ARG` and `ENV`: `NAME`, `NAME=value ...`, and the old `ENV NAME value`.
pub(super) fn pairs(found: &Instruction) -> Result<Vec<(String, Option<String>)>, Fault> {
    let Some(words) = lines::words(&found.rest) else {
        return Err(Fault::new(found.line, "a quote has no end"));
    };
    if found.keyword == "ENV" && words.first().is_some_and(|word| !word.contains('=')) {
        let (name, text) = found.rest.split_once(char::is_whitespace).unwrap_or((&found.rest, ""));
        return Ok(vec![(name.to_owned(), Some(text.trim().to_owned()))]);
    }
    let pair = |word: String| match word.split_once('=') {
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
        None => (word, None),
    };
    Ok(words.into_iter().map(pair).collect())
}

pub(super) fn explain(stuck: &NoValue, line: usize) -> Fault {
    match stuck {
        NoValue::Variable(name) if OF_THE_BUILDER.contains(&name.as_str()) => Fault::new(
            line,
            format!("{name} differs between build machines and is not part of the build key"),
        ),
        NoValue::Variable(name) => Fault::new(
            line,
            format!("the value of {name} is not known before the build: declare it with ARG"),
        ),
        NoValue::Form(word) => Fault::new(line, format!("`{}` is not understood", excerpt(word))),
    }
}
