//! Bases whose support has ended, from `deployment/image_repository/support.toml`.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use jiff::civil::Date;
use registry::Reference;
use serde::Deserialize;

/// The table, next to images.toml, edited by hand.
const TABLE: &str = include_str!("../../../deployment/image_repository/support.toml");

/// The line of one base.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    ended: String,
    #[serde(rename = "source")]
    _source: String,
}

/// The day on which a base's support ends, if the table has it. A base pinned by digest is looked up by its tag.
pub fn ends(base: &Reference) -> Option<Date> {
    static DAYS: OnceLock<BTreeMap<String, Date>> = OnceLock::new();
    let days = DAYS.get_or_init(days);
    let name = format!("{}/{}:{}", base.registry(), base.repository(), base.tag()?);
    days.get(&name).copied()
}

/// The end of support, if it is before `today`.
pub fn ended(base: &Reference, today: Date) -> Option<Date> {
    ends(base).filter(|day| *day < today)
}

/// Today, in UTC.
pub fn today() -> Date {
    jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date()
}

/// The days in the table. A line that cannot be read is skipped; a test reads them all.
fn days() -> BTreeMap<String, Date> {
    let lines: BTreeMap<String, Line> = toml::from_str(TABLE).unwrap_or_default();
    lines.into_iter().filter_map(|(base, line)| Some((base, line.ended.parse().ok()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_table_is_read() {
        let lines = TABLE.lines().filter(|line| line.starts_with('"')).count();
        assert_eq!((days().len(), days().len() > 3), (lines, true));
        let references = days().into_keys().map(|base| base.parse::<Reference>().unwrap().to_string());
        assert!(references.eq(days().into_keys()), "names are written in full");
    }

    #[test]
    fn a_base_is_unsupported_from_the_day_after_its_end() {
        let base: Reference = "public.ecr.aws/lambda/python:3.8".parse().unwrap();
        let day = |text: &str| text.parse::<Date>().unwrap();
        assert_eq!(ended(&base, day("2024-10-14")), None);
        assert_eq!(ended(&base, day("2024-10-15")), Some(day("2024-10-14")));
        let pinned = format!("{base}@sha256:{}", "a".repeat(64)).parse().unwrap();
        assert_eq!(ended(&pinned, day("2026-01-01")), Some(day("2024-10-14")));
        assert_eq!(ended(&base.with_tag("3.13").unwrap(), day("2026-01-01")), None);
    }
}
