//! Finding a grid's KMS key again, after a run that was killed before terraform could write it down.

use serde_json::{Value, json};

use super::signed::JsonService;
use super::{Aws, ecr::grids, endpoints};

const KMS: JsonService = JsonService { name: "kms", id: "KMS", target: "TrentService" };

/// The id of the key that the grid `tag` created at or after `since` (seconds since 1970) and still has: the one with its
/// mark, which is set with the creation.
/// (<https://docs.aws.amazon.com/kms/latest/APIReference/API_ListKeys.html>)
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
            // Of other people's keys some are closed to everybody else.
            let Ok(metadata) = call(aws, http, "DescribeKey", json!({ "KeyId": key })).await else {
                continue;
            };
            let metadata = &metadata["KeyMetadata"];
            let created = metadata["CreationDate"].as_f64().unwrap_or_default();
            // A second is what clocks may differ by here, and more than a key of an earlier apply is away.
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

/// Whether there is the alias (`alias/...`).
///
/// # Errors
/// AWS refuses or does not answer.
pub async fn has_alias(aws: &Aws, http: &reqwest::Client, key: &str, alias: &str) -> anyhow::Result<bool> {
    let answer = call(aws, http, "ListAliases", json!({ "KeyId": key, "Limit": 100 })).await?;
    Ok(answer["Aliases"].as_array().into_iter().flatten().any(|found| found["AliasName"] == alias))
}

/// The id of the key that an alias (`alias/...`) points at; none where there is no such alias.
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
/// AWS refuses or does not answer; other people's keys are often closed to everybody else.
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
