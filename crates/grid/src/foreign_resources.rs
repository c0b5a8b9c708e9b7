//! Resources that the grid uses but did not create: their differences from images.toml, and those that no grid can work with.

use std::collections::{BTreeMap, BTreeSet};

use aws::{
    ecr::{Mutability, Repository, Rule, Template},
    kms,
};
use failure::{FailWith as _, Kind, failure};
use futures_util::future::join_all;
use images_config::{Config, PullThrough};
use serde_json::Value;
use terraform::{Action, Plan};

use super::{Infrastructure, Inventory, ResourceKind};

/// The ID of the module's own statement in a repository's policy, and the actions it allows.
const OWN_STATEMENT: &str = "Pull";
const OWN_ACTIONS: [&str; 3] =
    ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"];
/// The tags that the module makes immutable under `protect_build_tags`.
const BUILD_TAGS: &str = "*-sha256-*";

impl Inventory {
    /// Refuses a rule with a prefix from images.toml that leads to another registry, or to another part of it: the grid would pull
    /// from there.
    ///
    /// # Errors
    /// There is such a rule, and this grid did not create it.
    pub fn refuse_clashes(&self, config: &Config) -> anyhow::Result<()> {
        let clashes: Vec<String> = self
            .used_rules(config)
            .filter(|(rule, found)| !has_upstream(rule, found))
            .map(|(rule, found)| {
                let PullThrough { prefix, line, .. } = rule;
                let (found, wanted) = (
                    place(&found.upstream, &found.upstream_repository_prefix),
                    place(&rule.upstream, &rule.upstream_repository_prefix),
                );
                format!("\n  {prefix} is {found} in this account, and {wanted} on line {line} of images.toml")
            })
            .collect();
        if clashes.is_empty() {
            return Ok(());
        }
        let message = format!("existing pull-through rules point to other registries:{}", clashes.concat());
        Err(failure(Kind::Refused, message)).hint(
            Kind::Refused,
            "take another prefix in images.toml; `aws ecr delete-pull-through-cache-rule --ecr-repository-prefix ...` deletes a \
             rule that nobody needs",
        )
    }

    /// The rules in use that this grid did not create, each with its entry in images.toml.
    fn used_rules<'a>(&'a self, config: &'a Config) -> impl Iterator<Item = (&'a PullThrough, &'a Rule)> {
        let others = config.pull_through.iter().filter(|rule| !self.owns(ResourceKind::Rule, &rule.prefix));
        others.filter_map(|rule| Some((rule, self.rules.get(&rule.prefix)?)))
    }

    /// Whether the template for a rule's prefix is or will be this grid's: the grid owns the rule, and no other template exists.
    fn templates_itself(&self, rule: &PullThrough) -> bool {
        if self.owns(ResourceKind::CreationTemplate, &rule.prefix) {
            return true;
        }
        let free = |kind, stands: bool| !stands || self.owns(kind, &rule.prefix);
        free(ResourceKind::Rule, self.rules.contains_key(&rule.prefix))
            && free(ResourceKind::CreationTemplate, self.templates.contains_key(&rule.prefix))
    }

    /// The templates for prefixes from images.toml that this grid did not create, if images.toml asks for templates.
    fn used_templates(&self, config: &Config) -> impl Iterator<Item = &Template> {
        let wanted = config.pull_through.iter().filter(|_| config.creation_role.is_some());
        let prefixes = wanted.map(|rule| &rule.prefix);
        let others = prefixes.filter(|prefix| !self.owns(ResourceKind::CreationTemplate, prefix));
        others.filter_map(|prefix| self.templates.get(prefix))
    }

    /// The repositories from images.toml that this grid did not create.
    fn used_repositories(&self, config: &Config) -> Vec<&Repository> {
        let found = config.repositories.iter().filter_map(|name| self.repositories.get(name));
        found.filter(|repository| !self.owns(ResourceKind::Repository, &repository.name)).collect()
    }
}

