//! Finds newer tags in a repository. Tags of images are not semantic versions, so they are compared by their form.
//!
//! Two tags are compared if they have the same form: the same letters before the number (`v`), as many numbers with the same
//! separators, and the same variant at the end (`-alpine`). `7.0.12-alpine3.18` is followed by `7.0.13-alpine3.19`, not by `7.0.13`
//! or `7.1`. Pre-releases (`-rc1`, `-beta.2`) are only offered for tags that are pre-releases themselves.

use std::cmp::Ordering;

/// Words for pre-releases, as publishers of images write them.
const BEFORE: [&str; 10] =
    ["alpha", "beta", "rc", "pre", "preview", "dev", "snapshot", "nightly", "canary", "m"];
/// First numbers from this one on are years.
const YEARS: u64 = 1000;

/// A tag with a version in it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Version {
    /// The tag with `#` for each number. Comparable tags have the same form.
    form: String,
    /// The version's own numbers.
    numbers: Vec<u64>,
    /// The position before the release: the rank of the word and the numbers after it. `None` for a release.
    before: Option<(usize, Vec<u64>)>,
    /// The variant's numbers.
    variant: Vec<u64>,
}

/// The tags that are newer than a tag.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Newer {
    /// All newer tags, the newest last.
    pub tags: Vec<String>,
    /// The newest one with the same first number, which can be expected to work without changes.
    pub compatible: Option<String>,
}

impl Newer {
    /// The newest tag.
    pub fn newest(&self) -> Option<&str> {
        self.tags.last().map(String::as_str)
    }
}

/// The `tags` that are newer than `tag`. `None` if it contains no version, such as `latest`.
pub fn newer<'t>(tag: &str, tags: impl IntoIterator<Item = &'t str>) -> Option<Newer> {
    let own = Version::parse(tag)?;
    let mut found: Vec<(Version, &str)> = tags
        .into_iter()
        .filter_map(|tag| Some((Version::parse(tag)?, tag)))
        .filter(|(version, _)| version.follows(&own))
        .collect();
    found.sort_by(|(a, _), (b, _)| a.order(b));
    let compatible = found.iter().rev().find(|(version, _)| version.numbers.first() == own.numbers.first());
    let compatible = compatible.map(|(_, tag)| (*tag).to_owned());
    Some(Newer { tags: found.into_iter().map(|(_, tag)| tag.to_owned()).collect(), compatible })
}

impl Version {
    fn parse(tag: &str) -> Option<Self> {
        let start = tag.find(|c: char| c.is_ascii_digit())?;
        // `v1` and `1`, or a word and a separator before the number: not a digest, and not a word that contains a number.
        let prefix = &tag[..start];
        if !(prefix.is_empty() || prefix == "v" || prefix.ends_with(['-', '_'])) {
            return None;
        }
        let rest = &tag[start..];
        let mut end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        if let Some(day) = day(rest) {
            end = day;
        }
        let (own, rest) = rest.split_at(end);
        let own = own.trim_end_matches('.');
        let numbers = numbers(own)?;
        let (mut form, mut variant, mut before) = (format!("{prefix}{}", shape(own)), Vec::new(), None);
        for word in rest.split(['-', '_', '+']).filter(|word| !word.is_empty()) {
            match before_release(word) {
                Some(found) if before.is_none() => before = Some(found),
                // `-rc.1` is one word, `-rc-1` are two.
                _ if before.as_ref().is_some_and(|(_, numbers): &(usize, Vec<u64>)| numbers.is_empty())
                    && word.bytes().all(|c| c.is_ascii_digit()) =>
                {
                    before = before.zip(self::numbers(word)).map(|((rank, _), numbers)| (rank, numbers));
                }
                _ => {
                    form += &format!("-{}", shape(word));
                    variant.extend(self::numbers(word)?);
                }
            }
        }
        Some(Self { form, numbers, before, variant })
    }

    /// Whether it may replace `own`.
    fn follows(&self, own: &Self) -> bool {
        let year = |version: &Self| version.numbers.first().is_some_and(|first| *first >= YEARS);
        self.form == own.form
            && self.numbers.len() == own.numbers.len()
            && year(self) == year(own)
            && (self.before.is_none() || own.before.is_some())
            && self.order(own) == Ordering::Greater
    }

    fn order(&self, other: &Self) -> Ordering {
        let before = match (&self.before, &other.before) {
            (None, None) => Ordering::Equal,
            (None, Some(_)) => Ordering::Greater,
            (Some(_), None) => Ordering::Less,
            (Some(own), Some(other)) => own.cmp(other),
        };
        self.numbers.cmp(&other.numbers).then(before).then_with(|| self.variant.cmp(&other.variant))
    }
}

/// The length of `2026-11-27` at the beginning of `text`.
fn day(text: &str) -> Option<usize> {
    let found = text.get(..10)?.as_bytes();
    let is_day = found.iter().enumerate().all(|(at, c)| match at {
        4 | 7 => *c == b'-',
        _ => c.is_ascii_digit(),
    });
    let ends = text.as_bytes().get(10).is_none_or(|c| !c.is_ascii_digit());
    (is_day && ends).then_some(10)
}

