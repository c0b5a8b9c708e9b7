//! KMS.

use super::{Call, kms};

/// A key's life.
pub(super) const KEY: &[Call] = &[
    kms(
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
    kms("describe", "DescribeKey", r#"{"KeyId":"{key}"}"#, &["/KeyMetadata/Arn", "/KeyMetadata/Description"]),
    kms(
        "describe one that is not there",
        "DescribeKey",
        r#"{"KeyId":"00000000-0000-0000-0000-000000000000"}"#,
        &[],
    ),
    kms("alias", "CreateAlias", r#"{"AliasName":"alias/ecr/prod-htc","TargetKeyId":"{key}"}"#, &[]),
    kms("alias again", "CreateAlias", r#"{"AliasName":"alias/ecr/prod-htc","TargetKeyId":"{key}"}"#, &[]),
    kms("describe by alias", "DescribeKey", r#"{"KeyId":"alias/ecr/prod-htc"}"#, &["/KeyMetadata/KeyId"]),
    kms(
        "aliases of the key",
        "ListAliases",
        r#"{"KeyId":"{key}"}"#,
        &["/Aliases/0/AliasName", "/Aliases/0/TargetKeyId"],
    ),
    kms("rotation of a new one", "GetKeyRotationStatus", r#"{"KeyId":"{key}"}"#, &["/KeyRotationEnabled"]),
    kms("rotate", "EnableKeyRotation", r#"{"KeyId":"{key}"}"#, &[]),
    kms("rotation", "GetKeyRotationStatus", r#"{"KeyId":"{key}"}"#, &["/KeyRotationEnabled"]),
    kms("policy", "GetKeyPolicy", r#"{"KeyId":"{key}","PolicyName":"default"}"#, &["/PolicyName"]),
    kms("tags", "ListResourceTags", r#"{"KeyId":"{key}"}"#, &["/Tags/0/TagKey"]),
    kms("change the description", "UpdateKeyDescription", r#"{"KeyId":"{key}","Description":"more"}"#, &[]),
    kms("delete the alias", "DeleteAlias", r#"{"AliasName":"alias/ecr/prod-htc"}"#, &[]),
    kms("delete the alias again", "DeleteAlias", r#"{"AliasName":"alias/ecr/prod-htc"}"#, &[]),
    kms("delete too soon", "ScheduleKeyDeletion", r#"{"KeyId":"{key}","PendingWindowInDays":1}"#, &[]),
    kms(
        "delete in a week",
        "ScheduleKeyDeletion",
        r#"{"KeyId":"{key}","PendingWindowInDays":7}"#,
        &["/KeyState", "/PendingWindowInDays"],
    ),
    kms(
        "what is left",
        "DescribeKey",
        r#"{"KeyId":"{key}"}"#,
        &["/KeyMetadata/KeyState", "/KeyMetadata/Enabled"],
    ),
    kms(
        "delete what is being deleted",
        "ScheduleKeyDeletion",
        r#"{"KeyId":"{key}","PendingWindowInDays":7}"#,
        &[],
    ),
    kms("keep it", "CancelKeyDeletion", r#"{"KeyId":"{key}"}"#, &[]),
    kms("what is kept", "DescribeKey", r#"{"KeyId":"{key}"}"#, &["/KeyMetadata/KeyState"]),
];

/// What else a key has.
pub(super) const MORE: &[Call] = &[
    kms("create", "CreateKey", r#"{"Description":"another"}"#, &["key</KeyMetadata/KeyId"]),
    kms("create a second", "CreateKey", r#"{}"#, &["second</KeyMetadata/KeyId"]),
    kms("alias", "CreateAlias", r#"{"AliasName":"alias/ecr/dev-htc","TargetKeyId":"{key}"}"#, &[]),
    kms(
        "point it elsewhere",
        "UpdateAlias",
        r#"{"AliasName":"alias/ecr/dev-htc","TargetKeyId":"{second}"}"#,
        &[],
    ),
    kms(
        "point one that is not there",
        "UpdateAlias",
        r#"{"AliasName":"alias/ecr/none","TargetKeyId":"{second}"}"#,
        &[],
    ),
    kms("where it points", "DescribeKey", r#"{"KeyId":"alias/ecr/dev-htc"}"#, &["/KeyMetadata/KeyId"]),
    kms("keys", "ListKeys", r#"{}"#, &["/Truncated"]),
    kms("policies", "ListKeyPolicies", r#"{"KeyId":"{key}"}"#, &["/PolicyNames/0"]),
    kms(
        "set a policy",
        "PutKeyPolicy",
        r#"{"KeyId":"{key}","PolicyName":"default","Policy":"{\"Version\":\"2012-10-17\",\"Statement\":[{\"Sid\":\"All\",\"Effect\":\"Allow\",\"Principal\":{\"AWS\":\"arn:aws:iam::123456789012:root\"},\"Action\":\"kms:*\",\"Resource\":\"*\"}]}"}"#,
        &[],
    ),
    kms(
        "set one that is no JSON",
        "PutKeyPolicy",
        r#"{"KeyId":"{key}","PolicyName":"default","Policy":"{"}"#,
        &[],
    ),
    kms("policy", "GetKeyPolicy", r#"{"KeyId":"{key}","PolicyName":"default"}"#, &[]),
    kms(
        "tag",
        "TagResource",
        r#"{"KeyId":"{key}","Tags":[{"TagKey":"a","TagValue":"b"},{"TagKey":"c","TagValue":"d"}]}"#,
        &[],
    ),
    kms("untag", "UntagResource", r#"{"KeyId":"{key}","TagKeys":["a"]}"#, &[]),
    kms("tags", "ListResourceTags", r#"{"KeyId":"{key}"}"#, &["/Tags/0/TagKey", "/Tags/1/TagKey"]),
    kms("disable", "DisableKey", r#"{"KeyId":"{key}"}"#, &[]),
    kms(
        "what is disabled",
        "DescribeKey",
        r#"{"KeyId":"{key}"}"#,
        &["/KeyMetadata/KeyState", "/KeyMetadata/Enabled"],
    ),
    kms("enable", "EnableKey", r#"{"KeyId":"{key}"}"#, &[]),
    kms(
        "what is enabled",
        "DescribeKey",
        r#"{"KeyId":"{key}"}"#,
        &["/KeyMetadata/KeyState", "/KeyMetadata/Enabled"],
    ),
    kms("rotate", "EnableKeyRotation", r#"{"KeyId":"{key}"}"#, &[]),
    kms("rotate no more", "DisableKeyRotation", r#"{"KeyId":"{key}"}"#, &[]),
    kms("rotation", "GetKeyRotationStatus", r#"{"KeyId":"{key}"}"#, &["/KeyRotationEnabled"]),
];
