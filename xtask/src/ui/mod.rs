//! All printing: text for people on stderr, data on stdout.
//!
//! What a terminal would obey is left out of both: words of registries, images and programs are among it.

mod document;
mod notes;
mod paint;
mod progress;
mod table;
pub mod units;
mod width;

use std::io::{IsTerminal as _, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use clap::ValueEnum;
pub use document::Document;
use failure::{FailWith as _, Interrupt, Kind, failure};
pub use notes::listen;
pub use paint::Color;
use process::plain;
use progress::Shown;
pub use progress::{Lane, Progress, Whole};
pub use table::{Table, wrap};

/// How results reach stdout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON document (docs/json.md).
    Json,
}

/// How often a question looks whether Ctrl-C came instead of an answer.
const ANSWER_POLL: std::time::Duration = std::time::Duration::from_millis(50);

/// Prints a line for people.
fn say(text: &str) {
    let text = plain(text);
    match progress::terminal_size(&std::io::stderr()) {
        Some((columns, _)) => write(&paint::dressed(&width::folded(&text, columns))),
        None => write(&paint::dressed(&text)),
    }
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
    let _ = write!(std::io::stdout().lock(), "{}", plain(text));
}

/// The table whole, or fit for the terminal that stdout is.
fn for_stdout(table: &Table) -> String {
    match progress::terminal_size(&std::io::stdout()) {
        Some((columns, _)) => table.fitting(columns),
        None => table.to_string(),
    }
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
            self.progress.suspend(|| write(&paint::heading(&plain(text))));
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
    /// As [`Printer::data`].
    pub fn either(
        &self,
        text: impl FnOnce() -> String,
        report: &impl serde::Serialize,
    ) -> anyhow::Result<()> {
        match self.words.format {
            Format::Text => self.out(&text()),
            Format::Json => self.document.report(report),
        }
    }

    /// Text on stdout, unless JSON was asked for.
    ///
    /// # Errors
    /// stdout is gone.
    pub fn text(&self, text: &str) -> anyhow::Result<()> {
        if self.words.format == Format::Json { Ok(()) } else { self.out(text) }
    }

    /// What a program is told and a person has read in lines already: the fields of the document where JSON was asked for.
    ///
    /// # Errors
    /// As [`Printer::data`].
    pub fn report(&self, report: &impl serde::Serialize) -> anyhow::Result<()> {
        if self.words.format == Format::Json { self.document.report(report) } else { Ok(()) }
    }

    /// An error beside the one that ends the run.
    pub fn error(&self, error: &anyhow::Error) {
        self.progress.suspend(|| say(&failure::render(error)));
        self.document.error(crate::error::as_json(error));
    }

    /// A table for people, unless JSON was asked for: then stdout's document says the same.
    pub fn table(&self, table: &Table) {
        let text = match progress::terminal_size(&std::io::stderr()) {
            Some((columns, _)) => table.fitting(columns),
            None => table.to_string(),
        };
        self.line(text.trim_end());
    }

    /// Text on stdout as it is, but for control sequences.
    fn out(&self, text: &str) -> anyhow::Result<()> {
        self.progress.suspend(|| {
            let mut stdout = std::io::stdout().lock();
            match stdout.write_all(plain(text).as_bytes()).and_then(|()| stdout.flush()) {
                // `cargo xtask list-images | head` is no error.
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
                other => other.map_err(Into::into),
            }
        })
    }

    /// Whether every step is shown.
    pub fn verbose(&self) -> bool {
        self.words.verbose
    }

    /// The progress display.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Asks `question` on the terminal and gives the answer, or nothing where nobody can answer or Ctrl-C came instead.
    pub fn ask(&self, question: &str, interrupt: &Interrupt) -> Option<String> {
        let held = std::mem::take(&mut *self.held.lock().unwrap_or_else(PoisonError::into_inner));
        self.progress.pause(|| {
            held.iter().for_each(|line| say(line));
            let mut stderr = std::io::stderr().lock();
            let _ = write!(stderr, "{question} ");
            let _ = stderr.flush();
            let (sender, answer) = std::sync::mpsc::channel();
            // In a thread of its own: a read of the terminal is not ended by a signal that is handled.
            std::thread::spawn(move || {
                let mut line = String::new();
                let read = std::io::stdin().read_line(&mut line);
                let _ = sender.send(read.ok().filter(|bytes| *bytes > 0).map(|_| line.trim().to_owned()));
            });
            while !interrupt.seen() {
                if let Ok(answer) = answer.recv_timeout(ANSWER_POLL) {
                    if answer.is_none() {
                        let _ = writeln!(stderr);
                    }
                    return answer;
                }
            }
            let _ = writeln!(stderr);
            None
        })
    }

    /// Whether a question was answered after this moment.
    pub fn has_asked_since(&self, moment: std::time::Instant) -> bool {
        self.progress.has_asked_since(moment)
    }

    /// Asks once. Only `yes` goes on, as terraform has taught everybody. `without`: what does not ask.
    ///
    /// # Errors
    /// The answer is another one, or nobody is there to give it.
    pub fn confirm(&self, without: &str, interrupt: &Interrupt) -> anyhow::Result<()> {
        let answer = self.ask("Do you want to continue? Only `yes` is accepted:", interrupt);
        interrupt.check()?;
        match answer.as_deref() {
            Some("yes") => Ok(()),
            Some(_) => Err(failure(Kind::Refused, "not confirmed; nothing was changed")),
            None => Err(failure(
                Kind::Refused,
                "this needs a confirmation and there is no terminal; nothing was changed",
            ))
            .hint(Kind::Refused, without),
        }
    }

    /// Whether a line that is redrawn takes the place of one line for each step.
    pub fn is_redrawn(&self) -> bool {
        self.progress.is_drawn()
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
