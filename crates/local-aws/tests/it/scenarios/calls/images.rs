//! ECR: layers and images by its own API.

use super::{Call, ecr};

/// An image from its first byte to its end.
pub(super) const IMAGES: &[Call] = &[
    ecr(
        "create",
        "CreateRepository",
        r#"{"repositoryName":"layers","imageScanningConfiguration":{"scanOnPush":true}}"#,
        &["/repository/repositoryName"],
    ),
    ecr("begin an upload", "InitiateLayerUpload", r#"{"repositoryName":"layers"}"#, &["upload</uploadId"]),
    ecr("begin one where nothing is", "InitiateLayerUpload", r#"{"repositoryName":"none"}"#, &[]),
    ecr(
        "a part that is shorter than announced",
        "UploadLayerPart",
        r#"{"repositoryName":"layers","uploadId":"{upload}","partFirstByte":0,"partLastByte":9,"layerPartBlob":"e30="}"#,
        &[],
    ),
    ecr(
        "a part",
        "UploadLayerPart",
        r#"{"repositoryName":"layers","uploadId":"{upload}","partFirstByte":0,"partLastByte":1,"layerPartBlob":"e30="}"#,
        &["/lastByteReceived"],
    ),
    ecr(
        "complete",
        "CompleteLayerUpload",
        r#"{"repositoryName":"layers","uploadId":"{upload}","layerDigests":["sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"]}"#,
        &["/layerDigest"],
    ),
    ecr(
        "complete it again",
        "CompleteLayerUpload",
        r#"{"repositoryName":"layers","uploadId":"{upload}","layerDigests":["sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"]}"#,
        &[],
    ),
    ecr(
        "an image of which a layer is missing",
        "PutImage",
        r#"{"repositoryName":"layers","imageManifest":"{\"schemaVersion\":2,\"mediaType\":\"application/vnd.docker.distribution.manifest.v2+json\",\"config\":{\"mediaType\":\"application/vnd.docker.container.image.v1+json\",\"size\":2,\"digest\":\"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a\"},\"layers\":[{\"mediaType\":\"application/vnd.docker.image.rootfs.diff.tar.gzip\",\"size\":5,\"digest\":\"sha256:dac1d7cfa95021764849fd102524e141488c5e3a90f861dbb5a12d9ac8584f85\"}]}","imageTag":"1"}"#,
        &[],
    ),
    ecr(
        "begin another upload",
        "InitiateLayerUpload",
        r#"{"repositoryName":"layers"}"#,
        &["second</uploadId"],
    ),
    ecr(
        "its part",
        "UploadLayerPart",
        r#"{"repositoryName":"layers","uploadId":"{second}","partFirstByte":0,"partLastByte":4,"layerPartBlob":"bGF5ZXI="}"#,
        &["/lastByteReceived"],
    ),
    ecr(
        "complete it",
        "CompleteLayerUpload",
        r#"{"repositoryName":"layers","uploadId":"{second}","layerDigests":["sha256:dac1d7cfa95021764849fd102524e141488c5e3a90f861dbb5a12d9ac8584f85"]}"#,
        &["/layerDigest"],
    ),
    ecr(
        "which layers are there",
        "BatchCheckLayerAvailability",
        r#"{"repositoryName":"layers","layerDigests":["sha256:dac1d7cfa95021764849fd102524e141488c5e3a90f861dbb5a12d9ac8584f85","sha256:0000000000000000000000000000000000000000000000000000000000000000"]}"#,
        &["/layers/0/layerAvailability", "/layers/0/layerSize", "/layers/1/layerAvailability"],
    ),
    ecr(
        "where a layer is",
        "GetDownloadUrlForLayer",
        r#"{"repositoryName":"layers","layerDigest":"sha256:dac1d7cfa95021764849fd102524e141488c5e3a90f861dbb5a12d9ac8584f85"}"#,
        &["/layerDigest"],
    ),
    ecr(
        "where one is that is not there",
        "GetDownloadUrlForLayer",
        r#"{"repositoryName":"layers","layerDigest":"sha256:0000000000000000000000000000000000000000000000000000000000000000"}"#,
        &[],
    ),
    ecr(
        "an image",
        "PutImage",
        r#"{"repositoryName":"layers","imageManifest":"{\"schemaVersion\":2,\"mediaType\":\"application/vnd.docker.distribution.manifest.v2+json\",\"config\":{\"mediaType\":\"application/vnd.docker.container.image.v1+json\",\"size\":2,\"digest\":\"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a\"},\"layers\":[{\"mediaType\":\"application/vnd.docker.image.rootfs.diff.tar.gzip\",\"size\":5,\"digest\":\"sha256:dac1d7cfa95021764849fd102524e141488c5e3a90f861dbb5a12d9ac8584f85\"}]}","imageTag":"1"}"#,
        &["/image/imageId/imageDigest", "/image/imageId/imageTag"],
    ),
    ecr(
        "the same again",
        "PutImage",
        r#"{"repositoryName":"layers","imageManifest":"{\"schemaVersion\":2,\"mediaType\":\"application/vnd.docker.distribution.manifest.v2+json\",\"config\":{\"mediaType\":\"application/vnd.docker.container.image.v1+json\",\"size\":2,\"digest\":\"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a\"},\"layers\":[{\"mediaType\":\"application/vnd.docker.image.rootfs.diff.tar.gzip\",\"size\":5,\"digest\":\"sha256:dac1d7cfa95021764849fd102524e141488c5e3a90f861dbb5a12d9ac8584f85\"}]}","imageTag":"1"}"#,
        &[],
    ),
    ecr(
        "list",
        "ListImages",
        r#"{"repositoryName":"layers"}"#,
        &["/imageIds/0/imageDigest", "/imageIds/0/imageTag"],
    ),
    ecr(
        "list what no tag names",
        "ListImages",
        r#"{"repositoryName":"layers","filter":{"tagStatus":"UNTAGGED"}}"#,
        &["/imageIds/0"],
    ),
    ecr(
        "describe",
        "DescribeImages",
        r#"{"repositoryName":"layers"}"#,
        &["/imageDetails/0/imageTags/0", "/imageDetails/0/imageManifestMediaType"],
    ),
    ecr(
        "fetch",
        "BatchGetImage",
        r#"{"repositoryName":"layers","imageIds":[{"imageTag":"1"}]}"#,
        &["/images/0/imageId/imageDigest"],
    ),
    ecr(
        "findings of its scan",
        "DescribeImageScanFindings",
        r#"{"repositoryName":"layers","imageId":{"imageTag":"1"}}"#,
        &["/imageScanStatus/status"],
    ),
    ecr(
        "findings of none",
        "DescribeImageScanFindings",
        r#"{"repositoryName":"layers","imageId":{"imageTag":"2"}}"#,
        &[],
    ),
    ecr(
        "what refers to it",
        "ListImageReferrers",
        r#"{"repositoryName":"layers","subjectId":{"imageDigest":"sha256:838b011e1978e31bf66cd4c412fd93cad5f54126a21065d60acd0644f3ba14a1"}}"#,
        &["/referrers/0"],
    ),
    ecr(
        "preview a lifecycle",
        "StartLifecyclePolicyPreview",
        r#"{"repositoryName":"layers","lifecyclePolicyText":"{\"rules\":[{\"rulePriority\":1,\"selection\":{\"tagStatus\":\"any\",\"countType\":\"imageCountMoreThan\",\"countNumber\":1},\"action\":{\"type\":\"expire\"}}]}"}"#,
        &["/status"],
    ),
    ecr(
        "the preview",
        "GetLifecyclePolicyPreview",
        r#"{"repositoryName":"layers"}"#,
        &["/summary/expiringImageTotalCount"],
    ),
    ecr(
        "archive",
        "UpdateImageStorageClass",
        r#"{"repositoryName":"layers","imageId":{"imageTag":"1"},"targetStorageClass":"ARCHIVE"}"#,
        &["/imageStatus"],
    ),
    ecr(
        "fetch what is archived",
        "BatchGetImage",
        r#"{"repositoryName":"layers","imageIds":[{"imageTag":"1"}]}"#,
        &["/failures/0/failureCode"],
    ),
    ecr(
        "restore",
        "UpdateImageStorageClass",
        r#"{"repositoryName":"layers","imageId":{"imageTag":"1"},"targetStorageClass":"STANDARD"}"#,
        &["/imageStatus"],
    ),
    ecr("delete a full repository", "DeleteRepository", r#"{"repositoryName":"layers"}"#, &[]),
    ecr(
        "delete images, one of them none",
        "BatchDeleteImage",
        r#"{"repositoryName":"layers","imageIds":[{"imageTag":"1"},{"imageTag":"2"}]}"#,
        &["/imageIds/0/imageTag", "/failures/0/failureCode"],
    ),
    ecr(
        "delete the repository",
        "DeleteRepository",
        r#"{"repositoryName":"layers","force":true}"#,
        &["/repository/repositoryName"],
    ),
];
