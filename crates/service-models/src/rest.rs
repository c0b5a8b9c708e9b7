//! S3: members in the path, the query, headers and an XML body.

use serde_json::{Map, Value};

use crate::Exchange;
use crate::model::{Operation, Ref, Request, Service, Shape};
use crate::value::{Checker, Patterns, scalar};

/// Headers that begin as members do and are of every request
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/RESTCommonRequestHeaders.html>).
const COMMON: &[&str] = &[
    "x-amz-content-sha256",
    "x-amz-date",
    "x-amz-decoded-content-length",
    "x-amz-security-token",
    "x-amz-trailer",
    "x-amz-user-agent",
];

/// The parts of a requestUri: whether it has a bucket and a key, and the query that it fixes.
struct Uri<'m> {
    bucket: bool,
    key: bool,
    fixed: Vec<(&'m str, Option<&'m str>)>,
}

impl<'m> Uri<'m> {
    fn of(operation: &'m Operation) -> Self {
        let (path, query) =
            operation.http.request_uri.split_once('?').unwrap_or((&operation.http.request_uri, ""));
        let fixed = query.split('&').filter(|part| !part.is_empty());
        let fixed = fixed.map(|part| match part.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (part, None),
        });
        Self { bucket: path.contains("{Bucket}"), key: path.contains("{Key+}"), fixed: fixed.collect() }
    }

    fn fits(&self, bucket: &str, key: &str, query: &[(String, String)]) -> bool {
        let has = |(name, wanted): &(&str, Option<&str>)| {
            query.iter().any(|(known, value)| known == name && wanted.is_none_or(|wanted| wanted == value))
        };
        self.bucket != bucket.is_empty() && self.key != key.is_empty() && self.fixed.iter().all(has)
    }
}

/// Bucket and key: from the path, or the bucket from a host name below `localhost`.
fn address(exchange: &Exchange) -> (String, String) {
    let decode = |text: &str| {
        // In a path a plus is a plus.
        let text = text.replace('+', "%2B");
        let mut pairs = url::form_urlencoded::parse(text.as_bytes());
        pairs.next().map(|(name, _)| name.into_owned()).unwrap_or_default()
    };
    let host = exchange.header("host").unwrap_or_default().split(':').next().unwrap_or_default();
    let path = exchange.path().trim_start_matches('/');
    let bucket = host.strip_suffix(".localhost").map(|name| name.strip_suffix(".s3").unwrap_or(name));
    match bucket.filter(|name| *name != "s3") {
        Some(bucket) => (bucket.to_owned(), decode(path)),
        None => {
            let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
            (decode(bucket), decode(key))
        }
    }
}

/// Which operation a request is: the one of those that fit which fixes most of the query and whose required members are there.
fn operation<'m>(
    service: &'m Service,
    exchange: &Exchange,
    bucket: &str,
    key: &str,
) -> Result<&'m Operation, String> {
    let query = exchange.query();
    let said = query.iter().find(|(name, _)| name == "x-id").map(|(_, value)| value.as_str());
    let rank = |operation: &Operation| {
        let input = operation.input.as_ref().map(|input| service.shape(&input.shape));
        let required = input.into_iter().flat_map(|shape| {
            shape.required.iter().filter_map(|name| shape.members.get(name)).filter_map(|member| {
                let name = member.location_name.as_deref()?;
                match member.location.as_deref()? {
                    "querystring" => Some(query.iter().any(|(known, _)| known == name)),
                    "header" => Some(exchange.header(&name.to_lowercase()).is_some()),
                    _ => None,
                }
            })
        });
        let required: Vec<bool> = required.collect();
        let all = required.iter().all(|there| *there);
        all.then_some((Uri::of(operation).fixed.len(), required.len(), !operation.deprecated))
    };
    let fitting = service.operations.values().filter(|operation| {
        operation.http.method == exchange.method && Uri::of(operation).fits(bucket, key, &query)
    });
    let ranked: Vec<_> = fitting.filter_map(|operation| Some((rank(operation)?, operation))).collect();
    let best = ranked.iter().map(|(rank, _)| *rank).max();
    let mut best = ranked.iter().filter(|(rank, _)| Some(*rank) == best).map(|(_, operation)| *operation);
    let first = best.clone().next();
    best.find(|operation| Some(operation.name.as_str()) == said)
        .or(first)
        .ok_or_else(|| "the model has no such operation".to_owned())
}

