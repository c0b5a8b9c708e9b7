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
    fn digests_are_cut_only_where_a_row_would_wrap() {
        let digest = Digest::of(b"x");
        let mut table = Table::new(["IMAGE", "DIGEST"]);
        table.row(["curl".into(), digest.to_string()]);
        assert_eq!(table.fitting(80), table.to_string());
        let cut = table.fitting(77);
        assert_eq!(cut, format!("IMAGE  DIGEST\ncurl   sha256:{}\n", digest.short()));
    }
}
