//! Pushes to the registry: uploads, mounts, manifests, and which of them ECR refuses.

use crate::common::{DOCKER_MANIFEST, Local, OCI_INDEX, OCI_MANIFEST, digest, header, manifest, oci_error};
use reqwest::Method;
use serde_json::{Value, json};

const MIB: usize = 1024 * 1024;

#[tokio::test]
async fn a_push_needs_the_repository() {
    let local = Local::start();
    let registry = local.caller().registry().await;
    let text = "The repository with name 'curl' does not exist in the registry with id '123456789012'";
    for (method, path) in [
        (Method::POST, "curl/blobs/uploads/"),
        (Method::GET, "curl/manifests/1"),
        (Method::PUT, "curl/manifests/1"),
        (Method::GET, "curl/tags/list"),
    ] {
        let refused = oci_error(registry.request(method, path).send().await.unwrap()).await;
        assert_eq!(refused, (404, "NAME_UNKNOWN".to_owned(), text.to_owned()), "{path}");
    }
    let head = registry.head("curl/manifests/1").await;
    assert_eq!(head.status(), 404);
    assert!(head.bytes().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_patch_answers_201_with_a_range_that_goes_stale() {
    let local = Local::start();
    let caller = local.caller();
    caller.repository("curl").await;
    let registry = caller.registry().await;
    let (first, second) = (vec![1_u8; 5 * MIB], vec![2_u8; 10]);
    let location = registry.upload("curl").await;
    let patch = |bytes: &[u8], range: Option<&str>| {
        let mut request = registry.request(Method::PATCH, &location).body(bytes.to_vec());
        if let Some(range) = range {
            request = request.header("content-range", range);
        }
        request.send()
    };
    let one = patch(&first, None).await.unwrap();
    assert_eq!(one.status(), 201);
    assert_eq!(header(&one, "range"), format!("0-{}", 5 * MIB - 1));
    // The same body again: ECR does not accept byte 0 twice.
    let replay = oci_error(patch(&first, None).await.unwrap()).await;
    assert_eq!(
        replay,
        (
            416,
            "BLOB_UPLOAD_INVALID".to_owned(),
            format!("First byte of the layer part is 0 instead of {}", 5 * MIB)
        )
    );
    let two = patch(&second, Some(&format!("{}-{}", 5 * MIB, 5 * MIB + 9))).await.unwrap();
    assert_eq!(two.status(), 201);
    assert_eq!(header(&two, "range"), format!("0-{}", 5 * MIB - 1), "stale, as ECR's");
    let whole = [first, second].concat();
    let put =
        registry.request(Method::PUT, &format!("{location}?digest={}", digest(&whole))).send().await.unwrap();
    assert_eq!(put.status(), 201);
    assert_eq!(
        header(&registry.head(&format!("curl/blobs/{}", digest(&whole))).await, "content-length"),
        whole.len().to_string()
    );
    // The session has ended.
    assert_eq!(oci_error(registry.get(&location).await).await.1, "BLOB_UPLOAD_UNKNOWN");
}

#[tokio::test]
async fn uploads_that_are_refused() {
    let local = Local::start();
    let caller = local.caller();
    caller.repository("curl").await;
    let registry = caller.registry().await;

    let location = registry.upload("curl").await;
    let nothing =
        registry.request(Method::PUT, &format!("{location}?digest={}", digest(b""))).send().await.unwrap();
    let (status, code, message) = oci_error(nothing).await;
    assert_eq!((status, code.as_str()), (400, "BLOB_UPLOAD_INVALID"));
    assert!(message.contains("does not have any parts"), "{message}");

    let location = registry.upload("curl").await;
    let wrong = registry
        .request(Method::PUT, &format!("{location}?digest={}", digest(b"other")))
        .body("bytes")
        .send()
        .await
        .unwrap();
    assert_eq!(oci_error(wrong).await.1, "DIGEST_INVALID");
    assert_eq!(registry.head(&format!("curl/blobs/{}", digest(b"bytes"))).await.status(), 404);

    let location = registry.upload("curl").await;
    for range in ["0-2", "3-5"] {
        let patch = registry.request(Method::PATCH, &location).header("content-range", range).body("abc");
        assert_eq!(patch.send().await.unwrap().status(), 201);
    }
    let small = registry
        .request(Method::PUT, &format!("{location}?digest={}", digest(b"abcabc")))
        .send()
        .await
        .unwrap();
    assert!(oci_error(small).await.2.contains("at least 5242880 bytes"));

    // A session belongs to its repository.
    caller.repository("other").await;
    let foreign = registry.upload("curl").await.replace("/v2/curl/", "/v2/other/");
    assert_eq!(registry.request(Method::PATCH, &foreign).body("x").send().await.unwrap().status(), 404);
}

#[tokio::test]
async fn manifests_need_their_blobs_and_children() {
    let local = Local::start();
    let caller = local.caller();
    caller.repository("curl").await;
    let registry = caller.registry().await;
    registry.blob("curl", b"{}").await;
    let missing = manifest(b"layer");
    let (status, code, message) =
        oci_error(registry.put_manifest("curl", "1", DOCKER_MANIFEST, &missing).await).await;
    assert_eq!((status, code.as_str()), (404, "BLOB_UNKNOWN"));
    assert_eq!(
        message,
        format!(
            "Layers with digests '[{}]' required for pushing image into repository with name 'curl' in the registry with id \
             '123456789012' do not exist",
            digest(b"layer")
        )
    );
    let child = digest(&missing);
    let index = json!({
        "schemaVersion": 2, "mediaType": OCI_INDEX,
        "manifests": [{ "mediaType": DOCKER_MANIFEST, "digest": child, "size": missing.len() }],
    })
    .to_string();
    let (status, code, message) =
        oci_error(registry.put_manifest("curl", "1", OCI_INDEX, index.as_bytes()).await).await;
    assert_eq!((status, code.as_str()), (404, "MANIFEST_BLOB_UNKNOWN"));
    assert!(
        message.starts_with(&format!("Images with digests '[{child}]' required for pushing image")),
        "{message}"
    );
    assert_eq!(registry.get("curl/manifests/1").await.status(), 404, "nothing half-visible");

    registry.blob("curl", b"layer").await;
    let by_digest = registry.put_manifest("curl", &child, DOCKER_MANIFEST, &missing).await;
    assert_eq!(by_digest.status(), 201);
    assert_eq!(registry.put_manifest("curl", "1", OCI_INDEX, index.as_bytes()).await.status(), 201);
    let lied = registry.put_manifest("curl", &digest(b"no"), DOCKER_MANIFEST, &missing).await;
    assert_eq!(oci_error(lied).await.1, "DIGEST_INVALID");
    let untyped = json!({ "schemaVersion": 2, "config": {}, "layers": [] }).to_string();
    let (status, code, message) =
        oci_error(registry.put_manifest("curl", "2", OCI_MANIFEST, untyped.as_bytes()).await).await;
    assert_eq!((status, code.as_str()), (405, "UNSUPPORTED"));
    assert!(message.contains("Invalid JSON syntax"), "{message}");
    let deleted = registry.request(Method::DELETE, &format!("curl/manifests/{child}")).send().await.unwrap();
    assert_eq!(deleted.status(), 405, "images are deleted through the API only");
}

#[tokio::test]
async fn immutable_tags_and_their_exclusions() {
    let local = Local::start();
    let caller = local.caller();
    caller.repository("lambda").await;
    let registry = caller.registry().await;
    registry.image("lambda", "java17", b"one").await;
    registry.image("lambda", "java17-sha256-aa", b"one").await;
    let set = |mode: &str, filters: &[&str]| {
        let filters: Vec<Value> =
            filters.iter().map(|filter| json!({ "filterType": "WILDCARD", "filter": filter })).collect();
        caller.ecr(
            "PutImageTagMutability",
            json!({ "repositoryName": "lambda", "imageTagMutability": mode, "imageTagMutabilityExclusionFilters": filters }),
        )
    };
    let text = "The image tag 'java17-sha256-aa' already exists in the 'lambda' repository and cannot be overwritten because \
                the repository is immutable.";
    set("MUTABLE_WITH_EXCLUSION", &["*-sha256-*"]).await;
    // Also for the bytes that are already there: ECR does the same.
    let refused = oci_error(
        registry.put_manifest("lambda", "java17-sha256-aa", DOCKER_MANIFEST, &manifest(b"one")).await,
    )
    .await;
    assert_eq!(refused, (400, "TAG_INVALID".to_owned(), text.to_owned()));
    registry.image("lambda", "java17", b"two").await;
    registry.image("lambda", "java17-sha256-bb", b"two").await;

    set("IMMUTABLE_WITH_EXCLUSION", &["java*7"]).await;
    registry.image("lambda", "java17", b"three").await;
    let refused =
        registry.put_manifest("lambda", "java17-sha256-bb", DOCKER_MANIFEST, &manifest(b"three")).await;
    assert_eq!(refused.status(), 400);
    set("IMMUTABLE", &[]).await;
    let refused = registry.put_manifest("lambda", "java17", DOCKER_MANIFEST, &manifest(b"one")).await;
    assert_eq!(refused.status(), 400);
    let api = caller
        .ecr_refused(
            "PutImage",
            json!({
                "repositoryName": "lambda", "imageTag": "java17-sha256-aa",
                "imageManifest": String::from_utf8(manifest(b"two")).unwrap(),
            }),
        )
        .await;
    assert_eq!(api, ("ImageTagAlreadyExistsException".to_owned(), text.to_owned()));
}

#[tokio::test]
async fn mounts_like_ecr() {
    let local = Local::start();
    let caller = local.caller();
    let key = caller.kms("CreateKey", json!({})).await["KeyMetadata"]["Arn"].as_str().unwrap().to_owned();
    caller.repository("source").await;
    caller.repository("target").await;
    caller
        .ecr(
            "CreateRepository",
            json!({ "repositoryName": "encrypted", "encryptionConfiguration": { "encryptionType": "KMS", "kmsKey": key } }),
        )
        .await;
    let registry = caller.registry().await;
    registry.image("source", "1", b"committed").await;
    registry.blob("source", b"loose").await;
    let mount = async |target: &str, bytes: &[u8]| {
        let path = format!("{target}/blobs/uploads/?mount={}&from=source", digest(bytes));
        registry.request(Method::POST, &path).send().await.unwrap()
    };
    let off = mount("target", b"committed").await;
    assert_eq!(off.status(), 202, "off by default");
    // The upload session of a 202 can be used.
    let location = header(&off, "location");
    let put = registry
        .request(Method::PUT, &format!("{location}?digest={}", digest(b"x")))
        .body("x")
        .send()
        .await
        .unwrap();
    assert_eq!(put.status(), 201);

    caller.ecr("PutAccountSetting", json!({ "name": "BLOB_MOUNTING", "value": "ENABLED" })).await;
    assert_eq!(mount("target", b"loose").await.status(), 202, "no committed manifest refers to it");
    assert_eq!(mount("encrypted", b"committed").await.status(), 202, "another key");
    assert_eq!(mount("target", b"absent").await.status(), 202);
    let mounted = mount("target", b"committed").await;
    assert_eq!(mounted.status(), 201);
    assert_eq!(header(&mounted, "docker-content-digest"), digest(b"committed"));
    assert_eq!(registry.head(&format!("target/blobs/{}", digest(b"committed"))).await.status(), 200);
}
