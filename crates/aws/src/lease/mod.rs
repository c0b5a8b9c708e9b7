//! One transfer at a time: an object beside the terraform state that only one run can hold.
//!
//! S3's conditional writes decide who gets it
//! (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html>). Terraform's own lock covers its
//! plan and apply alone; this one covers everything from there to the last tag. A run that was killed leaves it
//! behind: the next one takes it over at once where it can see that the process is gone, else once it has expired. Its age
//! is told by S3's clock alone: those of two machines may differ by more than a lease lasts.
//!
//! A shard of a run holds a lease of its own beside that one. Shards work side by side; a whole run and a shard do not: each takes
//! its own lease first and looks at the other's then, so that of two at the same moment at least one sees the other and gives way.

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

/// What the whole lease's name ends with.
const WHOLE: &str = "transfer.lock";
/// How often a lease that somebody else holds is asked for.
const ASKING: Duration = Duration::from_millis(500);

/// What a lease is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The grid's images, all of them: nobody else works on any.
    Whole,
    /// The grid's resources alone: shards may copy beside it.
    Resources,
    /// A share of the images.
    Shard(Shard),
}

impl Part {
    /// What its object's name ends with.
    fn suffix(self) -> String {
        match self {
            Self::Whole | Self::Resources => WHOLE.to_owned(),
            Self::Shard(shard) => format!("{WHOLE}.{}", shard.slug()),
        }
    }
}

/// What to do where somebody else holds the lease.
pub struct LockWait<'a> {
    /// How long to wait for it.
    pub timeout: Duration,
    /// What ends the waiting.
    pub interrupt: &'a Interrupt,
    /// Is told what happens meanwhile.
    pub tell: &'a (dyn Fn(News) + Sync),
}

/// What happens while a lease is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Somebody else holds it, and this run waits.
    Waiting {
        /// Who holds it, where that is known.
        holder: Option<String>,
        /// The shard that they work on, where it is one.
        shard: Option<String>,
        /// How long this run waits at most.
        timeout: Duration,
    },
    /// It was taken over.
    TakenOver {
        /// Who held it.
        holder: String,
        /// Whether their process is known to be gone; else the lease had expired.
        gone: bool,
    },
}

impl fmt::Display for News {
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
    /// Takes the lease on `part` beside the state for the grid `tag`.
    ///
    /// # Errors
    /// Somebody else holds it for longer than the caller's patience: the error names them. S3 refuses or does not answer.
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
            let (who, process) = (who(aws), ProcessId::own());
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
                        // Nobody else is to wait for it while this one waits.
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
            // Whoever has taken it meanwhile is waited for from then on.
            let left = lock_wait.timeout.saturating_sub(began.elapsed());
            Waiting::renew(&mut wait, holder.as_deref().unwrap_or("another run"), "its lease", left);
            if !waited {
                let shard = shard.flatten();
                (lock_wait.tell)(News::Waiting { holder, shard, timeout: lock_wait.timeout });
            }
            waited = true;
            let pause = async {
                tokio::time::sleep(ASKING).await;
                Ok(())
            };
            lock_wait.interrupt.guard(pause).await?;
        }
    }

    /// Whether somebody else held it first: what they did is not in a plan that was made before.
    pub fn waited(&self) -> bool {
        self.waited
    }

    /// Does `work`, which ends when the lease is lost.
    ///
    /// # Errors
    /// Those of `work`, or the lease was taken over.
    pub async fn hold<T>(&self, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        tokio::select! {
            done = work => done,
            error = self.lost() => Err(error),
        }
    }

    /// Waits until the lease is lost; for ever if it is not.
    async fn lost(&self) -> anyhow::Error {
        let mut etag = self.etag.clone();
        // An error means that the renewal has ended without losing it: the lease was released.
        if etag.wait_for(Option::is_none).await.is_err() {
            std::future::pending::<()>().await;
        }
        failure(Kind::Terraform, "the lease on this grid's images was taken over by another run")
    }

    /// Gives the lease back.
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

fn who(aws: &Aws) -> String {
    format!("{} (process {})", on_this_machine(&aws.identity().arn), std::process::id())
}

/// Somebody at work here, as others are told of them.
pub fn on_this_machine(who: &str) -> String {
    format!("{who} on {}", rustix::system::uname().nodename().to_string_lossy())
}
