//! Pull-through cache rules (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/pull-through-cache.html>).

use serde_json::{Value, json};

use super::roles;
use crate::fault::Fault;
use crate::input::Input;
use crate::policy::Need;
use crate::quirks::Delay;
use crate::resource::{Call, Needs, ON_ALL, Resource};
use crate::store::model::Rule;
use crate::time::{epoch_seconds, now_millis};

pub(super) const RESOURCE: Resource = Resource {
    actions: &[
        ("CreatePullThroughCacheRule", ON_FIRST, create),
        ("DeletePullThroughCacheRule", ON_ALL, delete),
        ("DescribePullThroughCacheRules", ON_ALL, describe),
        ("UpdatePullThroughCacheRule", ON_ALL, update),
    ],
    existing: Some(("aws_ecr_pull_through_cache_rule", |app, scope| {
        app.store.region(scope).settings().rules.keys().cloned().collect()
    })),
    scenarios: &[],
};

/// The registry, and for the account's first rule the role that pulls for it
/// (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/slr-pullthroughcache.html>).
const ON_FIRST: Needs = |call, permission, _| {
    let role = roles::first(call, roles::PULL_THROUGH, "AWSServiceRoleForECRPullThroughCache");
    Ok([Need::new(permission, "*")].into_iter().chain(role).collect())
};
/// Upstream hosts that ECR supports, and whether they need a secret
/// (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/pull-through-cache.html>).
const UPSTREAMS: &[(&str, &str, bool)] = &[
    ("public.ecr.aws", "ecr-public", false),
    ("quay.io", "quay", false),
    ("registry.k8s.io", "k8s", false),
    ("registry-1.docker.io", "docker-hub", true),
    ("ghcr.io", "github-container-registry", true),
    ("registry.gitlab.com", "gitlab-container-registry", true),
    ("cgr.dev", "chainguard", true),
];

/// A rule in the format of an action. Which action leaves out which fields is only visible in the API reference
/// (<https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_UpdatePullThroughCacheRule.html> and similar pages).
fn view(call: &Call<'_>, rule: &Rule, without: &[&str]) -> Value {
    let mut view = json!({
        "ecrRepositoryPrefix": rule.prefix,
        "upstreamRegistryUrl": rule.host,
        "upstreamRegistry": rule.registry,
        "upstreamRepositoryPrefix": rule.upstream_prefix,
        "createdAt": epoch_seconds(rule.created),
        "updatedAt": epoch_seconds(rule.updated),
        "registryId": call.scope.account,
    });
    if let Some(members) = view.as_object_mut() {
        members.retain(|name, _| !without.contains(&name.as_str()));
    }
    if let Some(credential) = &rule.credential {
        view["credentialArn"] = json!(credential);
    }
    if let Some(role) = &rule.role {
        view["customRoleArn"] = json!(role);
    }
    view
}

fn no_rule(call: &Call<'_>, prefix: &str) -> Fault {
    Fault::client(
        "PullThroughCacheRuleNotFoundException",
        format!(
            "Pull through cache rule with repository prefix '{prefix}' does not exist in registry with id '{}'",
            call.scope.account
        ),
    )
}

