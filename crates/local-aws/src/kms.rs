//! KMS's JSON API (<https://docs.aws.amazon.com/kms/latest/APIReference/Welcome.html>): keys' lives and names, no cryptography.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::account::{Caller, Scope};
use crate::fault::Fault;
use crate::input::Input;
use crate::server::App;
use crate::store::model::{Alias, Key, Kms};
use crate::time::{epoch_seconds, now_millis};

struct Call<'a> {
    app: &'a App,
    scope: &'a Scope,
}

type Handler = fn(&Call<'_>, &Input) -> Result<Value, Fault>;

/// Every action that is implemented.
const ACTIONS: &[(&str, Handler)] = &[
    ("CancelKeyDeletion", cancel_deletion),
    ("CreateAlias", create_alias),
    ("CreateKey", create_key),
    ("DeleteAlias", delete_alias),
    ("DescribeKey", describe_key),
    ("DisableKey", |call, input| set_enabled(call, input, false)),
    ("DisableKeyRotation", |call, input| set_rotation(call, input, false)),
    ("EnableKey", |call, input| set_enabled(call, input, true)),
    ("EnableKeyRotation", |call, input| set_rotation(call, input, true)),
    ("GetKeyPolicy", get_policy),
    ("GetKeyRotationStatus", rotation_status),
    ("ListAliases", list_aliases),
    ("ListKeyPolicies", list_policies),
    ("ListKeys", list_keys),
    ("ListResourceTags", list_tags),
    ("PutKeyPolicy", put_policy),
    ("ScheduleKeyDeletion", schedule_deletion),
    ("TagResource", tag),
    ("UntagResource", untag),
    ("UpdateAlias", update_alias),
    ("UpdateKeyDescription", update_description),
];

pub(crate) fn dispatch(app: &App, caller: &Caller, action: &str, input: &Input) -> Result<Value, Fault> {
    let handler = crate::route::find(ACTIONS, action).ok_or_else(|| Fault::not_implemented("kms", action))?;
    handler(&Call { app, scope: &caller.scope }, input)
}

/// The journal's resource.
pub(crate) fn resource(input: &Input) -> String {
    ["KeyId", "TargetKeyId", "AliasName"]
        .iter()
        .find_map(|member| input.opt(member))
        .unwrap_or("*")
        .to_owned()
}

fn arn(scope: &Scope, id: &str) -> String {
    scope.arn("kms", &format!("key/{id}"))
}

fn not_found(what: &str) -> Fault {
    Fault::client("NotFoundException", format!("{what} is not found."))
}

/// The id of the key that a key id, a key's ARN, an alias or an alias's ARN means.
fn resolve(scope: &Scope, kms: &Kms, name: &str) -> Result<String, Fault> {
    let prefix = scope.arn("kms", "");
    let short = name.strip_prefix(&prefix).unwrap_or(name);
    if short.starts_with("alias/") {
        let alias = kms.aliases.get(short).ok_or_else(|| not_found(&format!("Alias {prefix}{short}")))?;
        return Ok(alias.target.clone());
    }
    let id = short.strip_prefix("key/").unwrap_or(short);
    if kms.keys.contains_key(id) {
        Ok(id.to_owned())
    } else {
        Err(not_found(&format!("Key '{}'", arn(scope, id))))
    }
}

fn state(key: &Key) -> &'static str {
    match (key.deletion, key.enabled) {
        (Some(_), _) => "PendingDeletion",
        (None, true) => "Enabled",
        (None, false) => "Disabled",
    }
}

fn usable(scope: &Scope, key: &Key) -> Result<(), Fault> {
    let arn = arn(scope, &key.id);
    match state(key) {
        "PendingDeletion" => {
            Err(Fault::client("KMSInvalidStateException", format!("{arn} is pending deletion.")))
        }
        "Disabled" => Err(Fault::client("DisabledException", format!("{arn} is disabled."))),
        _ => Ok(()),
    }
}

/// How ECR passes a refusal of KMS's on.
fn as_ecr_fault(fault: &Fault) -> Fault {
    Fault::client(
        "KmsException",
        format!("The operation failed because KMS refused it: {} (kmsError: {})", fault.message, fault.code),
    )
}

/// For a service that encrypts with a key: may it, now? Keys whose time has come count as gone.
pub(crate) fn check(app: &App, scope: &Scope, key_arn: Option<&str>) -> Result<(), Fault> {
    let Some(key_arn) = key_arn else { return Ok(()) };
    let kms = app.store.kms(scope);
    resolve(scope, &kms, key_arn)
        .and_then(|id| kms.keys.get(&id).map_or_else(|| Err(not_found(&id)), |key| usable(scope, key)))
        .map_err(|fault| as_ecr_fault(&fault))
}

/// The ARN of a key that a new repository may use.
pub(crate) fn usable_key(app: &App, scope: &Scope, name: &str) -> Result<String, Fault> {
    let id = resolve(scope, &app.store.kms(scope), name).map_err(|fault| as_ecr_fault(&fault))?;
    let arn = arn(scope, &id);
    check(app, scope, Some(&arn))?;
    Ok(arn)
}

