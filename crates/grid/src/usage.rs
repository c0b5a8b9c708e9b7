//! What repositories hold and who else uses them, read before anything is deleted.

use std::collections::{BTreeMap, BTreeSet};

use aws::ecr::grids;
use futures_util::future::try_join_all;

use super::{Infrastructure, Inventory};

/// A repository, and what deleting it would take along.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct RepositoryUsage {
    /// Its name.
    pub repository: String,
    /// Images in it.
    pub images: usize,
    /// Their size in bytes.
    pub bytes: u64,
    /// The other grids that mark it as used: it is kept for them.
    pub used_by: BTreeSet<String>,
}

/// Who uses what in the account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Those that were asked for.
    pub repositories: Vec<RepositoryUsage>,
    /// Every repository of the account with the grids that mark it as used.
    pub marks: BTreeMap<String, BTreeSet<String>>,
    /// Whether another grid is in the account. Any may pull through a rule, and nothing on a rule says which does.
    pub others: bool,
}

/// What the repositories hold that `wanted` says yes to, and who uses which repository of the account.
///
/// # Errors
/// AWS refuses or does not answer.
pub async fn read(
    grid: &Infrastructure<'_>,
    inventory: &Inventory,
    wanted: impl Fn(&str) -> bool,
) -> anyhow::Result<Usage> {
    let tag = &grid.options.tag;
    let marks = inventory.repositories.values().map(|repository| async move {
        anyhow::Ok((repository.name.clone(), grids::users(&grid.ecr, repository).await?))
    });
    let marks: BTreeMap<String, BTreeSet<String>> = try_join_all(marks).await?.into_iter().collect();
    let wanted = marks.iter().filter(|(name, _)| wanted(name)).map(|(name, marks)| async move {
        let images = grid.ecr.images(name).await?;
        anyhow::Ok(RepositoryUsage {
            repository: name.clone(),
            images: images.len(),
            bytes: images.iter().map(|image| image.size).sum(),
            used_by: marks.iter().filter(|grid| *grid != tag).cloned().collect(),
        })
    });
    let repositories = try_join_all(wanted).await?;
    let others = marks.values().flatten().any(|grid| grid != tag);
    Ok(Usage { repositories, marks, others })
}

impl RepositoryUsage {
    /// Whether nobody else uses it.
    pub fn is_free(&self) -> bool {
        self.used_by.is_empty()
    }
}
