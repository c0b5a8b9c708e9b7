//! Who holds the leases of a grid, for those who only want to know.

use jiff::Timestamp;
use serde::Serialize;

use super::WHOLE;
use super::object::Holder;
use crate::process_id::ProcessId;
use crate::sidecar::Sidecar;
use crate::store::StateStore;

/// Somebody at work on a grid's images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AtWork {
    /// Who, with machine and process.
    pub who: String,
    /// The share of the images, where it is not all of them.
    pub shard: Option<String>,
    /// Since when.
    pub since: Timestamp,
    /// Until when, unless it is renewed.
    pub expires: Timestamp,
    /// Whether the process is known to have ended: the next run takes the lease over.
    pub gone: bool,
}

/// Everybody who holds a lease beside the state; nothing is taken or changed.
///
/// # Errors
/// S3 refuses or does not answer.
pub async fn at_work(store: &StateStore) -> anyhow::Result<Vec<AtWork>> {
    let keys = store.list(&store.sidecar(WHOLE)).await?;
    let mut found = Vec::new();
    for key in keys {
        let Some(read) = Sidecar::<Holder>::at(store, key, "a lease").read_if_understood().await? else {
            continue;
        };
        let holder = read.content;
        found.push(AtWork {
            gone: holder.process.as_ref().is_some_and(ProcessId::is_gone),
            who: holder.who,
            shard: holder.shard,
            since: holder.since,
            expires: holder.expires,
        });
    }
    Ok(found)
}
