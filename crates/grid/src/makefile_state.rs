//! Imports a state of the Makefile's module.

use super::inventory::NULL_RESOURCE;
use super::{GridEvent, Infrastructure, Inventory};

/// Removes the Makefile module's `null_resource`s from the state. They represent nothing in AWS, and terraform cannot start without
/// their provider. First copies the state to an object next to it.
///
/// # Errors
/// S3 refuses, or another run has locked the state.
pub async fn leave(grid: &Infrastructure<'_>, inventory: &Inventory) -> anyhow::Result<()> {
    if !inventory.is_makefiles() {
        return Ok(());
    }
    let lease = grid.lease().await?;
    let left = aws::state::forget(grid.aws, &grid.store, NULL_RESOURCE).await;
    grid.release(lease).await;
    let (left, copy) = left?;
    let copy = format!("s3://{}/{copy}", grid.store.bucket());
    grid.options.watch.on_event(&GridEvent::MakefileImported { removed: left, copy });
    Ok(())
}
