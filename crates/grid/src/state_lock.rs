//! Shows who holds terraform's lock on the state: terraform itself waits for it without a message.

use std::convert::Infallible;
use std::time::Duration;

use aws::Waiting;
use serde::Deserialize;

use super::Infrastructure;

/// Time between two reads of the lock.
const ASKING: Duration = Duration::from_secs(1);

/// The lock object of terraform (<https://github.com/hashicorp/terraform/blob/v1.11.4/internal/states/statemgr/locker.go>,
/// `LockInfo`).
#[derive(Deserialize)]
struct Lock {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Who")]
    who: String,
}

/// Runs a terraform command that waits up to `timeout` for its lock, and reports the holder of the lock meanwhile.
pub(super) async fn named<T>(
    grid: &Infrastructure<'_>,
    timeout: Duration,
    work: impl Future<Output = T>,
) -> T {
    // Before terraform is started, the lock cannot be this run's.
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

/// The lock, if it can be read. Terraform itself reports a lock that cannot be read.
async fn lock(grid: &Infrastructure<'_>) -> Option<Lock> {
    let found = grid.store.get(&grid.store.sidecar("tflock")).await.ok()??;
    serde_json::from_slice(&found.bytes).ok()
}
