//! What stands in an account, and what of it a grid owns.

use std::collections::BTreeMap;

use aws::ecr::{Repository, Rule, Template};
use aws::plan_cache::LastApply;
use aws::state::State;
use failure::{FailWith as _, Kind, failure};
use images_config::{Config, tfvars::Existing};

use super::{ResourceKind, Unrecorded};

/// The alias of every HTC-Grid before June 2026, which had no tag in it.
const OLDER_ALIAS: &str = "ecr/htc";
/// What the Makefile's module did its work with.
pub(super) const NULL_RESOURCE: &str = "null_resource";

/// What stands in the account, read without terraform.
#[derive(Clone, Debug)]
pub struct Inventory {
    /// What the terraform state owns.
    pub state: State,
    /// Every repository of the account and region.
    pub repositories: BTreeMap<String, Repository>,
    /// Every pull-through cache rule, by prefix.
    pub rules: BTreeMap<String, Rule>,
    /// The repository creation templates for what the cache makes, by prefix; none where this grid has nothing to do with them.
    pub templates: BTreeMap<String, Template>,
    pub(super) last_apply: Option<LastApply>,
    /// What is this grid's and stands, and what the state object does not name yet; `state` counts it as owned.
    pub unrecorded: Vec<Unrecorded>,
}

impl Inventory {
    /// Whether the state owns the resource of a kind that AWS knows as `id`.
    pub fn owns(&self, kind: ResourceKind, id: &str) -> bool {
        self.state.owns(kind.name(), id)
    }

    /// What the state owns of a kind, by AWS's ids.
    pub fn owned(&self, kind: ResourceKind) -> &[String] {
        self.state.owned.get(kind.name()).map_or(&[], Vec::as_slice)
    }

    /// Whether the Makefile's module wrote the state last: its `null_resource`s are still there.
    pub fn is_makefiles(&self) -> bool {
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
        Err(failure(Kind::Config, "the terraform state is the Makefile's, with its null_resources")).hint(
            Kind::Config,
            "`cargo xtask init-images` imports it and keeps a copy of it; nothing in AWS changes",
        )
    }

    /// What the state owns, still stands, and is not in images.toml.
    pub fn no_longer_wanted(&self, config: &Config) -> NoLongerWanted {
        NoLongerWanted {
            repositories: self
                .owned(ResourceKind::Repository)
                .iter()
                .filter(|name| !config.repositories.contains(name) && self.repositories.contains_key(*name))
                .cloned()
                .collect(),
            rules: self
                .owned(ResourceKind::Rule)
                .iter()
                .filter(|prefix| !config.pull_through.iter().any(|rule| rule.prefix == **prefix))
                .filter_map(|prefix| Some((prefix.clone(), self.rules.get(prefix)?.clone())))
                .collect(),
            templates: self
                .owned(ResourceKind::CreationTemplate)
                .iter()
                .filter(|_| config.creation_role.is_some())
                .filter(|prefix| !config.pull_through.iter().any(|rule| rule.prefix == **prefix))
                .filter_map(|prefix| Some((prefix.clone(), self.rules.get(prefix)?.clone())))
                .collect(),
        }
    }

    /// What stands beside what the module is to make: what is not in the state is used, and left alone.
    pub(super) fn existing(&self) -> Existing {
        let foreign = |kind, name: &String| !self.owns(kind, name);
        // What an older HTC-Grid left in the state stays, next to the grid's own alias.
        let older_alias =
            self.owns(ResourceKind::Alias, &format!("alias/{OLDER_ALIAS}")).then_some(OLDER_ALIAS);
        Existing {
            repositories: self
                .repositories
                .values()
                .filter(|repository| foreign(ResourceKind::Repository, &repository.name))
                .map(|repository| (repository.name.clone(), repository.uri.clone()))
                .collect(),
            pull_through: self
                .rules
                .iter()
                .filter(|(prefix, _)| foreign(ResourceKind::Rule, prefix))
                .map(|(prefix, rule)| (prefix.clone(), rule.upstream.clone()))
                .collect(),
            templates: self
                .templates
                .keys()
                .filter(|prefix| foreign(ResourceKind::CreationTemplate, prefix))
                .cloned()
                .collect(),
            own_templates: self.owned(ResourceKind::CreationTemplate).iter().cloned().collect(),
            older_aliases: older_alias.into_iter().collect(),
        }
    }
}

/// What this grid created and images.toml no longer names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NoLongerWanted {
    /// Repositories.
    pub repositories: Vec<String>,
    /// Rules, by prefix.
    pub rules: BTreeMap<String, Rule>,
    /// Creation templates, by prefix, each with the rule that stands there, which may be somebody else's.
    pub templates: BTreeMap<String, Rule>,
}

impl NoLongerWanted {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.repositories.is_empty() && self.rules.is_empty() && self.templates.is_empty()
    }
}
