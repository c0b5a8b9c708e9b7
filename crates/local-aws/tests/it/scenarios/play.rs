//! Makes the calls, by hand or by a client, and shows an outcome as text.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::Value;
use service_models::Exchange;

use super::call::{Answer, Call, Request, pointed};
use super::clients::Client;
use crate::common::{Caller, REGION, signed};

/// What makes the calls.
pub(crate) enum By<'a> {
    /// Requests written by hand.
    Wire(&'a Caller),
    /// A client library, with the outcomes of the same calls made by hand: it does not always report the status.
    Client(&'a mut Client, &'a [String]),
}

/// Makes the calls in order and returns the outcome of each. `url` is shown as `{url}`.
pub(crate) async fn play(by: &mut By<'_>, url: &str, calls: &[Call]) -> Vec<String> {
    let mut kept: BTreeMap<&str, String> = BTreeMap::new();
    let mut outcomes = Vec::new();
    for (index, call) in calls.iter().enumerate() {
        let exchange = exchange(&call.request, &kept);
        let (answer, expected) = match by {
            By::Wire(caller) => (wire(caller, &exchange).await, ""),
            By::Client(client, outcomes) => (client.ask(&exchange), outcomes[index].as_str()),
        };
        let status = answer.status.map(|status| status.to_string());
        let status = status.unwrap_or_else(|| expected.split(' ').next().unwrap_or_default().to_owned());
        let mut outcome = vec![status];
        outcome.extend(answer.code);
        for shown in call.shown {
            let (name, place) = match shown.split_once('<') {
                Some((name, place)) => (Some(name), place),
                None => (None, *shown),
            };
            let value = (answer.value)(place);
            if let (Some(name), Some(value)) = (name, &value) {
                kept.insert(name, value.clone());
            }
            let short = place.rsplit(['/', ':']).next().unwrap_or(place);
            let value = kept
                .iter()
                .fold(value.unwrap_or_else(|| "-".to_owned()), |text, (name, value)| {
                    text.replace(value.as_str(), &format!("{{{name}}}"))
                })
                .replace(url, "{url}");
            outcome.push(format!("{short}={value}"));
        }
        outcomes.push(outcome.join(" "));
    }
    outcomes
}

/// The address of a service.
pub(crate) fn region(service: &str) -> &'static str {
    if service == "ecr-public" { "us-east-1" } else { REGION }
}

/// A call as it is sent, without the signature.
fn exchange(request: &Request, kept: &BTreeMap<&str, String>) -> Exchange {
    let fill = |text: &str| {
        kept.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
    };
    let post = |service: &str, headers: &[(&str, &str)], body: &str| Exchange {
        method: "POST".to_owned(),
        target: "/".to_owned(),
        headers: [("authorization", signed(service, region(service), "local").as_str())]
            .iter()
            .chain(headers)
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        body: Some(fill(body)),
        ..Exchange::default()
    };
    match request {
        Request::Json(service, target, action, input) => {
            let target = format!("{target}.{action}");
            post(service, &[("x-amz-target", &target), ("content-type", "application/x-amz-json-1.1")], input)
        }
        Request::Form(service, form) => {
            post(service, &[("content-type", "application/x-www-form-urlencoded")], form)
        }
        Request::S3 { method, path, headers, body } => {
            let headers: Vec<(&str, String)> =
                headers.iter().map(|(name, value)| (*name, fill(value))).collect();
            let headers: Vec<(&str, &str)> =
                headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            Exchange { method: method.to_string(), target: format!("/{path}"), ..post("s3", &headers, body) }
        }
    }
}

async fn wire(caller: &Caller, exchange: &Exchange) -> Answer {
    let method: Method = exchange.method.parse().unwrap();
    let request = caller.client.request(method, format!("{}{}", caller.url, exchange.target));
    let request = exchange.headers.iter().fold(request, |request, (name, value)| request.header(name, value));
    let response = request.body(exchange.body.clone().unwrap_or_default()).send().await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    let text = response.text().await.unwrap();
    let code = (!status.is_success()).then(|| code(&text)).flatten();
    let value = move |place: &str| {
        if let Some(name) = place.strip_prefix("header:") {
            return Some(headers.get(name)?.to_str().unwrap().to_owned());
        }
        if place.starts_with('/') {
            return pointed(&serde_json::from_str(&text).ok()?, place);
        }
        element(&text, place)
    };
    Answer { status: Some(status.as_u16()), code, value: Box::new(value) }
}

/// The error code of the refusal, in any of the protocols. Another server's failure may be an HTML page.
fn code(text: &str) -> Option<String> {
    let json = serde_json::from_str::<Value>(text).ok().and_then(|document| {
        let code = document["__type"].as_str()?.to_owned();
        Some(code.rsplit('#').next().unwrap_or(&code).to_owned())
    });
    json.or_else(|| element(text, "Code"))
}

/// The text of the first element with this name, with or without attributes.
fn element(xml: &str, name: &str) -> Option<String> {
    let opened = format!("<{name}");
    // Not an element whose name only starts with it.
    let mut found = xml.match_indices(&opened).map(|(at, _)| &xml[at + opened.len()..]);
    let rest = found.find(|rest| rest.starts_with(['>', ' ', '/']))?;
    let (attributes, rest) = rest.split_once('>')?;
    if attributes.ends_with('/') {
        return Some(String::new());
    }
    rest.split_once(&format!("</{name}>")).map(|(text, _)| text.trim().to_owned())
}
