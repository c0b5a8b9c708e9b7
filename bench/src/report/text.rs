//! The table.

use std::fmt::Write as _;

use super::{CellResult, Phase, Report, Row, Run, Summary, mib};
use crate::catalog::{Set, Variant};
use crate::cells::Cell;
use crate::link::{Kind, Probe};
use crate::tools::Tool;

fn set_title(set: Set) -> &'static str {
    match set {
        Set::Grid => "the grid's shape",
        Set::Small => "50 small images",
        Set::Big => "a layer of 4 GiB",
        Set::Tiny => "500 tiny images",
        Set::Smoke => "smoke",
        Set::Scale => "scale",
        Set::Scale100 => "100 images of one small layer",
        Set::Scale1000 => "1,000 images of one small layer",
        Set::Scale10000 => "10,000 images of one small layer",
        Set::Runtimes => "runtimes",
    }
}

fn variant_title(variant: Variant) -> &'static str {
    match variant {
        Variant::Single => "single manifests",
        Variant::Index => "indexes, linux/amd64 wanted",
    }
}

/// `the grid's shape, single manifests, loopback`; docker has its own comparison.
fn title(set: Set, variant: Variant, link: Kind, beside_docker: bool) -> String {
    let docker = if beside_docker { ", beside docker" } else { "" };
    format!("{}, {}, {}{docker}", set_title(set), variant_title(variant), link.title())
}

/// The title of a comparison.
pub fn cell_title(cell: &Cell) -> String {
    title(cell.set, cell.variant, cell.link, cell.tools.contains(&Tool::Docker))
}

/// The title of a result.
pub fn result_title(cell: &CellResult) -> String {
    title(cell.set, cell.variant, cell.link, cell.row(Tool::Docker).is_some())
}

/// The values measured with curl.
pub fn probe_line(probe: &Probe) -> String {
    format!(
        "{}: one curl gets {:.1} ms a request ({:.1} ms with opening the connection), {:.0} Mbit/s down, {:.0} Mbit/s up",
        probe.link.title(),
        probe.rtt_ms,
        probe.first_ms,
        probe.down_mbit,
        probe.up_mbit
    )
}

/// One run, for the progress output.
pub fn run_line(tool: Tool, run: &Run) -> String {
    let mut line = format!(
        "{} ({}): {:.3} s, CPU {:.2} s, {:.1} MiB; source {}; target {}",
        tool.short(),
        run.phase.title(),
        run.cost.wall_s,
        run.cost.cpu_s,
        run.cost.peak_kib as f64 / 1024.0,
        run.source.short(),
        run.target.short()
    );
    if let Some(error) = &run.cost.error {
        let _ = write!(line, "; FAILED: {error}");
    }
    line
}

/// Writing to a string cannot fail; the results are ignored only here.
struct Page(String);

impl Page {
    fn line(&mut self, line: impl AsRef<str>) {
        self.0.push_str(line.as_ref());
        self.0.push('\n');
    }
}

/// The whole report as Markdown.
pub fn markdown(report: &Report) -> String {
    let mut page = Page(String::new());
    page.line("# Side by side\n");
    let machine: Vec<String> =
        report.machine.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    page.line(format!("{}.\n", machine.join("; ")));
    for (tool, version) in &report.tools {
        page.line(format!("- {tool}: {}", cell_text(version)));
    }
    page.line(
        "\nTwo docker-registry over plain http, without authentication. Tools take turns (A B C A B C); the target is emptied \
         and a tool's caches are removed before every cold run. Figures are medians; × is the tool's time by ours, median of \
         the rounds. CPU is the client's (docker: with its engine), peak memory that of the largest process. Results are \
         compared with the source, digest by digest.",
    );
    if !report.links.is_empty() {
        page.line(
            "\nLinks: rate by tbf on a veth pair, delay by a TCP relay (which spares every tool TCP's slow start alike).\n",
        );
        for probe in &report.links {
            page.line(format!("- {}", probe_line(probe)));
        }
    }
    for cell in &report.cells {
        cell_page(&mut page, cell);
    }
    if !report.bars.is_empty() {
        page.line("\n## What is asked of ours\n\n| | measured | at most | |\n| --- | --- | --- | --- |");
        for bar in &report.bars {
            let verdict = if bar.met() { "met" } else { "**missed**" };
            page.line(format!(
                "| {} | {} | {} | {verdict} |",
                bar.text,
                number(bar.measured),
                number(bar.at_most)
            ));
        }
    }
    if !report.left_out.is_empty() {
        page.line("\n## Left out\n");
        for line in &report.left_out {
            page.line(format!("- {}", cell_text(line)));
        }
    }
    page.0
}

