//! XML by its shape.

use roxmltree::Node;
use serde_json::{Map, Value};

use crate::model::{Ref, Shape};
use crate::value::{Checker, scalar};

/// The elements below a node.
pub(crate) fn children<'a, 'i>(node: Node<'a, 'i>) -> impl Iterator<Item = Node<'a, 'i>> {
    node.children().filter(Node::is_element)
}

/// The element's own text.
pub(crate) fn text(node: Node<'_, '_>) -> String {
    node.children().filter(Node::is_text).filter_map(|part| part.text()).collect()
}

impl Checker<'_> {
    /// What an element says, as the value that its shape is of.
    pub(crate) fn element(&mut self, of: &Ref, node: Node<'_, '_>, at: &str) -> Value {
        let service = self.service;
        let shape = service.shape(&of.shape);
        match shape.kind.as_str() {
            "structure" => self.members(shape, node, at),
            "list" => {
                let member = shape.member.as_ref();
                let Some(member) = member else { return Value::Null };
                let name = member.name("member");
                let mut items = Vec::new();
                for item in children(node) {
                    if item.tag_name().name() == name {
                        items.push(self.element(member, item, &format!("{at}[]")));
                    } else {
                        self.note(
                            at,
                            format!("<{}> found where <{name}> is expected", item.tag_name().name()),
                        );
                    }
                }
                Value::Array(items)
            }
            _ => {
                if let Some(below) = children(node).next() {
                    self.note(at, format!("<{}> found where a text is expected", below.tag_name().name()));
                }
                let text = text(node);
                let format = of.timestamp_format.as_deref().or(shape.timestamp_format.as_deref());
                scalar(shape, format.unwrap_or("iso8601"), &text).unwrap_or_else(|problem| {
                    self.note(at, problem);
                    Value::Null
                })
            }
        }
    }

    /// The members of a structure that are elements.
    pub(crate) fn members(&mut self, shape: &Shape, node: Node<'_, '_>, at: &str) -> Value {
        let service = self.service;
        let flat = |member: &Ref| {
            let shape = service.shape(&member.shape);
            shape.kind == "list" && (member.flattened || shape.flattened)
        };
        let mut found = Map::new();
        for element in children(node) {
            let name = element.tag_name().name();
            let known = shape.members.iter().find(|(member, of)| {
                of.location.is_none() && !of.xml_attribute && element_name(service, of, member) == name
            });
            let Some((member, of)) = known else {
                self.note(at, format!("the model has no element <{name}>"));
                continue;
            };
            let below = format!("{at}/{member}");
            if flat(of) {
                let Some(item) = service.shape(&of.shape).member.as_ref() else { continue };
                let value = self.element(item, element, &format!("{below}[]"));
                let list = found.entry(member.clone()).or_insert_with(|| Value::Array(Vec::new()));
                if let Value::Array(items) = list {
                    items.push(value);
                }
            } else {
                let value = self.element(of, element, &below);
                if found.insert(member.clone(), value).is_some() {
                    self.note(&below, "appears twice");
                }
            }
        }
        // What is null here has been found wrong already.
        found.retain(|_, value| !value.is_null());
        Value::Object(found)
    }
}

/// What the elements of a member are called. Those of a flat list may have the name of its items.
fn element_name<'a>(service: &'a crate::model::Service, of: &'a Ref, member: &'a str) -> &'a str {
    let shape = service.shape(&of.shape);
    let item = shape.member.as_ref().and_then(|item| item.location_name.as_deref());
    let flat = shape.kind == "list" && (of.flattened || shape.flattened);
    item.filter(|_| flat).unwrap_or_else(|| of.name(member))
}
