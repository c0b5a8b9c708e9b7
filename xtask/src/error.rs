//! From an error to what the user reads and to the exit code.
//!
//! A [`Failure`] anywhere in a chain decides the exit code and the hint; it speaks with its source's words, so that
//! each cause is printed once.

use std::fmt;

use process::ProcessError;

/// The documented, stable exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Something nobody foresaw.
    Unexpected = 1,
    /// The command line is wrong.
    Usage = 2,
    /// images.toml, images.lock or another file of the user's is wrong.
    Config = 3,
    /// A program that is needed is missing or too old.
    MissingTool = 4,
    /// No credentials, expired ones, the wrong account, or a permission that is missing.
    Credentials = 5,
    /// The user answered no, or the plan holds what is never done unasked.
    Refused = 6,
    /// A source registry failed or limits.
    Upstream = 7,
    /// The target registry or an AWS service failed.
    Registry = 8,
    /// Terraform, its state or its lock.
    Terraform = 9,
    /// The container engine or a build.
    Docker = 10,
    /// Ctrl-C or SIGTERM.
    Interrupted = 130,
}

/// The exit codes as `--help` shows them.
pub const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 unexpected, 2 usage, 3 bad configuration, 4 missing tool, 5 credentials, 6 refused,
7 upstream, 8 registry, 9 terraform, 10 docker, 130 interrupted.";

/// An error with its exit code and what to do about it.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    hint: Option<String>,
    source: anyhow::Error,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // The source's own words are this error's: the chain goes on below it.
        self.source.source()
    }
}

/// An error with an exit code and without a hint.
pub fn failure(exit: Exit, message: impl Into<String>) -> anyhow::Error {
    ending(exit, None, anyhow::Error::msg(message.into()))
}

/// `error` with the exit code that it ends a run with and, where there is one, what to do about it.
///
/// Who knew first what failed knows best: an exit code that is there already stays. What to do adds up.
pub fn ending(exit: Exit, hint: Option<String>, error: impl Into<anyhow::Error>) -> anyhow::Error {
    let error = error.into();
    let first = error.chain().find_map(|cause| cause.downcast_ref::<Failure>());
    let exit = first.map_or(exit, |first| first.exit);
    // anyhow's `downcast` also finds what a context was put around, and drops the context.
    if !error.chain().next().is_some_and(|outermost| outermost.is::<Failure>()) {
        return Failure { exit, hint, source: error }.into();
    }
    match error.downcast::<Failure>() {
        Ok(first) => {
            let hint = first.hint.into_iter().chain(hint).reduce(|all, next| format!("{all}\n{next}"));
            Failure { exit, hint, source: first.source }.into()
        }
        Err(source) => Failure { exit, hint, source }.into(),
    }
}

/// Adds the exit code, and the hint, to what went wrong.
pub trait FailWith<T> {
    /// Ends the run with `exit` if this failed.
    fn exit(self, exit: Exit) -> anyhow::Result<T>;
    /// Ends the run with `exit` and says what to do if this failed.
    fn hint(self, exit: Exit, hint: impl Into<String>) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> FailWith<T> for Result<T, E> {
    fn exit(self, exit: Exit) -> anyhow::Result<T> {
        self.map_err(|error| ending(exit, None, error))
    }

    fn hint(self, exit: Exit, hint: impl Into<String>) -> anyhow::Result<T> {
        self.map_err(|error| ending(exit, Some(hint.into()), error))
    }
}

/// The exit code that `error` asks for.
pub fn exit_of(error: &anyhow::Error) -> Exit {
    // The innermost knows best what failed, but a caller may have decided already: the outermost Failure counts.
    for cause in error.chain() {
        if let Some(failure) = cause.downcast_ref::<Failure>() {
            return failure.exit;
        }
        if let Some(ProcessError::Missing { .. }) = cause.downcast_ref::<ProcessError>() {
            return Exit::MissingTool;
        }
    }
    Exit::Unexpected
}

/// Tells the user, and gives the process's exit code.
pub fn exit_with(error: &anyhow::Error) -> std::process::ExitCode {
    crate::ui::last_words(&render(error));
    std::process::ExitCode::from(exit_of(error) as u8)
}

/// The error as the user reads it: what failed, each cause once, then what to do.
pub fn render(error: &anyhow::Error) -> String {
    let mut text = String::new();
    let mut said: Vec<String> = Vec::new();
    for cause in error.chain() {
        let words = cause.to_string();
        // Some libraries repeat their source in their own words.
        if said.iter().any(|before| before.contains(&words)) {
            continue;
        }
        text += &if said.is_empty() { format!("error: {words}") } else { format!("\n  caused by: {words}") };
        said.push(words);
    }
    // The innermost first: it was there first, and is the nearest to what failed.
    let failures = error.chain().filter_map(|cause| cause.downcast_ref::<Failure>());
    let hints: Vec<&str> = failures.filter_map(|failure| failure.hint.as_deref()).collect();
    for hint in hints.into_iter().rev() {
        text += &format!("\nhint: {}", hint.replace('\n', "\n      "));
    }
    text
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn causes_are_printed_once_and_the_hint_comes_last() {
        let io: anyhow::Result<()> = Err(std::io::Error::other("connection refused").into());
        let error = io
            .context("could not read the state bucket")
            .hint(Exit::Terraform, "is the network up?")
            .context("init-images failed")
            .unwrap_err();
        assert_eq!(
            render(&error),
            "error: init-images failed\n  caused by: could not read the state bucket\n  caused by: connection refused\nhint: is the network up?"
        );
        assert_eq!(exit_of(&error), Exit::Terraform);
    }

    #[test]
    fn words_that_were_put_around_a_failure_stay_whatever_is_added_to_it() {
        let error = failure(Exit::Upstream, "no answer").context("curl cannot be looked up");
        let error = ending(Exit::Config, None, error);
        assert_eq!(render(&error), "error: curl cannot be looked up\n  caused by: no answer");
        assert_eq!(exit_of(&error), Exit::Upstream);

        let error: anyhow::Result<()> = Err(failure(Exit::Upstream, "no answer"));
        let error = error.hint(Exit::Config, "first").hint(Exit::Docker, "second").context("outside");
        let error = error.hint(Exit::Usage, "third").unwrap_err();
        assert_eq!(
            render(&error),
            "error: outside\n  caused by: no answer\nhint: first\n      second\nhint: third"
        );
        assert_eq!(exit_of(&error), Exit::Upstream);
    }

    #[test]
    fn a_missing_program_has_its_own_exit_code() {
        let error =
            anyhow::Error::from(ProcessError::Missing { program: "docker".into() }).context("building");
        assert_eq!(exit_of(&error), Exit::MissingTool);
    }
}
