//! What a command was asked for: on stdout, as text or in the document.

use std::io::Write as _;

use super::{Format, Printer, Table, paint, progress, shown};

/// Where results go.
#[derive(Clone, Copy, Debug)]
pub struct Results<'a> {
    pub(super) printer: &'a Printer,
}

impl Results<'_> {
    /// Data: the table on stdout, or the fields of the document where JSON was asked for.
    ///
    /// # Errors
    /// stdout is gone, or the report is not a JSON object.
    pub fn data(&self, table: &Table, report: &impl serde::Serialize) -> anyhow::Result<()> {
        self.either(|| for_stdout(table), report)
    }

    /// Data that is no table: the text on stdout, or the fields of the document where JSON was asked for.
    ///
    /// # Errors
    /// As [`Results::data`].
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

    /// Text on stdout, unless JSON was asked for.
    ///
    /// # Errors
    /// stdout is gone.
    pub fn text(&self, text: &str) -> anyhow::Result<()> {
        if self.printer.words.format == Format::Json { Ok(()) } else { self.out(text) }
    }

    /// What a program is told and a person has read in lines already: the fields of the document where JSON was asked for.
    ///
    /// # Errors
    /// As [`Results::data`].
    pub fn report(&self, report: &impl serde::Serialize) -> anyhow::Result<()> {
        if self.printer.words.format == Format::Json { self.printer.document.report(report) } else { Ok(()) }
    }

    /// Text on stdout as it is, but for control sequences and what GitHub's runner would obey.
    fn out(&self, text: &str) -> anyhow::Result<()> {
        self.printer.progress.suspend(|| {
            let mut stdout = std::io::stdout().lock();
            let text = shown(text);
            match stdout.write_all(paint::without_commands(&text).as_bytes()).and_then(|()| stdout.flush()) {
                // `cargo xtask list-images | head` is no error.
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
                other => other.map_err(Into::into),
            }
        })
    }
}

/// The columns of the terminal that stdout is; none where it is none.
pub fn stdout_columns() -> Option<usize> {
    progress::terminal_size(&std::io::stdout()).map(|(columns, _)| columns)
}

/// The table whole, or fit for the terminal that stdout is.
fn for_stdout(table: &Table) -> String {
    match stdout_columns() {
        Some(columns) => table.fitting(columns),
        None => table.to_string(),
    }
}