/// The text with `#` for every run of digits.
fn shape(text: &str) -> String {
    let mut shape = String::new();
    for c in text.chars() {
        match c {
            '0'..='9' if shape.ends_with('#') => {}
            '0'..='9' => shape.push('#'),
            other => shape.push(other),
        }
    }
    shape
}

/// The numbers in `text`. `None` if one of them is too long.
fn numbers(text: &str) -> Option<Vec<u64>> {
    let runs = text.split(|c: char| !c.is_ascii_digit()).filter(|run| !run.is_empty());
    runs.map(|run| run.parse().ok()).collect()
}

/// `rc1`, `beta.2`: the rank of the word, and its numbers.
fn before_release(word: &str) -> Option<(usize, Vec<u64>)> {
    let letters = word.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    let rank = |known: &str| match known {
        "dev" | "snapshot" | "nightly" | "canary" => 0,
        "alpha" => 1,
        "beta" | "m" => 2,
        "pre" | "preview" => 3,
        _ => 4,
    };
    let known = BEFORE.iter().find(|known| letters.eq_ignore_ascii_case(known))?;
    Some((rank(known), numbers(word)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The newer ones of `tags`, the newest last.
    fn of(tag: &str, tags: &[&str]) -> Vec<String> {
        newer(tag, tags.iter().copied()).unwrap().tags
    }

    #[test]
    fn tags_of_the_same_form_are_compared_by_their_numbers() {
        for (tag, tags, wanted) in [
            (
                "v1.2.3",
                &["v1.10.0", "v1.2.4", "1.9.0", "v1.2", "v1.2.3", "v1.2.2"][..],
                &["v1.2.4", "v1.10.0"][..],
            ),
            ("1.2", &["1.3", "1.2.9", "2", "1.10", "1.2"], &["1.3", "1.10"]),
            ("7.0.12-alpine", &["7.0.13", "7.2.1-alpine", "7.2-alpine", "7.2.1-bookworm"], &["7.2.1-alpine"]),
            (
                "7.0.12-alpine3.18",
                &["7.0.12-alpine3.19", "7.0.13-alpine3.9", "7.0.13-alpine"],
                &["7.0.12-alpine3.19", "7.0.13-alpine3.9"],
            ),
            ("2023-01-01", &["2023-02-01", "2022-12-31", "20230301", "2023-01-01.1"], &["2023-02-01"]),
            ("20230101", &["20230301", "20221231", "latest"], &["20230301"]),
            ("2.11.2", &["2.12.0-rc1", "2.12.0", "sha-2bc41f", "latest", "main"], &["2.12.0"]),
            ("1.21.0", &["2023.01.01", "1.22.0"], &["1.22.0"]),
            (
                "2.1.0-debian-11-r12",
                &["2.1.0-debian-11-r13", "2.1.0-debian-12-r0", "2.2.0"],
                &["2.1.0-debian-11-r13", "2.1.0-debian-12-r0"],
            ),
            ("3.12", &["3.13", "3.14.0rc1", "3.13-slim"], &["3.13"]),
            ("nonroot-1.2", &["nonroot-1.3", "1.4"], &["nonroot-1.3"]),
        ] {
            assert_eq!(of(tag, tags), wanted, "{tag}");
        }
    }

    #[test]
    fn a_prerelease_is_only_newer_for_a_prerelease_tag() {
        let tags = ["1.0.0-rc2", "1.0.0-rc10", "1.0.0", "1.0.0-beta.3", "1.1.0-alpha-1", "1.1.0-dev"];
        assert_eq!(
            of("1.0.0-rc1", &tags),
            ["1.0.0-rc2", "1.0.0-rc10", "1.0.0", "1.1.0-dev", "1.1.0-alpha-1"]
        );
        assert_eq!(of("0.9.0", &tags), ["1.0.0"]);
        assert_eq!(of("3.13.0rc1", &["3.13.0rc2", "3.13.0"]), ["3.13.0rc2", "3.13.0"]);
    }

    #[test]
    fn a_tag_without_a_version_has_no_newer_one() {
        for tag in ["latest", "stable", "al2", "sha256abc", "99999999999999999999999.1", ""] {
            assert_eq!(newer(tag, ["1.0", "2.0"]), None, "{tag}");
        }
    }

    #[test]
    fn the_newest_of_the_same_major_version_is_separate() {
        let found = newer("1.2.3", ["1.2.4", "1.9.0", "2.0.0"]).unwrap();
        assert_eq!((found.newest(), found.compatible.as_deref()), (Some("2.0.0"), Some("1.9.0")));
        let found = newer("2.0.0", ["1.2.4"]).unwrap();
        assert_eq!((found.newest(), found.compatible.as_deref()), (None, None));
    }
}