/// The differences between images.toml and the resources that this grid uses but did not create, one per line.
///
/// # Errors
/// A key that encrypts repositories cannot be used, or AWS refuses.
pub async fn differences(
    grid: &Infrastructure<'_>,
    config: &Config,
    inventory: &Inventory,
) -> anyhow::Result<Vec<String>> {
    let repositories = inventory.used_repositories(config);
    refuse_dead_keys(grid, &repositories).await?;
    // Repositories with the same difference share one line.
    let mut common: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for repository in repositories {
        let mut found = differing(repository, config);
        if let Some(kept_out) = kept_out(grid, repository, config).await? {
            found.push(kept_out);
        }
        for words in found {
            common.entry(words).or_default().push(&repository.name);
        }
    }
    let repositories =
        common.into_iter().map(|(words, names)| format!("repositories {}: {words}", names.join(", ")));
    let secret = |arn: &Option<String>| arn.clone().unwrap_or_else(|| "no secret".to_owned());
    let role = |arn: &Option<String>| arn.clone().unwrap_or_else(|| "no role".to_owned());
    let rules = inventory.used_rules(config).flat_map(|(wanted, found)| {
        let prefix = &wanted.prefix;
        let credential = (wanted.credential_arn != found.credential_arn).then(|| {
            let (found, wanted) = (secret(&found.credential_arn), secret(&wanted.credential_arn));
            format!("pull-through rule {prefix}: it reads with {found}, and images.toml says {wanted}")
        });
        let role = (wanted.custom_role_arn != found.custom_role_arn).then(|| {
            let (found, wanted) = (role(&found.custom_role_arn), role(&wanted.custom_role_arn));
            format!("pull-through rule {prefix}: it reads as {found}, and images.toml says {wanted}")
        });
        let untemplated = config.creation_role.is_some()
            && !inventory.owns(ResourceKind::CreationTemplate, prefix)
            && !inventory.templates.contains_key(prefix);
        let untemplated = untemplated.then(|| {
            format!("pull-through rule {prefix}: creation_template of images.toml is for rules that this grid creates alone")
        });
        credential.into_iter().chain(role).chain(untemplated)
    });
    let templates = inventory.used_templates(config).map(|template| {
        format!("creation template {}: it stays unchanged, and creation_template of images.toml is not for this prefix", template.prefix)
    });
    Ok(repositories.chain(rules).chain(templates).collect())
}

/// The settings of the repositories that ECR itself creates at the first pull through the cache: they do not have the key and
/// settings of images.toml. One line per group.
///
/// # Errors
/// AWS refuses.
pub async fn of_the_cache(
    grid: &Infrastructure<'_>,
    config: &Config,
    inventory: &Inventory,
) -> anyhow::Result<Vec<String>> {
    if config.pull_through.is_empty() {
        return Ok(Vec::new());
    }
    let templates = grid.ecr.templates().await?;
    let mut alike: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for rule in &config.pull_through {
        let words = if config.creation_role.is_some() && inventory.templates_itself(rule) {
            wanted_template(config)
        } else {
            Template::of_cache(&templates, &rule.prefix).map_or_else(
                || "ECR's defaults: AES256, all tags may move, nothing expires (no creation template is for them)".to_owned(),
                templated,
            )
        };
        alike.entry(words).or_default().push(format!("{}/...", rule.prefix));
    }
    Ok(alike
        .into_iter()
        .map(|(words, prefixes)| {
            format!("repositories that the cache makes ({}) get {words}", prefixes.join(", "))
        })
        .collect())
}

