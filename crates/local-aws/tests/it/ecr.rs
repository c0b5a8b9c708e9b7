//! ECR's JSON API.

use crate::common::{Local, digest, manifest};
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn repositories_are_created_described_and_deleted() {
    let local = Local::start();
    let caller = local.caller();
    for name in ["curl", "kedacore/keda", "lambda"] {
        caller.repository(name).await;
    }
    let (code, message) = caller.ecr_refused("CreateRepository", json!({ "repositoryName": "curl" })).await;
    assert_eq!(code, "RepositoryAlreadyExistsException");
    assert_eq!(
        message,
        "The repository with name 'curl' already exists in the registry with id '123456789012'"
    );
    let (code, _) = caller.ecr_refused("CreateRepository", json!({ "repositoryName": "Curl" })).await;
    assert_eq!(code, "InvalidParameterException");

    let mut names = Vec::new();
    let mut token = Value::Null;
    loop {
        let page = caller.ecr("DescribeRepositories", json!({ "maxResults": 2, "nextToken": token })).await;
        names.extend(page["repositories"].as_array().unwrap().iter().map(|r| r["repositoryName"].clone()));
        match page.get("nextToken") {
            Some(next) => token = next.clone(),
            None => break,
        }
    }
    assert_eq!(json!(names), json!(["curl", "kedacore/keda", "lambda"]));
    let one = caller.ecr("DescribeRepositories", json!({ "repositoryNames": ["kedacore/keda"] })).await;
    let host = local.server.registry_host();
    assert_eq!(one["repositories"][0]["repositoryUri"], format!("{host}/kedacore/keda"));
    assert_eq!(
        one["repositories"][0]["repositoryArn"],
        "arn:aws:ecr:eu-west-1:123456789012:repository/kedacore/keda"
    );
    let (code, _) =
        caller.ecr_refused("DescribeRepositories", json!({ "repositoryNames": ["curl", "nosuch"] })).await;
    assert_eq!(code, "RepositoryNotFoundException");

    caller.registry().await.image("curl", "1", b"layer").await;
    let (code, message) = caller.ecr_refused("DeleteRepository", json!({ "repositoryName": "curl" })).await;
    assert_eq!(code, "RepositoryNotEmptyException");
    assert!(message.contains("because it still contains images"), "{message}");
    caller.ecr("DeleteRepository", json!({ "repositoryName": "curl", "force": true })).await;
    assert_eq!(
        caller.ecr_refused("ListImages", json!({ "repositoryName": "curl" })).await.0,
        "RepositoryNotFoundException"
    );
}

#[tokio::test]
async fn encryption_needs_a_key_that_works() {
    let local = Local::start();
    let caller = local.caller();
    let create = |name: &str, encryption: Value| json!({ "repositoryName": name, "encryptionConfiguration": encryption });
    let key = caller.kms("CreateKey", json!({})).await["KeyMetadata"]["KeyId"].clone();
    caller.kms("CreateAlias", json!({ "AliasName": "alias/ecr/mainline-htc", "TargetKeyId": key })).await;
    let kms = json!({ "encryptionType": "KMS", "kmsKey": "alias/ecr/mainline-htc" });
    let made = caller.ecr("CreateRepository", create("curl", kms.clone())).await;
    let arn = format!("arn:aws:kms:eu-west-1:123456789012:key/{}", key.as_str().unwrap());
    assert_eq!(
        made["repository"]["encryptionConfiguration"],
        json!({ "encryptionType": "KMS", "kmsKey": arn })
    );
    let default = caller.ecr("CreateRepository", create("plain", json!({ "encryptionType": "KMS" }))).await;
    let managed = caller.kms("DescribeKey", json!({ "KeyId": "alias/aws/ecr" })).await;
    assert_eq!(default["repository"]["encryptionConfiguration"]["kmsKey"], managed["KeyMetadata"]["Arn"]);
    assert_eq!(managed["KeyMetadata"]["KeyManager"], "AWS");
    caller.kms("DisableKey", json!({ "KeyId": key })).await;
    let (code, message) = caller.ecr_refused("CreateRepository", create("grafana", kms)).await;
    assert_eq!(code, "KmsException");
    assert!(message.contains("is disabled"), "{message}");
    let (code, _) = caller
        .ecr_refused(
            "CreateRepository",
            create("grafana", json!({ "encryptionType": "KMS", "kmsKey": "no" })),
        )
        .await;
    assert_eq!(code, "KmsException");
}

