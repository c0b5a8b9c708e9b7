//! How large the images are, and which layers they share: a bar for each image, made of its layers.

use std::collections::{HashMap, HashSet};

use crate::html::{Html, Percent, html};
use crate::{Image, Layer, Page, Section, units};

/// Most images in the picture: more bars than a page are hard to compare.
const DRAWN: usize = 40;
/// Shared layers with their own letter, colour and pattern. More colours are hard to distinguish.
const LETTERS: [&str; 8] = ["A", "B", "C", "D", "E", "F", "G", "H"];
/// Most images named for a shared layer.
const NAMED: usize = 6;
/// Parts narrower than this (percent) are drawn together with similar ones.
const NARROW: f64 = 0.35;
/// Parts wider than this (percent) have space for a letter, also on a phone.
const ROOM: f64 = 6.0;

/// An image with its layers.
struct Drawn<'a> {
    image: &'a Image,
    /// Each layer once.
    layers: Vec<&'a Layer>,
    size: u64,
}

/// The layers of all images.
struct All<'a> {
    images: Vec<Drawn<'a>>,
    /// Each layer once, by its digest, with the number of images that contain it.
    once: HashMap<&'a str, (usize, &'a Layer)>,
    /// Those with a letter, sorted by the size that sharing saves.
    lettered: Vec<&'a Layer>,
}

impl<'a> All<'a> {
    fn of(page: &'a Page) -> Self {
        let images = page.images.iter().filter_map(|image| {
            let mut seen = HashSet::new();
            let layers = image.layers.as_ref()?.iter();
            let layers: Vec<&Layer> = layers.filter(|layer| seen.insert(&layer.digest)).collect();
            let size = sum(layers.iter().copied());
            (size > 0).then_some(Drawn { image, layers, size })
        });
        let mut images: Vec<Drawn<'_>> = images.collect();
        images.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.image.name.cmp(&b.image.name)));
        let mut once: HashMap<&str, (usize, &Layer)> = HashMap::new();
        for layer in images.iter().flat_map(|drawn| drawn.layers.iter().copied()) {
            once.entry(&layer.digest).or_insert((0, layer)).0 += 1;
        }
        let mut shared: Vec<(u64, &Layer)> = once
            .values()
            .filter(|(uses, _)| *uses > 1)
            .map(|(uses, layer)| (layer.size.saturating_mul(*uses as u64 - 1), *layer))
            .collect();
        shared.sort_by(|(a, x), (b, y)| b.cmp(a).then_with(|| x.digest.cmp(&y.digest)));
        let lettered = shared.into_iter().take(LETTERS.len()).map(|(_, layer)| layer).collect();
        Self { images, once, lettered }
    }

    /// The number of images that contain a layer.
    fn uses(&self, layer: &Layer) -> usize {
        self.once.get(&*layer.digest).map_or(0, |(uses, _)| *uses)
    }

    /// The index of a layer's letter.
    fn letter(&self, layer: &Layer) -> Option<usize> {
        self.lettered.iter().position(|lettered| lettered.digest == layer.digest)
    }
}

fn sum<'a>(layers: impl Iterator<Item = &'a Layer>) -> u64 {
    layers.fold(0, |sum, layer| sum.saturating_add(layer.size))
}

/// The picture; `None` if no image's layers are known.
pub fn section(page: &Page) -> Option<Section> {
    let all = All::of(page);
    let largest = all.images.first()?.size;
    let rows: Vec<Html> = all.images.iter().take(DRAWN).map(|drawn| row(drawn, &all, largest)).collect();
    let drawn = (all.images.len() > DRAWN).then(|| {
        html! { " The ", DRAWN, " largest of ", units::count(all.images.len(), "image"), " are drawn." }
    });
    let unknown = page.images.len() - all.images.len();
    let unknown = (unknown > 0).then(|| {
        html! { " The layers of ", units::count(unknown, "image"), " were not read in this run." }
    });
    let body = html! {
        "<p>", summary(&all), drawn, unknown, "</p>\n", patterns(all.lettered.len()),
        "<ul class=\"bars\">", rows, "</ul>\n", legend(&all)
    };
    Some(Section { id: "layers", title: "Sizes and shared layers", body })
}

