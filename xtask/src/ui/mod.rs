//! All output: text for users on stderr, data on stdout.
//!
//! Terminal control sequences are removed from both, because texts of registries, images and programs may contain them.

mod document;
mod notes;
mod paint;
mod progress;
pub mod question;
mod results;
mod table;
mod width;

use std::io::{IsTerminal as _, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use clap::ValueEnum;
pub use document::Document;
pub use notes::listen;
pub use paint::Color;
use process::plain;
use progress::Shown;
pub use progress::{Lane, Progress, TotalCount};
pub use report::units;
pub use results::{Results, stdout_columns};
pub use table::{Table, wrap};

use crate::program::with_program_name;

/// The format of results on stdout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON document (docs/json.md).
    Json,
}

/// Text for output: without control sequences, and with the program's name.
fn shown(text: &str) -> String {
    with_program_name(&plain(text)).into_owned()
}

/// Prints a line to stderr.
fn say(text: &str) {
    write(&laid_out(text));
}

/// Text wrapped to the width of the terminal.
fn laid_out(text: &str) -> String {
    let text = shown(text);
    let text = match progress::terminal_size(&std::io::stderr()) {
        Some((columns, _)) => width::folded(&text, columns),
        None => text,
    };
    paint::dressed(&text).into_owned()
}

/// Writes a line unchanged.
fn write(line: &str) {
    // A closed stderr must not stop the work.
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Prints the error that ends the process, possibly without a [`Printer`].
pub fn last_words(text: &str) {
    say(text);
}

/// Prints help or another text without running a command and without a [`Printer`].
pub fn first_words(text: &str) {
    // A closed stdout is not an error.
    let _ = write!(std::io::stdout().lock(), "{}", shown(text));
}

/// How much to print, and in which format.
#[derive(Clone, Copy, Debug, Default)]
pub struct OutputOptions {
    /// The format of results.
    pub format: Format,
    /// Show every step.
    pub verbose: bool,
    /// Show only warnings, errors and questions.
    pub quiet: bool,
    /// When to use colours.
    pub color: Color,
}

/// Prints every line of the run.
#[derive(Clone, Debug)]
pub struct Printer {
    words: OutputOptions,
    /// With `--quiet`, the lines that belong to a question: printed before it, or never if no question is asked.
    held: Arc<Mutex<Vec<String>>>,
    progress: Progress,
    document: Document,
}

impl Printer {
    /// A printer for this process's streams. With [`Format::Json`], `document` receives the results.
    pub fn new(words: OutputOptions, document: Document) -> Self {
        paint::choose(words.color);
        let env = |name: &str| std::env::var(name).unwrap_or_default();
        // Redrawn lines are only for terminals. CI logs and pipes get one line per event.
        let is_for_eyes = std::io::stderr().is_terminal() && env("CI").is_empty();
        let is_able = !["", "dumb"].contains(&env("TERM").as_str());
        let shown = match words.quiet {
            true => Shown::Not,
            false if is_for_eyes && is_able && !words.verbose => Shown::Drawn,
            false => Shown::Logged,
        };
        Self { words, held: Arc::default(), progress: Progress::new(shown), document }
    }

    /// Prints a line for the user.
    pub fn line(&self, text: impl AsRef<str>) {
        let text = text.as_ref();
        if self.words.quiet {
            self.held.lock().unwrap_or_else(PoisonError::into_inner).push(text.to_owned());
        } else {
            self.progress.suspend(|| say(text));
        }
    }

    /// Prints a heading for the next lines.
    pub fn heading(&self, text: &str) {
        if self.words.quiet {
            self.line(text);
        } else {
            self.progress.suspend(|| write(&paint::heading(&shown(text))));
        }
    }

    /// Folds the output until the group is dropped, on GitHub's runner.
    pub fn group(&self, title: &str) -> Group {
        let lines = paint::group(&plain(title)).filter(|_| !self.words.quiet);
        let end = lines.map(|(begin, end)| {
            self.progress.suspend(|| write(&begin));
            end
        });
        Group { printer: self.clone(), end }
    }

    /// Prints a line with `--verbose` only.
    pub fn detail(&self, text: impl AsRef<str>) {
        if self.words.verbose {
            self.line(text);
        }
    }

    /// Prints a warning.
    pub fn warn(&self, text: impl AsRef<str>) {
        self.progress.suspend(|| say(&format!("warning: {}", text.as_ref())));
    }

    /// Prints an error that does not end the run.
    pub fn error(&self, error: &anyhow::Error) {
        self.progress.suspend(|| say(&failure::render(error)));
        self.document.error(crate::exit_codes::as_json(error));
    }

    /// Prints a table, except with JSON: the document on stdout has the same data.
    pub fn table(&self, table: &Table) {
        let text = match progress::terminal_size(&std::io::stderr()) {
            Some((columns, _)) => table.fitting(columns),
            None => table.to_string(),
        };
        self.line(text.trim_end());
    }

    /// Whether every step is shown.
    pub fn verbose(&self) -> bool {
        self.words.verbose
    }

    /// The progress display.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The output of results to stdout.
    pub fn results(&self) -> Results<'_> {
        Results { printer: self }
    }
}

/// A group that GitHub folds. It ends when dropped.
#[derive(Debug)]
pub struct Group {
    printer: Printer,
    end: Option<&'static str>,
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(end) = self.end {
            self.printer.progress.suspend(|| write(end));
        }
    }
}
