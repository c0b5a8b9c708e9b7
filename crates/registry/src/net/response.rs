//! Reading replies: bounded bodies, and errors that say what a registry meant.

use std::time::Duration;

use http::header::{HeaderName, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::Value;

use super::encoding;
use super::http::Response;
use super::redact::Secrets;
use super::retry_after::wait;
use super::wait_span::waiting;
use crate::digest::excerpt;
use crate::error::{ErrorKind, NoConnection};
use crate::size_limits;

/// An error reply, read.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    code: String,
    message: String,
    /// A page of HTML, which no registry sends.
    is_page: bool,
}

impl Failure {
    /// Reads it, without the request's secrets in its message.
    pub(crate) async fn read(response: Response, secrets: &Secrets) -> Self {
        let status = response.status();
        let headers = response.headers().clone();
        // If the body cannot be read, the status is still known.
        let reading = read_prefix(response, size_limits::ERROR_BODY);
        let body = tokio::time::timeout(Duration::from_secs(10), reading).await.unwrap_or_default();
        let body = encoding::json(&headers, body, size_limits::ERROR_BODY);
        let (code, message) = read_error(&body, secrets);
        let is_page = is_page(&headers, &body);
        Self { status, headers, code, message, is_page }
    }

    /// ECR's refusal of a token that is older than 12 hours is a 403, not a 401
    /// ([amazon-ecr-credential-helper#7](https://github.com/awslabs/amazon-ecr-credential-helper/issues/7)).
    pub(crate) fn is_expired_token(&self) -> bool {
        self.status == StatusCode::FORBIDDEN && self.message.to_ascii_lowercase().contains("expired")
    }

    /// What it is, in words.
    pub(crate) fn answer(&self) -> String {
        let said = if self.is_page { "a web page" } else { &self.message };
        let status = self.status.as_u16();
        if said.is_empty() { format!("HTTP {status}") } else { format!("HTTP {status}: {said}") }
    }

    pub(crate) fn into_kind(self) -> ErrorKind {
        let retry_after = self.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()).and_then(wait);
        let status = self.status.as_u16();
        let is_challenge = status == 401 && self.headers.contains_key(WWW_AUTHENTICATE);
        let Self { code, message, is_page, .. } = self;
        let lower = message.to_ascii_lowercase();
        match (status, code.as_str()) {
            (407, _) => ErrorKind::NoConnection { why: NoConnection::ProxyLogin, source: None },
            (429, _) | (400..500, "ThrottlingException" | "TOOMANYREQUESTS" | "RequestLimitExceeded") => {
                ErrorKind::TooManyRequests { retry_after, message }
            }
            // [GitHub's secondary limits](https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api).
            (403, _) if retry_after.is_some() || lower.contains("rate limit") => {
                ErrorKind::TooManyRequests { retry_after, message }
            }
            // From what is in front of a registry, nginx for instance, also with a page.
            (413, _) => ErrorKind::Refused { status, code, message },
            // What is not implemented (501) or not supported (505) stays so; all others, those of proxies and CDNs (499 is
            // nginx's) included, are transient.
            (408 | 425 | 499 | 500 | 502..=504 | 506..=599, _) => {
                ErrorKind::Unavailable { status, retry_after, message }
            }
            // Registries send a page only for an unknown path.
            (400..500, _) if is_page && !matches!(status, 404 | 410) && !is_challenge => {
                ErrorKind::Page { status }
            }
            (401, _) => ErrorKind::Unauthorized { message },
            (416, _)
            | (_, "BLOB_UPLOAD_UNKNOWN" | "BLOB_UPLOAD_INVALID" | "DIGEST_INVALID" | "SIZE_INVALID") => {
                ErrorKind::UploadLost { message }
            }
            (_, "BLOB_UNKNOWN" | "MANIFEST_BLOB_UNKNOWN") => ErrorKind::PartUnknown { message },
            // ECR's words, and Artifactory's.
            _ if ["required for pushing image", "failed to copy blob"].iter().any(|w| lower.contains(w)) => {
                ErrorKind::PartUnknown { message }
            }
            (_, "NAME_UNKNOWN" | "RepositoryNotFoundException") => ErrorKind::NameUnknown { message },
            _ if is_immutable(&code, &lower) => ErrorKind::TagImmutable { message },
            (403, _) => ErrorKind::Denied { message },
            (404 | 410, _) => ErrorKind::NotFound { message },
            _ => ErrorKind::Refused { status, code, message },
        }
    }
}

