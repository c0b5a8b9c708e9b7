//! `aws_kms_key`.

use serde_json::{Value as Json, json};

use super::{Default, During, Failure, Resource, changed, id, if_there, set, set_document};
use crate::api::{Api, kms_tags};
use crate::tags::{self, Tags};
use crate::values::{Object, Value, flag, text};

pub(super) const RESOURCE: Resource = Resource {
    name: "aws_kms_key",
    force_new: &[
        "custom_key_store_id",
        "customer_master_key_spec",
        "key_usage",
        "multi_region",
        "xks_key_id",
        "region",
    ],
    defaults: &[
        ("bypass_policy_lockout_safety_check", Default::Flag(false)),
        ("customer_master_key_spec", Default::Text("SYMMETRIC_DEFAULT")),
        ("enable_key_rotation", Default::Flag(false)),
        ("is_enabled", Default::Flag(true)),
        ("key_usage", Default::Text("ENCRYPT_DECRYPT")),
    ],
    keep_blocks: &[],
    documents: &["policy"],
    tagged: true,
    create: |api, state| Box::pin(create(api, state)),
    read: |api, state| Box::pin(read(api, state)),
    update: |api, prior, state| Box::pin(update(api, prior, state)),
    delete: |api, state| Box::pin(delete(api, state)),
};

const GONE: &[&str] = &["NotFoundException"];

async fn create(api: &Api, state: &mut Object) -> Result<(), Failure> {
    let tags = api.tags.at_creation(state);
    let body = json!({
        "Description": text(state, "description"),
        "KeySpec": text(state, "customer_master_key_spec"),
        "KeyUsage": text(state, "key_usage"),
        "MultiRegion": flag(state, "multi_region").then_some(true),
        "Policy": text(state, "policy"),
        "BypassPolicyLockoutSafetyCheck": flag(state, "bypass_policy_lockout_safety_check"),
        "Tags": (!tags.is_empty()).then(|| kms_tags(&tags)),
    });
    let answer = api.kms("CreateKey", body).await.during(|| "creating KMS Key".to_owned())?;
    set(state, "id", &answer["KeyMetadata"]["KeyId"]);
    if flag(state, "enable_key_rotation") {
        rotate(api, state).await?;
    }
    if !flag(state, "is_enabled") {
        enable(api, state).await?;
    }
    Ok(())
}

async fn read(api: &Api, state: &mut Object) -> Result<bool, Failure> {
    let key = id(state).to_owned();
    let reading = || format!("reading KMS Key ({key})");
    let answer = if_there(api.kms("DescribeKey", json!({ "KeyId": key })).await, GONE).during(reading)?;
    let Some(answer) = answer else { return Ok(false) };
    let metadata = &answer["KeyMetadata"];
    // For terraform, a key that is pending deletion is gone.
    if matches!(metadata["KeyState"].as_str(), Some("PendingDeletion" | "PendingReplicaDeletion")) {
        return Ok(false);
    }
    set(state, "arn", &metadata["Arn"]);
    set(state, "key_id", &metadata["KeyId"]);
    set(state, "description", &metadata["Description"]);
    set(state, "key_usage", &metadata["KeyUsage"]);
    set(state, "customer_master_key_spec", &metadata["KeySpec"]);
    state.insert("is_enabled".to_owned(), metadata["Enabled"].as_bool().unwrap_or(true).into());
    state.insert("multi_region".to_owned(), metadata["MultiRegion"].as_bool().unwrap_or(false).into());

    let body = json!({ "KeyId": key, "PolicyName": "default" });
    let answer = api.kms("GetKeyPolicy", body).await.during(reading)?;
    set_document(state, "policy", &answer["Policy"]);
    let answer = api.kms("GetKeyRotationStatus", json!({ "KeyId": key })).await.during(reading)?;
    let rotating = answer["KeyRotationEnabled"].as_bool().unwrap_or(false);
    state.insert("enable_key_rotation".to_owned(), rotating.into());
    let period = answer["RotationPeriodInDays"].as_f64().map_or(Value::Null, Value::Number);
    state.insert("rotation_period_in_days".to_owned(), period);
    let answer = api
        .kms("ListResourceTags", json!({ "KeyId": key }))
        .await
        .during(|| format!("listing tags for KMS (Key Management) Key ({key})"))?;
    let found = answer["Tags"].as_array().into_iter().flatten();
    let found: Tags = found
        .filter_map(|tag| Some((tag["TagKey"].as_str()?.to_owned(), tag["TagValue"].as_str()?.to_owned())))
        .collect();
    api.tags.remember(state, found);
    Ok(true)
}

