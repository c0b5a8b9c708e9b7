//! What stands in an account, and what of it a grid owns.

use std::collections::BTreeMap;

use crate::aws::ecr::Repository;
use crate::aws::proof::Beside;
use crate::aws::state::State;
use crate::config::Config;
use crate::config::tfvars::Existing;
use crate::error::{Exit, FailWith as _, failure};

/// The resource type of a repository in the state.
pub const REPOSITORY: &str = "aws_ecr_repository";
/// The resource type of a pull-through cache rule in the state.
pub const RULE: &str = "aws_ecr_pull_through_cache_rule";
/// What the Makefile's module did its work with.
pub(super) const NULL_RESOURCE: &str = "null_resource";

/// What stands in the account, read without terraform.
#[derive(Clone, Debug)]
pub struct Survey {
    /// What the terraform state owns.
    pub state: State,
    /// Every repository of the account and region.
    pub repositories: BTreeMap<String, Repository>,
    /// Every pull-through cache rule: prefix to upstream.
    pub rules: BTreeMap<String, String>,
    pub(super) beside: Option<Beside>,
}

impl Survey {
    /// Whether the Makefile's module wrote the state last: its `null_resource`s are still there.
    pub(super) fn is_makefiles(&self) -> bool {
        self.state.owned.contains_key(NULL_RESOURCE)
    }

    /// Stops at a state that has to be taken over first, which changes it and so is not done in passing.
    ///
    /// # Errors
    /// The state is the Makefile's.
    pub fn refuse_makefile(&self) -> anyhow::Result<()> {
        if !self.is_makefiles() {
            return Ok(());
        }
        Err(failure(Exit::Config, "the terraform state is the Makefile's, with its null_resources")).hint(
            Exit::Config,
            "`cargo xtask init-images` takes it over: a copy is put beside it, nothing in AWS changes",
        )
    }

    /// What the state owns, still stands, and is not in images.toml.
    pub fn no_longer_wanted(&self, config: &Config) -> NoLongerWanted {
        let owned = |resource| self.state.owned.get(resource).into_iter().flatten();
        NoLongerWanted {
            repositories: owned(REPOSITORY)
                .filter(|name| !config.repositories.contains(name) && self.repositories.contains_key(*name))
                .cloned()
                .collect(),
            rules: owned(RULE)
                .filter(|prefix| !config.pull_through.iter().any(|rule| rule.prefix == **prefix))
                .filter_map(|prefix| Some((prefix.clone(), self.rules.get(prefix)?.clone())))
                .collect(),
        }
    }

    /// What stands and is not in the state: it is used, and left alone.
    pub(super) fn foreign(&self) -> Existing {
        let foreign = |resource, name: &String| !self.state.owns(resource, name);
        Existing {
            repositories: self
                .repositories
                .values()
                .filter(|repository| foreign(REPOSITORY, &repository.name))
                .map(|repository| (repository.name.clone(), repository.uri.clone()))
                .collect(),
            pull_through: self
                .rules
                .iter()
                .filter(|(prefix, _)| foreign(RULE, prefix))
                .map(|(prefix, upstream)| (prefix.clone(), upstream.clone()))
                .collect(),
        }
    }
}

/// What this grid created and images.toml no longer names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NoLongerWanted {
    /// Repositories.
    pub repositories: Vec<String>,
    /// Rules: prefix to upstream.
    pub rules: BTreeMap<String, String>,
}

impl NoLongerWanted {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.repositories.is_empty() && self.rules.is_empty()
    }
}
