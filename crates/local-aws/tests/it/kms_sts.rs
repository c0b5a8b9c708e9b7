//! KMS, STS, ECR Public and CloudFormation.

use crate::common::Local;
use reqwest::Method;
use serde_json::json;

#[tokio::test]
async fn a_key_from_creation_to_deletion() {
    let local = Local::start();
    let caller = local.caller();
    let created = caller
        .kms("CreateKey", json!({ "Description": "ecr", "Tags": [{ "TagKey": "a", "TagValue": "b" }] }))
        .await["KeyMetadata"]
        .clone();
    let key = json!({ "KeyId": created["KeyId"] });
    assert_eq!(
        (created["KeyState"].as_str(), created["Description"].as_str()),
        (Some("Enabled"), Some("ecr"))
    );
    assert_eq!(caller.kms("GetKeyRotationStatus", key.clone()).await["KeyRotationEnabled"], false);
    caller.kms("EnableKeyRotation", key.clone()).await;
    assert_eq!(caller.kms("GetKeyRotationStatus", key.clone()).await["KeyRotationEnabled"], true);
    assert_eq!(
        caller.kms("ListResourceTags", key.clone()).await["Tags"],
        json!([{ "TagKey": "a", "TagValue": "b" }])
    );
    let owner = json!({ "AWS": "arn:aws:iam::123456789012:root" });
    let policy = json!({ "Version": "2012-10-17", "Statement": [
        { "Effect": "Allow", "Principal": owner, "Action": ["kms:*"], "Resource": "*" },
    ] });
    let policy = policy.to_string();
    caller
        .kms("PutKeyPolicy", json!({ "KeyId": created["Arn"], "PolicyName": "default", "Policy": policy }))
        .await;
    assert_eq!(caller.kms("GetKeyPolicy", key.clone()).await["Policy"], json!(policy));
    let (code, _) =
        caller.kms_refused("PutKeyPolicy", json!({ "KeyId": created["Arn"], "Policy": "{" })).await;
    assert_eq!(code, "MalformedPolicyDocumentException");

    caller.kms("CreateAlias", json!({ "AliasName": "alias/ecr/a", "TargetKeyId": created["KeyId"] })).await;
    let again = json!({ "AliasName": "alias/ecr/a", "TargetKeyId": created["KeyId"] });
    assert_eq!(caller.kms_refused("CreateAlias", again).await.0, "AlreadyExistsException");
    let (code, _) = caller
        .kms_refused("CreateAlias", json!({ "AliasName": "alias/aws/x", "TargetKeyId": created["KeyId"] }))
        .await;
    assert_eq!(code, "InvalidAliasNameException");
    for name in ["alias/ecr/a", "arn:aws:kms:eu-west-1:123456789012:alias/ecr/a"] {
        assert_eq!(
            caller.kms("DescribeKey", json!({ "KeyId": name })).await["KeyMetadata"]["Arn"],
            created["Arn"],
            "{name}"
        );
    }
    let aliases = caller.kms("ListAliases", key.clone()).await;
    assert_eq!(aliases["Aliases"][0]["AliasName"], "alias/ecr/a");
    let resources = async || local.local(Method::GET, "resources?region=eu-west-1", None).await;
    assert_eq!(resources().await["aws_kms_key"], json!([created["KeyId"]]));
    assert_eq!(resources().await["aws_kms_alias"], json!(["alias/ecr/a"]));

    let pending = caller
        .kms("ScheduleKeyDeletion", json!({ "KeyId": created["KeyId"], "PendingWindowInDays": 7 }))
        .await;
    assert_eq!(pending["KeyState"], "PendingDeletion");
    assert_eq!(resources().await["aws_kms_key"], json!([]));
    assert_eq!(caller.kms_refused("EnableKeyRotation", key.clone()).await.0, "KMSInvalidStateException");
    let (code, _) = caller
        .kms_refused("ScheduleKeyDeletion", json!({ "KeyId": created["KeyId"], "PendingWindowInDays": 1 }))
        .await;
    assert_eq!(code, "ValidationException");
    caller.kms("CancelKeyDeletion", key.clone()).await;
    assert_eq!(caller.kms("DescribeKey", key).await["KeyMetadata"]["KeyState"], "Disabled");
    caller.kms("DeleteAlias", json!({ "AliasName": "alias/ecr/a" })).await;
    let (code, message) = caller.kms_refused("DescribeKey", json!({ "KeyId": "alias/ecr/a" })).await;
    assert_eq!(code, "NotFoundException");
    assert_eq!(message, "Alias arn:aws:kms:eu-west-1:123456789012:alias/ecr/a is not found.");
    assert_eq!(caller.region("us-east-1").kms("ListKeys", json!({})).await["Keys"], json!([]));
}