#[tokio::test]
async fn images_are_listed_described_fetched_and_deleted() {
    let local = Local::start();
    let caller = local.caller();
    caller.repository("curl").await;
    let registry = caller.registry().await;
    let one = registry.image("curl", "1", b"one").await;
    let two = registry.image("curl", "2", b"two!").await;
    registry.image("curl", "two", b"two!").await;
    registry.image("curl", "1", b"moved").await;

    let untagged = json!({ "repositoryName": "curl", "filter": { "tagStatus": "UNTAGGED" } });
    let listed = caller.ecr("ListImages", untagged.clone()).await;
    assert_eq!(listed["imageIds"], json!([{ "imageDigest": one }]));
    let described = caller.ecr("DescribeImages", untagged).await;
    assert_eq!(described["imageDetails"][0]["imageSizeInBytes"], 3);
    let two_tags = caller
        .ecr("DescribeImages", json!({ "repositoryName": "curl", "imageIds": [{ "imageTag": "two" }] }))
        .await;
    assert_eq!(two_tags["imageDetails"][0]["imageTags"], json!(["2", "two"]));
    assert_eq!(two_tags["imageDetails"][0]["imageDigest"], json!(two));
    let missing = json!({ "repositoryName": "curl", "imageIds": [{ "imageTag": "9" }] });
    let (code, message) = caller.ecr_refused("DescribeImages", missing.clone()).await;
    assert_eq!(code, "ImageNotFoundException");
    assert_eq!(
        message,
        "The image with imageId {imageDigest:'null', imageTag:'9'} does not exist within the repository with name 'curl' in the \
         registry with id '123456789012'"
    );
    let got = caller
        .ecr(
            "BatchGetImage",
            json!({ "repositoryName": "curl", "imageIds": [{ "imageTag": "2" }, { "imageTag": "9" }] }),
        )
        .await;
    assert_eq!(got["images"][0]["imageManifest"].as_str().unwrap().as_bytes(), manifest(b"two!"));
    assert_eq!(got["failures"][0]["failureCode"], "ImageNotFound");

    // A tag is removed alone while the image has another one; with the last tag the image is removed.
    let delete = async |id: Value| {
        caller.ecr("BatchDeleteImage", json!({ "repositoryName": "curl", "imageIds": [id] })).await
    };
    delete(json!({ "imageTag": "2" })).await;
    assert_eq!(registry.get(&format!("curl/manifests/{two}")).await.status(), 200);
    delete(json!({ "imageTag": "two" })).await;
    assert_eq!(registry.get(&format!("curl/manifests/{two}")).await.status(), 404);
    let failed = delete(json!({ "imageTag": "two" })).await;
    assert_eq!(failed["failures"][0]["failureCode"], "ImageNotFound");
}

