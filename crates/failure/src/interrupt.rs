//! Ctrl-C and SIGTERM. The first one is remembered. It is not passed on to a child that got it too.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use crate::{Kind, failure, kind_of};

/// Whether the run was interrupted.
#[derive(Clone, Debug, Default)]
pub struct Interrupt {
    seen: Arc<AtomicBool>,
    wake: Arc<Notify>,
}

impl Interrupt {
    /// Starts to listen. From now on SIGINT, SIGTERM and SIGHUP end the run in an orderly way instead of at once.
    ///
    /// # Errors
    /// The operating system refuses a signal handler.
    pub fn listen() -> std::io::Result<Self> {
        let interrupt = Self::default();
        for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
            let mut signals = signal(kind)?;
            let heard = interrupt.clone();
            tokio::spawn(async move {
                while signals.recv().await.is_some() {
                    heard.seen.store(true, Ordering::SeqCst);
                    heard.wake.notify_waiters();
                }
            });
        }
        Ok(interrupt)
    }

    /// Whether a signal has arrived.
    pub fn seen(&self) -> bool {
        self.seen.load(Ordering::SeqCst)
    }

    /// Fails if a signal has arrived.
    ///
    /// # Errors
    /// The run was interrupted.
    pub fn check(&self) -> anyhow::Result<()> {
        if self.seen() { Err(interrupted()) } else { Ok(()) }
    }

    /// Waits for a signal. Returns at once if one has arrived already.
    pub async fn comes(&self) {
        let woken = self.wake.notified();
        tokio::pin!(woken);
        // Registered before the flag is read: a signal between the two is not lost.
        woken.as_mut().enable();
        if !self.seen() {
            woken.await;
        }
    }

    /// Runs `work` until it ends or a signal arrives. `work` is then dropped and must not leave a partial result in view.
    ///
    /// # Errors
    /// Errors of `work`, or the run was interrupted.
    pub async fn guard<T>(&self, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        self.check()?;
        tokio::select! {
            result = work => result,
            () = self.comes() => Err(interrupted()),
        }
    }

    /// The error to report. If the run was interrupted, that is the reason, because the signal may have caused `error`.
    pub fn reason(&self, error: anyhow::Error) -> anyhow::Error {
        if self.seen() && kind_of(&error) != Kind::Interrupted { interrupted() } else { error }
    }
}

fn interrupted() -> anyhow::Error {
    failure(Kind::Interrupted, "interrupted")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_signal_ends_guarded_work_and_is_remembered() {
        let interrupt = Interrupt::default();
        assert_eq!(interrupt.guard(async { Ok(7) }).await.unwrap(), 7);
        let other = interrupt.clone();
        let work = interrupt.guard(async move {
            other.seen.store(true, Ordering::SeqCst);
            other.wake.notify_waiters();
            std::future::pending::<anyhow::Result<()>>().await
        });
        assert_eq!(kind_of(&work.await.unwrap_err()), Kind::Interrupted);
        assert!(interrupt.guard(async { Ok(()) }).await.is_err());
    }
}