/// Reads a request.
pub(crate) fn request<'m>(service: &'m Service, exchange: &Exchange) -> Result<Request<'m>, String> {
    let (bucket, key) = address(exchange);
    let operation = operation(service, exchange, &bucket, &key)?;
    let Some(of) = &operation.input else {
        return Ok(Request { operation, input: Value::Object(Map::new()), problems: Vec::new() });
    };
    let shape = service.shape(&of.shape);
    let patterns = Patterns::default();
    let mut checker = Checker::new(service, &patterns);
    let sums = operation.http_checksum.is_some();
    let sent = exchange.headers.iter();
    let sent: Vec<(String, String)> =
        sent.filter(|(name, _)| !(sums && name.starts_with("x-amz-checksum-"))).cloned().collect();
    let mut input = headers(&mut checker, shape, &sent);
    for (name, value) in [("Bucket", bucket), ("Key", key)] {
        if shape.members.get(name).is_some_and(|member| member.location.as_deref() == Some("uri")) {
            input.insert(name.to_owned(), value.into());
        }
    }
    let fixed = Uri::of(operation).fixed;
    for (name, value) in exchange.query() {
        let known = shape.members.iter().find(|(_, member)| {
            member.location.as_deref() == Some("querystring")
                && member.location_name.as_deref() == Some(&name)
        });
        match known {
            Some((member, of)) => match scalar(service.shape(&of.shape), "iso8601", &value) {
                Ok(value) => drop(input.insert(member.clone(), value)),
                Err(problem) => checker.note(member, problem),
            },
            None if name == "x-id" && value != operation.name => {
                checker.note("", format!("x-id says {value}, this is {}", operation.name));
            }
            None if name == "x-id" || name.starts_with("X-Amz-") => {}
            None if fixed.iter().any(|(known, _)| *known == name) => {}
            None => checker.note("", format!("the model has no query {name}")),
        }
    }
    let body = exchange.body.as_deref().unwrap_or_default();
    if let Some((name, value)) = payload(&mut checker, shape, body) {
        input.insert(name, value);
    }
    let problems = checker.problems;
    Ok(Request { operation, input: Value::Object(input), problems })
}

/// The members that are headers, and what begins like one and is none.
fn headers(checker: &mut Checker<'_>, shape: &Shape, all: &[(String, String)]) -> Map<String, Value> {
    let service = checker.service;
    let mut found = Map::new();
    for (header, value) in all {
        let known = shape.members.iter().find(|(_, member)| {
            let name = member.location_name.as_deref().unwrap_or_default();
            member.location.as_deref() == Some("header") && name.eq_ignore_ascii_case(header)
        });
        let prefixed = || {
            shape.members.iter().find(|(_, member)| {
                let name = member.location_name.as_deref().unwrap_or_default();
                member.location.as_deref() == Some("headers") && header.starts_with(name)
            })
        };
        if let Some((member, of)) = known {
            let of_shape = service.shape(&of.shape);
            let format = of.timestamp_format.as_deref().or(of_shape.timestamp_format.as_deref());
            match scalar(of_shape, format.unwrap_or("rfc822"), value) {
                Ok(value) => drop(found.insert(member.clone(), value)),
                Err(problem) => checker.note(member, problem),
            }
        } else if let Some((member, of)) = prefixed() {
            let key = header.trim_start_matches(of.location_name.as_deref().unwrap_or_default());
            let entry = found.entry(member.clone()).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(entries) = entry {
                entries.insert(key.to_owned(), value.as_str().into());
            }
        } else if header.starts_with("x-amz-") && !COMMON.contains(&header.as_str()) {
            checker.note("", format!("the model has no header {header}"));
        }
    }
    found
}

/// The member that is the body.
fn payload(checker: &mut Checker<'_>, shape: &Shape, body: &str) -> Option<(String, Value)> {
    let service = checker.service;
    let Some(name) = &shape.payload else {
        if !body.is_empty() {
            checker.note("", "the operation has no body");
        }
        return None;
    };
    let of = shape.members.get(name)?;
    let of_shape = service.shape(&of.shape);
    if of_shape.kind != "structure" {
        return (!body.is_empty()).then(|| (name.clone(), body.into()));
    }
    if body.is_empty() {
        return None;
    }
    let root = of.location_name.as_deref().or(of_shape.location_name.as_deref()).unwrap_or(name);
    let value = document(checker, of, root, body)?;
    Some((name.clone(), value))
}