/// The picture's numbers as text.
fn summary(all: &All<'_>) -> String {
    let each = all.images.iter().fold(0_u64, |sum, drawn| sum.saturating_add(drawn.size));
    let total = sum(all.once.values().map(|(_, layer)| *layer));
    let shared = all.once.values().filter(|(uses, _)| *uses > 1).count();
    let images = units::count(all.images.len(), "image");
    if shared == 0 {
        return format!("{images}, {} of layers; none is shared by several.", units::bytes(each));
    }
    format!(
        "{images}, {} of layers. {} in more than one image: with each counted once, they are {}.",
        units::bytes(each),
        if shared == 1 { "1 layer is".to_owned() } else { format!("{shared} layers are") },
        units::bytes(total)
    )
}

/// A part of a bar.
struct Part<'a> {
    size: u64,
    /// The index of its letter.
    letter: Option<usize>,
    shared: bool,
    layers: Vec<&'a Layer>,
}

/// The layers of an image as drawn: shared ones first and in the same order everywhere, so that they are aligned.
fn parts<'a>(drawn: &Drawn<'a>, all: &All<'_>, largest: u64) -> Vec<Part<'a>> {
    let mut layers = drawn.layers.clone();
    layers.sort_by_key(|layer| {
        let letter = all.letter(layer).unwrap_or(LETTERS.len());
        (letter, all.uses(layer) < 2, std::cmp::Reverse(layer.size))
    });
    let mut parts: Vec<Part<'_>> = Vec::new();
    for layer in layers {
        let (letter, shared) = (all.letter(layer), all.uses(layer) > 1);
        let narrow = percent(layer.size, largest).0 < NARROW;
        match parts.last_mut() {
            Some(last) if letter.is_none() && last.letter.is_none() && last.shared == shared && narrow => {
                last.size = last.size.saturating_add(layer.size);
                last.layers.push(layer);
            }
            _ => parts.push(Part { size: layer.size, letter, shared, layers: vec![layer] }),
        }
    }
    parts
}

fn row(drawn: &Drawn<'_>, all: &All<'_>, largest: u64) -> Html {
    let parts = parts(drawn, all, largest);
    let mut at = 0_u64;
    let drawn_parts = parts.iter().map(|part| {
        let (begin, width) = (percent(at, largest), percent(part.size, largest));
        at = at.saturating_add(part.size);
        let fill = match (part.letter, part.shared) {
            (Some(letter), _) => html! { "url(#layer-", LETTERS[letter], ")" },
            (None, true) => html! { "url(#layer-shared)" },
            (None, false) => html! { "url(#layer-own)" },
        };
        let letter = part.letter.filter(|_| width.0 > ROOM).map(|letter| {
            let middle = Percent(begin.0 + width.0 / 2.0);
            html! { "<text class=\"on-", LETTERS[letter], "\" x=\"", middle, "\" y=\"15\">", LETTERS[letter], "</text>" }
        });
        html! {
            "<rect x=\"", begin, "\" width=\"", width, "\" height=\"20\" fill=\"", fill, "\"><title>",
            title(part, all), "</title></rect>", letter
        }
    });
    let drawn_parts: Vec<Html> = drawn_parts.collect();
    let size = units::bytes(drawn.size);
    let shared: Vec<&Part<'_>> = parts.iter().filter(|part| part.shared).collect();
    let letters: Vec<&str> = shared.iter().filter_map(|part| Some(LETTERS[part.letter?])).collect();
    let letters =
        if letters.is_empty() { String::new() } else { format!(", {} among them", letters.join(", ")) };
    let count: usize = shared.iter().map(|part| part.layers.len()).sum();
    let words = match count {
        0 => format!("{size} in {}, none shared", units::count(drawn.layers.len(), "layer")),
        _ => format!("{size} in {}, {count} shared{letters}", units::count(drawn.layers.len(), "layer")),
    };
    html! {
        "<li><span class=\"name\">", drawn.image.name, "</span><svg class=\"bar\" role=\"img\" aria-label=\"", words,
        "\" height=\"20\">", drawn_parts, "</svg><span class=\"value\">", size, "</span></li>\n"
    }
}

