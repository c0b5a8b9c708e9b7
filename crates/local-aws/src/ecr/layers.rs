//! Layers through the JSON API.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::layer_url;
use super::uploads::{self, PART_SIZE};
use super::{ON_REPOSITORY, repositories};
use crate::app::App;
use crate::digest;
use crate::fault::Fault;
use crate::input::Input;
use crate::kms;
use crate::resource::{Asked, Call, Resource, ask};
use crate::scope::Scope;
use crate::store::model::Layer;

pub(super) const RESOURCE: Resource = Resource {
    actions: &[
        ("BatchCheckLayerAvailability", ON_REPOSITORY, batch_check),
        ("CompleteLayerUpload", ON_REPOSITORY, complete),
        ("GetDownloadUrlForLayer", ON_REPOSITORY, download_url),
        ("InitiateLayerUpload", ON_REPOSITORY, initiate),
        ("UploadLayerPart", ON_REPOSITORY, upload_part),
    ],
    existing: None,
    scenarios: &[("layers and images", IMAGES)],
};

fn batch_check(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let digests = input.texts("layerDigests");
    if !(1..=100).contains(&digests.len()) {
        return Err(Fault::invalid_parameter(
            "Invalid parameter at 'layerDigests' failed to satisfy constraint: 'Member must have length between 1 and 100'",
        ));
    }
    let repository = repositories::find(call.app, &call.scope, input.text("repositoryName")?)?;
    let (mut layers, mut failures) = (Vec::new(), Vec::new());
    for wanted in digests {
        if !digest::is_valid(wanted) {
            failures.push(json!({
                "layerDigest": wanted, "failureCode": "InvalidLayerDigest", "failureReason": "Invalid layer digest",
            }));
            continue;
        }
        layers.push(match repository.layers.get(wanted) {
            Some(layer) => json!({
                "layerDigest": wanted,
                "layerAvailability": "AVAILABLE",
                "layerSize": layer.size,
                "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
            }),
            None => json!({ "layerDigest": wanted, "layerAvailability": "UNAVAILABLE" }),
        });
    }
    Ok(json!({ "layers": layers, "failures": failures }))
}

/// The layer, or ECR's error.
pub(crate) fn find(app: &App, scope: &Scope, name: &str, wanted: &str) -> Result<Layer, Fault> {
    let repository = repositories::find(app, scope, name)?;
    kms::check(app, scope, repository.encryption.key.as_deref())?;
    repository.layers.get(wanted).cloned().ok_or_else(|| {
        Fault::client(
            "LayersNotFoundException",
            format!(
                "The layer with digest '{wanted}' does not exist within the repository with name '{name}' in the registry with \
                 id '{}'",
                scope.account
            ),
        )
    })
}

fn download_url(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let wanted = input.text("layerDigest")?;
    find(call.app, &call.scope, input.text("repositoryName")?, wanted)?;
    Ok(json!({
        "downloadUrl": layer_url::presign(call.app, &call.scope, wanted),
        "layerDigest": wanted,
    }))
}

fn initiate(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let id = uploads::begin(call.app, &call.scope, input.text("repositoryName")?)?;
    Ok(json!({ "uploadId": id, "partSize": PART_SIZE }))
}

fn upload_part(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let (name, id) = (input.text("repositoryName")?, input.text("uploadId")?);
    let session = block_on(uploads::find(call.app, &call.scope, name, id))?;
    let bytes = STANDARD
        .decode(input.text("layerPartBlob")?)
        .map_err(|_| Fault::client("SerializationException", "layerPartBlob is not base64"))?;
    let first = input.number("partFirstByte").unwrap_or(0);
    let last = input.number("partLastByte").unwrap_or(0);
    let length = bytes.len() as u64;
    if last.checked_sub(first).map(|span| span + 1) != Some(length) || length > PART_SIZE {
        return Err(Fault::invalid_parameter(format!(
            "Invalid parameter at 'partLastByte': bytes {first} to {last} were announced and {length} came"
        )));
    }
    let mut upload = session.blocking_lock();
    upload.begin_part(first).map_err(|fault| Fault::client("InvalidLayerPartException", fault.message))?;
    upload.write(&bytes)?;
    Ok(json!({
        "registryId": call.scope.account, "repositoryName": name, "uploadId": id, "lastByteReceived": last,
    }))
}

