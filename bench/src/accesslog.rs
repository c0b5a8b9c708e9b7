//! Counts a registry's requests in its own access log (Apache's combined format).

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

/// Requests and bytes in a part of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requests {
    /// By method and kind, such as `HEAD manifest`.
    pub by_kind: BTreeMap<String, u64>,
    /// Bytes of answers to GET.
    pub bytes_out: u64,
    /// Bytes of blobs and manifests that were received, by their known sizes.
    pub bytes_in: u64,
    /// Blobs and manifests that were received but whose size is not known here.
    pub unknown_in: u64,
    /// Answers with a status of 400 or more, except 404.
    pub refused: u64,
}

impl Requests {
    /// The requests by method.
    pub fn by_method(&self) -> BTreeMap<&str, u64> {
        let mut methods = BTreeMap::new();
        for (kind, count) in &self.by_kind {
            *methods.entry(kind.split(' ').next().unwrap_or_default()).or_default() += count;
        }
        methods
    }

    /// All requests.
    pub fn total(&self) -> u64 {
        self.by_kind.values().sum()
    }

    /// `GET 43 HEAD 5`.
    pub fn short(&self) -> String {
        let methods = self.by_method();
        let parts: Vec<String> = methods.iter().map(|(method, count)| format!("{method} {count}")).collect();
        if parts.is_empty() { "none".to_owned() } else { parts.join(" ") }
    }
}

/// One line of the log.
#[derive(Debug, PartialEq, Eq)]
struct Line<'a> {
    method: &'a str,
    path: &'a str,
    query: &'a str,
    status: u16,
    bytes: u64,
}

fn line(text: &str) -> Option<Line<'_>> {
    let (_, rest) = text.split_once("] \"")?;
    let (request, rest) = rest.split_once("\" ")?;
    let mut request = request.split(' ');
    let (method, target) = (request.next()?, request.next()?);
    let mut numbers = rest.split(' ');
    let status = numbers.next()?.parse().ok()?;
    let bytes = numbers.next()?.parse().unwrap_or(0);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Some(Line { method, path, query, status, bytes })
}

/// Counts the requests in `log`; `sizes` has blobs by digest and manifests also by `repository:tag`.
pub fn count(log: &str, sizes: &HashMap<String, u64>) -> Requests {
    let mut requests = Requests::default();
    for line in log.lines().filter_map(line) {
        let path = line.path.strip_prefix("/v2/").unwrap_or(line.path);
        let digest = query(line.query, "digest");
        let (kind, taken) = if path.is_empty() {
            ("ping", None)
        } else if let Some((repository, reference)) = path.split_once("/manifests/") {
            let key = if reference.contains(':') {
                reference.to_owned()
            } else {
                format!("{repository}:{reference}")
            };
            ("manifest", (line.method == "PUT").then_some(key))
        } else if path.contains("/blobs/uploads/") {
            if line.method == "POST" && query(line.query, "mount").is_some() {
                (if line.status == 201 { "mount" } else { "mount-refused" }, None)
            } else {
                ("upload", digest)
            }
        } else if path.contains("/blobs/") {
            ("blob", None)
        } else {
            ("other", None)
        };
        *requests.by_kind.entry(format!("{} {kind}", line.method)).or_default() += 1;
        if line.method == "GET" {
            requests.bytes_out += line.bytes;
        }
        if line.status >= 400 && line.status != 404 {
            requests.refused += 1;
        }
        if let (Some(key), 201) = (taken, line.status) {
            match sizes.get(&key) {
                Some(size) => requests.bytes_in += size,
                None => requests.unknown_in += 1,
            }
        }
    }
    requests
}

/// The value of `key`; only the colon's percent-encoding is decoded, as digests contain no other.
fn query(query: &str, key: &str) -> Option<String> {
    let value = query.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='))?;
    Some(value.replace("%3A", ":").replace("%3a", ":"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_distinguished_and_bytes_added_up() {
        let log = r#"
127.0.0.1 - - [22/Nov/2026:12:00:00 +0000] "GET /v2/ HTTP/1.1" 200 2 "" "skopeo/1.9.3"
127.0.0.1 - - [22/Nov/2026:12:00:00 +0000] "HEAD /v2/a/b/manifests/1.0 HTTP/1.1" 404 99 "" "x"
127.0.0.1 - - [22/Nov/2026:12:00:00 +0000] "GET /v2/a/b/blobs/sha256:aa HTTP/1.1" 200 1000 "" "x \"y\" z"
127.0.0.1 - - [22/Nov/2026:12:00:00 +0000] "POST /v2/a/b/blobs/uploads/?mount=sha256%3Aaa&from=c HTTP/1.1" 201 0 "" "x"
127.0.0.1 - - [22/Nov/2026:12:00:00 +0000] "POST /v2/a/b/blobs/uploads/?mount=sha256%3Abb&from=c HTTP/1.1" 202 0 "" "x"
127.0.0.1 - - [22/Nov/2026:12:00:00 +0000] "POST /v2/a/b/blobs/uploads/ HTTP/1.1" 202 0 "" "x"
127.0.0.1 - - [22/Nov/2026:12:00:00 +0000] "PATCH /v2/a/b/blobs/uploads/u?_state=s HTTP/1.1" 202 0 "" "x"
127.0.0.1 - - [22/Nov/2026:12:00:00 +0000] "PUT /v2/a/b/blobs/uploads/u?_state=s&digest=sha256%3Aaa HTTP/1.1" 201 0 "" "x"
127.0.0.1 - - [22/Nov/2026:12:00:00 +0000] "PUT /v2/a/b/blobs/uploads/u?digest=sha256:cc HTTP/1.1" 201 0 "" "x"
127.0.0.1 - - [22/Nov/2026:12:00:00 +0000] "PUT /v2/a/b/manifests/1.0 HTTP/1.1" 201 0 "" "x"
127.0.0.1 - - [22/Nov/2026:12:00:00 +0000] "PUT /v2/a/b/manifests/1.1 HTTP/1.1" 400 10 "" "x"
not a line of the log
"#;
        let sizes = HashMap::from([("sha256:aa".to_owned(), 1_000), ("a/b:1.0".to_owned(), 77)]);
        let requests = count(log, &sizes);
        let kinds: Vec<(&str, u64)> =
            requests.by_kind.iter().map(|(kind, count)| (kind.as_str(), *count)).collect();
        assert_eq!(
            kinds,
            [
                ("GET blob", 1),
                ("GET ping", 1),
                ("HEAD manifest", 1),
                ("PATCH upload", 1),
                ("POST mount", 1),
                ("POST mount-refused", 1),
                ("POST upload", 1),
                ("PUT manifest", 2),
                ("PUT upload", 2),
            ]
        );
        assert_eq!(requests.short(), "GET 2 HEAD 1 PATCH 1 POST 3 PUT 4");
        assert_eq!((requests.bytes_out, requests.bytes_in, requests.unknown_in), (1_002, 1_077, 1));
        assert_eq!((requests.refused, requests.total()), (1, 11));
    }

    #[test]
    fn a_time_without_requests_has_no_entries() {
        assert_eq!(count("", &HashMap::new()).short(), "none");
    }
}
