//! What is asked.

use serde_json::{Map, Value};

use crate::Exchange;
use crate::form::Form;
use crate::model::{Operation, Ref, Request, Service};
use crate::rest;
use crate::value::{Checker, Patterns};

/// The service, by the name of its model's directory.
pub(crate) fn service(exchange: &Exchange) -> Option<String> {
    if let Some(target) = exchange.header("x-amz-target") {
        let (prefix, _) = target.rsplit_once('.')?;
        return match prefix {
            "AmazonEC2ContainerRegistry_V20150921" => Some("ecr".to_owned()),
            "SpencerFrontendService" => Some("ecr-public".to_owned()),
            "TrentService" => Some("kms".to_owned()),
            // Whether that is its prefix, its model says.
            _ => signed_for(exchange),
        };
    }
    let form = exchange.method == "POST" && exchange.path() == "/";
    let scope = signed_for(exchange);
    match scope.as_deref() {
        Some(name @ ("sts" | "cloudformation" | "iam")) if form => Some(name.to_owned()),
        // What is asked without a signature: a role by a token.
        None if form => Some("sts".to_owned()),
        _ => Some("s3".to_owned()),
    }
}

/// The service in the scope of a signature.
fn signed_for(exchange: &Exchange) -> Option<String> {
    let (_, scope) = exchange.header("authorization")?.split_once("Credential=")?;
    let scope = scope.split(',').next()?;
    scope.rsplit('/').nth(1).map(str::to_owned)
}

/// Reads a request; why it cannot be read at all otherwise.
pub(crate) fn decode<'m>(service: &'m Service, exchange: &Exchange) -> Result<Request<'m>, String> {
    match service.metadata.protocol.as_str() {
        "json" => json(service, exchange),
        "query" => query(service, exchange),
        _ => rest::request(service, exchange),
    }
}

fn find<'m>(service: &'m Service, name: &str) -> Result<&'m Operation, String> {
    service.operations.get(name).ok_or_else(|| format!("the model has no operation {name}"))
}

fn json<'m>(service: &'m Service, exchange: &Exchange) -> Result<Request<'m>, String> {
    let target = exchange.header("x-amz-target").unwrap_or_default();
    let (prefix, name) = target.rsplit_once('.').unwrap_or(("", target));
    let operation = find(service, name)?;
    let mut problems = Vec::new();
    let metadata = &service.metadata;
    if prefix != metadata.target_prefix {
        problems.push(format!("x-amz-target begins with {prefix}, not with {}", metadata.target_prefix));
    }
    let wanted = format!("application/x-amz-json-{}", metadata.json_version);
    if exchange.header("content-type") != Some(&wanted) {
        problems.push(format!("content-type is {:?}, not {wanted}", exchange.header("content-type")));
    }
    let text = exchange.body.as_deref().filter(|text| !text.is_empty()).unwrap_or("{}");
    let input = serde_json::from_str(text).map_err(|error| format!("the body is no JSON: {error}"))?;
    Ok(Request { operation, input, problems })
}

fn query<'m>(service: &'m Service, exchange: &Exchange) -> Result<Request<'m>, String> {
    let body = exchange.body.as_deref().unwrap_or_default();
    let mut fields: Vec<(String, String)> =
        url::form_urlencoded::parse(body.as_bytes()).into_owned().collect();
    fields.extend(exchange.query());
    let field =
        |wanted: &str| fields.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
    let operation = find(service, field("Action").unwrap_or_default())?;
    let mut form = Form::new(&fields);
    let input = operation.input.as_ref().and_then(|input| form.value(service, input, ""));
    let mut problems = form.problems;
    let version = &service.metadata.api_version;
    if field("Version") != Some(version) {
        problems.push(format!("Version is {:?}, not {version}", field("Version")));
    }
    let unknown = fields.iter().map(|(name, _)| name);
    let unknown =
        unknown.filter(|name| !["Action", "Version"].contains(&name.as_str()) && !form.read.contains(*name));
    problems.extend(unknown.map(|name| format!("the model has no field {name}")));
    Ok(Request { operation, input: input.unwrap_or_else(|| Value::Object(Map::new())), problems })
}

/// What is wrong with a request.
pub(crate) fn check(
    service: &Service,
    patterns: &Patterns,
    exchange: &Exchange,
    request: &Request<'_>,
) -> Vec<String> {
    let mut checker = Checker::new(service, patterns);
    checker.problems.clone_from(&request.problems);
    let mut input = request.input.clone();
    match &request.operation.input {
        Some(of) => {
            without_content(service, of, &mut input);
            checker.value(&of.shape, &input, "");
        }
        None if input.as_object().is_some_and(|members| !members.is_empty()) => {
            checker.note("", "the operation has no input");
        }
        None => {}
    }
    let needs_checksum =
        request.operation.http_checksum.as_ref().is_some_and(|needed| needed.request_checksum_required);
    let sum = |name: &str| name == "content-md5" || name.starts_with("x-amz-checksum-");
    let trailer = exchange.header("x-amz-trailer").is_some_and(sum);
    if needs_checksum && !trailer && !exchange.headers.iter().any(|(name, _)| sum(name)) {
        checker.note("", "a checksum is required");
    }
    checker.problems
}

/// An object's own bytes are of no form.
fn without_content(service: &Service, of: &Ref, input: &mut Value) {
    let payload = service.shape(&of.shape).payload.as_ref();
    let blob = payload.filter(|name| {
        let member = service.shape(&of.shape).members.get(*name);
        member.is_some_and(|member| service.shape(&member.shape).kind == "blob")
    });
    if let (Some(name), Some(members)) = (blob, input.as_object_mut()) {
        members.remove(name);
    }
}
