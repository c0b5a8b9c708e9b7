//! Checks the documents of `--format json` with their published schemas.
//!
//! Every run of a test with JSON output is checked when it ends, failures as well. The validator here supports only the keywords of JSON
//! Schema that those schemas use, and rejects all others: a crate for the whole standard would take too long to compile.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::OnceLock;

use serde_json::{Map, Value};

use crate::{Ended, root};

/// The schema of the common fields, and of a document without a command.
const COMMON: &str = "document";

/// Keywords without an effect on validation.
const ANNOTATIONS: [&str; 5] = ["$schema", "$id", "$defs", "title", "description"];

/// The directory of the schemas.
pub fn directory() -> PathBuf {
    root().join("docs/schema")
}

/// Every schema by its file name without the extension.
fn published() -> &'static BTreeMap<String, Value> {
    static PUBLISHED: OnceLock<BTreeMap<String, Value>> = OnceLock::new();
    PUBLISHED.get_or_init(|| {
        let files = directory().read_dir().unwrap().map(|entry| entry.unwrap().path());
        let json = files.filter(|path| path.extension().is_some_and(|end| end == "json"));
        let read = |path: PathBuf| {
            let schema = serde_json::from_slice(&std::fs::read(&path).unwrap());
            (
                path.file_stem().unwrap().to_string_lossy().into_owned(),
                schema.unwrap_or_else(|error| panic!("{path:?}: {error}")),
            )
        };
        json.map(read).collect()
    })
}

/// The names of the documents' schemas: the commands, with `-` for spaces, and the common one.
pub fn names() -> Vec<String> {
    // The schemas of configuration files are not for documents.
    published().keys().filter(|name| !name.ends_with(".toml")).cloned().collect()
}

/// Validates `document` with the schema of its command.
///
/// # Errors
/// There is no schema, or the document is not valid.
pub fn validate(document: &Value) -> Result<(), String> {
    let command = document["command"].as_str();
    let name = command.map_or_else(|| COMMON.to_owned(), |command| command.replace(' ', "-"));
    let is_group = || published().keys().any(|known| known.starts_with(&format!("{name}-")));
    if published().contains_key(&name) {
        return validate_by(&name, document);
    }
    // A wrong command line may lack the subcommand.
    if is_group() { validate_by(COMMON, document) } else { Err(format!("docs/schema has no {name}.json")) }
}

/// Validates `value` with the schema of this name.
///
/// # Errors
/// The value is not valid.
pub fn validate_by(name: &str, value: &Value) -> Result<(), String> {
    let mut wrong = Vec::new();
    Place { file: name.to_owned(), at: String::new() }.check(&published()[name], value, &mut wrong);
    if wrong.is_empty() { Ok(()) } else { Err(format!("by {name}.json:\n  {}", wrong.join("\n  "))) }
}

/// A position in a document, and the schema's file.
struct Place {
    file: String,
    at: String,
}

impl Place {
    /// The schema of a reference, and its file.
    fn resolve(&self, reference: &str) -> (String, &'static Value) {
        let (file, pointer) = reference.split_once('#').unwrap_or((reference, ""));
        let file =
            if file.is_empty() { self.file.clone() } else { file.trim_end_matches(".json").to_owned() };
        let whole = published().get(&file).unwrap_or_else(|| panic!("{}: no {reference}", self.file));
        let found = whole.pointer(pointer).unwrap_or_else(|| panic!("{}: no {reference}", self.file));
        (file, found)
    }

    fn below(&self, name: &str) -> Self {
        Self { file: self.file.clone(), at: format!("{}/{name}", self.at) }
    }

    fn is_as(&self, schema: &Value, value: &Value) -> bool {
        let mut wrong = Vec::new();
        self.check(schema, value, &mut wrong);
        wrong.is_empty()
    }

    fn check(&self, schema: &Value, value: &Value, wrong: &mut Vec<String>) {
        let Value::Object(keywords) = schema else { panic!("{}: {schema} is no schema", self.file) };
        for (keyword, wanted) in keywords {
            if !self.keyword(keywords, keyword, wanted, value, wrong) {
                wrong.push(format!("{}: not as its {keyword} says, {wanted}: {value}", self.at));
            }
        }
    }

