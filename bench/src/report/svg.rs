//! The picture for the README: bars of the median times, for light and dark pages.

use std::fmt::Write as _;

use super::{CellResult, Phase, Report, Summary};
use crate::catalog::{Set, Variant};
use crate::link::Kind;
use crate::tools::Tool;

const WIDTH: u32 = 820;
const NAMES: u32 = 130;
const BARS: u32 = 560;
const ROW: u32 = 20;

/// The report as a picture: a panel for each comparison, a bar for each tool.
pub fn svg(report: &Report) -> String {
    let mut body = String::new();
    let mut y = 16;
    for cell in &report.cells {
        for phase in [Phase::Cold, Phase::Idle] {
            if wanted(cell, phase) {
                panel(&mut body, &mut y, cell, phase);
            }
        }
    }
    let height = y + 6;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         role=\"img\" aria-label=\"Time to copy images, by tool\">\n<style>\n\
         text {{ font: 13px system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif; fill: #6e7781; }}\n\
         .title {{ font-weight: 600; }}\n.bar {{ fill: #8c959f; }}\n.ours {{ fill: #2da44e; }}\n\
         .floor {{ fill: #8c959f; fill-opacity: 0.45; }}\n.range {{ stroke: #6e7781; stroke-width: 1; }}\n\
         @media (prefers-color-scheme: light) {{\n  text {{ fill: #24292f; }}\n  .note {{ fill: #57606a; }}\n}}\n\
         @media (prefers-color-scheme: dark) {{\n  text {{ fill: #e6edf3; }}\n  .note {{ fill: #9198a1; }}\n}}\n</style>\n{body}</svg>\n"
    )
}

/// The comparisons that most readers look for first; the table has all of them.
fn wanted(cell: &CellResult, phase: Phase) -> bool {
    let ran = cell.rows.iter().filter(|row| summary(cell, row.tool, phase).is_some()).count();
    let asked = match (phase, cell.set) {
        (Phase::Cold, Set::Grid | Set::Small) => cell.variant == Variant::Single && cell.link != Kind::Slow,
        (Phase::Cold, Set::Smoke) => true,
        (Phase::Idle, Set::Grid) => cell.variant == Variant::Single && cell.link == Kind::Loopback,
        (Phase::Idle, Set::Tiny) => cell.link == Kind::Gigabit,
        _ => false,
    };
    ran > 1 && asked
}

fn summary(cell: &CellResult, tool: Tool, phase: Phase) -> Option<&Summary> {
    let row = cell.row(tool)?;
    match phase {
        Phase::Cold => row.cold.as_ref(),
        Phase::Idle => row.idle.as_ref(),
    }
}

fn panel(body: &mut String, y: &mut u32, cell: &CellResult, phase: Phase) {
    let mut rows: Vec<(Tool, &Summary)> =
        cell.rows.iter().filter_map(|row| Some((row.tool, summary(cell, row.tool, phase)?))).collect();
    rows.sort_by(|(_, a), (_, b)| a.wall_s.total_cmp(&b.wall_s));
    let longest = rows.iter().map(|(_, summary)| summary.max_s).fold(f64::MIN_POSITIVE, f64::max);
    let phase = match phase {
        Phase::Cold => "empty target",
        Phase::Idle => "nothing to do",
    };
    let title = escape(&format!("{}: {phase}", super::text::result_title(cell)));
    // Writing to a string cannot fail.
    let _ = writeln!(body, "<text class=\"title\" x=\"8\" y=\"{}\">{title}</text>", *y + 6);
    *y += 16;
    for (tool, summary) in rows {
        let pixels = |seconds: f64| f64::from(BARS) * seconds / longest;
        let class = match tool {
            Tool::Ours => "ours",
            Tool::Floor => "floor",
            _ => "bar",
        };
        let (text, middle) = (*y + 13, *y + 9);
        let width = pixels(summary.wall_s).max(1.0);
        let (from, to) = (f64::from(NAMES) + pixels(summary.min_s), f64::from(NAMES) + pixels(summary.max_s));
        let label = if summary.wall_s < 1.0 {
            format!("{:.0} ms", summary.wall_s * 1e3)
        } else {
            format!("{:.1} s", summary.wall_s)
        };
        let _ = writeln!(
            body,
            "<text x=\"{}\" y=\"{text}\" text-anchor=\"end\">{}</text>\
             <rect class=\"{class}\" x=\"{NAMES}\" y=\"{}\" width=\"{width:.1}\" height=\"14\" rx=\"2\"/>\
             <line class=\"range\" x1=\"{from:.1}\" y1=\"{middle}\" x2=\"{to:.1}\" y2=\"{middle}\"/>\
             <text class=\"note\" x=\"{:.1}\" y=\"{text}\">{label}</text>",
            NAMES - 8,
            escape(tool.short()),
            *y + 2,
            to.max(f64::from(NAMES) + width) + 6.0,
        );
        *y += ROW;
    }
    *y += 22;
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;

    #[test]
    fn the_picture_has_a_bar_for_each_tool_that_ran_and_fits() {
        let picture = svg(&report());
        // Two comparisons of three tools cold, one of two with nothing to do.
        assert_eq!(picture.matches("<rect").count(), 8, "{picture}");
        assert_eq!(picture.matches("class=\"ours\"").count(), 3);
        assert!(!picture.contains("crane"));
        assert!(picture.contains("prefers-color-scheme: dark"));
        for part in picture.split("width=\"").skip(1) {
            let width: f64 = part.split('"').next().unwrap().parse().unwrap();
            assert!(width <= f64::from(WIDTH));
        }
        assert_eq!(picture.matches("<text").count(), picture.matches("</text>").count());
    }

    #[test]
    fn an_empty_report_is_an_empty_picture() {
        let mut empty = report();
        empty.cells.clear();
        assert!(svg(&empty).ends_with("</style>\n</svg>\n"));
    }
}
