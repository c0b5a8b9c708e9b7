//! The results of a command: on stdout, as text or in the document.

use std::io::Write as _;

use super::{Format, Printer, Table, paint, progress, shown};

/// Prints results.
#[derive(Clone, Copy, Debug)]
pub struct Results<'a> {
    pub(super) printer: &'a Printer,
}

impl Results<'_> {
    /// Prints data: the table on stdout, or with JSON the fields of the document.
    ///
    /// # Errors
    /// stdout is closed, or the report is not a JSON object.
    pub fn data(&self, table: &Table, report: &impl serde::Serialize) -> anyhow::Result<()> {
        self.either(|| for_stdout(table), report)
    }

    /// Prints data without a table: the text on stdout, or with JSON the fields of the document.
    ///
    /// # Errors
    /// Errors of [`Results::data`].
    pub fn either(
        &self,
        text: impl FnOnce() -> String,
        report: &impl serde::Serialize,
    ) -> anyhow::Result<()> {
        match self.printer.words.format {
            Format::Text => self.out(&text()),
            Format::Json => self.printer.document.report(report),
        }
    }

    /// Prints text to stdout, except with JSON.
    ///
    /// # Errors
    /// stdout is closed.
    pub fn text(&self, text: &str) -> anyhow::Result<()> {
        if self.printer.words.format == Format::Json { Ok(()) } else { self.out(text) }
    }

    /// Adds a report to the document with JSON. Without JSON the user has seen its content as lines already.
    ///
    /// # Errors
    /// Errors of [`Results::data`].
    pub fn report(&self, report: &impl serde::Serialize) -> anyhow::Result<()> {
        if self.printer.words.format == Format::Json { self.printer.document.report(report) } else { Ok(()) }
    }

    /// Writes text to stdout, without control sequences and commands for GitHub's runner.
    fn out(&self, text: &str) -> anyhow::Result<()> {
        self.printer.progress.suspend(|| {
            let mut stdout = std::io::stdout().lock();
            let text = shown(text);
            match stdout.write_all(paint::without_commands(&text).as_bytes()).and_then(|()| stdout.flush()) {
                // `cargo xtask list-images | head` is not an error.
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
                other => other.map_err(Into::into),
            }
        })
    }
}

/// The columns of stdout's terminal. `None` if it is not a terminal.
pub fn stdout_columns() -> Option<usize> {
    progress::terminal_size(&std::io::stdout()).map(|(columns, _)| columns)
}

/// The whole table, or one that fits stdout's terminal.
fn for_stdout(table: &Table) -> String {
    match stdout_columns() {
        Some(columns) => table.fitting(columns),
        None => table.to_string(),
    }
}
