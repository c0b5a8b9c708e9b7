//! A value that can be waited for.

use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use crate::bugs::{self, Bug};

/// A value that can be waited for. Waiters are woken in their order: tokio's own `watch` wakes by chance, and a run of the
/// simulation could not be repeated.
#[derive(Debug)]
pub(super) struct Watched<T> {
    value: Mutex<T>,
    changed: Notify,
}

impl<T: Copy> Watched<T> {
    pub(super) fn new(value: T) -> Self {
        Self { value: Mutex::new(value), changed: Notify::new() }
    }

    pub(super) fn get(&self) -> T {
        *self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the next value, if there is one.
    pub(super) fn change(&self, next: impl FnOnce(T) -> Option<T>) {
        let mut value = self.value.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(next) = next(*value) else { return };
        *value = next;
        drop(value);
        if bugs::is_in(Bug::LostWakeUp) {
            return self.changed.notify_one();
        }
        self.changed.notify_waiters();
    }

    pub(super) async fn wait_for(&self, is_it: impl Fn(T) -> bool) {
        loop {
            // Before the value is read: a change after that wakes this waiter.
            let changed = self.changed.notified();
            if is_it(self.get()) {
                return;
            }
            changed.await;
        }
    }
}
