//! The grids that use a repository. Grids share the repositories of an account and region. Each grid that uses one adds its own ECR
//! tag, `htc-grid/<TAG>`.

use std::collections::BTreeSet;

use aws_sdk_ecr::types::Tag;

use super::{Ecr, Repository};
use crate::errors::explain;

/// The prefix of these tags.
pub const PREFIX: &str = "htc-grid/";

/// The grids that use a repository.
///
/// # Errors
/// AWS refuses or does not answer.
pub async fn users(ecr: &Ecr, repository: &Repository) -> anyhow::Result<BTreeSet<String>> {
    let request = ecr.client.list_tags_for_resource().resource_arn(&repository.arn);
    let answer = request.send().await.map_err(|e| explain(e, "ecr:ListTagsForResource"))?;
    let keys = answer.tags.unwrap_or_default().into_iter().map(|tag| tag.key);
    Ok(keys.filter_map(|key| key.strip_prefix(PREFIX).map(str::to_owned)).collect())
}

/// Adds the grid `tag` to the users of a repository.
///
/// # Errors
/// AWS refuses or does not answer.
pub async fn add_user(ecr: &Ecr, repository: &Repository, tag: &str) -> anyhow::Result<()> {
    let tag = Tag::builder().key(format!("{PREFIX}{tag}")).value("used").build()?;
    let request = ecr.client.tag_resource().resource_arn(&repository.arn).tags(tag);
    request.send().await.map_err(|e| explain(e, "ecr:TagResource"))?;
    Ok(())
}

/// Removes the grid `tag` from the users of a repository.
///
/// # Errors
/// AWS refuses or does not answer.
pub async fn remove_user(ecr: &Ecr, repository: &Repository, tag: &str) -> anyhow::Result<()> {
    let request = ecr.client.untag_resource().resource_arn(&repository.arn);
    let request = request.tag_keys(format!("{PREFIX}{tag}"));
    request.send().await.map_err(|e| explain(e, "ecr:UntagResource"))?;
    Ok(())
}
