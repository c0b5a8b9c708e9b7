//! Requests that are executed, but whose answer is late or missing.

use std::sync::Arc;

use super::{Quirk, Shared};

pub(crate) struct Answers(Arc<Shared>);

impl Answers {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self(Arc::clone(shared))
    }

    /// Delays an answer as long as the quirks say.
    pub(crate) async fn hold(&self, request: &str) {
        let mut set = self.0.sets.subscribe();
        {
            let mut state = self.0.lock();
            let Some(nth) = state.find(|quirk| match quirk {
                Quirk::HoldAnswer { nth, words } => request.contains(words.as_str()).then_some(*nth),
                _ => None,
            }) else {
                return;
            };
            state.matched += 1;
            if state.matched != nth {
                return;
            }
            state.held.push(request.to_owned());
        }
        // An error means that the server has ended.
        let _ = set.changed().await;
    }

    /// The requests whose answers are delayed.
    pub(crate) fn held(&self) -> Vec<String> {
        self.0.lock().held.clone()
    }

    /// Counts one request; returns true if it is executed without an answer.
    pub(crate) fn drops(&self, request: &str) -> bool {
        let mut state = self.0.lock();
        let Some(nth) = state.find(|quirk| match quirk {
            Quirk::DropAnswer { nth, words } => request.contains(words.as_str()).then_some(*nth),
            _ => None,
        }) else {
            return false;
        };
        state.dropped += 1;
        state.dropped == nth
    }
}
