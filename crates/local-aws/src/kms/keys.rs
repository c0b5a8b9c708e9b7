//! Keys: creating, describing, enabling, tagging and deleting.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    ON_KEY, arn, aws_managed_key, metadata, new_key, not_found, not_pending, page, paged, resolve, state,
    usable,
};
use crate::fault::Fault;
use crate::input::Input;
use crate::policy::{Kind, Need, Policy, PolicyError};
use crate::resource::{Asked, Call, Needs, ON_ALL, Resource, ask};
use crate::store::model::Key;
use crate::time::{epoch_seconds, now_millis};

pub(super) const RESOURCE: Resource = Resource {
    actions: &[
        ("CancelKeyDeletion", ON_KEY, cancel_deletion),
        ("CreateKey", ON_NEW, create_key),
        ("DescribeKey", ON_KEY, describe_key),
        ("DisableKey", ON_KEY, |call, input| set_enabled(call, input, false)),
        ("DisableKeyRotation", ON_KEY, |call, input| set_rotation(call, input, false)),
        ("EnableKey", ON_KEY, |call, input| set_enabled(call, input, true)),
        ("EnableKeyRotation", ON_KEY, |call, input| set_rotation(call, input, true)),
        ("GetKeyPolicy", ON_KEY, get_policy),
        ("GetKeyRotationStatus", ON_KEY, rotation_status),
        ("ListKeyPolicies", ON_KEY, list_policies),
        ("ListKeys", ON_ALL, list_keys),
        ("ListResourceTags", ON_KEY, list_tags),
        ("PutKeyPolicy", ON_KEY, put_policy),
        ("ScheduleKeyDeletion", ON_KEY, schedule_deletion),
        ("TagResource", ON_KEY, tag),
        ("UntagResource", ON_KEY, untag),
        ("UpdateKeyDescription", ON_KEY, update_description),
    ],
    existing: Some(("aws_kms_key", |app, scope| {
        let own = |key: &&Key| state(key) == "Enabled" && !key.aws_managed;
        app.store.region(scope).kms().keys.values().filter(own).map(|key| key.id.clone()).collect()
    })),
    scenarios: &[("key", KEY), ("more of keys", MORE)],
};

/// A key with its tags; it has no ID yet.
const ON_NEW: Needs = |call, permission, input| {
    let tags = !input.list("Tags").is_empty();
    let tags = tags.then(|| Need::new("kms:TagResource", arn(&call.scope, "*")));
    Ok([Need::new(permission, "*")].into_iter().chain(tags).collect())
};

fn policy_of(input: &Input) -> Result<Option<String>, Fault> {
    let Some(text) = input.opt("Policy").filter(|text| !text.is_empty()) else { return Ok(None) };
    Policy::parse(text, Kind::Resource).map_err(|error| match error {
        PolicyError::Malformed(words) => Fault::client("MalformedPolicyDocumentException", words),
        unknown @ PolicyError::Unknown(_) => {
            Fault::not_implemented("kms", &format!("PutKeyPolicy: {unknown}"))
        }
    })?;
    Ok(Some(text.to_owned()))
}

fn tags_of(input: &Input) -> Result<BTreeMap<String, String>, Fault> {
    input
        .list("Tags")
        .iter()
        .map(|tag| match (tag["TagKey"].as_str(), tag["TagValue"].as_str()) {
            (Some(key), Some(value)) if !key.is_empty() && !key.starts_with("aws:") => {
                Ok((key.to_owned(), value.to_owned()))
            }
            _ => Err(Fault::client("TagException", "Invalid tag")),
        })
        .collect()
}

fn create_key(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let mut key = new_key(&call.scope);
    key.description = input.opt("Description").unwrap_or_default().to_owned();
    if let Some(policy) = policy_of(input)? {
        key.policy = policy;
    }
    key.tags = tags_of(input)?;
    for (member, field) in [("KeySpec", &mut key.spec), ("KeyUsage", &mut key.usage)] {
        if let Some(value) = input.opt(member) {
            value.clone_into(field);
        }
    }
    key.multi_region = input.value("MultiRegion").and_then(Value::as_bool).unwrap_or(false);
    if key.multi_region {
        key.id = format!("mrk-{}", key.id.replace('-', ""));
    }
    let view = metadata(&call.scope, &key);
    call.app.store.region(&call.scope).change_kms(|kms| {
        kms.keys.insert(key.id.clone(), key);
        Ok(())
    })?;
    Ok(json!({ "KeyMetadata": view }))
}

