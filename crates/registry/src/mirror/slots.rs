//! Limits on what is done at once: of the whole run and of each host, taken together.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

/// Gives out slots in the order of the requests, as far as hosts allow.
pub(super) struct Slots {
    per_host: usize,
    state: Mutex<State>,
}

struct State {
    free: usize,
    used: HashMap<String, usize>,
    waiters: VecDeque<Waiter>,
}

struct Waiter {
    hosts: Vec<String>,
    permit: oneshot::Sender<Permit>,
}

/// A slot; given back when dropped.
pub(super) struct Permit {
    slots: Arc<Slots>,
    hosts: Vec<String>,
}

impl Slots {
    pub(super) fn new(total: usize, per_host: usize) -> Arc<Self> {
        let state = State { free: total.max(1), used: HashMap::new(), waiters: VecDeque::new() };
        Arc::new(Self { per_host: per_host.max(1), state: Mutex::new(state) })
    }

    /// Waits for one slot of the run and one of each of `hosts`.
    pub(super) async fn take(self: &Arc<Self>, hosts: &[&str]) -> Permit {
        let mut hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        hosts.sort();
        // A copy within one registry takes one of its slots, not two: with one slot it could never begin.
        hosts.dedup();
        let (sender, receiver) = oneshot::channel();
        self.lock().waiters.push_back(Waiter { hosts: hosts.clone(), permit: sender });
        self.hand_out();
        match receiver.await {
            Ok(permit) => permit,
            // The sender is only ever dropped by sending: there is no slot to give back.
            Err(_) => Permit { slots: Self::new(1, 1), hosts },
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves every waiter that can be served. A permit whose waiter has gone comes back by being dropped, which must not
    /// happen under the lock.
    fn hand_out(self: &Arc<Self>) {
        loop {
            let Some(waiter) = self.lock().next(self.per_host) else { return };
            let permit = Permit { slots: Arc::clone(self), hosts: waiter.hosts };
            drop(waiter.permit.send(permit));
        }
    }
}

impl State {
    /// The first waiter whose hosts all have room; its slots are taken.
    fn next(&mut self, per_host: usize) -> Option<Waiter> {
        if self.free == 0 {
            return None;
        }
        let has_room = |host: &String| self.used.get(host).is_none_or(|used| *used < per_host);
        let position = self.waiters.iter().position(|waiter| waiter.hosts.iter().all(has_room))?;
        let waiter = self.waiters.remove(position)?;
        self.free -= 1;
        for host in &waiter.hosts {
            *self.used.entry(host.clone()).or_default() += 1;
        }
        Some(waiter)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.slots.lock();
        state.free += 1;
        for host in &self.hosts {
            if let Some(used) = state.used.get_mut(host) {
                *used = used.saturating_sub(1);
            }
        }
        drop(state);
        self.slots.hand_out();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn a_host_without_free_slots_does_not_delay_another() {
        let slots = Slots::new(3, 1);
        let first = slots.take(&["a", "t"]).now_or_never().unwrap();
        let mut second = Box::pin(slots.take(&["a", "u"]));
        assert!((&mut second).now_or_never().is_none(), "a has one slot");
        let third = slots.take(&["b", "v"]).now_or_never();
        assert!(third.is_some(), "b and v are free");
        drop(first);
        assert!(second.now_or_never().is_some());
    }

    #[test]
    fn slots_of_dropped_requests_are_released() {
        let slots = Slots::new(1, 1);
        let first = slots.take(&["a"]).now_or_never().unwrap();
        let mut waiting = Box::pin(slots.take(&["a"]));
        assert!((&mut waiting).now_or_never().is_none());
        drop(waiting);
        drop(first);
        assert!(slots.take(&["a", "a"]).now_or_never().is_some());
        assert_eq!(slots.lock().free, 1);
    }
}
