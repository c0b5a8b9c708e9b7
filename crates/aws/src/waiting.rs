//! Reports waits as tracing spans, in the same format as the registry client.

use std::time::Duration;

use tracing::Span;

/// A wait, reported until this is dropped.
#[derive(Debug)]
pub struct Waiting {
    on: String,
    what: String,
    _span: Span,
}

impl Waiting {
    /// Waits on `on` (a server, a service, the holder of a lock) for `what`, for at most `most`.
    #[must_use]
    pub fn new(on: &str, what: &str, most: Duration) -> Self {
        let most = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
        let span = tracing::warn_span!("wait", on, what, most);
        Self { on: on.to_owned(), what: what.to_owned(), _span: span }
    }

    /// Replaces the reported wait with this one, unless it is the same.
    pub fn renew(told: &mut Option<Self>, on: &str, what: &str, most: Duration) {
        if told.as_ref().is_none_or(|told| told.on != on || told.what != what) {
            *told = Some(Self::new(on, what, most));
        }
    }
}