fn create(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let prefix = input.text("ecrRepositoryPrefix")?;
    let host = input.text("upstreamRegistryUrl")?.trim_start_matches("https://").trim_end_matches('/');
    let valid =
        prefix == "ROOT" || ((2..=30).contains(&prefix.len()) && super::repositories::is_valid_name(prefix));
    if !valid {
        return Err(Fault::invalid_parameter(format!(
            "Invalid parameter at 'ecrRepositoryPrefix' failed to satisfy constraint: 'must satisfy regular expression' ({prefix})"
        )));
    }
    let known = UPSTREAMS.iter().find(|(known, _, _)| *known == host);
    let (registry, needs_secret) = match known {
        Some((_, registry, needs_secret)) => (*registry, *needs_secret),
        None if host.ends_with(".azurecr.io") => ("azure-container-registry", true),
        None if host.contains(".dkr.ecr.") => ("ecr", false),
        None => {
            return Err(Fault::client(
                "UnsupportedUpstreamRegistryException",
                format!("The specified upstream registry '{host}' isn't supported"),
            ));
        }
    };
    let credential = input.opt("credentialArn").map(str::to_owned);
    if needs_secret && credential.is_none() {
        return Err(Fault::client(
            "InvalidParameterException",
            format!(
                "Invalid parameter at 'credentialArn': upstream registry '{host}' requires a Secrets Manager secret"
            ),
        ));
    }
    let now = now_millis();
    let rule = Rule {
        prefix: prefix.to_owned(),
        host: host.to_owned(),
        registry: input.opt("upstreamRegistry").unwrap_or(registry).to_owned(),
        upstream_prefix: input.opt("upstreamRepositoryPrefix").unwrap_or("ROOT").to_owned(),
        credential,
        role: input.opt("customRoleArn").map(str::to_owned),
        created: now,
        updated: now,
    };
    let shown = view(call, &rule, &["updatedAt"]);
    call.app.store.region(&call.scope).change_settings(|settings| {
        if settings.rules.contains_key(prefix) {
            return Err(Fault::client(
                "PullThroughCacheRuleAlreadyExistsException",
                format!(
                    "A pull through cache rule with repository prefix '{prefix}' already exists in registry with id '{}'",
                    call.scope.account
                ),
            ));
        }
        if settings.rules.len() >= 50 {
            return Err(Fault::client("LimitExceededException", "Limit of pull through cache rules exceeded: 50"));
        }
        settings.rules.insert(prefix.to_owned(), rule);
        Ok(())
    })?;
    roles::make(call.app, &call.scope, roles::PULL_THROUGH)?;
    call.app.quirks.delays.begin(Delay::Listing, &listing(call, prefix));
    Ok(shown)
}

/// A rule's key in the quirks.
fn listing(call: &Call<'_>, prefix: &str) -> String {
    format!("{:?} rule {prefix}", call.scope)
}

fn describe(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let settings = call.app.store.region(&call.scope).settings();
    let prefixes = input.texts("ecrRepositoryPrefixes");
    if !prefixes.is_empty() {
        let views: Vec<Value> = prefixes
            .iter()
            .map(|prefix| {
                settings
                    .rules
                    .get(*prefix)
                    .map(|rule| view(call, rule, &[]))
                    .ok_or_else(|| no_rule(call, prefix))
            })
            .collect::<Result<_, _>>()?;
        return Ok(json!({ "pullThroughCacheRules": views }));
    }
    let late =
        |rule: &&Rule| call.app.quirks.delays.left(Delay::Listing, &listing(call, &rule.prefix)).is_none();
    let all: Vec<&Rule> = settings.rules.values().filter(late).collect();
    let (page, next) = input.page(&all, 1000)?;
    let views: Vec<Value> = page.iter().map(|rule| view(call, rule, &[])).collect();
    Ok(json!({ "pullThroughCacheRules": views, "nextToken": next }))
}

fn delete(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let prefix = input.text("ecrRepositoryPrefix")?;
    let rule = call
        .app
        .store
        .region(&call.scope)
        .change_settings(|settings| settings.rules.remove(prefix).ok_or_else(|| no_rule(call, prefix)))?;
    Ok(view(call, &rule, &["updatedAt", "upstreamRegistry"]))
}

fn update(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let prefix = input.text("ecrRepositoryPrefix")?;
    let rule = call.app.store.region(&call.scope).change_settings(|settings| {
        let rule = settings.rules.get_mut(prefix).ok_or_else(|| no_rule(call, prefix))?;
        if let Some(credential) = input.opt("credentialArn") {
            rule.credential = Some(credential.to_owned());
        }
        if let Some(role) = input.opt("customRoleArn") {
            rule.role = Some(role.to_owned());
        }
        rule.updated = now_millis();
        Ok(rule.clone())
    })?;
    Ok(view(call, &rule, &["createdAt", "upstreamRegistry", "upstreamRegistryUrl"]))
}
