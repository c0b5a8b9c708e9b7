//! The caller's own policy, with those of buckets, keys and repositories, and how each protocol reports a refusal.

use crate::common::{Caller, Local, create_bucket, oci_error};
use reqwest::Method;
use serde_json::{Value, json};

const ANNA: &str = "arn:aws:iam::123456789012:user/anna";

/// Gives the user anna this policy as her only one.
async fn policy(local: &Local, statements: Value) {
    let policy = json!({ "Version": "2012-10-17", "Statement": statements });
    local.local(Method::POST, "policies", Some(json!({ "principal": ANNA, "policy": policy }))).await;
}

fn allow(actions: &Value, resource: &str) -> Value {
    json!({ "Effect": "Allow", "Action": actions, "Resource": resource })
}

fn words(action: &str, resource: &str) -> String {
    format!(
        "User: {ANNA} is not authorized to perform: {action} on resource: {resource} because no identity-based policy allows \
         the {action} action"
    )
}

async fn s3(caller: &Caller, method: Method, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let request =
        headers.iter().fold(caller.s3(method, path), |request, (name, value)| request.header(*name, *value));
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

#[tokio::test]
async fn every_protocol_has_its_own_form_of_a_refusal() {
    let local = Local::start();
    let (admin, anna) = (local.caller(), local.caller().key("anna"));
    create_bucket(&admin, "state").await;
    admin.ecr("CreateRepository", json!({ "repositoryName": "curl" })).await;
    policy(&local, json!([])).await;

    let arn = "arn:aws:ecr:eu-west-1:123456789012:repository/curl";
    let refused = anna.ecr_refused("DescribeRepositories", json!({ "repositoryNames": ["curl"] })).await;
    assert_eq!(refused, ("AccessDeniedException".to_owned(), words("ecr:DescribeRepositories", arn)));
    let refused = anna.kms_refused("ListKeys", json!({})).await;
    assert_eq!(refused, ("AccessDeniedException".to_owned(), words("kms:ListKeys", "*")));
    let (status, text) = s3(&anna, Method::GET, "state?versioning", &[]).await;
    assert_eq!(status, 403);
    let said = words("s3:GetBucketVersioning", "&quot;arn:aws:s3:::state&quot;");
    assert!(text.contains("<Code>AccessDenied</Code>") && text.contains(&said), "{text}");
    let (status, text) = anna.query("cloudformation", "Action=DescribeStacks&StackName=grid").await;
    let stack = "arn:aws:cloudformation:eu-west-1:123456789012:stack/grid/*";
    assert!(status == 403 && text.contains("<Code>AccessDenied</Code>"), "{text}");
    assert!(text.contains(&words("cloudformation:DescribeStacks", stack)), "{text}");
    assert_eq!(anna.query("sts", "Action=GetCallerIdentity").await.0, 200);

    // The registry checks the permissions of the token's owner at each request.
    policy(&local, json!([allow(&json!("ecr:GetAuthorizationToken"), "*")])).await;
    let token = anna.ecr("GetAuthorizationToken", json!({})).await;
    let token = token["authorizationData"][0]["authorizationToken"].as_str().unwrap().to_owned();
    let push = || {
        let request = local.client.post(format!("{}/v2/curl/blobs/uploads/", local.url));
        request.header("authorization", format!("Basic {token}")).send()
    };
    let refused = oci_error(push().await.unwrap()).await;
    assert_eq!(refused, (403, "DENIED".to_owned(), words("ecr:InitiateLayerUpload", arn)));
    policy(&local, json!([allow(&json!("ecr:Initiate*"), "arn:aws:ecr:*:123456789012:repository/c?rl")]))
        .await;
    assert_eq!(push().await.unwrap().status(), 202);
    policy(
        &local,
        json!([
            allow(&json!("*"), "*"), { "Effect": "Deny", "NotAction": "ecr:Get*", "Resource": "*" },
        ]),
    )
    .await;
    let error = push().await.unwrap().text().await.unwrap();
    assert!(
        error.contains("ecr:InitiateLayerUpload on resource")
            && error.contains("an explicit deny in an identity-based")
    );
}

#[tokio::test]
async fn an_object_under_a_key_needs_the_key_through_s3() {
    let local = Local::start();
    let (admin, anna) = (local.caller(), local.caller().key("anna"));
    create_bucket(&admin, "state").await;
    let key = admin.kms("CreateKey", json!({})).await["KeyMetadata"]["Arn"].as_str().unwrap().to_owned();
    admin.kms("CreateAlias", json!({ "AliasName": "alias/state", "TargetKeyId": key })).await;
    let headers = [
        ("x-amz-server-side-encryption", "aws:kms"),
        ("x-amz-server-side-encryption-aws-kms-key-id", "alias/state"),
    ];
    let objects = || allow(&json!(["s3:GetObject", "s3:PutObject"]), "arn:aws:s3:::state/*");
    let with_key = |via: &str| {
        let mut statement = allow(&json!(["kms:Decrypt", "kms:GenerateDataKey"]), &key);
        statement["Condition"] = json!({ "StringEquals": { "kms:ViaService": via } });
        json!([objects(), statement])
    };
    for via in [json!([objects()]), with_key("ecr.eu-west-1.amazonaws.com")] {
        policy(&local, via).await;
        let (status, text) = s3(&anna, Method::PUT, "state/a", &headers).await;
        assert!(status == 403 && text.contains(&words("kms:GenerateDataKey", &key)), "{text}");
    }
    policy(&local, with_key("s3.eu-west-1.amazonaws.com")).await;
    assert_eq!(s3(&anna, Method::PUT, "state/a", &headers).await.0, 200);
    assert_eq!(s3(&anna, Method::GET, "state/a", &[]).await.0, 200);
    policy(&local, json!([objects()])).await;
    let (status, text) = s3(&anna, Method::GET, "state/a", &[]).await;
    assert!(status == 403 && text.contains(&words("kms:Decrypt", &key)), "{text}");
    // The key that AWS creates for S3 needs no permission.
    let own = [("x-amz-server-side-encryption", "aws:kms")];
    assert_eq!(s3(&anna, Method::PUT, "state/b", &own).await.0, 200);
    // Only callers that may list are told that an object is missing.
    let (status, text) = s3(&anna, Method::GET, "state/none", &[]).await;
    assert!(status == 403 && text.contains("s3:ListBucket"), "{text}");
    policy(&local, json!([objects(), allow(&json!("s3:ListBucket"), "arn:aws:s3:::state")])).await;
    assert_eq!(s3(&anna, Method::GET, "state/none", &[]).await.0, 404);
    // A key's own policy also applies to administrators.
    let ops = json!({ "Statement": [
        { "Effect": "Allow", "Principal": { "AWS": ANNA }, "Action": "kms:*", "Resource": "*" },
    ] });
    admin
        .kms("PutKeyPolicy", json!({ "KeyId": key, "PolicyName": "default", "Policy": ops.to_string() }))
        .await;
    let (code, said) = admin.kms_refused("DescribeKey", json!({ "KeyId": "alias/state" })).await;
    assert_eq!(code, "AccessDeniedException");
    assert!(said.ends_with("because no resource-based policy allows the kms:DescribeKey action"), "{said}");
    anna.kms("DescribeKey", json!({ "KeyId": "alias/state" })).await;
    // An access key may belong to another user.
    let bea = json!({ "access_key": "anna", "user": "bea" });
    local.local(Method::POST, "users", Some(bea)).await;
    let (_, said) = anna.kms_refused("DescribeKey", json!({ "KeyId": "alias/state" })).await;
    assert!(said.starts_with("User: arn:aws:iam::123456789012:user/bea is not"), "{said}");
}

#[tokio::test]
async fn additional_permissions_of_an_action() {
    let local = Local::start();
    let anna = local.caller().key("anna");
    let key = local.caller().kms("CreateKey", json!({})).await["KeyMetadata"]["Arn"].clone();
    let create = json!({
        "repositoryName": "curl", "tags": [{ "Key": "a", "Value": "b" }],
        "encryptionConfiguration": { "encryptionType": "KMS", "kmsKey": key },
    });
    let rule = json!({ "ecrRepositoryPrefix": "ecr-public", "upstreamRegistryUrl": "public.ecr.aws" });
    let replication = json!({ "replicationConfiguration": { "rules": [
        { "destinations": [{ "region": "us-east-1", "registryId": "123456789012" }] },
    ] } });
    let mut allowed: Vec<String> = Vec::new();
    for (action, input, needed) in [
        (
            "CreateRepository",
            &create,
            &["ecr:CreateRepository", "ecr:TagResource", "kms:DescribeKey", "kms:CreateGrant"][..],
        ),
        (
            "DeleteRepository",
            &json!({ "repositoryName": "curl" }),
            &["ecr:DeleteRepository", "kms:RetireGrant"],
        ),
        (
            "CreatePullThroughCacheRule",
            &rule,
            &["ecr:CreatePullThroughCacheRule", "iam:CreateServiceLinkedRole"],
        ),
        ("PutReplicationConfiguration", &replication, &["ecr:PutReplicationConfiguration"]),
    ] {
        for missing in needed {
            // A statement has at least one action.
            policy(&local, json!([allow(&json!([&["ecr:None".to_owned()], &allowed[..]].concat()), "*")]))
                .await;
            let (code, said) = anna.ecr_refused(action, input.clone()).await;
            assert_eq!(code, "AccessDeniedException", "{action}");
            assert!(said.contains(&format!("perform: {missing} on")), "{action} without {missing}: {said}");
            allowed.push((*missing).to_owned());
        }
        policy(&local, json!([allow(&json!(allowed), "*")])).await;
        anna.ecr(action, input.clone()).await;
    }
    // Each service has its own role, which is created once.
    let roles = json!([
        allow(&json!("ecr:*"), "*"),
        { "Effect": "Allow", "Action": "iam:CreateServiceLinkedRole", "Resource": "*",
          "Condition": { "StringEquals": { "iam:AWSServiceName": "replication.ecr.amazonaws.com" } } },
    ]);
    local.caller().ecr("DeletePullThroughCacheRule", json!({ "ecrRepositoryPrefix": "ecr-public" })).await;
    policy(&local, roles).await;
    anna.ecr("CreatePullThroughCacheRule", rule).await;
    anna.ecr("PutReplicationConfiguration", replication).await;
}

#[tokio::test]
async fn a_repository_s_own_policy_denies_its_own_account_and_opens_it_to_another() {
    let local = Local::start();
    let admin = local.caller();
    admin.ecr("CreateRepository", json!({ "repositoryName": "curl" })).await;
    let statement = |effect: &str, who: &str, action: &str| json!({ "Effect": effect, "Principal": { "AWS": who }, "Action": action });
    let text = json!({ "Statement": [
        statement("Deny", "*", "ecr:DeleteRepository"), statement("Allow", "210987654321", "ecr:ListImages"),
    ] });
    admin
        .ecr("SetRepositoryPolicy", json!({ "repositoryName": "curl", "policyText": text.to_string() }))
        .await;
    let (_, said) = admin.ecr_refused("DeleteRepository", json!({ "repositoryName": "curl" })).await;
    assert!(said.ends_with("with an explicit deny in a resource-based policy"), "{said}");
    let guest = admin.key("210987654321");
    let theirs = json!({ "registryId": "123456789012", "repositoryName": "curl" });
    guest.ecr("ListImages", theirs.clone()).await;
    let (_, said) = guest.ecr_refused("DescribeImages", theirs).await;
    assert!(
        said.ends_with("because no resource-based policy allows the ecr:DescribeImages action"),
        "{said}"
    );
    let text = text.to_string().replacen("\"Action\"", "\"NotPrincipal\":\"*\",\"Action\"", 1);
    let put = json!({ "repositoryName": "curl", "policyText": text });
    let (status, said) = admin.ecr_any("SetRepositoryPolicy", put).await;
    assert!(status == 501 && said["message"].as_str().unwrap().contains("NotPrincipal"), "{said}");
}

#[tokio::test]
async fn a_policy_that_would_not_be_enforced_is_refused_by_name() {
    let local = Local::start();
    for (statement, name) in [
        (
            json!({ "Condition": { "DateLessThan": { "aws:CurrentTime": "2030-01-01T00:00:00Z" } } }),
            "DateLessThan",
        ),
        (json!({ "Condition": { "StringEquals": { "aws:RequestTag/a": "b" } } }), "aws:RequestTag/a"),
        (json!({ "Principal": "*" }), "Principal"),
    ] {
        let mut all = allow(&json!("*"), "*");
        all.as_object_mut().unwrap().extend(statement.as_object().unwrap().clone());
        let body = json!({ "principal": ANNA, "policy": { "Statement": [all] } });
        let url = format!("{}/_local/policies", local.url);
        let refused = local.client.post(url).body(body.to_string()).send().await.unwrap();
        assert_eq!(refused.status(), 400);
        assert!(refused.text().await.unwrap().contains(name), "{name}");
    }
}
