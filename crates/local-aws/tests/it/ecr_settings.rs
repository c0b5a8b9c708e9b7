//! Settings of repositories and of the registry: policies, tags, lifecycle, replication.

use crate::common::{Local, digest};
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn tags_policies_and_settings_are_kept() {
    let local = Local::start();
    let caller = local.caller();
    let arn = "arn:aws:ecr:eu-west-1:123456789012:repository/curl";
    caller
        .ecr(
            "CreateRepository",
            json!({ "repositoryName": "curl", "tags": [{ "Key": "htc-grid/mainline", "Value": "yes" }] }),
        )
        .await;
    caller
        .ecr("TagResource", json!({ "resourceArn": arn, "tags": [{ "Key": "htc-grid/blue", "Value": "" }] }))
        .await;
    caller.ecr("UntagResource", json!({ "resourceArn": arn, "tagKeys": ["htc-grid/mainline"] })).await;
    let tags = caller.ecr("ListTagsForResource", json!({ "resourceArn": arn })).await;
    assert_eq!(tags["tags"], json!([{ "Key": "htc-grid/blue", "Value": "" }]));
    let (code, _) = caller
        .ecr_refused("TagResource", json!({ "resourceArn": arn, "tags": [{ "Key": "aws:x", "Value": "" }] }))
        .await;
    assert_eq!(code, "InvalidTagParameterException");

    let name = json!({ "repositoryName": "curl" });
    assert_eq!(
        caller.ecr_refused("GetRepositoryPolicy", name.clone()).await.0,
        "RepositoryPolicyNotFoundException"
    );
    let policy = json!({
        "Statement": [{
            "Effect": "Allow", "Principal": { "AWS": "arn:aws:iam::210987654321:root" },
            "Action": ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
        }],
    })
    .to_string();
    let foreign = json!({
        "registryId": "123456789012", "repositoryName": "curl", "imageIds": [{ "imageTag": "1" }],
    });
    let other = caller.key("210987654321");
    assert_eq!(other.ecr_refused("BatchGetImage", foreign.clone()).await.0, "AccessDeniedException");
    caller.ecr("SetRepositoryPolicy", json!({ "repositoryName": "curl", "policyText": policy })).await;
    assert_eq!(caller.ecr("GetRepositoryPolicy", name.clone()).await["policyText"], json!(policy));
    other.ecr("BatchGetImage", foreign).await;
    let delete = json!({ "registryId": "123456789012", "repositoryName": "curl" });
    assert_eq!(other.ecr_refused("DeleteRepository", delete).await.0, "AccessDeniedException");
    caller.ecr("DeleteRepositoryPolicy", name.clone()).await;

    let scanning = json!({ "repositoryName": "curl", "imageScanningConfiguration": { "scanOnPush": true } });
    caller.ecr("PutImageScanningConfiguration", scanning).await;
    let view = caller.ecr("DescribeRepositories", json!({})).await;
    assert_eq!(view["repositories"][0]["imageScanningConfiguration"]["scanOnPush"], true);
    let bad = json!({ "repositoryName": "curl", "imageTagMutability": "MUTABLE_WITH_EXCLUSION" });
    assert_eq!(caller.ecr_refused("PutImageTagMutability", bad).await.0, "InvalidParameterException");
}

#[tokio::test]
async fn registry_wide_settings() {
    let local = Local::start();
    let caller = local.caller();
    let setting = json!({ "name": "BLOB_MOUNTING" });
    assert_eq!(caller.ecr("GetAccountSetting", setting.clone()).await["value"], "DISABLED");
    caller.ecr("PutAccountSetting", json!({ "name": "BLOB_MOUNTING", "value": "ENABLED" })).await;
    assert_eq!(caller.ecr("GetAccountSetting", setting.clone()).await["value"], "ENABLED");
    assert_eq!(caller.region("us-east-1").ecr("GetAccountSetting", setting).await["value"], "DISABLED");
    let (code, _) =
        caller.ecr_refused("PutAccountSetting", json!({ "name": "BLOB_MOUNTING", "value": "ON" })).await;
    assert_eq!(code, "ValidationException");

    let rules = json!([{ "destinations": [{ "region": "us-east-1", "registryId": "123456789012" }] }]);
    caller
        .ecr("PutReplicationConfiguration", json!({ "replicationConfiguration": { "rules": rules } }))
        .await;
    let registry = caller.ecr("DescribeRegistry", json!({})).await;
    assert_eq!(registry["replicationConfiguration"]["rules"], rules);
    let own = json!({ "replicationConfiguration": { "rules": [
        { "destinations": [{ "region": "eu-west-1", "registryId": "123456789012" }] },
    ] } });
    assert_eq!(caller.ecr_refused("PutReplicationConfiguration", own).await.0, "ValidationException");

    assert_eq!(
        caller.ecr("GetRegistryScanningConfiguration", json!({})).await["scanningConfiguration"]["scanType"],
        "BASIC"
    );
    caller.ecr("PutRegistryScanningConfiguration", json!({ "scanType": "ENHANCED", "rules": [] })).await;
    assert_eq!(
        caller.ecr("GetRegistryScanningConfiguration", json!({})).await["scanningConfiguration"]["scanType"],
        "ENHANCED"
    );
}

