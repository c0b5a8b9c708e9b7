//! What belongs to the registry as a whole: tokens, pull-through cache rules, replication, account settings.

use serde_json::{Value, json};

use super::{Call, roles};
use crate::account::RegistryToken;
use crate::fault::Fault;
use crate::input::Input;
use crate::quirks::Delay;
use crate::store::model::Rule;
use crate::time::{epoch_seconds, now_millis};

pub(super) fn get_authorization_token(call: &Call<'_>, _: &Input) -> Result<Value, Fault> {
    let token = RegistryToken::issue(call.caller, call.app.config.token_lifetime);
    Ok(json!({ "authorizationData": [{
        "authorizationToken": token.authorization(),
        "expiresAt": epoch_seconds(token.expires),
        "proxyEndpoint": format!("http://{}", call.app.host()),
    }] }))
}

/// Upstream hosts ECR has rules for, and whether they need a secret
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

/// A rule as an action shows it. Which action leaves out what is nowhere explained, only written down
/// (<https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_UpdatePullThroughCacheRule.html> and its neighbours).
fn rule_view(call: &Call<'_>, rule: &Rule, without: &[&str]) -> Value {
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

pub(super) fn create_rule(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
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
    let view = rule_view(call, &rule, &["updatedAt"]);
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
    Ok(view)
}

/// What a rule is known by among the quirks.
fn listing(call: &Call<'_>, prefix: &str) -> String {
    format!("{:?} rule {prefix}", call.scope)
}

pub(super) fn describe_rules(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let settings = call.app.store.region(&call.scope).settings();
    let prefixes = input.texts("ecrRepositoryPrefixes");
    if !prefixes.is_empty() {
        let views: Vec<Value> = prefixes
            .iter()
            .map(|prefix| {
                settings
                    .rules
                    .get(*prefix)
                    .map(|rule| rule_view(call, rule, &[]))
                    .ok_or_else(|| no_rule(call, prefix))
            })
            .collect::<Result<_, _>>()?;
        return Ok(json!({ "pullThroughCacheRules": views }));
    }
    let late =
        |rule: &&Rule| call.app.quirks.delays.left(Delay::Listing, &listing(call, &rule.prefix)).is_none();
    let all: Vec<&Rule> = settings.rules.values().filter(late).collect();
    let (page, next) = input.page(&all, 1000)?;
    let views: Vec<Value> = page.iter().map(|rule| rule_view(call, rule, &[])).collect();
    Ok(json!({ "pullThroughCacheRules": views, "nextToken": next }))
}

pub(super) fn delete_rule(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let prefix = input.text("ecrRepositoryPrefix")?;
    let rule = call
        .app
        .store
        .region(&call.scope)
        .change_settings(|settings| settings.rules.remove(prefix).ok_or_else(|| no_rule(call, prefix)))?;
    Ok(rule_view(call, &rule, &["updatedAt", "upstreamRegistry"]))
}

pub(super) fn update_rule(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
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
    Ok(rule_view(call, &rule, &["createdAt", "upstreamRegistry", "upstreamRegistryUrl"]))
}

pub(super) fn describe(call: &Call<'_>, _: &Input) -> Result<Value, Fault> {
    let settings = call.app.store.region(&call.scope).settings();
    Ok(json!({
        "registryId": call.scope.account,
        "replicationConfiguration": { "rules": settings.replication },
    }))
}

pub(super) fn put_replication(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let rules = input
        .value("replicationConfiguration")
        .and_then(|configuration| configuration["rules"].as_array())
        .cloned()
        .ok_or_else(|| {
            Fault::invalid_parameter(
                "Invalid parameter at 'replicationConfiguration': 'rules' must not be null",
            )
        })?;
    let own = |destination: &Value| {
        destination["region"] == call.scope.region.as_str()
            && destination["registryId"] == call.scope.account.as_str()
    };
    if rules.len() > 10
        || rules
            .iter()
            .any(|rule| rule["destinations"].as_array().is_none_or(|d| d.is_empty() || d.iter().any(own)))
    {
        return Err(Fault::client(
            "ValidationException",
            "Invalid replication configuration: at most 10 rules, each with destinations other than the registry itself",
        ));
    }
    let view = json!({ "replicationConfiguration": { "rules": rules } });
    if !rules.is_empty() {
        roles::make(call.app, &call.scope, roles::REPLICATION)?;
    }
    call.app.store.region(&call.scope).change_settings(|settings| {
        settings.replication = rules;
        Ok(())
    })?;
    Ok(view)
}

/// The settings' names with their values; the first is the default.
const ACCOUNT_SETTINGS: &[(&str, &[&str])] = &[
    ("BASIC_SCAN_TYPE_VERSION", &["AWS_NATIVE", "CLAIR"]),
    ("REGISTRY_POLICY_SCOPE", &["V2", "V1"]),
    ("BLOB_MOUNTING", &["DISABLED", "ENABLED"]),
];

fn account_setting(input: &Input) -> Result<&'static (&'static str, &'static [&'static str]), Fault> {
    let name = input.text("name")?;
    ACCOUNT_SETTINGS
        .iter()
        .find(|(known, _)| *known == name)
        .ok_or_else(|| Fault::client("ValidationException", format!("Invalid account setting name '{name}'")))
}

