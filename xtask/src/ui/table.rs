//! Plain tables: columns two spaces apart, without lines, for a terminal, a pipe or `awk`.

use std::fmt;

use registry::Digest;

use super::width::{self, cut, cut_middle, padded};

/// The spaces between two cells.
const BETWEEN: usize = 2;
/// The minimum width of a cut column.
const NARROWEST: usize = 12;

/// Rows with a heading.
#[derive(Clone, Debug, Default)]
pub struct Table {
    heading: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table with these columns.
    pub fn new<const N: usize>(heading: [&str; N]) -> Self {
        Self { heading: heading.map(str::to_owned).into(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table for a terminal of `columns`, without wrapped rows: digests are cut to their first 12 digits, a registry common to
    /// all repositories is left out, the widest columns are cut, and if that is not enough the last columns are removed.
    pub fn fitting(&self, columns: usize) -> String {
        let fits = |table: &Self| table.width() <= columns;
        if fits(self) {
            return self.to_string();
        }
        let mut table = self.with_digests("sha256:");
        if !fits(&table) {
            table = self.with_digests("");
            table.leave_out_the_registry();
        }
        while !table.cut_to(columns) && table.heading.len() > 1 {
            table.heading.pop();
            table.rows.iter_mut().for_each(|row| drop(row.pop()));
        }
        table.to_string()
    }

    /// The table with cut digests, each after `head`.
    fn with_digests(&self, head: &str) -> Self {
        let cut = |cell: &String| match cell.parse::<Digest>() {
            Ok(digest) => format!("{head}{}", digest.short()),
            Err(_) => cell.clone(),
        };
        let rows = self.rows.iter().map(|row| row.iter().map(cut).collect()).collect();
        Self { heading: self.heading.clone(), rows }
    }

    /// Removes the registry from the first column if all cells have the same.
    fn leave_out_the_registry(&mut self) {
        let cells = || self.rows.iter().filter_map(|row| row.first());
        let Some((host, _)) = cells().next().and_then(|first| first.split_once('/')) else { return };
        let registry = format!("{host}/");
        if !host.contains(['.', ':']) || !cells().all(|cell| cell.starts_with(&registry)) {
            return;
        }
        let cells = self.rows.iter_mut().filter_map(|row| row.first_mut());
        cells.for_each(|cell| drop(cell.drain(..registry.len())));
    }

    /// Cuts the widest columns until rows fit into `columns`. `false` if they would become too narrow to be useful.
    fn cut_to(&mut self, columns: usize) -> bool {
        let mut widths = self.widths();
        let over = |widths: &[usize]| total(widths).saturating_sub(columns);
        while over(&widths) > 0 {
            let Some(widest) = widths.iter_mut().max() else { return true };
            if *widest <= NARROWEST {
                return false;
            }
            *widest -= 1;
        }
        for row in std::iter::once(&mut self.heading).chain(&mut self.rows) {
            for (cell, width) in row.iter_mut().zip(&widths) {
                // Names differ at their ends; sentences are read from the start.
                *cell = if cell.contains(' ') { cut(cell, *width) } else { cut_middle(cell, *width) };
            }
        }
        true
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths = vec![0; self.heading.len()];
        for line in std::iter::once(&self.heading).chain(&self.rows) {
            for (known, cell) in widths.iter_mut().zip(line) {
                *known = (*known).max(width::of(cell));
            }
        }
        widths
    }

    /// The width of its widest row, in columns.
    fn width(&self) -> usize {
        total(&self.widths())
    }
}

/// The width of a row with cells of these widths.
fn total(widths: &[usize]) -> usize {
    widths.iter().sum::<usize>() + BETWEEN * widths.len().saturating_sub(1)
}

/// `text` after `head`, wrapped between words to at most `columns`. Further lines start below the first word. A longer word is not
/// broken, so that it can be copied.
pub fn wrap(head: &str, text: &str, columns: usize) -> String {
    let indent = head.chars().count();
    let mut lines = String::new();
    let mut line = head.to_owned();
    let mut is_new = true;
    for word in text.split_whitespace() {
        let space = usize::from(!is_new);
        if !is_new && line.chars().count() + space + word.chars().count() > columns {
            lines += &format!("{}\n", line.trim_end());
            line = " ".repeat(indent);
            is_new = true;
        }
        if !is_new {
            line.push(' ');
        }
        line += word;
        is_new = false;
    }
    format!("{lines}{}\n", line.trim_end())
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.heading.is_empty() {
            return Ok(());
        }
        let widths = self.widths();
        for line in std::iter::once(&self.heading).chain(&self.rows) {
            let cells = widths.iter().zip(line).map(|(width, cell)| padded(cell, *width));
            writeln!(f, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(["IMAGE", "SIZE"]);
        table.row(["curl".into(), "1 B".into()]);
        table.row(["kedacore/keda".into(), "22 B".into()]);
        assert_eq!(table.to_string(), "IMAGE          SIZE\ncurl           1 B\nkedacore/keda  22 B\n");
    }

    #[test]
    fn text_is_broken_between_words_and_indented() {
        assert_eq!(wrap("ok  ", "one two three", 11), "ok  one two\n    three\n");
        assert_eq!(wrap("ok  ", "one", 80), "ok  one\n");
        assert_eq!(wrap("ok  ", "", 80), "ok\n");
        assert_eq!(wrap("ok  ", "a/very/long/word it", 8), "ok  a/very/long/word\n    it\n");
    }

    #[test]
    fn digests_are_shortened_only_if_a_row_would_wrap() {
        let digest = Digest::of(b"x");
        let mut table = Table::new(["IMAGE", "DIGEST"]);
        table.row(["curl".into(), digest.to_string()]);
        assert_eq!(table.fitting(80), table.to_string());
        let cut = table.fitting(77);
        assert_eq!(cut, format!("IMAGE  DIGEST\ncurl   sha256:{}\n", digest.short()));
    }

    #[test]
    fn a_common_registry_is_omitted_before_anything_is_shortened() {
        let digest = Digest::of(b"x");
        let registry = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
        let mut table = Table::new(["REPOSITORY", "TAG", "DIGEST"]);
        for repository in ["lambda", "kedacore/keda"] {
            table.row([format!("{registry}/{repository}"), "2.11.2".into(), digest.to_string()]);
        }
        let short = digest.short();
        let wanted = format!(
            "REPOSITORY     TAG     DIGEST\nlambda         2.11.2  {short}\nkedacore/keda  2.11.2  {short}\n"
        );
        assert_eq!(table.fitting(80), wanted);
        let mut table = Table::new(["IMAGE"]);
        table.row(["kedacore/keda-metrics-apiserver".into()]);
        assert_eq!(table.fitting(20), "IMAGE\nkedaco...s-apiserver\n");
    }

    #[test]
    fn no_row_wraps_on_any_terminal_width() {
        let mut table = Table::new(["IMAGE", "FROM", "SIZE", "WHY"]);
        let (name, from) =
            ("kedacore/keda-metrics-apiserver:2.11.2", "ghcr.io/kedacore/keda-metrics-apiserver:2.11.2");
        table.row([
            name.into(),
            from.into(),
            "42.3 MiB".into(),
            "upstream has moved: was sha256:0011".into(),
        ]);
        table.row(["curl:1".into(), "docker.io/curl:1".into(), "4 B".into(), "not there yet".into()]);
        for columns in [12, 20, 40, 60, 80, 120, 200] {
            let text = table.fitting(columns);
            assert!(text.lines().all(|line| width::of(line) <= columns), "{columns}\n{text}");
            assert_eq!(text.lines().count(), 3);
        }
        assert_eq!(
            table.fitting(80),
            "IMAGE                   FROM                    SIZE      WHY\n\
             kedacor...erver:2.11.2  ghcr.io...erver:2.11.2  42.3 MiB  upstream has moved:...\n\
             curl:1                  docker.io/curl:1        4 B       not there yet\n"
        );
    }
}
