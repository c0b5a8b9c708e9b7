//! A run of transfer-images as one page of HTML: data in, text out.
//!
//! The page is self-contained, without scripts, fonts or pictures from elsewhere, and its policy allows none. External text (names,
//! reasons, errors) is always escaped: [`html`] distinguishes it from markup by type.

mod data;
mod findings;
mod head;
mod html;
mod images;
mod layers;
mod signatures;
mod timeline;
pub mod units;

pub use data::{Ending, Failure, Image, Layer, Page, Referrers, Scan, Span, State};

use html::{Html, html};

/// The page's style.
const STYLE: &str = include_str!("style.css");
/// The digest of [`STYLE`], with which the page's policy allows only this style (<https://www.w3.org/TR/CSP3/#grammardef-hash-source>).
const STYLE_DIGEST: &str = "sha256-RMswatIfyl/hRc0qoOzAINjjubeIZYvtZt2GXw8Ybv4=";

/// The page.
pub fn render(page: &Page) -> String {
    let sections = [
        images::section(page),
        layers::section(page),
        timeline::section(page),
        signatures::section(page),
        findings::section(page),
        head::resources(page),
        head::notes(page),
    ];
    let sections: Vec<Section> = sections.into_iter().flatten().collect();
    let links = sections.iter().map(|section| {
        html! { "<li><a href=\"#", section.id, "\">", section.title, "</a></li>" }
    });
    let links: Vec<Html> = links.collect();
    let bodies = sections.iter().map(|section| {
        html! {
            "<section id=\"", section.id, "\" aria-labelledby=\"", section.id, "-title\"><h2 id=\"", section.id,
            "-title\">", section.title, "</h2>\n", section.body, "</section>\n"
        }
    });
    let bodies: Vec<Html> = bodies.collect();
    let title = head::title(page);
    html! {
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src '", STYLE_DIGEST,
        "'; base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<meta name=\"referrer\" content=\"no-referrer\">\n\
         <meta name=\"generator\" content=\"cargo xtask ", page.version, "\">\n<title>", title, "</title>\n<style>",
        style(), "</style>\n</head>\n<body>\n", head::header(page),
        "<nav aria-label=\"Sections\"><ul>", links, "</ul></nav>\n<main>\n", head::failure(page), bodies,
        "</main>\n", head::footer(page), "</body>\n</html>\n"
    }
    .into_string()
}

/// The style unescaped: it is this crate's own.
fn style() -> Html {
    let mut style = Html::default();
    style.markup(STYLE);
    style
}

/// A part of the page with its own title.
struct Section {
    id: &'static str,
    title: &'static str,
    body: Html,
}

#[cfg(test)]
mod tests;
