//! Terraform's values on the wire: msgpack with an extension for unknown values.
//!
//! Source: hashicorp/terraform, docs/plugin-protocol/object-wire-format.md.

use std::collections::BTreeMap;

use anyhow::{Context, bail};

use crate::protocol::tfplugin6::DynamicValue;

/// The members of an object or a map.
pub(crate) type Object = BTreeMap<String, Value>;

/// One value. On the wire, lists and sets look alike, as do objects and maps.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Unknown,
    Bool(bool),
    Number(f64),
    String(String),
    List(Vec<Value>),
    Object(Object),
}

impl Value {
    /// The text, if it is one.
    pub(crate) fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The members, if it is an object or a map.
    pub(crate) fn as_object(&self) -> Option<&Object> {
        match self {
            Self::Object(object) => Some(object),
            _ => None,
        }
    }

    /// The elements of a list or a set; empty for other values.
    pub(crate) fn elements(&self) -> &[Self] {
        match self {
            Self::List(list) => list,
            _ => &[],
        }
    }

    /// Whether the value is not set: null, or the empty list of a missing block.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Null => true,
            Self::List(list) => list.is_empty(),
            _ => false,
        }
    }

    /// The same value with null instead of unknown values.
    pub(crate) fn known(self) -> Self {
        match self {
            Self::Unknown => Self::Null,
            Self::List(list) => Self::List(list.into_iter().map(Self::known).collect()),
            Self::Object(object) => Self::Object(object.into_iter().map(|(k, v)| (k, v.known())).collect()),
            other => other,
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

/// The text of a member, if it is set.
pub(crate) fn text<'a>(object: &'a Object, name: &str) -> Option<&'a str> {
    object.get(name).and_then(Value::as_str)
}

/// Whether a member is true.
pub(crate) fn flag(object: &Object, name: &str) -> bool {
    object.get(name) == Some(&Value::Bool(true))
}

/// The first element of a block that is a list.
pub(crate) fn block<'a>(object: &'a Object, name: &str) -> Option<&'a Object> {
    object.get(name)?.elements().first()?.as_object()
}

/// Decodes a value from terraform; a missing one is null.
pub(crate) fn decode(value: Option<DynamicValue>) -> anyhow::Result<Value> {
    let Some(value) = value else { return Ok(Value::Null) };
    if !value.msgpack.is_empty() {
        let raw =
            rmpv::decode::read_value(&mut value.msgpack.as_slice()).context("a value is not msgpack")?;
        from_msgpack(raw)
    } else if !value.json.is_empty() {
        Ok(from_json(serde_json::from_slice(&value.json).context("a value is not JSON")?))
    } else {
        Ok(Value::Null)
    }
}

/// Encodes a value for terraform.
pub(crate) fn encode(value: &Value) -> Option<DynamicValue> {
    let mut msgpack = Vec::new();
    // Writing to memory cannot fail.
    rmpv::encode::write_value(&mut msgpack, &to_msgpack(value)).ok()?;
    Some(DynamicValue { msgpack, json: Vec::new() })
}

/// Converts a value from a state file or an API's answer.
pub(crate) fn from_json(json: serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(value) => Value::Bool(value),
        serde_json::Value::Number(number) => number.as_f64().map_or(Value::Null, Value::Number),
        serde_json::Value::String(text) => Value::String(text),
        serde_json::Value::Array(list) => Value::List(list.into_iter().map(from_json).collect()),
        serde_json::Value::Object(map) => {
            Value::Object(map.into_iter().map(|(name, value)| (name, from_json(value))).collect())
        }
    }
}

fn from_msgpack(raw: rmpv::Value) -> anyhow::Result<Value> {
    Ok(match raw {
        rmpv::Value::Nil => Value::Null,
        // Type 0 is "unknown", 12 is "unknown" with refinements.
        rmpv::Value::Ext(0 | 12, _) => Value::Unknown,
        rmpv::Value::Boolean(value) => Value::Bool(value),
        rmpv::Value::Integer(number) => Value::Number(number.as_f64().context("a number is out of range")?),
        rmpv::Value::F32(number) => Value::Number(number.into()),
        rmpv::Value::F64(number) => Value::Number(number),
        rmpv::Value::String(text) => Value::String(text.into_str().context("a string is not UTF-8")?),
        rmpv::Value::Array(list) => {
            Value::List(list.into_iter().map(from_msgpack).collect::<anyhow::Result<_>>()?)
        }
        rmpv::Value::Map(members) => Value::Object(
            members
                .into_iter()
                .map(|(name, value)| {
                    let name = name.as_str().context("a member's name is not a string")?.to_owned();
                    Ok((name, from_msgpack(value)?))
                })
                .collect::<anyhow::Result<_>>()?,
        ),
        other => bail!("a value has a form that terraform does not use: {other}"),
    })
}

fn to_msgpack(value: &Value) -> rmpv::Value {
    match value {
        Value::Null => rmpv::Value::Nil,
        Value::Unknown => rmpv::Value::Ext(0, vec![0]),
        Value::Bool(value) => (*value).into(),
        Value::Number(number) => whole(*number).map_or_else(|| (*number).into(), Into::into),
        Value::String(text) => text.as_str().into(),
        Value::List(list) => rmpv::Value::Array(list.iter().map(to_msgpack).collect()),
        Value::Object(object) => {
            rmpv::Value::Map(object.iter().map(|(k, v)| (k.as_str().into(), to_msgpack(v))).collect())
        }
    }
}

/// The number as an integer, if f64 represents it exactly.
fn whole(number: f64) -> Option<i64> {
    (number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0).then_some(number as i64)
}

/// Whether two JSON documents have the same content.
pub(crate) fn same_document(left: &str, right: &str) -> bool {
    let parse = serde_json::from_str::<serde_json::Value>;
    match (parse(left), parse(right)) {
        (Ok(left), Ok(right)) => left == right,
        _ => left == right,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_as_encoded() {
        let value = Value::Object(BTreeMap::from([
            ("id".to_owned(), Value::Unknown),
            ("tags".to_owned(), Value::Object(BTreeMap::from([("a".to_owned(), "b".into())]))),
            ("days".to_owned(), Value::Number(7.0)),
            ("ratio".to_owned(), Value::Number(0.5)),
            ("filters".to_owned(), Value::List(vec![Value::Null, true.into()])),
        ]));
        assert_eq!(decode(encode(&value)).unwrap(), value);
    }

    #[test]
    fn an_unknown_value_has_terraforms_encoding() {
        assert_eq!(encode(&Value::Unknown).unwrap().msgpack, [0xd4, 0x00, 0x00]);
        // A refined unknown, as terraform sends it for a string that is not null.
        let refined = DynamicValue { msgpack: vec![0xc7, 0x03, 0x0c, 0x81, 0x01, 0xc2], json: Vec::new() };
        assert_eq!(decode(Some(refined)).unwrap(), Value::Unknown);
    }

    #[test]
    fn whole_numbers_are_encoded_as_integers() {
        assert_eq!(encode(&Value::Number(7.0)).unwrap().msgpack, [0x07]);
    }

    #[test]
    fn an_invalid_value_is_refused() {
        // A string of five bytes that is truncated after one.
        let broken = DynamicValue { msgpack: vec![0xa5, 0x61], json: Vec::new() };
        assert!(decode(Some(broken)).is_err());
    }
}
