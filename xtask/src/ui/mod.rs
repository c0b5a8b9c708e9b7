//! All printing: text for people on stderr, data on stdout.
//!
//! What a terminal would obey is left out of both: words of registries, images and programs are among it.

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
pub use progress::{Lane, Progress, Whole};
pub use report::units;
pub use results::{Results, stdout_columns};
pub use table::{Table, wrap};

use crate::program::spoken;

/// How results reach stdout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON document (docs/json.md).
    Json,
}

/// Text as it is shown: without what a terminal would obey, and with the program's name.
fn shown(text: &str) -> String {
    spoken(&plain(text)).into_owned()
}

/// Prints a line for people.
fn say(text: &str) {
    write(&laid_out(text));
}

/// Text for people, as wide as the terminal is.
fn laid_out(text: &str) -> String {
    let text = shown(text);
    let text = match progress::terminal_size(&std::io::stderr()) {
        Some((columns, _)) => width::folded(&text, columns),
        None => text,
    };
    paint::dressed(&text).into_owned()
}

/// Writes a line as it is.
fn write(line: &str) {
    // A closed stderr is no reason to stop the work.
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Prints an error after which nothing follows, where there may be no [`Printer`] yet.
pub fn last_words(text: &str) {
    say(text);
}

/// Prints what is asked for where no command runs, and there is no [`Printer`].
pub fn first_words(text: &str) {
    // A closed stdout is no error.
    let _ = write!(std::io::stdout().lock(), "{}", shown(text));
}

/// How much is printed, and how.
#[derive(Clone, Copy, Debug, Default)]
pub struct Words {
    /// How results reach stdout.
    pub format: Format,
    /// Show every step.
    pub verbose: bool,
    /// Show warnings, errors and questions alone.
    pub quiet: bool,
    /// When colours are used.
    pub color: Color,
}

/// Prints; every line of the run goes through here.
#[derive(Clone, Debug)]
pub struct Printer {
    words: Words,
    /// With `--quiet`, what a question is about is said before it is asked, and not at all where none is.
    held: Arc<Mutex<Vec<String>>>,
    progress: Progress,
    document: Document,
}

impl Printer {
    /// A printer for this process's streams; with [`Format::Json`] `document` gets what would be stdout's.
    pub fn new(words: Words, document: Document) -> Self {
        paint::choose(words.color);
        let env = |name: &str| std::env::var(name).unwrap_or_default();
        // What is drawn anew is for eyes; CI logs and pipes get one line for each event.
        let is_for_eyes = std::io::stderr().is_terminal() && env("CI").is_empty();
        let is_able = !["", "dumb"].contains(&env("TERM").as_str());
        let shown = match words.quiet {
            true => Shown::Not,
            false if is_for_eyes && is_able && !words.verbose => Shown::Drawn,
            false => Shown::Logged,
        };
        Self { words, held: Arc::default(), progress: Progress::new(shown), document }
    }

    /// A line for people.
    pub fn line(&self, text: impl AsRef<str>) {
        let text = text.as_ref();
        if self.words.quiet {
            self.held.lock().unwrap_or_else(PoisonError::into_inner).push(text.to_owned());
        } else {
            self.progress.suspend(|| say(text));
        }
    }

    /// A line that says what the next ones are about.
    pub fn heading(&self, text: &str) {
        if self.words.quiet {
            self.line(text);
        } else {
            self.progress.suspend(|| write(&paint::heading(&shown(text))));
        }
    }

    /// Folds what is printed until the group is dropped, where GitHub's runner shows it.
    pub fn group(&self, title: &str) -> Group {
        let lines = paint::group(&plain(title)).filter(|_| !self.words.quiet);
        let end = lines.map(|(begin, end)| {
            self.progress.suspend(|| write(&begin));
            end
        });
        Group { printer: self.clone(), end }
    }

    /// A line for people who asked for every step.
    pub fn detail(&self, text: impl AsRef<str>) {
        if self.words.verbose {
            self.line(text);
        }
    }

    /// A warning.
    pub fn warn(&self, text: impl AsRef<str>) {
        self.progress.suspend(|| say(&format!("warning: {}", text.as_ref())));
    }

    /// An error beside the one that ends the run.
    pub fn error(&self, error: &anyhow::Error) {
        self.progress.suspend(|| say(&failure::render(error)));
        self.document.error(crate::exit_codes::as_json(error));
    }

    /// A table for people, unless JSON was asked for: then stdout's document says the same.
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

    /// What the command was asked for: stdout.
    pub fn results(&self) -> Results<'_> {
        Results { printer: self }
    }
}

/// What GitHub folds; it ends when it is dropped.
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
