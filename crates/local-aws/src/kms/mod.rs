//! KMS's JSON API (<https://docs.aws.amazon.com/kms/latest/APIReference/Welcome.html>): states and names of keys, no cryptography.

mod aliases;
mod keys;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::app::App;
use crate::fault::Fault;
use crate::input::Input;
use crate::policy::Need;
use crate::resource::{Needs, Service};
use crate::scope::Scope;
use crate::store::model::{Alias, Key, Kms};
use crate::time::{epoch_seconds, now_millis};

/// The API. The permissions for each action are listed in
/// <https://docs.aws.amazon.com/service-authorization/latest/reference/list_awskeymanagementservice.html>.
pub(crate) const SERVICE: Service =
    Service { name: "kms", target: "TrentService", resources: &[&keys::RESOURCE, &aliases::RESOURCE] };

/// `KeyId`, which may be an alias: the permission is for the key.
const ON_KEY: Needs = |call, permission, input| {
    let name = input.opt("KeyId");
    let key = name.map(|name| key_arn(call.app, &call.scope, Some(name), "kms")).transpose()?;
    Ok(vec![Need::new(permission, key.unwrap_or_else(|| arn(&call.scope, "*")))])
};

/// The ARN of the key that `name` refers to, or without a name that of the key that AWS creates for `service`. An unknown name is treated
/// as a key ID: the action's handler returns the error.
pub(crate) fn key_arn(app: &App, scope: &Scope, name: Option<&str>, service: &str) -> Result<String, Fault> {
    let Some(name) = name else { return aws_managed_key(app, scope, service) };
    if let Some((_, service)) = name.rsplit_once("alias/aws/") {
        return aws_managed_key(app, scope, service);
    }
    Ok(match resolve(scope, &app.store.region(scope).kms(), name) {
        Ok(id) => arn(scope, &id),
        Err(_) if name.starts_with("arn:") => name.to_owned(),
        Err(_) if name.starts_with("alias/") => scope.arn("kms", name),
        Err(_) => arn(scope, name),
    })
}

/// The policy of a key.
pub(crate) fn policy(app: &App, scope: &Scope, id: &str) -> Option<String> {
    app.store.region(scope).kms().keys.get(id).map(|key| key.policy.clone())
}

fn arn(scope: &Scope, id: &str) -> String {
    scope.arn("kms", &format!("key/{id}"))
}

fn not_found(what: &str) -> Fault {
    Fault::client("NotFoundException", format!("{what} is not found."))
}

/// The ID of a key, given as ID, ARN, alias or alias ARN.
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

/// An error of KMS as ECR returns it.
fn as_ecr_fault(fault: &Fault) -> Fault {
    Fault::client(
        "KmsException",
        format!("The operation failed because KMS refused it: {} (kmsError: {})", fault.message, fault.code),
    )
}

/// Checks that a service may use a key now. A key whose deletion is due does not exist any more.
pub(crate) fn check(app: &App, scope: &Scope, key_arn: Option<&str>) -> Result<(), Fault> {
    let Some(key_arn) = key_arn else { return Ok(()) };
    let kms = app.store.region(scope).kms();
    resolve(scope, &kms, key_arn)
        .and_then(|id| kms.keys.get(&id).map_or_else(|| Err(not_found(&id)), |key| usable(scope, key)))
        .map_err(|fault| as_ecr_fault(&fault))
}

/// The ARN of a key that a new repository may use.
pub(crate) fn usable_key(app: &App, scope: &Scope, name: &str) -> Result<String, Fault> {
    let id = resolve(scope, &app.store.region(scope).kms(), name).map_err(|fault| as_ecr_fault(&fault))?;
    let arn = arn(scope, &id);
    check(app, scope, Some(&arn))?;
    Ok(arn)
}

/// The key that AWS creates for a service when it is first needed.
pub(crate) fn aws_managed_key(app: &App, scope: &Scope, service: &str) -> Result<String, Fault> {
    let name = format!("alias/aws/{service}");
    if let Some(alias) = app.store.region(scope).kms().aliases.get(&name) {
        return Ok(arn(scope, &alias.target));
    }
    app.store.region(scope).change_kms(|kms| {
        if let Some(alias) = kms.aliases.get(&name) {
            return Ok(arn(scope, &alias.target));
        }
        let mut key = new_key(scope);
        key.description = format!(
            "Default key that protects my {} data when no other key is defined",
            service.to_uppercase()
        );
        key.aws_managed = true;
        key.policy = managed_policy(scope, service);
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

/// Callers that may use the service may use its key through it, and describe it
/// (<https://docs.aws.amazon.com/kms/latest/developerguide/key-policies.html>).
fn managed_policy(scope: &Scope, service: &str) -> String {
    let suffix = if scope.partition() == "aws-cn" { "amazonaws.com.cn" } else { "amazonaws.com" };
    let root = format!("arn:{}:iam::{}:root", scope.partition(), scope.account);
    json!({
        "Version": "2012-10-17",
        "Id": format!("auto-{service}-2"),
        "Statement": [
            {
                "Sid": "Allow access through the service for all principals in the account that are authorized to use it",
                "Effect": "Allow",
                "Principal": { "AWS": "*" },
                "Action": [
                    "kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:CreateGrant",
                    "kms:RetireGrant", "kms:DescribeKey",
                ],
                "Resource": "*",
                "Condition": { "StringEquals": {
                    "kms:CallerAccount": scope.account, "kms:ViaService": format!("{service}.{}.{suffix}", scope.region),
                } },
            },
            {
                "Sid": "Allow direct access to key metadata to the account",
                "Effect": "Allow",
                "Principal": { "AWS": root },
                "Action": ["kms:Describe*", "kms:Get*", "kms:List*", "kms:RevokeGrant"],
                "Resource": "*",
            },
        ],
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

/// A page by position: KMS's token is named `Marker`.
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

/// A key that is pending deletion cannot be changed.
fn not_pending(scope: &Scope, key: &Key) -> Result<(), Fault> {
    if key.deletion.is_some() { usable(scope, key) } else { Ok(()) }
}