fn complete(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let (name, id) = (input.text("repositoryName")?, input.text("uploadId")?);
    let digests = input.texts("layerDigests");
    let Some(wanted) = digests.first().copied().filter(|wanted| digest::is_valid(wanted)) else {
        return Err(Fault::invalid_parameter(
            "Invalid parameter at 'layerDigests': a sha256 digest is needed",
        ));
    };
    let session = block_on(uploads::find(call.app, &call.scope, name, id))?;
    let existed = uploads::complete(call.app, id, &mut session.blocking_lock(), wanted)?;
    if existed {
        return Err(Fault::client(
            "LayerAlreadyExistsException",
            format!(
                "Layer with digest '{wanted}' already exists in the repository with name '{name}' in the registry with id '{}'",
                call.scope.account
            ),
        ));
    }
    Ok(json!({
        "registryId": call.scope.account, "repositoryName": name, "uploadId": id, "layerDigest": wanted,
    }))
}

/// The JSON actions run on threads of the blocking pool, where waiting for a session is allowed.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Handle::current().block_on(future)
}

/// The whole life of an image.
const IMAGES: &[Asked] = &[
    ask(
        "create",
        "CreateRepository",
        r#"{"repositoryName":"layers","imageScanningConfiguration":{"scanOnPush":true}}"#,
        &["/repository/repositoryName"],
    ),
    ask("begin an upload", "InitiateLayerUpload", r#"{"repositoryName":"layers"}"#, &["upload</uploadId"]),
    ask("begin one where nothing is", "InitiateLayerUpload", r#"{"repositoryName":"none"}"#, &[]),
    ask(
        "a part that is shorter than announced",
        "UploadLayerPart",
        r#"{"repositoryName":"layers","uploadId":"{upload}","partFirstByte":0,"partLastByte":9,"layerPartBlob":"e30="}"#,
        &[],
    ),
    ask(
        "a part",
        "UploadLayerPart",
        r#"{"repositoryName":"layers","uploadId":"{upload}","partFirstByte":0,"partLastByte":1,"layerPartBlob":"e30="}"#,
        &["/lastByteReceived"],
    ),
    ask(
        "complete",
        "CompleteLayerUpload",
        r#"{"repositoryName":"layers","uploadId":"{upload}","layerDigests":["sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"]}"#,
        &["/layerDigest"],
    ),
    ask(
        "complete it again",
        "CompleteLayerUpload",
        r#"{"repositoryName":"layers","uploadId":"{upload}","layerDigests":["sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"]}"#,
        &[],
    ),
    ask(
        "an image of which a layer is missing",
        "PutImage",
        r#"{"repositoryName":"layers","imageManifest":"{\"schemaVersion\":2,\"mediaType\":\"application/vnd.docker.distribution.manifest.v2+json\",\"config\":{\"mediaType\":\"application/vnd.docker.container.image.v1+json\",\"size\":2,\"digest\":\"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a\"},\"layers\":[{\"mediaType\":\"application/vnd.docker.image.rootfs.diff.tar.gzip\",\"size\":5,\"digest\":\"sha256:dac1d7cfa95021764849fd102524e141488c5e3a90f861dbb5a12d9ac8584f85\"}]}","imageTag":"1"}"#,
        &[],
    ),
    ask(
        "begin another upload",
        "InitiateLayerUpload",
        r#"{"repositoryName":"layers"}"#,
        &["second</uploadId"],
    ),
    ask(
        "its part",
        "UploadLayerPart",
        r#"{"repositoryName":"layers","uploadId":"{second}","partFirstByte":0,"partLastByte":4,"layerPartBlob":"bGF5ZXI="}"#,
        &["/lastByteReceived"],
    ),
    ask(
        "complete it",
        "CompleteLayerUpload",
        r#"{"repositoryName":"layers","uploadId":"{second}","layerDigests":["sha256:dac1d7cfa95021764849fd102524e141488c5e3a90f861dbb5a12d9ac8584f85"]}"#,
        &["/layerDigest"],
    ),
    ask(
        "which layers are there",
        "BatchCheckLayerAvailability",
        r#"{"repositoryName":"layers","layerDigests":["sha256:dac1d7cfa95021764849fd102524e141488c5e3a90f861dbb5a12d9ac8584f85","sha256:0000000000000000000000000000000000000000000000000000000000000000"]}"#,
        &["/layers/0/layerAvailability", "/layers/0/layerSize", "/layers/1/layerAvailability"],
    ),
    ask(
        "where a layer is",
        "GetDownloadUrlForLayer",
        r#"{"repositoryName":"layers","layerDigest":"sha256:dac1d7cfa95021764849fd102524e141488c5e3a90f861dbb5a12d9ac8584f85"}"#,
        &["/layerDigest"],
    ),
    ask(
        "where one is that is not there",
        "GetDownloadUrlForLayer",
        r#"{"repositoryName":"layers","layerDigest":"sha256:0000000000000000000000000000000000000000000000000000000000000000"}"#,
        &[],
    ),
    ask(
        "an image",
        "PutImage",
        r#"{"repositoryName":"layers","imageManifest":"{\"schemaVersion\":2,\"mediaType\":\"application/vnd.docker.distribution.manifest.v2+json\",\"config\":{\"mediaType\":\"application/vnd.docker.container.image.v1+json\",\"size\":2,\"digest\":\"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a\"},\"layers\":[{\"mediaType\":\"application/vnd.docker.image.rootfs.diff.tar.gzip\",\"size\":5,\"digest\":\"sha256:dac1d7cfa95021764849fd102524e141488c5e3a90f861dbb5a12d9ac8584f85\"}]}","imageTag":"1"}"#,
        &["/image/imageId/imageDigest", "/image/imageId/imageTag"],
    ),
    ask(
        "the same again",
        "PutImage",
        r#"{"repositoryName":"layers","imageManifest":"{\"schemaVersion\":2,\"mediaType\":\"application/vnd.docker.distribution.manifest.v2+json\",\"config\":{\"mediaType\":\"application/vnd.docker.container.image.v1+json\",\"size\":2,\"digest\":\"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a\"},\"layers\":[{\"mediaType\":\"application/vnd.docker.image.rootfs.diff.tar.gzip\",\"size\":5,\"digest\":\"sha256:dac1d7cfa95021764849fd102524e141488c5e3a90f861dbb5a12d9ac8584f85\"}]}","imageTag":"1"}"#,
        &[],
    ),
    ask(
        "list",
        "ListImages",
        r#"{"repositoryName":"layers"}"#,
        &["/imageIds/0/imageDigest", "/imageIds/0/imageTag"],
    ),
    ask(
        "list what no tag names",
        "ListImages",
        r#"{"repositoryName":"layers","filter":{"tagStatus":"UNTAGGED"}}"#,
        &["/imageIds/0"],
    ),
    ask(
        "describe",
        "DescribeImages",
        r#"{"repositoryName":"layers"}"#,
        &["/imageDetails/0/imageTags/0", "/imageDetails/0/imageManifestMediaType"],
    ),
    ask(
        "fetch",
        "BatchGetImage",
        r#"{"repositoryName":"layers","imageIds":[{"imageTag":"1"}]}"#,
        &["/images/0/imageId/imageDigest"],
    ),
    ask(
        "findings of its scan",
        "DescribeImageScanFindings",
        r#"{"repositoryName":"layers","imageId":{"imageTag":"1"}}"#,
        &["/imageScanStatus/status"],
    ),
    ask(
        "findings of none",
        "DescribeImageScanFindings",
        r#"{"repositoryName":"layers","imageId":{"imageTag":"2"}}"#,
        &[],
    ),
    ask(
        "what refers to it",
        "ListImageReferrers",
        r#"{"repositoryName":"layers","subjectId":{"imageDigest":"sha256:838b011e1978e31bf66cd4c412fd93cad5f54126a21065d60acd0644f3ba14a1"}}"#,
        &["/referrers/0"],
    ),
    ask(
        "preview a lifecycle",
        "StartLifecyclePolicyPreview",
        r#"{"repositoryName":"layers","lifecyclePolicyText":"{\"rules\":[{\"rulePriority\":1,\"selection\":{\"tagStatus\":\"any\",\"countType\":\"imageCountMoreThan\",\"countNumber\":1},\"action\":{\"type\":\"expire\"}}]}"}"#,
        &["/status"],
    ),
    ask(
        "the preview",
        "GetLifecyclePolicyPreview",
        r#"{"repositoryName":"layers"}"#,
        &["/summary/expiringImageTotalCount"],
    ),
    ask(
        "archive",
        "UpdateImageStorageClass",
        r#"{"repositoryName":"layers","imageId":{"imageTag":"1"},"targetStorageClass":"ARCHIVE"}"#,
        &["/imageStatus"],
    ),
    ask(
        "fetch what is archived",
        "BatchGetImage",
        r#"{"repositoryName":"layers","imageIds":[{"imageTag":"1"}]}"#,
        &["/failures/0/failureCode"],
    ),
    ask(
        "restore",
        "UpdateImageStorageClass",
        r#"{"repositoryName":"layers","imageId":{"imageTag":"1"},"targetStorageClass":"STANDARD"}"#,
        &["/imageStatus"],
    ),
    ask("delete a full repository", "DeleteRepository", r#"{"repositoryName":"layers"}"#, &[]),
    ask(
        "delete images, one of them none",
        "BatchDeleteImage",
        r#"{"repositoryName":"layers","imageIds":[{"imageTag":"1"},{"imageTag":"2"}]}"#,
        &["/imageIds/0/imageTag", "/failures/0/failureCode"],
    ),
    ask(
        "delete the repository",
        "DeleteRepository",
        r#"{"repositoryName":"layers","force":true}"#,
        &["/repository/repositoryName"],
    ),
];