/// Refuses repositories whose key is disabled or scheduled for deletion: every push and pull would fail. A key that cannot be read,
/// because another account or team owns it, is not refused.
async fn refuse_dead_keys(grid: &Infrastructure<'_>, repositories: &[&Repository]) -> anyhow::Result<()> {
    let keys: BTreeSet<&String> =
        repositories.iter().filter_map(|repository| repository.kms_key.as_ref()).collect();
    let states = keys.into_iter().map(|key| async move {
        let state = kms::state(grid.aws, &grid.options.http, key).await.ok().flatten();
        state.filter(|state| state != "Enabled").map(|state| (key, state))
    });
    let dead: String = join_all(states)
        .await
        .into_iter()
        .flatten()
        .map(|(key, state)| {
            let of = repositories.iter().filter(|repository| repository.kms_key.as_ref() == Some(key));
            let names: Vec<&str> = of.map(|repository| repository.name.as_str()).collect();
            format!("\n  {}: {key} is {state}", names.join(", "))
        })
        .collect();
    if dead.is_empty() {
        return Ok(());
    }
    let message = format!(
        "repositories that this grid did not create are encrypted with a key that cannot be used:{dead}"
    );
    Err(failure(Kind::Refused, message)).hint(
        Kind::Refused,
        "`aws kms enable-key`, or `aws kms cancel-key-deletion` and then that, brings the key back, and what it encrypts",
    )
}

/// The accounts that may pull according to images.toml but not according to the repository's policy.
async fn kept_out(
    grid: &Infrastructure<'_>,
    repository: &Repository,
    config: &Config,
) -> anyhow::Result<Option<String>> {
    if config.options.pull_accounts.is_empty() {
        return Ok(None);
    }
    let policy = grid.ecr.policy(&repository.name).await?.unwrap_or_default();
    let out = config.options.pull_accounts.iter().filter(|account| !policy.contains(account.as_str()));
    let out: Vec<&str> = out.map(String::as_str).collect();
    Ok((!out.is_empty()).then(|| format!("the policy does not name {} of pull_accounts", out.join(", "))))
}

/// Refuses a plan that would overwrite or delete statements that others wrote into a repository's policy: ECR has one policy per
/// repository, and terraform replaces all of it.
///
/// # Errors
/// There is such a policy, or AWS refuses.
pub(super) async fn refuse_policies(
    grid: &Infrastructure<'_>,
    plan: &Plan,
    inventory: &Inventory,
) -> anyhow::Result<()> {
    let mut theirs = String::new();
    for change in plan.effective().filter(|change| change.kind == ResourceKind::RepositoryPolicy.name()) {
        let Some(name) = change.index.as_deref() else { continue };
        // The policy is deleted with its repository.
        let ends = |other: &&terraform::Change| {
            other.kind == ResourceKind::Repository.name()
                && other.index.as_deref() == Some(name)
                && other.action == Action::Delete
        };
        if plan.effective().any(|other| ends(&other)) {
            continue;
        }
        // Read from ECR: terraform's plan does not show the present policy of a resource that it will delete.
        let stands = inventory.repositories.contains_key(name);
        let policy = if stands { grid.ecr.policy(name).await? } else { None };
        if policy.is_some_and(|policy| !is_own(&policy)) {
            theirs += &format!("\n  {name}");
        }
    }
    if theirs.is_empty() {
        return Ok(());
    }
    let message = format!(
        "the policies of these repositories have statements that this grid did not write, and would lose them:{theirs}"
    );
    Err(failure(Kind::Refused, message)).hint(
        Kind::Refused,
        "`aws ecr get-repository-policy --repository-name ...` shows them; accounts that may pull belong into pull_accounts of \
         images.toml, and what else is in there has to leave the policy (`aws ecr delete-repository-policy`)",
    )
}

/// The settings in the module's template.
fn wanted_template(config: &Config) -> String {
    let expires = config.options.keep_builds.map_or_else(
        || "nothing expires".to_owned(),
        |builds| format!("all but the newest {builds} images without a tag expire"),
    );
    format!("what creation_template of images.toml says: this grid's key, all tags may move, {expires}")
}

