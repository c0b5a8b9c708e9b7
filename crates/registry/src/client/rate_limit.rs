//! Docker Hub's count of pulls, which is in the reply to each HEAD of a manifest.

use std::collections::HashMap;
use std::time::Duration;

use http::HeaderMap;

use super::Client;
use crate::net::response::header;

/// How many pulls a registry still allows
/// ([Docker Hub usage](https://docs.docker.com/docker-hub/usage/pulls/#view-hourly-pull-rate-and-limit)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Pulls in one window.
    pub limit: u64,
    /// Pulls that are left.
    pub remaining: u64,
    /// The window's length; six hours by Docker's documentation, but other values were seen.
    pub window: Option<Duration>,
}

impl RateLimit {
    /// The limit in a reply's headers; `None` if the registry has no limit.
    pub(crate) fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let (limit, window) = value(header(headers, "ratelimit-limit")?)?;
        let (remaining, other) = value(header(headers, "ratelimit-remaining")?)?;
        Some(Self { limit, remaining, window: window.or(other) })
    }
}

/// Whether a GET of a manifest is a pull that `registry` counts.
pub(crate) fn counts_pulls(client: &Client, registry: &str) -> bool {
    client.connection.core.routes.counts_pulls(registry)
}

/// Pulls so far, by registry.
pub(crate) fn pulled(client: &Client) -> HashMap<String, u64> {
    client.connection.core.pulled.lock().map(|pulled| pulled.clone()).unwrap_or_default()
}

/// `100;w=21600`
fn value(text: &str) -> Option<(u64, Option<Duration>)> {
    let mut parts = text.split(';').map(str::trim);
    let count = parts.next()?.parse().ok()?;
    let window = parts.find_map(|part| part.strip_prefix("w=")).and_then(|seconds| seconds.parse().ok());
    Some((count, window.map(Duration::from_secs)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_windows_are_read() {
        let headers = |limit: &str, remaining: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("ratelimit-limit", limit.parse().unwrap());
            headers.insert("ratelimit-remaining", remaining.parse().unwrap());
            headers
        };
        let window = Some(Duration::from_secs(21_600));
        let expected = RateLimit { limit: 100, remaining: 76, window };
        assert_eq!(RateLimit::from_headers(&headers("100;w=21600", "76;w=21600")), Some(expected));
        let expected = RateLimit { limit: 100, remaining: 76, window: None };
        assert_eq!(RateLimit::from_headers(&headers("100", "76")), Some(expected));
        assert_eq!(RateLimit::from_headers(&headers("many", "76")), None);
        assert_eq!(RateLimit::from_headers(&HeaderMap::new()), None);
    }

    #[test]
    fn fuzz_any_rate_limit_is_read_or_ignored() {
        crate::fuzz::each("rate-limits", |input| {
            let Ok(value) = http::HeaderValue::from_bytes(input) else { return false };
            let mut headers = HeaderMap::new();
            headers.insert("ratelimit-limit", value.clone());
            headers.insert("ratelimit-remaining", value);
            let Some(RateLimit { limit, remaining, window }) = RateLimit::from_headers(&headers) else {
                return false;
            };
            assert_eq!(limit, remaining);
            let kind = crate::ErrorKind::PullsExhausted { needed: u64::MAX, remaining, limit, window };
            assert!(!kind.to_string().is_empty());
            true
        });
    }
}