/// The key that AWS itself makes for a service when it first needs one.
pub(crate) fn aws_managed_key(app: &App, scope: &Scope, service: &str) -> Result<String, Fault> {
    let name = format!("alias/aws/{service}");
    if let Some(alias) = app.store.kms(scope).aliases.get(&name) {
        return Ok(arn(scope, &alias.target));
    }
    app.store.change_kms(scope, |kms| {
        if let Some(alias) = kms.aliases.get(&name) {
            return Ok(arn(scope, &alias.target));
        }
        let mut key = new_key(scope);
        key.description = format!(
            "Default key that protects my {} data when no other key is defined",
            service.to_uppercase()
        );
        key.aws_managed = true;
        key.rotation_days = Some(365);
        let (id, now) = (key.id.clone(), now_millis());
        kms.keys.insert(id.clone(), key);
        kms.aliases.insert(name, Alias { target: id.clone(), created: now, updated: now });
        Ok(arn(scope, &id))
    })
}

fn new_key(scope: &Scope) -> Key {
    Key {
        id: crate::store::new_id(),
        created: now_millis(),
        description: String::new(),
        enabled: true,
        deletion: None,
        rotation_days: None,
        policy: default_policy(scope),
        spec: "SYMMETRIC_DEFAULT".to_owned(),
        usage: "ENCRYPT_DECRYPT".to_owned(),
        multi_region: false,
        tags: BTreeMap::new(),
        aws_managed: false,
    }
}

fn default_policy(scope: &Scope) -> String {
    json!({
        "Version": "2012-10-17",
        "Id": "key-default-1",
        "Statement": [{
            "Sid": "Enable IAM User Permissions",
            "Effect": "Allow",
            "Principal": { "AWS": format!("arn:{}:iam::{}:root", scope.partition(), scope.account) },
            "Action": "kms:*",
            "Resource": "*",
        }],
    })
    .to_string()
}

fn metadata(scope: &Scope, key: &Key) -> Value {
    let mut view = json!({
        "AWSAccountId": scope.account,
        "KeyId": key.id,
        "Arn": arn(scope, &key.id),
        "CreationDate": epoch_seconds(key.created),
        "Enabled": state(key) == "Enabled",
        "Description": key.description,
        "KeyUsage": key.usage,
        "KeyState": state(key),
        "Origin": "AWS_KMS",
        "KeyManager": if key.aws_managed { "AWS" } else { "CUSTOMER" },
        "CustomerMasterKeySpec": key.spec,
        "KeySpec": key.spec,
        "EncryptionAlgorithms": ["SYMMETRIC_DEFAULT"],
        "MultiRegion": key.multi_region,
    });
    if let Some(deletion) = key.deletion {
        view["DeletionDate"] = epoch_seconds(deletion);
    }
    view
}

