//! The registry, with ECR's deviations from the specification (each has a comment in the server's source).

use std::time::Duration;

use crate::common::{DOCKER_MANIFEST, Local, OCI_MANIFEST, REGION, digest, header, manifest, oci_error};
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
async fn a_token_with_no_requests_left_is_denied_and_a_new_one_is_not() {
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
async fn a_referrer_is_kept_with_its_subject_despite_lifecycle_rules() {
    let local = Local::start();
    let caller = local.caller();
    caller.repository("curl").await;
    let registry = caller.registry().await;
    let subject = registry.image("curl", "1", b"layer").await;
    let referrer = |of: &str| {
        json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": "application/vnd.example.signature",
            "config": { "mediaType": "application/vnd.oci.empty.v1+json", "digest": digest(b"{}"), "size": 2 },
            "layers": [],
            "subject": { "mediaType": OCI_MANIFEST, "digest": of, "size": 2 },
        })
        .to_string()
    };
    // A signature, and an artifact that refers to the signature.
    let first = referrer(&subject);
    let second = referrer(&digest(first.as_bytes()));
    for one in [&first, &second] {
        registry.put_manifest("curl", &digest(one.as_bytes()), OCI_MANIFEST, one.as_bytes()).await;
    }
    let rule = json!({ "rules": [{
        "rulePriority": 1, "action": { "type": "expire" },
        "selection": { "tagStatus": "untagged", "countType": "imageCountMoreThan", "countNumber": 1 },
    }] });
    let policy = json!({ "repositoryName": "curl", "lifecyclePolicyText": rule.to_string() });
    caller.ecr("PutLifecyclePolicy", policy).await;
    let a_day_passes = async || {
        let path = format!("lifecycle?region={REGION}");
        local.local(Method::POST, &path, None).await["expired"].as_array().unwrap().len()
    };
    assert_eq!(a_day_passes().await, 0);
    let image = json!({ "repositoryName": "curl", "imageIds": [{ "imageTag": "1" }] });
    caller.ecr("BatchDeleteImage", image).await;
    assert_eq!((a_day_passes().await, a_day_passes().await, a_day_passes().await), (1, 1, 0));
}

#[tokio::test]
async fn a_repository_with_a_disabled_key_serves_nothing() {
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