pub(super) fn get_account_setting(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let (name, values) = account_setting(input)?;
    let settings = call.app.store.region(&call.scope).settings();
    Ok(json!({ "name": name, "value": settings.account.get(*name).map_or(values[0], String::as_str) }))
}

pub(super) fn put_account_setting(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let (name, values) = account_setting(input)?;
    let value = input.text("value")?;
    if !values.contains(&value) {
        return Err(Fault::client(
            "ValidationException",
            format!(
                "Invalid value '{value}' for account setting '{name}'; valid values: {}",
                values.join(", ")
            ),
        ));
    }
    call.app.store.region(&call.scope).change_settings(|settings| {
        settings.account.insert((*name).to_owned(), value.to_owned());
        Ok(())
    })?;
    Ok(json!({ "name": name, "value": value }))
}

fn default_scanning() -> Value {
    json!({ "scanType": "BASIC", "rules": [] })
}

pub(super) fn get_scanning(call: &Call<'_>, _: &Input) -> Result<Value, Fault> {
    let settings = call.app.store.region(&call.scope).settings();
    Ok(json!({
        "registryId": call.scope.account,
        "scanningConfiguration": settings.scanning.clone().unwrap_or_else(default_scanning),
    }))
}

pub(super) fn put_scanning(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let configuration = json!({
        "scanType": input.opt("scanType").unwrap_or("BASIC"),
        "rules": input.list("rules"),
    });
    call.app.store.region(&call.scope).change_settings(|settings| {
        settings.scanning = Some(configuration.clone());
        Ok(())
    })?;
    Ok(json!({ "registryScanningConfiguration": configuration }))
}

fn no_policy(call: &Call<'_>) -> Fault {
    Fault::client(
        "RegistryPolicyNotFoundException",
        format!("Registry policy does not exist in the registry with id '{}'", call.scope.account),
    )
}

fn policy_view(call: &Call<'_>, text: &str) -> Value {
    json!({ "registryId": call.scope.account, "policyText": text })
}

pub(super) fn get_policy(call: &Call<'_>, _: &Input) -> Result<Value, Fault> {
    let settings = call.app.store.region(&call.scope).settings();
    Ok(policy_view(call, settings.policy.as_deref().ok_or_else(|| no_policy(call))?))
}

pub(super) fn put_policy(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let text = input.text("policyText")?;
    if serde_json::from_str::<Value>(text).is_err() {
        return Err(Fault::invalid_parameter(
            "Invalid parameter at 'policyText' failed to satisfy constraint: 'Invalid JSON'",
        ));
    }
    call.app.store.region(&call.scope).change_settings(|settings| {
        settings.policy = Some(text.to_owned());
        Ok(())
    })?;
    Ok(policy_view(call, text))
}

pub(super) fn delete_policy(call: &Call<'_>, _: &Input) -> Result<Value, Fault> {
    let text = call
        .app
        .store
        .region(&call.scope)
        .change_settings(|settings| settings.policy.take().ok_or_else(|| no_policy(call)))?;
    Ok(policy_view(call, &text))
}
