//! ECR: repositories.

use super::{Call, ecr};

const LIFECYCLE: &str = r#"{"repositoryName":"curl","lifecyclePolicyText":"{\"rules\":[{\"rulePriority\":1,\"selection\":{\"tagStatus\":\"untagged\",\"countType\":\"imageCountMoreThan\",\"countNumber\":3},\"action\":{\"type\":\"expire\"}}]}"}"#;
/// As long as a policy has to be.
const NO_RULES: &str = r#"{"repositoryName":"curl","lifecyclePolicyText":"{                                                                                                    }"}"#;
const PULL: &str = r#"{"repositoryName":"curl","policyText":"{\"Version\":\"2012-10-17\",\"Statement\":[{\"Sid\":\"Pull\",\"Effect\":\"Allow\",\"Principal\":{\"AWS\":[\"arn:aws:iam::210987654321:root\"]},\"Action\":[\"ecr:BatchGetImage\"]}]}"}"#;

/// A repository with its settings and policies.
pub(super) const REPOSITORIES: &[Call] = &[
    ecr(
        "create",
        "CreateRepository",
        r#"{"repositoryName":"curl","imageScanningConfiguration":{"scanOnPush":true},"tags":[{"Key":"htc-grid/prod","Value":"used"}]}"#,
        &[
            "/repository/repositoryArn",
            "/repository/imageTagMutability",
            "/repository/imageScanningConfiguration/scanOnPush",
            "/repository/encryptionConfiguration/encryptionType",
        ],
    ),
    ecr("create again", "CreateRepository", r#"{"repositoryName":"curl"}"#, &[]),
    ecr("create with a bad name", "CreateRepository", r#"{"repositoryName":"Curl"}"#, &[]),
    ecr(
        "describe",
        "DescribeRepositories",
        r#"{"repositoryNames":["curl"]}"#,
        &["/repositories/0/repositoryName", "/repositories/0/registryId"],
    ),
    ecr("describe one that is not there", "DescribeRepositories", r#"{"repositoryNames":["none"]}"#, &[]),
    ecr(
        "tags",
        "ListTagsForResource",
        r#"{"resourceArn":"arn:aws:ecr:eu-west-1:123456789012:repository/curl"}"#,
        &["/tags/0/Key", "/tags/1/Key"],
    ),
    ecr(
        "tag",
        "TagResource",
        r#"{"resourceArn":"arn:aws:ecr:eu-west-1:123456789012:repository/curl","tags":[{"Key":"htc-grid/dev","Value":""}]}"#,
        &[],
    ),
    ecr(
        "untag",
        "UntagResource",
        r#"{"resourceArn":"arn:aws:ecr:eu-west-1:123456789012:repository/curl","tagKeys":["htc-grid/prod"]}"#,
        &[],
    ),
    ecr(
        "tags after both",
        "ListTagsForResource",
        r#"{"resourceArn":"arn:aws:ecr:eu-west-1:123456789012:repository/curl"}"#,
        &["/tags/0/Key", "/tags/1/Key"],
    ),
    ecr(
        "scan on push off",
        "PutImageScanningConfiguration",
        r#"{"repositoryName":"curl","imageScanningConfiguration":{"scanOnPush":false}}"#,
        &["/imageScanningConfiguration/scanOnPush"],
    ),
    ecr(
        "immutable",
        "PutImageTagMutability",
        r#"{"repositoryName":"curl","imageTagMutability":"IMMUTABLE"}"#,
        &["/imageTagMutability"],
    ),
    ecr(
        "mutable but for build tags",
        "PutImageTagMutability",
        r#"{"repositoryName":"curl","imageTagMutability":"MUTABLE_WITH_EXCLUSION","imageTagMutabilityExclusionFilters":[{"filterType":"WILDCARD","filter":"*-sha256-*"}]}"#,
        &["/imageTagMutability", "/imageTagMutabilityExclusionFilters/0/filter"],
    ),
    ecr("policy of a new one", "GetRepositoryPolicy", r#"{"repositoryName":"curl"}"#, &[]),
    ecr("set a policy", "SetRepositoryPolicy", PULL, &["/repositoryName"]),
    ecr("policy", "GetRepositoryPolicy", r#"{"repositoryName":"curl"}"#, &["/registryId"]),
    ecr("delete the policy", "DeleteRepositoryPolicy", r#"{"repositoryName":"curl"}"#, &["/repositoryName"]),
    ecr("lifecycle of a new one", "GetLifecyclePolicy", r#"{"repositoryName":"curl"}"#, &[]),
    ecr("set a lifecycle without rules", "PutLifecyclePolicy", NO_RULES, &[]),
    ecr("set a lifecycle", "PutLifecyclePolicy", LIFECYCLE, &["/repositoryName"]),
    ecr("lifecycle", "GetLifecyclePolicy", r#"{"repositoryName":"curl"}"#, &["/registryId"]),
    ecr(
        "delete the lifecycle",
        "DeleteLifecyclePolicy",
        r#"{"repositoryName":"curl"}"#,
        &["/repositoryName"],
    ),
    ecr("images of an empty one", "DescribeImages", r#"{"repositoryName":"curl"}"#, &["/imageDetails/0"]),
    ecr(
        "an image that is not there",
        "DescribeImages",
        r#"{"repositoryName":"curl","imageIds":[{"imageTag":"1"}]}"#,
        &[],
    ),
    ecr(
        "fetch one that is not there",
        "BatchGetImage",
        r#"{"repositoryName":"curl","imageIds":[{"imageTag":"1"}]}"#,
        &["/failures/0/failureCode"],
    ),
    ecr("delete", "DeleteRepository", r#"{"repositoryName":"curl"}"#, &["/repository/repositoryName"]),
    ecr("delete again", "DeleteRepository", r#"{"repositoryName":"curl"}"#, &[]),
];