/// The ways to say that a tag cannot be moved: ECR's and Quay's, Harbor's (412, "configured as immutable"), Artifact Registry's
/// ("has enabled tag immutability"), ACR's (405, for whatever is locked), Nexus's ("cannot be updated"), GitLab's ("protected").
fn is_immutable(code: &str, message: &str) -> bool {
    let words =
        ["cannot be overwritten", "immutab", "operation is disallowed on this registry, repository or image"];
    let tag_words = ["cannot be updated", "protected", "already exists"];
    ["TAG_EXISTS", "TAG_IMMUTABLE", "IMMUTABLE_TAG"].contains(&code)
        || words.iter().any(|words| message.contains(words))
        || (message.contains("tag") && tag_words.iter().any(|words| message.contains(words)))
}

/// Whether this is a page for people: by its type, or by how it begins.
pub(crate) fn is_page(headers: &HeaderMap, body: &[u8]) -> bool {
    let begin = body.trim_ascii_start();
    let begins = |with: &[u8]| begin.get(..with.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(with));
    let is_html = content_type(headers).to_ascii_lowercase().starts_with("text/html");
    // An empty body, as of each reply to a HEAD, is not a page.
    begins(b"<!doctype html")
        || begins(b"<html")
        || (is_html && begin.first().is_some_and(|first| *first != b'{'))
}

/// Code and message of an error body: the distribution specification's `errors`, AWS's `__type`, Google's `error`, or another
/// of the usual names; otherwise its first line.
fn read_error(body: &[u8], secrets: &Secrets) -> (String, String) {
    let line = |text: &str| line(&secrets.hide(text));
    let Ok(root) = serde_json::from_slice::<Value>(body) else {
        return (String::new(), plain_text(body).map(line).unwrap_or_default());
    };
    let errors: Vec<&Value> = match (root.get("errors"), root.get("error")) {
        (Some(Value::Array(errors)), _) if !errors.is_empty() => errors.iter().take(3).collect(),
        (_, Some(error @ Value::Object(_))) => vec![error],
        _ => vec![&root],
    };
    let said = |error: &Value, names: &[&str]| {
        let own = error.as_str();
        let named =
            || names.iter().find_map(|name| error.get(name)?.as_str().filter(|text| !text.is_empty()));
        line(own.or_else(named).unwrap_or_default())
    };
    let code = errors.first().filter(|error| error.is_object());
    let code = code.map(|error| said(error, &["code", "__type"])).unwrap_or_default();
    let names = ["message", "Message", "details", "detail", "error_description", "error"];
    let message = |error: &&Value| {
        // Only here do Artifactory and Quay say what is wrong with a manifest, and others which blob is missing
        // ([jib#1445](https://github.com/GoogleContainerTools/jib/issues/1445)).
        let detail = error.get("detail").map(|detail| said(detail, &["description", "message"]));
        let parts = [Some(said(error, &names)), detail].into_iter().flatten();
        let mut parts: Vec<String> = parts.filter(|part| !part.is_empty()).collect();
        parts.dedup();
        line(&parts.join(": "))
    };
    let messages: Vec<String> = errors.iter().map(message).collect();
    (code.rsplit('#').next().unwrap_or_default().to_owned(), messages.join("; "))
}

/// A body that is not JSON, if it is text or S3's XML. A page of HTML has no message.
fn plain_text(body: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(body).ok()?;
    if !text.trim_start().starts_with('<') {
        return Some(text);
    }
    // S3's XML errors: `<Code>AccessDenied</Code><Message>Request has expired</Message>`.
    Some(text.split_once("<Message>")?.1.split_once("</Message>")?.0)
}

