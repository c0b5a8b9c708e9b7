//! Takes and releases the lease on the grid's images.

use std::time::Duration;

use aws::lease::{self, Lease, LockWait, Part};

use super::{GridEvent, Infrastructure};

impl Infrastructure<'_> {
    /// Takes the lease on the grid's images.
    ///
    /// # Errors
    /// Another run holds it for longer than `--lock-timeout`, or S3 refuses.
    pub async fn lease(&self) -> anyhow::Result<Lease> {
        self.lease_on(Part::Whole, Duration::ZERO).await
    }

    /// Takes the lease on a part of the images. Waits at least this long for the holder of a lease that conflicts with this one.
    ///
    /// # Errors
    /// Another run holds it for longer, or S3 refuses.
    pub async fn lease_on(&self, part: Part, at_least: Duration) -> anyhow::Result<Lease> {
        let tell = |event: lease::LeaseEvent| self.options.watch.on_event(&GridEvent::Lease(event));
        let lock_wait = LockWait {
            timeout: self.options.lock_timeout.max(at_least),
            interrupt: &self.options.interrupt,
            tell: &tell,
        };
        Lease::take(self.aws, &self.store, &self.options.tag, part, &lock_wait).await
    }

    /// Releases the lease. If that fails, the finished work is still valid and the lease expires by itself.
    pub async fn release(&self, lease: Lease) {
        if let Err(error) = lease.release().await {
            self.options.watch.on_event(&GridEvent::LeaseKept(error));
        }
    }
}
