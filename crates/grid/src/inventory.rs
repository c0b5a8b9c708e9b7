//! The resources that exist in an account, and which of them a grid owns.

use std::collections::BTreeMap;

use aws::ecr::{Repository, Rule, Template};
use aws::plan_cache::LastApply;
use aws::state::State;
use failure::{FailWith as _, Kind, failure};
use images_config::{Config, tfvars::Existing};

use super::{ResourceKind, Unrecorded};

/// The alias of every HTC-Grid before June 2026, which had no tag.
const OLDER_ALIAS: &str = "ecr/htc";
/// The resource type that the Makefile's module used to run its commands.
pub(super) const NULL_RESOURCE: &str = "null_resource";

/// The account's resources, read without terraform.
#[derive(Clone, Debug)]
pub struct Inventory {
    /// The resources in the terraform state.
    pub state: State,
    /// Every repository of the account and region.
    pub repositories: BTreeMap<String, Repository>,
    /// Every pull-through cache rule, by prefix.
    pub rules: BTreeMap<String, Rule>,
    /// The creation templates for repositories that the cache creates, by prefix. Empty if this grid does not use templates.
    pub templates: BTreeMap<String, Template>,
    pub(super) last_apply: Option<LastApply>,
    /// Existing resources of this grid that are not in the state object yet; `state` counts them as owned.
    pub unrecorded: Vec<Unrecorded>,
}

impl Inventory {
    /// Whether the state owns the resource of this kind with AWS's ID `id`.
    pub fn owns(&self, kind: ResourceKind, id: &str) -> bool {
        self.state.owns(kind.name(), id)
    }

    /// The resources of a kind in the state, by AWS's IDs.
    pub fn owned(&self, kind: ResourceKind) -> &[String] {
        self.state.owned.get(kind.name()).map_or(&[], Vec::as_slice)
    }

    /// Whether the Makefile's module wrote the state last: its `null_resource`s are still in it.
    pub fn is_makefiles(&self) -> bool {
        self.state.owned.contains_key(NULL_RESOURCE)
    }

    /// Refuses a state that must be imported first. That changes the state, so it is not done as a side effect.
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

    /// The existing resources in the state that are not in images.toml.
    pub fn unlisted_resources(&self, config: &Config) -> UnlistedResources {
        UnlistedResources {
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

    /// The existing resources that are not in the state: the module uses them and does not change them.
    pub(super) fn existing(&self) -> Existing {
        let foreign = |kind, name: &String| !self.owns(kind, name);
        // The alias of an older HTC-Grid in the state stays, next to the grid's own alias.
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

/// The resources that this grid created and images.toml no longer names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnlistedResources {
    /// Repositories.
    pub repositories: Vec<String>,
    /// Rules, by prefix.
    pub rules: BTreeMap<String, Rule>,
    /// Creation templates, by prefix, each with the rule for that prefix, which another grid may have created.
    pub templates: BTreeMap<String, Rule>,
}

impl UnlistedResources {
    /// Whether there are no such resources.
    pub fn is_empty(&self) -> bool {
        self.repositories.is_empty() && self.rules.is_empty() && self.templates.is_empty()
    }
}
