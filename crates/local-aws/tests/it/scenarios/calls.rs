//! The scenarios: calls as data.

use reqwest::Method;

use super::call::{Call, Request};

const fn ecr(
    name: &'static str,
    action: &'static str,
    input: &'static str,
    shown: &'static [&'static str],
) -> Call {
    Call { name, request: Request::Ecr(action, input), shown }
}

const fn kms(
    name: &'static str,
    action: &'static str,
    input: &'static str,
    shown: &'static [&'static str],
) -> Call {
    Call { name, request: Request::Kms(action, input), shown }
}

const fn s3(
    name: &'static str,
    method: Method,
    path: &'static str,
    headers: &'static [(&'static str, &'static str)],
    body: &'static str,
    shown: &'static [&'static str],
) -> Call {
    Call { name, request: Request::S3 { method, path, headers, body }, shown }
}

const GET: Method = Method::GET;
const PUT: Method = Method::PUT;
const HEAD: Method = Method::HEAD;
const DELETE: Method = Method::DELETE;

const TLS_ONLY: &str = r#"{"Version":"2012-10-17","Statement":[{"Sid":"TlsOnly","Effect":"Deny","Principal":"*","Action":"s3:*",
    "Resource":["arn:aws:s3:::state","arn:aws:s3:::state/*"],"Condition":{"Bool":{"aws:SecureTransport":"false"}}}]}"#;
const LIFECYCLE: &str = r#"{"repositoryName":"curl","lifecyclePolicyText":"{\"rules\":[{\"rulePriority\":1,\"selection\":{\"tagStatus\":\"untagged\",\"countType\":\"imageCountMoreThan\",\"countNumber\":3},\"action\":{\"type\":\"expire\"}}]}"}"#;
/// As long as a policy has to be.
const NO_RULES: &str = r#"{"repositoryName":"curl","lifecyclePolicyText":"{                                                                                                    }"}"#;
const PULL: &str = r#"{"repositoryName":"curl","policyText":"{\"Version\":\"2012-10-17\",\"Statement\":[{\"Sid\":\"Pull\",\"Effect\":\"Allow\",\"Principal\":{\"AWS\":[\"arn:aws:iam::210987654321:root\"]},\"Action\":[\"ecr:BatchGetImage\"]}]}"}"#;
const CONSTRAINT: &str = "<CreateBucketConfiguration><LocationConstraint>eu-west-1</LocationConstraint></CreateBucketConfiguration>";
const VERSIONED: &str = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
const KMS_ENCRYPTED: &str = "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>aws:kms\
    </SSEAlgorithm></ApplyServerSideEncryptionByDefault><BucketKeyEnabled>true</BucketKeyEnabled></Rule>\
    </ServerSideEncryptionConfiguration>";
const PRIVATE: &str = "<PublicAccessBlockConfiguration><BlockPublicAcls>true</BlockPublicAcls><IgnorePublicAcls>true\
    </IgnorePublicAcls><BlockPublicPolicy>true</BlockPublicPolicy><RestrictPublicBuckets>true</RestrictPublicBuckets>\
    </PublicAccessBlockConfiguration>";

