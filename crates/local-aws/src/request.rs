//! Functions for all services: they find a request's action and record who requested what.

use std::sync::Arc;

use crate::account::Caller;
use crate::app::App;
use crate::journal::Entry;
use crate::policy::Need;

/// The connection is to be closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("hung up on purpose")]
pub(crate) struct CloseConnection;

/// Records its entry when the request ends, also if the client left before the answer (status 0).
pub(crate) struct Recorder {
    app: Arc<App>,
    pub(crate) entry: Entry,
}

impl Recorder {
    pub(crate) fn new(app: &Arc<App>, parts: &http::request::Parts) -> Self {
        let entry =
            Entry { method: parts.method.to_string(), path: parts.uri.path().to_owned(), ..Entry::default() };
        Self { app: Arc::clone(app), entry }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // Requests to the server's own interface are not recorded.
        if !self.entry.service.is_empty() {
            self.app.journal.record(std::mem::take(&mut self.entry));
        }
    }
}

/// The handler of `action` in a service's table.
pub(crate) fn find<H: Copy>(table: &[(&str, H)], action: &str) -> Option<H> {
    table.iter().find(|(name, _)| *name == action).map(|(_, handler)| *handler)
}

/// Stores the permissions that the caller needs.
pub(crate) fn note_needs(entry: &mut Entry, needs: &[Need]) {
    if let Some(first) = needs.first() {
        entry.resource.clone_from(&first.resource);
    }
    entry.iam = needs.iter().map(|need| need.action.clone()).collect();
    entry.iam.dedup();
}

/// Stores the caller.
pub(crate) fn note_caller(entry: &mut Entry, caller: &Caller) {
    entry.region.clone_from(&caller.scope.region);
    entry.principal.clone_from(&caller.principal);
}
