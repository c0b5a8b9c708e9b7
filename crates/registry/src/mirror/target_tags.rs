//! What the target's tags point to, asked for in bulk if the registry has a form for it; and for a repository that does not
//! exist, once for all of its tags.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::OnceCell;

use super::{Job, Mapping, Mirror, TagIndex};
use crate::digest::Digest;
use crate::error::Error;
use crate::lists;
use crate::reference::Reference;

/// The tags of a run, by repository. Each repository is asked once, when its first image is looked at.
#[derive(Debug, Default)]
pub(super) struct TargetTags(HashMap<(String, String), Group>);

/// The tags of one repository that are wanted, and what the registry answered.
#[derive(Debug, Default)]
struct Group {
    wanted: Vec<String>,
    known: OnceCell<HashMap<String, Option<Digest>>>,
    /// Whether an earlier run has put one of them.
    is_known: bool,
    first: OnceCell<First>,
}

/// What looking for the first tag of a repository has shown.
#[derive(Debug)]
struct First {
    tag: String,
    digest: Result<Option<Digest>, Error>,
    /// The repository does not exist, and so none of its tags.
    is_absent: bool,
}

/// For so many tags it is worth asking whether their repository exists.
const MANY: usize = 3;

impl TargetTags {
    /// The target tags of `jobs`.
    pub(super) fn of(mapping: &dyn Mapping, jobs: &[Arc<Job>]) -> Self {
        let mut groups: HashMap<_, Group> = HashMap::new();
        for target in jobs.iter().map(|job| &job.target) {
            if let Some(tag) = target.tag() {
                let key = (target.registry().to_owned(), target.repository().to_owned());
                let group = groups.entry(key).or_default();
                group.wanted.push(tag.to_owned());
                group.is_known |= mapping.target_digest(target).is_some();
            }
        }
        // One tag is one HEAD.
        groups.retain(|_, group| group.wanted.len() > 1);
        Self(groups)
    }

    /// What the target's tag points to, `Some(None)` if it does not exist; `None` if that is not known in bulk.
    async fn get(&self, index: &dyn TagIndex, target: &Reference) -> Option<Option<Digest>> {
        let key = (target.registry().to_owned(), target.repository().to_owned());
        let group = self.0.get(&key)?;
        let ask = || async { index.tags(target, &group.wanted).await.unwrap_or_default() };
        group.known.get_or_init(ask).await.get(target.tag()?).copied()
    }

    /// Whether the target is one of many tags of a repository that no run is known to have written to.
    pub(super) fn are_new(&self, target: &Reference) -> bool {
        self.new_group(target).is_some()
    }

    fn new_group(&self, target: &Reference) -> Option<&Group> {
        let key = (target.registry().to_owned(), target.repository().to_owned());
        self.0.get(&key).filter(|group| !group.is_known && group.wanted.len() >= MANY)
    }

    /// What the target's tag points to: known in bulk, or by HEAD.
    pub(super) async fn digest(&self, mirror: &Mirror, target: &Reference) -> Result<Option<Digest>, Error> {
        if let Some(index) = &mirror.tag_index
            && let Some(known) = self.get(&**index, target).await
        {
            return Ok(known);
        }
        let Some(group) = self.new_group(target) else { return look(mirror, target).await };
        let first = group.first.get_or_init(|| First::look(mirror, target)).await;
        match target.tag() {
            Some(tag) if tag == first.tag => first.digest.clone(),
            _ if first.is_absent => Ok(None),
            _ => look(mirror, target).await,
        }
    }
}

impl First {
    async fn look(mirror: &Mirror, target: &Reference) -> Self {
        let digest = look(mirror, target).await;
        let is_absent = matches!(digest, Ok(None)) && lists::lacks_repository(&mirror.client, target).await;
        Self { tag: target.tag().unwrap_or_default().to_owned(), digest, is_absent }
    }
}

/// By HEAD.
async fn look(mirror: &Mirror, target: &Reference) -> Result<Option<Digest>, Error> {
    Ok(mirror.client.look_up(target).await?.map(|found| found.digest))
}