/// The tooltip of a part.
fn title(part: &Part<'_>, all: &All<'_>) -> String {
    let size = units::bytes(part.size);
    let [layer] = part.layers[..] else {
        let shared = if part.shared { "shared " } else { "" };
        return format!("{} {shared}layers, {size}", part.layers.len());
    };
    let uses = match all.uses(layer) {
        0 | 1 => "in this image alone".to_owned(),
        uses => format!("in {uses} images"),
    };
    let letter = part.letter.map_or_else(String::new, |letter| format!("{}: ", LETTERS[letter]));
    format!("{letter}{}, {size}, {uses}", layer.digest)
}

#[expect(clippy::cast_precision_loss, reason = "it is drawn")]
fn percent(part: u64, whole: u64) -> Percent {
    Percent(part as f64 * 100.0 / whole.max(1) as f64)
}

/// The patterns of layers: colour and pattern, so that they can be distinguished without colour.
fn patterns(letters: usize) -> Html {
    // In a square of 8 by 8.
    const MARKS: [&str; 8] = [
        "M0 8L8 0M-2 2L2 -2M6 10L10 6",
        "M0 0L8 8M-2 6L2 10M6 -2L10 2",
        "M4 0V8",
        "M0 4H8",
        "M4 4m-1.5 0a1.5 1.5 0 1 0 3 0a1.5 1.5 0 1 0 -3 0",
        "M0 4H8M4 0V8",
        "M0 0L8 8M0 8L8 0",
        "M0 2L4 6L8 2",
    ];
    let pattern = |name: &'static str, mark: &'static str| {
        html! {
            "<pattern id=\"layer-", name, "\" width=\"8\" height=\"8\" patternUnits=\"userSpaceOnUse\"><rect class=\"fill-",
            name, "\" width=\"8\" height=\"8\"/><path class=\"mark-", name, "\" d=\"", mark, "\"/></pattern>"
        }
    };
    let lettered: Vec<Html> =
        LETTERS.iter().zip(MARKS).take(letters).map(|(letter, mark)| pattern(letter, mark)).collect();
    html! {
        "<svg class=\"defs\" width=\"0\" height=\"0\" aria-hidden=\"true\"><defs>", lettered,
        pattern("shared", "M2 2h1M6 6h1"), pattern("own", ""), "</defs></svg>\n"
    }
}

/// The meaning of the letters, with the picture's content as text.
fn legend(all: &All<'_>) -> Option<Html> {
    if all.lettered.is_empty() {
        return None;
    }
    let key = |name: &'static str| {
        html! {
            "<svg class=\"key\" width=\"22\" height=\"16\" aria-hidden=\"true\"><rect width=\"22\" height=\"16\" ",
            "fill=\"url(#layer-", name, ")\"/></svg>"
        }
    };
    let rows = all.lettered.iter().enumerate().map(|(position, layer)| {
        let of = all.images.iter().filter(|drawn| drawn.layers.iter().any(|own| own.digest == layer.digest));
        let mut names: Vec<&str> = of.map(|drawn| drawn.image.name.as_str()).collect();
        let more = names.len().saturating_sub(NAMED);
        names.truncate(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        html! {
            "<tr><th scope=\"row\" class=\"letter\">", key(LETTERS[position]), " ", LETTERS[position], "</th><td class=\"layer\"><code>", layer.digest,
            "</code><span class=\"sub\">in ", all.uses(layer), " images: ", names.join(", "), more,
            "</span></td><td class=\"num\">", units::bytes(layer.size), "</td></tr>\n"
        }
    });
    let rows: Vec<Html> = rows.collect();
    let others = html! {
        "<p class=\"keys\"><span>", key("own"), " in one image alone</span> <span>", key("shared"),
        " shared, without a letter</span></p>\n"
    };
    Some(html! {
        others, "<table><caption>Shared layers that save most</caption><thead><tr><th scope=\"col\">Mark</th>",
        "<th scope=\"col\">Layer</th><th scope=\"col\" class=\"num\">Size</th></tr></thead>\n<tbody>", rows,
        "</tbody></table>\n"
    })
}
