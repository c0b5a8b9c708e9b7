//! The waits that servers ask for, and dates in headers.

use std::time::{Duration, SystemTime};

/// `Retry-After`: seconds, or a date
/// ([RFC 9110](https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3)).
pub(super) fn wait(value: &str) -> Option<Duration> {
    match value.trim().parse::<u64>() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => {
            let date = httpdate(value.trim())?;
            Some(date.duration_since(SystemTime::now()).unwrap_or_default())
        }
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`, the one form that servers still send.
pub(crate) fn httpdate(text: &str) -> Option<SystemTime> {
    let mut parts = text.split_once(", ")?.1.split(' ');
    let day: u64 = parts.next()?.parse().ok()?;
    let name = parts.next()?;
    let names = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = names.iter().position(|month| *month == name)? as u64 + 1;
    let year: u64 = parts.next()?.parse().ok()?;
    let clock: Vec<u64> = parts.next()?.split(':').filter_map(|part| part.parse().ok()).collect();
    let &[hour, minute, second] = clock.as_slice() else { return None };
    if !(1970..=9999).contains(&year) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// Days from 1970-01-01, the year counted from March so that the leap day comes last.
fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year / 4 - year / 100 + year / 400;
    year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(wait("7"), Some(Duration::from_secs(7)));
        assert_eq!(wait("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        let date = httpdate("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(date.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs(), 784_111_777);
        let leap = httpdate("Thu, 29 Feb 2024 00:00:00 GMT").unwrap();
        assert_eq!(leap.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs(), 1_709_164_800);
        assert_eq!(wait("18446744073709551616"), None);
        for text in ["", "soon", "Sun, 99 Nov 1994 08:49:37 GMT", "Sun, 06 Foo 1994 08:49:37 GMT", "-1"] {
            assert_eq!(wait(text), None, "{text}");
        }
    }

    #[test]
    fn fuzz_any_retry_after_is_a_representable_duration() {
        let policy = crate::RetryPolicy::default();
        crate::fuzz::each("waits", |input| {
            let Some(wait) = std::str::from_utf8(input).ok().and_then(wait) else { return false };
            let kind = ErrorKind::TooManyRequests { retry_after: Some(wait), message: String::new() };
            let pause = policy.pause(1, &crate::Error::new("r", "r", kind), 0.5);
            assert!(pause.is_none_or(|pause| pause < policy.max_wait * 2));
            true
        });
    }
}
