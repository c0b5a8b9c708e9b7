//! How long an error was waited for.

use std::time::Duration;

use super::{Error, ErrorKind};

/// The same error, after so long.
pub(crate) fn after(error: Error, waited: Duration) -> Error {
    Error { waited: error.waited.max(waited), ..error }
}

/// How long was waited before this error. Of a transfer, only the time without progress at its end counts.
pub(crate) fn waited(error: &Error) -> Duration {
    match error.kind() {
        ErrorKind::Stalled { after, .. } => error.waited.max(*after),
        _ => error.waited,
    }
}
