//! Reports what is waited for, by a span that is open meanwhile: `wait`, with `on` (a server or a registry), `what`, and
//! `most`, the milliseconds that it takes at most.

use std::time::Duration;

use tracing::Span;

/// The span of a wait that lasts `most` at most; held for as long as it lasts.
pub(crate) fn waiting(on: impl std::fmt::Display, what: &str, most: Duration) -> Span {
    let most = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
    tracing::warn_span!("wait", %on, what, most)
}
