//! JSON with positions: serde_json keeps neither the order of keys nor duplicate keys, and both are needed here.

use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::problem::Sink;

/// A key with its value.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) key: String,
    pub(super) value: Node,
    pub(super) span: Range<usize>,
    /// Whether the key is a duplicate.
    pub(super) twice: bool,
}

/// A value.
#[derive(Debug)]
pub(super) enum Node {
    Object(Vec<Member>),
    Array(Vec<(Node, Range<usize>)>),
    Other(Value),
}

/// Reads an object. Reports anything else as a problem.
pub(super) fn parse(text: &str, sink: &Sink<'_>) -> Option<Vec<Member>> {
    let mut node = match serde_json::from_str::<Node>(text) {
        Ok(node) => node,
        Err(why) => {
            let line =
                text.split_inclusive('\n').take(why.line().saturating_sub(1)).map(str::len).sum::<usize>();
            let at = line + why.column().saturating_sub(1);
            let message = why.to_string();
            // serde_json's position is removed: the message starts with ours.
            let message = message.split(" at line ").next().unwrap_or_default();
            sink.report(&(at..at), "", format!("not JSON: {message}"), None);
            return None;
        }
    };
    place(&mut node, text, &mut 0);
    match node {
        Node::Object(members) => Some(members),
        Node::Array(_) | Node::Other(_) => {
            sink.report(&(0..0), "", "must be an object", None);
            None
        }
    }
}

/// Finds the positions of keys and strings, each after the previous one.
fn place(node: &mut Node, text: &str, cursor: &mut usize) {
    let find = |word: &str, cursor: &mut usize| -> Range<usize> {
        let quoted = serde_json::to_string(word).unwrap_or_default();
        match text.get(*cursor..).and_then(|rest| rest.find(&quoted)) {
            Some(at) => {
                let start = *cursor + at;
                *cursor = start + quoted.len();
                start..*cursor
            }
            // Written with other escapes: use the position before it.
            None => *cursor..*cursor,
        }
    };
    match node {
        Node::Object(members) => {
            for member in members {
                member.span = find(&member.key, cursor);
                place(&mut member.value, text, cursor);
            }
        }
        Node::Array(elements) => {
            for (element, span) in elements {
                let before = *cursor;
                place(element, text, cursor);
                *span = match element {
                    Node::Other(Value::String(word)) => cursor.saturating_sub(word.len() + 2)..*cursor,
                    _ => before..*cursor,
                };
            }
        }
        Node::Other(Value::String(word)) => {
            find(word, cursor);
        }
        Node::Other(_) => {}
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Node;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
                let mut members: Vec<Member> = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, Node>()? {
                    let twice = members.iter().any(|member| member.key == key);
                    members.push(Member { key, value, span: 0..0, twice });
                }
                Ok(Node::Object(members))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
                let mut elements = Vec::new();
                while let Some(element) = list.next_element()? {
                    elements.push((element, 0..0));
                }
                Ok(Node::Array(elements))
            }

            fn visit_str<E>(self, text: &str) -> Result<Node, E> {
                Ok(Node::Other(text.into()))
            }

            fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
                Ok(Node::Other(value.into()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
                Ok(Node::Other(value.into()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
                Ok(Node::Other(value.into()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
                Ok(Node::Other(value.into()))
            }

            fn visit_unit<E>(self) -> Result<Node, E> {
                Ok(Node::Other(Value::Null))
            }
        }

        deserializer.deserialize_any(Any)
    }
}
