//! Terraform's own lock on the state, where somebody else holds it: terraform waits for it and says nothing.

use std::convert::Infallible;
use std::time::Duration;

use aws::Waiting;
use serde::Deserialize;

use super::Infrastructure;

/// How often it is looked at.
const ASKING: Duration = Duration::from_secs(1);

/// What terraform writes about a lock
/// (<https://github.com/hashicorp/terraform/blob/v1.11.4/internal/states/statemgr/locker.go>, `LockInfo`).
#[derive(Deserialize)]
struct Lock {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Who")]
    who: String,
}

/// Does `work` of terraform's, which waits for its lock for as long as `timeout`, and says meanwhile who holds the lock.
pub(super) async fn named<T>(
    grid: &Infrastructure<'_>,
    timeout: Duration,
    work: impl Future<Output = T>,
) -> T {
    // Before terraform is started the lock is not this run's.
    let held = if timeout.is_zero() { None } else { lock(grid).await };
    let Some(held) = held else { return work.await };
    let watching = async {
        let wait = Waiting::new(&held.who, "its lock on the terraform state", timeout);
        while lock(grid).await.is_some_and(|lock| lock.id == held.id) {
            tokio::time::sleep(ASKING).await;
        }
        drop(wait);
        std::future::pending::<Infallible>().await
    };
    tokio::select! {
        done = work => done,
        never = watching => match never {},
    }
}

/// The lock that is there, if it can be read: terraform itself says what is wrong with one that cannot.
async fn lock(grid: &Infrastructure<'_>) -> Option<Lock> {
    let found = grid.store.get(&grid.store.sidecar("tflock")).await.ok()??;
    serde_json::from_slice(&found.bytes).ok()
}
