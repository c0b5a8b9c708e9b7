//! The findings of the registry's scans.

use std::collections::BTreeMap;

use crate::html::{Html, Percent, html};
use crate::{Page, Scan, Section, units};

/// ECR's severities, the worst first (<https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_ImageScanFinding.html>), each with its
/// short form and its class.
const SEVERITIES: [(&str, &str, &str, &str); 5] = [
    ("CRITICAL", "critical", "Crit.", "critical"),
    ("HIGH", "high", "High", "high"),
    ("MEDIUM", "medium", "Med.", "medium"),
    ("LOW", "low", "Low", "low"),
    ("INFORMATIONAL", "informational", "Info", "info"),
];
/// Most images in the list.
const LISTED: usize = 100;

/// Counts in the order of [`SEVERITIES`], then of all other severities.
type Counts = [u64; 6];

fn counts(found: &BTreeMap<String, u64>) -> Counts {
    let mut counts = Counts::default();
    for (severity, count) in found {
        let known = SEVERITIES.iter().position(|(name, ..)| name == severity);
        let place = &mut counts[known.unwrap_or(SEVERITIES.len())];
        *place = place.saturating_add(*count);
    }
    counts
}

/// The findings; `None` if the registry does not scan.
pub fn section(page: &Page) -> Option<Section> {
    if !page.is_scanned || page.images.iter().all(|image| image.scan == Scan::NotAsked) {
        return None;
    }
    let mut scanned: Vec<(&str, Counts)> = Vec::new();
    let (mut not_scanned, mut unread): (Vec<&str>, BTreeMap<&str, usize>) = (Vec::new(), BTreeMap::new());
    for image in &page.images {
        match &image.scan {
            Scan::NotAsked => {}
            Scan::NotScanned => not_scanned.push(&image.name),
            Scan::Unread(why) => *unread.entry(why).or_default() += 1,
            Scan::Found(found) => scanned.push((&image.name, counts(found))),
        }
    }
    let mut total = Counts::default();
    for (place, count) in scanned.iter().flat_map(|(_, counts)| counts.iter().enumerate()) {
        total[place] = total[place].saturating_add(*count);
    }
    scanned.retain(|(_, counts)| counts.iter().any(|count| *count > 0));
    // The worst first.
    scanned.sort_by(|(a, x), (b, y)| y.cmp(x).then_with(|| a.cmp(b)));
    let unread: Vec<Html> = unread.iter().map(|(why, count)| {
        html! { "<p class=\"words error\">The scans of ", units::count(*count, "image"), " could not be read: ", *why, "</p>\n" }
    }).collect();
    let names = not_scanned.iter().take(LISTED).copied().collect::<Vec<_>>().join(", ");
    let more = not_scanned.len().saturating_sub(LISTED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let not_scanned = (!not_scanned.is_empty()).then(|| {
        html! {
            "<p>Not scanned, or the scan has not ended: ", names, more,
            ". `cargo xtask status` shows later what it found.</p>\n"
        }
    });
    let read = page.images.iter().filter(|image| matches!(image.scan, Scan::Found(_))).count();
    let picture = (read > 0).then(|| picture(&total, read));
    let body = html! { unread, picture, table(&scanned), not_scanned };
    Some(Section { id: "findings", title: "Findings of ECR's scans", body })
}

/// All findings as a bar and as text.
fn picture(total: &Counts, read: usize) -> Html {
    let all = total.iter().fold(0_u64, |sum, count| sum.saturating_add(*count));
    let kinds = SEVERITIES.iter().map(|(_, word, _, class)| (*word, *class)).chain([("other", "other")]);
    let kinds = kinds.zip(total).filter(|(_, count)| **count > 0);
    let words: Vec<String> = kinds.clone().map(|((word, _), count)| format!("{count} {word}")).collect();
    if words.is_empty() {
        return html! { "<p>No findings in ", units::count(read, "scanned image"), ".</p>\n" };
    }
    let mut at = 0.0;
    let parts = kinds.clone().map(|((word, class), count)| {
        #[expect(clippy::cast_precision_loss, reason = "it is drawn")]
        let width = 100.0 * *count as f64 / all.max(1) as f64;
        let begin = Percent(at);
        at += width;
        html! {
            "<rect class=\"severity-", class, "\" x=\"", begin, "\" width=\"", Percent(width), "\" height=\"20\"><title>",
            format!("{count} {word}"), "</title></rect>"
        }
    });
    let parts: Vec<Html> = parts.collect();
    let keys = kinds.map(|((word, class), count)| {
        html! {
            "<span><svg class=\"key\" width=\"16\" height=\"16\" aria-hidden=\"true\"><rect class=\"severity-", class,
            "\" width=\"16\" height=\"16\"/></svg> ", *count, " ", word, "</span> "
        }
    });
    let keys: Vec<Html> = keys.collect();
    html! {
        "<p>In ", units::count(read, "scanned image"), ":</p>\n<svg class=\"bar whole\" role=\"img\" aria-label=\"",
        words.join(", "), "\" height=\"20\">", parts, "</svg>\n<p class=\"keys\">", keys, "</p>\n"
    }
}

/// The images with findings.
fn table(found: &[(&str, Counts)]) -> Option<Html> {
    let has_other = found.iter().any(|(_, counts)| counts[SEVERITIES.len()] > 0);
    let heads = SEVERITIES.iter().map(|(_, word, short, _)| {
        html! { "<th scope=\"col\" class=\"num\"><abbr title=\"", *word, "\">", *short, "</abbr></th>" }
    });
    let other = has_other.then(|| html! { "<th scope=\"col\" class=\"num\">Other</th>" });
    let heads: Vec<Html> = heads.chain(other).collect();
    let rows = found.iter().take(LISTED).map(|(name, counts)| {
        let cells = counts.iter().take(if has_other { 6 } else { 5 });
        let cells = cells.map(|count| match count {
            0 => html! { "<td class=\"num none\">–</td>" },
            _ => html! { "<td class=\"num\">", *count, "</td>" },
        });
        let cells: Vec<Html> = cells.collect();
        html! { "<tr><th scope=\"row\">", *name, "</th>", cells, "</tr>\n" }
    });
    let rows: Vec<Html> = rows.collect();
    let limited = (found.len() > LISTED).then(|| {
        html! { "<p>The ", LISTED, " worst of ", found.len(), " are listed; `cargo xtask status` has all.</p>\n" }
    });
    (!rows.is_empty()).then(|| {
        html! {
            "<table class=\"counts\"><caption>Images with findings</caption><thead><tr><th scope=\"col\">Image</th>", heads,
            "</tr></thead>\n<tbody>", rows, "</tbody></table>\n", limited
        }
    })
}
