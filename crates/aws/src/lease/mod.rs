//! One transfer at a time: an object next to the terraform state that only one run can hold.
//!
//! S3's conditional writes decide which run gets it
//! (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html>). Terraform's own lock covers only its plan and
//! apply; this lease covers everything up to the last tag. A killed run leaves its lease behind. The next run takes it over at once
//! if it can see that the process has ended, otherwise after it has expired. Only S3's clock measures its age: the clocks of two
//! machines may differ by more than a lease lasts.
//!
//! A shard of a run holds its own lease next to it. Shards run in parallel, but not together with a whole run: each takes its own
//! lease first and then checks the other's, so that at least one of two simultaneous runs sees the other and gives way.

pub mod holders;
mod object;

use std::fmt;
use std::time::Duration;

use failure::{Interrupt, Kind, ending, failure};
use jiff::Timestamp;
use tokio::sync::watch;

use crate::Aws;
use crate::Waiting;
use crate::process_id::ProcessId;
use crate::shard::Shard;
use crate::store::StateStore;

use object::{Holder, Object, TERM};

/// The suffix of the whole lease's key.
const WHOLE: &str = "transfer.lock";
/// Time between attempts for a lease that another run holds.
const ASKING: Duration = Duration::from_millis(500);

/// What a lease covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All images of the grid. No other run works on them.
    Whole,
    /// Only the grid's resources: shards may copy at the same time.
    Resources,
    /// A shard of the images.
    Shard(Shard),
}

impl Part {
    /// The suffix of its object's key.
    fn suffix(self) -> String {
        match self {
            Self::Whole | Self::Resources => WHOLE.to_owned(),
            Self::Shard(shard) => format!("{WHOLE}.{}", shard.slug()),
        }
    }
}

/// How to wait for a lease that another run holds.
pub struct LockWait<'a> {
    /// How long to wait for it.
    pub timeout: Duration,
    /// Interrupts the wait.
    pub interrupt: &'a Interrupt,
    /// Receives news during the wait.
    pub tell: &'a (dyn Fn(LeaseEvent) + Sync),
}

/// An event while taking a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseEvent {
    /// Another run holds it, and this run waits.
    Waiting {
        /// The holder, if known.
        holder: Option<String>,
        /// The holder's shard, if it is one.
        shard: Option<String>,
        /// How long this run waits at most.
        timeout: Duration,
    },
    /// A lease was taken over.
    TakenOver {
        /// The previous holder.
        holder: String,
        /// Whether its process is known to have ended; otherwise the lease had expired.
        gone: bool,
    },
}

impl fmt::Display for LeaseEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting { holder, shard, timeout } => {
                let whom = holder.as_deref().unwrap_or("another run");
                let what = shard.as_ref().map_or_else(String::new, |shard| format!("shard {shard} of "));
                let seconds = timeout.as_secs();
                write!(
                    f,
                    "waiting up to {seconds} s for {whom}, whose run works on {what}the images of this grid"
                )
            }
            Self::TakenOver { holder, gone } => {
                let why = if *gone { "whose process is gone" } else { "which has expired" };
                write!(f, "took over the lease of {holder}, {why}")
            }
        }
    }
}

/// The lease, held until [`Lease::release`].
#[derive(Debug)]
pub struct Lease {
    object: Object,
    renewing: tokio::task::JoinHandle<()>,
    etag: watch::Receiver<Option<String>>,
    waited: bool,
}