/// The namespace of S3's documents. S3 takes and sends them without it as well, so do its clients.
const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

fn document(checker: &mut Checker<'_>, of: &Ref, root: &str, body: &str) -> Option<Value> {
    let parsed = match roxmltree::Document::parse(body) {
        Ok(parsed) => parsed,
        Err(error) => {
            checker.note("", format!("the body is no XML: {error}"));
            return None;
        }
    };
    let element = parsed.root_element();
    expect_root(checker, element, root);
    Some(checker.element(of, element, root))
}

fn expect_root(checker: &mut Checker<'_>, element: roxmltree::Node<'_, '_>, root: &str) {
    let name = element.tag_name();
    if name.name() != root {
        checker.note("", format!("the root is <{}>, not <{root}>", name.name()));
    }
    if name.namespace().is_some_and(|namespace| namespace != NAMESPACE) {
        checker.note("", format!("the namespace is {:?}, not {NAMESPACE}", name.namespace()));
    }
}

/// What the root of an answer is called whose members are below it: botocore's models leave it out
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations.html>).
const ROOTS: &[(&str, &str)] = &[
    ("DeleteObjects", "DeleteResult"),
    ("GetBucketTagging", "Tagging"),
    ("GetBucketVersioning", "VersioningConfiguration"),
    ("ListBuckets", "ListAllMyBucketsResult"),
    ("ListObjectVersions", "ListVersionsResult"),
    ("ListObjects", "ListBucketResult"),
    ("ListObjectsV2", "ListBucketResult"),
];

/// Headers of answers that no model has
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/RESTCommonResponseHeaders.html>).
const COMMON_OF_ANSWERS: &[&str] = &["x-amz-request-id", "x-amz-id-2"];

/// Checks an answer that is no refusal.
pub(crate) fn answer(checker: &mut Checker<'_>, exchange: &Exchange, operation: &Operation) {
    let wanted = operation.http.response_code.unwrap_or(200);
    let ranged = operation.name == "GetObject" && exchange.header("range").is_some();
    // Documented by example (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketPolicy.html>).
    let empty = ["PutBucketPolicy", "PutBucketTagging"].contains(&operation.name.as_str());
    let fits =
        exchange.status == wanted || (ranged && exchange.status == 206) || (empty && exchange.status == 204);
    if !fits {
        checker.note("", format!("the status is {}, not {wanted}", exchange.status));
    }
    let own = |name: &str| COMMON_OF_ANSWERS.contains(&name);
    let others: Vec<(String, String)> =
        exchange.answer_headers.iter().filter(|(name, _)| !own(name)).cloned().collect();
    let nothing = Shape::default();
    let service = checker.service;
    let shape = operation.output.as_ref().map_or(&nothing, |output| service.shape(&output.shape));
    let mut output = headers(checker, shape, &others);
    let body = exchange.answer_body.as_deref().unwrap_or_default();
    if exchange.method == "HEAD" {
        if !body.is_empty() {
            checker.note("", "an answer to HEAD has no body");
        }
    } else if operation.name == "GetBucketLocation" {
        location(checker, body);
    } else if let Some((_, root)) = ROOTS.iter().find(|(name, _)| *name == operation.name) {
        if let Some(of) = &operation.output
            && let Some(Value::Object(members)) = document(checker, of, root, body)
        {
            output.extend(members);
        }
    } else if let Some((name, value)) = payload(checker, shape, body) {
        output.insert(name, value);
    }
    // An object's own bytes are of no form.
    if let Some(name) = &shape.payload
        && shape.members.get(name).is_some_and(|member| service.shape(&member.shape).kind == "blob")
    {
        output.remove(name);
    }
    if let Some(of) = &operation.output {
        checker.value(&of.shape, &Value::Object(output), "");
    }
}

/// Its root is the only member itself.
fn location(checker: &mut Checker<'_>, body: &str) {
    match roxmltree::Document::parse(body) {
        Ok(parsed) => {
            let element = parsed.root_element();
            expect_root(checker, element, "LocationConstraint");
            let text = crate::xml::text(element);
            if !text.is_empty() {
                checker.value("BucketLocationConstraint", &text.into(), "LocationConstraint");
            }
        }
        Err(error) => checker.note("", format!("the body is no XML: {error}")),
    }
}
