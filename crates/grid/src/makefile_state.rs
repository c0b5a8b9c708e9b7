//! A state of the Makefile's, which is imported.

use super::inventory::NULL_RESOURCE;
use super::{Infrastructure, Inventory, News};

/// Takes what only the Makefile's module needs out of the state: its `null_resource`s, which stand for nothing and
/// keep terraform from starting without their provider. A copy of the state is put beside it first.
///
/// # Errors
/// S3 refuses, or somebody else works on the state.
pub async fn leave(grid: &Infrastructure<'_>, inventory: &Inventory) -> anyhow::Result<()> {
    if !inventory.is_makefiles() {
        return Ok(());
    }
    let lease = grid.lease().await?;
    let left = aws::state::forget(grid.aws, &grid.store, NULL_RESOURCE).await;
    grid.release(lease).await;
    let (left, copy) = left?;
    let copy = format!("s3://{}/{copy}", grid.store.bucket());
    grid.options.watch.hear(&News::MakefileImported { removed: left, copy });
    Ok(())
}
