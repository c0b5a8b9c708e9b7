//! Aliases: names of keys.

use serde_json::{Value, json};

use super::{arn, key_arn, not_found, not_pending, page, paged, resolve};
use crate::fault::Fault;
use crate::input::Input;
use crate::policy::Need;
use crate::resource::{Call, Needs, ON_ALL, Resource};
use crate::store::model::{Alias, Kms};
use crate::time::{epoch_seconds, now_millis};

pub(super) const RESOURCE: Resource = Resource {
    actions: &[
        ("CreateAlias", ON_ALIAS, create_alias),
        ("DeleteAlias", ON_ALIAS, delete_alias),
        ("ListAliases", ON_ALL, list_aliases),
        ("UpdateAlias", ON_ALIAS, update_alias),
    ],
    existing: Some(("aws_kms_alias", |app, scope| {
        let kms = app.store.region(scope).kms();
        kms.aliases.keys().filter(|name| !name.starts_with("alias/aws/")).cloned().collect()
    })),
    scenarios: &[],
};

/// The alias, its current key and its new one.
const ON_ALIAS: Needs = |call, permission, input| {
    let name = input.opt("AliasName");
    let meant = call.app.store.region(&call.scope).kms().aliases.get(name.unwrap_or_default()).cloned();
    let wanted = input.opt("TargetKeyId").map(|key| key_arn(call.app, &call.scope, Some(key), "kms"));
    let keys = [meant.map(|alias| arn(&call.scope, &alias.target)), wanted.transpose()?];
    let alias = call.scope.arn("kms", name.unwrap_or("alias/*"));
    Ok([alias].into_iter().chain(keys.into_iter().flatten()).map(|arn| Need::new(permission, arn)).collect())
};

fn list_aliases(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let kms = call.app.store.region(&call.scope).kms();
    let wanted = input.opt("KeyId").map(|name| resolve(&call.scope, &kms, name)).transpose()?;
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
    let id = resolve(&call.scope, kms, name)?;
    kms.keys.get(&id).map_or(Ok(()), |key| not_pending(&call.scope, key))?;
    Ok(id)
}

fn create_alias(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let name = alias_name(input)?;
    call.app.store.region(&call.scope).change_kms(|kms| {
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
    call.app.store.region(&call.scope).change_kms(|kms| {
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
    call.app.store.region(&call.scope).change_kms(|kms| {
        let missing = || not_found(&format!("Alias {}", call.scope.arn("kms", name)));
        kms.aliases.remove(name).map(|_| json!({})).ok_or_else(missing)
    })
}
