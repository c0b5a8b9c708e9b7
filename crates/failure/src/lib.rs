//! The kinds of failure that end a run, their hints, and whether the run was interrupted.
//!
//! A [`Failure`] anywhere in an error chain decides the kind and the hint. It has the message of its source, so that each cause is
//! printed once. The binary assigns the exit codes.

mod interrupt;

use std::fmt;
use std::sync::Arc;

pub use interrupt::Interrupt;
use process::ProcessError;

/// What kind of failure ends a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An error that is not classified.
    Unexpected,
    /// The command line is wrong.
    Usage,
    /// images.toml, images.lock or another file of the user is wrong.
    Config,
    /// A required program is missing or too old.
    MissingTool,
    /// Credentials are missing, expired or for the wrong account, or a permission is missing.
    Credentials,
    /// The user answered no, or the plan contains a change that needs explicit consent.
    Refused,
    /// A source registry failed or has a rate limit.
    Upstream,
    /// The target registry or an AWS service failed.
    Registry,
    /// Terraform, its state or its lock.
    Terraform,
    /// The container engine or a build.
    Docker,
    /// The command found what it checks for.
    Findings,
    /// Ctrl-C or SIGTERM.
    Interrupted,
}

/// An error with its kind and what to do about it.
#[derive(Debug)]
pub struct Failure {
    kind: Kind,
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
        // This error has the message of its source, so the chain continues below the source.
        self.source.source()
    }
}

impl Failure {
    /// The failure in `cause`. The registry client shares one cause between the images that it affects.
    fn of<'a>(cause: &'a (dyn std::error::Error + 'static)) -> Option<&'a Self> {
        let shared = cause.downcast_ref::<Arc<dyn std::error::Error + Send + Sync>>();
        shared.map_or(cause, |shared| &**shared).downcast_ref()
    }
}

/// `error` with its kind and hint, as a boxed error for callers that accept any error.
pub fn boxed(error: anyhow::Error) -> Box<dyn std::error::Error + Send + Sync> {
    // `into` would hide the type inside.
    error.reallocate_into_boxed_dyn_error_without_backtrace()
}

/// The kind and the hint of the outermost failure in `error`.
pub fn verdict_of(error: &(dyn std::error::Error + 'static)) -> Option<(Kind, Option<String>)> {
    let found = std::iter::successors(Some(error), |error| error.source()).find_map(Failure::of)?;
    Some((found.kind, found.hint.clone()))
}

/// An error of a kind, without a hint.
pub fn failure(kind: Kind, message: impl Into<String>) -> anyhow::Error {
    ending(kind, None, anyhow::Error::msg(message.into()))
}

/// Adds to `error` the kind of failure that it ends a run with, and a hint if there is one.
///
/// A kind that is already set stays, because it was set closest to the failure. Hints are added.
pub fn ending(kind: Kind, hint: Option<String>, error: impl Into<anyhow::Error>) -> anyhow::Error {
    let error = error.into();
    let first = error.chain().find_map(Failure::of);
    let kind = first.map_or(kind, |first| first.kind);
    // anyhow's `downcast` also finds the error inside a context, and drops the context.
    if !error.chain().next().is_some_and(|outermost| outermost.is::<Failure>()) {
        return Failure { kind, hint, source: error }.into();
    }
    match error.downcast::<Failure>() {
        Ok(first) => {
            let hint = first.hint.into_iter().chain(hint).reduce(|all, next| format!("{all}\n{next}"));
            Failure { kind, hint, source: first.source }.into()
        }
        Err(source) => Failure { kind, hint, source }.into(),
    }
}

/// Adds a kind of failure and a hint to an error.
pub trait FailWith<T> {
    /// On failure, sets the kind.
    fn kind(self, kind: Kind) -> anyhow::Result<T>;
    /// On failure, sets the kind and the hint.
    fn hint(self, kind: Kind, hint: impl Into<String>) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> FailWith<T> for Result<T, E> {
    fn kind(self, kind: Kind) -> anyhow::Result<T> {
        self.map_err(|error| ending(kind, None, error))
    }

    fn hint(self, kind: Kind, hint: impl Into<String>) -> anyhow::Result<T> {
        self.map_err(|error| ending(kind, Some(hint.into()), error))
    }
}

/// The kind of failure that `error` is.
pub fn kind_of(error: &anyhow::Error) -> Kind {
    // The innermost cause knows best what failed, but a caller may have set the kind already: the outermost `Failure` counts.
    for cause in error.chain() {
        if let Some(failure) = Failure::of(cause) {
            return failure.kind;
        }
        if let Some(ProcessError::Missing { .. }) = cause.downcast_ref::<ProcessError>() {
            return Kind::MissingTool;
        }
    }
    Kind::Unexpected
}

/// The first cause of this type that `error` has, the outermost first.
pub fn cause_of<T: std::error::Error + Send + Sync + 'static>(error: &anyhow::Error) -> Option<&T> {
    error.chain().find_map(|cause| {
        // A `Failure` shows the message of its source, so the source is not in the chain itself.
        cause.downcast_ref().or_else(|| cause_of(&Failure::of(cause)?.source))
    })
}

/// The parts of an error, as they are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorParts {
    /// What failed.
    pub message: String,
    /// Each cause once, the innermost last.
    pub causes: Vec<String>,
    /// The hints, starting with the one closest to the failure.
    pub hints: Vec<String>,
}

/// Splits an error into what failed, each cause once, and the hints.
pub fn error_parts(error: &anyhow::Error) -> ErrorParts {
    let mut said: Vec<String> = Vec::new();
    for cause in error.chain() {
        let words = cause.to_string();
        // Some libraries include the message of their source in their own.
        if !said.iter().any(|before| before.contains(&words)) {
            said.push(words);
        }
    }
    let causes = said.split_off(said.len().min(1));
    // Innermost first: it was added first and is closest to the failure.
    let failures: Vec<&Failure> = error.chain().filter_map(Failure::of).collect();
    let hints = failures.into_iter().rev().filter_map(|failure| failure.hint.clone()).collect();
    ErrorParts { message: said.pop().unwrap_or_default(), causes, hints }
}

/// The error as the user reads it: what failed, each cause once, then what to do.
pub fn render(error: &anyhow::Error) -> String {
    let ErrorParts { message, causes, hints } = error_parts(error);
    let causes = causes.iter().map(|cause| format!("\n  caused by: {cause}"));
    let hints = hints.iter().map(|hint| format!("\nhint: {}", hint.replace('\n', "\n      ")));
    format!("error: {message}{}", causes.chain(hints).collect::<String>())
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
            .hint(Kind::Terraform, "is the network up?")
            .context("init-images failed")
            .unwrap_err();
        assert_eq!(
            render(&error),
            "error: init-images failed\n  caused by: could not read the state bucket\n  caused by: connection refused\nhint: is the network up?"
        );
        assert_eq!(kind_of(&error), Kind::Terraform);
    }

