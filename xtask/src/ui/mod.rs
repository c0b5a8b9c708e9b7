//! All printing: text for people on stderr, data on stdout.
//!
//! What a terminal would obey is left out of both: words of registries, images and programs are among it.

mod notes;
mod progress;
mod table;
pub mod units;

use std::io::{IsTerminal as _, Write as _};

use clap::ValueEnum;
use failure::{FailWith as _, Interrupt, Kind, failure};
pub use notes::listen;
use process::plain;
pub use progress::{Lane, Progress};
pub use table::{Table, wrap};

/// How results reach stdout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON document.
    Json,
}

/// How often a question looks whether Ctrl-C came instead of an answer.
const ANSWER_POLL: std::time::Duration = std::time::Duration::from_millis(50);

/// Prints an error after which nothing follows, where there may be no [`Printer`] yet.
pub fn last_words(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{}", plain(text));
}

/// Prints what is asked for where no command runs, and there is no [`Printer`].
pub fn first_words(text: &str) {
    // A closed stdout is no error.
    let _ = write!(std::io::stdout().lock(), "{}", plain(text));
}

/// The table whole, or fit for the terminal that stdout is.
fn for_stdout(table: &Table) -> String {
    let stdout = std::io::stdout();
    let size = stdout.is_terminal().then(|| rustix::termios::tcgetwinsize(&stdout).ok()).flatten();
    match size.map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0) {
        Some(columns) => table.fitting(columns),
        None => table.to_string(),
    }
}

/// Prints; every line of the run goes through here.
#[derive(Clone, Debug)]
pub struct Printer {
    format: Format,
    verbose: bool,
    terminal: bool,
    progress: Progress,
}

impl Printer {
    /// A printer for this process's streams.
    pub fn new(format: Format, verbose: bool) -> Self {
        // A bar that is redrawn is for eyes; CI logs and pipes get one line for each event.
        let terminal = std::io::stderr().is_terminal() && std::env::var_os("CI").is_none();
        Self { format, verbose, terminal, progress: Progress::new(terminal && !verbose) }
    }

    /// A line for people.
    pub fn line(&self, text: impl AsRef<str>) {
        self.progress.suspend(|| {
            // A closed stderr is no reason to stop the work.
            let _ = writeln!(std::io::stderr().lock(), "{}", plain(text.as_ref()));
        });
    }

    /// A line for people who asked for every step.
    pub fn detail(&self, text: impl AsRef<str>) {
        if self.verbose {
            self.line(text);
        }
    }

    /// A warning.
    pub fn warn(&self, text: impl AsRef<str>) {
        self.line(format!("warning: {}", text.as_ref()));
    }

    /// Data: the table on stdout, or the document where JSON was asked for.
    ///
    /// # Errors
    /// stdout is gone, or the value is no JSON.
    pub fn data(&self, table: &Table, document: &impl serde::Serialize) -> anyhow::Result<()> {
        self.either(|| for_stdout(table), document)
    }

    /// Data that is no table: the text on stdout, or the document where JSON was asked for.
    ///
    /// # Errors
    /// As [`Printer::data`].
    pub fn either(
        &self,
        text: impl FnOnce() -> String,
        document: &impl serde::Serialize,
    ) -> anyhow::Result<()> {
        match self.format {
            Format::Text => self.out(&text()),
            Format::Json => self.out(&(serde_json::to_string_pretty(document)? + "\n")),
        }
    }

    /// A table for people, unless JSON was asked for: then stdout's document says the same.
    pub fn table(&self, table: &Table) {
        self.line(table.to_string().trim_end());
    }

    /// Text on stdout as it is, but for control sequences.
    ///
    /// # Errors
    /// stdout is gone.
    pub fn out(&self, text: &str) -> anyhow::Result<()> {
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
        self.verbose
    }

    /// The progress display.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Asks `question` on the terminal and gives the answer, or nothing where nobody can answer or Ctrl-C came instead.
    pub fn ask(&self, question: &str, interrupt: &Interrupt) -> Option<String> {
        self.progress.suspend(|| {
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
        self.terminal && !self.verbose
    }
}
