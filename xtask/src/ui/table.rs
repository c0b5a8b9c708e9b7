//! Plain tables: columns two spaces apart, no lines, fit for a terminal, a pipe and `awk` alike.

use std::fmt;

use registry::Digest;

/// Rows under a heading.
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

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table for a terminal of `columns`: where a row would wrap, digests are cut to the 12 digits that tell them apart.
    pub fn fitting(&self, columns: usize) -> String {
        let whole = self.to_string();
        if whole.lines().all(|line| line.chars().count() <= columns) {
            return whole;
        }
        let cut = |cell: &String| match cell.parse::<Digest>() {
            Ok(digest) => format!("sha256:{}", digest.short()),
            Err(_) => cell.clone(),
        };
        let rows = self.rows.iter().map(|row| row.iter().map(cut).collect()).collect();
        Self { heading: self.heading.clone(), rows }.to_string()
    }
}

/// `text` behind `head`, broken between words so that no line has more than `columns`, each further line under the first word. A
/// longer word stays whole: it is to be copied.
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
        let lines = || std::iter::once(&self.heading).chain(&self.rows);
        if self.heading.is_empty() {
            return Ok(());
        }
        let mut widths = vec![0; self.heading.len()];
        for line in lines() {
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for line in lines() {
            let mut text = String::new();
            for (width, cell) in widths.iter().zip(line) {
                text += &format!("{cell:<width$}  ");
            }
            writeln!(f, "{}", text.trim_end())?;
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
    fn digests_are_cut_only_where_a_row_would_wrap() {
        let digest = Digest::of(b"x");
        let mut table = Table::new(["IMAGE", "DIGEST"]);
        table.row(["curl".into(), digest.to_string()]);
        assert_eq!(table.fitting(80), table.to_string());
        let cut = table.fitting(77);
        assert_eq!(cut, format!("IMAGE  DIGEST\ncurl   sha256:{}\n", digest.short()));
    }
}