fn with_key<T>(
    call: &Call<'_>,
    input: &Input,
    look: impl FnOnce(&Key) -> Result<T, Fault>,
) -> Result<T, Fault> {
    let name = key_name(input)?;
    if let Some(service) = name.rsplit_once("alias/aws/").map(|(_, service)| service) {
        aws_managed_key(call.app, &call.scope, service)?;
    }
    let kms = call.app.store.region(&call.scope).kms();
    let id = resolve(&call.scope, &kms, name)?;
    kms.keys.get(&id).map_or_else(|| Err(not_found(&id)), look)
}

fn key_name(input: &Input) -> Result<&str, Fault> {
    input.opt("KeyId").ok_or_else(|| Fault::client("ValidationException", "KeyId must not be null"))
}

/// Changes one key. Aliases are not accepted, as in KMS's administrative actions.
fn change_key(
    call: &Call<'_>,
    input: &Input,
    change: impl FnOnce(&mut Key) -> Result<Value, Fault>,
) -> Result<Value, Fault> {
    let name = key_name(input)?;
    call.app.store.region(&call.scope).change_kms(|kms| {
        let id = resolve(&call.scope, kms, name)?;
        match kms.keys.get_mut(&id) {
            Some(key) if key.aws_managed => Err(Fault::client(
                "AccessDeniedException",
                format!("{} is managed by AWS", arn(&call.scope, &id)),
            )),
            Some(key) => change(key),
            None => Err(not_found(&id)),
        }
    })
}

fn describe_key(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    with_key(call, input, |key| Ok(json!({ "KeyMetadata": metadata(&call.scope, key) })))
}

fn set_enabled(call: &Call<'_>, input: &Input, enabled: bool) -> Result<Value, Fault> {
    change_key(call, input, |key| {
        not_pending(&call.scope, key)?;
        key.enabled = enabled;
        Ok(json!({}))
    })
}

fn set_rotation(call: &Call<'_>, input: &Input, on: bool) -> Result<Value, Fault> {
    let days = input.number("RotationPeriodInDays").unwrap_or(365);
    if !(90..=2560).contains(&days) {
        return Err(Fault::client("ValidationException", "RotationPeriodInDays must be between 90 and 2560"));
    }
    change_key(call, input, |key| {
        usable(&call.scope, key)?;
        key.rotation_days = on.then_some(days);
        Ok(json!({}))
    })
}

fn rotation_status(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    with_key(call, input, |key| {
        let mut view = json!({
            "KeyId": arn(&call.scope, &key.id),
            "KeyRotationEnabled": key.rotation_days.is_some() && key.deletion.is_none(),
        });
        if let Some(days) = key.rotation_days {
            view["RotationPeriodInDays"] = json!(days);
        }
        Ok(view)
    })
}

fn get_policy(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    with_key(call, input, |key| Ok(json!({ "Policy": key.policy, "PolicyName": "default" })))
}

fn put_policy(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let policy =
        policy_of(input)?.ok_or_else(|| Fault::client("ValidationException", "Policy must not be null"))?;
    change_key(call, input, |key| {
        not_pending(&call.scope, key)?;
        key.policy = policy;
        Ok(json!({}))
    })
}

fn list_policies(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    with_key(call, input, |_| Ok(json!({ "PolicyNames": ["default"], "Truncated": false })))
}

fn update_description(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    change_key(call, input, |key| {
        not_pending(&call.scope, key)?;
        input.opt("Description").unwrap_or_default().clone_into(&mut key.description);
        Ok(json!({}))
    })
}

fn schedule_deletion(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    const DAY: i64 = 24 * 3600 * 1000;
    let days = input.number("PendingWindowInDays").unwrap_or(30);
    let Some(window) = i64::try_from(days).ok().filter(|days| (7..=30).contains(days)) else {
        return Err(Fault::client("ValidationException", "PendingWindowInDays must be between 7 and 30"));
    };
    change_key(call, input, |key| {
        not_pending(&call.scope, key)?;
        let date = now_millis() + window * DAY;
        key.deletion = Some(date);
        Ok(json!({
            "KeyId": arn(&call.scope, &key.id),
            "DeletionDate": epoch_seconds(date),
            "KeyState": "PendingDeletion",
            "PendingWindowInDays": days,
        }))
    })
}

