//! Keys: made, described, switched, tagged, and given up.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    Call, arn, aws_managed_key, metadata, new_key, not_found, not_pending, page, paged, resolve, usable,
};
use crate::fault::Fault;
use crate::input::Input;
use crate::policy::{Kind, Policy, PolicyError};
use crate::store::model::Key;
use crate::time::{epoch_seconds, now_millis};

pub(super) fn policy_of(input: &Input) -> Result<Option<String>, Fault> {
    let Some(text) = input.opt("Policy").filter(|text| !text.is_empty()) else { return Ok(None) };
    Policy::parse(text, Kind::Resource).map_err(|error| match error {
        PolicyError::Malformed(words) => Fault::client("MalformedPolicyDocumentException", words),
        unknown @ PolicyError::Unknown(_) => {
            Fault::not_implemented("kms", &format!("PutKeyPolicy: {unknown}"))
        }
    })?;
    Ok(Some(text.to_owned()))
}

pub(super) fn tags_of(input: &Input) -> Result<BTreeMap<String, String>, Fault> {
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

pub(super) fn create_key(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let mut key = new_key(call.scope);
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
    let view = metadata(call.scope, &key);
    call.app.store.region(call.scope).change_kms(|kms| {
        kms.keys.insert(key.id.clone(), key);
        Ok(())
    })?;
    Ok(json!({ "KeyMetadata": view }))
}

pub(super) fn with_key<T>(
    call: &Call<'_>,
    input: &Input,
    look: impl FnOnce(&Key) -> Result<T, Fault>,
) -> Result<T, Fault> {
    let name = key_name(input)?;
    if let Some(service) = name.rsplit_once("alias/aws/").map(|(_, service)| service) {
        aws_managed_key(call.app, call.scope, service)?;
    }
    let kms = call.app.store.region(call.scope).kms();
    let id = resolve(call.scope, &kms, name)?;
    kms.keys.get(&id).map_or_else(|| Err(not_found(&id)), look)
}

pub(super) fn key_name(input: &Input) -> Result<&str, Fault> {
    input.opt("KeyId").ok_or_else(|| Fault::client("ValidationException", "KeyId must not be null"))
}

/// Changes one key. Aliases are not taken here, as KMS does not take them for its administration.
pub(super) fn change_key(
    call: &Call<'_>,
    input: &Input,
    change: impl FnOnce(&mut Key) -> Result<Value, Fault>,
) -> Result<Value, Fault> {
    let name = key_name(input)?;
    call.app.store.region(call.scope).change_kms(|kms| {
        let id = resolve(call.scope, kms, name)?;
        match kms.keys.get_mut(&id) {
            Some(key) if key.aws_managed => Err(Fault::client(
                "AccessDeniedException",
                format!("{} is managed by AWS", arn(call.scope, &id)),
            )),
            Some(key) => change(key),
            None => Err(not_found(&id)),
        }
    })
}

pub(super) fn describe_key(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    with_key(call, input, |key| Ok(json!({ "KeyMetadata": metadata(call.scope, key) })))
}

pub(super) fn set_enabled(call: &Call<'_>, input: &Input, enabled: bool) -> Result<Value, Fault> {
    change_key(call, input, |key| {
        not_pending(call.scope, key)?;
        key.enabled = enabled;
        Ok(json!({}))
    })
}

pub(super) fn set_rotation(call: &Call<'_>, input: &Input, on: bool) -> Result<Value, Fault> {
    let days = input.number("RotationPeriodInDays").unwrap_or(365);
    if !(90..=2560).contains(&days) {
        return Err(Fault::client("ValidationException", "RotationPeriodInDays must be between 90 and 2560"));
    }
    change_key(call, input, |key| {
        usable(call.scope, key)?;
        key.rotation_days = on.then_some(days);
        Ok(json!({}))
    })
}

pub(super) fn rotation_status(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    with_key(call, input, |key| {
        let mut view = json!({
            "KeyId": arn(call.scope, &key.id),
            "KeyRotationEnabled": key.rotation_days.is_some() && key.deletion.is_none(),
        });
        if let Some(days) = key.rotation_days {
            view["RotationPeriodInDays"] = json!(days);
        }
        Ok(view)
    })
}

pub(super) fn get_policy(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    with_key(call, input, |key| Ok(json!({ "Policy": key.policy, "PolicyName": "default" })))
}

pub(super) fn put_policy(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let policy =
        policy_of(input)?.ok_or_else(|| Fault::client("ValidationException", "Policy must not be null"))?;
    change_key(call, input, |key| {
        not_pending(call.scope, key)?;
        key.policy = policy;
        Ok(json!({}))
    })
}

pub(super) fn list_policies(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    with_key(call, input, |_| Ok(json!({ "PolicyNames": ["default"], "Truncated": false })))
}

pub(super) fn update_description(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    change_key(call, input, |key| {
        not_pending(call.scope, key)?;
        input.opt("Description").unwrap_or_default().clone_into(&mut key.description);
        Ok(json!({}))
    })
}

pub(super) fn schedule_deletion(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    const DAY: i64 = 24 * 3600 * 1000;
    let days = input.number("PendingWindowInDays").unwrap_or(30);
    let Some(window) = i64::try_from(days).ok().filter(|days| (7..=30).contains(days)) else {
        return Err(Fault::client("ValidationException", "PendingWindowInDays must be between 7 and 30"));
    };
    change_key(call, input, |key| {
        not_pending(call.scope, key)?;
        let date = now_millis() + window * DAY;
        key.deletion = Some(date);
        Ok(json!({
            "KeyId": arn(call.scope, &key.id),
            "DeletionDate": epoch_seconds(date),
            "KeyState": "PendingDeletion",
            "PendingWindowInDays": days,
        }))
    })
}

pub(super) fn cancel_deletion(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    change_key(call, input, |key| {
        if key.deletion.take().is_none() {
            return Err(Fault::client(
                "KMSInvalidStateException",
                format!("{} is not pending deletion.", arn(call.scope, &key.id)),
            ));
        }
        // A key that was saved is disabled until somebody enables it.
        key.enabled = false;
        Ok(json!({ "KeyId": arn(call.scope, &key.id) }))
    })
}

pub(super) fn tag(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let tags = tags_of(input)?;
    change_key(call, input, |key| {
        not_pending(call.scope, key)?;
        key.tags.extend(tags);
        Ok(json!({}))
    })
}

pub(super) fn untag(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let keys = input.texts("TagKeys");
    change_key(call, input, |key| {
        not_pending(call.scope, key)?;
        key.tags.retain(|name, _| !keys.contains(&name.as_str()));
        Ok(json!({}))
    })
}

pub(super) fn list_tags(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    with_key(call, input, |key| {
        let tags: Vec<Value> =
            key.tags.iter().map(|(name, value)| json!({ "TagKey": name, "TagValue": value })).collect();
        Ok(json!({ "Tags": tags, "Truncated": false }))
    })
}

pub(super) fn list_keys(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let kms = call.app.store.region(call.scope).kms();
    let all: Vec<&String> = kms.keys.keys().collect();
    let (shown, next) = page(input, &all)?;
    let keys: Vec<Value> =
        shown.iter().map(|id| json!({ "KeyId": id, "KeyArn": arn(call.scope, id) })).collect();
    Ok(paged(json!({ "Keys": keys }), next))
}