/// The settings in a template.
fn templated(template: &Template) -> String {
    let key = template.kms_key.as_ref().map_or_else(|| "AES256".to_owned(), |key| format!("the key {key}"));
    let tags = match &template.mutability {
        Mutability::Mutable => "all tags may move".to_owned(),
        Mutability::MutableExcept(fixed) => format!("tags like {} may not move", fixed.join(", ")),
        Mutability::ImmutableExcept(free) if free.is_empty() => {
            "no tag may move, so that the cache takes nothing new under a tag that it has".to_owned()
        }
        Mutability::ImmutableExcept(free) => format!("no tag may move but those like {}", free.join(", ")),
    };
    let expires = if template.expires { "images expire" } else { "nothing expires" };
    format!("what the creation template {} says: {key}, {tags}, {expires}", template.prefix)
}

/// Whether a rule leads to the place that images.toml names.
pub(super) fn has_upstream(wanted: &PullThrough, found: &Rule) -> bool {
    (&wanted.upstream, &wanted.upstream_repository_prefix)
        == (&found.upstream, &found.upstream_repository_prefix)
}

/// A registry, or a part of it, as users write it.
fn place(upstream: &str, part: &Option<String>) -> String {
    part.as_ref().map_or_else(|| upstream.to_owned(), |part| format!("{upstream}/{part}"))
}

/// The settings of a repository that differ from what the module would create.
fn differing(repository: &Repository, config: &Config) -> Vec<String> {
    let mut found = Vec::new();
    found.push(match &repository.kms_key {
        Some(key) => format!("encrypted with {key}, not with this grid's key"),
        None => "encrypted with AES256, not with this grid's key".to_owned(),
    });
    match &repository.mutability {
        Mutability::Mutable => {}
        Mutability::MutableExcept(fixed) if config.options.protect_build_tags && *fixed == [BUILD_TAGS] => {}
        Mutability::MutableExcept(fixed) => {
            found.push(format!("tags like {} may not move", fixed.join(", ")));
        }
        Mutability::ImmutableExcept(free) if free.is_empty() => found.push("no tag may move".to_owned()),
        Mutability::ImmutableExcept(free) => {
            found.push(format!("no tag may move but those like {}", free.join(", ")));
        }
    }
    if repository.scan_on_push != config.options.scan_on_push {
        found
            .push(if repository.scan_on_push { "scanned on push" } else { "not scanned on push" }.to_owned());
    }
    found
}

/// Whether the module wrote all of a policy.
fn is_own(policy: &str) -> bool {
    let Ok(policy) = serde_json::from_str::<Value>(policy) else { return false };
    let statements = match &policy["Statement"] {
        Value::Array(statements) => statements.as_slice(),
        one => std::slice::from_ref(one),
    };
    statements.iter().all(|statement| {
        let actions: BTreeSet<&str> =
            statement["Action"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        statement["Sid"] == OWN_STATEMENT
            && statement["Effect"] == "Allow"
            && statement["Condition"].is_null()
            && actions == BTreeSet::from(OWN_ACTIONS)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_module_s_own_policy_is_overwritten() {
        let own = |extra: &str| {
            format!(
                r#"{{"Version":"2012-10-17","Statement":[{{"Sid":"Pull","Effect":"Allow","Principal":{{"AWS":"arn:aws:iam::2:root"}},"Action":["ecr:GetDownloadUrlForLayer","ecr:BatchGetImage","ecr:BatchCheckLayerAvailability"]}}{extra}]}}"#
            )
        };
        assert!(is_own(&own("")));
        assert!(!is_own(&own(r#",{"Sid":"Push","Effect":"Allow","Principal":"*","Action":"ecr:PutImage"}"#)));
        assert!(!is_own(&own("").replace("\"Allow\"", "\"Deny\"")));
        assert!(!is_own(&own("").replace("ecr:BatchGetImage", "ecr:*")));
        assert!(!is_own(r#"{"Statement":{"Sid":"Pull","Effect":"Allow","Principal":"*","Action":"ecr:*"}}"#));
        assert!(!is_own("no JSON"));
    }
}