fn cancel_deletion(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    change_key(call, input, |key| {
        if key.deletion.take().is_none() {
            return Err(Fault::client(
                "KMSInvalidStateException",
                format!("{} is not pending deletion.", arn(&call.scope, &key.id)),
            ));
        }
        // A key whose deletion was cancelled is disabled until it is enabled explicitly.
        key.enabled = false;
        Ok(json!({ "KeyId": arn(&call.scope, &key.id) }))
    })
}

fn tag(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let tags = tags_of(input)?;
    change_key(call, input, |key| {
        not_pending(&call.scope, key)?;
        key.tags.extend(tags);
        Ok(json!({}))
    })
}

fn untag(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let keys = input.texts("TagKeys");
    change_key(call, input, |key| {
        not_pending(&call.scope, key)?;
        key.tags.retain(|name, _| !keys.contains(&name.as_str()));
        Ok(json!({}))
    })
}

fn list_tags(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    with_key(call, input, |key| {
        let tags: Vec<Value> =
            key.tags.iter().map(|(name, value)| json!({ "TagKey": name, "TagValue": value })).collect();
        Ok(json!({ "Tags": tags, "Truncated": false }))
    })
}

fn list_keys(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let kms = call.app.store.region(&call.scope).kms();
    let all: Vec<&String> = kms.keys.keys().collect();
    let (shown, next) = page(input, &all)?;
    let keys: Vec<Value> =
        shown.iter().map(|id| json!({ "KeyId": id, "KeyArn": arn(&call.scope, id) })).collect();
    Ok(paged(json!({ "Keys": keys }), next))
}