/// What terraform's backend, the bucket's check, the provider and this tool ask for.
pub(crate) const SCENARIOS: &[(&str, &[Call])] = &[
    (
        "state bucket",
        &[
            s3("look for a bucket that is not there", HEAD, "state", &[], "", &[]),
            s3("create without a region", PUT, "state", &[], "", &[]),
            s3("create", PUT, "state", &[], CONSTRAINT, &[]),
            s3("create again", PUT, "state", &[], CONSTRAINT, &[]),
            s3("look for it", HEAD, "state", &[], "", &["header:x-amz-bucket-region"]),
            s3("location", GET, "state?location", &[], "", &["LocationConstraint"]),
            s3("versioning of a new one", GET, "state?versioning", &[], "", &["Status"]),
            s3("set versioning", PUT, "state?versioning", &[], VERSIONED, &[]),
            s3("versioning", GET, "state?versioning", &[], "", &["Status"]),
            s3("encryption of a new one", GET, "state?encryption", &[], "", &["SSEAlgorithm"]),
            s3("set encryption", PUT, "state?encryption", &[], KMS_ENCRYPTED, &[]),
            s3("encryption", GET, "state?encryption", &[], "", &["SSEAlgorithm", "BucketKeyEnabled"]),
            s3("public access of a new one", GET, "state?publicAccessBlock", &[], "", &["BlockPublicPolicy"]),
            s3("block public access", PUT, "state?publicAccessBlock", &[], PRIVATE, &[]),
            s3(
                "public access",
                GET,
                "state?publicAccessBlock",
                &[],
                "",
                &["BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"],
            ),
            s3("policy of a new one", GET, "state?policy", &[], "", &[]),
            s3("set a policy that is no JSON", PUT, "state?policy", &[], "{", &[]),
            s3("set a policy", PUT, "state?policy", &[], TLS_ONLY, &[]),
            s3("policy", GET, "state?policy", &[], "", &["/Statement/0/Sid"]),
            s3("objects of an empty one", GET, "state?list-type=2&prefix=env:/", &[], "", &["KeyCount"]),
        ],
    ),
    (
        "lock and state",
        &[
            s3("create the bucket", PUT, "locks", &[], CONSTRAINT, &[]),
            s3("version it", PUT, "locks?versioning", &[], VERSIONED, &[]),
            s3("a state that is not there", GET, "locks/s", &[], "", &[]),
            s3("head of it", HEAD, "locks/s", &[], "", &[]),
            s3(
                "take the lock",
                PUT,
                "locks/s.tflock",
                &[("if-none-match", "*")],
                "{}",
                &["lock<header:etag"],
            ),
            s3("take it again", PUT, "locks/s.tflock", &[("if-none-match", "*")], "{}", &[]),
            s3("who has it", GET, "locks/s.tflock", &[], "", &[]),
            s3("write the state", PUT, "locks/s", &[], "one", &["first<header:etag"]),
            s3(
                "replace what was seen",
                PUT,
                "locks/s",
                &[("if-match", "{first}")],
                "two",
                &["second<header:etag"],
            ),
            s3("replace what is no more", PUT, "locks/s", &[("if-match", "{first}")], "three", &[]),
            s3("replace what never was", PUT, "locks/none", &[("if-match", "{first}")], "four", &[]),
            s3("read it if it is another", GET, "locks/s", &[("if-none-match", "{second}")], "", &[]),
            s3("read it", GET, "locks/s", &[], "", &["header:content-length"]),
            s3("release the lock", DELETE, "locks/s.tflock", &[], "", &["header:x-amz-delete-marker"]),
            s3("the lock is gone", GET, "locks/s.tflock", &[], "", &[]),
            s3("take it once more", PUT, "locks/s.tflock", &[("if-none-match", "*")], "{}", &[]),
            s3("what stands", GET, "locks?list-type=2", &[], "", &["KeyCount"]),
        ],
    ),
    (
        "repositories",
        &[
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
            ecr(
                "describe one that is not there",
                "DescribeRepositories",
                r#"{"repositoryNames":["none"]}"#,
                &[],
            ),
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
            ecr(
                "delete the policy",
                "DeleteRepositoryPolicy",
                r#"{"repositoryName":"curl"}"#,
                &["/repositoryName"],
            ),
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
            ecr(
                "images of an empty one",
                "DescribeImages",
                r#"{"repositoryName":"curl"}"#,
                &["/imageDetails/0"],
            ),
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
            ecr(
                "delete",
                "DeleteRepository",
                r#"{"repositoryName":"curl"}"#,
                &["/repository/repositoryName"],
            ),
            ecr("delete again", "DeleteRepository", r#"{"repositoryName":"curl"}"#, &[]),
        ],
    ),
    (
        "registry",
        &[
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
            ecr(
                "rules",
                "DescribePullThroughCacheRules",
                "{}",
                &["/pullThroughCacheRules/0/ecrRepositoryPrefix"],
            ),
            ecr(
                "delete the rule",
                "DeletePullThroughCacheRule",
                r#"{"ecrRepositoryPrefix":"quay"}"#,
                &["/ecrRepositoryPrefix"],
            ),
        ],
    ),
    (
        "key",
        &[
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
            kms(
                "describe",
                "DescribeKey",
                r#"{"KeyId":"{key}"}"#,
                &["/KeyMetadata/Arn", "/KeyMetadata/Description"],
            ),
            kms(
                "describe one that is not there",
                "DescribeKey",
                r#"{"KeyId":"00000000-0000-0000-0000-000000000000"}"#,
                &[],
            ),
            kms("alias", "CreateAlias", r#"{"AliasName":"alias/ecr/prod-htc","TargetKeyId":"{key}"}"#, &[]),
            kms(
                "alias again",
                "CreateAlias",
                r#"{"AliasName":"alias/ecr/prod-htc","TargetKeyId":"{key}"}"#,
                &[],
            ),
            kms(
                "describe by alias",
                "DescribeKey",
                r#"{"KeyId":"alias/ecr/prod-htc"}"#,
                &["/KeyMetadata/KeyId"],
            ),
            kms(
                "aliases of the key",
                "ListAliases",
                r#"{"KeyId":"{key}"}"#,
                &["/Aliases/0/AliasName", "/Aliases/0/TargetKeyId"],
            ),
            kms(
                "rotation of a new one",
                "GetKeyRotationStatus",
                r#"{"KeyId":"{key}"}"#,
                &["/KeyRotationEnabled"],
            ),
            kms("rotate", "EnableKeyRotation", r#"{"KeyId":"{key}"}"#, &[]),
            kms("rotation", "GetKeyRotationStatus", r#"{"KeyId":"{key}"}"#, &["/KeyRotationEnabled"]),
            kms("policy", "GetKeyPolicy", r#"{"KeyId":"{key}","PolicyName":"default"}"#, &["/PolicyName"]),
            kms("tags", "ListResourceTags", r#"{"KeyId":"{key}"}"#, &["/Tags/0/TagKey"]),
            kms(
                "change the description",
                "UpdateKeyDescription",
                r#"{"KeyId":"{key}","Description":"more"}"#,
                &[],
            ),
            kms("delete the alias", "DeleteAlias", r#"{"AliasName":"alias/ecr/prod-htc"}"#, &[]),
            kms("delete the alias again", "DeleteAlias", r#"{"AliasName":"alias/ecr/prod-htc"}"#, &[]),
            kms(
                "delete too soon",
                "ScheduleKeyDeletion",
                r#"{"KeyId":"{key}","PendingWindowInDays":1}"#,
                &[],
            ),
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
        ],
    ),
    (
        "caller",
        &[Call {
            name: "who calls",
            request: Request::Sts("Action=GetCallerIdentity&Version=2011-06-15"),
            shown: &["Account"],
        }],
    ),
];
