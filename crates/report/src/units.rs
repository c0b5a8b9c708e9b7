//! Sizes and times for display.

use std::time::Duration;

/// Bytes in the binary unit that gives one to three digits: `194.0 MiB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
    let mut value = count as f64;
    while value >= 1024.0 && unit < UNITS.len() - 1 {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// A duration: `0.4 s`, `12 s`, `3 min 5 s`, `6 h 0 min`.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..=9 => format!("{:.1} s", time.as_secs_f64()),
        10..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
    }
}

/// The time that something takes, to the second: `4 s`, `3 min 5 s`, `6 h 0 min`.
pub fn about(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds < 10 { format!("{seconds} s") } else { duration(time) }
}

/// The age of something, in its largest unit.
pub fn age(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// `1 image`, `2 images`.
pub fn count(number: usize, noun: &str) -> String {
    match (number, noun.strip_suffix('y')) {
        (1, _) => format!("1 {noun}"),
        (_, Some(stem)) => format!("{number} {stem}ies"),
        _ => format!("{number} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_units() {
        assert_eq!(bytes(512), "512 B");
        assert_eq!(bytes(203_423_744), "194.0 MiB");
        assert_eq!(duration(Duration::from_millis(420)), "0.4 s");
        assert_eq!(duration(Duration::from_secs(185)), "3 min 5 s");
        assert_eq!(duration(Duration::from_secs(7_199)), "119 min 59 s");
        assert_eq!(duration(Duration::from_secs(7_200)), "2 h 0 min");
        assert_eq!(duration(Duration::from_secs(6 * 3_600 + 299)), "6 h 4 min");
        assert_eq!(about(Duration::from_millis(4_900)), "4 s");
        assert_eq!(age(Duration::from_secs(3 * 86_400)), "3 d");
        assert_eq!(
            (count(1, "image"), count(11, "repository")),
            ("1 image".into(), "11 repositories".into())
        );
    }
}
