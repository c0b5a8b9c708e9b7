//! S3: conditional requests, versions, regions, and the bodies that SDKs send.

use std::sync::Arc;

use crate::common::{Caller, Local, create_bucket, header, rounds};
use reqwest::{Method, Response, StatusCode};
use tokio::sync::Barrier;

async fn put(caller: &Caller, path: &str, body: &str, headers: &[(&str, &str)]) -> Response {
    let mut request = caller.s3(Method::PUT, path).body(body.to_owned());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.unwrap()
}

async fn get(caller: &Caller, path: &str) -> (StatusCode, String) {
    let response = caller.s3(Method::GET, path).send().await.unwrap();
    (response.status(), response.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_eight_simultaneous_creations_exactly_one_wins() {
    let local = Local::start();
    let caller = local.caller();
    create_bucket(&caller, "state").await;
    for round in 0..rounds(40, 200) {
        let barrier = Arc::new(Barrier::new(8));
        let writers: Vec<_> = (0..8)
            .map(|writer| {
                let (caller, barrier) = (caller.clone(), Arc::clone(&barrier));
                tokio::spawn(async move {
                    barrier.wait().await;
                    let path = format!("state/lock-{round}");
                    (
                        writer,
                        put(&caller, &path, &writer.to_string(), &[("if-none-match", "*")])
                            .await
                            .status()
                            .as_u16(),
                    )
                })
            })
            .collect();
        let mut winners = Vec::new();
        for writer in writers {
            match writer.await.unwrap() {
                (writer, 200) => winners.push(writer),
                (_, status) => assert_eq!(status, 412),
            }
        }
        assert_eq!(winners.len(), 1, "round {round}");
        assert_eq!(get(&caller, &format!("state/lock-{round}")).await.1, winners[0].to_string());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_eight_simultaneous_replacements_exactly_one_wins() {
    let local = Local::start();
    let caller = local.caller();
    create_bucket(&caller, "state").await;
    let mut etag = header(&put(&caller, "state/lease", "0", &[]).await, "etag");
    for round in 0..rounds(20, 200) {
        let writers: Vec<_> = (0..8)
            .map(|writer| {
                let (caller, etag) = (caller.clone(), etag.clone());
                tokio::spawn(async move {
                    let body = format!("{round}-{writer}");
                    let response = put(&caller, "state/lease", &body, &[("if-match", &etag)]).await;
                    (response.status() == 200).then(|| header(&response, "etag"))
                })
            })
            .collect();
        let mut winners = Vec::new();
        for writer in writers {
            winners.extend(writer.await.unwrap());
        }
        assert_eq!(winners.len(), 1, "round {round}");
        etag = winners.remove(0);
    }
}

#[tokio::test]
async fn conditions_and_deletions() {
    let local = Local::start();
    let caller = local.caller();
    create_bucket(&caller, "state").await;
    let missing = put(&caller, "state/a", "1", &[("if-match", "\"00\"")]).await;
    assert_eq!(missing.status(), 404);
    let etag = header(&put(&caller, "state/a", "1", &[]).await, "etag");
    assert_eq!(etag, "\"c4ca4238a0b923820dcc509a6f75849b\"", "the MD5, as of S3's single PUTs");
    let stale = put(&caller, "state/a", "2", &[("if-match", "\"00\"")]).await;
    assert_eq!(stale.status(), 412);
    assert!(stale.text().await.unwrap().contains("<Code>PreconditionFailed</Code>"));
    let delete = async |etag: &str| {
        caller.s3(Method::DELETE, "state/a").header("if-match", etag).send().await.unwrap().status().as_u16()
    };
    assert_eq!(delete("\"00\"").await, 412);
    assert_eq!(get(&caller, "state/a").await.1, "1");
    assert_eq!(delete(&etag).await, 204);
    let (status, text) = get(&caller, "state/a").await;
    assert_eq!(status, 404);
    assert!(text.contains("<Code>NoSuchKey</Code>"));
    let unconditional = caller.s3(Method::DELETE, "state/a").send().await.unwrap();
    assert_eq!(unconditional.status(), 204);
}

#[tokio::test]
async fn versions_are_kept_and_deletions_add_a_marker() {
    let local = Local::start();
    let caller = local.caller();
    create_bucket(&caller, "state").await;
    assert!(!put(&caller, "state/a", "old", &[]).await.headers().contains_key("x-amz-version-id"));
    assert_eq!(get(&caller, "state?versioning").await.1.matches("Status").count(), 0);
    let enabled = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    assert_eq!(put(&caller, "state?versioning", enabled, &[]).await.status(), 200);
    let one = header(&put(&caller, "state/a", "one", &[]).await, "x-amz-version-id");
    let two = header(&put(&caller, "state/a", "two", &[]).await, "x-amz-version-id");
    assert_eq!(get(&caller, "state/a").await.1, "two");
    assert_eq!(get(&caller, &format!("state/a?versionId={one}")).await.1, "one");
    assert_eq!(get(&caller, "state/a?versionId=null").await.1, "old");
    let deleted = caller.s3(Method::DELETE, "state/a").send().await.unwrap();
    assert_eq!(header(&deleted, "x-amz-delete-marker"), "true");
    assert_eq!(get(&caller, "state/a").await.0, 404);
    // After a deletion the name is free again: terraform's lock depends on this.
    assert_eq!(put(&caller, "state/a", "three", &[("if-none-match", "*")]).await.status(), 200);
    let listed = get(&caller, "state?versions").await.1;
    assert_eq!((listed.matches("<Version>").count(), listed.matches("<DeleteMarker>").count()), (4, 1));
    assert_eq!(listed.matches("<IsLatest>true").count(), 1);
    let gone = caller.s3(Method::DELETE, &format!("state/a?versionId={two}")).send().await.unwrap();
    assert_eq!(gone.status(), 204);
    assert_eq!(get(&caller, &format!("state/a?versionId={two}")).await.0, 404);
}

#[tokio::test]
async fn a_bucket_only_answers_its_owner_in_its_own_region() {
    let local = Local::start();
    let caller = local.caller();
    create_bucket(&caller, "state").await;
    let abroad = caller.region("us-east-1");
    let head = abroad.s3(Method::HEAD, "state").send().await.unwrap();
    assert_eq!((head.status().as_u16(), header(&head, "x-amz-bucket-region").as_str()), (301, "eu-west-1"));
    let (status, text) = get(&abroad, "state/a").await;
    assert_eq!(status, 301);
    assert!(text.contains("<Code>PermanentRedirect</Code>"));
    let (status, text) = get(&abroad, "state?location").await;
    assert_eq!(status, 200);
    assert!(text.contains(">eu-west-1</LocationConstraint>"), "{text}");
    let stranger = caller.key("210987654321");
    assert_eq!(get(&stranger, "state/a").await.0, 403);
    let taken = put(&stranger, "state", "<LocationConstraint>eu-west-1</LocationConstraint>", &[]).await;
    assert!(taken.text().await.unwrap().contains("<Code>BucketAlreadyExists</Code>"));
    let own = put(&caller, "state", "<LocationConstraint>eu-west-1</LocationConstraint>", &[]).await;
    assert!(own.text().await.unwrap().contains("<Code>BucketAlreadyOwnedByYou</Code>"));
    assert_eq!(
        put(&caller, "other", "", &[]).await.status(),
        400,
        "no location constraint outside us-east-1"
    );
    assert_eq!(get(&caller, "nosuch/a").await.0, 404);
    assert_eq!(
        get(&caller.key("expired"), "state/a").await.1.matches("<Code>ExpiredToken</Code>").count(),
        1
    );
}

#[tokio::test]
async fn the_requests_of_the_bucket_check() {
    let local = Local::start();
    let caller = local.caller();
    create_bucket(&caller, "state").await;
    assert!(get(&caller, "state?encryption").await.1.contains("<SSEAlgorithm>AES256</SSEAlgorithm>"));
    assert!(
        get(&caller, "state?publicAccessBlock")
            .await
            .1
            .contains("<BlockPublicPolicy>true</BlockPublicPolicy>")
    );
    assert!(get(&caller, "state?policy").await.1.contains("<Code>NoSuchBucketPolicy</Code>"));
    assert!(get(&caller, "state?tagging").await.1.contains("<Code>NoSuchTagSet</Code>"));
    let public =
        r#"{"Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"*"}]}"#;
    assert_eq!(put(&caller, "state?policy", public, &[]).await.status(), 403);
    let tls = r#"{"Statement":[{"Effect":"Deny","Principal":"*","Action":"s3:*","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":"false"}}}]}"#;
    assert_eq!(put(&caller, "state?policy", tls, &[]).await.status(), 204);
    assert_eq!(get(&caller, "state?policy").await.1, tls);
    let kms = "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>aws:kms</SSEAlgorithm>\
               <KMSMasterKeyID>key-1</KMSMasterKeyID></ApplyServerSideEncryptionByDefault></Rule></ServerSideEncryptionConfiguration>";
    assert_eq!(put(&caller, "state?encryption", kms, &[]).await.status(), 200);
    let stored = put(&caller, "state/a", "x", &[]).await;
    assert_eq!(header(&stored, "x-amz-server-side-encryption"), "aws:kms");
    assert_eq!(header(&stored, "x-amz-server-side-encryption-aws-kms-key-id"), "key-1");
    assert_eq!(put(&caller, "state?versioning", "<VersioningConfiguration/>", &[]).await.status(), 400);
    let busy = caller.s3(Method::DELETE, "state").send().await.unwrap();
    assert_eq!(busy.status(), 409);
}

#[tokio::test]
async fn bodies_ranges_and_metadata() {
    let local = Local::start();
    let caller = local.caller();
    create_bucket(&caller, "state").await;
    let chunked = "6\r\nhello \r\n5\r\nworld\r\n0\r\nx-amz-checksum-crc32:DUoRhQ==\r\n\r\n";
    let headers = [
        ("content-encoding", "aws-chunked"),
        ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
        ("x-amz-decoded-content-length", "11"),
        ("x-amz-trailer", "x-amz-checksum-crc32"),
        ("x-amz-meta-who", "ann"),
    ];
    assert_eq!(put(&caller, "state/a%20b", chunked, &headers).await.status(), 200);
    let got = caller.s3(Method::GET, "state/a%20b").send().await.unwrap();
    assert_eq!(header(&got, "x-amz-meta-who"), "ann");
    assert!(!got.headers().contains_key("content-encoding"));
    assert_eq!(got.text().await.unwrap(), "hello world");
    let part = caller.s3(Method::GET, "state/a%20b").header("range", "bytes=6-").send().await.unwrap();
    assert_eq!((part.status().as_u16(), header(&part, "content-range").as_str()), (206, "bytes 6-10/11"));
    assert_eq!(part.text().await.unwrap(), "world");
    let head = caller.s3(Method::HEAD, "state/a%20b").send().await.unwrap();
    assert_eq!(header(&head, "content-length"), "11");
    let same = header(&head, "etag");
    let unchanged =
        caller.s3(Method::GET, "state/a%20b").header("if-none-match", &same).send().await.unwrap();
    assert_eq!(unchanged.status(), 304);
    let damaged = chunked.replace("world", "w0rld");
    assert!(put(&caller, "state/c", &damaged, &headers).await.text().await.unwrap().contains("BadDigest"));
    assert_eq!(
        put(&caller, "state/c", "x", &[("content-md5", "AAAAAAAAAAAAAAAAAAAAAA==")]).await.status(),
        400
    );
    assert_eq!(get(&caller, "state/c").await.0, 404);
}

#[tokio::test]
async fn listing_by_prefix_delimiter_and_page() {
    let local = Local::start();
    let caller = local.caller();
    create_bucket(&caller, "state").await;
    for key in ["a/1", "a/2", "b", "c/x/1", "c&d"] {
        put(&caller, &format!("state/{}", key.replace('&', "%26")), "x", &[]).await;
    }
    let top = get(&caller, "state?list-type=2&delimiter=%2F").await.1;
    assert_eq!(top.matches("<CommonPrefixes>").count(), 2);
    assert!(top.contains("<Key>c&amp;d</Key>"), "{top}");
    assert!(top.contains("<KeyCount>4</KeyCount>"));
    let (mut query, mut keys) = ("state?list-type=2&max-keys=2".to_owned(), 0);
    loop {
        let page = get(&caller, &query).await.1;
        keys += page.matches("<Key>").count();
        match page.split("<NextContinuationToken>").nth(1) {
            Some(rest) => {
                let token = rest.split('<').next().unwrap().replace('=', "%3D").replace('+', "%2B");
                query = format!("state?list-type=2&max-keys=2&continuation-token={token}");
            }
            None => break,
        }
    }
    assert_eq!(keys, 5);
    let many = "<Delete><Object><Key>a/1</Key></Object><Object><Key>c&amp;d</Key></Object></Delete>";
    let deleted =
        caller.s3(Method::POST, "state?delete").body(many).send().await.unwrap().text().await.unwrap();
    assert_eq!(deleted.matches("<Deleted>").count(), 2);
    assert!(get(&caller, "state?list-type=2").await.1.contains("<KeyCount>3</KeyCount>"));
    assert!(get(&caller, "").await.1.contains("<Name>state</Name>"));
}

#[tokio::test]
async fn a_bucket_policy_is_enforced() {
    let local = Local::start();
    let caller = local.caller();
    create_bucket(&caller, "state").await;
    let policy = r#"{ "Statement": [
        { "Sid": "Header", "Effect": "Deny", "Principal": "*", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::state/*",
          "Condition": { "Null": { "s3:x-amz-server-side-encryption": true } } },
        { "Sid": "Kms", "Effect": "Deny", "Principal": "*", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::state/*",
          "Condition": { "StringNotEquals": { "s3:x-amz-server-side-encryption": "aws:kms" } } },
        { "Sid": "Tls", "Effect": "Deny", "Principal": "*", "Action": ["s3:GetObject", "s3:PutObject"],
          "Resource": "arn:aws:s3:::state/*", "Condition": { "Bool": { "aws:SecureTransport": false } } },
        { "Sid": "Guest", "Effect": "Allow", "Principal": { "AWS": "210987654321" }, "Action": "s3:GetObject",
          "Resource": "arn:aws:s3:::state/*" } ] }"#;
    assert_eq!(put(&caller, "state/open", "x", &[]).await.status(), 200);
    assert_eq!(put(&caller, "state?policy", policy, &[]).await.status(), 204);
    const SSE: &str = "x-amz-server-side-encryption";
    for headers in [&[][..], &[(SSE, "AES256")][..]] {
        let refused = put(&caller, "state/a", "x", headers).await;
        assert_eq!(refused.status(), 403);
        let words = refused.text().await.unwrap();
        assert!(
            words.contains("s3:PutObject") && words.contains("explicit deny in a resource-based policy"),
            "{words}"
        );
    }
    assert_eq!(put(&caller, "state/a", "x", &[(SSE, "aws:kms")]).await.status(), 200);
    assert_eq!(get(&caller, "state/a").await, (StatusCode::OK, "x".to_owned()));
    // Another account can read what the policy allows, and nothing else.
    let guest = caller.key("210987654321");
    assert_eq!(get(&guest, "state/open").await, (StatusCode::OK, "x".to_owned()));
    // Another account cannot use the key that AWS created for S3.
    let (status, words) = get(&guest, "state/a").await;
    assert!(status == 403 && words.contains("no resource-based policy allows the kms:Decrypt"), "{words}");
    assert_eq!(put(&guest, "state/a", "y", &[(SSE, "aws:kms")]).await.status(), 403);
    assert_eq!(get(&guest, "state?policy").await.0, 403);
    local.quirks(&["plain-http"]);
    assert_eq!(get(&caller, "state/a").await.0, 403);
    local.quirks(&[]);

    let unknown = policy.replace("aws:SecureTransport", "aws:SourceVpce");
    let refused = put(&caller, "state?policy", &unknown, &[]).await;
    assert_eq!(refused.status(), 501);
    assert!(refused.text().await.unwrap().contains("aws:SourceVpce"));
    assert_eq!(get(&caller, "state?policy").await.1, policy);
}

#[tokio::test]
async fn a_new_bucket_refuses_requests_for_a_while() {
    let local = Local::start();
    let caller = local.caller();
    local.quirks(&["young-bucket=2", "conflict=1"]);
    create_bucket(&caller, "state").await;
    let enabled = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    let statuses = [404, 409, 200];
    for status in statuses {
        assert_eq!(put(&caller, "state?versioning", enabled, &[]).await.status(), status);
    }
    let etag = header(&put(&caller, "state/a", "x", &[("if-none-match", "*")]).await, "etag");
    for status in [404, 404, 200] {
        assert_eq!(get(&caller, "state/a").await.0, status);
    }
    for status in [409, 204] {
        let delete = caller.s3(Method::DELETE, "state/a").header("if-match", &etag);
        assert_eq!(delete.send().await.unwrap().status(), status);
    }
}