#[tokio::test]
async fn a_lifecycle_policy_is_previewed_and_run() {
    let local = Local::start();
    let caller = local.caller();
    caller.repository("lambda").await;
    let registry = caller.registry().await;
    for (tag, layer) in [
        ("java17-sha256-a", &b"a"[..]),
        ("java17-sha256-b", b"b"),
        ("java17", b"c"),
        ("java17-sha256-c", b"c"),
    ] {
        registry.image("lambda", tag, layer).await;
    }
    let rule = |priority: u64, pattern: &str, keep: u64| {
        json!({
            "rulePriority": priority, "action": { "type": "expire" },
            "selection": {
                "tagStatus": "tagged", "tagPatternList": [pattern], "countType": "imageCountMoreThan", "countNumber": keep,
            },
        })
    };
    let policy = json!({ "rules": [rule(1, "java17", 1), rule(2, "java17-sha256-*", 1)] }).to_string();
    let name = json!({ "repositoryName": "lambda" });
    assert_eq!(
        caller.ecr_refused("GetLifecyclePolicy", name.clone()).await.0,
        "LifecyclePolicyNotFoundException"
    );
    let (code, message) = caller
        .ecr_refused(
            "PutLifecyclePolicy",
            json!({ "repositoryName": "lambda", "lifecyclePolicyText": "{\"rules\":[{}]}" }),
        )
        .await;
    assert_eq!(code, "InvalidParameterException");
    assert!(message.contains("rulePriority"), "{message}");
    caller
        .ecr("PutLifecyclePolicy", json!({ "repositoryName": "lambda", "lifecyclePolicyText": policy }))
        .await;
    caller.ecr("StartLifecyclePolicyPreview", name.clone()).await;
    let preview = caller.ecr("GetLifecyclePolicyPreview", name.clone()).await;
    assert_eq!(preview["status"], "COMPLETE");
    assert_eq!(preview["previewResults"][0]["imageTags"], json!(["java17-sha256-a"]));
    assert_eq!(preview["previewResults"][0]["appliedRulePriority"], 2);
    let ran = local.local(Method::POST, "lifecycle?region=eu-west-1", None).await;
    assert_eq!(ran["expired"].as_array().unwrap().len(), 1);
    let mut tags: Vec<Value> = caller.ecr("ListImages", name.clone()).await["imageIds"]
        .as_array()
        .unwrap()
        .iter()
        .map(|id| id["imageTag"].clone())
        .collect();
    tags.sort_by_key(ToString::to_string);
    assert_eq!(json!(tags), json!(["java17", "java17-sha256-b", "java17-sha256-c"]));
    caller.ecr("DeleteLifecyclePolicy", name).await;
}

#[tokio::test]
async fn a_pushed_image_is_replicated() {
    let local = Local::start();
    let caller = local.caller();
    let abroad = caller.region("us-east-1");
    for name in ["curl", "other"] {
        caller.repository(name).await;
    }
    let registry = caller.registry().await;
    let before = registry.image("curl", "before", b"before").await;
    let rules = json!([{
        "destinations": [{ "region": "us-east-1", "registryId": "123456789012" }],
        "repositoryFilters": [{ "filter": "cu", "filterType": "PREFIX_MATCH" }],
    }]);
    caller
        .ecr("PutReplicationConfiguration", json!({ "replicationConfiguration": { "rules": rules } }))
        .await;
    let pushed = registry.image("curl", "1", b"layer").await;
    registry.image("other", "1", b"layer").await;
    let there = abroad.registry().await;
    let got = there.get("curl/manifests/1").await;
    assert_eq!(crate::common::header(&got, "docker-content-digest"), pushed);
    assert_eq!(there.get(&format!("curl/blobs/{}", digest(b"layer"))).await.status(), 307);
    assert_eq!(
        there.get(&format!("curl/manifests/{before}")).await.status(),
        404,
        "only what comes after the rule"
    );
    assert_eq!(there.get("other/manifests/1").await.status(), 404);
}
