//! The real provider's schema, from this crate's `schema/`.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::protocol::tfplugin6 as proto;
use crate::protocol::tfplugin6::schema::nested_block::NestingMode;
use crate::values::{Object, Value};

const JSON: &str = include_str!("../schema/aws-6.66.0.json");

/// All schemas of the provider.
#[derive(Debug, Deserialize)]
pub(crate) struct Schemas {
    pub(crate) provider_version: String,
    pub(crate) provider: Schema,
    pub(crate) resource_schemas: BTreeMap<String, Schema>,
    pub(crate) data_source_schemas: BTreeMap<String, Schema>,
}

/// One type's schema.
#[derive(Debug, Deserialize)]
pub(crate) struct Schema {
    pub(crate) version: i64,
    pub(crate) block: Block,
}

/// Attributes and nested blocks.
#[derive(Debug, Deserialize)]
pub(crate) struct Block {
    #[serde(default)]
    pub(crate) attributes: BTreeMap<String, Attribute>,
    #[serde(default)]
    pub(crate) block_types: BTreeMap<String, Nested>,
}

/// One attribute. Its type is passed to terraform unchanged.
#[derive(Debug, Deserialize)]
pub(crate) struct Attribute {
    r#type: serde_json::Value,
    #[serde(default)]
    required: bool,
    #[serde(default)]
    optional: bool,
    #[serde(default)]
    pub(crate) computed: bool,
}

/// A nested block.
#[derive(Debug, Deserialize)]
pub(crate) struct Nested {
    nesting_mode: Nesting,
    #[serde(default)]
    min_items: i64,
    #[serde(default)]
    max_items: i64,
    pub(crate) block: Block,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Nesting {
    Single,
    List,
    Set,
}

impl Schemas {
    /// Parses the built-in schema.
    pub(crate) fn load() -> anyhow::Result<Self> {
        Ok(serde_json::from_str(JSON)?)
    }
}

impl Schema {
    /// In the protocol's format.
    pub(crate) fn to_proto(&self) -> proto::Schema {
        proto::Schema { version: self.version, block: Some(self.block.to_proto()) }
    }
}

impl Block {
    fn to_proto(&self) -> proto::schema::Block {
        let attributes = self.attributes.iter().map(|(name, attribute)| proto::schema::Attribute {
            name: name.clone(),
            r#type: attribute.r#type.to_string().into_bytes(),
            required: attribute.required,
            optional: attribute.optional,
            computed: attribute.computed,
            sensitive: false,
        });
        let block_types = self.block_types.iter().map(|(name, nested)| proto::schema::NestedBlock {
            type_name: name.clone(),
            block: Some(nested.block.to_proto()),
            nesting: match nested.nesting_mode {
                Nesting::Single => NestingMode::Single,
                Nesting::List => NestingMode::List,
                Nesting::Set => NestingMode::Set,
            }
            .into(),
            min_items: nested.min_items,
            max_items: nested.max_items,
        });
        proto::schema::Block {
            version: 0,
            attributes: attributes.collect(),
            block_types: block_types.collect(),
        }
    }

    /// `object` with exactly the members of this block: missing ones are null or an empty block, those unknown to the schema (attributes of
    /// an older provider) are left out.
    pub(crate) fn conform(&self, mut object: Object) -> Object {
        let attributes = self.attributes.keys().map(|name| (name.clone(), Value::Null));
        let mut whole: Object = attributes.collect();
        for (name, slot) in &mut whole {
            if let Some(value) = object.remove(name) {
                *slot = value;
            }
        }
        for (name, nested) in &self.block_types {
            let value = match (nested.nesting_mode, object.remove(name)) {
                (Nesting::Single, Some(Value::Object(inner))) => Value::Object(nested.block.conform(inner)),
                (Nesting::Single, _) => Value::Null,
                (_, Some(Value::List(list))) => Value::List(
                    list.into_iter()
                        .map(|element| match element {
                            Value::Object(inner) => Value::Object(nested.block.conform(inner)),
                            other => other,
                        })
                        .collect(),
                ),
                (_, _) => Value::List(Vec::new()),
            };
            whole.insert(name.clone(), value);
        }
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_that_of_the_declared_version() {
        let schemas = Schemas::load().unwrap();
        assert_eq!(format!("{}+standin", schemas.provider_version), crate::VERSION);
    }

    #[test]
    fn a_state_of_another_provider_version_is_upgraded() {
        let schemas = Schemas::load().unwrap();
        let old = Object::from([
            ("name".to_owned(), Value::from("curl")),
            ("gone_since_5_x".to_owned(), Value::from("x")),
            (
                "image_scanning_configuration".to_owned(),
                Value::List(vec![Value::Object(Object::from([("scan_on_push".to_owned(), true.into())]))]),
            ),
        ]);
        let new = schemas.resource_schemas["aws_ecr_repository"].block.conform(old);
        assert_eq!(new["name"], Value::from("curl"));
        assert_eq!(new["region"], Value::Null);
        assert_eq!(new["encryption_configuration"], Value::List(Vec::new()));
        assert_eq!(new["image_scanning_configuration"].elements().len(), 1);
        assert_eq!(new["timeouts"], Value::Null);
        assert!(!new.contains_key("gone_since_5_x"));
    }
}
