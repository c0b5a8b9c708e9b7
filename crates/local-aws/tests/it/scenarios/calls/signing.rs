//! ECR: managed signing.

use super::{Call, ecr};

/// The registry's rules, and an image that is signed by one of them.
pub(super) const SIGNING: &[Call] = &[
    ecr("rules of a new one", "GetSigningConfiguration", "{}", &["/signingConfiguration"]),
    ecr("delete the rules of a new one", "DeleteSigningConfiguration", "{}", &[]),
    ecr("no rules", "PutSigningConfiguration", r#"{"signingConfiguration":{"rules":[]}}"#, &[]),
    ecr(
        "rules, none of them",
        "GetSigningConfiguration",
        "{}",
        &["/registryId", "/signingConfiguration/rules/0"],
    ),
    ecr(
        "a profile that is none",
        "PutSigningConfiguration",
        r#"{"signingConfiguration":{"rules":[{"signingProfileArn":"arn:aws:signer:eu-west-1:123456789012:/signing-profiles/htc-grid"}]}}"#,
        &[],
    ),
    ecr(
        "a profile's version",
        "PutSigningConfiguration",
        r#"{"signingConfiguration":{"rules":[{"signingProfileArn":"arn:aws:signer:eu-west-1:123456789012:/signing-profiles/htc_grid/0123456789"}]}}"#,
        &[],
    ),
    ecr(
        "a profile of another region",
        "PutSigningConfiguration",
        r#"{"signingConfiguration":{"rules":[{"signingProfileArn":"arn:aws:signer:us-east-1:123456789012:/signing-profiles/htc_grid"}]}}"#,
        &[],
    ),
    ecr(
        "a filter that no repository fits",
        "PutSigningConfiguration",
        r#"{"signingConfiguration":{"rules":[{"signingProfileArn":"arn:aws:signer:eu-west-1:123456789012:/signing-profiles/htc_grid","repositoryFilters":[{"filter":"Signed/*","filterType":"WILDCARD_MATCH"}]}]}}"#,
        &[],
    ),
    ecr(
        "a filter of another type",
        "PutSigningConfiguration",
        r#"{"signingConfiguration":{"rules":[{"signingProfileArn":"arn:aws:signer:eu-west-1:123456789012:/signing-profiles/htc_grid","repositoryFilters":[{"filter":"signed","filterType":"PREFIX_MATCH"}]}]}}"#,
        &[],
    ),
    ecr(
        "eleven rules",
        "PutSigningConfiguration",
        r#"{"signingConfiguration":{"rules":[{"signingProfileArn":"arn:aws:signer:eu-west-1:123456789012:/signing-profiles/p_1"},{"signingProfileArn":"arn:aws:signer:eu-west-1:123456789012:/signing-profiles/p_2"},{"signingProfileArn":"arn:aws:signer:eu-west-1:123456789012:/signing-profiles/p_3"},{"signingProfileArn":"arn:aws:signer:eu-west-1:123456789012:/signing-profiles/p_4"},{"signingProfileArn":"arn:aws:signer:eu-west-1:123456789012:/signing-profiles/p_5"},{"signingProfileArn":"arn:aws:signer:eu-west-1:123456789012:/signing-profiles/p_6"},{"signingProfileArn":"arn:aws:signer:eu-west-1:123456789012:/signing-profiles/p_7"},{"signingProfileArn":"arn:aws:signer:eu-west-1:123456789012:/signing-profiles/p_8"},{"signingProfileArn":"arn:aws:signer:eu-west-1:123456789012:/signing-profiles/p_9"},{"signingProfileArn":"arn:aws:signer:eu-west-1:123456789012:/signing-profiles/p_10"},{"signingProfileArn":"arn:aws:signer:eu-west-1:123456789012:/signing-profiles/p_11"}]}}"#,
        &[],
    ),
    ecr(
        "sign some",
        "PutSigningConfiguration",
        r#"{"signingConfiguration":{"rules":[{"signingProfileArn":"arn:aws:signer:eu-west-1:210987654321:/signing-profiles/htc_grid","repositoryFilters":[{"filter":"signed/*","filterType":"WILDCARD_MATCH"}]}]}}"#,
        &["/signingConfiguration/rules/0/signingProfileArn"],
    ),
    ecr(
        "rules",
        "GetSigningConfiguration",
        "{}",
        &["/registryId", "/signingConfiguration/rules/0/repositoryFilters/0/filter"],
    ),
    ecr("create", "CreateRepository", r#"{"repositoryName":"signed/a"}"#, &["/repository/repositoryName"]),
    ecr("begin an upload", "InitiateLayerUpload", r#"{"repositoryName":"signed/a"}"#, &["upload</uploadId"]),
    ecr(
        "a part",
        "UploadLayerPart",
        r#"{"repositoryName":"signed/a","uploadId":"{upload}","partFirstByte":0,"partLastByte":1,"layerPartBlob":"e30="}"#,
        &[],
    ),
    ecr(
        "complete",
        "CompleteLayerUpload",
        r#"{"repositoryName":"signed/a","uploadId":"{upload}","layerDigests":["sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"]}"#,
        &[],
    ),
    ecr(
        "push an image",
        "PutImage",
        r#"{"repositoryName":"signed/a","imageManifest":"{\"schemaVersion\":2,\"mediaType\":\"application/vnd.docker.distribution.manifest.v2+json\",\"config\":{\"mediaType\":\"application/vnd.docker.container.image.v1+json\",\"size\":2,\"digest\":\"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a\"},\"layers\":[]}","imageTag":"1"}"#,
        &["image</image/imageId/imageDigest"],
    ),
    ecr(
        "its signature",
        "DescribeImageSigningStatus",
        r#"{"repositoryName":"signed/a","imageId":{"imageTag":"1"}}"#,
        &[
            "/imageId/imageTag",
            "/signingStatuses/0/signingProfileArn",
            "/signingStatuses/0/status",
            "/signingStatuses/0/failureCode",
            "/signingStatuses/1",
        ],
    ),
    ecr(
        "its signature by its digest",
        "DescribeImageSigningStatus",
        r#"{"repositoryName":"signed/a","imageId":{"imageDigest":"{image}"}}"#,
        &["/imageId/imageTag", "/signingStatuses/0/status"],
    ),
    ecr(
        "signatures of none",
        "DescribeImageSigningStatus",
        r#"{"repositoryName":"signed/a","imageId":{"imageTag":"2"}}"#,
        &[],
    ),
    ecr(
        "signatures of no tag and no digest",
        "DescribeImageSigningStatus",
        r#"{"repositoryName":"signed/a","imageId":{}}"#,
        &[],
    ),
    ecr(
        "signatures where nothing is",
        "DescribeImageSigningStatus",
        r#"{"repositoryName":"none","imageId":{"imageTag":"1"}}"#,
        &[],
    ),
    ecr(
        "delete the rules",
        "DeleteSigningConfiguration",
        "{}",
        &["/signingConfiguration/rules/0/signingProfileArn"],
    ),
    ecr("delete them again", "DeleteSigningConfiguration", "{}", &[]),
    ecr("delete the repository", "DeleteRepository", r#"{"repositoryName":"signed/a","force":true}"#, &[]),
];
