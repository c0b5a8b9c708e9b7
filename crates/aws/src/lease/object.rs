//! The object of a lease: written, read and renewed with conditional writes.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{LeaseEvent, LockWait, Part, WHOLE};
use crate::process_id::ProcessId;
use crate::sidecar::{Found, Sidecar};
use crate::store::{StateStore, WriteCondition};

/// How long a lease is valid without a renewal.
pub(super) const TERM: Duration = Duration::from_secs(300);
/// Time between renewals: short enough that one of them may fail.
const RENEWAL: Duration = Duration::from_secs(100);

/// The holder, when it took the lease, and when the lease expires without a renewal.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(super) struct Holder {
    pub(super) who: String,
    pub(super) grid: String,
    /// The shard of the images. `None` for all images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) shard: Option<String>,
    pub(super) since: Timestamp,
    pub(super) expires: Timestamp,
    /// The process, if its machine can tell whether it still runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) process: Option<ProcessId>,
}

/// Attempts when the lease changes between read and write.
const ROUNDS: u32 = 5;

/// The object of a lease.
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

    /// Writes the holder if the lease is free or its holder has ended. Otherwise returns the present holder, if it can be read.
    pub(super) async fn acquire(
        &self,
        holder: &Holder,
        lock_wait: &LockWait<'_>,
    ) -> anyhow::Result<Result<String, Option<Holder>>> {
        // After a lost round another run has the lease; the object has its name.
        for _ in 0..ROUNDS {
            let now = match self.sidecar.write_if(holder, WriteCondition::Absent).await? {
                Ok(etag) => return Ok(Ok(etag)),
                Err(refusal) => refusal.at,
            };
            let Some(found) = self.sidecar.read().await? else { continue };
            let Found { content: current, etag, modified: renewed } = found;
            // The response to the first attempt was lost, and the SDK tried again.
            if current.is(holder) {
                return Ok(Ok(etag));
            }
            let gone = current.process.as_ref().is_some_and(ProcessId::is_gone);
            if !gone && !is_over(renewed, now) {
                return Ok(Err(Some(current)));
            }
            if let Ok(etag) = self.sidecar.write_if(holder, WriteCondition::Is(&etag)).await? {
                (lock_wait.tell)(LeaseEvent::TakenOver { holder: current.who, gone });
                return Ok(Ok(etag));
            }
        }
        Ok(Err(None))
    }

    /// The holder of a lease that conflicts with this one, if any. Removes leases of ended runs.
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
            // Only a successful take proves that no run holds it.
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

    /// Renews the lease and returns its new ETag. `None` if another run holds it, but only after reading that run's name. S3 also
    /// refuses if its first response was lost, if another request was in progress, and, for a while after versioning was enabled,
    /// if it does not find the object.
    async fn renewed(&self, holder: &Holder, etag: Option<&str>) -> anyhow::Result<Option<String>> {
        let mut condition = etag.map(str::to_owned);
        for _ in 0..ROUNDS {
            let on = condition.as_deref().map_or(WriteCondition::Absent, WriteCondition::Is);
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

/// Whether a lease that was renewed at one time has expired at another, both by S3's clock. Unknown times do not count as expired.
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
    async fn a_lease_is_lost_only_to_another_run() {
        let e2 = Some("\"e2\"".to_owned());
        // This run's own write, whose response was lost.
        let (renewed, asked) =
            renewal(vec![refused(412, "PreconditionFailed"), held_by("anna"), RENEWED]).await;
        assert_eq!(renewed.unwrap(), e2);
        assert_eq!(asked[2], "PUT t.transfer.lock \"e1\"");
        // S3 does not find the object for a moment.
        let [none, nothing] = ABSENT();
        let (renewed, asked) = renewal(vec![refused(404, "NoSuchKey"), none, nothing, RENEWED]).await;
        assert_eq!(renewed.unwrap(), e2);
        assert_eq!(asked[3], "PUT t.transfer.lock *");
        // The object is hidden for a while.
        let hidden = vec![
            refused(404, "NoSuchKey"),
            refused(404, "NoSuchKey"),
            listed("t.transfer.lock"),
            held_by("anna"),
            RENEWED,
        ];
        assert_eq!(renewal(hidden).await.0.unwrap(), e2);
        // Another run's lease.
        let (renewed, _) = renewal(vec![refused(412, "PreconditionFailed"), held_by("ben")]).await;
        assert_eq!(renewed.unwrap(), None);
    }

    #[test]
    fn a_lease_expires_only_by_the_services_clock() {
        assert!(!is_over(Some(1000), Some(1300)));
        assert!(is_over(Some(1000), Some(1301)));
        // The lease was renewed between the refusal and the read.
        assert!(!is_over(Some(1301), Some(1000)));
        assert!(!is_over(None, Some(1000)) && !is_over(Some(1000), None));
    }
}
