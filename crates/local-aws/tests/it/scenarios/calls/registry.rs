//! ECR: what belongs to the registry as a whole.

use super::{Call, ecr};

/// Tokens, replication and rules.
pub(super) const REGISTRY: &[Call] = &[
    ecr("token", "GetAuthorizationToken", "{}", &["/authorizationData/0/proxyEndpoint"]),
    ecr(
        "settings of a new one",
        "DescribeRegistry",
        "{}",
        &["/registryId", "/replicationConfiguration/rules/0"],
    ),
    ecr(
        "replicate",
        "PutReplicationConfiguration",
        r#"{"replicationConfiguration":{"rules":[{"destinations":[{"region":"us-east-1","registryId":"123456789012"}],"repositoryFilters":[{"filter":"curl","filterType":"PREFIX_MATCH"}]}]}}"#,
        &["/replicationConfiguration/rules/0/destinations/0/region"],
    ),
    ecr(
        "settings",
        "DescribeRegistry",
        "{}",
        &["/replicationConfiguration/rules/0/repositoryFilters/0/filter"],
    ),
    ecr("blob mounting", "GetAccountSetting", r#"{"name":"BLOB_MOUNTING"}"#, &["/value"]),
    ecr(
        "create a rule",
        "CreatePullThroughCacheRule",
        r#"{"ecrRepositoryPrefix":"quay","upstreamRegistryUrl":"quay.io"}"#,
        &["/upstreamRegistryUrl"],
    ),
    ecr(
        "create it again",
        "CreatePullThroughCacheRule",
        r#"{"ecrRepositoryPrefix":"quay","upstreamRegistryUrl":"quay.io"}"#,
        &[],
    ),
    ecr("rules", "DescribePullThroughCacheRules", "{}", &["/pullThroughCacheRules/0/ecrRepositoryPrefix"]),
    ecr(
        "delete the rule",
        "DeletePullThroughCacheRule",
        r#"{"ecrRepositoryPrefix":"quay"}"#,
        &["/ecrRepositoryPrefix"],
    ),
];

/// What else can be set.
pub(super) const SETTINGS: &[Call] = &[
    ecr("mount blobs", "PutAccountSetting", r#"{"name":"BLOB_MOUNTING","value":"ENABLED"}"#, &["/value"]),
    ecr("blob mounting", "GetAccountSetting", r#"{"name":"BLOB_MOUNTING"}"#, &["/value"]),
    ecr(
        "an account setting of no such value",
        "PutAccountSetting",
        r#"{"name":"BLOB_MOUNTING","value":"perhaps"}"#,
        &[],
    ),
    ecr("policy of a new one", "GetRegistryPolicy", r#"{}"#, &[]),
    ecr(
        "set a policy",
        "PutRegistryPolicy",
        r#"{"policyText":"{\"Version\":\"2012-10-17\",\"Statement\":[{\"Sid\":\"Replicate\",\"Effect\":\"Allow\",\"Principal\":{\"AWS\":\"arn:aws:iam::210987654321:root\"},\"Action\":[\"ecr:ReplicateImage\"],\"Resource\":[\"arn:aws:ecr:eu-west-1:123456789012:repository/*\"]}]}"}"#,
        &["/registryId"],
    ),
    ecr("policy", "GetRegistryPolicy", r#"{}"#, &["/registryId"]),
    ecr("delete the policy", "DeleteRegistryPolicy", r#"{}"#, &["/registryId"]),
    ecr("delete it again", "DeleteRegistryPolicy", r#"{}"#, &[]),
    ecr(
        "scans of a new one",
        "GetRegistryScanningConfiguration",
        r#"{}"#,
        &["/scanningConfiguration/scanType"],
    ),
    ecr(
        "scan",
        "PutRegistryScanningConfiguration",
        r#"{"scanType":"BASIC","rules":[{"scanFrequency":"SCAN_ON_PUSH","repositoryFilters":[{"filter":"*","filterType":"WILDCARD"}]}]}"#,
        &["/registryScanningConfiguration/scanType"],
    ),
    ecr(
        "scans",
        "GetRegistryScanningConfiguration",
        r#"{}"#,
        &["/scanningConfiguration/rules/0/scanFrequency"],
    ),
    ecr(
        "replicate what is there",
        "StartReplicationBackfill",
        r#"{"destination":{"region":"us-east-1","registryId":"123456789012"}}"#,
        &[],
    ),
    ecr(
        "a rule with a secret",
        "CreatePullThroughCacheRule",
        r#"{"ecrRepositoryPrefix":"hub","upstreamRegistryUrl":"registry-1.docker.io","credentialArn":"arn:aws:secretsmanager:eu-west-1:123456789012:secret:ecr-pullthroughcache/a"}"#,
        &["/credentialArn"],
    ),
    ecr(
        "another secret",
        "UpdatePullThroughCacheRule",
        r#"{"ecrRepositoryPrefix":"hub","credentialArn":"arn:aws:secretsmanager:eu-west-1:123456789012:secret:ecr-pullthroughcache/b"}"#,
        &["/credentialArn"],
    ),
    ecr(
        "change a rule that is not there",
        "UpdatePullThroughCacheRule",
        r#"{"ecrRepositoryPrefix":"none","credentialArn":"arn:aws:secretsmanager:eu-west-1:123456789012:secret:ecr-pullthroughcache/b"}"#,
        &[],
    ),
    ecr(
        "the rule",
        "DescribePullThroughCacheRules",
        r#"{"ecrRepositoryPrefixes":["hub"]}"#,
        &["/pullThroughCacheRules/0/credentialArn"],
    ),
];

/// What ECR gives to the repositories that it makes.
pub(super) const TEMPLATES: &[Call] = &[
    ecr(
        "create with a key and no role",
        "CreateRepositoryCreationTemplate",
        r#"{"prefix":"quay","appliedFor":["PULL_THROUGH_CACHE"],"encryptionConfiguration":{"encryptionType":"KMS","kmsKey":"arn:aws:kms:eu-west-1:123456789012:key/00000000-0000-0000-0000-000000000000"}}"#,
        &[],
    ),
    ecr(
        "create",
        "CreateRepositoryCreationTemplate",
        r#"{"prefix":"quay","appliedFor":["PULL_THROUGH_CACHE"],"description":"the cache","customRoleArn":"arn:aws:iam::123456789012:role/ecr-creation-template","resourceTags":[{"Key":"a","Value":"b"}]}"#,
        &[
            "/repositoryCreationTemplate/prefix",
            "/repositoryCreationTemplate/imageTagMutability",
            "/repositoryCreationTemplate/encryptionConfiguration/encryptionType",
        ],
    ),
    ecr(
        "create again",
        "CreateRepositoryCreationTemplate",
        r#"{"prefix":"quay","appliedFor":["PULL_THROUGH_CACHE"]}"#,
        &[],
    ),
    ecr(
        "describe",
        "DescribeRepositoryCreationTemplates",
        r#"{}"#,
        &[
            "/repositoryCreationTemplates/0/prefix",
            "/repositoryCreationTemplates/0/description",
            "/repositoryCreationTemplates/0/resourceTags/0/Key",
        ],
    ),
    ecr(
        "describe one that is not there",
        "DescribeRepositoryCreationTemplates",
        r#"{"prefixes":["none"]}"#,
        &["/repositoryCreationTemplates/0"],
    ),
    ecr(
        "change",
        "UpdateRepositoryCreationTemplate",
        r#"{"prefix":"quay","description":"the cache of quay.io","imageTagMutability":"IMMUTABLE_WITH_EXCLUSION","imageTagMutabilityExclusionFilters":[{"filterType":"WILDCARD","filter":"latest"}],"appliedFor":["PULL_THROUGH_CACHE","REPLICATION"]}"#,
        &[
            "/repositoryCreationTemplate/description",
            "/repositoryCreationTemplate/imageTagMutability",
            "/repositoryCreationTemplate/appliedFor/1",
        ],
    ),
    ecr(
        "change one that is not there",
        "UpdateRepositoryCreationTemplate",
        r#"{"prefix":"none","description":"the cache"}"#,
        &[],
    ),
    ecr(
        "what is changed, and what is not",
        "DescribeRepositoryCreationTemplates",
        r#"{"prefixes":["quay"]}"#,
        &[
            "/repositoryCreationTemplates/0/description",
            "/repositoryCreationTemplates/0/imageTagMutabilityExclusionFilters/0/filter",
            "/repositoryCreationTemplates/0/customRoleArn",
        ],
    ),
    ecr(
        "delete",
        "DeleteRepositoryCreationTemplate",
        r#"{"prefix":"quay"}"#,
        &["/repositoryCreationTemplate/prefix"],
    ),
    ecr("delete again", "DeleteRepositoryCreationTemplate", r#"{"prefix":"quay"}"#, &[]),
];
