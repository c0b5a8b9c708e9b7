//! The server's clock and AWS's time formats.

use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// How far AWS's clock is ahead of this machine's, in seconds (the quirk `clock`).
static AHEAD: AtomicI64 = AtomicI64::new(0);

/// Sets AWS's clock, for every server of the process.
pub(crate) fn set_ahead(seconds: i64) {
    AHEAD.store(seconds, Ordering::Relaxed);
}

/// Now, in milliseconds since the epoch, the unit of the stored state.
pub(crate) fn now_millis() -> i64 {
    Timestamp::now().as_millisecond() + AHEAD.load(Ordering::Relaxed) * 1000
}

/// Seconds with a fraction, the format of the JSON services.
#[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 are far below 2^53")]
pub(crate) fn epoch_seconds(millis: i64) -> serde_json::Value {
    serde_json::json!(millis as f64 / 1000.0)
}

/// `2026-11-22T10:14:19.155Z`, the format of the XML services.
pub(crate) fn iso8601(millis: i64) -> String {
    format_with(millis, "%Y-%m-%dT%H:%M:%S%.3fZ")
}

/// `Sun, 22 Nov 2026 10:14:19 GMT`, for HTTP headers.
pub(crate) fn http_date(millis: i64) -> String {
    format_with(millis, "%a, %d %b %Y %H:%M:%S GMT")
}

/// `20261122T101419Z`, the format of presigned URLs.
pub(crate) fn compact(millis: i64) -> String {
    format_with(millis, "%Y%m%dT%H%M%SZ")
}

fn format_with(millis: i64, format: &str) -> String {
    let moment = Timestamp::from_millisecond(millis).unwrap_or(Timestamp::UNIX_EPOCH);
    moment.to_zoned(TimeZone::UTC).strftime(format).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_awss_format() {
        let millis = 1_795_342_459_155;
        assert_eq!(iso8601(millis), "2026-11-22T10:14:19.155Z");
        assert_eq!(http_date(millis), "Sun, 22 Nov 2026 10:14:19 GMT");
        assert_eq!(compact(millis), "20261122T101419Z");
        assert_eq!(epoch_seconds(millis).to_string(), "1795342459.155");
    }
}
