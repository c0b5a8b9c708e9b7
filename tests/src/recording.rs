//! Records a terminal's screens, and writes them as an animated SVG file.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use crate::Terminal;

/// Width of a character and height of a line, in the picture's units.
const CELL: (f64, f64) = (8.0, 18.0);
/// Margin around the text, in the picture's units.
const MARGIN: f64 = 14.0;
/// Interval between screens.
const LOOK: Duration = Duration::from_millis(100);
/// Longest time that a screen is shown: readers should not wait while nothing happens.
const PAUSE: Duration = Duration::from_millis(1500);

/// A terminal's screens from start to end.
#[derive(Debug)]
pub struct Recording {
    columns: u16,
    rows: u16,
    /// Each screen that differs from the one before, with colours, and how long it was shown.
    screens: Vec<(String, Duration)>,
}

/// A part of a line in one colour.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Piece {
    column: usize,
    class: String,
    text: String,
}

impl Recording {
    /// An empty recording of a terminal of this size.
    pub fn new(columns: u16, rows: u16) -> Self {
        Self { columns, rows, screens: Vec::new() }
    }

    /// Records `terminal` until `is_over` returns true for its screen.
    ///
    /// # Panics
    /// This does not happen within `bound`.
    pub fn watch(&mut self, terminal: &Terminal, bound: Duration, is_over: impl Fn(&str) -> bool) {
        let begun = Instant::now();
        let mut last = begun;
        loop {
            // The plain screen first: then the recorded one includes everything in it.
            let (plain, screen) = (terminal.screen(), terminal.coloured());
            let now = Instant::now();
            if let Some((_, stayed)) = self.screens.last_mut() {
                *stayed = (*stayed + (now - last)).min(PAUSE.max(*stayed));
            }
            last = now;
            if self.screens.last().is_none_or(|(last, _)| *last != screen) {
                self.screens.push((screen, Duration::ZERO));
            }
            if is_over(&plain) {
                return;
            }
            assert!(begun.elapsed() < bound, "still waiting at\n{plain}");
            std::thread::sleep(LOOK);
        }
    }

    /// Shows the last screen longer, so that it can be read.
    pub fn rest(&mut self, time: Duration) {
        if let Some((_, stayed)) = self.screens.last_mut() {
            *stayed += time;
        }
    }

    /// The picture: it plays once and keeps the last screen, which readers with reduced motion see from the start. `about` is its
    /// description for screen readers; `words` is the last screen as text.
    pub fn svg(&self, about: &str, words: &str) -> String {
        let (width, height) =
            (f64::from(self.columns) * CELL.0 + 2.0 * MARGIN, f64::from(self.rows) * CELL.1 + 2.0 * MARGIN);
        let mut known: BTreeMap<Vec<Piece>, usize> = BTreeMap::new();
        let (mut lines, mut frames, mut steps) = (String::new(), String::new(), String::new());
        let total: f64 = self.screens.iter().map(|(_, stayed)| stayed.as_secs_f64()).sum::<f64>().max(0.1);
        let mut at = 0.0;
        for (number, (screen, stayed)) in self.screens.iter().enumerate() {
            let left = f64::from(u32::try_from(number).unwrap()) * width;
            let _ = writeln!(steps, "{:.3}% {{ transform: translateX({:.0}px) }}", at / total * 100.0, -left);
            at += stayed.as_secs_f64();
            let _ = write!(frames, "<g transform=\"translate({left:.0})\">");
            for (row, line) in screen.lines().enumerate() {
                let pieces = pieces(line);
                if pieces.is_empty() {
                    continue;
                }
                let next = known.len();
                let id = *known.entry(pieces.clone()).or_insert_with(|| {
                    let _ = writeln!(lines, "<g id=\"l{next}\">{}</g>", drawn(&pieces));
                    next
                });
                let top = f64::from(u32::try_from(row).unwrap()) * CELL.1;
                let _ = write!(frames, "<use href=\"#l{id}\" y=\"{top}\"/>");
            }
            frames.push_str("</g>\n");
        }
        let last = f64::from(u32::try_from(self.screens.len().saturating_sub(1)).unwrap()) * -width;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"img\" \
             aria-labelledby=\"title words\">\n<title id=\"title\">{}</title>\n<desc id=\"words\">\n{}\n</desc>\n<style>\n\
             text {{ font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace; fill: #d1d7e0; \
             white-space: pre }}\n\
             .bold {{ font-weight: 700 }} .dim {{ fill: #9198a1 }}\n\
             .red {{ fill: #ff7b72 }} .green {{ fill: #7ee787 }} .yellow {{ fill: #e3b341 }} .cyan {{ fill: #76e3ea }}\n\
             #screens {{ transform: translateX({last:.0}px) }}\n\
             @media (prefers-reduced-motion: no-preference) {{\n\
             #screens {{ animation: screens {total:.2}s step-end 1 forwards }}\n}}\n\
             @keyframes screens {{\n{steps}100% {{ transform: translateX({last:.0}px) }}\n}}\n</style>\n\
             <rect width=\"{width}\" height=\"{height}\" rx=\"8\" fill=\"#151b23\"/>\n<defs>\n{lines}</defs>\n\
             <svg x=\"{MARGIN}\" y=\"{MARGIN}\" width=\"{}\" height=\"{}\">\n<g id=\"screens\">\n{frames}</g>\n</svg>\n</svg>\n",
            escaped(about),
            escaped(words),
            width - 2.0 * MARGIN,
            height - 2.0 * MARGIN,
        )
    }
}