fn policy_of(input: &Input) -> Result<Option<String>, Fault> {
    let Some(text) = input.opt("Policy").filter(|text| !text.is_empty()) else { return Ok(None) };
    let parsed = serde_json::from_str::<Value>(text).ok();
    if parsed.is_none_or(|policy| policy["Statement"].is_null()) {
        return Err(Fault::client(
            "MalformedPolicyDocumentException",
            "Policy contains a syntax error or has no statement",
        ));
    }
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
    call.app.store.change_kms(call.scope, |kms| {
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
        aws_managed_key(call.app, call.scope, service)?;
    }
    let kms = call.app.store.kms(call.scope);
    let id = resolve(call.scope, &kms, name)?;
    kms.keys.get(&id).map_or_else(|| Err(not_found(&id)), look)
}

fn key_name(input: &Input) -> Result<&str, Fault> {
    input.opt("KeyId").ok_or_else(|| Fault::client("ValidationException", "KeyId must not be null"))
}

/// Changes one key. Aliases are not taken here, as KMS does not take them for its administration.
fn change_key(
    call: &Call<'_>,
    input: &Input,
    change: impl FnOnce(&mut Key) -> Result<Value, Fault>,
) -> Result<Value, Fault> {
    let name = key_name(input)?;
    call.app.store.change_kms(call.scope, |kms| {
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

fn not_pending(scope: &Scope, key: &Key) -> Result<(), Fault> {
    if key.deletion.is_some() { usable(scope, key) } else { Ok(()) }
}

fn describe_key(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    with_key(call, input, |key| Ok(json!({ "KeyMetadata": metadata(call.scope, key) })))
}

fn set_enabled(call: &Call<'_>, input: &Input, enabled: bool) -> Result<Value, Fault> {
    change_key(call, input, |key| {
        not_pending(call.scope, key)?;
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
        usable(call.scope, key)?;
        key.rotation_days = on.then_some(days);
        Ok(json!({}))
    })
}

fn rotation_status(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
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

fn get_policy(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    with_key(call, input, |key| Ok(json!({ "Policy": key.policy, "PolicyName": "default" })))
}

fn put_policy(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let policy =
        policy_of(input)?.ok_or_else(|| Fault::client("ValidationException", "Policy must not be null"))?;
    change_key(call, input, |key| {
        not_pending(call.scope, key)?;
        key.policy = policy;
        Ok(json!({}))
    })
}

fn list_policies(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    with_key(call, input, |_| Ok(json!({ "PolicyNames": ["default"], "Truncated": false })))
}

fn update_description(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    change_key(call, input, |key| {
        not_pending(call.scope, key)?;
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

fn cancel_deletion(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
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

fn tag(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let tags = tags_of(input)?;
    change_key(call, input, |key| {
        not_pending(call.scope, key)?;
        key.tags.extend(tags);
        Ok(json!({}))
    })
}

fn untag(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let keys = input.texts("TagKeys");
    change_key(call, input, |key| {
        not_pending(call.scope, key)?;
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

/// A page by position: KMS calls its token `Marker`.
fn page<'a, T>(input: &Input, all: &'a [T]) -> Result<(&'a [T], Option<String>), Fault> {
    let start = match input.opt("Marker") {
        None => 0,
        Some(marker) => marker
            .parse::<usize>()
            .ok()
            .filter(|start| *start <= all.len())
            .ok_or_else(|| Fault::client("InvalidMarkerException", "Invalid marker"))?,
    };
    let limit =
        input.number("Limit").and_then(|limit| usize::try_from(limit).ok()).unwrap_or(100).clamp(1, 1000);
    let end = all.len().min(start + limit);
    Ok((&all[start..end], (end < all.len()).then(|| end.to_string())))
}

fn paged(mut view: Value, next: Option<String>) -> Value {
    view["Truncated"] = json!(next.is_some());
    if let Some(next) = next {
        view["NextMarker"] = json!(next);
    }
    view
}

fn list_keys(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let kms = call.app.store.kms(call.scope);
    let all: Vec<&String> = kms.keys.keys().collect();
    let (shown, next) = page(input, &all)?;
    let keys: Vec<Value> =
        shown.iter().map(|id| json!({ "KeyId": id, "KeyArn": arn(call.scope, id) })).collect();
    Ok(paged(json!({ "Keys": keys }), next))
}

fn list_aliases(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let kms = call.app.store.kms(call.scope);
    let wanted = input.opt("KeyId").map(|name| resolve(call.scope, &kms, name)).transpose()?;
    let all: Vec<(&String, &Alias)> = kms
        .aliases
        .iter()
        .filter(|(_, alias)| wanted.as_ref().is_none_or(|id| *id == alias.target))
        .collect();
    let (shown, next) = page(input, &all)?;
    let aliases: Vec<Value> = shown
        .iter()
        .map(|(name, alias)| {
            json!({
                "AliasName": name,
                "AliasArn": call.scope.arn("kms", name),
                "TargetKeyId": alias.target,
                "CreationDate": epoch_seconds(alias.created),
                "LastUpdatedDate": epoch_seconds(alias.updated),
            })
        })
        .collect();
    Ok(paged(json!({ "Aliases": aliases }), next))
}

fn alias_name(input: &Input) -> Result<&str, Fault> {
    let name = input.opt("AliasName").unwrap_or_default();
    let valid = name.strip_prefix("alias/").is_some_and(|rest| {
        !rest.is_empty()
            && !rest.starts_with("aws/")
            && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b"/_-".contains(&b))
    });
    if valid {
        Ok(name)
    } else {
        Err(Fault::client("InvalidAliasNameException", format!("Invalid alias name '{name}'")))
    }
}

fn target(call: &Call<'_>, kms: &Kms, input: &Input) -> Result<String, Fault> {
    let name = input
        .opt("TargetKeyId")
        .ok_or_else(|| Fault::client("ValidationException", "TargetKeyId must not be null"))?;
    let id = resolve(call.scope, kms, name)?;
    kms.keys.get(&id).map_or(Ok(()), |key| not_pending(call.scope, key))?;
    Ok(id)
}

fn create_alias(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let name = alias_name(input)?;
    call.app.store.change_kms(call.scope, |kms| {
        let target = target(call, kms, input)?;
        if kms.aliases.contains_key(name) {
            return Err(Fault::client(
                "AlreadyExistsException",
                format!("An alias with the name {} already exists", call.scope.arn("kms", name)),
            ));
        }
        let now = now_millis();
        kms.aliases.insert(name.to_owned(), Alias { target, created: now, updated: now });
        Ok(json!({}))
    })
}

fn update_alias(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let name = alias_name(input)?;
    call.app.store.change_kms(call.scope, |kms| {
        let target = target(call, kms, input)?;
        let missing = || not_found(&format!("Alias {}", call.scope.arn("kms", name)));
        let alias = kms.aliases.get_mut(name).ok_or_else(missing)?;
        alias.target = target;
        alias.updated = now_millis();
        Ok(json!({}))
    })
}

fn delete_alias(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let name = alias_name(input)?;
    call.app.store.change_kms(call.scope, |kms| {
        let missing = || not_found(&format!("Alias {}", call.scope.arn("kms", name)));
        kms.aliases.remove(name).map(|_| json!({})).ok_or_else(missing)
    })
}
