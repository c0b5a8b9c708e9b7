//! Requests that are rejected because of their rate, or because of a conflict.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Quirk, Shared};

pub(crate) struct Throttles(Arc<Shared>);

impl Throttles {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self(Arc::clone(shared))
    }

    /// Counts one image put; true: reject it. A rejected one is not counted, as with a token bucket.
    pub(crate) fn put_image(&self) -> bool {
        let mut state = self.0.lock();
        let Some(rate) = state.find(|quirk| match quirk {
            Quirk::ThrottlePutImage(rate) => Some(*rate),
            _ => None,
        }) else {
            return false;
        };
        let now = Instant::now();
        state.puts.retain(|put| now.duration_since(*put) < Duration::from_secs(1));
        if state.puts.len() >= rate as usize {
            return true;
        }
        state.puts.push(now);
        false
    }

    /// Draws a random number for one request; true: reject it.
    pub(crate) fn at_random(&self) -> bool {
        let mut state = self.0.lock();
        let permille = state.find(|quirk| match quirk {
            Quirk::ThrottleRandom { permille, .. } => Some(*permille),
            _ => None,
        });
        permille.is_some_and(|permille| state.generator.u32(0..1000) < permille)
    }

    /// Counts one use of a token; true: it is used up.
    pub(crate) fn token_used_up(&self, nonce: u64) -> bool {
        let mut state = self.0.lock();
        let Some(most) = state.find(|quirk| match quirk {
            Quirk::ExpireTokensAfter(most) => Some(*most),
            _ => None,
        }) else {
            return false;
        };
        let uses = state.token_uses.entry(nonce).or_default();
        *uses += 1;
        *uses > most
    }

    /// Counts one conditional deletion; true: it conflicts with another request.
    pub(crate) fn conflict(&self) -> bool {
        let mut state = self.0.lock();
        let met = state.conflicts > 0;
        state.conflicts = state.conflicts.saturating_sub(1);
        met
    }
}