/// A line as text elements, each with the terminal's width, whatever the reader's font is.
fn drawn(pieces: &[Piece]) -> String {
    let mut drawn = String::new();
    for piece in pieces {
        let count = f64::from(u32::try_from(piece.text.chars().count()).unwrap());
        let left = f64::from(u32::try_from(piece.column).unwrap()) * CELL.0;
        let class = match piece.class.as_str() {
            "" => String::new(),
            class => format!(" class=\"{class}\""),
        };
        let _ = write!(
            drawn,
            "<text x=\"{left}\" y=\"14\" textLength=\"{}\"{class}>{}</text>",
            count * CELL.0,
            escaped(&piece.text)
        );
    }
    drawn
}

/// The parts of a line with their positions and colours. The escape sequences are tmux's (`capture-pane -e`), which only uses SGR.
fn pieces(line: &str) -> Vec<Piece> {
    let (mut pieces, mut piece, mut column) = (Vec::new(), Piece::default(), 0);
    let mut style: Vec<&str> = Vec::new();
    let mut rest = line;
    while let Some(next) = rest.chars().next() {
        if let Some(sequence) = rest.strip_prefix("\u{1b}[") {
            let end = sequence.find('m').expect("a sequence that ends");
            for code in sequence[..end].split(';') {
                match code {
                    "" | "0" => style.clear(),
                    "1" => style.push("bold"),
                    "2" => style.push("dim"),
                    "31" | "91" => style.push("red"),
                    "32" | "92" => style.push("green"),
                    "33" | "93" => style.push("yellow"),
                    "36" | "96" => style.push("cyan"),
                    "49" => {} // The default background.
                    "39" => style.retain(|class| ["bold", "dim"].contains(class)),
                    other => panic!("what looks like {other:?} in {line:?}?"),
                }
            }
            pieces.push(std::mem::replace(
                &mut piece,
                Piece { column, class: style.join(" "), text: String::new() },
            ));
            rest = &sequence[end + 1..];
            continue;
        }
        // Text after several spaces is a separate part, so that no run of spaces is stretched.
        if next != ' ' && piece.text.ends_with("  ") {
            pieces.push(std::mem::replace(
                &mut piece,
                Piece { column, class: style.join(" "), text: String::new() },
            ));
        }
        piece.text.push(next);
        column += 1;
        rest = &rest[next.len_utf8()..];
    }
    pieces.push(piece);
    for piece in &mut pieces {
        let text = piece.text.trim_start_matches(' ');
        piece.column += piece.text.chars().count() - text.chars().count();
        piece.text = text.trim_end_matches(' ').to_owned();
    }
    pieces.retain(|piece| !piece.text.is_empty());
    pieces
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
