//! What is answered.

use serde_json::Value;

use crate::Exchange;
use crate::common::{self, Known};
use crate::model::{Operation, Service};
use crate::rest;
use crate::value::{Checker, Patterns};
use crate::xml::{children, text};

/// What is wrong with an answer.
pub(crate) fn check(
    service: &Service,
    patterns: &Patterns,
    exchange: &Exchange,
    operation: &Operation,
) -> Vec<String> {
    let mut checker = Checker::new(service, patterns);
    checker.answered = true;
    let done = (200..300).contains(&exchange.status);
    match service.metadata.protocol.as_str() {
        "json" if done => json(&mut checker, exchange, operation),
        "json" => json_refusal(&mut checker, exchange, operation),
        "query" if done => query(&mut checker, exchange, operation),
        "query" => query_refusal(&mut checker, exchange, operation),
        _ if done => rest::answer(&mut checker, exchange, operation),
        _ => s3_refusal(&mut checker, exchange, operation),
    }
    checker.problems
}

fn body(exchange: &Exchange) -> &str {
    exchange.answer_body.as_deref().unwrap_or_default()
}

fn json_document(checker: &mut Checker<'_>, exchange: &Exchange) -> Option<Value> {
    let wanted = format!("application/x-amz-json-{}", checker.service.metadata.json_version);
    if exchange.answer_header("content-type") != Some(&wanted) {
        checker
            .note("", format!("content-type is {:?}, not {wanted}", exchange.answer_header("content-type")));
    }
    if exchange.answer_header("x-amzn-requestid").is_none() {
        checker.note("", "there is no x-amzn-requestid");
    }
    match serde_json::from_str(body(exchange)) {
        Ok(document) => Some(document),
        Err(error) => {
            checker.note("", format!("the body is no JSON: {error}"));
            None
        }
    }
}

fn json(checker: &mut Checker<'_>, exchange: &Exchange, operation: &Operation) {
    if exchange.status != 200 {
        checker.note("", format!("the status is {}, not 200", exchange.status));
    }
    match &operation.output {
        Some(output) => {
            if let Some(document) = json_document(checker, exchange) {
                checker.value(&output.shape, &document, "");
            }
        }
        // Some services send nothing, some `{}`.
        None if ["", "{}"].contains(&body(exchange)) => {}
        None => checker.note("", "the operation has no output"),
    }
}

/// The error of this code, if the operation, or any, may end with it; says so where it may not, or has another status.
fn known(checker: &mut Checker<'_>, exchange: &Exchange, operation: &Operation, code: &str) -> Option<Known> {
    let known = common::error(checker.service, operation, code);
    match &known {
        Some(known) if known.statuses.contains(&exchange.status) => {}
        Some(known) => {
            checker.note("", format!("{code} comes with {:?}, not with {}", known.statuses, exchange.status));
        }
        None => checker.note("", format!("the operation does not end with {code} ({})", exchange.status)),
    }
    known
}

fn json_refusal(checker: &mut Checker<'_>, exchange: &Exchange, operation: &Operation) {
    let Some(Value::Object(mut document)) = json_document(checker, exchange) else { return };
    let code = document.remove("__type");
    let Some(code) = code.as_ref().and_then(Value::as_str) else {
        checker.note("", "a refusal has no __type");
        return;
    };
    let code = code.rsplit('#').next().unwrap_or(code);
    match known(checker, exchange, operation, code) {
        None => {}
        Some(Known { shape: Some(shape), .. }) => checker.value(&shape, &Value::Object(document), code),
        // The services do not agree on the case.
        Some(Known { shape: None, .. }) => {
            let message = document.iter().next().filter(|(name, _)| name.eq_ignore_ascii_case("message"));
            if document.len() != 1 || !message.is_some_and(|(_, value)| value.is_string()) {
                checker.note(code, "has other members than a message");
            }
        }
    }
}

