//! Plain tables: columns two spaces apart, no lines, fit for a terminal, a pipe and `awk` alike.

use std::fmt;

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
}
