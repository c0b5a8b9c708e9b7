//! What was done for each image and runtime, and why.

use crate::html::{Html, html};
use crate::{Ending, Image, Page, Referrers, Section, State, units};

/// The tables.
pub fn section(page: &Page) -> Option<Section> {
    if page.images.is_empty() {
        return None;
    }
    let title = if page.ending == Ending::Plan { "What would be done" } else { "What was done" };
    let (up_to_date, changed): (Vec<&Image>, Vec<&Image>) =
        page.images.iter().partition(|image| image.state == State::UpToDate);
    let table = |caption: &'static str, images: &[&Image]| {
        let rows: Vec<Html> = images.iter().map(|image| row(image)).collect();
        let sent = if page.ending == Ending::Plan { "At most" } else { "Sent" };
        (!rows.is_empty()).then(|| {
            html! {
                "<table class=\"rows\" role=\"table\"><caption>", caption, "</caption><thead><tr><th scope=\"col\">Image</th><th scope=\"col\">",
                "Result</th><th scope=\"col\" class=\"num\">", sent, "</th></tr></thead>\n<tbody>", rows,
                "</tbody></table>\n"
            }
        })
    };
    let of = |runtime: bool| -> Vec<&Image> {
        changed.iter().copied().filter(|image| image.is_runtime == runtime).collect()
    };
    // Users look for changes first.
    let rest = table("Up to date", &up_to_date).map(|table| {
        let count = units::count(up_to_date.len(), "image");
        let open = if changed.is_empty() && up_to_date.len() < 50 { " open" } else { "" };
        html! { "<details", open, "><summary>", count, " up to date</summary>", table, "</details>\n" }
    });
    let body = html! { table("Images", &of(false)), table("Runtimes", &of(true)), rest };
    Some(Section { id: "images", title, body })
}

fn row(image: &Image) -> Html {
    let from = (!image.from.is_empty()).then(|| {
        let label = if image.is_runtime { "on " } else { "from " };
        html! { "<span class=\"sub\">", label, image.from, "</span>" }
    });
    let why = (!image.why.is_empty()).then(|| html! { "<span class=\"sub\">", image.why, "</span>" });
    let digest = image.digest.as_ref().map(|digest| html! { "<code>", digest, "</code>" });
    let error = image.error.as_ref().map(|error| html! { "<span class=\"words error\">", error, "</span>" });
    let referrers = referrers(image).map(|referrers| html! { "<span class=\"sub\">", referrers, "</span>" });
    let took = image.span.and_then(|span| Some(span.end?.saturating_sub(span.begin)));
    let took = took.map(|took| html! { "<span class=\"sub\">", units::duration(took), "</span>" });
    let sent = if image.sent == 0 { "–".to_owned() } else { units::bytes(image.sent) };
    html! {
        "<tr role=\"row\"><th scope=\"row\">", image.name, from, why, digest, referrers, error, "</th><td>", chip(image), took,
        "</td><td class=\"num\">", sent, "</td></tr>\n"
    }
}

/// The result: a word, a sign and a colour.
fn chip(image: &Image) -> Html {
    let (class, mark) = match image.state {
        State::Done => ("ok", "✓"),
        State::UpToDate => ("same", "="),
        State::Planned => ("plan", "→"),
        State::Failed => ("bad", "✗"),
        State::Unfinished => ("warn", "!"),
        State::NotBegun => ("warn", "–"),
    };
    html! {
        "<span class=\"chip ", class, "\"><span aria-hidden=\"true\">", mark, "</span> ", image.result, "</span>"
    }
}

/// Who signed it, and its referrers.
fn referrers(image: &Image) -> Option<String> {
    let signed = image.signed_by.as_ref().map(|signer| format!("signed by {signer}"));
    let referrers = image.referrers.and_then(words);
    let words: Vec<String> = signed.into_iter().chain(referrers).collect();
    (!words.is_empty()).then(|| words.join("; "))
}

/// `1 SBOM, 2 signatures`; `None` without referrers.
fn words(referrers: Referrers) -> Option<String> {
    let Referrers { signatures, sboms, provenances, others } = referrers;
    let all =
        [(signatures, "signature"), (sboms, "SBOM"), (provenances, "provenance"), (others, "other artifact")];
    let all = all.into_iter().filter(|(count, _)| *count > 0).map(|(count, noun)| units::count(count, noun));
    let all: Vec<String> = all.collect();
    (!all.is_empty()).then(|| format!("beside it: {}", all.join(", ")))
}
