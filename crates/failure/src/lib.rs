//! What kind of failure ends a run and what to do about it, and whether the run was interrupted.
//!
//! A [`Failure`] anywhere in a chain decides the kind and the hint; it speaks with its source's words, so that each cause is
//! printed once. The exit code of a kind is the binary's.

mod interrupt;

use std::fmt;
use std::sync::Arc;

pub use interrupt::Interrupt;
use process::ProcessError;

/// What kind of failure ends a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Something nobody foresaw.
    Unexpected,
    /// The command line is wrong.
    Usage,
    /// images.toml, images.lock or another file of the user's is wrong.
    Config,
    /// A program that is needed is missing or too old.
    MissingTool,
    /// No credentials, expired ones, the wrong account, or a permission that is missing.
    Credentials,
    /// The user answered no, or the plan holds what is never done unasked.
    Refused,
    /// A source registry failed or limits.
    Upstream,
    /// The target registry or an AWS service failed.
    Registry,
    /// Terraform, its state or its lock.
    Terraform,
    /// The container engine or a build.
    Docker,
    /// What was asked to be looked for was found.
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
        // The source's own words are this error's: the chain goes on below it.
        self.source.source()
    }
}

impl Failure {
    /// The failure that `cause` is. The registry client shares causes among the images that fail by them.
    fn of<'a>(cause: &'a (dyn std::error::Error + 'static)) -> Option<&'a Self> {
        let shared = cause.downcast_ref::<Arc<dyn std::error::Error + Send + Sync>>();
        shared.map_or(cause, |shared| &**shared).downcast_ref()
    }
}

/// `error` for those who take any error and hand it through: with its kind and hint.
pub fn boxed(error: anyhow::Error) -> Box<dyn std::error::Error + Send + Sync> {
    // `into` hides what is inside.
    error.reallocate_into_boxed_dyn_error_without_backtrace()
}

/// The kind and the hint that a cause of `error` has.
pub fn verdict_of(error: &(dyn std::error::Error + 'static)) -> Option<(Kind, Option<String>)> {
    let found = std::iter::successors(Some(error), |error| error.source()).find_map(Failure::of)?;
    Some((found.kind, found.hint.clone()))
}

/// An error of a kind, without a hint.
pub fn failure(kind: Kind, message: impl Into<String>) -> anyhow::Error {
    ending(kind, None, anyhow::Error::msg(message.into()))
}

/// `error` with the kind of failure that it ends a run with and, where there is one, what to do about it.
///
/// Who knew first what failed knows best: a kind that is there already stays. What to do adds up.
pub fn ending(kind: Kind, hint: Option<String>, error: impl Into<anyhow::Error>) -> anyhow::Error {
    let error = error.into();
    let first = error.chain().find_map(Failure::of);
    let kind = first.map_or(kind, |first| first.kind);
    // anyhow's `downcast` also finds what a context was put around, and drops the context.
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

/// Adds the kind of failure, and the hint, to what went wrong.
pub trait FailWith<T> {
    /// Says of which kind it is if this failed.
    fn kind(self, kind: Kind) -> anyhow::Result<T>;
    /// Says of which kind it is, and what to do, if this failed.
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
    // The innermost knows best what failed, but a caller may have decided already: the outermost Failure counts.
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
        // A failure speaks with its source's words, so that the source itself is no link of the chain.
        cause.downcast_ref().or_else(|| cause_of(&Failure::of(cause)?.source))
    })
}

/// An error taken apart, as it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// What failed.
    pub message: String,
    /// Each cause once, the innermost last.
    pub causes: Vec<String>,
    /// What to do, the nearest to what failed first.
    pub hints: Vec<String>,
}

/// What failed, each cause once, and what to do.
pub fn told(error: &anyhow::Error) -> Told {
    let mut said: Vec<String> = Vec::new();
    for cause in error.chain() {
        let words = cause.to_string();
        // Some libraries repeat their source in their own words.
        if !said.iter().any(|before| before.contains(&words)) {
            said.push(words);
        }
    }
    let causes = said.split_off(said.len().min(1));
    // The innermost first: it was there first, and is the nearest to what failed.
    let failures: Vec<&Failure> = error.chain().filter_map(Failure::of).collect();
    let hints = failures.into_iter().rev().filter_map(|failure| failure.hint.clone()).collect();
    Told { message: said.pop().unwrap_or_default(), causes, hints }
}

/// The error as the user reads it: what failed, each cause once, then what to do.
pub fn render(error: &anyhow::Error) -> String {
    let Told { message, causes, hints } = told(error);
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
    fn words_that_were_put_around_a_failure_stay_whatever_is_added_to_it() {
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
    fn a_cause_that_the_registry_client_hands_through_keeps_its_kind_and_its_hint() {
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
    fn a_cause_is_found_by_its_type_below_words_and_failures() {
        let missing = || ProcessError::Missing { program: "docker".into() };
        let plain = anyhow::Error::from(missing()).context("building");
        let told = ending(Kind::Docker, Some("install it".to_owned()), missing());
        let deep = ending(Kind::Docker, None, ending(Kind::Docker, None, plain).context("lambda"));
        for error in [told.context("building"), deep] {
            let found: Option<&ProcessError> = cause_of(&error);
            assert!(matches!(found, Some(ProcessError::Missing { .. })), "{error:?}");
            assert!(cause_of::<std::io::Error>(&error).is_none());
        }
        assert!(cause_of::<ProcessError>(&failure(Kind::Docker, "no docker")).is_none());
    }

    #[test]
    fn a_missing_program_is_a_kind_of_its_own() {
        let error =
            anyhow::Error::from(ProcessError::Missing { program: "docker".into() }).context("building");
        assert_eq!(kind_of(&error), Kind::MissingTool);
    }
}
