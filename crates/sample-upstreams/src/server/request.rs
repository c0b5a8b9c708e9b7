//! Parses requests.

use http::Request;
use http::header::AUTHORIZATION;
use hyper::body::Incoming;

/// The requested part of a repository.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind<'a> {
    Manifest(&'a str),
    Blob(&'a str),
    Tags,
    Referrers,
}

impl<'a> Kind<'a> {
    /// Splits `/v2/<path>/<kind>/<reference>` after `/v2/`. A repository's name may contain the kinds too, so the last one counts.
    pub(super) fn parse(rest: &'a str) -> Option<(&'a str, Self)> {
        if let Some(path) = rest.strip_suffix("/tags/list") {
            return Some((path, Self::Tags));
        }
        let (front, reference) = rest.rsplit_once('/')?;
        let (path, kind) = front.rsplit_once('/')?;
        let kind = match kind {
            "manifests" => Self::Manifest(reference),
            "blobs" => Self::Blob(reference),
            "referrers" => Self::Referrers,
            _ => return None,
        };
        Some((path, kind))
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Manifest(_) => "manifest",
            Self::Blob(_) => "blob",
            Self::Tags => "tags",
            Self::Referrers => "referrers",
        }
    }
}

#[derive(Debug, PartialEq)]
pub(super) enum Parsed {
    Ignored,
    Unsatisfiable,
    Part { start: u64, end: u64 },
}

/// Parses one byte range of [RFC 9110](https://www.rfc-editor.org/rfc/rfc9110#name-range), for a content of `size` bytes.
pub(super) fn parse_range(range: &str, size: u64) -> Parsed {
    let Some((first, last)) = range.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return Parsed::Ignored;
    };
    match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(start), _) if start >= size => Parsed::Unsatisfiable,
        (Ok(start), Ok(end)) if end >= start => Parsed::Part { start, end: end.min(size - 1) },
        (Ok(start), Err(_)) if last.is_empty() => Parsed::Part { start, end: size - 1 },
        (Err(_), Ok(0)) if first.is_empty() => Parsed::Unsatisfiable,
        (Err(_), Ok(count)) if first.is_empty() && size > 0 => {
            Parsed::Part { start: size.saturating_sub(count), end: size - 1 }
        }
        _ => Parsed::Ignored,
    }
}

pub(super) fn bearer(request: &Request<Incoming>) -> Option<&str> {
    request.headers().get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

/// The query's pairs, decoded.
pub(super) fn query(request: &Request<Incoming>) -> impl Iterator<Item = (&str, String)> {
    let pairs = request.uri().query().unwrap_or_default().split('&');
    pairs.filter_map(|pair| pair.split_once('=')).map(|(key, value)| (key, percent_decode(value)))
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match first {
            b'+' => bytes.push(b' '),
            b'%' if tail.len() >= 2 => {
                match std::str::from_utf8(&tail[..2]).map(|hex| u8::from_str_radix(hex, 16)) {
                    Ok(Ok(byte)) => {
                        bytes.push(byte);
                        rest = &tail[2..];
                    }
                    _ => bytes.push(b'%'),
                }
            }
            byte => bytes.push(*byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_split_at_the_last_word() {
        assert_eq!(
            Kind::parse("a/b/manifests/c/manifests/7"),
            Some(("a/b/manifests/c", Kind::Manifest("7")))
        );
        assert_eq!(Kind::parse("a/tags/list"), Some(("a", Kind::Tags)));
        assert_eq!(Kind::parse("a/blobs/uploads/"), None);
    }

    #[test]
    fn ranges() {
        for (range, expected) in [
            ("bytes=0-9", Parsed::Part { start: 0, end: 9 }),
            ("bytes=90-", Parsed::Part { start: 90, end: 99 }),
            ("bytes=90-500", Parsed::Part { start: 90, end: 99 }),
            ("bytes=-10", Parsed::Part { start: 90, end: 99 }),
            ("bytes=-500", Parsed::Part { start: 0, end: 99 }),
            ("bytes=100-", Parsed::Unsatisfiable),
            ("bytes=-0", Parsed::Unsatisfiable),
            ("bytes=9-3", Parsed::Ignored),
            ("bytes=0-1,5-6", Parsed::Ignored),
            ("lines=0-1", Parsed::Ignored),
        ] {
            assert_eq!(parse_range(range, 100), expected, "{range}");
        }
    }

    #[test]
    fn queries_are_decoded() {
        assert_eq!(percent_decode("repository%3Aa%2Fb%3Apull+x%zz%"), "repository:a/b:pull x%zz%");
    }
}