#[tokio::test]
async fn an_image_inside_an_index_is_not_deleted_before_it() {
    let local = Local::start();
    let caller = local.caller();
    caller.repository("curl").await;
    let registry = caller.registry().await;
    let child = registry.image("curl", "amd64", b"layer").await;
    let index = json!({
        "schemaVersion": 2, "mediaType": crate::common::OCI_INDEX,
        "manifests": [{ "mediaType": crate::common::DOCKER_MANIFEST, "digest": child, "size": manifest(b"layer").len() }],
    })
    .to_string();
    registry.put_manifest("curl", "1", crate::common::OCI_INDEX, index.as_bytes()).await;
    let delete =
        |ids: Value| caller.ecr("BatchDeleteImage", json!({ "repositoryName": "curl", "imageIds": ids }));
    let refused = delete(json!([{ "imageDigest": child }])).await;
    assert_eq!(refused["failures"][0]["failureCode"], "ImageReferencedByManifestList");
    let both = delete(json!([{ "imageDigest": child }, { "imageDigest": digest(index.as_bytes()) }])).await;
    assert_eq!(both["failures"], json!([]));
    assert_eq!(both["imageIds"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn layers_go_through_the_api_as_well() {
    use base64::Engine as _;
    let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let local = Local::start();
    let caller = local.caller();
    caller.repository("curl").await;
    let upload =
        caller.ecr("InitiateLayerUpload", json!({ "repositoryName": "curl" })).await["uploadId"].clone();
    let part = |bytes: &[u8], first: usize| {
        json!({
            "repositoryName": "curl", "uploadId": upload, "partFirstByte": first, "partLastByte": first + bytes.len() - 1,
            "layerPartBlob": encode(bytes),
        })
    };
    let large = vec![7_u8; 5 * 1024 * 1024];
    caller.ecr("UploadLayerPart", part(&large, 0)).await;
    let (code, message) = caller.ecr_refused("UploadLayerPart", part(b"end", 3)).await;
    assert_eq!(code, "InvalidLayerPartException");
    assert_eq!(message, format!("First byte of the layer part is 3 instead of {}", large.len()));
    caller.ecr("UploadLayerPart", part(b"end", large.len())).await;
    let whole = digest(&[&large[..], b"end"].concat());
    let complete = json!({ "repositoryName": "curl", "uploadId": upload, "layerDigests": [whole] });
    assert_eq!(caller.ecr("CompleteLayerUpload", complete.clone()).await["layerDigest"], json!(whole));
    assert_eq!(caller.ecr_refused("CompleteLayerUpload", complete).await.0, "UploadNotFoundException");
    let absent = digest(b"absent");
    let checked = caller
        .ecr(
            "BatchCheckLayerAvailability",
            json!({ "repositoryName": "curl", "layerDigests": [whole, absent, "sha256:x"] }),
        )
        .await;
    assert_eq!(checked["layers"][0]["layerAvailability"], "AVAILABLE");
    assert_eq!(checked["layers"][0]["layerSize"], large.len() + 3);
    assert_eq!(checked["layers"][1]["layerAvailability"], "UNAVAILABLE");
    assert_eq!(checked["failures"][0]["failureCode"], "InvalidLayerDigest");
    let url =
        caller.ecr("GetDownloadUrlForLayer", json!({ "repositoryName": "curl", "layerDigest": whole })).await;
    let bytes =
        local.client.get(url["downloadUrl"].as_str().unwrap()).send().await.unwrap().bytes().await.unwrap();
    assert_eq!(digest(&bytes), whole);

    caller.registry().await.blob("curl", b"{}").await;
    caller.registry().await.blob("curl", b"l").await;
    let put = json!({ "repositoryName": "curl", "imageTag": "1", "imageManifest": String::from_utf8(manifest(b"l")).unwrap() });
    caller.ecr("PutImage", put.clone()).await;
    assert_eq!(caller.ecr_refused("PutImage", put).await.0, "ImageAlreadyExistsException");
}

#[tokio::test]
async fn an_action_that_is_not_implemented_is_named() {
    let local = Local::start();
    let (status, value) = local.caller().ecr_any("StartImageScan", json!({})).await;
    assert_eq!(status, 501);
    assert!(value["message"].as_str().unwrap().contains("ecr:StartImageScan"), "{value}");
    let (status, text) = local.caller().query("iam", "Action=ListRoles").await;
    assert_eq!(status, 501);
    assert!(text.contains("iam:ListRoles"), "{text}");
    let s3 = local.caller().s3(Method::GET, "bucket?lifecycle").send().await.unwrap();
    assert_eq!(s3.status(), 501);
}

#[tokio::test]
async fn expired_and_missing_credentials_and_denied_actions() {
    let local = Local::start();
    let (code, message) =
        local.caller().key("expired-1").ecr_refused("DescribeRepositories", json!({})).await;
    assert_eq!(code, "ExpiredTokenException");
    assert_eq!(message, "The security token included in the request is expired");
    let unsigned = local
        .client
        .post(&local.url)
        .header("x-amz-target", "AmazonEC2ContainerRegistry_V20150921.DescribeRepositories")
        .body("{}")
        .send()
        .await
        .unwrap();
    assert_eq!(unsigned.status(), 400);
    assert!(unsigned.text().await.unwrap().contains("MissingAuthenticationTokenException"));

    let quirks = json!({ "quirks": ["deny:ecr:CreateRepository"] });
    assert_eq!(local.local(Method::POST, "quirks", Some(quirks.clone())).await, quirks);
    let (code, message) =
        local.caller().ecr_refused("CreateRepository", json!({ "repositoryName": "curl" })).await;
    assert_eq!(code, "AccessDeniedException");
    assert_eq!(
        message,
        "User: arn:aws:iam::123456789012:user/local is not authorized to perform: ecr:CreateRepository on resource: \
         arn:aws:ecr:eu-west-1:123456789012:repository/curl because no identity-based policy allows the ecr:CreateRepository \
         action"
    );
    local.caller().ecr("DescribeRepositories", json!({})).await;
    local.quirks(&["throttle-random=1:1000"]);
    assert_eq!(local.caller().ecr_refused("DescribeRepositories", json!({})).await.0, "ThrottlingException");
}

#[tokio::test]
async fn the_log_has_every_permission() {
    let local = Local::start();
    let caller = local.caller();
    let encryption = json!({ "encryptionType": "KMS" });
    let tags = json!([{ "Key": "a", "Value": "b" }]);
    let create = json!({ "repositoryName": "curl", "tags": tags, "encryptionConfiguration": encryption });
    caller.ecr("CreateRepository", create.clone()).await;
    caller.ecr("DeleteRepository", json!({ "repositoryName": "curl" })).await;
    let log = local.local(Method::GET, "log", None).await;
    assert_eq!(
        log[0]["iam"],
        json!(["ecr:CreateRepository", "ecr:TagResource", "kms:DescribeKey", "kms:CreateGrant"])
    );
    assert_eq!(log[1]["iam"], json!(["ecr:DeleteRepository", "kms:RetireGrant"]));
    local.quirks(&["deny:ecr:TagResource"]);
    let (code, message) = caller.ecr_refused("CreateRepository", create).await;
    assert_eq!(code, "AccessDeniedException");
    assert!(message.contains("perform: ecr:TagResource"), "{message}");
}
