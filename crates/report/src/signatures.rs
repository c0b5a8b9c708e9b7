//! The signers of images, and their referrers.

use std::collections::BTreeMap;

use crate::html::{Html, html};
use crate::{Image, Page, Section, units};

/// The summary; `None` if no image has a signer or referrers.
pub fn section(page: &Page) -> Option<Section> {
    let mut signers: BTreeMap<&str, usize> = BTreeMap::new();
    for signer in page.images.iter().filter_map(|image| image.signed_by.as_deref()) {
        *signers.entry(signer).or_default() += 1;
    }
    let signed: usize = signers.values().sum();
    let rows = signers.iter().map(|(signer, count)| {
        html! { "<tr><th scope=\"row\">", signer, "</th><td class=\"num\">", *count, "</td></tr>\n" }
    });
    let rows: Vec<Html> = rows.collect();
    let signers = (signed > 0).then(|| {
        html! {
            "<p>Verified by [trust] of images.toml for exactly the digest that was taken:</p>\n<table><caption>Signed by",
            "</caption><thead><tr><th scope=\"col\">Who</th><th scope=\"col\" class=\"num\">Images</th></tr></thead>\n",
            "<tbody>", rows, "</tbody></table>\n"
        }
    });
    let referrers = referrers(page);
    if signers.is_none() && referrers.is_none() {
        return None;
    }
    Some(Section {
        id: "signatures",
        title: "Signatures and attestations",
        body: html! { signers, referrers },
    })
}

/// How many images have each kind of referrer.
fn referrers(page: &Page) -> Option<Html> {
    let row = |label: &'static str, runtime: bool| {
        let read = page.images.iter().filter(|image| image.is_runtime == runtime);
        let read: Vec<_> = read.filter_map(|image: &Image| image.referrers).collect();
        let count = |has: fn(&crate::Referrers) -> usize| {
            html! { "<td class=\"num\">", read.iter().filter(|referrers| has(referrers) > 0).count(), "</td>" }
        };
        (!read.is_empty()).then(|| {
            html! {
                "<tr><th scope=\"row\">", label, "</th><td class=\"num\">", read.len(), "</td>",
                count(|referrers| referrers.signatures), count(|referrers| referrers.sboms), count(|referrers| referrers.provenances),
                "</tr>\n"
            }
        })
    };
    let rows = [row("Images", false), row("Runtimes", true)];
    let any = rows.iter().any(Option::is_some);
    let read = page.images.iter().filter(|image| image.referrers.is_some()).count();
    any.then(|| {
        html! {
            "<table><caption>With artifacts beside them, of ", units::count(read, "image"), " that were asked about",
            "</caption><thead><tr><th scope=\"col\">Kind</th><th scope=\"col\" class=\"num\">Asked</th>",
            "<th scope=\"col\" class=\"num\">Signature</th><th scope=\"col\" class=\"num\">SBOM</th>",
            "<th scope=\"col\" class=\"num\"><abbr title=\"Provenance\">Prov.</abbr></th></tr></thead>\n<tbody>",
            rows.as_slice(), "</tbody></table>\n"
        }
    })
}