async fn update(api: &Api, prior: &Object, state: &mut Object) -> Result<(), Failure> {
    let key = id(state).to_owned();
    let switched = changed(prior, state, "is_enabled");
    // A disabled key cannot be changed: enable it first, disable it last.
    if switched && flag(state, "is_enabled") {
        enable(api, state).await?;
    }
    if changed(prior, state, "enable_key_rotation")
        || (flag(state, "enable_key_rotation") && changed(prior, state, "rotation_period_in_days"))
    {
        rotate(api, state).await?;
    }
    if changed(prior, state, "description") {
        let body = json!({ "KeyId": key, "Description": text(state, "description").unwrap_or_default() });
        let answer = api.kms("UpdateKeyDescription", body).await;
        answer.during(|| format!("updating KMS Key ({key}) description"))?;
    }
    if changed(prior, state, "policy") {
        let body = json!({
            "KeyId": key,
            "PolicyName": "default",
            "Policy": text(state, "policy"),
            "BypassPolicyLockoutSafetyCheck": flag(state, "bypass_policy_lockout_safety_check"),
        });
        let answer = api.kms("PutKeyPolicy", body).await;
        answer.during(|| format!("updating KMS Key ({key}) policy"))?;
    }
    let (gone, set) = tags::changes(prior, state);
    let tagging = || format!("updating tags for KMS (Key Management) Key ({key})");
    if !gone.is_empty() {
        let answer = api.kms("UntagResource", json!({ "KeyId": key, "TagKeys": gone })).await;
        answer.during(tagging)?;
    }
    if !set.is_empty() {
        let answer = api.kms("TagResource", json!({ "KeyId": key, "Tags": kms_tags(&set) })).await;
        answer.during(tagging)?;
    }
    if switched && !flag(state, "is_enabled") {
        enable(api, state).await?;
    }
    Ok(())
}

async fn delete(api: &Api, state: &Object) -> Result<(), Failure> {
    let key = id(state);
    let days = match state.get("deletion_window_in_days") {
        Some(Value::Number(days)) => json!(days.round() as i64),
        _ => Json::Null,
    };
    let body = json!({ "KeyId": key, "PendingWindowInDays": days });
    match api.kms("ScheduleKeyDeletion", body).await {
        Err(error)
            if error.is(GONE)
                || error.is(&["KMSInvalidStateException"])
                    && error.to_string().contains("is pending deletion") =>
        {
            Ok(())
        }
        answer => answer.during(|| format!("deleting KMS Key ({key})")).map(drop),
    }
}

async fn rotate(api: &Api, state: &Object) -> Result<(), Failure> {
    let key = id(state);
    let (action, doing) = if flag(state, "enable_key_rotation") {
        ("EnableKeyRotation", "enabling")
    } else {
        ("DisableKeyRotation", "disabling")
    };
    let mut body = json!({ "KeyId": key });
    if let Some(Value::Number(days)) = state.get("rotation_period_in_days")
        && action == "EnableKeyRotation"
    {
        body["RotationPeriodInDays"] = json!(days.round() as i64);
    }
    let answer = api.kms(action, body).await;
    answer.during(|| format!("{doing} KMS Key ({key}) rotation")).map(drop)
}

async fn enable(api: &Api, state: &Object) -> Result<(), Failure> {
    let key = id(state);
    let (action, doing) =
        if flag(state, "is_enabled") { ("EnableKey", "enabling") } else { ("DisableKey", "disabling") };
    let answer = api.kms(action, json!({ "KeyId": key })).await;
    answer.during(|| format!("{doing} KMS Key ({key})")).map(drop)
}
