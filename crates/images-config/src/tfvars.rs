//! The variables of deployment/image_repository/terraform, from images.toml, so that nothing is listed twice.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{Config, RUNTIMES_REPOSITORY};

/// Existing resources that others manage. The grid uses them, and terraform does not create them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Existing {
    /// Repositories, with their URLs.
    pub repositories: BTreeMap<String, String>,
    /// Pull-through cache rules: prefix to upstream registry.
    pub pull_through: BTreeMap<String, String>,
    /// The prefixes of repository creation templates.
    pub templates: BTreeSet<String>,
    /// The prefixes of this grid's own templates: they stay this grid's even under another grid's rule.
    pub own_templates: BTreeSet<String>,
    /// Aliases of the grid's own key from an older HTC-Grid.
    pub older_aliases: Vec<&'static str>,
}

impl Config {
    /// The variables file. It contains only those existing resources that the grid uses, so that a new repository of another owner
    /// does not change the plan.
    pub fn tfvars(&self, tag: &str, region: &str, account: &str, existing: &Existing) -> Value {
        let created: Vec<&String> =
            self.repositories.iter().filter(|name| !existing.repositories.contains_key(*name)).collect();
        let used: BTreeMap<&String, &String> =
            existing.repositories.iter().filter(|(name, _)| self.repositories.contains(name)).collect();
        let rules: BTreeMap<&str, Value> = self
            .pull_through
            .iter()
            .filter(|rule| !existing.pull_through.contains_key(&rule.prefix))
            .map(|rule| {
                let value = json!({
                    "upstream": rule.upstream,
                    "credential_arn": rule.credential_arn,
                    "custom_role_arn": rule.custom_role_arn,
                    "upstream_repository_prefix": rule.upstream_repository_prefix,
                });
                (rule.prefix.as_str(), value)
            })
            .collect();
        let used_rules: BTreeMap<&String, &String> = existing
            .pull_through
            .iter()
            .filter(|(prefix, _)| self.pull_through.iter().any(|rule| rule.prefix == **prefix))
            .collect();
        // Repositories under another owner's rule are not encrypted by this grid.
        let template = self.creation_role.as_ref().map(|role| {
            let wanted = self.pull_through.iter().map(|rule| rule.prefix.as_str());
            let prefixes = wanted.filter(|prefix| {
                existing.own_templates.contains(*prefix)
                    || rules.contains_key(prefix) && !existing.templates.contains(*prefix)
            });
            json!({ "role_arn": role, "prefixes": prefixes.collect::<BTreeSet<_>>() })
        });
        let mut runtimes: Vec<&str> = self.enabled_runtimes().map(|runtime| runtime.name.as_str()).collect();
        runtimes.sort_unstable();
        json!({
            "tag": tag,
            "region": region,
            "account_id": account,
            "repositories": created,
            "existing_repositories": used,
            "older_aliases": existing.older_aliases,
            "pull_through_cache_rules": rules,
            "existing_pull_through_cache_rules": used_rules,
            "creation_template": template,
            "runtimes": { "repository": RUNTIMES_REPOSITORY, "tags": runtimes },
            "protect_build_tags": self.options.protect_build_tags,
            "keep_builds": self.options.keep_builds,
            "pull_accounts": self.options.pull_accounts,
            "scan_on_push": self.options.scan_on_push,
            "force_delete": self.options.force_delete,
            "kms_deletion_window": self.kms.deletion_window,
            "kms_key_admin_roles": self.kms.admin_roles,
            "tags": self.tags,
        })
    }
}
