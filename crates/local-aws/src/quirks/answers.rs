//! Requests that are carried out and whose answer comes late or never.

use std::sync::Arc;

use super::{Quirk, Shared};

pub(crate) struct Answers(Arc<Shared>);

impl Answers {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self(Arc::clone(shared))
    }

    /// Keeps an answer back for as long as the quirks say so.
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
        // An error would be the end of the server.
        let _ = set.changed().await;
    }

    /// The requests whose answers are kept back.
    pub(crate) fn held(&self) -> Vec<String> {
        self.0.lock().held.clone()
    }

    /// Counts one request; true: it is carried out and not answered.
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