fn cell_page(page: &mut Page, cell: &CellResult) {
    page.line(format!("\n## {}\n", capital(&result_title(cell))));
    page.line(format!(
        "{} images, {} unique blobs, {:.1} MiB; {} repository/blob pairs, {:.1} MiB.{}{}\n",
        cell.images,
        cell.unique_blobs,
        mib(cell.unique_bytes),
        cell.pairs,
        mib(cell.pair_bytes),
        cell.link
            .needs(cell.unique_bytes, 0)
            .map_or_else(String::new, |needs| format!(" The link needs {needs:.2} s for the unique bytes.")),
        if cell.cut_short { " Time ran out before the last round." } else { "" }
    ));
    let cold = cell.rows.iter().any(|row| row.runs.iter().any(|run| run.phase == Phase::Cold));
    if cold {
        page.line("| cold | s (min–max) | × | CPU s | peak MiB | source | target | MiB out / in |");
        page.line("| --- | --- | --- | --- | --- | --- | --- | --- |");
        for row in &cell.rows {
            page.line(row_text(row, row.cold.as_ref(), true));
        }
        page.line("");
    }
    page.line("| nothing to do | s (min–max) | × | CPU s | peak MiB | source | target |");
    page.line("| --- | --- | --- | --- | --- | --- | --- |");
    for row in cell.rows.iter().filter(|row| row.tool != Tool::Floor) {
        page.line(row_text(row, row.idle.as_ref(), false));
    }
}

fn row_text(row: &Row, summary: Option<&Summary>, bytes: bool) -> String {
    let title = row.tool.title();
    let Some(summary) = summary else {
        let why = row.missing.clone().or_else(|| row.error().map(|error| format!("failed: {error}")));
        let columns = if bytes { " |".repeat(6) } else { " |".repeat(5) };
        return format!("| {title} | {} |{columns}", cell_text(&why.unwrap_or_else(|| "not run".to_owned())));
    };
    let seconds = |value: f64| if value < 1.0 { format!("{value:.3}") } else { format!("{value:.2}") };
    let mut text = format!(
        "| {title} | {} ({}–{}) n={} | {} | {:.2} | {:.1} | {} | {} |",
        seconds(summary.wall_s),
        seconds(summary.min_s),
        seconds(summary.max_s),
        summary.runs,
        summary.by_ours.map_or_else(String::new, |ratio| format!("{ratio:.2}")),
        summary.cpu_s,
        summary.peak_mib,
        summary.source.short(),
        summary.target.short(),
    );
    if bytes {
        let unknown = if summary.target.unknown_in > 0 {
            format!(" + {} of unknown size", summary.target.unknown_in)
        } else {
            String::new()
        };
        let (out, taken) = (mib(summary.source.bytes_out), mib(summary.target.bytes_in));
        let _ = write!(text, " {out:.1} / {taken:.1}{unknown} |");
    }
    text
}

fn number(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// Escapes text for a table.
fn cell_text(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;

    #[test]
    fn every_row_of_a_table_has_the_columns_of_its_head() {
        let text = markdown(&report());
        let mut columns = 0;
        for line in text.lines() {
            let count = line.replace("\\|", "").matches('|').count();
            if line.starts_with("| ") && columns == 0 {
                columns = count;
            }
            if line.starts_with('|') {
                assert_eq!(count, columns, "{line}");
            } else {
                columns = 0;
            }
        }
        assert!(text.contains("| crane copy, 4 at once | not in PATH |"), "{text}");
        assert!(text.contains("2.40 (2.00–2.80) n=5 | 2.00 |"), "{text}");
        assert!(text.contains("## The grid's shape, single manifests, loopback"), "{text}");
        assert!(text.contains("no time left"), "{text}");
    }
}
