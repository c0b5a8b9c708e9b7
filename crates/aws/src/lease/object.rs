//! The object that says who holds a lease: taken, looked at and renewed by conditional writes.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{LockWait, News, Part, WHOLE};
use crate::process_id::ProcessId;
use crate::sidecar::{Found, Sidecar};
use crate::store::{If, StateStore};

/// How long a lease is good for without being renewed.
pub(super) const TERM: Duration = Duration::from_secs(300);
/// How often it is renewed: often enough for one renewal to fail.
const RENEWAL: Duration = Duration::from_secs(100);

/// Who holds the lease, since when, and until when unless it is renewed.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(super) struct Holder {
    pub(super) who: String,
    pub(super) grid: String,
    /// The share of the images, where it is not all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) shard: Option<String>,
    pub(super) since: Timestamp,
    pub(super) expires: Timestamp,
    /// The process, where its machine can tell whether it still lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) process: Option<ProcessId>,
}

/// How often a lease is tried for that changes hands under the caller's eyes.
const ROUNDS: u32 = 5;

/// The object that says who holds a lease.
#[derive(Clone, Debug)]
pub(super) struct Object {
    store: StateStore,
    pub(super) sidecar: Sidecar<Holder>,
}

impl Holder {
    /// Whether both are the same run.
    fn is(&self, other: &Self) -> bool {
        (&self.who, self.since) == (&other.who, other.since)
    }
}

impl Object {
    pub(super) fn new(store: &StateStore, key: String) -> Self {
        Self { store: store.clone(), sidecar: Sidecar::at(store, key, "a lease") }
    }

    /// Writes the holder where nobody holds the lease, or nobody does any more; else gives who does, as far as that can be
    /// read.
    pub(super) async fn acquire(
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
    pub(super) async fn elsewhere(
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

    pub(super) async fn renew(self, mut holder: Holder, etag: watch::Sender<Option<String>>) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::{Answer, given, listed, refused, scripted};

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
