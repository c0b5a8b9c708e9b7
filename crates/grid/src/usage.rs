//! The contents of repositories and the grids that use them, read before a deletion.

use std::collections::{BTreeMap, BTreeSet};

use aws::ecr::grids;
use futures_util::future::try_join_all;

use super::{Infrastructure, Inventory};

/// A repository, and what would be deleted with it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct RepositoryUsage {
    /// Its name.
    pub repository: String,
    /// Number of images in it.
    pub images: usize,
    /// Their size in bytes.
    pub bytes: u64,
    /// The other grids that mark it as used. It is kept for them.
    pub used_by: BTreeSet<String>,
}

/// Which grid uses which repository of the account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// The repositories selected by `wanted`.
    pub repositories: Vec<RepositoryUsage>,
    /// Every repository of the account with the grids that mark it as used.
    pub marks: BTreeMap<String, BTreeSet<String>>,
    /// Whether the account has another grid. Any grid may pull through a rule, and a rule does not show who does.
    pub others: bool,
}

/// The contents of the repositories selected by `wanted`, and the users of every repository in the account.
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
    /// Whether no other grid uses it.
    pub fn is_free(&self) -> bool {
        self.used_by.is_empty()
    }
}
