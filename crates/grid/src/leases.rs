//! The lease on the grid's images, as the work on its resources takes it.

use std::time::Duration;

use aws::lease::{self, Lease, LockWait, Part};

use super::{Infrastructure, News};

impl Infrastructure<'_> {
    /// Takes the lease on the grid's images.
    ///
    /// # Errors
    /// Somebody else holds it for longer than `--lock-timeout`, or S3 refuses.
    pub async fn lease(&self) -> anyhow::Result<Lease> {
        self.lease_on(Part::Whole, Duration::ZERO).await
    }

    /// Takes the lease on a part of them, and waits at least so long for whoever holds what does not go with it.
    ///
    /// # Errors
    /// Somebody else holds it for longer, or S3 refuses.
    pub async fn lease_on(&self, part: Part, at_least: Duration) -> anyhow::Result<Lease> {
        let tell = |news: lease::News| self.options.watch.hear(&News::Lease(news));
        let lock_wait = LockWait {
            timeout: self.options.lock_timeout.max(at_least),
            interrupt: &self.options.interrupt,
            tell: &tell,
        };
        Lease::take(self.aws, &self.store, &self.options.tag, part, &lock_wait).await
    }

    /// Gives the lease back. What is done is done: where that fails, it expires by itself.
    pub async fn release(&self, lease: Lease) {
        if let Err(error) = lease.release().await {
            self.options.watch.hear(&News::LeaseKept(error));
        }
    }
}