fn query(checker: &mut Checker<'_>, exchange: &Exchange, operation: &Operation) {
    if exchange.status != 200 {
        checker.note("", format!("the status is {}, not 200", exchange.status));
    }
    let Ok(parsed) = roxmltree::Document::parse(body(exchange)) else {
        checker.note("", "the body is no XML");
        return;
    };
    let root = parsed.root_element();
    let service = checker.service;
    let wanted = format!("{}Response", operation.name);
    namespace(checker, root, &wanted);
    let wrapper = operation.output.as_ref().and_then(|output| output.result_wrapper.as_deref());
    let metadata = children(root).find(|child| child.tag_name().name() == "ResponseMetadata");
    let id =
        metadata.and_then(|metadata| children(metadata).find(|child| child.has_tag_name_of("RequestId")));
    if id.is_none() {
        checker.note("", "there is no ResponseMetadata with a RequestId");
    }
    for child in children(root).map(|child| child.tag_name().name()) {
        if child != "ResponseMetadata" && Some(child) != wrapper {
            checker.note("", format!("<{child}> does not belong below <{wanted}>"));
        }
    }
    if let (Some(output), Some(wrapper)) = (&operation.output, wrapper) {
        match children(root).find(|child| child.has_tag_name_of(wrapper)) {
            Some(result) => {
                let shape = service.shape(&output.shape);
                let value = checker.members(shape, result, "");
                checker.value(&output.shape, &value, "");
            }
            None => checker.note("", format!("there is no <{wrapper}>")),
        }
    }
}

fn namespace(checker: &mut Checker<'_>, root: roxmltree::Node<'_, '_>, wanted: &str) {
    let name = root.tag_name();
    let space = checker.service.metadata.xml_namespace.clone();
    if name.name() != wanted {
        checker.note("", format!("the root is <{}>, not <{wanted}>", name.name()));
    }
    if name.namespace() != Some(&space) {
        checker.note("", format!("the namespace is {:?}, not {space}", name.namespace()));
    }
}

fn query_refusal(checker: &mut Checker<'_>, exchange: &Exchange, operation: &Operation) {
    let Ok(parsed) = roxmltree::Document::parse(body(exchange)) else {
        checker.note("", "the body is no XML");
        return;
    };
    let root = parsed.root_element();
    namespace(checker, root, "ErrorResponse");
    if !children(root).any(|child| child.has_tag_name_of("RequestId")) {
        checker.note("", "there is no RequestId");
    }
    let Some(error) = children(root).find(|child| child.has_tag_name_of("Error")) else {
        checker.note("", "there is no <Error>");
        return;
    };
    let field = |name: &str| children(error).find(|child| child.has_tag_name_of(name)).map(text);
    let sender = field("Type");
    let wanted = if exchange.status < 500 { "Sender" } else { "Receiver" };
    if sender.as_deref() != Some(wanted) {
        checker.note("", format!("Type is {sender:?}, not {wanted}"));
    }
    if field("Message").is_none() {
        checker.note("", "there is no Message");
    }
    known(checker, exchange, operation, &field("Code").unwrap_or_default());
}

fn s3_refusal(checker: &mut Checker<'_>, exchange: &Exchange, operation: &Operation) {
    let reads = ["GetObject", "HeadObject"].contains(&operation.name.as_str());
    if exchange.status == 304 && reads {
        return;
    }
    let service = checker.service;
    if exchange.method == "HEAD" {
        if !common::has_status(service, exchange.status) {
            checker.note("", format!("no error has the status {}", exchange.status));
        }
        return;
    }
    let Ok(parsed) = roxmltree::Document::parse(body(exchange)) else {
        checker.note("", "the body is no XML");
        return;
    };
    let root = parsed.root_element();
    if root.tag_name().name() != "Error" || root.tag_name().namespace().is_some() {
        checker.note("", format!("the root is <{}>, not a plain <Error>", root.tag_name().name()));
    }
    for name in ["Message", "RequestId"] {
        if !children(root).any(|child| child.has_tag_name_of(name)) {
            checker.note("", format!("there is no {name}"));
        }
    }
    let code = children(root).find(|child| child.has_tag_name_of("Code")).map(text);
    known(checker, exchange, operation, &code.unwrap_or_default());
}

/// An element's name whatever its namespace is.
trait Named {
    fn has_tag_name_of(&self, name: &str) -> bool;
}

impl Named for roxmltree::Node<'_, '_> {
    fn has_tag_name_of(&self, name: &str) -> bool {
        self.tag_name().name() == name
    }
}
