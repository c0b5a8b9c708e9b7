//! Finds a grid's KMS key after a run was killed before terraform could record it.

use serde_json::{Value, json};

use super::signed::JsonService;
use super::{Aws, ecr::grids, endpoints};

const KMS: JsonService = JsonService { name: "kms", id: "KMS", target: "TrentService" };

/// The ID of the key that the grid `tag` created at or after `since` (seconds since 1970) and that still exists. It is recognised
/// by the grid's mark, which is set at creation. (<https://docs.aws.amazon.com/kms/latest/APIReference/API_ListKeys.html>)
///
/// # Errors
/// AWS refuses or does not answer.
pub async fn created_since(
    aws: &Aws,
    http: &reqwest::Client,
    tag: &str,
    since: i64,
) -> anyhow::Result<Option<String>> {
    let mark = format!("{}{tag}", grids::PREFIX);
    let mut marker = Value::Null;
    loop {
        let mut page = json!({ "Limit": 1000 });
        if !marker.is_null() {
            page["Marker"] = marker;
        }
        let answer = call(aws, http, "ListKeys", page).await?;
        for key in answer["Keys"].as_array().into_iter().flatten() {
            let key = key["KeyId"].as_str().unwrap_or_default();
            // Keys of other owners may deny access.
            let Ok(metadata) = call(aws, http, "DescribeKey", json!({ "KeyId": key })).await else {
                continue;
            };
            let metadata = &metadata["KeyMetadata"];
            let created = metadata["CreationDate"].as_f64().unwrap_or_default();
            // Allows clocks to differ by one second; a key of an earlier apply is older than that.
            #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit")]
            let young = created + 1.0 >= since as f64;
            if !young || metadata["KeyState"] != "Enabled" || metadata["KeyManager"] == "AWS" {
                continue;
            }
            let tags = call(aws, http, "ListResourceTags", json!({ "KeyId": key })).await?;
            if tags["Tags"].as_array().into_iter().flatten().any(|tag| tag["TagKey"] == mark.as_str()) {
                return Ok(Some(key.to_owned()));
            }
        }
        if answer["Truncated"] != true {
            return Ok(None);
        }
        marker = answer["NextMarker"].clone();
    }
}

/// Whether the alias (`alias/...`) of a key exists.
///
/// # Errors
/// AWS refuses or does not answer.
pub async fn has_alias(aws: &Aws, http: &reqwest::Client, key: &str, alias: &str) -> anyhow::Result<bool> {
    let answer = call(aws, http, "ListAliases", json!({ "KeyId": key, "Limit": 100 })).await?;
    Ok(answer["Aliases"].as_array().into_iter().flatten().any(|found| found["AliasName"] == alias))
}

/// The ID of the key that an alias (`alias/...`) points to. `None` if there is no such alias.
///
/// # Errors
/// AWS refuses or does not answer.
pub async fn target(aws: &Aws, http: &reqwest::Client, alias: &str) -> anyhow::Result<Option<String>> {
    let mut page = json!({ "Limit": 100 });
    loop {
        let answer = call(aws, http, "ListAliases", page).await?;
        let mut found = answer["Aliases"].as_array().into_iter().flatten();
        if let Some(found) = found.find(|found| found["AliasName"] == alias) {
            return Ok(found["TargetKeyId"].as_str().map(str::to_owned));
        }
        if answer["Truncated"] != true {
            return Ok(None);
        }
        page = json!({ "Limit": 100, "Marker": answer["NextMarker"] });
    }
}

/// The state of a key (`Enabled`, `Disabled`, `PendingDeletion` ...) by its id or ARN.
///
/// # Errors
/// AWS refuses or does not answer. Keys of other owners often deny access.
pub async fn state(aws: &Aws, http: &reqwest::Client, key: &str) -> anyhow::Result<Option<String>> {
    let answer = call(aws, http, "DescribeKey", json!({ "KeyId": key })).await?;
    Ok(answer["KeyMetadata"]["KeyState"].as_str().map(str::to_owned))
}

/// Whether a key can be used and has the mark of the grid `tag`.
///
/// # Errors
/// AWS refuses or does not answer.
pub async fn is_marked(aws: &Aws, http: &reqwest::Client, key: &str, tag: &str) -> anyhow::Result<bool> {
    let mark = format!("{}{tag}", grids::PREFIX);
    let metadata = call(aws, http, "DescribeKey", json!({ "KeyId": key })).await?;
    let tags = call(aws, http, "ListResourceTags", json!({ "KeyId": key })).await?;
    let marked = tags["Tags"].as_array().into_iter().flatten().any(|tag| tag["TagKey"] == mark.as_str());
    Ok(marked && metadata["KeyMetadata"]["KeyState"] == "Enabled")
}

async fn call(aws: &Aws, http: &reqwest::Client, action: &str, input: Value) -> anyhow::Result<Value> {
    let host = endpoints::kms(aws.region(), aws.variant());
    KMS.call(aws, http, (aws.region(), host), action, &input).await
}
