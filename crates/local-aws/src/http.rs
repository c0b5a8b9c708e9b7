//! HTTP bodies and answers.

use std::io;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full, Limited};
use hyper::body::Body as HttpBody;

use crate::fault::Fault;

pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;
pub(crate) type Answer = Response<Body>;

pub(crate) fn no_body() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(no_body());
    *answer.status_mut() = status;
    answer
}

pub(crate) fn with_body(status: StatusCode, content_type: &str, bytes: impl Into<Bytes>) -> Answer {
    let bytes = bytes.into();
    let length = bytes.len();
    let mut answer = Response::new(full(bytes));
    *answer.status_mut() = status;
    set(&mut answer, CONTENT_TYPE.as_str(), content_type);
    answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    answer
}

/// Sets a header; a value that is not valid in a header (a control character) is left out.
pub(crate) fn set(answer: &mut Answer, name: &str, value: impl AsRef<str>) {
    if let (Ok(name), Ok(value)) =
        (http::header::HeaderName::try_from(name), HeaderValue::from_str(value.as_ref()))
    {
        answer.headers_mut().insert(name, value);
    }
}

/// An answer to HEAD: the headers without the body.
pub(crate) fn without_body(answer: Answer) -> Answer {
    answer.map(|_| no_body())
}

/// Reads the rest of a rejected request's body, up to a limit: a client that is still sending would get a broken pipe instead of the error.
pub(crate) async fn drain<B: HttpBody<Data = Bytes> + Unpin>(body: &mut B) {
    const MOST: usize = 256 * 1024 * 1024;
    let mut left = MOST;
    while let Some(Ok(frame)) = body.frame().await {
        match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
            Some(still) => left = still,
            None => return,
        }
    }
}

/// Reads a whole body of at most `most` bytes.
pub(crate) async fn read<B>(body: &mut B, most: usize) -> Result<Bytes, Fault>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    match Limited::new(body, most).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(Fault::client(
            "EntityTooLarge",
            format!("Your proposed upload exceeds the maximum allowed size of {most} bytes"),
        )),
        Err(error) => Err(Fault::client("IncompleteBody", format!("the request's body broke off: {error}"))),
    }
}

/// The header's value, if it exists and is text.
pub(crate) fn header<'a>(parts: &'a http::request::Parts, name: &str) -> Option<&'a str> {
    parts.headers.get(name).and_then(|value| value.to_str().ok())
}

/// Percent-decodes one path segment or key; `+` stays a plus, as in paths of S3 and registries.
pub(crate) fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let decoded = (bytes[i] == b'%')
            .then(|| bytes.get(i + 1..i + 3))
            .flatten()
            .and_then(|pair| hex::decode(pair).ok());
        if let Some(byte) = decoded {
            out.extend(byte);
            i += 3;
        } else {
            out.push(bytes[i]);
            i += 1;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The query's pairs; the value is empty for a name without one (`?versioning`).
pub(crate) fn query(parts: &http::request::Parts) -> Vec<(String, String)> {
    url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()).into_owned().collect()
}

/// The first value of `name` among `pairs`.
pub(crate) fn value<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// The range of a `Range` header for `size` bytes: the first and the last byte, inclusive. `Err`: cannot be satisfied.
pub(crate) fn byte_range(header: Option<&str>, size: u64) -> Result<Option<(u64, u64)>, ()> {
    let Some(spec) = header.and_then(|text| text.strip_prefix("bytes=")) else { return Ok(None) };
    // Several ranges would need a multipart answer; S3 ignores such a header and sends everything.
    let Some((first, last)) = spec.split_once('-').filter(|_| !spec.contains(',')) else { return Ok(None) };
    let range = match (first.trim().parse::<u64>(), last.trim().parse::<u64>()) {
        (Ok(first), Ok(last)) => (first, last.min(size.saturating_sub(1))),
        (Ok(first), Err(_)) => (first, size.saturating_sub(1)),
        (Err(_), Ok(suffix)) => (size.saturating_sub(suffix), size.saturating_sub(1)),
        (Err(_), Err(_)) => return Ok(None),
    };
    if range.0 > range.1 || range.0 >= size { Err(()) } else { Ok(Some(range)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        assert_eq!(byte_range(None, 10), Ok(None));
        assert_eq!(byte_range(Some("bytes=0-3"), 10), Ok(Some((0, 3))));
        assert_eq!(byte_range(Some("bytes=4-"), 10), Ok(Some((4, 9))));
        assert_eq!(byte_range(Some("bytes=4-400"), 10), Ok(Some((4, 9))));
        assert_eq!(byte_range(Some("bytes=-3"), 10), Ok(Some((7, 9))));
        assert_eq!(byte_range(Some("bytes=10-"), 10), Err(()));
        assert_eq!(byte_range(Some("bytes=0-1,3-4"), 10), Ok(None));
        assert_eq!(byte_range(Some("bytes=0-"), 0), Err(()));
    }

    #[test]
    fn percent_decoding_keeps_what_is_not_encoded() {
        assert_eq!(percent_decode("a%2Fb+c%zz%"), "a/b+c%zz%");
    }
}
