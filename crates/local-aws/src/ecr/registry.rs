//! The registry's own actions: tokens, replication, account settings.

use serde_json::{Value, json};

use super::roles;
use crate::account::RegistryToken;
use crate::fault::Fault;
use crate::input::Input;
use crate::policy::Need;
use crate::resource::{Asked, Call, Needs, ON_ALL, Resource, ask};
use crate::time::epoch_seconds;

pub(super) const RESOURCE: Resource = Resource {
    actions: &[
        ("DeleteRegistryPolicy", ON_ALL, delete_policy),
        ("DescribeRegistry", ON_ALL, describe),
        ("GetAccountSetting", ON_ALL, get_account_setting),
        ("GetAuthorizationToken", ON_ALL, get_authorization_token),
        ("GetRegistryPolicy", ON_ALL, get_policy),
        ("GetRegistryScanningConfiguration", ON_ALL, get_scanning),
        ("PutAccountSetting", ON_ALL, put_account_setting),
        ("PutRegistryPolicy", ON_ALL, put_policy),
        ("PutRegistryScanningConfiguration", ON_ALL, put_scanning),
        ("PutReplicationConfiguration", ON_REPLICATION, put_replication),
    ],
    existing: None,
    scenarios: &[("registry", REGISTRY), ("registry settings", SETTINGS)],
};

/// The registry, and for the account's first replication the role that replicates
/// (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/slr-replication.html>).
const ON_REPLICATION: Needs = |call, permission, input| {
    let rules = input.value("replicationConfiguration").and_then(|wanted| wanted["rules"].as_array());
    let some = rules.is_some_and(|rules| !rules.is_empty());
    let role =
        some.then(|| roles::first(call, roles::REPLICATION, "AWSServiceRoleForECRReplication")).flatten();
    Ok([Need::new(permission, "*")].into_iter().chain(role).collect())
};

fn get_authorization_token(call: &Call<'_>, _: &Input) -> Result<Value, Fault> {
    let token = RegistryToken::issue(call.caller, call.app.config.token_lifetime);
    Ok(json!({ "authorizationData": [{
        "authorizationToken": token.authorization(),
        "expiresAt": epoch_seconds(token.expires),
        "proxyEndpoint": format!("http://{}", call.app.host()),
    }] }))
}

fn describe(call: &Call<'_>, _: &Input) -> Result<Value, Fault> {
    let settings = call.app.store.region(&call.scope).settings();
    Ok(json!({
        "registryId": call.scope.account,
        "replicationConfiguration": { "rules": settings.replication },
    }))
}