#[tokio::test]
async fn the_caller_identity() {
    let local = Local::start();
    let ask = async |key: &str, region: &str| {
        local
            .caller()
            .key(key)
            .region(region)
            .query("sts", "Action=GetCallerIdentity&Version=2011-06-15")
            .await
            .1
    };
    assert!(ask("local", "eu-west-1").await.contains("<Arn>arn:aws:iam::123456789012:user/local</Arn>"));
    assert!(ask("ann", "cn-north-1").await.contains("<Arn>arn:aws-cn:iam::123456789012:user/ann</Arn>"));
    assert!(ask("210987654321", "us-east-1").await.contains("<Account>210987654321</Account>"));
    let expired = local.caller().key("expired").query("sts", "Action=GetCallerIdentity").await;
    assert_eq!(expired.0, 403);
    assert!(expired.1.contains("<Code>ExpiredToken</Code>"), "{}", expired.1);

    let form = "Action=AssumeRole&RoleArn=arn:aws:iam::123456789012:role/ops&RoleSessionName=ann";
    let (status, text) = local.caller().query("sts", form).await;
    assert_eq!(status, 200);
    let key = text.split("<AccessKeyId>").nth(1).unwrap().split('<').next().unwrap();
    assert!(ask(key, "eu-west-1").await.contains("arn:aws:sts::123456789012:assumed-role/ops/ann"));
    // GetCallerIdentity is always allowed.
    local.quirks(&["deny:sts:GetCallerIdentity", "deny:sts:AssumeRole"]);
    assert!(ask("local", "eu-west-1").await.contains("<Arn>arn:aws:iam::123456789012:user/local</Arn>"));
    let (status, text) = local.caller().query("sts", form).await;
    assert!(status == 403 && text.contains("<Code>AccessDenied</Code>"), "{text}");
}

#[tokio::test]
async fn a_role_has_an_arn_of_the_callers_account() {
    let local = Local::start();
    let form = "Action=GetRole&Version=2010-05-08&RoleName=ops";
    let (status, text) = local.caller().region("cn-north-1").query("iam", form).await;
    assert!(status == 200 && text.contains("<Arn>arn:aws-cn:iam::123456789012:role/ops</Arn>"), "{text}");
    let (status, text) = local.caller().query("iam", "Action=GetRole").await;
    assert!(status == 400 && text.contains("roleName"), "{text}");
    local.quirks(&["deny:iam:GetRole"]);
    let (status, text) = local.caller().query("iam", form).await;
    assert!(
        status == 403 && text.contains("iam:GetRole on resource: arn:aws:iam::123456789012:role/ops"),
        "{text}"
    );
}

#[tokio::test]
async fn ecr_publics_token_is_only_in_us_east_1() {
    let local = Local::start();
    let (status, value) = local
        .caller()
        .region("us-east-1")
        .json("ecr-public", "SpencerFrontendService", "GetAuthorizationToken", json!({}))
        .await;
    assert_eq!(status, 200);
    assert!(value["authorizationData"]["authorizationToken"].is_string());
    let (status, value) =
        local.caller().json("ecr-public", "SpencerFrontendService", "GetAuthorizationToken", json!({})).await;
    assert_eq!(status, 400);
    assert!(value["message"].as_str().unwrap().contains("us-east-1"), "{value}");
}

#[tokio::test]
async fn declared_stacks_are_described() {
    let local = Local::start();
    let stack = json!({ "name": "mainline", "region": "eu-west-1", "outputs": { "ImageTFStateBucketID": "state<1>" } });
    local.local(Method::POST, "stacks", Some(stack)).await;
    let ask =
        async |region: &str, form: &str| local.caller().region(region).query("cloudformation", form).await;
    let (status, text) = ask("eu-west-1", "Action=DescribeStacks&StackName=mainline").await;
    assert_eq!(status, 200);
    assert!(
        text.contains("<OutputKey>ImageTFStateBucketID</OutputKey><OutputValue>state&lt;1&gt;</OutputValue>"),
        "{text}"
    );
    let (status, text) = ask("us-east-1", "Action=DescribeStacks&StackName=mainline").await;
    assert_eq!(status, 400);
    assert!(
        text.contains("<Code>ValidationError</Code><Message>Stack with id mainline does not exist</Message>"),
        "{text}"
    );
}
