//! What the target's tags mean, asked for in bulk where the registry has a way for it.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::OnceCell;

use super::{Job, Mirror, TagIndex};
use crate::digest::Digest;
use crate::error::Error;
use crate::reference::Reference;

/// The tags of a run, by repository. Each repository is asked about once, when its first image is looked at.
#[derive(Debug, Default)]
pub(super) struct Tags(HashMap<(String, String), Group>);

/// The tags of one repository that are wanted, and what came of asking.
#[derive(Debug, Default)]
struct Group {
    wanted: Vec<String>,
    known: OnceCell<HashMap<String, Option<Digest>>>,
}

impl Tags {
    /// The target tags of `jobs`.
    pub(super) fn of(jobs: &[Arc<Job>]) -> Self {
        let mut groups: HashMap<_, Group> = HashMap::new();
        for target in jobs.iter().map(|job| &job.target) {
            if let Some(tag) = target.tag() {
                let key = (target.registry().to_owned(), target.repository().to_owned());
                groups.entry(key).or_default().wanted.push(tag.to_owned());
            }
        }
        // One tag is one HEAD.
        groups.retain(|_, group| group.wanted.len() > 1);
        Self(groups)
    }

    /// What the target's tag means, or none inside where it is not there; none where that is not known in bulk.
    async fn get(&self, index: &dyn TagIndex, target: &Reference) -> Option<Option<Digest>> {
        let key = (target.registry().to_owned(), target.repository().to_owned());
        let group = self.0.get(&key)?;
        let ask = || async { index.tags(target, &group.wanted).await.unwrap_or_default() };
        group.known.get_or_init(ask).await.get(target.tag()?).copied()
    }

    /// What the target's tag means: known in bulk, or by HEAD.
    pub(super) async fn digest(&self, mirror: &Mirror, target: &Reference) -> Result<Option<Digest>, Error> {
        if let Some(index) = &mirror.tag_index
            && let Some(known) = self.get(&**index, target).await
        {
            return Ok(known);
        }
        Ok(mirror.client.look_up(target).await?.map(|found| found.digest))
    }
}
