//! Telling whoever listens what is waited for: by a span that is open meanwhile, of the form that the registry client has.

use std::time::Duration;

use tracing::Span;

/// A wait, told for as long as this lives.
#[derive(Debug)]
pub struct Waiting {
    on: String,
    what: String,
    _span: Span,
}

impl Waiting {
    /// For `on` (a server, a service, who holds a lock), for `what` of it, for `most` at most.
    #[must_use]
    pub fn new(on: &str, what: &str, most: Duration) -> Self {
        let most = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
        let span = tracing::warn_span!("wait", on, what, most);
        Self { on: on.to_owned(), what: what.to_owned(), _span: span }
    }

    /// Tells this wait in the place of the one that is told, unless that is the same.
    pub fn renew(told: &mut Option<Self>, on: &str, what: &str, most: Duration) {
        if told.as_ref().is_none_or(|told| told.on != on || told.what != what) {
            *told = Some(Self::new(on, what, most));
        }
    }
}