    #[test]
    fn context_around_a_failure_is_kept_when_a_hint_is_added() {
        let error = failure(Kind::Upstream, "no answer").context("curl cannot be looked up");
        let error = ending(Kind::Config, None, error);
        assert_eq!(render(&error), "error: curl cannot be looked up\n  caused by: no answer");
        assert_eq!(kind_of(&error), Kind::Upstream);

        let error: anyhow::Result<()> = Err(failure(Kind::Upstream, "no answer"));
        let error = error.hint(Kind::Config, "first").hint(Kind::Docker, "second").context("outside");
        let error = error.hint(Kind::Usage, "third").unwrap_err();
        assert_eq!(
            render(&error),
            "error: outside\n  caused by: no answer\nhint: first\n      second\nhint: third"
        );
        assert_eq!(kind_of(&error), Kind::Upstream);
    }

    #[test]
    fn a_cause_passed_on_by_the_registry_client_keeps_its_kind_and_hint() {
        #[derive(Debug)]
        struct Shared(Arc<dyn std::error::Error + Send + Sync>);

        impl fmt::Display for Shared {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("asking for blobs failed")
            }
        }

        impl std::error::Error for Shared {
            fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
                Some(&self.0)
            }
        }

        let inner: anyhow::Result<()> = Err(failure(Kind::Credentials, "ecr:ListImages is denied"));
        let inner = inner.hint(Kind::Credentials, "allow it").unwrap_err();
        let error = Shared(boxed(inner).into());
        assert_eq!(verdict_of(&error), Some((Kind::Credentials, Some("allow it".to_owned()))));
        let error = ending(Kind::Registry, None, anyhow::Error::new(error).context("curl"));
        assert_eq!(
            render(&error),
            "error: curl\n  caused by: asking for blobs failed\n  caused by: ecr:ListImages is denied\nhint: allow it"
        );
        assert_eq!(kind_of(&error), Kind::Credentials);
    }

    #[test]
    fn a_cause_is_found_by_its_type_below_context_and_failures() {
        let missing = || ProcessError::Missing { program: "docker".into() };
        let plain = anyhow::Error::from(missing()).context("building");
        let shown = ending(Kind::Docker, Some("install it".to_owned()), missing());
        let deep = ending(Kind::Docker, None, ending(Kind::Docker, None, plain).context("lambda"));
        for error in [shown.context("building"), deep] {
            let found: Option<&ProcessError> = cause_of(&error);
            assert!(matches!(found, Some(ProcessError::Missing { .. })), "{error:?}");
            assert!(cause_of::<std::io::Error>(&error).is_none());
        }
        assert!(cause_of::<ProcessError>(&failure(Kind::Docker, "no docker")).is_none());
    }

    #[test]
    fn a_missing_program_has_its_own_kind() {
        let error =
            anyhow::Error::from(ProcessError::Missing { program: "docker".into() }).context("building");
        assert_eq!(kind_of(&error), Kind::MissingTool);
    }
}
