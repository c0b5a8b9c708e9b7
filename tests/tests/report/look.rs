//! The page in a browser: on a telephone and on a desktop, light and dark, and on paper. `REPORT_PICTURES=DIR` keeps the pictures.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use e2e::Browser;
use serde_json::{Value, json};

use super::sample;

/// Everything that is wider than the window, and every text with too little contrast
/// (<https://www.w3.org/TR/WCAG22/#contrast-minimum>): the text's colour against its background.
const CHECK: &str = r#"(() => {
    const channel = c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
    const colour = text => (text.match(/[\d.]+/g) || [0, 0, 0, 0]).map(Number);
    const opaque = ([r, g, b, a]) => a === undefined || a === 1;
    const behind = element => {
        for (let at = element; at; at = at.parentElement) {
            const style = getComputedStyle(at);
            // Letters in pictures have an outline in the colour of their background.
            if (at === element && at.namespaceURI.endsWith('svg') && style.stroke !== 'none') return colour(style.stroke);
            const back = colour(style.backgroundColor);
            if (style.backgroundColor !== 'rgba(0, 0, 0, 0)' && opaque(back)) return back;
        }
        return [255, 255, 255];
    };
    const faint = [], wide = [];
    let texts = 0, least = 99;
    for (const element of document.body.querySelectorAll('*')) {
        const box = element.getBoundingClientRect();
        const inPicture = element.closest('svg') && element.tagName !== 'svg';
        if (box.width && !inPicture && (box.right > innerWidth + 0.5 || box.left < -0.5)) wide.push(element.outerHTML.slice(0, 120));
        const own = [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
        if (!own || !box.width || element.tagName === 'title') continue;
        const style = getComputedStyle(element);
        const svg = element.namespaceURI.endsWith('svg');
        const [a, b] = [luminance(colour(svg ? style.fill : style.color)), luminance(behind(element))];
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        texts += 1;
        least = Math.min(least, ratio);
        if (ratio < 4.5) faint.push(`${ratio.toFixed(2)} ${element.outerHTML.slice(0, 120)}`);
    }
    const page = document.documentElement;
    return { wide, faint, texts, least, overflow: page.scrollWidth - page.clientWidth, scripts: document.scripts.length };
})()"#;

/// Items without a name for screen readers, items with two names, and tables without headings.
const NAMES: &str = r##"(() => {
    const missing = [];
    for (const picture of document.querySelectorAll('svg:not([aria-hidden])')) {
        if (!picture.closest('[aria-hidden]') && !(picture.getAttribute('role') === 'img' && picture.getAttribute('aria-label'))) missing.push(picture.outerHTML.slice(0, 120));
    }
    for (const table of document.querySelectorAll('table')) {
        const rows = [...table.tBodies[0].rows];
        if (!table.caption || !table.tHead || rows.some(row => row.cells[0].scope !== 'row')) missing.push(table.outerHTML.slice(0, 120));
        const columns = table.tHead.rows[0].cells.length;
        if (rows.some(row => row.cells.length !== columns)) missing.push('cells of ' + table.caption.textContent);
    }
    const ids = [...document.querySelectorAll('[id]')].map(element => element.id);
    const twice = ids.filter((id, at) => ids.indexOf(id) !== at);
    const broken = [...document.querySelectorAll('a[href^="#"], [aria-labelledby], rect[fill^="url"]')].map(element =>
        element.getAttribute('aria-labelledby') || (element.getAttribute('href') || element.getAttribute('fill').slice(4, -1)).slice(1));
    const landmarks = ['header', 'nav', 'main', 'footer', 'h1'].map(name => document.querySelectorAll(name).length);
    return { missing, twice, broken: broken.filter(id => !document.getElementById(id)), landmarks, lang: document.documentElement.lang };
})()"##;

/// The number of colours of a picture, and the luminance of the most frequent one.
const PICTURE: &str = r#"(async () => {
    const image = new Image();
    image.src = 'data:image/png;base64,PNG';
    await image.decode();
    const canvas = new OffscreenCanvas(image.width, image.height);
    const context = canvas.getContext('2d');
    context.drawImage(image, 0, 0);
    const pixels = new Uint32Array(context.getImageData(0, 0, image.width, image.height).data.buffer);
    const counts = new Map();
    for (const pixel of pixels) counts.set(pixel, (counts.get(pixel) || 0) + 1);
    const [most, count] = [...counts].reduce((a, b) => (a[1] >= b[1] ? a : b));
    const bytes = [most & 255, most >> 8 & 255, most >> 16 & 255];
    return { width: image.width, height: image.height, colours: counts.size, share: count / pixels.length, light: Math.max(...bytes) / 255 };
})()"#;

fn is_clean(check: &Value, what: &str) {
    assert_eq!((&check["overflow"], &check["wide"]), (&json!(0), &json!([])), "{what}: {check}");
    assert_eq!(check["faint"], json!([]), "{what}: {check}");
    assert!(check["texts"].as_u64().unwrap() > 50, "{what}: {check}");
    assert_eq!(check["scripts"], 0, "{what}");
}

#[test]
fn the_page_fits_and_is_readable_on_every_screen_and_in_both_schemes() {
    let Some(mut browser) = Browser::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut pictures = Vec::new();
    for (name, page) in [("done", sample::page()), ("interrupted", sample::interrupted())] {
        let file = dir.path().join("page.html");
        std::fs::write(&file, report::render(&page)).unwrap();
        browser.open_file(&file);
        for width in [360, 1280] {
            for scheme in ["light", "dark"] {
                browser.look(width, scheme, "screen");
                let what = format!("{name}-{width}-{scheme}");
                is_clean(&browser.evaluate(CHECK), &what);
                pictures.push((what, scheme, browser.screenshot()));
            }
        }
        // On paper it is dark on light, whatever the screen's scheme is.
        browser.look(720, "dark", "print");
        is_clean(&browser.evaluate(CHECK), "print");
        pictures.push((format!("{name}-print"), "light", browser.screenshot()));
        let names = browser.evaluate(NAMES);
        for kind in ["missing", "twice", "broken"] {
            assert_eq!(names[kind], json!([]), "{names}");
        }
        assert_eq!((&names["landmarks"], &names["lang"]), (&json!([1, 1, 1, 1, 1]), &json!("en")));
    }
    browser.open("about:blank");
    for (what, scheme, picture) in pictures {
        if let Some(kept) = std::env::var_os("REPORT_PICTURES") {
            let bytes = BASE64_STANDARD.decode(&picture).unwrap();
            std::fs::write(std::path::Path::new(&kept).join(format!("{what}.png")), bytes).unwrap();
        }
        let seen = browser.evaluate(&PICTURE.replace("PNG", &picture));
        let number = |name: &str| seen[name].as_f64().unwrap();
        assert!(number("colours") > 100.0 && number("share") < 0.95, "{what}: {seen}");
        assert!(number("height") > 1_500.0, "{what}: {seen}");
        let is_right = if scheme == "dark" { number("light") < 0.25 } else { number("light") > 0.9 };
        assert!(is_right, "{what}: {seen}");
    }
}
