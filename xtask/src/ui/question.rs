//! Questions to the user on the terminal.

use std::io::{IsTerminal as _, Write as _};
use std::sync::PoisonError;
use std::time::Duration;

use failure::{FailWith as _, Interrupt, Kind, failure};

use super::{Printer, laid_out, say};

/// Time between two checks for Ctrl-C while waiting for an answer.
const ANSWER_POLL: Duration = Duration::from_millis(50);

/// Asks `question` on the terminal. `None` if there is no terminal or Ctrl-C was pressed.
pub fn ask(printer: &Printer, question: &str, interrupt: &Interrupt) -> Option<String> {
    let held = std::mem::take(&mut *printer.held.lock().unwrap_or_else(PoisonError::into_inner));
    printer.progress.pause(|| {
        held.iter().for_each(|line| say(line));
        let mut stderr = std::io::stderr().lock();
        let _ = write!(stderr, "{} ", laid_out(question));
        let _ = stderr.flush();
        let (sender, answer) = std::sync::mpsc::channel();
        // On a separate thread, because a handled signal does not end a read from the terminal.
        std::thread::spawn(move || {
            let mut line = String::new();
            let read = std::io::stdin().read_line(&mut line);
            let _ = sender.send(read.ok().filter(|bytes| *bytes > 0).map(|_| line.trim().to_owned()));
        });
        while !interrupt.seen() {
            if let Ok(answer) = answer.recv_timeout(ANSWER_POLL) {
                // Input on a terminal includes the newline; in other cases it must be added.
                if answer.is_none() || !std::io::stdin().is_terminal() {
                    let _ = writeln!(stderr);
                }
                return answer;
            }
        }
        let _ = writeln!(stderr);
        None
    })
}

/// Asks once. Only `yes` is accepted, as in terraform. `without`: how to run without a question.
///
/// # Errors
/// The answer is not `yes`, or there is no terminal.
pub fn confirm(printer: &Printer, without: &str, interrupt: &Interrupt) -> anyhow::Result<()> {
    let answer = ask(printer, "Do you want to continue? Only `yes` is accepted:", interrupt);
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