    /// Checks `value` with one keyword; errors below it are added separately.
    fn keyword(
        &self,
        schema: &Map<String, Value>,
        keyword: &str,
        wanted: &Value,
        value: &Value,
        wrong: &mut Vec<String>,
    ) -> bool {
        match keyword {
            known if ANNOTATIONS.contains(&known) => true,
            "$ref" => {
                let (file, schema) = self.resolve(wanted.as_str().unwrap());
                Self { file, at: self.at.clone() }.check(schema, value, wrong);
                true
            }
            "type" => list(wanted).any(|kind| is_of(kind.as_str().unwrap(), value)),
            "const" => value == wanted,
            "enum" => list(wanted).any(|one| one == value),
            "minimum" => value.as_f64().is_none_or(|number| number >= wanted.as_f64().unwrap()),
            "minItems" => value.as_array().is_none_or(|all| all.len() as u64 >= wanted.as_u64().unwrap()),
            "pattern" => value.as_str().is_none_or(|text| {
                assert_eq!(wanted, "^sha256:[0-9a-f]{64}$", "{}: another pattern", self.file);
                let digits = text.strip_prefix("sha256:").unwrap_or_default();
                digits.len() == 64 && digits.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
            }),
            "required" => list(wanted).all(|name| value.get(name.as_str().unwrap()).is_some()),
            "properties" => {
                for (name, schema) in wanted.as_object().unwrap() {
                    if let Some(found) = value.get(name) {
                        self.below(name).check(schema, found, wrong);
                    }
                }
                true
            }
            "additionalProperties" => self.others(wanted, value, &own(schema), wrong),
            "unevaluatedProperties" => self.others(wanted, value, &self.evaluated(schema), wrong),
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    self.below(&index.to_string()).check(wanted, item, wrong);
                }
                true
            }
            "allOf" => {
                list(wanted).for_each(|schema| self.check(schema, value, wrong));
                true
            }
            "anyOf" => list(wanted).any(|schema| self.is_as(schema, value)),
            "if" => {
                if let (true, Some(then)) = (self.is_as(wanted, value), schema.get("then")) {
                    self.check(then, value, wrong);
                }
                true
            }
            "then" => true,
            other => panic!("{}: the keyword {other} is not known here", self.file),
        }
    }

    /// Checks the properties that are not `known`.
    fn others(
        &self,
        wanted: &Value,
        value: &Value,
        known: &BTreeSet<String>,
        wrong: &mut Vec<String>,
    ) -> bool {
        let mut others = value.as_object().into_iter().flatten().filter(|(name, _)| !known.contains(*name));
        if *wanted == Value::Bool(false) {
            return others.next().is_none_or(|(name, _)| {
                wrong.push(format!("{}/{name} is not in the schema", self.at));
                true
            });
        }
        others.for_each(|(name, value)| self.below(name).check(wanted, value, wrong));
        true
    }

    /// The properties that a schema or the schemas it refers to define.
    fn evaluated(&self, schema: &Map<String, Value>) -> BTreeSet<String> {
        let mut names = own(schema);
        for part in schema.get("allOf").into_iter().flat_map(list) {
            let (_, schema) = self.resolve(part["$ref"].as_str().unwrap());
            names.extend(own(schema.as_object().unwrap()));
        }
        names
    }
}

fn own(schema: &Map<String, Value>) -> BTreeSet<String> {
    let properties = schema.get("properties").and_then(Value::as_object);
    properties.into_iter().flat_map(|names| names.keys().cloned()).collect()
}

/// The values of a list, or a single value as a list.
fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice).iter()
}

fn is_of(kind: &str, value: &Value) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("{other} is no type"),
    }
}

/// Validates the document of a run, and compares its exit code and errors with the run's.
pub(crate) fn check(document: &Value, code: i32, ended: &Ended) {
    if let Err(wrong) = validate(document) {
        panic!("{wrong}\n{ended}");
    }
    assert_eq!(document["exit_code"], code, "{ended}");
    let first = &document["errors"][0];
    if !first.is_null() {
        assert_eq!(first["exit_code"], code, "{ended}");
        let message = first["message"].as_str().unwrap_or_default();
        assert!(ended.stderr.contains(message), "{message:?} was not said to people\n{ended}");
    } else {
        // Changes are not a failure.
        assert!(matches!(code, 0 | 11), "{ended}");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn deviations_from_the_schema_are_found() {
        let good = json!({
            "version": 1, "command": "prune", "exit_code": 0, "errors": [], "repositories": [], "rules": ["x"], "templates": [],
            "kept": [], "changed": null,
        });
        validate(&good).unwrap();
        let error = json!({ "kind": "usage", "exit_code": 2, "message": "m", "causes": [], "hints": [] });
        validate(&json!({ "version": 1, "command": null, "exit_code": 2, "errors": [error] })).unwrap();
        validate(&json!({ "version": 1, "command": "local", "exit_code": 2, "errors": [error] })).unwrap();
        let changed = |field: &str, value: Value| {
            let mut bad = good.clone();
            bad[field] = value;
            validate(&bad).unwrap_err()
        };
        for (field, value, said) in [
            ("rules", json!([1]), "/rules/0: not as its type says"),
            ("changed", json!("yes"), "/changed: not as its type says"),
            ("version", json!(2), "/version: not as its const says"),
            ("more", json!(1), "/more is not in the schema"),
            ("errors", json!([{ "kind": "other" }]), "/errors/0/kind: not as its enum says"),
            ("errors", json!([{ "kind": "usage" }]), "/errors/0: not as its required says"),
            ("exit_code", json!(-1), "/exit_code: not as its minimum says"),
        ] {
            let wrong = changed(field, value);
            assert!(wrong.contains(said), "{wrong}");
        }
        assert!(changed("command", json!("nothing")).contains("has no nothing.json"));
        let mut without = good.clone();
        without.as_object_mut().unwrap().remove("rules");
        assert!(validate(&without).unwrap_err().contains("required"));
        // After a failure it contains what was known.
        without["exit_code"] = json!(2);
        without["errors"] = json!([error]);
        validate(&without).unwrap();
    }
}
