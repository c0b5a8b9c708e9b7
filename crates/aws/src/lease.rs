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

use std::fmt;
use std::time::Duration;

use failure::{Interrupt, Kind, ending, failure};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::Aws;
use super::process_id::ProcessId;
use super::sidecar::{Found, Sidecar};
use super::store::{If, StateStore};
use crate::shard::Shard;

/// How long a lease is good for without being renewed.
const TERM: Duration = Duration::from_secs(300);
/// How often it is renewed: often enough for one renewal to fail.
const RENEWAL: Duration = Duration::from_secs(100);
/// What the whole lease's name ends with.
const WHOLE: &str = "transfer.lock";
/// How often a lease that somebody else holds is asked for.
const ASKING: Duration = Duration::from_millis(500);

/// Who holds the lease, since when, and until when unless it is renewed.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
struct Holder {
    who: String,
    grid: String,
    /// The share of the images, where it is not all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shard: Option<String>,
    since: Timestamp,
    expires: Timestamp,
    /// The process, where its machine can tell whether it still lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    process: Option<ProcessId>,
}

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
                return Err(held(current.as_ref()));
            }
            if !waited {
                let (holder, shard) = current.map(|current| (current.who, current.shard)).unzip();
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

    /// Waits until the lease is lost, which ends the right to go on; for ever if it is not.
    pub async fn lost(&self) -> anyhow::Error {
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

/// How often a lease is tried for that changes hands under the caller's eyes.
const ROUNDS: u32 = 5;

/// The object that says who holds a lease.
#[derive(Clone, Debug)]
struct Object {
    store: StateStore,
    sidecar: Sidecar<Holder>,
}

impl Holder {
    /// Whether both are the same run.
    fn is(&self, other: &Self) -> bool {
        (&self.who, self.since) == (&other.who, other.since)
    }
}

impl Object {
    fn new(store: &StateStore, key: String) -> Self {
        Self { store: store.clone(), sidecar: Sidecar::at(store, key, "a lease") }
    }

    /// Writes the holder where nobody holds the lease, or nobody does any more; else gives who does, as far as that can be
    /// read.
    async fn acquire(
        &self,
        holder: &Holder,
        lock_wait: &LockWait<'_>,
    ) -> anyhow::Result<Result<String, Option<Holder>>> {
        // Each round lost is a round that somebody else won; who that was stands in the object.
        for _ in 0..ROUNDS {
            let now = match self.sidecar.write_if(holder, If::Absent).await? {
                Ok(etag) => return Ok(Ok(etag)),
                Err(refusal) => refusal.at,
            };
            let Some(found) = self.sidecar.read().await? else { continue };
            let Found { content: current, etag, modified: renewed } = found;
            // The answer to the first try was lost, and the SDK tried again.
            if current.is(holder) {
                return Ok(Ok(etag));
            }
            let gone = current.process.as_ref().is_some_and(ProcessId::is_gone);
            if !gone && !is_over(renewed, now) {
                return Ok(Err(Some(current)));
            }
            if let Ok(etag) = self.sidecar.write_if(holder, If::Is(&etag)).await? {
                (lock_wait.tell)(News::TakenOver { holder: current.who, gone });
                return Ok(Ok(etag));
            }
        }
        Ok(Err(None))
    }

    /// Who holds a lease that goes with this one not at all, where somebody does. Dead ones are taken away.
    async fn elsewhere(
        &self,
        part: Part,
        own: &Holder,
        lock_wait: &LockWait<'_>,
    ) -> anyhow::Result<Option<Option<Holder>>> {
        let whole = || self.store.sidecar(WHOLE);
        let keys = match part {
            Part::Resources => return Ok(None),
            Part::Whole => self.store.list(&format!("{}.", whole())).await?,
            Part::Shard(_) => match self.store.get(&whole()).await? {
                Some(_) => vec![whole()],
                None => return Ok(None),
            },
        };
        for key in keys {
            let other = Self::new(&self.store, key);
            // To be able to take it is the one proof that nobody holds it.
            match other.acquire(own, lock_wait).await? {
                Ok(etag) => other.sidecar.delete(&etag).await?,
                Err(holder) => return Ok(Some(holder)),
            }
        }
        Ok(None)
    }

    async fn renew(self, mut holder: Holder, etag: watch::Sender<Option<String>>) {
        loop {
            tokio::time::sleep(RENEWAL).await;
            holder.expires = Timestamp::now() + TERM;
            let current = etag.borrow().clone();
            match self.renewed(&holder, current.as_deref()).await {
                Ok(renewed) => {
                    let lost = renewed.is_none();
                    let _ = etag.send(renewed);
                    if lost {
                        return;
                    }
                }
                // There is another renewal before it expires.
                Err(error) => tracing::warn!("could not renew the lease: {error:#}"),
            }
        }
    }

    /// Renews the lease and gives its new ETag; none where another run holds it. That is not believed before its name was read:
    /// S3 also says no where its first answer was lost, where another request was under way, and, for a while after versioning
    /// was switched on, where it has forgotten an object.
    async fn renewed(&self, holder: &Holder, etag: Option<&str>) -> anyhow::Result<Option<String>> {
        let mut condition = etag.map(str::to_owned);
        for _ in 0..ROUNDS {
            let on = condition.as_deref().map_or(If::Absent, If::Is);
            if let Ok(etag) = self.sidecar.write_if(holder, on).await? {
                return Ok(Some(etag));
            }
            condition = match self.sidecar.read().await? {
                Some(found) if !found.content.is(holder) => return Ok(None),
                Some(found) => Some(found.etag),
                None => None,
            };
        }
        anyhow::bail!("S3 refuses it and names no other holder")
    }
}

/// Whether a lease that was renewed at one time is over at another, both by S3's clock. What S3 does not say is not over.
fn is_over(renewed: Option<i64>, now: Option<i64>) -> bool {
    let term = i64::try_from(TERM.as_secs()).unwrap_or(i64::MAX);
    renewed.zip(now).is_some_and(|(renewed, now)| now.saturating_sub(renewed) > term)
}

fn held(by: Option<&Holder>) -> anyhow::Error {
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
    let hint = match by {
        Some(holder) => format!(
            "wait for it, or give --lock-timeout; if that run is dead, its lease expires at {} and the next run takes it \
             over (on the same machine at once)",
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

#[cfg(test)]
mod tests {
    use super::super::store::tests::{Answer, given, listed, refused, scripted};
    use super::*;

    fn holder(who: &str) -> Holder {
        let since: Timestamp = "2026-11-27T07:00:00Z".parse().unwrap();
        let (who, grid) = (who.into(), "mainline".into());
        Holder { who, grid, shard: None, since, expires: since + TERM, process: None }
    }

    fn held_by(who: &str) -> Answer {
        given(&serde_json::to_string(&holder(who)).unwrap())
    }

    const RENEWED: Answer = (200, &[("etag", "\"e2\"")], String::new());
    const ABSENT: fn() -> [Answer; 2] = || [refused(404, "NoSuchKey"), listed("another")];

    async fn renewal(answers: Vec<Answer>) -> (anyhow::Result<Option<String>>, Vec<String>) {
        let (store, asked) = scripted(answers);
        let object = Object::new(&store, "t.transfer.lock".into());
        let renewed = object.renewed(&holder("anna"), Some("\"e1\"")).await;
        (renewed, asked())
    }

    #[tokio::test]
    async fn only_another_run_s_name_ends_a_lease() {
        let e2 = Some("\"e2\"".to_owned());
        // Its own write, whose answer was lost.
        let (renewed, asked) =
            renewal(vec![refused(412, "PreconditionFailed"), held_by("anna"), RENEWED]).await;
        assert_eq!(renewed.unwrap(), e2);
        assert_eq!(asked[2], "PUT t.transfer.lock \"e1\"");
        // Forgotten by S3.
        let [none, nothing] = ABSENT();
        let (renewed, asked) = renewal(vec![refused(404, "NoSuchKey"), none, nothing, RENEWED]).await;
        assert_eq!(renewed.unwrap(), e2);
        assert_eq!(asked[3], "PUT t.transfer.lock *");
        // Not shown for a while.
        let hidden = vec![
            refused(404, "NoSuchKey"),
            refused(404, "NoSuchKey"),
            listed("t.transfer.lock"),
            held_by("anna"),
            RENEWED,
        ];
        assert_eq!(renewal(hidden).await.0.unwrap(), e2);
        // Somebody else's.
        let (renewed, _) = renewal(vec![refused(412, "PreconditionFailed"), held_by("ben")]).await;
        assert_eq!(renewed.unwrap(), None);
    }

    #[test]
    fn a_lease_is_over_by_the_service_s_clock_alone() {
        assert!(!is_over(Some(1000), Some(1300)));
        assert!(is_over(Some(1000), Some(1301)));
        // Renewed between the refusal and the reading.
        assert!(!is_over(Some(1301), Some(1000)));
        assert!(!is_over(None, Some(1000)) && !is_over(Some(1000), None));
    }
}
