//! Reads the holders of a grid's leases, without taking one.

use jiff::Timestamp;
use serde::Serialize;

use super::WHOLE;
use super::object::Holder;
use crate::process_id::ProcessId;
use crate::sidecar::Sidecar;
use crate::store::StateStore;

/// A run that works on a grid's images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ActiveRun {
    /// The user, with machine and process.
    pub who: String,
    /// Its shard of the images. `None` for all images.
    pub shard: Option<String>,
    /// When it took the lease.
    pub since: Timestamp,
    /// When the lease expires, unless it is renewed.
    pub expires: Timestamp,
    /// Whether the process is known to have ended: the next run takes the lease over.
    pub gone: bool,
}

/// All holders of leases next to the state. Takes and changes nothing.
///
/// # Errors
/// S3 refuses or does not answer.
pub async fn at_work(store: &StateStore) -> anyhow::Result<Vec<ActiveRun>> {
    let keys = store.list(&store.sidecar(WHOLE)).await?;
    let mut found = Vec::new();
    for key in keys {
        let Some(read) = Sidecar::<Holder>::at(store, key, "a lease").read_if_understood().await? else {
            continue;
        };
        let holder = read.content;
        found.push(ActiveRun {
            gone: holder.process.as_ref().is_some_and(ProcessId::is_gone),
            who: holder.who,
            shard: holder.shard,
            since: holder.since,
            expires: holder.expires,
        });
    }
    Ok(found)
}
