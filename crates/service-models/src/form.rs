//! Forms of the query services by their shape: `Tags.member.1.Key=a`.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::model::{Ref, Service};
use crate::value::scalar;

/// A form's fields, and those of them that were read.
pub(crate) struct Form<'a> {
    pub(crate) fields: &'a [(String, String)],
    pub(crate) read: BTreeSet<String>,
    pub(crate) problems: Vec<String>,
}

impl<'a> Form<'a> {
    pub(crate) fn new(fields: &'a [(String, String)]) -> Self {
        Self { fields, read: BTreeSet::new(), problems: Vec::new() }
    }

    fn has(&self, prefix: &str) -> bool {
        self.fields.iter().any(|(name, _)| {
            name.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    }

    /// The fields below `prefix`, as the value that the shape is of; none where there are none.
    pub(crate) fn value(&mut self, service: &Service, of: &Ref, prefix: &str) -> Option<Value> {
        let shape = service.shape(&of.shape);
        let below = |name: &str| if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") };
        match shape.kind.as_str() {
            "structure" => {
                let mut members = Map::new();
                for (name, member) in &shape.members {
                    let value = self.value(service, member, &below(member.name(name)));
                    members.extend(value.map(|value| (name.clone(), value)));
                }
                (prefix.is_empty() || self.has(prefix)).then_some(Value::Object(members))
            }
            "list" => {
                let item = shape.member.as_ref()?;
                let flat = of.flattened || shape.flattened;
                let place = |at: usize| {
                    if flat {
                        below(&at.to_string())
                    } else {
                        below(&format!("{}.{at}", item.name("member")))
                    }
                };
                let mut items = Vec::new();
                while self.has(&place(items.len() + 1)) {
                    let value = self.value(service, item, &place(items.len() + 1));
                    items.push(value.unwrap_or_default());
                }
                (!items.is_empty()).then_some(Value::Array(items))
            }
            _ => {
                let (_, text) = self.fields.iter().find(|(name, _)| name == prefix)?;
                self.read.insert(prefix.to_owned());
                match scalar(shape, "iso8601", text) {
                    Ok(value) => Some(value),
                    Err(problem) => {
                        self.problems.push(format!("{prefix}: {problem}"));
                        None
                    }
                }
            }
        }
    }
}
