//! How far a registry's clock is from ours: what depends on the time of day should not trust one clock alone.

use std::time::SystemTime;

use http::HeaderMap;

use crate::net::response::header;
use crate::net::retry_after::httpdate;

/// By how many seconds the server's clock is ahead of ours: `Date`, and `Age` if a cache answered
/// ([RFC 9111](https://www.rfc-editor.org/rfc/rfc9111#section-4.2.3)).
pub(super) fn ahead(headers: &HeaderMap, now: SystemTime) -> Option<i64> {
    let seconds = |time: SystemTime| {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        i64::try_from(since.as_secs()).ok()
    };
    let date = seconds(httpdate(header(headers, "date")?.trim())?)?;
    let age = header(headers, "age").and_then(|age| age.trim().parse::<u32>().ok()).unwrap_or_default();
    Some(date + i64::from(age) - seconds(now)?)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_registrys_date_shows_the_difference_of_the_clocks() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let ahead = |pairs: &[(&'static str, &str)]| {
            let pairs = pairs.iter().map(|(name, value)| {
                (http::HeaderName::from_static(name), value.parse::<http::HeaderValue>().unwrap())
            });
            ahead(&pairs.collect(), now)
        };
        assert_eq!(ahead(&[("date", "Sun, 06 Nov 1994 08:49:37 GMT")]), Some(0));
        assert_eq!(ahead(&[("date", "Sun, 06 Nov 1994 09:49:37 GMT")]), Some(3600));
        assert_eq!(ahead(&[("date", "Sun, 06 Nov 1994 07:49:37 GMT")]), Some(-3600));
        assert_eq!(
            ahead(&[("date", "Sun, 06 Nov 1994 07:49:37 GMT"), ("age", "3600")]),
            Some(0),
            "a cache's answer"
        );
        assert_eq!(ahead(&[("date", "today")]), None);
        assert_eq!(ahead(&[]), None);
    }
}
