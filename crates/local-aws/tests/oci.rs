//! The registry, ECR's departures from the specification included (each is a line of notes in the sources of the server).

mod common;

use std::time::Duration;

use common::{DOCKER_MANIFEST, Local, OCI_INDEX, OCI_MANIFEST, digest, header, manifest, oci_error};
use reqwest::Method;
use serde_json::{Value, json};

const MIB: usize = 1024 * 1024;

#[tokio::test]
async fn without_a_token_the_answer_is_a_basic_challenge() {
    let local = Local::start();
    for (method, path) in [
        (Method::GET, "/v2/"),
        (Method::HEAD, "/v2/curl/manifests/1"),
        (Method::POST, "/v2/curl/blobs/uploads/"),
    ] {
        let response = local.client.request(method, format!("{}{path}", local.url)).send().await.unwrap();
        assert_eq!(response.status(), 401, "{path}");
        assert!(header(&response, "www-authenticate").starts_with("Basic realm="), "{path}");
    }
    let wrong = local
        .client
        .get(format!("{}/v2/", local.url))
        .header("authorization", "Basic QVdTOng=")
        .send()
        .await
        .unwrap();
    assert_eq!(wrong.status(), 401);
    let registry = local.caller().registry().await;
    assert_eq!(registry.get("").await.status(), 200);
}

#[tokio::test]
async fn an_expired_token_is_denied_with_403() {
    let local = Local::with(|config| config.token_lifetime = Duration::ZERO);
    let registry = local.caller().registry().await;
    let (status, code, message) = oci_error(registry.get("curl/manifests/1").await).await;
    assert_eq!((status, code.as_str()), (403, "DENIED"));
    assert_eq!(message, "Your authorization token has expired. Reauthenticate and try again.");
}