impl Lease {
    /// Takes the lease on `part` for the grid `tag`, next to the state.
    ///
    /// # Errors
    /// Another run holds it for longer than the timeout: the error names the holder. S3 refuses or does not answer.
    pub async fn take(
        aws: &Aws,
        store: &StateStore,
        tag: &str,
        part: Part,
        lock_wait: &LockWait<'_>,
    ) -> anyhow::Result<Self> {
        let object = Object::new(store, store.sidecar(&part.suffix()));
        let began = tokio::time::Instant::now();
        let mut waited = false;
        let mut wait = None;
        loop {
            let now = Timestamp::now();
            let (who, process) = (user_at_host(aws), ProcessId::own());
            let shard = if let Part::Shard(shard) = part { Some(shard.to_string()) } else { None };
            let holder =
                Holder { who, grid: tag.to_owned(), shard, since: now, expires: now + TERM, process };
            let current = match object.acquire(&holder, lock_wait).await? {
                Ok(etag) => match object.elsewhere(part, &holder, lock_wait).await {
                    Ok(None) => {
                        let (sender, receiver) = watch::channel(Some(etag));
                        let renewing = tokio::spawn(object.clone().renew(holder, sender));
                        return Ok(Self { object, renewing, etag: receiver, waited });
                    }
                    other => {
                        // No other run should wait for this lease while this run waits.
                        object.sidecar.delete(&etag).await?;
                        other?.flatten()
                    }
                },
                Err(current) => current,
            };
            if began.elapsed() >= lock_wait.timeout {
                return Err(held(current.as_ref(), lock_wait.timeout));
            }
            let (holder, shard) = current.map(|current| (current.who, current.shard)).unzip();
            // If another run takes the lease meanwhile, the wait shows that run.
            let left = lock_wait.timeout.saturating_sub(began.elapsed());
            Waiting::renew(&mut wait, holder.as_deref().unwrap_or("another run"), "its lease", left);
            if !waited {
                let shard = shard.flatten();
                (lock_wait.tell)(LeaseEvent::Waiting { holder, shard, timeout: lock_wait.timeout });
            }
            waited = true;
            let pause = async {
                tokio::time::sleep(ASKING).await;
                Ok(())
            };
            lock_wait.interrupt.guard(pause).await?;
        }
    }

    /// Whether another run held it first: a plan made before does not include that run's changes.
    pub fn waited(&self) -> bool {
        self.waited
    }

    /// Runs `work`. Stops it when the lease is lost.
    ///
    /// # Errors
    /// Errors of `work`, or the lease was taken over.
    pub async fn hold<T>(&self, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        tokio::select! {
            done = work => done,
            error = self.lost() => Err(error),
        }
    }

    /// Waits until the lease is lost, otherwise forever.
    async fn lost(&self) -> anyhow::Error {
        let mut etag = self.etag.clone();
        // An error means that the renewal ended because the lease was released.
        if etag.wait_for(Option::is_none).await.is_err() {
            std::future::pending::<()>().await;
        }
        failure(Kind::Terraform, "the lease on this grid's images was taken over by another run")
    }

    /// Releases the lease.
    ///
    /// # Errors
    /// S3 refuses or does not answer: then it expires by itself.
    pub async fn release(self) -> anyhow::Result<()> {
        self.renewing.abort();
        let etag = self.etag.borrow().clone();
        match etag {
            Some(etag) => self.object.sidecar.delete(&etag).await,
            None => Ok(()),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.renewing.abort();
    }
}

fn held(by: Option<&Holder>, timeout: Duration) -> anyhow::Error {
    let message = match by {
        Some(holder) => {
            let what = holder.shard.as_ref().map_or_else(String::new, |shard| format!("shard {shard} of "));
            format!(
                "{} has been working on {what}the images of grid {} since {}",
                holder.who, holder.grid, holder.since
            )
        }
        None => "another run has just taken the lease on this grid's images".to_owned(),
    };
    let wait = match timeout.as_secs() {
        0 => "wait for it, or give --lock-timeout".to_owned(),
        seconds => format!("it has not ended within {seconds} s: wait longer with --lock-timeout"),
    };
    let hint = match by {
        Some(holder) => format!(
            "{wait}; if that run is dead, its lease expires at {} and the next run takes it over (on the same machine at \
             once)",
            holder.expires
        ),
        None => "run it again".to_owned(),
    };
    ending(Kind::Terraform, Some(hint), anyhow::Error::msg(message))
}

fn user_at_host(aws: &Aws) -> String {
    format!("{} (process {})", on_this_machine(&aws.identity().arn), std::process::id())
}

/// A user on this machine, as other runs see the name.
pub fn on_this_machine(who: &str) -> String {
    format!("{who} on {}", rustix::system::uname().nodename().to_string_lossy())
}