fn put_replication(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
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

/// The settings' names with their values; the first value is the default.
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

fn get_account_setting(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let (name, values) = account_setting(input)?;
    let settings = call.app.store.region(&call.scope).settings();
    Ok(json!({ "name": name, "value": settings.account.get(*name).map_or(values[0], String::as_str) }))
}

fn put_account_setting(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
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

fn get_scanning(call: &Call<'_>, _: &Input) -> Result<Value, Fault> {
    let settings = call.app.store.region(&call.scope).settings();
    Ok(json!({
        "registryId": call.scope.account,
        "scanningConfiguration": settings.scanning.clone().unwrap_or_else(default_scanning),
    }))
}

fn put_scanning(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
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

fn get_policy(call: &Call<'_>, _: &Input) -> Result<Value, Fault> {
    let settings = call.app.store.region(&call.scope).settings();
    Ok(policy_view(call, settings.policy.as_deref().ok_or_else(|| no_policy(call))?))
}

fn put_policy(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
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

fn delete_policy(call: &Call<'_>, _: &Input) -> Result<Value, Fault> {
    let text = call
        .app
        .store
        .region(&call.scope)
        .change_settings(|settings| settings.policy.take().ok_or_else(|| no_policy(call)))?;
    Ok(policy_view(call, &text))
}

/// Tokens, replication and rules.
const REGISTRY: &[Asked] = &[
    ask("token", "GetAuthorizationToken", "{}", &["/authorizationData/0/proxyEndpoint"]),
    ask(
        "settings of a new one",
        "DescribeRegistry",
        "{}",
        &["/registryId", "/replicationConfiguration/rules/0"],
    ),
    ask(
        "replicate",
        "PutReplicationConfiguration",
        r#"{"replicationConfiguration":{"rules":[{"destinations":[{"region":"us-east-1","registryId":"123456789012"}],"repositoryFilters":[{"filter":"curl","filterType":"PREFIX_MATCH"}]}]}}"#,
        &["/replicationConfiguration/rules/0/destinations/0/region"],
    ),
    ask(
        "settings",
        "DescribeRegistry",
        "{}",
        &["/replicationConfiguration/rules/0/repositoryFilters/0/filter"],
    ),
    ask("blob mounting", "GetAccountSetting", r#"{"name":"BLOB_MOUNTING"}"#, &["/value"]),
    ask(
        "create a rule",
        "CreatePullThroughCacheRule",
        r#"{"ecrRepositoryPrefix":"quay","upstreamRegistryUrl":"quay.io"}"#,
        &["/upstreamRegistryUrl"],
    ),
    ask(
        "create it again",
        "CreatePullThroughCacheRule",
        r#"{"ecrRepositoryPrefix":"quay","upstreamRegistryUrl":"quay.io"}"#,
        &[],
    ),
    ask("rules", "DescribePullThroughCacheRules", "{}", &["/pullThroughCacheRules/0/ecrRepositoryPrefix"]),
    ask(
        "delete the rule",
        "DeletePullThroughCacheRule",
        r#"{"ecrRepositoryPrefix":"quay"}"#,
        &["/ecrRepositoryPrefix"],
    ),
];

/// Other settings.
const SETTINGS: &[Asked] = &[
    ask("mount blobs", "PutAccountSetting", r#"{"name":"BLOB_MOUNTING","value":"ENABLED"}"#, &["/value"]),
    ask("blob mounting", "GetAccountSetting", r#"{"name":"BLOB_MOUNTING"}"#, &["/value"]),
    ask(
        "an account setting of no such value",
        "PutAccountSetting",
        r#"{"name":"BLOB_MOUNTING","value":"perhaps"}"#,
        &[],
    ),
    ask("policy of a new one", "GetRegistryPolicy", r#"{}"#, &[]),
    ask(
        "set a policy",
        "PutRegistryPolicy",
        r#"{"policyText":"{\"Version\":\"2012-10-17\",\"Statement\":[{\"Sid\":\"Replicate\",\"Effect\":\"Allow\",\"Principal\":{\"AWS\":\"arn:aws:iam::210987654321:root\"},\"Action\":[\"ecr:ReplicateImage\"],\"Resource\":[\"arn:aws:ecr:eu-west-1:123456789012:repository/*\"]}]}"}"#,
        &["/registryId"],
    ),
    ask("policy", "GetRegistryPolicy", r#"{}"#, &["/registryId"]),
    ask("delete the policy", "DeleteRegistryPolicy", r#"{}"#, &["/registryId"]),
    ask("delete it again", "DeleteRegistryPolicy", r#"{}"#, &[]),
    ask(
        "scans of a new one",
        "GetRegistryScanningConfiguration",
        r#"{}"#,
        &["/scanningConfiguration/scanType"],
    ),
    ask(
        "scan",
        "PutRegistryScanningConfiguration",
        r#"{"scanType":"BASIC","rules":[{"scanFrequency":"SCAN_ON_PUSH","repositoryFilters":[{"filter":"*","filterType":"WILDCARD"}]}]}"#,
        &["/registryScanningConfiguration/scanType"],
    ),
    ask(
        "scans",
        "GetRegistryScanningConfiguration",
        r#"{}"#,
        &["/scanningConfiguration/rules/0/scanFrequency"],
    ),
    ask(
        "replicate what is there",
        "StartReplicationBackfill",
        r#"{"destination":{"region":"us-east-1","registryId":"123456789012"}}"#,
        &[],
    ),
    ask(
        "a rule with a secret",
        "CreatePullThroughCacheRule",
        r#"{"ecrRepositoryPrefix":"hub","upstreamRegistryUrl":"registry-1.docker.io","credentialArn":"arn:aws:secretsmanager:eu-west-1:123456789012:secret:ecr-pullthroughcache/a"}"#,
        &["/credentialArn"],
    ),
    ask(
        "another secret",
        "UpdatePullThroughCacheRule",
        r#"{"ecrRepositoryPrefix":"hub","credentialArn":"arn:aws:secretsmanager:eu-west-1:123456789012:secret:ecr-pullthroughcache/b"}"#,
        &["/credentialArn"],
    ),
    ask(
        "change a rule that is not there",
        "UpdatePullThroughCacheRule",
        r#"{"ecrRepositoryPrefix":"none","credentialArn":"arn:aws:secretsmanager:eu-west-1:123456789012:secret:ecr-pullthroughcache/b"}"#,
        &[],
    ),
    ask(
        "the rule",
        "DescribePullThroughCacheRules",
        r#"{"ecrRepositoryPrefixes":["hub"]}"#,
        &["/pullThroughCacheRules/0/credentialArn"],
    ),
];
