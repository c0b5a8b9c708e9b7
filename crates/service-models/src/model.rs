//! A service's model, as far as it is used.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Deserialize)]
pub(crate) struct Service {
    pub(crate) metadata: Metadata,
    pub(crate) operations: BTreeMap<String, Operation>,
    pub(crate) shapes: HashMap<String, Shape>,
}

impl Service {
    /// A shape by its name. One that is named and not there takes anything.
    pub(crate) fn shape(&self, name: &str) -> &Shape {
        static ANY: std::sync::LazyLock<Shape> = std::sync::LazyLock::new(Shape::default);
        self.shapes.get(name).unwrap_or(&ANY)
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Metadata {
    pub(crate) protocol: String,
    pub(crate) api_version: String,
    #[serde(default)]
    pub(crate) json_version: String,
    #[serde(default)]
    pub(crate) target_prefix: String,
    #[serde(default)]
    pub(crate) xml_namespace: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Operation {
    pub(crate) name: String,
    pub(crate) http: Http,
    pub(crate) input: Option<Ref>,
    pub(crate) output: Option<Ref>,
    #[serde(default)]
    pub(crate) errors: Vec<Ref>,
    #[serde(default)]
    pub(crate) deprecated: bool,
    pub(crate) http_checksum: Option<HttpChecksum>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Http {
    pub(crate) method: String,
    pub(crate) request_uri: String,
    pub(crate) response_code: Option<u16>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HttpChecksum {
    #[serde(default)]
    pub(crate) request_checksum_required: bool,
}

/// A request as its model reads it.
pub(crate) struct Request<'m> {
    pub(crate) operation: &'m Operation,
    pub(crate) input: Value,
    /// What could not be read as the model has it.
    pub(crate) problems: Vec<String>,
}

/// A shape by its name, and how it is written where it is used.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Ref {
    pub(crate) shape: String,
    pub(crate) location: Option<String>,
    pub(crate) location_name: Option<String>,
    pub(crate) result_wrapper: Option<String>,
    #[serde(default)]
    pub(crate) flattened: bool,
    #[serde(default)]
    pub(crate) xml_attribute: bool,
    pub(crate) timestamp_format: Option<String>,
}

impl Ref {
    /// What a member is called where it is written.
    pub(crate) fn name<'a>(&'a self, member: &'a str) -> &'a str {
        self.location_name.as_deref().unwrap_or(member)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Shape {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) members: BTreeMap<String, Ref>,
    #[serde(default)]
    pub(crate) required: Vec<String>,
    pub(crate) member: Option<Ref>,
    pub(crate) key: Option<Ref>,
    pub(crate) value: Option<Ref>,
    pub(crate) min: Option<f64>,
    pub(crate) max: Option<f64>,
    pub(crate) pattern: Option<String>,
    #[serde(rename = "enum", default)]
    pub(crate) words: Vec<String>,
    #[serde(default)]
    pub(crate) union: bool,
    pub(crate) payload: Option<String>,
    #[serde(default)]
    pub(crate) flattened: bool,
    pub(crate) location_name: Option<String>,
    #[serde(default)]
    pub(crate) fault: bool,
    pub(crate) error: Option<ErrorTrait>,
    pub(crate) timestamp_format: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ErrorTrait {
    pub(crate) code: Option<String>,
    pub(crate) http_status_code: Option<u16>,
}