#[tokio::test]
async fn a_token_that_is_used_up_is_denied_and_a_new_one_is_not() {
    let local = Local::start();
    local.quirks(&["expire-tokens-after-n-requests=3"]);
    let registry = local.caller().registry().await;
    for _ in 0..3 {
        assert_eq!(registry.get("").await.status(), 200);
    }
    assert_eq!(registry.get("").await.status(), 403);
    assert_eq!(local.caller().registry().await.get("").await.status(), 200);
}

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
async fn an_image_comes_back_byte_for_byte() {
    let local = Local::start();
    let caller = local.caller();
    caller.repository("team/curl").await;
    let registry = caller.registry().await;
    let layer: Vec<u8> = (0..3 * MIB).map(|i| u8::try_from(i % 251).unwrap()).collect();
    let pushed = registry.image("team/curl", "7.85.0", &layer).await;

    let head = registry.head("team/curl/manifests/7.85.0").await;
    assert_eq!(head.status(), 200);
    assert_eq!(header(&head, "docker-content-digest"), pushed);
    assert_eq!(header(&head, "content-type"), DOCKER_MANIFEST);
    assert_eq!(header(&head, "content-length"), manifest(&layer).len().to_string());
    let get = registry.get(&format!("team/curl/manifests/{pushed}")).await;
    assert_eq!(get.bytes().await.unwrap(), manifest(&layer));

    let blob = registry.head(&format!("team/curl/blobs/{}", digest(&layer))).await;
    assert_eq!(header(&blob, "content-length"), layer.len().to_string());
    let redirect = registry.get(&format!("team/curl/blobs/{}", digest(&layer))).await;
    assert_eq!(redirect.status(), 307);
    let location = header(&redirect, "location");
    assert!(location.starts_with("http://localhost:"), "another host than the registry's: {location}");

    let bytes = local.client.get(&location).send().await.unwrap().bytes().await.unwrap();
    assert_eq!(digest(&bytes), digest(&layer));
    let part = local.client.get(&location).header("range", "bytes=1000000-").send().await.unwrap();
    assert_eq!(part.status(), 206);
    assert_eq!(header(&part, "content-range"), format!("bytes 1000000-{}/{}", layer.len() - 1, layer.len()));
    assert_eq!(part.bytes().await.unwrap(), layer[1_000_000..]);
    let beyond =
        local.client.get(&location).header("range", format!("bytes={}-", layer.len())).send().await.unwrap();
    assert_eq!(beyond.status(), 416);

    let with_credentials = registry.request(Method::GET, &location).send().await.unwrap();
    assert_eq!(with_credentials.status(), 400);
    assert!(with_credentials.text().await.unwrap().contains("Only one auth mechanism allowed"));
    let forged = location.replace("X-Amz-Signature=", "X-Amz-Signature=0");
    assert_eq!(local.client.get(forged).send().await.unwrap().status(), 403);
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
    // The same body once more: ECR does not take byte 0 twice.
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
    // The session is over.
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
async fn manifests_need_what_they_name() {
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
    // Also for the bytes that are there: so ECR does it.
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
async fn mounts_only_what_ecr_mounts() {
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
    // The session of a 202 is one to be used.
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

#[tokio::test]
async fn tags_come_in_pages_of_at_most_1000() {
    let local = Local::start();
    let caller = local.caller();
    caller.repository("curl").await;
    let registry = caller.registry().await;
    for tag in ["c", "a", "e", "b", "d"] {
        registry.image("curl", tag, b"layer").await;
    }
    let (mut path, mut seen) = ("curl/tags/list?n=2".to_owned(), Vec::new());
    loop {
        let response = registry.get(&path).await;
        let link = response.headers().get("link").map(|value| value.to_str().unwrap().to_owned());
        let value: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
        seen.extend(value["tags"].as_array().unwrap().iter().map(|tag| tag.as_str().unwrap().to_owned()));
        match link {
            Some(link) => path = format!("{}{}", registry.url, link.split(['<', '>']).nth(1).unwrap()),
            None => break,
        }
    }
    assert_eq!(seen, ["a", "b", "c", "d", "e"]);
    assert_eq!(registry.get("curl/tags/list?n=1001").await.status(), 400);
}

#[tokio::test]
async fn referrers_are_found_by_their_subject() {
    let local = Local::start();
    let caller = local.caller();
    caller.repository("curl").await;
    let registry = caller.registry().await;
    let subject = registry.image("curl", "1", b"layer").await;
    let signature = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": "application/vnd.example.signature",
        "config": { "mediaType": "application/vnd.oci.empty.v1+json", "digest": digest(b"{}"), "size": 2 },
        "layers": [],
        "subject": { "mediaType": DOCKER_MANIFEST, "digest": subject, "size": manifest(b"layer").len() },
        "annotations": { "by": "test" },
    })
    .to_string();
    let put = registry
        .put_manifest("curl", &digest(signature.as_bytes()), OCI_MANIFEST, signature.as_bytes())
        .await;
    assert_eq!(header(&put, "oci-subject"), subject);
    let list = async |query: &str| {
        let response = registry.get(&format!("curl/referrers/{subject}{query}")).await;
        assert_eq!(response.status(), 200);
        serde_json::from_slice::<Value>(&response.bytes().await.unwrap()).unwrap()
    };
    let found = list("").await;
    assert_eq!(found["manifests"][0]["digest"], digest(signature.as_bytes()));
    assert_eq!(found["manifests"][0]["artifactType"], "application/vnd.example.signature");
    assert_eq!(found["manifests"][0]["annotations"]["by"], "test");
    assert_eq!(list("?artifactType=other").await["manifests"], json!([]));
}

#[tokio::test]
async fn a_repository_whose_key_is_disabled_gives_nothing() {
    let local = Local::start();
    let caller = local.caller();
    let key = caller.kms("CreateKey", json!({})).await["KeyMetadata"]["Arn"].as_str().unwrap().to_owned();
    caller
        .ecr(
            "CreateRepository",
            json!({ "repositoryName": "curl", "encryptionConfiguration": { "encryptionType": "KMS", "kmsKey": key } }),
        )
        .await;
    let registry = caller.registry().await;
    registry.image("curl", "1", b"layer").await;
    let blob = format!("curl/blobs/{}", digest(b"layer"));
    for (action, input, word) in [
        ("DisableKey", json!({ "KeyId": key }), "is disabled"),
        ("ScheduleKeyDeletion", json!({ "KeyId": key, "PendingWindowInDays": 7 }), "is pending deletion"),
    ] {
        caller.kms(action, input).await;
        for path in ["curl/manifests/1", &blob] {
            let (status, code, message) = oci_error(registry.get(path).await).await;
            assert_eq!((status, code.as_str()), (400, "KMS_ERROR"), "{path}");
            assert!(message.contains(&key) && message.contains(word), "{message}");
        }
        let wanted = json!({ "repositoryName": "curl", "imageIds": [{ "imageTag": "1" }] });
        let answer = caller.ecr("BatchGetImage", wanted).await;
        assert_eq!(
            (&answer["failures"][0]["failureCode"], &answer["images"]),
            (&json!("KmsError"), &json!([]))
        );
    }
    caller.kms("CancelKeyDeletion", json!({ "KeyId": key })).await;
    assert_eq!(registry.get("curl/manifests/1").await.status(), 400, "a saved key stays disabled");
    caller.kms("EnableKey", json!({ "KeyId": key })).await;
    assert_eq!(registry.get("curl/manifests/1").await.status(), 200);
}

#[tokio::test]
async fn regions_and_accounts_are_kept_apart() {
    let local = Local::start();
    local.caller().repository("curl").await;
    local.caller().registry().await.image("curl", "1", b"layer").await;
    for other in [local.caller().region("us-east-1"), local.caller().key("210987654321")] {
        let refused = other.registry().await.get("curl/manifests/1").await;
        assert_eq!(oci_error(refused).await.1, "NAME_UNKNOWN");
    }
}

#[tokio::test]
async fn quirks_of_the_registry() {
    let local = Local::start();
    let caller = local.caller();
    caller.repository("curl").await;
    let registry = caller.registry().await;
    registry.blob("curl", b"{}").await;

    local.quirks(&["no-location-on-manifest-put"]);
    registry.blob("curl", b"layer").await;
    let put = registry.put_manifest("curl", "1", DOCKER_MANIFEST, &manifest(b"layer")).await;
    assert_eq!(put.status(), 201);
    assert!(!put.headers().contains_key("location"));

    local.quirks(&["blob-unknown-lag=600000"]);
    registry.blob("curl", b"late").await;
    let late = registry.put_manifest("curl", "2", DOCKER_MANIFEST, &manifest(b"late")).await;
    assert_eq!(oci_error(late).await.1, "BLOB_UNKNOWN");
    local.quirks(&[]);
    assert_eq!(registry.put_manifest("curl", "2", DOCKER_MANIFEST, &manifest(b"late")).await.status(), 201);

    local.quirks(&["throttle-put-image=2"]);
    let mut statuses = Vec::new();
    for tag in ["a", "b", "c"] {
        statuses.push(registry.put_manifest("curl", tag, DOCKER_MANIFEST, &manifest(b"late")).await);
    }
    let (status, code, message) = oci_error(statuses.pop().unwrap()).await;
    assert_eq!((status, code.as_str(), message.as_str()), (429, "TOOMANYREQUESTS", "Rate exceeded"));
    assert!(statuses.iter().all(|response| response.status() == 201));
    let (code, message) = caller
        .ecr_refused(
            "PutImage",
            json!({ "repositoryName": "curl", "imageTag": "d", "imageManifest": String::from_utf8(manifest(b"late")).unwrap() }),
        )
        .await;
    assert_eq!((code.as_str(), message.as_str()), ("ThrottlingException", "Rate exceeded"));

    local.quirks(&["drop-connection-on-unknown-repo"]);
    assert!(registry.request(Method::POST, "nosuch/blobs/uploads/").send().await.is_err());
    assert_eq!(registry.get("nosuch/manifests/1").await.status(), 404, "only pushes are hung up on");

    local.quirks(&["eventual-consistency=2"]);
    caller.repository("fresh").await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(registry.get("fresh/tags/list").await.status().as_u16());
    }
    assert_eq!(seen, [404, 404, 200]);

    local.quirks(&["deny:ecr:InitiateLayerUpload"]);
    let (status, code, message) =
        oci_error(registry.request(Method::POST, "curl/blobs/uploads/").send().await.unwrap()).await;
    assert_eq!((status, code.as_str()), (403, "DENIED"));
    assert!(message.contains("is not authorized to perform: ecr:InitiateLayerUpload on resource: arn:aws:ecr:eu-west-1:123456789012:repository/curl"), "{message}");
    assert_eq!(registry.get("curl/manifests/1").await.status(), 200);
}

#[tokio::test]
async fn every_request_is_counted_and_listed() {
    let local = Local::start();
    let caller = local.caller();
    caller.repository("curl").await;
    local.local(Method::POST, "reset-requests", None).await;
    caller.registry().await.image("curl", "1", b"layer").await;
    let counters = local.local(Method::GET, "requests", None).await;
    assert_eq!(
        counters,
        json!({
            "ecr.GetAuthorizationToken": 1, "oci POST upload": 2, "oci PUT upload": 2, "oci PUT manifest": 1,
        })
    );
    let log = local.local(Method::GET, "log", None).await;
    let last = log.as_array().unwrap().last().unwrap();
    assert_eq!(last["iam"], json!(["ecr:PutImage"]));
    assert_eq!(last["resource"], "arn:aws:ecr:eu-west-1:123456789012:repository/curl");
    assert_eq!(last["principal"], "arn:aws:iam::123456789012:user/local");
    assert_eq!((last["region"].as_str(), last["status"].as_u64()), (Some("eu-west-1"), Some(201)));
}