/// The whole life of a key.
const KEY: &[Asked] = &[
    ask(
        "create",
        "CreateKey",
        r#"{"Description":"ecr","Tags":[{"TagKey":"a","TagValue":"b"}]}"#,
        &[
            "key</KeyMetadata/KeyId",
            "/KeyMetadata/KeyState",
            "/KeyMetadata/KeyManager",
            "/KeyMetadata/Enabled",
        ],
    ),
    ask("describe", "DescribeKey", r#"{"KeyId":"{key}"}"#, &["/KeyMetadata/Arn", "/KeyMetadata/Description"]),
    ask(
        "describe one that is not there",
        "DescribeKey",
        r#"{"KeyId":"00000000-0000-0000-0000-000000000000"}"#,
        &[],
    ),
    ask("alias", "CreateAlias", r#"{"AliasName":"alias/ecr/prod-htc","TargetKeyId":"{key}"}"#, &[]),
    ask("alias again", "CreateAlias", r#"{"AliasName":"alias/ecr/prod-htc","TargetKeyId":"{key}"}"#, &[]),
    ask("describe by alias", "DescribeKey", r#"{"KeyId":"alias/ecr/prod-htc"}"#, &["/KeyMetadata/KeyId"]),
    ask(
        "aliases of the key",
        "ListAliases",
        r#"{"KeyId":"{key}"}"#,
        &["/Aliases/0/AliasName", "/Aliases/0/TargetKeyId"],
    ),
    ask("rotation of a new one", "GetKeyRotationStatus", r#"{"KeyId":"{key}"}"#, &["/KeyRotationEnabled"]),
    ask("rotate", "EnableKeyRotation", r#"{"KeyId":"{key}"}"#, &[]),
    ask("rotation", "GetKeyRotationStatus", r#"{"KeyId":"{key}"}"#, &["/KeyRotationEnabled"]),
    ask("policy", "GetKeyPolicy", r#"{"KeyId":"{key}","PolicyName":"default"}"#, &["/PolicyName"]),
    ask("tags", "ListResourceTags", r#"{"KeyId":"{key}"}"#, &["/Tags/0/TagKey"]),
    ask("change the description", "UpdateKeyDescription", r#"{"KeyId":"{key}","Description":"more"}"#, &[]),
    ask("delete the alias", "DeleteAlias", r#"{"AliasName":"alias/ecr/prod-htc"}"#, &[]),
    ask("delete the alias again", "DeleteAlias", r#"{"AliasName":"alias/ecr/prod-htc"}"#, &[]),
    ask("delete too soon", "ScheduleKeyDeletion", r#"{"KeyId":"{key}","PendingWindowInDays":1}"#, &[]),
    ask(
        "delete in a week",
        "ScheduleKeyDeletion",
        r#"{"KeyId":"{key}","PendingWindowInDays":7}"#,
        &["/KeyState", "/PendingWindowInDays"],
    ),
    ask(
        "what is left",
        "DescribeKey",
        r#"{"KeyId":"{key}"}"#,
        &["/KeyMetadata/KeyState", "/KeyMetadata/Enabled"],
    ),
    ask(
        "delete what is being deleted",
        "ScheduleKeyDeletion",
        r#"{"KeyId":"{key}","PendingWindowInDays":7}"#,
        &[],
    ),
    ask("keep it", "CancelKeyDeletion", r#"{"KeyId":"{key}"}"#, &[]),
    ask("what is kept", "DescribeKey", r#"{"KeyId":"{key}"}"#, &["/KeyMetadata/KeyState"]),
];

/// Other actions on keys.
const MORE: &[Asked] = &[
    ask("create", "CreateKey", r#"{"Description":"another"}"#, &["key</KeyMetadata/KeyId"]),
    ask("create a second", "CreateKey", r#"{}"#, &["second</KeyMetadata/KeyId"]),
    ask("alias", "CreateAlias", r#"{"AliasName":"alias/ecr/dev-htc","TargetKeyId":"{key}"}"#, &[]),
    ask(
        "point it elsewhere",
        "UpdateAlias",
        r#"{"AliasName":"alias/ecr/dev-htc","TargetKeyId":"{second}"}"#,
        &[],
    ),
    ask(
        "point one that is not there",
        "UpdateAlias",
        r#"{"AliasName":"alias/ecr/none","TargetKeyId":"{second}"}"#,
        &[],
    ),
    ask("where it points", "DescribeKey", r#"{"KeyId":"alias/ecr/dev-htc"}"#, &["/KeyMetadata/KeyId"]),
    ask("keys", "ListKeys", r#"{}"#, &["/Truncated"]),
    ask("policies", "ListKeyPolicies", r#"{"KeyId":"{key}"}"#, &["/PolicyNames/0"]),
    ask(
        "set a policy",
        "PutKeyPolicy",
        r#"{"KeyId":"{key}","PolicyName":"default","Policy":"{\"Version\":\"2012-10-17\",\"Statement\":[{\"Sid\":\"All\",\"Effect\":\"Allow\",\"Principal\":{\"AWS\":\"arn:aws:iam::123456789012:root\"},\"Action\":\"kms:*\",\"Resource\":\"*\"}]}"}"#,
        &[],
    ),
    ask(
        "set one that is no JSON",
        "PutKeyPolicy",
        r#"{"KeyId":"{key}","PolicyName":"default","Policy":"{"}"#,
        &[],
    ),
    ask("policy", "GetKeyPolicy", r#"{"KeyId":"{key}","PolicyName":"default"}"#, &[]),
    ask(
        "tag",
        "TagResource",
        r#"{"KeyId":"{key}","Tags":[{"TagKey":"a","TagValue":"b"},{"TagKey":"c","TagValue":"d"}]}"#,
        &[],
    ),
    ask("untag", "UntagResource", r#"{"KeyId":"{key}","TagKeys":["a"]}"#, &[]),
    ask("tags", "ListResourceTags", r#"{"KeyId":"{key}"}"#, &["/Tags/0/TagKey", "/Tags/1/TagKey"]),
    ask("disable", "DisableKey", r#"{"KeyId":"{key}"}"#, &[]),
    ask(
        "what is disabled",
        "DescribeKey",
        r#"{"KeyId":"{key}"}"#,
        &["/KeyMetadata/KeyState", "/KeyMetadata/Enabled"],
    ),
    ask("enable", "EnableKey", r#"{"KeyId":"{key}"}"#, &[]),
    ask(
        "what is enabled",
        "DescribeKey",
        r#"{"KeyId":"{key}"}"#,
        &["/KeyMetadata/KeyState", "/KeyMetadata/Enabled"],
    ),
    ask("rotate", "EnableKeyRotation", r#"{"KeyId":"{key}"}"#, &[]),
    ask("rotate no more", "DisableKeyRotation", r#"{"KeyId":"{key}"}"#, &[]),
    ask("rotation", "GetKeyRotationStatus", r#"{"KeyId":"{key}"}"#, &["/KeyRotationEnabled"]),
];