/// One line of at most 300 characters, without control characters: it goes to a terminal.
fn line(text: &str) -> String {
    let text = text.trim().lines().next().unwrap_or_default();
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

/// The whole body, at most `limit` bytes.
pub(crate) async fn read_bounded(
    mut response: Response,
    what: &'static str,
    limit: usize,
) -> Result<Vec<u8>, ErrorKind> {
    let too_large = ErrorKind::TooLarge { what, limit: limit as u64 };
    let announced = response.body().length();
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(too_large);
    }
    let mut body = Vec::with_capacity(announced.unwrap_or_default() as usize);
    while let Some(chunk) = response.body_mut().chunk().await? {
        if body.len() + chunk.len() > limit {
            return Err(too_large);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// [`read_bounded`] of a reply by `registry`, for at most `after`.
pub(crate) async fn read_in_time(
    response: Response,
    registry: &str,
    (what, limit): (&'static str, usize),
    after: Duration,
) -> Result<Vec<u8>, ErrorKind> {
    let _wait = waiting(registry, &format!("the rest of {what}"), after);
    let body = tokio::time::timeout(after, read_bounded(response, what, limit)).await;
    body.unwrap_or(Err(ErrorKind::Stalled { what, after }))
}

/// The beginning of the body, at most `limit` bytes.
async fn read_prefix(mut response: Response, limit: usize) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.body_mut().chunk().await {
        let room = limit - body.len();
        body.extend_from_slice(chunk.get(..room.min(chunk.len())).unwrap_or_default());
        if body.len() >= limit {
            break;
        }
    }
    body
}

/// A header as text, if it is not too long.
pub(crate) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    text(headers.get(name)?)
}

/// All headers of this name, as [`header`].
pub(crate) fn all<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers.get_all(name).into_iter().filter_map(text)
}

fn text(value: &HeaderValue) -> Option<&str> {
    if value.len() <= size_limits::HEADER { value.to_str().ok() } else { None }
}

/// The header with a manifest's or a blob's digest.
pub(crate) const CONTENT_DIGEST: &str = "docker-content-digest";

/// A digest from a header, if the registry sends a valid one.
pub(crate) fn content_digest(headers: &HeaderMap) -> Option<crate::digest::Digest> {
    header(headers, CONTENT_DIGEST)?.parse().ok()
}

/// A 200 to an upload that is not there afterwards: a proxy before the registry took it for a health check
/// ([kubevirt#17064](https://github.com/kubevirt/kubevirt/pull/17064)).
pub(crate) fn not_done() -> ErrorKind {
    let message = "what was sent is not there".to_owned();
    ErrorKind::Unavailable { status: 200, retry_after: None, message }
}

/// A media type from a header.
pub(crate) fn content_type(headers: &HeaderMap) -> String {
    excerpt(header(headers, "content-type").unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(status: u16, body: &str) -> ErrorKind {
        let (code, message) = read_error(body.as_bytes(), &Secrets::default());
        let status = StatusCode::from_u16(status).unwrap();
        let headers = HeaderMap::new();
        let is_page = is_page(&headers, body.as_bytes());
        Failure { status, headers, code, message, is_page }.into_kind()
    }

    #[test]
    fn errors_of_registries_are_classified() {
        let error = |code: &str, message: &str| {
            format!(r#"{{"errors":[{{"code":"{code}","message":"{message}"}}]}}"#)
        };
        assert!(matches!(
            kind(404, &error("NAME_UNKNOWN", "The repository with name 'x' does not exist")),
            ErrorKind::NameUnknown { .. }
        ));
        assert!(matches!(kind(404, &error("MANIFEST_UNKNOWN", "")), ErrorKind::NotFound { .. }));
        assert!(matches!(
            kind(
                400,
                &error(
                    "TAG_INVALID",
                    "The image tag 'x' already exists and cannot be overwritten because the tag is immutable"
                )
            ),
            ErrorKind::TagImmutable { .. }
        ));
        assert!(matches!(kind(400, &error("BLOB_UPLOAD_INVALID", "")), ErrorKind::UploadLost { .. }));
        assert!(matches!(kind(404, &error("MANIFEST_BLOB_UNKNOWN", "")), ErrorKind::PartUnknown { .. }));
        assert!(matches!(
            kind(429, &error("TOOMANYREQUESTS", "Rate exceeded")),
            ErrorKind::TooManyRequests { .. }
        ));
        assert!(matches!(
            kind(400, r#"{"__type":"com.amazonaws#ThrottlingException","message":"Rate exceeded"}"#),
            ErrorKind::TooManyRequests { .. }
        ));
        assert!(matches!(
            kind(405, &error("UNSUPPORTED", "Invalid JSON syntax")),
            ErrorKind::Refused { status: 405, .. }
        ));
        assert!(matches!(kind(503, "<html>"), ErrorKind::Unavailable { status: 503, .. }));
    }

    #[test]
    fn every_5xx_is_transient_except_not_implemented() {
        for status in
            [408, 425, 499, 500, 502, 503, 504, 507, 508, 511, 520, 521, 523, 524, 525, 527, 530, 598, 599]
        {
            assert!(matches!(kind(status, ""), ErrorKind::Unavailable { .. }), "{status}");
        }
        assert!(matches!(kind(429, ""), ErrorKind::TooManyRequests { .. }));
        for status in [400, 405, 409, 412, 417, 501, 505] {
            assert!(matches!(kind(status, ""), ErrorKind::Refused { .. }), "{status}");
        }
    }

    #[test]
    fn an_immutable_tag_is_recognised_by_each_registrys_message() {
        let error = |code: &str, message: &str| {
            format!(r#"{{"errors":[{{"code":"{code}","message":"{message}"}}]}}"#)
        };
        for (status, code, message) in [
            (412, "PRECONDITION", "Failed to process request due to 'img:1' configured as immutable."),
            (400, "MANIFEST_INVALID", "Cannot update tag 1. The repository has enabled tag immutability"),
            (405, "UNSUPPORTED", "The operation is disallowed on this registry, repository or image."),
            (409, "TAG_EXISTS", ""),
            (400, "TAG_IMMUTABLE", ""),
            (403, "DENIED", "Cannot push to a protected container tag: tag 1"),
            (400, "UNKNOWN", "image tag 1 cannot be updated"),
        ] {
            let kind = kind(status, &error(code, message));
            assert!(matches!(kind, ErrorKind::TagImmutable { .. }), "{message}: {kind}");
        }
        assert!(matches!(kind(409, &error("CONFLICT", "try later")), ErrorKind::Refused { .. }));
    }

    #[test]
    fn an_html_page_is_not_a_registrys_reply() {
        let page = "\n<!DOCTYPE html><p>blocked by policy</p>";
        for status in [400, 401, 403, 405, 451] {
            assert!(matches!(kind(status, page), ErrorKind::Page { .. }), "{status}");
        }
        assert!(matches!(kind(404, page), ErrorKind::NotFound { .. }));
        assert!(matches!(kind(503, page), ErrorKind::Unavailable { .. }));
        assert!(matches!(
            kind(407, page),
            ErrorKind::NoConnection { why: NoConnection::ProxyLogin, source: None }
        ));
        let s3 = "<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code><Message>no</Message></Error>";
        assert!(matches!(kind(403, s3), ErrorKind::Denied { .. }));
    }

    #[test]
    fn a_detail_belongs_to_the_message() {
        for (detail, said) in [
            (r#"{"description":"HTTP 403 Forbidden"}"#, ": HTTP 403 Forbidden"),
            (r#"{"message":"no such layer"}"#, ": no such layer"),
            (r#""sha256:00""#, ": sha256:00"),
            (r#""manifest invalid""#, ""),
            (r#"{"Tag":"1"}"#, ""),
            ("[]", ""),
            ("null", ""),
        ] {
            let body =
                format!(r#"{{"errors":[{{"code":"X","message":"manifest invalid","detail":{detail}}}]}}"#);
            let kind = kind(400, &body).to_string();
            assert_eq!(kind, format!("refused (HTTP 400, X): manifest invalid{said}"));
        }
    }

    #[test]
    fn messages_are_one_clean_line() {
        let error = kind(403, "{\"errors\":[{\"code\":\"DENIED\",\"message\":\"no\\u001b[31m\\nsecond\"}]}");
        assert_eq!(error.to_string(), "access denied: no[31m");
        assert_eq!(
            kind(418, "<?xml?><Error><Message>Request has expired</Message></Error>").to_string(),
            "refused (HTTP 418): Request has expired"
        );
    }

    #[test]
    fn fuzz_any_error_body_becomes_one_clean_line() {
        crate::fuzz::each("errors", |input| {
            let (code, message) = read_error(input, &Secrets::default());
            let is_clean = |text: &str| text.chars().count() <= 1_000 && !text.contains(char::is_control);
            assert!(is_clean(&code) && is_clean(&message), "{code} {message}");
            !message.is_empty()
        });
    }
}
